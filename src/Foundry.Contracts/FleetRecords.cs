using System.Diagnostics.CodeAnalysis;
using System.Text.Json;
using System.Text.Json.Serialization;

namespace Foundry.Contracts;

/// <summary>
/// A VM, on the fleet's wire (CONTRACT section 6). Timestamps stay the text they came as, so that nanoseconds survive a
/// round trip byte for byte; members we do not know pass through.
/// </summary>
public sealed record VmRecord : IJsonOnDeserialized
{
    /// <summary>Random; belongs for ever to the tenant and node the fleet gave it.</summary>
    public required string VmId { get; init; }
    /// <summary>What kind of VM.</summary>
    public required string VmType { get; init; }
    /// <summary><c>Running</c>, <c>Stopped</c>, <c>Provisioning</c> or <c>Error</c>.</summary>
    public required string State { get; init; }
    /// <summary>RAM, MiB.</summary>
    public required long RamAllocMb { get; init; }
    /// <summary>Virtual CPUs.</summary>
    public required int VcpuCount { get; init; }
    /// <summary>RFC 3339, as the node wrote it; null until it runs.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.Never)]
    public string? StartedAt { get; init; }
    /// <summary>Its owner; a VM without one is nobody's and shown to no tenant.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.Never)]
    public string? TenantId { get; init; }
    /// <summary>Ports of the host that lead into it.</summary>
    [AllowNull]
    public IReadOnlyList<HostPort> HostPorts { get => field ?? []; init; }
    /// <summary>Disk, GiB; ours, absent from other fleets.</summary>
    public long? DiskGb { get; init; }
    /// <summary>The node it is on; ours, absent from other fleets.</summary>
    public string? NodeId { get; init; }
    /// <summary>The quota reservation it was made with; only in answers to the gateway's own questions.</summary>
    public string? ReservationId { get; init; }
    /// <summary>Members we do not know.</summary>
    [JsonExtensionData]
    public Dictionary<string, JsonElement>? Others { get; set; }

    void IJsonOnDeserialized.OnDeserialized() => MemberNames.RefuseVariants(Others, WireJson.Default.VmRecord);
}

/// <summary>A port of a host that leads into a VM.</summary>
public sealed record HostPort
{
    /// <summary>Port on the host.</summary>
    [JsonPropertyName("host_port")]
    public required int Port { get; init; }
    /// <summary>Port in the guest.</summary>
    public required int GuestPort { get; init; }
    /// <summary><c>tcp</c> or <c>udp</c>.</summary>
    public required string Protocol { get; init; }
    /// <summary>Members we do not know.</summary>
    [JsonExtensionData]
    public Dictionary<string, JsonElement>? Others { get; set; }
}

/// <summary>Body of <c>POST /v1/nodes/heartbeat</c>; the first one of a node enrols it (CONTRACT section 6).</summary>
public sealed record Heartbeat : IJsonOnDeserialized
{
    /// <summary>The node's own name; belongs to one subject key in its tenant.</summary>
    public required string NodeId { get; init; }
    /// <summary>Address in the overlay network.</summary>
    public required string WgIp { get; init; }
    /// <summary>Host name.</summary>
    public required string Hostname { get; init; }
    /// <summary>RAM it has, MiB.</summary>
    public required long RamTotalMb { get; init; }
    /// <summary>RAM in use, MiB.</summary>
    public required long RamUsedMb { get; init; }
    /// <summary>Processors.</summary>
    public required int CpuCores { get; init; }
    /// <summary>Load, percent.</summary>
    public required double CpuLoadPct { get; init; }
    /// <summary>Whether /dev/kvm can be used.</summary>
    public required bool KvmAvailable { get; init; }
    /// <summary>Whether placement should prefer others.</summary>
    public bool? Reserved { get; init; }
    /// <summary>The VMs on it, at most 10,000.</summary>
    public required IReadOnlyList<VmRecord> Vms { get; init; }
    /// <summary>Changes at every boot of the node.</summary>
    public required string BootId { get; init; }
    /// <summary>The node's clock, RFC 3339; staleness counts from receipt instead.</summary>
    public required string TimestampUtc { get; init; }
    /// <summary>Members we do not know.</summary>
    [JsonExtensionData]
    public Dictionary<string, JsonElement>? Others { get; set; }

    void IJsonOnDeserialized.OnDeserialized() => MemberNames.RefuseVariants(Others, WireJson.Default.Heartbeat);
}

/// <summary>Answer to a heartbeat: what the node should be running, and when to report next.</summary>
/// <param name="AssignedVms">Every VM the fleet has placed on the node; absent is not the same as empty.</param>
/// <param name="NextHeartbeatS">Seconds until the next report, staggered so that nodes do not come at once.</param>
public sealed record HeartbeatAnswer(IReadOnlyList<VmRecord> AssignedVms, double NextHeartbeatS);

/// <summary>Body of <c>POST /v1/vms</c>.</summary>
public sealed record CreateVm : IJsonOnDeserialized
{
    /// <summary>What kind of VM.</summary>
    public string? VmType { get; init; }
    /// <summary>RAM, MiB.</summary>
    public long? RamMb { get; init; }
    /// <summary>Virtual CPUs.</summary>
    public int? VcpuCount { get; init; }
    /// <summary>Prefer nodes with KVM.</summary>
    public bool? PreferKvm { get; init; }
    /// <summary>Prefer this node.</summary>
    public string? PreferredNode { get; init; }
    /// <summary>Disk, GiB; default <c>max(⌈ram_mb/1024⌉, 8)</c>.</summary>
    public long? DiskGb { get; init; }
    /// <summary>The caller's tenant; put in by the gateway where absent.</summary>
    public string? TenantId { get; init; }
    /// <summary>Members we do not know.</summary>
    [JsonExtensionData]
    public Dictionary<string, JsonElement>? Others { get; set; }

    void IJsonOnDeserialized.OnDeserialized() => MemberNames.RefuseVariants(Others, WireJson.Default.CreateVm);

    /// <summary>The disk a VM of this RAM gets where none is asked for, GiB.</summary>
    /// <param name="ramMb">RAM, MiB.</param>
    public static long DefaultDiskGb(long ramMb) => Math.Max((ramMb + 1023) / 1024, 8);
}

/// <summary>A node, as <c>GET /v1/nodes</c> shows it.</summary>
public sealed record NodeRecord
{
    /// <summary>Its own name.</summary>
    public required string NodeId { get; init; }
    /// <summary>The tenant it serves; absent on shared nodes, which tenants are not shown.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.Never)]
    public string? TenantId { get; init; }
    /// <summary>Address in the overlay network.</summary>
    public required string WgIp { get; init; }
    /// <summary>Host name.</summary>
    public required string Hostname { get; init; }
    /// <summary>RAM it has, MiB.</summary>
    public required long RamTotalMb { get; init; }
    /// <summary>RAM in use by its own account, MiB.</summary>
    public required long RamUsedMb { get; init; }
    /// <summary>RAM promised to VMs placed on it, MiB.</summary>
    public required long RamAllocatedMb { get; init; }
    /// <summary>Processors.</summary>
    public required int CpuCores { get; init; }
    /// <summary>Load, percent.</summary>
    public required double CpuLoadPct { get; init; }
    /// <summary>Whether KVM can be used.</summary>
    public required bool KvmAvailable { get; init; }
    /// <summary>Whether placement prefers others.</summary>
    public required bool Reserved { get; init; }
    /// <summary>Whether it has been silent for 30 s or more, and so gets no placements.</summary>
    public required bool Stale { get; init; }
    /// <summary>VMs placed on it.</summary>
    public required int VmCount { get; init; }
    /// <summary>When its last heartbeat was received.</summary>
    public required DateTimeOffset LastSeen { get; init; }
}

/// <summary>Answer of <c>GET /v1/fleet</c>.</summary>
/// <param name="Nodes">The nodes.</param>
/// <param name="LastUpdated">The newest <see cref="NodeRecord.LastSeen"/> among them.</param>
public sealed record FleetStatus(IReadOnlyList<NodeRecord> Nodes, DateTimeOffset? LastUpdated);

/// <summary>Answer of <c>GET /v1/placement</c>: advice, not a promise.</summary>
/// <param name="RecommendedNode">An own node's ID, <c>shared</c>, or absent where nothing has room.</param>
/// <param name="Reason">Why.</param>
/// <param name="Alternatives">Other nodes with room, best first.</param>
public sealed record PlacementAdvice(string? RecommendedNode, string Reason, IReadOnlyList<string> Alternatives);

/// <summary>Body of <c>POST /internal/v1/epochs</c> (docs/architecture.md, Quotas).</summary>
/// <param name="V">1.</param>
/// <param name="TenantId">Whose creates of older epochs are refused from now on.</param>
[JsonUnmappedMemberHandling(JsonUnmappedMemberHandling.Disallow)]
public sealed record BeginEpoch(int V, string TenantId);

/// <summary>Body of <c>POST /internal/v1/seals</c>: for a while the fleet makes no VM for this tenant.</summary>
/// <param name="V">1.</param>
/// <param name="TenantId">Whose creates are refused with <c>409 tenant_deleting</c>.</param>
/// <param name="Seconds">From now on; 0 to 86,400. 0 ends a seal.</param>
[JsonUnmappedMemberHandling(JsonUnmappedMemberHandling.Disallow)]
public sealed record Seal(int V, string TenantId, long Seconds);

/// <summary>
/// A tenant's VMs as the fleet's registry has them at one moment: answer of <c>POST /internal/v1/epochs</c>, of <c>POST /internal/v1/seals</c> and of
/// <c>GET /internal/v1/vms?tenant_id=</c>.
/// </summary>
/// <param name="V">1.</param>
/// <param name="Epoch">The tenant's current store epoch; creates of older ones are refused.</param>
/// <param name="FleetTime">The fleet's clock in Unix milliseconds, to compare a create's deadline with.</param>
/// <param name="Vms">Every VM, in any state, with its reservation.</param>
public sealed record HeldVms(int V, long Epoch, long FleetTime, IReadOnlyList<VmRecord> Vms);
