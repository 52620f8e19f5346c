using Foundry.Ledger.Append;
using Foundry.Ledger.Keys;
using Foundry.Ledger.Recovery;
using Foundry.Proofs;

namespace Foundry.Ledger.Storage;

/// <summary>
/// The logs that are open. A log is opened when it is first used and closed when others are used more, so that ten thousand
/// quiet ones cost a folder each and nothing else. One whose write failed stays, closed to appends, until the ledger restarts.
/// </summary>
internal sealed class LogShelf(LedgerOptions options, TimeProvider time, ILoggerFactory logs, Disk disk, LedgerKeys keys, string root) : IDisposable
{
    private readonly Lock _gate = new();
    private readonly Dictionary<ModuleId, Slot> _slots = [];
    private readonly LinkedList<Slot> _byUse = [];
    private readonly DiskThreads _threads = new(options.DiskThreads);
    private readonly ILogger<Sequencer> _log = logs.CreateLogger<Sequencer>();

    private bool _isDisposed;

    /// <summary>Logs open now.</summary>
    public int OpenCount
    {
        get
        {
            lock (_gate)
                return _slots.Count;
        }
    }

    /// <summary>Told of each log whose checkpoint has been published. Called with the log in hand: it must not wait.</summary>
    public Action<ModuleId>? Published { get; set; }

    /// <summary>The keys that a log's checkpoints may be signed with.</summary>
    public LogVerifier VerifierOf(ModuleId module) => keys.VerifierOf(options.OriginOf(module));

    /// <summary>Takes a log that exists into use.</summary>
    public bool TryOpen(ModuleId module, [System.Diagnostics.CodeAnalysis.NotNullWhen(true)] out OpenLog? log)
    {
        log = new LogFolder(root, module).Exists ? Take(module, create: false) : null;
        return log is not null;
    }

    /// <summary>Takes a log into use, created where it does not exist.</summary>
    public OpenLog OpenOrCreate(ModuleId module) => Take(module, create: true);

    /// <summary>Publishes and closes every log.</summary>
    public void Dispose()
    {
        List<Slot> open;
        lock (_gate)
        {
            if (_isDisposed)
                return;
            _isDisposed = true;
            open = [.. _byUse];
            _slots.Clear();
            _byUse.Clear();
        }
        open.ForEach(slot => slot.Close(() => true));
        _threads.Dispose();
    }

    private OpenLog Take(ModuleId module, bool create)
    {
        Slot? slot;
        List<Slot> idle = [];
        lock (_gate)
        {
            if (!_slots.TryGetValue(module, out slot))
                _slots[module] = slot = new Slot(new LogFolder(root, module));
            else
                _byUse.Remove(slot);
            _byUse.AddLast(slot);
            slot.Users++;
            if (_slots.Count > options.OpenLogsMax)
                idle = TakeIdle();
        }
        // Closing publishes, and so writes: outside the gate, which only guards the books.
        idle.ForEach(CloseIdle);
        try
        {
            return new OpenLog(this, slot, slot.Open(() => Open(slot.Folder, create)));
        }
        catch
        {
            Return(slot);
            throw;
        }
    }

    private void Return(Slot slot)
    {
        lock (_gate)
            slot.Users--;
    }

    private List<Slot> TakeIdle() =>
        _byUse.Where(slot => slot is { Users: 0, HasFailed: false }).Take(_slots.Count - options.OpenLogsMax).ToList();

    // The log stays on the books while it closes: whoever takes it before keeps it open, whoever takes it meanwhile waits in
    // its slot until the files are let go, and opens them again. Only one that is closed and unused leaves the books.
    private void CloseIdle(Slot slot)
    {
        slot.Close(() => IsUnused(slot));
        lock (_gate)
        {
            if (slot is { Users: 0, IsOpen: false } && _byUse.Remove(slot))
                _slots.Remove(slot.Folder.Module);
        }
    }

    private bool IsUnused(Slot slot)
    {
        lock (_gate)
            return slot is { Users: 0, HasFailed: false };
    }

    private Sequencer Open(LogFolder folder, bool create)
    {
        if (create && !folder.Exists)
            Create(folder);
        var recovered = LogRecovery.Open(disk, folder, VerifierOf(folder.Module));
        try
        {
            return new Sequencer(options, time, _log, disk, _threads, folder, keys, recovered, () => Published?.Invoke(folder.Module));
        }
        catch
        {
            recovered.Dispose();
            throw;
        }
    }

    // A log exists from the moment that its folder has its name, with everything in it that recovery asks for. It is put
    // together under another name, so that no crash leaves half a log and no existing one is ever created over.
    private void Create(LogFolder folder)
    {
        if (Directory.Exists(folder.Unfinished))
            disk.DeleteFolder(folder.Unfinished);
        disk.CreateFolder(folder.Unfinished);
        var checkpoint = keys.Sign(new Checkpoint(options.OriginOf(folder.Module), 0, TreeHash.EmptyRoot)).Encode();
        disk.WriteFile(Path.Combine(folder.Unfinished, LogFolder.JournalName), JournalFile.Compose(0, null));
        disk.WriteFile(Path.Combine(folder.Unfinished, LogFolder.CheckpointName), checkpoint);
        disk.FlushFolder(folder.Unfinished);
        disk.MoveFolder(folder.Unfinished, folder.Path);
        disk.FlushFolder(folder.Root);
    }

    /// <summary>A place on the shelf.</summary>
    internal sealed class Slot(LogFolder folder)
    {
        private readonly Lock _opening = new();
        private volatile Sequencer? _sequencer;

        public LogFolder Folder { get; } = folder;

        /// <summary>Guarded by the shelf's gate.</summary>
        public int Users { get; set; }

        public bool HasFailed => _sequencer?.HasFailed == true;

        public Sequencer Open(Func<Sequencer> open)
        {
            lock (_opening)
                return _sequencer ??= open();
        }

        public bool IsOpen => _sequencer is not null;

        /// <summary>Closes the log, if it may be when nobody can open it.</summary>
        public void Close(Func<bool> mayClose)
        {
            lock (_opening)
            {
                if (!mayClose())
                    return;
                _sequencer?.Dispose();
                // A failed one is kept as the reminder that it must not be opened again.
                if (!HasFailed)
                    _sequencer = null;
            }
        }
    }

    /// <summary>A log in use; it is not closed before this is disposed.</summary>
    internal sealed class OpenLog(LogShelf shelf, Slot slot, Sequencer sequencer) : IDisposable
    {
        private const int AttemptsMax = 8;
        private int _isReturned;

        /// <summary>Where its files are.</summary>
        public LogFolder Folder => slot.Folder;

        /// <summary>The log as of the last commit.</summary>
        public LogState State => sequencer.State;

        /// <inheritdoc cref="Sequencer.SearchableSize"/>
        public long SearchableSize => sequencer.SearchableSize;

        /// <inheritdoc cref="Sequencer.Grown"/>
        public Task Grown => sequencer.Grown;

        /// <inheritdoc cref="Sequencer.AppendAsync"/>
        public ValueTask<AppendOutcome> AppendAsync(string writer, string payloadId, ReadOnlyMemory<byte> payload, CancellationToken cancellation) =>
            sequencer.AppendAsync(writer, payloadId, payload, cancellation);

        /// <summary>Reads from the latest state; once more where a new journal has taken the place of that state's.</summary>
        public T Read<T>(Func<LogState, T> read)
        {
            for (var attempt = 1; ; attempt++)
            {
                try
                {
                    return read(State);
                }
                catch (ObjectDisposedException) when (attempt < AttemptsMax)
                {
                }
            }
        }

        /// <inheritdoc/>
        public void Dispose()
        {
            if (Interlocked.Exchange(ref _isReturned, 1) == 0)
                shelf.Return(slot);
        }
    }
}
