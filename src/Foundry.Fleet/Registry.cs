using System.Data.Common;
using System.Threading.Channels;
using Foundry.Contracts;
using Foundry.Fleet.Nodes;
using Foundry.ServiceDefaults;
using Foundry.Storage;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace Foundry.Fleet;

/// <summary>One statement, or a few, of the transaction that makes a turn durable.</summary>
internal delegate Task Write(DbTransaction transaction);

/// <summary>
/// The registry's one owner. Whoever wants to change something, or to know something exactly, takes a turn; turns happen
/// one after the other, several to a transaction, and each is answered only when its transaction is durable. So an epoch
/// is either before a create or behind it, never beside it. Readers take <see cref="Current"/> and wait for nobody.
/// </summary>
internal sealed class Registry : BackgroundService
{
    /// <summary>Turns that wait at most; beyond that the answer is <c>503 not_ready</c>, with nothing done.</summary>
    public const int WaitingMax = 20_000;
    private const int TurnsPerCommitMax = 256;

    private readonly Channel<Pending> _waiting = Channel.CreateBounded<Pending>(new BoundedChannelOptions(WaitingMax) { SingleReader = true });
    private readonly Database _database;
    private readonly Outbox _outbox;
    private readonly TimeProvider _time;
    private readonly Readiness _readiness;
    private readonly IHostApplicationLifetime _lifetime;
    private readonly ILogger<Registry> _log;
    private readonly long _generation;
    private readonly long _startedAt;
    private long _wallUnixMs;
    private volatile FleetState _current;
    private volatile string? _unusable;
    private bool _mustReload;

    public Registry(LoadedRegistry loaded, Outbox outbox, TimeProvider time, Readiness readiness, IHostApplicationLifetime lifetime, ILogger<Registry> log)
    {
        (_database, _generation, _current) = (loaded.Database, loaded.Generation, loaded.State);
        (_outbox, _time, _readiness, _lifetime, _log) = (outbox, time, readiness, lifetime, log);
        _startedAt = time.GetTimestamp();
        readiness.Report("registry", met: true);
    }

    /// <summary>What was last committed.</summary>
    public FleetState Current => _current;

    /// <summary>
    /// The fleet's clock. Its wall part never steps back, so that a create which comes after a list is compared with a later
    /// moment than the list's: what is absent then stays absent. (A connection does not survive a restart, so no create does.)
    /// </summary>
    public Instant Now()
    {
        var wall = _time.GetUtcNow().ToUnixTimeMilliseconds();
        long known;
        while (wall > (known = Interlocked.Read(ref _wallUnixMs)))
            if (Interlocked.CompareExchange(ref _wallUnixMs, wall, known) == known)
                break;
        return new Instant(Math.Max(wall, known), (long)_time.GetElapsedTime(_startedAt).TotalMilliseconds);
    }

    /// <summary>Takes a turn; what it changed is durable when this ends well.</summary>
    /// <typeparam name="T">What the turn answers.</typeparam>
    /// <param name="step">The turn: reads and replaces <see cref="Turn.State"/>, and decides. It may be dropped, so it does nothing else.</param>
    /// <param name="cancellationToken">Ends the wait, not the turn.</param>
    /// <param name="lookUp">IDs that the turn must know more about than the state says.</param>
    /// <exception cref="RegistryException">It was not done, or nobody knows.</exception>
    public Task<T> TakeTurnAsync<T>(Func<Turn, T> step, CancellationToken cancellationToken, LookUp? lookUp = null)
    {
        var pending = new Pending<T>(step, lookUp);
        if (!_waiting.Writer.TryWrite(pending))
            throw new RegistryException(ErrorCode.NotReady, "Too much is waiting to be recorded. Try again in a moment.");
        return pending.Task.WaitAsync(cancellationToken);
    }

    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        var batch = new List<Pending>(TurnsPerCommitMax);
        // Ends when StopAsync has closed the queue and everything in it is answered.
        while (await _waiting.Reader.WaitToReadAsync(CancellationToken.None))
        {
            batch.Clear();
            while (batch.Count < TurnsPerCommitMax && _waiting.Reader.TryRead(out var pending))
                batch.Add(pending);
            await RunAsync(batch);
        }
    }

    public override async Task StopAsync(CancellationToken cancellationToken)
    {
        _waiting.Writer.TryComplete();
        if (ExecuteTask is { } loop)
            await loop.WaitAsync(cancellationToken);
        await base.StopAsync(cancellationToken);
    }

    private async Task RunAsync(List<Pending> batch)
    {
        Turn turn;
        try
        {
            if (_unusable is { } reason)
                throw new InvalidOperationException(reason);
            if (_mustReload)
                _current = await _database.WriteAsync(transaction => FleetStore.LoadAsync(_database, transaction, _current, Now().UnixMs), CancellationToken.None);
            _mustReload = false;
            turn = new Turn(_current, Now(), _outbox.HasRoom, await LookUpAsync(batch));
        }
        catch (Exception fault) when (IsOfStore(fault))
        {
            ReportStore(fault);
            batch.ForEach(pending => pending.Fail(NothingDone()));
            return;
        }

        foreach (var pending in batch)
            pending.Run(turn);
        if (turn.Writes.Count > 0 && await CommitAsync(turn) is { } failure)
        {
            batch.ForEach(pending => pending.Fail(pending.Wrote ? failure : NothingDone()));
            return;
        }
        // Durable: now readers may see it, and those who asked for it may hear of it.
        _current = turn.State;
        turn.Committed();
        for (var events = turn.Events; events > 0; events--)
            _outbox.Wake();
        batch.ForEach(pending => pending.Complete());
    }

    private async Task<RegistryException?> CommitAsync(Turn turn)
    {
        try
        {
            var ours = await _database.WriteAsync(async transaction =>
            {
                if (!await FleetStore.HoldAsync(transaction, _generation))
                    return false;
                foreach (var write in turn.Writes)
                    await write(transaction);
                return true;
            }, CancellationToken.None);
            if (ours)
            {
                _readiness.Report("registry", met: true);
                return null;
            }
            _unusable = "another fleet process has taken the registry over";
            _readiness.Report("registry", met: false, _unusable);
            _log.LogCritical("Another fleet process has taken the registry in {Database} over; this one stops", _database.Where);
            _lifetime.StopApplication();
            return NothingDone();
        }
        catch (Exception fault) when (IsOfStore(fault))
        {
            // The commit may have reached the disk all the same. What the store has is read again before the next turn.
            _mustReload = true;
            ReportStore(fault);
            return new RegistryException(ErrorCode.Internal, "Nobody can say whether this was done: ask for the VM or the node before trying again.");
        }
    }

    private async Task<Looked> LookUpAsync(List<Pending> batch)
    {
        var looked = new Looked();
        foreach (var lookUp in batch.Select(pending => pending.LookUp).OfType<LookUp>())
        {
            // Asked here and not by the sender: a VM that was there when the heartbeat came may be destroyed by now.
            var strange = lookUp.VmIds.Where(id => _current.Vms.GetValueOrDefault(id)?.Node != lookUp.Node).ToList();
            if (strange.Count == 0)
                continue;
            looked.Destroyed.UnionWith(await FleetStore.DestroyedAsync(_database, strange, CancellationToken.None));
            foreach (var vmId in await FleetStore.RecordedAsync(_database, lookUp.Node, strange, CancellationToken.None))
                looked.Recorded.Add((lookUp.Node, vmId));
        }
        return looked;
    }

    private void ReportStore(Exception fault)
    {
        _readiness.Report("registry", met: false, _unusable ?? "the database cannot be used");
        _log.LogError(fault, "The registry's store {Database} cannot be used", _database.Where);
    }

    private static bool IsOfStore(Exception fault) => fault is DbException or IOException or TimeoutException or InvalidOperationException or StateCorruptException;

    private static RegistryException NothingDone() => new(ErrorCode.RecordUnavailable, "The registry cannot be written at the moment; nothing was done.");

    private abstract class Pending(LookUp? lookUp)
    {
        public LookUp? LookUp { get; } = lookUp;
        public bool Wrote { get; protected set; }
        public abstract void Run(Turn turn);
        public abstract void Complete();
        public abstract void Fail(Exception fault);
    }

    private sealed class Pending<T>(Func<Turn, T> step, LookUp? lookUp) : Pending(lookUp)
    {
        private readonly TaskCompletionSource<T> _done = new(TaskCreationOptions.RunContinuationsAsynchronously);
        private Exception? _fault;
        private T? _answer;

        public Task<T> Task => _done.Task;

        public override void Run(Turn turn)
        {
            var before = turn.Save();
            try
            {
                _answer = step(turn);
                Wrote = turn.Writes.Count > before.Writes;
            }
            catch (Exception fault)
            {
                // A defect in one turn must not take the others with it.
                _fault = fault;
                turn.Restore(before);
            }
        }

        public override void Complete()
        {
            if (_fault is null)
                _done.TrySetResult(_answer!);
            else
                _done.TrySetException(_fault);
        }

        public override void Fail(Exception fault) => _done.TrySetException(fault);
    }
}

/// <summary>What a heartbeat's turn asks the store beforehand: are these destroyed, and was ignoring them recorded?</summary>
/// <param name="Node">Which node reports them.</param>
/// <param name="VmIds">The IDs.</param>
internal sealed record LookUp(NodeKey Node, IReadOnlyCollection<string> VmIds);

/// <summary>What the store said.</summary>
internal sealed class Looked
{
    public HashSet<string> Destroyed { get; } = new(StringComparer.Ordinal);
    public HashSet<(NodeKey Node, string VmId)> Recorded { get; } = [];
}

/// <summary>One turn, or several in one transaction: the state as it becomes, and what makes it durable.</summary>
internal sealed class Turn(FleetState state, Instant now, bool hasRoomForEvents, Looked looked)
{
    private readonly List<Write> _writes = [];
    private readonly List<Action> _whenCommitted = [];

    public FleetState State { get; set; } = state;
    public Instant Now { get; } = now;
    /// <summary>Whether an event's durability can be promised.</summary>
    public bool HasRoomForEvents { get; } = hasRoomForEvents;
    public Looked Looked { get; } = looked;
    public IReadOnlyList<Write> Writes => _writes;
    public int Events { get; private set; }

    public void Write(Write write) => _writes.Add(write);

    /// <summary>Records an event in the same transaction.</summary>
    public void Record(string moduleId, PlatformEvent what)
    {
        Events++;
        _writes.Add(transaction => Outbox.AddAsync(transaction, moduleId, Outbox.IdOf(what), what));
    }

    /// <summary>What is done in memory alone, once the rest is durable.</summary>
    public void WhenCommitted(Action effect) => _whenCommitted.Add(effect);

    public void Committed() => _whenCommitted.ForEach(effect => effect());

    public (FleetState State, int Writes, int Effects, int Events) Save() => (State, _writes.Count, _whenCommitted.Count, Events);

    public void Restore((FleetState State, int Writes, int Effects, int Events) saved)
    {
        State = saved.State;
        Events = saved.Events;
        _writes.RemoveRange(saved.Writes, _writes.Count - saved.Writes);
        _whenCommitted.RemoveRange(saved.Effects, _whenCommitted.Count - saved.Effects);
    }
}

/// <summary>The registry as it was on disk when the process started.</summary>
/// <param name="Database">The store.</param>
/// <param name="Generation">Proof that the registry is ours.</param>
/// <param name="State">What it says.</param>
internal sealed record LoadedRegistry(Database Database, long Generation, FleetState State)
{
    /// <exception cref="StateCorruptException">The store cannot be read.</exception>
    public static async Task<LoadedRegistry> OpenAsync(string? connectionString, StateFolder folder, TimeProvider time)
    {
        var database = await Database.OpenAsync(connectionString, folder, FleetStore.FileName, FleetStore.Migrations);
        try
        {
            // One transaction: what cannot be read is not taken over, so nothing was changed.
            var (generation, state) = await database.WriteAsync(async transaction =>
                (await FleetStore.TakeOverAsync(transaction), await FleetStore.LoadAsync(database, transaction, FleetState.Empty, time.GetUtcNow().ToUnixTimeMilliseconds())), CancellationToken.None);
            return new LoadedRegistry(database, generation, state);
        }
        catch
        {
            await database.DisposeAsync();
            throw;
        }
    }
}

/// <summary>A turn that did not end well; the answer to whoever asked for it.</summary>
internal sealed class RegistryException(ErrorCode error, string detail) : Exception(detail)
{
    public ErrorCode Error { get; } = error;
}
