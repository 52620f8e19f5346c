using System.Data.Common;
using Foundry.Ledger.Append;
using Foundry.Ledger.Keys;
using Foundry.Proofs;

namespace Foundry.Ledger.Storage;

/// <summary>
/// The logs that are open. A log is opened when it is first used and closed when others are used more, so that ten thousand
/// quiet ones cost their storage and nothing else. One that lost something, or whose write failed, takes no entries until the ledger
/// restarts. Opening and closing wait for the store, and so are done by its threads, never by a request's.
/// </summary>
internal sealed class LogShelf(LedgerOptions options, TimeProvider time, ILoggerFactory logs, ILogStore store, LedgerKeys keys) : IDisposable
{
    private readonly Lock _gate = new();
    private readonly Dictionary<ModuleId, Slot> _slots = [];
    private readonly LinkedList<Slot> _byUse = [];
    private readonly Dictionary<ModuleId, Exception> _failed = [];
    private readonly DiskThreads _threads = new(options.DiskThreads);
    // Apart from those that append: a reader of a slow database holds up no commit.
    private readonly Lazy<DiskThreads> _readers = new(() => new DiskThreads(options.DiskThreads));
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

    /// <summary>Logs that take no entries until the ledger is started again.</summary>
    public int FailedCount
    {
        get
        {
            lock (_gate)
                return _failed.Count;
        }
    }

    /// <summary>Told of each log whose checkpoint has been published. Called with the log in hand: it must not wait.</summary>
    public Action<ModuleId>? Published { get; set; }

    /// <summary>The keys that a log's checkpoints may be signed with.</summary>
    public LogVerifier VerifierOf(ModuleId module) => keys.VerifierOf(options.OriginOf(module));

    /// <summary>Takes a log that exists into use, as its newest commit left it; null where there is none.</summary>
    /// <exception cref="LogUnavailableException">The log cannot be opened until the ledger starts again.</exception>
    public Task<OpenLog?> TryOpenAsync(ModuleId module) => TakeAsync(module, create: false);

    /// <summary>Takes a log into use, created where it does not exist.</summary>
    /// <exception cref="LogUnavailableException">The log cannot be opened until the ledger starts again.</exception>
    public async Task<OpenLog> OpenOrCreateAsync(ModuleId module) =>
        await TakeAsync(module, create: true) ?? throw new InvalidOperationException("A log was neither there nor made.");

    /// <summary>Ends appending to a log of which something was found to be gone.</summary>
    public void Fail(ModuleId module, Exception fault)
    {
        Slot? slot;
        lock (_gate)
        {
            if (!_failed.TryAdd(module, fault))
                return;
            _slots.TryGetValue(module, out slot);
        }
        if (slot?.Sequencer is { } sequencer)
            sequencer.Fail(fault);
        else
            Sequencer.LogFailed(_log, fault, module.Name);
    }

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
        // What waits in their line opens, commits and closes first.
        _threads.Dispose();
        if (_readers.IsValueCreated)
            _readers.Value.Dispose();
        open.ForEach(slot => slot.Sequencer?.Dispose());
    }

    private async Task<OpenLog?> TakeAsync(ModuleId module, bool create)
    {
        while (true)
        {
            var (slot, opening, closing) = Reserve(module, create);
            try
            {
                // So that no more are open than may be, but for those in use.
                await closing;
                if (await opening is { } sequencer)
                {
                    if (!create && sequencer.IsShared)
                        await _threads.RunAsync(sequencer.Refresh);
                    return new OpenLog(this, slot, sequencer);
                }
            }
            catch
            {
                Return(slot);
                throw;
            }
            Return(slot);
            // Where it is to be made, it was another's attempt that found none.
            if (!create)
                return null;
        }
    }

    private (Slot Slot, Task<Sequencer?> Opening, Task Closing) Reserve(ModuleId module, bool create)
    {
        lock (_gate)
        {
            ObjectDisposedException.ThrowIf(_isDisposed, this);
            if (!_slots.TryGetValue(module, out var slot))
            {
                // One that is open is read from what it has in hand; one that is not would be read from what is damaged.
                if (_failed.TryGetValue(module, out var fault))
                    throw new LogUnavailableException(module, fault);
                _slots[module] = slot = new Slot(module);
            }
            else
            {
                _byUse.Remove(slot);
            }
            _byUse.AddLast(slot);
            slot.Users++;
            if (slot.Opening is null or { IsCompleted: true } && slot.Sequencer is null)
                slot.Opening = OpenAsync(slot, create);
            var closing = _slots.Count > options.OpenLogsMax ? Task.WhenAll(TakeIdle().ConvertAll(CloseAsync)) : Task.CompletedTask;
            return (slot, slot.Opening!, closing);
        }
    }

    private void Return(Slot slot)
    {
        lock (_gate)
        {
            slot.Users--;
            ForgetIfEmpty(slot);
        }
    }

    private List<Slot> TakeIdle() =>
        _byUse.Where(slot => slot is { Users: 0, Sequencer.HasFailed: false }).Take(_slots.Count - options.OpenLogsMax).ToList();

    private async Task<Sequencer?> OpenAsync(Slot slot, bool create)
    {
        await slot.Closing;
        try
        {
            return await _threads.RunAsync(() => slot.Sequencer = Open(slot.Module, create));
        }
        catch (Exception fault) when (fault is not DbException)
        {
            // A write that failed while it was opened is as final as one that failed later.
            Fail(slot.Module, fault);
            throw new LogUnavailableException(slot.Module, fault);
        }
    }

    // Called with the gate held. The log stays on the books while it closes: whoever takes it meanwhile waits until it is let go
    // of, and opens it again.
    private async Task CloseAsync(Slot slot)
    {
        var sequencer = slot.Sequencer!;
        slot.Sequencer = null;
        slot.Opening = null;
        var closing = _threads.RunAsync(() =>
        {
            sequencer.Dispose();
            return true;
        });
        slot.Closing = closing;
        await closing;
        lock (_gate)
            ForgetIfEmpty(slot);
    }

    private void ForgetIfEmpty(Slot slot)
    {
        if (slot is { Users: 0, Sequencer: null } && _byUse.Remove(slot))
            _slots.Remove(slot.Module);
    }

    private Sequencer? Open(ModuleId module, bool create)
    {
        var origin = options.OriginOf(module);
        var stored = store.Open(module, VerifierOf(module), create ? () => keys.Sign(new Checkpoint(origin, 0, TreeHash.EmptyRoot)).Encode() : null);
        return stored is null ? null : new Sequencer(options, time, _log, _threads, stored, origin, keys, fault => Fail(module, fault), () => Published?.Invoke(module));
    }

    /// <summary>A place on the shelf. All of it is guarded by the shelf's gate, but that its log is opened by a thread that holds nothing.</summary>
    internal sealed class Slot(ModuleId module)
    {
        private volatile Sequencer? _sequencer;

        public ModuleId Module { get; } = module;

        public int Users { get; set; }

        public Task<Sequencer?>? Opening { get; set; }

        public Task Closing { get; set; } = Task.CompletedTask;

        public Sequencer? Sequencer
        {
            get => _sequencer;
            set => _sequencer = value;
        }
    }

    /// <summary>A log in use; it is not closed before this is disposed.</summary>
    internal sealed class OpenLog(LogShelf shelf, Slot slot, Sequencer sequencer) : IDisposable
    {
        private int _isReturned;

        /// <summary>Which it is.</summary>
        public ModuleId Module => slot.Module;

        /// <summary>The log as of the last commit.</summary>
        public LogState State => sequencer.State;

        /// <inheritdoc cref="IStoredLog.IsPublished"/>
        public bool IsPublished => sequencer.IsPublished;

        /// <inheritdoc cref="Sequencer.Grown"/>
        public Task Grown => sequencer.Grown;

        /// <inheritdoc cref="Sequencer.AppendAsync"/>
        public ValueTask<AppendOutcome> AppendAsync(string writer, string payloadId, ReadOnlyMemory<byte> payload, CancellationToken cancellation) =>
            sequencer.AppendAsync(writer, payloadId, payload, cancellation);

        /// <inheritdoc cref="Sequencer.AppendInOrderAsync"/>
        public ValueTask<IReadOnlyList<AppendOutcome>> AppendInOrderAsync(string writer, IReadOnlyList<AppendBody> bodies, CancellationToken cancellation) =>
            sequencer.AppendInOrderAsync(writer, bodies, cancellation);

        /// <inheritdoc cref="IStoredLog.OpenTerms"/>
        public ITermLists OpenTerms() => sequencer.OpenTerms();

        /// <inheritdoc cref="IStoredLog.IsShared"/>
        public bool IsShared => sequencer.IsShared;

        /// <summary>Asks the store for what other processes have committed.</summary>
        public Task RefreshAsync() => shelf._threads.RunAsync(sequencer.Refresh);

        /// <summary>
        /// Reads from the latest state, all of which is there for as long as there is a log. Of a database by threads of its own, so
        /// that however slow it is the pool's go on serving; of files at once, which mostly are in memory.
        /// </summary>
        public Task<T> ReadAsync<T>(Func<LogState, T> read)
        {
            var state = State;
            return IsShared ? shelf._readers.Value.RunAsync(() => read(state)) : Task.FromResult(read(state));
        }

        /// <inheritdoc/>
        public void Dispose()
        {
            if (Interlocked.Exchange(ref _isReturned, 1) == 0)
                shelf.Return(slot);
        }
    }
}

/// <summary>A log that was found damaged or lost something; it is not opened again before the ledger is.</summary>
internal sealed class LogUnavailableException(ModuleId module, Exception fault) : Exception($"The log {module} is not opened again: {fault.Message}", fault);
