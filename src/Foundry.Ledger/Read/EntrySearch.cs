using Foundry.Ledger.Storage;
using Microsoft.Data.Sqlite;

namespace Foundry.Ledger.Read;

/// <summary>
/// Cursors, in order, of entries that may have all of some fields. Each field has its list in the index, sorted, and the lists
/// leap over each other: whichever lags is looked up at the place where the others are. So a page costs what it gives, however
/// large the log, and not what the most frequent field has.
/// </summary>
internal sealed class EntrySearch : IDisposable
{
    /// <summary>Look-ups in the index for one page. Two frequent fields that never meet would otherwise be compared to the log's end.</summary>
    public const int LookUpsMax = 2_000;

    private readonly SqliteConnection _connection;
    private readonly SqliteCommand _command;
    private readonly List<Postings[]> _fields;
    private int _lookUps;

    /// <summary>A search in an index.</summary>
    public EntrySearch(string index, IReadOnlyList<KeyValuePair<string, string>> fields)
    {
        _connection = EntryIndex.Connect(index, SqliteOpenMode.ReadOnly);
        _command = _connection.CreateCommand();
        _command.CommandText = "SELECT cursor FROM terms WHERE term = $term AND cursor >= $from ORDER BY cursor LIMIT $limit";
        foreach (var name in (string[])["$term", "$from", "$limit"])
            _command.Parameters.Add(name, SqliteType.Integer);
        // Entries with too many fields to index may have any.
        _fields = [.. fields.Select(field => new[] { new Postings(this, EntryIndex.TermOf(field)), new Postings(this, EntryIndex.ManyFields) })];
    }

    /// <summary>Up to which cursor there is nothing that <see cref="Next"/> has not given.</summary>
    public long LookedTo { get; private set; }

    /// <summary>The next cursor behind one, up to an end; null when there is none, or when <see cref="LookUpsMax"/> is reached.</summary>
    public long? Next(long since, long end)
    {
        var at = since + 1;
        while (at <= end && _lookUps < LookUpsMax)
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

    /// <inheritdoc/>
    public void Dispose()
    {
        _command.Dispose();
        _connection.Dispose();
    }

    /// <summary>One term's cursors, read a block at a time: small at first, for the page that is found at once.</summary>
    private sealed class Postings(EntrySearch search, long term)
    {
        private const int BlockMin = 16;
        private const int BlockMax = 1024;

        private readonly List<long> _block = [];
        private int _blockSize = BlockMin;
        private bool _isLast;

        /// <summary>The first cursor from one on; the largest number there is when there is none.</summary>
        public long Seek(long from)
        {
            if (_block.Count == 0 || (from > _block[^1] && !_isLast))
                Load(from);
            var at = _block.BinarySearch(from);
            at = at < 0 ? ~at : at;
            return at < _block.Count ? _block[at] : long.MaxValue;
        }

        private void Load(long from)
        {
            if (_isLast)
                return;
            search._lookUps++;
            _block.Clear();
            var command = search._command;
            (command.Parameters[0].Value, command.Parameters[1].Value, command.Parameters[2].Value) = (term, from, _blockSize);
            using (var reader = command.ExecuteReader())
            {
                while (reader.Read())
                    _block.Add(reader.GetInt64(0));
            }
            _isLast = _block.Count < _blockSize;
            _blockSize = Math.Min(_blockSize * 2, BlockMax);
        }
    }
}
