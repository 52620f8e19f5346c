using Foundry.Ledger.Storage;

namespace Foundry.Ledger.Read;

/// <summary>
/// Cursors, in order, of entries that may have all of some fields. Each field has its list in the index, sorted, and the lists
/// leap over each other: whichever lags is looked up at the place where the others are. So a page costs what it gives, however
/// large the log, and not what the most frequent field has.
/// </summary>
internal sealed class EntrySearch(Func<long, long, int, List<long>> lookUp, IReadOnlyList<KeyValuePair<string, string>> fields)
{
    /// <summary>Rows of the index read for one page: a tenth of a second's. Two frequent fields that never meet would otherwise be compared to the log's end.</summary>
    public const int RowsMax = 100_000;

    // Entries with too many fields to index may have any.
    private readonly List<Postings[]> _fields =
        [.. fields.Select(field => new[] { new Postings(lookUp, EntryTerms.OfField(field)), new Postings(lookUp, EntryTerms.ManyFields) })];

    /// <summary>Up to which cursor there is nothing that <see cref="Next"/> has not given.</summary>
    public long LookedTo { get; private set; }

    /// <summary>The next cursor behind one, up to an end; null when there is none, or when <see cref="RowsMax"/> is reached.</summary>
    public long? Next(long since, long end)
    {
        var at = since + 1;
        while (at <= end && _fields.Sum(field => field.Sum(postings => postings.RowsRead)) < RowsMax)
        {
            var furthest = _fields.Max(field => field.Min(postings => postings.Seek(at)));
            if (furthest == at)
            {
                LookedTo = at;
                return at;
            }
            at = furthest;
        }
        LookedTo = Math.Min(at - 1, end);
        return null;
    }

    /// <summary>One term's cursors, read a block at a time: small ones while it is leapt through, larger ones while it is read.</summary>
    private sealed class Postings(Func<long, long, int, List<long>> lookUp, long term)
    {
        private const int BlockMin = 16;
        private const int BlockMax = 1024;

        private List<long> _block = [];
        private int _blockSize;
        private bool _isLast;

        /// <summary>Rows asked for so far.</summary>
        public int RowsRead { get; private set; }

        /// <summary>The first cursor from one on; the largest number there is when there is none.</summary>
        public long Seek(long from)
        {
            if (!_isLast && (_block.Count == 0 || from > _block[^1]))
            {
                // A leap past as much as the last block held says that of this one, too, little will be looked at.
                var isLeap = _block.Count == 0 || from - _block[^1] > _block[^1] - _block[0];
                _blockSize = isLeap ? BlockMin : Math.Min(_blockSize * 2, BlockMax);
                RowsRead += _blockSize;
                _block = lookUp(term, from, _blockSize);
                _isLast = _block.Count < _blockSize;
            }
            var at = _block.BinarySearch(from);
            at = at < 0 ? ~at : at;
            return at < _block.Count ? _block[at] : long.MaxValue;
        }
    }
}
