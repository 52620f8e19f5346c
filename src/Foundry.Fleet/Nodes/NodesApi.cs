using Foundry.Contracts;
using Foundry.Fleet.Vms;
using Foundry.ServiceDefaults;
using Foundry.ServiceDefaults.Trust;
using Foundry.Tokens;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;

namespace Foundry.Fleet.Nodes;

/// <summary>Nodes and their heartbeats (CONTRACT section 6).</summary>
internal static class NodesApi
{
    /// <summary>Intervals are spread over this part of themselves, so that nodes which came together come apart.</summary>
    private const double Stagger = 0.4;
    /// <summary>A node that has something new to start reports this often, seconds.</summary>
    private const double HurriedSeconds = 1.0;
    /// <summary>For so long after a create, milliseconds; an agent that takes no orders would else hurry for ever.</summary>
    private const long HurryMs = 2 * 60_000;
    // The golden ratio's fractional part: successive multiples of it lie as far apart as they can.
    private const double GoldenFraction = 0.6180339887498949;
    private static long _answers;

    public static void MapNodes(this IEndpointRouteBuilder endpoints)
    {
        endpoints.MapPost("/v1/nodes/heartbeat", HeartbeatAsync);
        endpoints.MapRead("/v1/nodes", List);
        endpoints.MapRead("/v1/nodes/{id}", Get);
        endpoints.MapDelete("/v1/nodes/{id}", UnbindAsync);
        endpoints.MapRead("/v1/fleet", Status);
    }

    /// <summary>
    /// <c>POST /v1/nodes/heartbeat</c>, to 1 MiB: a node reports; its first report enrols it. The tenant is the token's.
    /// 200 <see cref="HeartbeatAnswer"/>; 403 tenant_mismatch, 409 node_conflict, 413, 422, 503 record_unavailable.
    /// </summary>
    private static async Task<IResult> HeartbeatAsync(HttpContext context, Registry registry, Silence silence, FleetMetrics metrics, FleetOptions options)
    {
        if (context.Request.Body.Length > Bounds.BodyBytesMax)
            return new Refused(ErrorCode.BodyTooLarge, "A heartbeat is at most 1 MiB.");
        var (body, refusal) = await Problems.ReadBodyAsync(context, WireJson.Default.Heartbeat);
        if (body is null)
            return refusal!;
        if (!Beat.TryRead(body, Asserted.Of(context), RequestId.Of(context), out var beat, out refusal))
            return refusal;
        if (!Enrolment.TryBeatOnly(registry.Current, beat, registry.Now(), metrics)
            && await registry.TakeTurnAsync(turn => Enrolment.Beat(turn, beat, metrics), context.RequestAborted, LookUpOf(registry.Current, beat)) is { } conflict)
            return conflict;
        silence.Heard(registry.Current, registry.Now());
        return Results.Json(Answer(registry.Current, beat.Key, registry.Now(), options), FleetJson.Answer);
    }

    private static LookUp LookUpOf(FleetState state, Beat beat)
    {
        var pulse = state.Nodes.GetValueOrDefault(beat.Key)?.Pulse;
        return new LookUp(beat.Key, [.. beat.Vms.Select(vm => vm.Record.VmId).Where(id => pulse?.Ignores(id) != true)]);
    }

    private static HeartbeatAnswer Answer(FleetState state, NodeKey node, Instant now, FleetOptions options)
    {
        var placed = state.PlacedOn(node).Vms.Values;
        var hurried = placed.Any(vm => vm.State == Vm.Provisioning && now.UnixMs - vm.CreatedAt < HurryMs);
        var spread = Stagger * (Interlocked.Increment(ref _answers) * GoldenFraction % 1);
        var seconds = hurried ? Math.Min(HurriedSeconds, options.HeartbeatSeconds) * (1 + spread) : options.HeartbeatSeconds * (1 - (Stagger / 2) + spread);
        return new HeartbeatAnswer([.. placed.Select(vm => vm.ToRecord())], Math.Round(seconds, 3));
    }

    /// <summary><c>GET /v1/nodes?tenant_id=</c>: 200, an array of <see cref="NodeRecord"/>; all of them where no tenant is named.</summary>
    private static IResult List(HttpContext context, Registry registry) =>
        Callers.TryTenantQuery(context, out var tenantId, out var refusal) ? Results.Json(Nodes(registry, tenantId), FleetJson.Nodes) : refusal!;

    /// <summary><c>GET /v1/fleet?tenant_id=</c>: 200 <see cref="FleetStatus"/>.</summary>
    private static IResult Status(HttpContext context, Registry registry)
    {
        if (!Callers.TryTenantQuery(context, out var tenantId, out var refusal))
            return refusal!;
        var nodes = Nodes(registry, tenantId);
        return Results.Json(new FleetStatus(nodes, nodes.Count == 0 ? null : nodes.Max(node => node.LastSeen)), FleetJson.Fleet);
    }

    private static IReadOnlyList<NodeRecord> Nodes(Registry registry, string? tenantId)
    {
        var (state, now) = (registry.Current, registry.Now());
        return [.. state.Nodes.Values
            .Where(node => tenantId is null || node.Key.TenantId == tenantId)
            .OrderBy(node => node.Key.NodeId, StringComparer.Ordinal).ThenBy(node => node.Key.TenantId, StringComparer.Ordinal)
            .Select(node => node.ToRecord(state, now))];
    }

    /// <summary>
    /// <c>GET /v1/nodes/{id}?tenant_id=</c>: 200 <see cref="NodeRecord"/>; 404; 422 tenant_required where several tenants have
    /// a node of that name and the caller, who may see them all, names none.
    /// </summary>
    private static IResult Get(HttpContext context, string id, Registry registry)
    {
        var (node, refusal) = Find(context, id, registry.Current);
        return node is null ? refusal! : Results.Json(node.ToRecord(registry.Current, registry.Now()), FleetJson.Node);
    }

    /// <summary>
    /// <c>DELETE /v1/nodes/{id}?tenant_id=</c> (tenant-admin): parts the node's name from its key; the next heartbeat enrols
    /// it anew. VMs on it stay, and stay counted (docs/decisions/0005). 204; 403, 404, 422 tenant_required.
    /// </summary>
    private static async Task<IResult> UnbindAsync(HttpContext context, string id, Registry registry)
    {
        var caller = Asserted.Of(context);
        if (caller.IsOwn || (caller.Scope != Scope.TenantAdmin && !caller.IsPlatformAdmin))
            return new Refused(ErrorCode.InsufficientScope, "Unbinding a node needs the scope service:tenant-admin.");
        return await registry.TakeTurnAsync<IResult>(turn =>
        {
            var (node, refusal) = Find(context, id, turn.State);
            if (node is null)
                return refusal!;
            turn.State = turn.State.Without(node);
            turn.Write(FleetStore.Remove(node.Key));
            return Results.NoContent();
        }, context.RequestAborted);
    }

    private static (Node? Node, Refused? Refusal) Find(HttpContext context, string id, FleetState state)
    {
        var caller = Asserted.Of(context);
        if (!Callers.TryTenantQuery(context, out var named, out var refusal))
            return (null, refusal);
        var tenantId = named ?? caller.TenantId;
        var found = state.Nodes.Values.Where(node => node.Key.NodeId == id && caller.Sees(node.Key.TenantId) && (tenantId is null || node.Key.TenantId == tenantId)).Take(2).ToList();
        return found.Count switch
        {
            1 => (found[0], null),
            0 => (null, new Refused(ErrorCode.NotFound, "No such node.")),
            _ => (null, new Refused(ErrorCode.TenantRequired, "Several tenants have a node of this name. Name the tenant with tenant_id.")),
        };
    }
}
