using System.Text.Json;
using Foundry.Contracts;
using Foundry.Fleet.Vms;
using Foundry.ServiceDefaults;

namespace Foundry.Fleet.Nodes;

/// <summary>
/// What a heartbeat does to the registry (CONTRACT section 6): enrols the node, keeps its name and its key together, and
/// takes over what it says about its VMs. Nothing a node says can take a VM from its tenant or its node, or bring one back.
/// </summary>
internal static class Enrolment
{
    /// <summary>
    /// The usual heartbeat: nothing durable is new, so it costs no turn and no transaction.
    /// </summary>
    /// <returns>False where it must take a turn.</returns>
    public static bool TryBeatOnly(FleetState state, Beat beat, Instant now, FleetMetrics metrics)
    {
        if (!state.Nodes.TryGetValue(beat.Key, out var node) || node.SubjectPubkey != beat.SubjectPubkey || node.IsLost || node.Facts != beat.Facts)
            return false;
        var ignored = 0;
        foreach (var reported in beat.Vms)
        {
            if (node.Pulse.Ignores(reported.Record.VmId))
                ignored++;
            else if (!state.Vms.TryGetValue(reported.Record.VmId, out var vm) || !MayReport(beat, reported, vm) || Updated(vm, reported) is not null)
                return false;
        }
        metrics.ReportsIgnored(ignored);
        Hear(state, node, beat, now);
        return true;
    }

    /// <summary>A heartbeat's turn.</summary>
    /// <returns>Why it is refused, or null.</returns>
    public static Refused? Beat(Turn turn, Beat beat, FleetMetrics metrics)
    {
        var known = turn.State.Nodes.GetValueOrDefault(beat.Key);
        if (known is not null && known.SubjectPubkey != beat.SubjectPubkey)
            return new Refused(ErrorCode.NodeConflict, "This node_id belongs to another key. A tenant administrator can unbind it: DELETE /v1/nodes/{id}.");
        if (known is null && turn.State.Bindings.ContainsKey((beat.Key.TenantId, beat.SubjectPubkey)))
            return new Refused(ErrorCode.NodeConflict, "This key already beats for another node_id. A tenant administrator can unbind that one: DELETE /v1/nodes/{id}.");
        if (known is null && turn.State.NodeCount(beat.Key.TenantId) >= Bounds.NodesPerTenantMax)
            return new Refused(ErrorCode.InvalidValue, $"No more than {Bounds.NodesPerTenantMax} nodes can be enrolled.");
        if (known is null && !turn.HasRoomForEvents)
            return new Refused(ErrorCode.RecordUnavailable, "The enrolment cannot be recorded at the moment.");

        var node = known is null
            ? new Node(beat.Key, beat.SubjectPubkey, beat.Facts, turn.Now.UnixMs, LostAfter: null, new NodePulse(seenUnixMs: turn.Now.UnixMs))
            : known with { Facts = beat.Facts, LostAfter = null };
        if (known is null)
            turn.Record(LogOf(beat.Key), Enrolled(node, beat, turn.Now));
        if (node != known)
        {
            turn.State = turn.State.With(node);
            turn.Write(FleetStore.Put(node));
        }
        var ignored = 0;
        foreach (var reported in beat.Vms)
            ignored += Report(turn, node, beat, reported) ? 0 : 1;
        turn.WhenCommitted(() =>
        {
            metrics.ReportsIgnored(ignored);
            Hear(turn.State, node, beat, turn.Now);
        });
        return null;
    }

    /// <summary>The log that a node's events go to: its tenant's, or the platform's.</summary>
    public static string LogOf(NodeKey node) => node.TenantId ?? Logs.Platform;

    /// <summary>Takes over what a node says about one VM; false where it is not the node's to say.</summary>
    private static bool Report(Turn turn, Node node, Beat beat, ReportedVm reported)
    {
        var id = reported.Record.VmId;
        if (turn.State.Vms.TryGetValue(id, out var vm))
        {
            if (!MayReport(beat, reported, vm))
                return Ignore(turn, node, beat, id);
            if (Updated(vm, reported) is { } updated)
            {
                turn.State = turn.State.With(updated);
                turn.Write(FleetStore.UpdateReported(updated));
            }
            return true;
        }
        if (turn.Looked.Destroyed.Contains(id))
            return Ignore(turn, node, beat, id);
        if (turn.State.PlacedOn(node.Key).Vms.Count >= Bounds.VmsPerNodeMax)
            return false; // Not remembered: the next free place is the first one's to report.
        var adopted = Adopted(node.Key, reported, turn.Now);
        turn.State = turn.State.With(adopted);
        turn.Write(FleetStore.Insert(adopted));
        return true;
    }

    private static bool MayReport(Beat beat, ReportedVm reported, Vm vm) =>
        vm.Node == beat.Key && (reported.Record.TenantId is null || reported.Record.TenantId == vm.TenantId);

    private static Vm? Updated(Vm vm, ReportedVm reported) =>
        vm.State == reported.Record.State && vm.StartedAt == reported.Record.StartedAt && vm.Ports.Equals(reported.Ports)
            ? null
            : vm with { State = reported.Record.State, StartedAt = reported.Record.StartedAt, Ports = reported.Ports };

    private static Vm Adopted(NodeKey node, ReportedVm reported, Instant now) => new()
    {
        VmId = reported.Record.VmId,
        TenantId = node.TenantId ?? reported.Record.TenantId,
        Node = node,
        Type = reported.Record.VmType,
        RamMb = reported.Record.RamAllocMb,
        VcpuCount = reported.Record.VcpuCount,
        DiskGb = reported.Record.DiskGb,
        CreatedAt = now.UnixMs,
        State = reported.Record.State,
        StartedAt = reported.Record.StartedAt,
        Ports = reported.Ports,
        Report = new VmReport(reported.Others),
    };

    private static bool Ignore(Turn turn, Node node, Beat beat, string vmId)
    {
        if (!turn.Looked.Recorded.Contains((node.Key, vmId)))
        {
            if (!turn.HasRoomForEvents)
                return false; // Ignored all the same, and recorded as soon as it can be.
            turn.Looked.Recorded.Add((node.Key, vmId));
            turn.Write(FleetStore.PutIgnored(node.Key, vmId));
            turn.Record(LogOf(node.Key), NotAssigned(node, beat, vmId, turn.Now));
        }
        turn.WhenCommitted(() => node.Pulse.Ignore(vmId));
        return false;
    }

    private static void Hear(FleetState state, Node node, Beat beat, Instant now)
    {
        node.Pulse.Beat(beat.CpuLoadPct, beat.RamUsedMb, now);
        foreach (var reported in beat.Vms)
            if (state.Vms.TryGetValue(reported.Record.VmId, out var vm) && MayReport(beat, reported, vm) && !Equals(vm.Report.Members, reported.Others))
                vm.Report.Members = reported.Others;
    }

    private static PlatformEvent Enrolled(Node node, Beat beat, Instant now) => new()
    {
        EventType = EventTypes.NodeEnrolled,
        EventId = Guid.CreateVersion7(now.Wall).ToString(),
        Time = now.Wall,
        TenantId = node.Key.TenantId,
        Actor = beat.Actor,
        RequestId = beat.RequestId,
        Others = new()
        {
            ["node_id"] = JsonSerializer.SerializeToElement(node.Key.NodeId, WireJson.Default.String),
            ["hostname"] = JsonSerializer.SerializeToElement(node.Facts.Hostname, WireJson.Default.String),
            ["ram_total_mb"] = JsonSerializer.SerializeToElement(node.Facts.RamTotalMb, WireJson.Default.Int64),
        },
    };

    // In the reporter's log and never the owner's: it tells no more than the reporter knew.
    private static PlatformEvent NotAssigned(Node node, Beat beat, string vmId, Instant now) => new()
    {
        EventType = EventTypes.AccessDenied,
        EventId = Guid.CreateVersion7(now.Wall).ToString(),
        Time = now.Wall,
        TenantId = node.Key.TenantId,
        Actor = beat.Actor,
        RequestId = beat.RequestId,
        Others = new()
        {
            ["reason"] = JsonSerializer.SerializeToElement("vm_not_assigned", WireJson.Default.String),
            ["node_id"] = JsonSerializer.SerializeToElement(node.Key.NodeId, WireJson.Default.String),
            ["vm_id"] = JsonSerializer.SerializeToElement(vmId, WireJson.Default.String),
        },
    };
}
