using System.Buffers;
using System.Collections.Immutable;
using Foundry.Ledger.Recovery;
using Foundry.Proofs;

namespace Foundry.Ledger.Storage;

/// <summary>A log in its folder: the journal commits, the tile layout is published from it (docs/formats/ledger.md).</summary>
internal sealed partial class LogFiles : IStoredLog
{
    /// <summary>Entries read at once when the index is made again.</summary>
    private const int CatchUpEntries = 16 * Tile.WidthMax;

    /// <summary>Bytes of a journal copied at once into the next one.</summary>
    private const int CopiedAtOnceMax = 1024 * 1024;

    private readonly Disk _disk;
    private readonly LogFolder _folder;
    private readonly ExpectedFiles _expected;
    private readonly EntryIndex _index;
    private readonly int _journalBytesMax;
    private readonly HashSet<string> _durableFolders = new(StringComparer.Ordinal);

    // Guards what a commit and the end of a publishing both change.
    private readonly Lock _gate = new();
    private volatile JournalFile _journal;
    private volatile ImmutableDictionary<Tile, TreeHash[]> _unpublished;
    private LogState _committed;
    private long _publishedSize;
    private bool _isJournalDoubtful;

    /// <summary>Takes over a recovered log, with its turn held, and finishes what its last owner had committed but not published.</summary>
    public LogFiles(Disk disk, LogFolder folder, RecoveredLog recovered, ExpectedFiles expected, int journalBytesMax, int indexRowsInMemory, ILogger log)
    {
        (_disk, _folder, _expected, _journalBytesMax) = (disk, folder, expected, journalBytesMax);
        _journal = recovered.Journal;
        _unpublished = recovered.Unpublished.ToImmutableDictionary();
        _publishedSize = recovered.PublishedSize;
        _committed = new LogState(recovered.Tree.Size, recovered.Note, recovered.Tree.Edge(), this);
        Opened = new LogHead(_committed, recovered.Tree);
        if (_journal.TornBytes > 0)
            LogTornTail(log, folder.Journal, _journal.TornBytes, _committed.Size);
        // What is read now may be in memory alone: renamed, or written and never flushed, by a process that was killed. It is made
        // durable before anybody is shown it: names by flushing the folders, unpublished entries by writing them anew, since
        // bytes whose flush failed would be called clean by another.
        if (!_expected.AreNamesDurable)
        {
            _disk.FlushFolder(folder.Path);
            _disk.FlushFolder(folder.Root);
            _expected.AreNamesDurable = true;
        }
        _isJournalDoubtful = _journal.TornBytes > 0 || _publishedSize < _committed.Size;
        _expected.Seen(_publishedSize, _journal.Length);
        PublishTiles();
        _index = EntryIndex.Open(disk, folder, indexRowsInMemory);
        try
        {
            CatchUpIndex();
            _expected.Opened(_index);
        }
        catch
        {
            _index.Dispose();
            throw;
        }
    }

    /// <inheritdoc/>
    public LogHead Opened { get; }

    /// <inheritdoc/>
    public string Where => _folder.Path;

    /// <inheritdoc/>
    public bool IsShared => false;

    /// <inheritdoc/>
    public bool IsPublished
    {
        get
        {
            lock (_gate)
                return AreTilesPublished && _index.IsSettled;
        }
    }

    /// <inheritdoc/>
    public LogHead Commit(LogHead? known, Func<LogHead, LogCommit?> prepare)
    {
        var head = known ?? throw new InvalidOperationException("What a failed write left can only be told by a new start.");
        if (prepare(head) is not { } commit)
            return head;
        var state = new LogState(head.Tree.Size, commit.Note, head.Tree.Edge(), this);
        lock (_gate)
        {
            // The commit point is inside: entries and checkpoint become durable together, by one flush.
            _journal.Append(_disk, new JournalFrame(head.State.Size, commit.Leaves, commit.Note));
            _unpublished = _unpublished.AddRange(commit.Completed);
            _committed = state;
            _expected.Journal(_journal.Length);
        }
        _index.Add(commit.Terms);
        if (_index.IsCrowded)
            SettleIndex();
        return new LogHead(state, head.Tree);
    }

    /// <inheritdoc/>
    public LogState? Newer(LogState known) => null;

    /// <inheritdoc/>
    public IReadOnlyDictionary<long, List<long>> Find(IReadOnlyCollection<long> terms) => terms.Distinct().Select(term => (term, Cursors: _index.FindId(term))).Where(found => found.Cursors is not null).ToDictionary(found => found.term, found => found.Cursors!);

    /// <inheritdoc/>
    public ITermLists OpenTerms() => new TermLists(_index);

    /// <inheritdoc/>
    public IEnumerable<ReadOnlyMemory<byte>> Leaves(long start, long end)
    {
        for (var index = start; index < end;)
        {
            if (FromJournal(index) is { } leaf)
            {
                yield return leaf;
                index++;
                continue;
            }
            var bundleEnd = Math.Min(end, (index / Tile.WidthMax + 1) * Tile.WidthMax);
            foreach (var entry in FromBundle(index, bundleEnd))
                yield return entry;
            index = bundleEnd;
        }
    }

    // Some of a full bundle's entries. They are copied, so that the room for the whole is used again: a search reads many bundles for an entry of each.
    private byte[][] FromBundle(long start, long end)
    {
        var tile = new Tile(Tile.EntriesLevel, start / Tile.WidthMax, Tile.WidthMax);
        using var file = File.OpenHandle(_folder.FileOf(tile));
        var length = (int)RandomAccess.GetLength(file);
        var rented = ArrayPool<byte>.Shared.Rent(length);
        try
        {
            if (!Disk.TryReadAll(file, rented.AsSpan(0, length), 0) || !EntryBundle.TryRead(rented.AsMemory(0, length), tile.Width, out var leaves))
                throw new InvalidDataException($"{_folder.FileOf(tile)} is damaged.");
            return [.. leaves[(int)(start % Tile.WidthMax)..(int)(start % Tile.WidthMax + end - start)].Select(leaf => leaf.ToArray())];
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(rented);
        }
    }

    /// <inheritdoc/>
    public byte[] FullTile(Tile tile) =>
        _unpublished.TryGetValue(tile, out var hashes) ? TreeHash.ToTile(hashes).ToArray() : File.ReadAllBytes(_folder.FileOf(tile));

    /// <inheritdoc/>
    public void Publish()
    {
        PublishTiles();
        SettleIndex();
    }

    // Writes what is committed as the files of the tile layout: full bundles and tiles, the partial ones, and, once all
    // these are durable, the checkpoint. What recovery finds unpublished is published here too.
    private void PublishTiles()
    {
        lock (_expected.Turn)
        {
            if (AreTilesPublished)
                return;
            LogState state;
            ImmutableDictionary<Tile, TreeHash[]> completed;
            long journalBytes;
            lock (_gate)
                (state, completed, journalBytes) = (_committed, _unpublished, _journal.Length);
            var replaced = Tile.PartialsOf(_publishedSize).Except(Tile.PartialsOf(state.Size)).ToList();
            WriteTiles(state, completed);

            // Publication's commit point: every file that the checkpoint needs is durable before it is.
            _disk.WriteFile(_folder.Checkpoint, state.Note);
            _disk.FlushFolder(_folder.Path);
            _expected.Published(state.Size);
            // A journal whose entries fill no bundle yet would only be copied.
            var first = state.Size / Tile.WidthMax * Tile.WidthMax;
            if (_isJournalDoubtful || (journalBytes > _journalBytesMax && first > _journal.First))
                StartNewJournal(state, first, journalBytes);
            lock (_gate)
            {
                _publishedSize = state.Size;
                _unpublished = _unpublished.RemoveRange(completed.Keys);
            }
            foreach (var tile in replaced)
                _disk.Delete(_folder.FileOf(tile));
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        lock (_expected.Turn)
        {
            _expected.Closed();
            _index.Dispose();
            _journal.Dispose();
        }
    }

    private void CatchUpIndex()
    {
        while (_index.Size < _committed.Size)
        {
            var end = Math.Min(_committed.Size, (_index.Size / CatchUpEntries + 1) * CatchUpEntries);
            _index.Add([.. LogReader.Entries(_committed, _index.Size, end).AsParallel().AsOrdered().Select(entry => EntryTerms.Of(entry.Writer, entry.PayloadId, entry.Payload.Span))]);
            _index.Settle();
        }
    }

    private void SettleIndex()
    {
        lock (_expected.Turn)
        {
            if (_index.IsSettled)
                return;
            _index.Settle();
            _expected.Index(_index);
        }
    }

    private void WriteTiles(LogState state, ImmutableDictionary<Tile, TreeHash[]> completed)
    {
        var folders = new HashSet<string>(StringComparer.Ordinal);
        for (var bundle = _publishedSize / Tile.WidthMax; bundle * Tile.WidthMax < state.Size; bundle++)
        {
            var tile = new Tile(Tile.EntriesLevel, bundle, Tile.WidthAt(Tile.EntriesLevel, bundle, state.Size));
            WriteTile(tile, LogReader.BundleOf(this, tile), folders);
        }
        foreach (var (tile, hashes) in completed)
            WriteTile(tile, TreeHash.ToTile(hashes), folders);
        foreach (var tile in Tile.PartialsOf(state.Size).Where(tile => !tile.IsEntries))
            WriteTile(tile, TreeHash.ToTile(state.Edge[tile.Level]), folders);
        foreach (var folder in folders)
            _disk.FlushFolder(folder);
        _durableFolders.UnionWith(folders);
    }

    /// <summary>
    /// Puts a journal in place that holds only what no full bundle holds: the published rest in one frame, and the frames that were
    /// committed since. All else in the old one is published and durable. Appends wait only while the last of those frames are copied.
    /// </summary>
    private void StartNewJournal(LogState published, long first, long publishedBytes)
    {
        var leaves = Leaves(first, published.Size).ToList();
        var frame = leaves.Count == 0 ? null : new JournalFrame(first, leaves, published.Note);
        var temporary = _folder.Journal + Disk.TemporarySuffix;
        var old = _journal;
        var copied = publishedBytes;
        using (var file = _disk.Create(temporary))
        {
            var begin = JournalFile.Compose(first, frame);
            _disk.Write(file, begin, 0);
            while (old.Frames(copied, CopiedAtOnceMax) is { Length: > 0 } frames)
            {
                _disk.Write(file, frames, begin.Length + copied - publishedBytes);
                copied += frames.Length;
            }
            _disk.Flush(file);
        }
        var next = JournalFile.Open(_disk, temporary, _ => { }, _ => { }, _folder.Journal);
        try
        {
            lock (_gate)
            {
                if (old.Frames(copied, int.MaxValue) is { Length: > 0 } rest)
                    next.Append(_disk, rest);
                _disk.Rename(temporary, _folder.Journal);
                _disk.FlushFolder(_folder.Path);
                _journal = next;
                _expected.Journal(next.Length);
                _isJournalDoubtful = false;
            }
        }
        finally
        {
            (_journal == next ? old : next).Dispose();
        }
    }

    private bool AreTilesPublished => _publishedSize == _committed.Size && !_isJournalDoubtful;

    // A journal is let go when a new one is in its place, which has the entry, or bundles have it.
    private byte[]? FromJournal(long index)
    {
        while (true)
        {
            var journal = _journal;
            try
            {
                return index < journal.First ? null : journal.Entry(index);
            }
            catch (ObjectDisposedException) when (journal != _journal)
            {
            }
        }
    }

    private void WriteTile(Tile tile, ReadOnlySpan<byte> bytes, HashSet<string> folders)
    {
        var path = _folder.FileOf(tile);
        MakeFolder(Path.GetDirectoryName(path)!, folders);
        _disk.WriteFile(path, bytes);
    }

    // A folder's own name is in its parent, which is flushed once in the life of this object: whoever made it may not have come to that.
    private void MakeFolder(string folder, HashSet<string> folders)
    {
        if (!folders.Add(folder) || folder == _folder.Path || _durableFolders.Contains(folder))
            return;
        MakeFolder(Path.GetDirectoryName(folder)!, folders);
        if (!Directory.Exists(folder))
            _disk.CreateFolder(folder);
    }

    /// <summary>What one search sees of the index.</summary>
    private sealed class TermLists(EntryIndex index) : ITermLists
    {
        public List<long> Cursors(long term, long from, int limit) => index.FindField(term, from, limit);

        public void Dispose()
        {
        }
    }

    [LoggerMessage(3002, LogLevel.Warning, "{File} ended in {Bytes} bytes of a commit that was never acknowledged, behind entry {Size}; they are dropped")]
    private static partial void LogTornTail(ILogger log, string file, long bytes, long size);
}
