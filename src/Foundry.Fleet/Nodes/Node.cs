using Foundry.Contracts;

namespace Foundry.Fleet.Nodes;

/// <summary>Which node: its own name, within its tenant. Two tenants may have a node of the same name.</summary>
/// <param name="TenantId">The tenant it serves alone; null where it is shared.</param>
/// <param name="NodeId">Its own name.</param>
internal readonly record struct NodeKey(string? TenantId, string NodeId);

/// <summary>A moment: the wall clock for what is shown and compared with others, a monotonic one for how long ago.</summary>
/// <param name="UnixMs">Unix milliseconds; never steps back while the process runs.</param>
/// <param name="MonoMs">Milliseconds since the process started, whatever happens to the wall clock.</param>
internal readonly record struct Instant(long UnixMs, long MonoMs)
{
    public DateTimeOffset Wall => DateTimeOffset.FromUnixTimeMilliseconds(UnixMs);
}

/// <summary>What a node says about itself that seldom changes; durable when its heartbeat is answered.</summary>
internal sealed record NodeFacts(string WgIp, string Hostname, long RamTotalMb, int CpuCores, bool KvmAvailable, bool Reserved, string BootId);

/// <summary>A node in the registry. Immutable but for its <see cref="Pulse"/>.</summary>
/// <param name="Key">Which.</param>
/// <param name="SubjectPubkey">The one key that may beat for it.</param>
/// <param name="Facts">What it last said.</param>
/// <param name="EnrolledAt">Unix milliseconds.</param>
/// <param name="LostAfter">The <see cref="NodePulse.HeardMonoMs"/> after which it was declared lost; null where it was not, or has come back.</param>
/// <param name="Pulse">What changes with every heartbeat.</param>
internal sealed record Node(NodeKey Key, string SubjectPubkey, NodeFacts Facts, long EnrolledAt, long? LostAfter, NodePulse Pulse)
{
    /// <summary>A node silent for this long is stale.</summary>
    public const long StaleAfterMs = 30_000;

    public bool IsLost => LostAfter is not null;

    /// <summary>Silent too long. One that is heard while it is being declared lost is not: its next heartbeat takes that back.</summary>
    public bool IsStale(Instant now)
    {
        var heard = Pulse.HeardMonoMs;
        return heard == LostAfter || now.MonoMs - heard >= StaleAfterMs;
    }

    public NodeRecord ToRecord(FleetState state, Instant now)
    {
        var (load, ram, seen) = Pulse.Read();
        var placed = state.PlacedOn(Key);
        return new NodeRecord
        {
            NodeId = Key.NodeId,
            TenantId = Key.TenantId,
            WgIp = Facts.WgIp,
            Hostname = Facts.Hostname,
            RamTotalMb = Facts.RamTotalMb,
            RamUsedMb = ram,
            RamAllocatedMb = placed.RamMb,
            CpuCores = Facts.CpuCores,
            CpuLoadPct = load,
            KvmAvailable = Facts.KvmAvailable,
            Reserved = Facts.Reserved,
            Stale = IsStale(now),
            VmCount = placed.Vms.Count,
            LastSeen = DateTimeOffset.FromUnixTimeMilliseconds(seen),
        };
    }
}

/// <summary>
/// What changes with every heartbeat and is worth no transaction: written behind, at most every
/// <see cref="Caretaker.WriteBehindInterval"/>.
/// </summary>
internal sealed class NodePulse
{
    /// <summary>Reports that are remembered as ignored; beyond that they are looked up again each time.</summary>
    private const int IgnoredMax = 10_000;

    private readonly Lock _lock = new();
    private readonly HashSet<string> _ignored = new(StringComparer.Ordinal);
    private double _load;
    private long _ramUsedMb;
    private long _seenUnixMs;
    private long _heardMonoMs;
    private bool _dirty;

    /// <summary>As it was stored; silence counts from the start, so that nobody is blamed for our own absence.</summary>
    public NodePulse(double load = 0, long ramUsedMb = 0, long seenUnixMs = 0) => (_load, _ramUsedMb, _seenUnixMs) = (load, ramUsedMb, seenUnixMs);

    /// <summary>When it was last heard in this process; 0 is the start.</summary>
    public long HeardMonoMs => Interlocked.Read(ref _heardMonoMs);

    public (double Load, long RamUsedMb, long SeenUnixMs) Read()
    {
        lock (_lock)
            return (_load, _ramUsedMb, _seenUnixMs);
    }

    public void Beat(double load, long ramUsedMb, Instant now)
    {
        lock (_lock)
        {
            (_load, _ramUsedMb, _seenUnixMs, _dirty) = (load, ramUsedMb, now.UnixMs, true);
            Interlocked.Exchange(ref _heardMonoMs, now.MonoMs);
        }
    }

    /// <summary>What is to be written behind, or null; from then on it counts as written.</summary>
    public (double Load, long RamUsedMb, long SeenUnixMs)? TakeDirty()
    {
        lock (_lock)
        {
            if (!_dirty)
                return null;
            _dirty = false;
            return (_load, _ramUsedMb, _seenUnixMs);
        }
    }

    /// <summary>Says that what was taken was not written after all.</summary>
    public void MarkDirty()
    {
        lock (_lock)
            _dirty = true;
    }

    public bool Ignores(string vmId)
    {
        lock (_lock)
            return _ignored.Contains(vmId);
    }

    public void Ignore(string vmId)
    {
        lock (_lock)
        {
            if (_ignored.Count < IgnoredMax)
                _ignored.Add(vmId);
        }
    }
}
