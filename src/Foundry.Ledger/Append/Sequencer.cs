using System.Collections.Concurrent;
using System.Collections.Immutable;
using Foundry.Ledger.Keys;
using Foundry.Ledger.Recovery;
using Foundry.Ledger.Storage;
using Foundry.Proofs;
using Microsoft.Data.Sqlite;

namespace Foundry.Ledger.Append;

/// <summary>
/// The one owner of a log's tree. Appends join the batch that is next and wait; a batch is, in this order,
/// taken, told apart from what is there, stamped and hashed, signed, committed, shown to readers, indexed, answered, and
/// sooner or later published as files.
/// </summary>
internal sealed partial class Sequencer : IDisposable
{
    private readonly LedgerOptions _options;
    private readonly TimeProvider _time;
    private readonly ILogger _log;
    private readonly Disk _disk;
    private readonly DiskThreads _threads;
    private readonly LogFolder _folder;
    private readonly LedgerKeys _keys;
    private readonly Action? _published;
    private readonly string _origin;

    private readonly ConcurrentQueue<Pending> _queue = new();
    private readonly Lock _owner = new();
    private readonly TreeFrontier _tree;
    private readonly Dictionary<Tile, TreeHash[]> _completed = [];
    private readonly EntryIndex _index;
    private readonly ITimer _publishTimer;

    private JournalFile _journal;
    private long _publishedSize;
    private long _searchableSize;
    private int _queued;
    private int _isInLine;
    private bool _isPublishArmed;
    private bool _isPublishDue;
    private bool _isClosed;
    private volatile bool _hasFailed;
    private volatile LogState _state;
    private TaskCompletionSource _grown = new(TaskCreationOptions.RunContinuationsAsynchronously);

    /// <summary>Takes over a recovered log, and finishes what its last owner had committed but not published.</summary>
    public Sequencer(LedgerOptions options, TimeProvider time, ILogger log, Disk disk, DiskThreads threads, LogFolder folder, LedgerKeys keys, RecoveredLog recovered, Action? published = null)
    {
        (_options, _time, _log, _disk, _threads, _folder, _keys, _published) = (options, time, log, disk, threads, folder, keys, published);
        _origin = options.OriginOf(folder.Module);
        _tree = recovered.Tree;
        _tree.Completed = (tile, hashes) => _completed[tile] = hashes.ToArray();
        _journal = recovered.Journal;
        _publishedSize = recovered.PublishedSize;
        _state = new LogState(_tree.Size, recovered.Note, _tree.Edge(), recovered.Unpublished.ToImmutableDictionary(), _journal);
        if (_journal.TornBytes > 0)
            LogTornTail(_folder.Journal, _journal.TornBytes, _tree.Size);
        if (_publishedSize < _tree.Size || _journal.TornBytes > 0)
            Publish(startNewJournal: _journal.TornBytes > 0);
        _index = EntryIndex.Open(_folder.Index, _tree.Size);
        CatchUpIndex();
        _searchableSize = _index.Size;
        _publishTimer = time.CreateTimer(_ => PublishWasDue(), null, Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
    }

    /// <summary>The log as of the last commit.</summary>
    public LogState State => _state;

    /// <summary>Entries that a search finds.</summary>
    public long SearchableSize => Volatile.Read(ref _searchableSize);

    /// <summary>Ends once searches find more than at the time of asking. Ask before looking, and nothing is missed between.</summary>
    public Task Grown => Volatile.Read(ref _grown).Task;

    /// <summary>Whether a write has failed; the log then takes no more.</summary>
    public bool HasFailed => _hasFailed;

    /// <summary>
    /// Appends a payload. When it says <see cref="AppendStatus.Appended"/> the entry is durable, covered by the checkpoint
    /// that readers are served, and found by searches. A cancelled wait does not take the entry back.
    /// </summary>
    public async ValueTask<AppendOutcome> AppendAsync(string writer, string payloadId, ReadOnlyMemory<byte> payload, CancellationToken cancellation)
    {
        if (_hasFailed)
            return new AppendOutcome(AppendStatus.Failed);
        if (Entry.LeafBytesOf(writer, payloadId, payload.Length) > EntryBundle.EntryBytesMax)
            return new AppendOutcome(AppendStatus.TooLarge);
        if (Interlocked.Increment(ref _queued) > _options.QueueLengthMax)
        {
            Interlocked.Decrement(ref _queued);
            return new AppendOutcome(AppendStatus.Busy);
        }
        var pending = new Pending(writer, payloadId, payload);
        _queue.Enqueue(pending);
        StandInLine();
        return await pending.Answer.Task.WaitAsync(cancellation);
    }

    /// <summary>Publishes what is committed and lets go of the files. Nothing may be appended any more.</summary>
    public void Dispose()
    {
        lock (_owner)
        {
            if (_isClosed)
                return;
            _isClosed = true;
            _publishTimer.Dispose();
            while (TakeBatch() is { Count: > 0 } unanswered)
                Refuse(unanswered);
            if (!_hasFailed && _publishedSize < _tree.Size)
                Guarded(() => Publish(startNewJournal: IsJournalLong));
            _index.Dispose();
            _journal.Dispose();
        }
    }

    private static void Refuse(List<Pending> batch) =>
        batch.ForEach(pending => pending.Answer.TrySetResult(new AppendOutcome(AppendStatus.Failed)));

    private void StandInLine()
    {
        if (Interlocked.Exchange(ref _isInLine, 1) == 0)
            _threads.Enqueue(Run);
    }

    private void PublishWasDue()
    {
        Volatile.Write(ref _isPublishDue, true);
        StandInLine();
    }

    private void Run()
    {
        // Left before the work, so that whatever is queued from here on stands in line again.
        Volatile.Write(ref _isInLine, 0);
        lock (_owner)
        {
            if (_isClosed)
                return;
            var batch = TakeBatch();
            // What may or may not be durable is not acknowledged.
            if (batch.Count > 0 && (_hasFailed || !Guarded(() => Commit(batch))))
                Refuse(batch);
            if (Volatile.Read(ref _isPublishDue))
            {
                _isPublishDue = _isPublishArmed = false;
                if (!_hasFailed && _publishedSize < _tree.Size)
                    Guarded(() => Publish(startNewJournal: IsJournalLong));
            }
        }
        if (!_queue.IsEmpty)
            StandInLine();
    }

    private List<Pending> TakeBatch()
    {
        var batch = new List<Pending>();
        var bytes = 0;
        while (batch.Count < _options.BatchEntriesMax && bytes < _options.BatchBytesMax && _queue.TryDequeue(out var pending))
        {
            Interlocked.Decrement(ref _queued);
            bytes += pending.Payload.Length;
            batch.Add(pending);
        }
        return batch;
    }

    private void Commit(List<Pending> batch)
    {
        // Which of these are new?
        var now = _time.GetUtcNow();
        var entries = new List<Entry>(batch.Count);
        var newIds = new Dictionary<(string, string), int>();
        var answers = new AppendOutcome[batch.Count];
        for (var i = 0; i < batch.Count; i++)
        {
            var pending = batch[i];
            if (newIds.TryGetValue((pending.Writer, pending.PayloadId), out var twin))
            {
                answers[i] = Answer(entries[twin], pending, _tree.Size + twin + 1);
            }
            else if (TryFind(pending, out var known, out var cursor))
            {
                answers[i] = Answer(known, pending, cursor);
            }
            else
            {
                newIds.Add((pending.Writer, pending.PayloadId), entries.Count);
                entries.Add(new Entry(pending.Writer, pending.PayloadId, now, pending.Payload));
                answers[i] = new AppendOutcome(AppendStatus.Appended, _tree.Size + entries.Count);
            }
        }

        if (entries.Count > 0)
        {
            // What does the tree look like with them, and who says so?
            var start = _tree.Size;
            var leaves = entries.ConvertAll(entry => (ReadOnlyMemory<byte>)entry.Encode());
            foreach (var leaf in leaves)
                _tree.Append(TreeHash.OfLeaf(leaf.Span));
            var note = _keys.Sign(new Checkpoint(_origin, _tree.Size, _tree.Root)).Encode();

            // The commit point is inside: entries and checkpoint become durable together, by one flush.
            _journal.Append(_disk, new JournalFrame(start, leaves, note));

            // From here on nothing can be taken back: it is shown, found and answered.
            _state = new LogState(_tree.Size, note, _tree.Edge(), _state.Unpublished.AddRange(_completed), _journal);
            _completed.Clear();
            _index.Add(entries);
            Volatile.Write(ref _searchableSize, _index.Size);
            Interlocked.Exchange(ref _grown, new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously)).TrySetResult();
            ArmPublishing();
        }
        for (var i = 0; i < batch.Count; i++)
            batch[i].Answer.TrySetResult(answers[i]);
    }

    private static AppendOutcome Answer(Entry known, Pending pending, long cursor) =>
        known.Payload.Span.SequenceEqual(pending.Payload.Span) ? new(AppendStatus.Appended, cursor) : new(AppendStatus.Conflict);

    private bool TryFind(Pending pending, out Entry found, out long cursor)
    {
        foreach (var candidate in _index.FindId(pending.Writer, pending.PayloadId))
        {
            var entry = LogReader.Entry(_folder, _state, candidate - 1);
            if (entry.Writer != pending.Writer || entry.PayloadId != pending.PayloadId)
                continue;
            (found, cursor) = (entry, candidate);
            return true;
        }
        (found, cursor) = (null!, 0);
        return false;
    }

    private void CatchUpIndex()
    {
        while (_index.Size < _tree.Size)
        {
            var end = Math.Min(_tree.Size, (_index.Size / Tile.WidthMax + 1) * Tile.WidthMax);
            _index.Add(LogReader.Entries(_folder, _state, _index.Size, end));
        }
    }

    private void ArmPublishing()
    {
        if (_isPublishArmed)
            return;
        _isPublishArmed = true;
        _publishTimer.Change(_options.PublishInterval, Timeout.InfiniteTimeSpan);
    }

    /// <summary>
    /// Writes what is committed as the files of the tile layout: full bundles and tiles, the partial ones, and, once all
    /// these are durable, the checkpoint. Recovery publishes through here too.
    /// </summary>
    private void Publish(bool startNewJournal)
    {
        var state = _state;
        var folders = new HashSet<string>(StringComparer.Ordinal);
        var replaced = Tile.PartialsOf(_publishedSize).Except(Tile.PartialsOf(state.Size)).ToList();

        for (var bundle = _publishedSize / Tile.WidthMax; bundle * Tile.WidthMax < state.Size; bundle++)
        {
            var tile = new Tile(Tile.EntriesLevel, bundle, Tile.WidthAt(Tile.EntriesLevel, bundle, state.Size));
            WriteTile(tile, LogReader.BundleOf(state, tile), folders);
        }
        foreach (var (tile, hashes) in state.Unpublished)
            WriteTile(tile, TreeHash.ToTile(hashes), folders);
        foreach (var tile in Tile.PartialsOf(state.Size).Where(tile => !tile.IsEntries))
            WriteTile(tile, TreeHash.ToTile(state.Edge[tile.Level]), folders);
        foreach (var folder in folders)
            _disk.FlushFolder(folder);

        // Publication's commit point: every file that the checkpoint needs is durable before it is.
        _disk.WriteFile(_folder.Checkpoint, state.Note);
        _disk.FlushFolder(_folder.Path);
        _publishedSize = state.Size;
        _state = state with { Unpublished = ImmutableDictionary<Tile, TreeHash[]>.Empty };

        // A journal whose entries fill no bundle yet would only be copied.
        if (startNewJournal && (_journal.TornBytes > 0 || FirstUnbundled > _journal.First))
            StartNewJournal();
        foreach (var tile in replaced)
            _disk.Delete(_folder.FileOf(tile));
        _published?.Invoke();
    }

    /// <summary>Puts a journal in place that holds only what no full bundle holds. All else in the old one is published and durable.</summary>
    private void StartNewJournal()
    {
        var first = FirstUnbundled;
        var leaves = new List<ReadOnlyMemory<byte>>();
        for (var i = first; i < _publishedSize; i++)
            leaves.Add(_journal.Entry(i));
        var frame = leaves.Count == 0 ? null : new JournalFrame(first, leaves, _state.Note);
        _disk.WriteFile(_folder.Journal, JournalFile.Compose(first, frame));
        _disk.FlushFolder(_folder.Path);
        var old = _journal;
        _journal = JournalFile.Open(_disk, _folder.Journal, _ => { }, _ => { });
        _state = _state with { Journal = _journal };
        old.Dispose();
    }

    private bool IsJournalLong => _journal.Length > _options.JournalBytesMax;

    private long FirstUnbundled => _publishedSize / Tile.WidthMax * Tile.WidthMax;

    private void WriteTile(Tile tile, ReadOnlySpan<byte> bytes, HashSet<string> folders)
    {
        var path = _folder.FileOf(tile);
        MakeFolder(Path.GetDirectoryName(path)!, folders);
        _disk.WriteFile(path, bytes);
    }

    private void MakeFolder(string folder, HashSet<string> folders)
    {
        if (!folders.Add(folder) || folder == _folder.Path || Directory.Exists(folder))
            return;
        MakeFolder(Path.GetDirectoryName(folder)!, folders);
        _disk.CreateFolder(folder);
    }

    // Any failure of a write ends appending: the kernel may have dropped the bytes and call the next fsync clean, and memory
    // and disk may differ in ways that only reading the files again can tell. Reading goes on from what was committed.
    private bool Guarded(Action work)
    {
        try
        {
            work();
            return true;
        }
        catch (Exception fault)
        {
            _hasFailed = true;
            LogFailed(fault, _folder.Path);
            // What the entries can give back need not be mended: the next start makes the index again.
            if (fault is SqliteException)
                EntryIndex.Discard(_folder.Index);
            return false;
        }
    }

    [LoggerMessage(3001, LogLevel.Critical, "A write to {Folder} failed. The log takes no more entries until the ledger is started again")]
    private partial void LogFailed(Exception fault, string folder);

    [LoggerMessage(3002, LogLevel.Warning, "{File} ended in {Bytes} bytes of a commit that was never acknowledged, behind entry {Size}; they are dropped")]
    private partial void LogTornTail(string file, long bytes, long size);

    private sealed record Pending(string Writer, string PayloadId, ReadOnlyMemory<byte> Payload)
    {
        public TaskCompletionSource<AppendOutcome> Answer { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);
    }
}
