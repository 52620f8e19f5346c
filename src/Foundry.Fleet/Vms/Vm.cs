using System.Text.Json;
using Foundry.Contracts;
using Foundry.Fleet.Nodes;

namespace Foundry.Fleet.Vms;

/// <summary>A VM in the registry. Immutable but for its <see cref="Report"/>.</summary>
internal sealed record Vm
{
    public const string Running = "Running";
    public const string Stopped = "Stopped";
    public const string Provisioning = "Provisioning";
    public const string Error = "Error";

    /// <summary>Random where we made it, the node's where it was adopted; never given to another.</summary>
    public required string VmId { get; init; }
    /// <summary>Its owner for ever; null where a shared node reported it without one.</summary>
    public string? TenantId { get; init; }
    /// <summary>The node it is on, for ever.</summary>
    public required NodeKey Node { get; init; }
    public required string Type { get; init; }
    public required long RamMb { get; init; }
    public required int VcpuCount { get; init; }
    /// <summary>Null where an adopted VM's node did not say.</summary>
    public long? DiskGb { get; init; }
    /// <summary>Unix milliseconds.</summary>
    public required long CreatedAt { get; init; }
    /// <summary>One of the four; the node's to say once it has reported.</summary>
    public string State { get; init; } = Provisioning;
    /// <summary>RFC 3339, as the node wrote it.</summary>
    public string? StartedAt { get; init; }
    public Kept<IReadOnlyList<HostPort>> Ports { get; init; } = Kept.NoPorts;
    /// <summary>Members of the create that we do not know.</summary>
    public Kept<Dictionary<string, JsonElement>>? Asked { get; init; }
    /// <summary>The reservation it spent; null for VMs made by others.</summary>
    public Reservation? Reservation { get; init; }
    /// <summary>The Idempotency-Key it was made with.</summary>
    public IdempotencyKey? Key { get; init; }
    /// <summary>Digest of the create's body, where there was a key.</summary>
    public string? BodyHash { get; init; }
    /// <summary>What the node says about it that we do not know.</summary>
    public VmReport Report { get; init; } = new(null);

    /// <summary>The VM on the wire.</summary>
    /// <param name="toTenant">Whether a tenant reads it: shared nodes are not shown to tenants.</param>
    /// <param name="withReservation">Whether a gateway asks for itself.</param>
    public VmRecord ToRecord(bool toTenant = false, bool withReservation = false) => new()
    {
        VmId = VmId,
        VmType = Type,
        State = State,
        RamAllocMb = RamMb,
        VcpuCount = VcpuCount,
        StartedAt = StartedAt,
        TenantId = TenantId,
        HostPorts = Ports.Value,
        DiskGb = DiskGb,
        NodeId = toTenant && Node.TenantId is null ? null : Node.NodeId,
        ReservationId = withReservation ? Reservation?.Id : null,
        Others = Others(),
    };

    private Dictionary<string, JsonElement>? Others()
    {
        var reported = Report.Members?.Value;
        if (Asked is null || reported is null)
            return Asked?.Value ?? reported;
        var both = new Dictionary<string, JsonElement>(Asked.Value, StringComparer.Ordinal);
        foreach (var (name, value) in reported)
            both[name] = value;
        return both;
    }
}

/// <summary>Members of a VM that only its node understands. They may change with every heartbeat, so they are written behind.</summary>
internal sealed class VmReport(Kept<Dictionary<string, JsonElement>>? members)
{
    private volatile Kept<Dictionary<string, JsonElement>>? _members = members;
    private volatile Kept<Dictionary<string, JsonElement>>? _written = members;

    public Kept<Dictionary<string, JsonElement>>? Members { get => _members; set => _members = value; }

    /// <summary>Whether there is something to write behind.</summary>
    public bool IsDirty => _members != _written;

    public void MarkWritten(Kept<Dictionary<string, JsonElement>>? members) => _written = members;
}

/// <summary>A quota reservation as a create carries it: spent at most once, by its deadline, under its epoch.</summary>
/// <param name="Id">The gateway's ID for it.</param>
/// <param name="Epoch">The store epoch it was made in.</param>
/// <param name="Deadline">Unix milliseconds on the fleet's clock.</param>
internal sealed record Reservation(string Id, long Epoch, long Deadline);

/// <summary>Whose Idempotency-Key, and which: keys of different callers do not meet.</summary>
internal sealed record IdempotencyKey(string TenantId, string SubjectPubkey, string Key);
