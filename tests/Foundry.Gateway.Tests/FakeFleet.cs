using System.Collections.Concurrent;
using System.Text.Json;
using System.Web;
using Foundry.Contracts;
using Foundry.Testing;

namespace Foundry.Gateway.Tests;

/// <summary>A fleet with our wire format, that a test can make say anything: <see cref="Override"/> goes before what it would say.</summary>
internal sealed class FakeFleet(TimeProvider time) : IAsyncDisposable
{
    private int _made;
    private FaultyBackend? _backend;

    public FaultyBackend Backend => _backend ??= new FaultyBackend(AnswerAsync);

    /// <summary>Answers instead; null leaves the request to the fleet.</summary>
    public Func<BackendRequest, BackendAnswer?> Override { get; set; } = _ => null;

    /// <summary>What it says, with <see cref="Override"/> before it.</summary>
    public Task<BackendAnswer> AnswerAsync(BackendRequest request) => Task.FromResult(Override(request) ?? Answer(request));

    public ConcurrentDictionary<string, VmRecord> Vms { get; } = new(StringComparer.Ordinal);

    /// <summary>Nodes by tenant and name.</summary>
    public ConcurrentDictionary<(string? Tenant, string Node), string> Nodes { get; } = [];

    public VmRecord Add(string? tenantId, string? vmId = null, string? reservation = null, long ramMb = 1024, long diskGb = 8)
    {
        var vm = new VmRecord
        {
            VmId = vmId ?? $"vm-{Interlocked.Increment(ref _made)}-{Guid.NewGuid():N}",
            VmType = "micro",
            State = "Running",
            RamAllocMb = ramMb,
            VcpuCount = 1,
            TenantId = tenantId,
            DiskGb = diskGb,
            ReservationId = reservation,
        };
        return Vms[vm.VmId] = vm;
    }

    /// <summary>Makes the VM that a create asks for, as the fleet would, whatever is said about it afterwards.</summary>
    public VmRecord Make(BackendRequest create)
    {
        var body = JsonSerializer.Deserialize(create.Body, WireJson.Default.CreateVm)!;
        return Add(body.TenantId, reservation: create[FoundryHeaders.Reservation]!.Split(';')[0], ramMb: body.RamMb!.Value, diskGb: body.DiskGb ?? CreateVm.DefaultDiskGb(body.RamMb.Value));
    }

    public static string ToJson(VmRecord vm) => JsonSerializer.Serialize(vm with { ReservationId = null }, WireJson.Default.VmRecord);

    public ValueTask DisposeAsync() => _backend?.DisposeAsync() ?? ValueTask.CompletedTask;

    private BackendAnswer Answer(BackendRequest request)
    {
        var tenant = HttpUtility.ParseQueryString(request.Target.Contains('?', StringComparison.Ordinal) ? request.Target.Split('?')[1] : "")["tenant_id"];
        var segments = request.Path.Split('/', StringSplitOptions.RemoveEmptyEntries);
        switch (request.Method, segments)
        {
            case ("POST", ["internal", "v1", "epochs"]):
                return Held(JsonSerializer.Deserialize(request.Body, WireJson.Default.BeginEpoch)!.TenantId);
            case ("GET", ["internal", "v1", "vms"]):
                return Held(tenant!);
            case ("GET", ["v1", "vms"]):
                return BackendAnswer.Json($"[{string.Join(',', Vms.Values.Where(vm => tenant is null || vm.TenantId == tenant).Select(ToJson))}]");
            case ("POST", ["v1", "vms"]):
                return BackendAnswer.Json(ToJson(Make(request)), 201);
            case ("GET", ["v1", "vms", var id]):
                return Vms.TryGetValue(id, out var vm) ? BackendAnswer.Json(ToJson(vm)) : NotFound;
            case ("DELETE", ["v1", "vms", var id]):
                return Vms.TryRemove(id, out _) ? BackendAnswer.Of([], 204, null) : NotFound;
            case ("GET", ["v1", "nodes"]):
                return BackendAnswer.Json($"[{string.Join(',', Nodes.Where(node => tenant is null || node.Key.Tenant == tenant).Select(node => node.Value))}]");
            case ("GET" or "DELETE", ["v1", "nodes", var id]):
                var named = Nodes.Where(node => node.Key.Node == id && (tenant is null || node.Key.Tenant == tenant)).ToArray();
                return named.Length switch
                {
                    0 => NotFound,
                    1 => BackendAnswer.Json(named[0].Value),
                    _ => BackendAnswer.Json("""{"code":"tenant_required","status":422}""", 422),
                };
            case ("POST", ["v1", "nodes", "heartbeat"]):
                return BackendAnswer.Json("""{"assigned_vms":[],"next_heartbeat_s":5}""");
            case ("GET", ["v1", "fleet"]):
                return BackendAnswer.Json("""{"nodes":[],"last_updated":null}""");
            case ("GET", ["v1", "placement"]):
                return BackendAnswer.Json("""{"reason":"none","alternatives":[]}""");
            default:
                return NotFound;
        }
    }

    private BackendAnswer Held(string tenantId) => BackendAnswer.Json(JsonSerializer.Serialize(
        new HeldVms(1, 1, time.GetUtcNow().ToUnixTimeMilliseconds(), [.. Vms.Values.Where(vm => vm.TenantId == tenantId)]), WireJson.Default.HeldVms));

    private static readonly BackendAnswer NotFound = BackendAnswer.Json("""{"code":"not_found","status":404,"detail":"fleet's own words"}""", 404);
}
