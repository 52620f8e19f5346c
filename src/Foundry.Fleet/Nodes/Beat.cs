using System.Diagnostics.CodeAnalysis;
using System.Text.Json;
using Foundry.Contracts;
using Foundry.Fleet.Vms;
using Foundry.ServiceDefaults;
using Foundry.ServiceDefaults.Trust;
using Foundry.Tokens;

namespace Foundry.Fleet.Nodes;

/// <summary>A VM as a node reports it, within our bounds.</summary>
internal sealed record ReportedVm(VmRecord Record, Kept<IReadOnlyList<HostPort>> Ports, Kept<Dictionary<string, JsonElement>>? Others);

/// <summary>A heartbeat that is within our bounds, and whose it is by the token and not by the body.</summary>
/// <param name="Key">The node.</param>
/// <param name="SubjectPubkey">The key that beats.</param>
/// <param name="Facts">What seldom changes.</param>
/// <param name="RamUsedMb">What changes.</param>
/// <param name="CpuLoadPct">What changes.</param>
/// <param name="Vms">What is on it.</param>
/// <param name="Actor">For the ledger.</param>
/// <param name="RequestId">For the ledger.</param>
internal sealed record Beat(NodeKey Key, string SubjectPubkey, NodeFacts Facts, long RamUsedMb, double CpuLoadPct, IReadOnlyList<ReportedVm> Vms, EventActor Actor, string RequestId)
{
    /// <summary>Takes a heartbeat over, or says what is wrong with it.</summary>
    public static bool TryRead(Heartbeat body, Asserted caller, string requestId, [NotNullWhen(true)] out Beat? beat, [NotNullWhen(false)] out Refused? refusal)
    {
        beat = null;
        if (caller.IsOwn || (caller.Scope != Scope.FleetNode && caller.Scope != Scope.PlatformAdmin) || caller.SubjectPubkey is null)
        {
            refusal = new Refused(ErrorCode.InsufficientScope, "Heartbeats need the scope service:fleet-node.");
            return false;
        }
        refusal = Wrong(body);
        if (refusal is not null)
            return false;
        var vms = new List<ReportedVm>(body.Vms.Count);
        var seen = new HashSet<string>(StringComparer.Ordinal);
        foreach (var vm in body.Vms)
        {
            refusal = Wrong(vm, caller.TenantId, out var reported);
            if (refusal is not null)
                return false;
            if (!seen.Add(vm.VmId))
            {
                refusal = Value("vms", "holds each vm_id once");
                return false;
            }
            vms.Add(reported!);
        }
        beat = new Beat(new NodeKey(caller.TenantId, body.NodeId), caller.SubjectPubkey,
            new NodeFacts(body.WgIp, body.Hostname, body.RamTotalMb, body.CpuCores, body.KvmAvailable, body.Reserved == true, body.BootId),
            body.RamUsedMb, body.CpuLoadPct, vms, new EventActor(caller.SubjectPubkey, caller.TokenId, caller.Scope.Value.Text), requestId);
        return true;
    }

    private static Refused? Wrong(Heartbeat body)
    {
        if (body.NodeId is null || !Bounds.Name.IsMatch(body.NodeId))
            return Value("node_id", "is 1 to 256 letters, digits, '.', '_', ':' or '-', the first a letter or digit");
        if (!Bounds.IsText(body.WgIp))
            return Value("wg_ip", TextRule);
        if (!Bounds.IsText(body.Hostname))
            return Value("hostname", TextRule);
        if (!Bounds.IsText(body.BootId))
            return Value("boot_id", TextRule);
        if (body.TimestampUtc is null || !Bounds.Timestamp.IsMatch(body.TimestampUtc))
            return Value("timestamp_utc", TimestampRule);
        if (body.RamTotalMb is < 0 or > Bounds.NodeRamMbMax)
            return Value("ram_total_mb", $"is 0 to {Bounds.NodeRamMbMax}");
        if (body.RamUsedMb is < 0 or > Bounds.NodeRamMbMax)
            return Value("ram_used_mb", $"is 0 to {Bounds.NodeRamMbMax}");
        if (body.CpuCores is < 0 or > Bounds.NodeCoresMax)
            return Value("cpu_cores", $"is 0 to {Bounds.NodeCoresMax}");
        if (!double.IsFinite(body.CpuLoadPct) || body.CpuLoadPct is < 0 or > Bounds.LoadPctMax)
            return Value("cpu_load_pct", $"is 0 to {Bounds.LoadPctMax}");
        return body.Vms is null || body.Vms.Count > Bounds.VmsPerNodeMax ? Value("vms", $"is an array of at most {Bounds.VmsPerNodeMax} VMs") : null;
    }

    private static Refused? Wrong(VmRecord? vm, string? tenantId, out ReportedVm? reported)
    {
        reported = null;
        if (vm?.VmId is null || !Bounds.Name.IsMatch(vm.VmId))
            return Value("vms[*].vm_id", "is 1 to 256 letters, digits, '.', '_', ':' or '-', the first a letter or digit");
        if (tenantId is not null && vm.TenantId is not null && vm.TenantId != tenantId)
            return new Refused(ErrorCode.TenantMismatch, "vms[*].tenant_id is another tenant than the token's.");
        if (vm.TenantId is not null && !Bounds.TenantId.IsMatch(vm.TenantId))
            return Value("vms[*].tenant_id", "is a tenant ID or null");
        if (vm.VmType is null || !Bounds.VmType.IsMatch(vm.VmType))
            return Value("vms[*].vm_type", VmTypeRule);
        if (vm.State is not (Vm.Running or Vm.Stopped or Vm.Provisioning or Vm.Error))
            return Value("vms[*].state", "is Running, Stopped, Provisioning or Error");
        if (vm.RamAllocMb is < 0 or > Bounds.RamMbMax)
            return Value("vms[*].ram_alloc_mb", $"is 0 to {Bounds.RamMbMax}");
        if (vm.VcpuCount is < 0 or > Bounds.VcpuMax)
            return Value("vms[*].vcpu_count", $"is 0 to {Bounds.VcpuMax}");
        if (vm.DiskGb is < 0 or > Bounds.DiskGbMax)
            return Value("vms[*].disk_gb", $"is 0 to {Bounds.DiskGbMax}");
        if (vm.StartedAt is not null && !Bounds.Timestamp.IsMatch(vm.StartedAt))
            return Value("vms[*].started_at", TimestampRule + ", or null");
        var ports = vm.HostPorts ?? [];
        if (ports.Count > Bounds.PortsPerVmMax || !ports.All(IsPort) || !FleetJson.TryKeep(ports, out var keptPorts))
            return Value("vms[*].host_ports", $"is at most {Bounds.PortsPerVmMax} ports with host_port and guest_port from 1 to 65535 and a protocol");
        if (!FleetJson.TryKeep(vm.Others, out var others))
            return Value("vms[*]", OthersRule);
        reported = new ReportedVm(vm, keptPorts, others);
        return null;
    }

    public const string VmTypeRule = "is 1 to 64 letters, digits, '.', '_' or '-', the first a letter";
    public static readonly string OthersRule = $"has members of other names than ours only up to {FleetJson.OthersBytesMax} bytes and {FleetJson.OthersDepthMax} levels, none that differs from ours in case alone";
    private const string TimestampRule = "is an RFC 3339 timestamp with at most nine fractional digits";
    private static readonly string TextRule = $"is 1 to {Bounds.TextCharsMax} printable characters";

    private static bool IsPort(HostPort? port) =>
        port is { Port: >= 1 and <= 65535, GuestPort: >= 1 and <= 65535 } && Bounds.IsText(port.Protocol);

    private static Refused Value(string member, string rule) => new(ErrorCode.InvalidValue, $"{member} {rule}.");
}
