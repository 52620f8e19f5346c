using System.Collections.Concurrent;
using System.Data.Common;
using System.Diagnostics.CodeAnalysis;
using Foundry.Contracts;
using Foundry.Ledger.Keys;
using Foundry.Ledger.Storage;
using Foundry.Proofs;

namespace Foundry.Ledger.Append;

/// <summary>
/// The one owner of a log's tree in this process. Appends join the batch that is next and wait; a batch is, in this order,
/// taken, told apart from what is there, stamped and hashed, signed, committed, shown to readers and answered; and sooner or later,
/// beside the next ones, published.
/// </summary>
internal sealed partial class Sequencer : IDisposable
{
    private readonly LedgerOptions _options;
    private readonly TimeProvider _time;
    private readonly ILogger _log;
    private readonly DiskThreads _threads;
    private readonly IStoredLog _stored;
    private readonly LedgerKeys _keys;
    private readonly Action _published;
    private readonly string _origin;
    private readonly Action<Exception> _failed;

    private readonly ConcurrentQueue<Pending> _queue = new();
    private readonly Lock _owner = new();
    private readonly Lock _publishing = new();
    private readonly Lock _showing = new();
    private readonly ITimer _publishTimer;

    private LogHead? _head;
    private int _queued;
    private int _isInLine;
    private int _isPublishArmed;
    private volatile bool _isClosed;
    private volatile bool _hasFailed;
    private volatile LogState _state;
    private TaskCompletionSource _grown = new(TaskCreationOptions.RunContinuationsAsynchronously);

    /// <summary>Takes over a log that its store has opened.</summary>
    /// <param name="options">Limits and intervals.</param>
    /// <param name="time">The clock.</param>
    /// <param name="log">Where a failure is said.</param>
    /// <param name="threads">What waits for the store.</param>
    /// <param name="stored">The log, this object's from now on.</param>
    /// <param name="origin">The name that its checkpoints are signed under.</param>
    /// <param name="keys">What signs them.</param>
    /// <param name="failed">Told when the log takes no more entries.</param>
    /// <param name="published">Told when a checkpoint is published. Called with the log in hand: it must not wait.</param>
    public Sequencer(LedgerOptions options, TimeProvider time, ILogger log, DiskThreads threads, IStoredLog stored, string origin, LedgerKeys keys, Action<Exception> failed, Action published)
    {
        (_options, _time, _log, _threads, _stored, _origin, _keys, _failed, _published) = (options, time, log, threads, stored, origin, keys, failed, published);
        _head = stored.Opened;
        _state = _head.State;
        // Where the threads have ended, closing the log publishes.
        _publishTimer = time.CreateTimer(_ => threads.TryEnqueue(Publish), null, Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
    }

    /// <summary>The log as of the last commit that this process knows of.</summary>
    public LogState State => _state;

    /// <summary>Ends once there is more than at the time of asking. Ask before looking, and nothing is missed between.</summary>
    public Task Grown => Volatile.Read(ref _grown).Task;

    /// <summary>Whether the log takes no more entries until the ledger starts again.</summary>
    public bool HasFailed => _hasFailed;

    /// <inheritdoc cref="IStoredLog.IsShared"/>
    public bool IsShared => _stored.IsShared;

    /// <inheritdoc cref="IStoredLog.IsPublished"/>
    public bool IsPublished => _stored.IsPublished;

    /// <inheritdoc cref="IStoredLog.OpenTerms"/>
    public ITermLists OpenTerms() => _stored.OpenTerms();

    /// <summary>Asks the store for the newest state, which may be another process's.</summary>
    public LogState Refresh()
    {
        if (_stored.Newer(_state) is { } newer)
            Show(newer);
        return _state;
    }

    /// <summary>
    /// Appends a payload. When it says <see cref="AppendStatus.Appended"/> the entry is durable, covered by the checkpoint
    /// that readers are served, and found by searches. A cancelled wait does not take the entry back.
    /// </summary>
    public async ValueTask<AppendOutcome> AppendAsync(string writer, string payloadId, ReadOnlyMemory<byte> payload, CancellationToken cancellation)
    {
        if (!TryQueue(writer, payloadId, payload, null, out var pending, out var refusal))
            return refusal;
        StandInLine();
        return await pending.Answer.WaitAsync(cancellation);
    }

    /// <summary>
    /// Appends payloads in this order, each as <see cref="AppendAsync"/> does, but none behind one that is not there: what could not be
    /// appended is the last that is answered.
    /// </summary>
    public async ValueTask<IReadOnlyList<AppendOutcome>> AppendInOrderAsync(string writer, IReadOnlyList<AppendBody> bodies, CancellationToken cancellation)
    {
        var (queued, outcomes) = (new List<Pending>(bodies.Count), new List<AppendOutcome>(bodies.Count));
        AppendOutcome? refused = null;
        foreach (var body in bodies)
        {
            if (!TryQueue(writer, body.PayloadId, body.Payload, queued.LastOrDefault(), out var pending, out var refusal))
            {
                refused = refusal;
                break;
            }
            queued.Add(pending);
        }
        StandInLine();
        foreach (var pending in queued)
        {
            outcomes.Add(await pending.Answer.WaitAsync(cancellation));
            if (!outcomes[^1].IsThere)
                return outcomes;
        }
        if (refused is { } last)
            outcomes.Add(last);
        return outcomes;
    }

    private bool TryQueue(string writer, string payloadId, ReadOnlyMemory<byte> payload, Pending? before, [NotNullWhen(true)] out Pending? pending, out AppendOutcome refusal)
    {
        (pending, refusal) = (null, default);
        if (_hasFailed)
            refusal = new AppendOutcome(AppendStatus.Failed);
        else if (Entry.LeafBytesOf(writer, payloadId, payload.Length) > EntryBundle.EntryBytesMax)
            refusal = new AppendOutcome(AppendStatus.TooLarge);
        else if (Interlocked.Increment(ref _queued) <= _options.QueueLengthMax)
            _queue.Enqueue(pending = new Pending(writer, payloadId, payload, before));
        else
        {
            Interlocked.Decrement(ref _queued);
            refusal = new AppendOutcome(AppendStatus.Busy);
        }
        return pending is not null;
    }

    /// <summary>
    /// Ends appending for good: the kernel may have dropped the bytes of a write and call the next fsync clean, and memory
    /// and files may differ in ways that only reading them again can tell. Reading goes on from what was committed.
    /// </summary>
    public void Fail(Exception fault)
    {
        lock (_showing)
        {
            if (_hasFailed)
                return;
            _hasFailed = true;
        }
        LogFailed(_log, fault, _stored.Where);
        _failed(fault);
    }

    /// <summary>Publishes what is committed and lets go of the log. Nothing may be appended any more.</summary>
    public void Dispose()
    {
        lock (_owner)
        {
            if (_isClosed)
                return;
            _isClosed = true;
            RefuseQueued();
        }
        lock (_publishing)
        {
            _publishTimer.Dispose();
            if (!_hasFailed)
                Guarded(PublishStored);
            _stored.Dispose();
        }
    }

    private static void Refuse(List<Pending> batch) =>
        batch.ForEach(pending => pending.Settle(new AppendOutcome(AppendStatus.Failed)));

    private void RefuseQueued()
    {
        lock (_owner)
        {
            while (TakeBatch() is { Count: > 0 } unanswered)
                Refuse(unanswered);
        }
    }

    private void StandInLine()
    {
        if (Interlocked.Exchange(ref _isInLine, 1) != 0 || _threads.TryEnqueue(Run))
            return;
        // The ledger is stopping.
        Volatile.Write(ref _isInLine, 0);
        RefuseQueued();
    }

    private void Run()
    {
        lock (_owner)
        {
            var batch = TakeBatch();
            // What may or may not be durable is not acknowledged.
            if (batch.Count > 0 && (_isClosed || _hasFailed || !Guarded(() => Commit(batch))))
                Refuse(batch);
        }
        // Left after the work, so that a busy log has one thread and not all of them; what was queued meanwhile stands in line again.
        Interlocked.Exchange(ref _isInLine, 0);
        if (!_queue.IsEmpty)
            StandInLine();
    }

    private void Publish()
    {
        Volatile.Write(ref _isPublishArmed, 0);
        lock (_publishing)
        {
            if (_isClosed || _hasFailed || !Guarded(PublishStored))
                return;
        }
        if (!_stored.IsPublished)
            ArmPublishing();
    }

    private void PublishStored()
    {
        _stored.Publish();
        _published();
    }

    private List<Pending> TakeBatch()
    {
        var batch = new List<Pending>();
        var bytes = 0;
        while (batch.Count < _options.BatchEntriesMax && bytes < _options.BatchBytesMax && _queue.TryDequeue(out var pending))
        {
            Interlocked.Decrement(ref _queued);
            if (pending.HasFailedBefore)
            {
                pending.Settle(new AppendOutcome(AppendStatus.Failed));
                continue;
            }
            bytes += pending.Payload.Length;
            batch.Add(pending);
        }
        return batch;
    }

    private void Commit(List<Pending> batch)
    {
        AppendOutcome[] answers = [];
        // The store may find that another process has committed meanwhile: all of this is about the head that it gives, not about ours.
        var known = _head;
        _head = null;
        _head = _stored.Commit(known, head => Prepare(head, batch, out answers));

        // From here on nothing can be taken back: it is shown and answered.
        Show(_head.State);
        for (var i = 0; i < batch.Count; i++)
            batch[i].Settle(answers[i]);
        if (!_stored.IsPublished)
            ArmPublishing();
        else if (_stored.IsShared)
            _published();
    }

    private LogCommit? Prepare(LogHead head, List<Pending> batch, out AppendOutcome[] answers)
    {
        // Which of these are new?
        var now = _time.GetUtcNow();
        var candidates = _stored.Find([.. batch.SelectMany(pending => pending.Ids)]);
        var entries = new List<Entry>(batch.Count);
        var terms = new List<long[]>(batch.Count);
        var newIds = new Dictionary<(string, string), int>();
        answers = new AppendOutcome[batch.Count];
        for (var i = 0; i < batch.Count; i++)
        {
            var pending = batch[i];
            if (newIds.TryGetValue((pending.Tellers[0], pending.PayloadId), out var twin))
            {
                answers[i] = Answer(entries[twin], pending, head.State.Size + twin + 1);
            }
            else if (TryFind(head.State, pending, candidates, out var known, out var cursor))
            {
                answers[i] = Answer(known, pending, cursor);
            }
            else
            {
                newIds.Add((pending.Tellers[0], pending.PayloadId), entries.Count);
                entries.Add(new Entry(pending.Writer, pending.PayloadId, now, pending.Payload));
                terms.Add(pending.Terms);
                answers[i] = new AppendOutcome(AppendStatus.Appended, head.State.Size + entries.Count);
            }
        }
        if (entries.Count == 0)
            return null;

        // What does the tree look like with them, and who says so?
        var completed = new Dictionary<Tile, TreeHash[]>();
        head.Tree.Completed = (tile, hashes) => completed[tile] = hashes.ToArray();
        var leaves = entries.ConvertAll(entry => (ReadOnlyMemory<byte>)entry.Encode());
        foreach (var leaf in leaves)
            head.Tree.Append(TreeHash.OfLeaf(leaf.Span));
        var note = _keys.Sign(new Checkpoint(_origin, head.Tree.Size, head.Tree.Root)).Encode();
        return new LogCommit(entries, terms, leaves, note, completed);
    }

    private static AppendOutcome Answer(Entry known, Pending pending, long cursor) =>
        known.Payload.Span.SequenceEqual(pending.Payload.Span) ? new(AppendStatus.Appended, cursor) : new(AppendStatus.Conflict);

    private static bool TryFind(LogState state, Pending pending, IReadOnlyDictionary<long, List<long>> candidates, out Entry found, out long cursor)
    {
        foreach (var candidate in pending.Ids.SelectMany(id => candidates.GetValueOrDefault(id, [])))
        {
            var entry = LogReader.Entry(state, candidate - 1);
            if (!pending.Tellers.Contains(entry.Writer) || entry.PayloadId != pending.PayloadId)
                continue;
            (found, cursor) = (entry, candidate);
            return true;
        }
        (found, cursor) = (null!, 0);
        return false;
    }

    private void ArmPublishing()
    {
        if (Interlocked.Exchange(ref _isPublishArmed, 1) == 0)
            _publishTimer.Change(_options.PublishInterval, Timeout.InfiniteTimeSpan);
    }

    // Commits and refreshes may come here in either order; a log only grows.
    private void Show(LogState state)
    {
        lock (_showing)
        {
            if (state.Size <= _state.Size)
                return;
            _state = state;
        }
        Interlocked.Exchange(ref _grown, new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously)).TrySetResult();
    }

    private bool Guarded(Action work)
    {
        try
        {
            work();
            return true;
        }
        catch (DbException fault) when (_stored.IsShared)
        {
            // Whether it was committed is not known here, but the store knows, and is asked by the next commit.
            LogDoubtful(fault, _stored.Where);
            return false;
        }
        catch (Exception fault)
        {
            Fail(fault);
            return false;
        }
    }

    [LoggerMessage(3001, LogLevel.Critical, "{Log} takes no more entries until the ledger is started again")]
    internal static partial void LogFailed(ILogger logger, Exception fault, string log);

    [LoggerMessage(3004, LogLevel.Error, "A commit to {Log} was not answered; whether it is there is asked before the next one")]
    private partial void LogDoubtful(Exception fault, string log);

    private sealed class Pending(string writer, string payloadId, ReadOnlyMemory<byte> payload, Pending? before)
    {
        // Gateways destroy VMs, and issuance those of a tenant that it takes down: where both destroyed one, it is gone once.
        private const string SharedPrefix = $"{EventTypes.VmDestroyed}:";
        private static readonly string[] _sharing = ["gateway", "issuance"];

        private readonly TaskCompletionSource<AppendOutcome> _answer = new(TaskCreationOptions.RunContinuationsAsynchronously);
        private AppendOutcome? _outcome;

        public string Writer { get; } = writer;

        public string PayloadId { get; } = payloadId;

        public ReadOnlyMemory<byte> Payload { get; } = payload;

        /// <summary>What the entry will be found by. Hashed here, by whoever appends, and not by the one thread that commits.</summary>
        public long[] Terms { get; } = EntryTerms.Of(writer, payloadId, payload.Span);

        /// <summary>Whose entries have their payload IDs in common with this one's: the writer's own, but for what several parts may tell.</summary>
        public string[] Tellers { get; } = payloadId.StartsWith(SharedPrefix, StringComparison.Ordinal) && _sharing.Contains(writer) ? _sharing : [writer];

        /// <summary>The terms by which an entry with its ID is found.</summary>
        public IEnumerable<long> Ids => Tellers.Length == 1 ? Terms[..1] : Tellers.Select(teller => EntryTerms.OfId(teller, PayloadId));

        /// <summary>Whether the one that it must not overtake has failed.</summary>
        public bool HasFailedBefore => before?._outcome is { IsThere: false };

        /// <summary>Ends with what became of it.</summary>
        public Task<AppendOutcome> Answer => _answer.Task;

        /// <summary>Says what became of it.</summary>
        public void Settle(AppendOutcome outcome)
        {
            _outcome = outcome;
            _answer.TrySetResult(outcome);
        }
    }
}
