using System.Text.Json;
using Foundry.Contracts;
using Foundry.Storage;
using Foundry.Testing;
using Microsoft.Extensions.DependencyInjection;

namespace Foundry.Gateway.Tests.Record;

/// <summary>CONTRACT section 5: accepted, the reservation is the VM's; refused, it is free; unknown, it is held until the fleet's own list says.</summary>
public sealed class CreateOutcomeTests(OrdinaryGateway gateway) : IClassFixture<OrdinaryGateway>
{
    private const string Create = """{"vm_type":"micro","ram_mb":2048,"vcpu_count":1,"disk_gb":10}""";

    private enum Then
    {
        Accepted,
        Refused,
        Unknown,
    }

    private sealed record Row(Func<GatewayHost, BackendRequest, BackendAnswer> Fleet, int Status, string? Code, Then Then);

    private static readonly BackendAnswer NoCapacity = BackendAnswer.Of("""{"type":"/problems/no_capacity","title":"No node has room","status":503,"detail":"d","code":"no_capacity","request_id":"r"}"""u8.ToArray(), 503, "application/problem+json");

    private static readonly Dictionary<string, Row> Rows = new()
    {
        ["201"] = new((host, request) => BackendAnswer.Json(FakeFleet.ToJson(host.Fleet.Make(request)), 201), 201, null, Then.Accepted),
        ["200, as other fleets say it"] = new((host, request) => BackendAnswer.Json(FakeFleet.ToJson(host.Fleet.Make(request)), 200), 200, null, Then.Accepted),
        ["201 without an owner, as other fleets say it"] = new((host, request) => BackendAnswer.Json(FakeFleet.ToJson(host.Fleet.Make(request) with { TenantId = null }), 201), 201, null, Then.Accepted),
        ["400"] = new((_, _) => BackendAnswer.Json("""{"code":"invalid_value"}""", 400), 400, null, Then.Refused),
        ["409"] = new((_, _) => BackendAnswer.Json("""{"code":"stale_reservation"}""", 409), 409, null, Then.Refused),
        ["503 no_capacity"] = new((_, _) => NoCapacity, 503, "no_capacity", Then.Refused),
        ["500"] = new((host, request) => Made(host, request, BackendAnswer.Json("{}", 500)), 500, null, Then.Unknown),
        ["503 without a word"] = new((host, request) => Made(host, request, BackendAnswer.Json("{}", 503)), 503, null, Then.Unknown),
        ["503 that is no JSON"] = new((host, request) => Made(host, request, BackendAnswer.Of("<html>"u8.ToArray(), 503, "text/html")), 503, null, Then.Unknown),
        ["302"] = new((host, request) => Made(host, request, BackendAnswer.Of([], 302, null, ("Location", "/elsewhere"))), 302, null, Then.Unknown),
        ["reset after the request"] = new((host, request) => Made(host, request, BackendAnswer.ResetAtOnce), 502, "backend_unavailable", Then.Unknown),
        ["cut off in the answer"] = new((host, request) => Made(host, request, BackendAnswer.Raw("HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{\"vm_id\":")), 502, "backend_unavailable", Then.Unknown),
        ["201 with garbage"] = new((host, request) => Made(host, request, BackendAnswer.Json("garbage", 201, ("X-Inner", "secret"))), 502, "backend_error", Then.Unknown),
        ["201 with nothing"] = new((host, request) => Made(host, request, BackendAnswer.Of([], 201)), 502, "backend_error", Then.Unknown),
        ["201 without an ID"] = new((host, request) => Made(host, request, BackendAnswer.Json("""{"vm_id":"","vm_type":"m","state":"Running","ram_alloc_mb":1,"vcpu_count":1,"host_ports":[]}""", 201)), 502, "backend_error", Then.Unknown),
        ["201 with less than nothing"] = new((host, request) => Made(host, request, BackendAnswer.Json("""{"vm_id":"a","vm_type":"m","state":"Running","ram_alloc_mb":-1,"vcpu_count":1,"host_ports":[]}""", 201)), 502, "backend_error", Then.Unknown),
        ["201 with another tenant's VM"] = new((host, request) => Made(host, request, BackendAnswer.Json(FakeFleet.ToJson(host.Fleet.Add(host.AcmeTwin, "secret")), 201)), 502, "backend_error", Then.Unknown),
    };

    public static TheoryData<string> Cases => [.. Rows.Keys];

    [Theory, MemberData(nameof(Cases))]
    public async Task The_reservation_goes_where_the_fleets_answer_sends_it(string @case)
    {
        var host = gateway.Host;
        var tenant = await host.NewTenantAsync();
        host.Forget();
        var row = Rows[@case];
        var listIsAway = true;
        host.Fleet.Override = request => request switch
        {
            { IsOwn: false, Method: "POST" } => row.Fleet(host, request),
            // While this is so, nothing but the answer can have settled anything.
            { IsOwn: true, Path: "/internal/v1/vms" } when listIsAway => BackendAnswer.Json("{}", 500),
            _ => null,
        };

        var answer = await host.SendAsync("POST", "/v1/vms", host.Token(tenant, "input"), Create);

        Assert.Equal(row.Status, answer.Status);
        if (row.Code is not null)
            Assert.Equal(row.Code, answer.Code);
        Assert.DoesNotContain("secret", answer.Text + answer["X-Inner"], StringComparison.Ordinal);
        var use = await UseAsync(host, tenant);
        Assert.Equal(row.Then == Then.Refused ? (0, 0, 0) : (1, 2048, 10), (use.VmsRunning, use.RamUsedMb, use.StorageUsedGb));
        Assert.Equal(row.Then == Then.Unknown ? ["unknown"] : [], use.Reservations!.Select(reservation => reservation.State));
        Assert.Equal(row.Then == Then.Unknown ? 1 : 0, await IntentsAsync(host, tenant));

        // The fleet's list settles what is left; the event is there once, however it came about.
        listIsAway = false;
        await host.UntilAsync(async () => await IntentsAsync(host, tenant) == 0);
        var made = host.Fleet.Vms.Values.SingleOrDefault(vm => vm.TenantId == tenant);
        Assert.Equal(row.Then != Then.Refused, made is not null);
        if (made is null)
            return;
        await host.UntilAsync(() => host.Ledger.Events.Any(recorded => recorded.Log == tenant));
        var recorded = Assert.Single(host.Ledger.Events, recorded => recorded.Log == tenant);
        Assert.Equal(($"VM_CREATED:{made.VmId}", made.VmId, 2048), (recorded.PayloadId, recorded.Payload.GetProperty("vm_id").GetString(), recorded.Payload.GetProperty("ram_mb").GetInt32()));
        Assert.Equal("input", recorded.Payload.GetProperty("actor").GetProperty("scope").GetString());
    }

    [Fact]
    public async Task A_fleet_that_was_never_reached_made_nothing()
    {
        var host = gateway.Host;
        var tenant = await host.NewTenantAsync();
        host.Forget();
        await host.Fleet.Backend.StopAsync();
        try
        {
            var answer = await host.SendAsync("POST", "/v1/vms", host.Token(tenant, "input"), Create);

            Assert.Equal((502, "backend_unavailable"), (answer.Status, answer.Code));
            var use = await UseAsync(host, tenant);
            Assert.Equal((0, 0), (use.VmsRunning, use.Reservations!.Count));
            Assert.Equal(0, await IntentsAsync(host, tenant));
        }
        finally
        {
            host.Fleet.Backend.Start();
        }
    }

    [Fact]
    public async Task A_client_that_hangs_up_leaves_the_outcome_unknown()
    {
        var host = gateway.Host;
        var tenant = await host.NewTenantAsync();
        host.Forget();
        var heard = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        host.Fleet.Override = request =>
        {
            if (request.IsOwn)
                return null;
            heard.TrySetResult();
            return BackendAnswer.Silence;
        };
        using (var impatience = CancellationTokenSource.CreateLinkedTokenSource(TestContext.Current.CancellationToken))
        {
            var create = host.SendAsync("POST", "/v1/vms", host.Token(tenant, "input"), Create, impatience.Token);
            await heard.Task;
            await impatience.CancelAsync();
            await Assert.ThrowsAnyAsync<OperationCanceledException>(() => create);
        }

        await host.UntilAsync(async () => (await UseAsync(host, tenant)).Reservations is [{ State: "unknown" }]);
        Assert.Equal(1, (await UseAsync(host, tenant)).VmsRunning);
    }

    [Fact]
    public async Task The_decision_is_on_disk_before_the_fleet_hears_of_it()
    {
        var host = gateway.Host;
        var tenant = await host.NewTenantAsync();
        host.Forget();
        var mine = host.Fleet.Add(tenant);
        var decided = new List<int>();
        host.Fleet.Backend.Answer = async request =>
        {
            if (!request.IsOwn)
                decided.Add(await IntentsAsync(host, tenant));
            return request.IsOwn ? BackendAnswer.Json(FakeFleet.ToJson(mine)) : NoCapacity;
        };
        try
        {
            await host.SendAsync("POST", "/v1/vms", host.Token(tenant, "input"), Create);
            await host.SendAsync("DELETE", $"/v1/vms/{mine.VmId}", host.Token(tenant, "input"));
        }
        finally
        {
            host.Fleet.Backend.Answer = host.Fleet.AnswerAsync;
        }

        Assert.Equal([1, 1], decided);
    }

    [Theory]
    [InlineData(204, true)]
    [InlineData(200, true)]
    [InlineData(409, false)]
    public async Task A_destroyed_vm_is_recorded_and_given_back_and_one_that_is_not_is_neither(int status, bool gone)
    {
        var host = gateway.Host;
        var tenant = await host.NewTenantAsync();
        host.Forget();
        Assert.Equal(201, (await host.SendAsync("POST", "/v1/vms", host.Token(tenant, "input"), Create)).Status);
        var vm = host.Fleet.Vms.Values.Single(vm => vm.TenantId == tenant);
        host.Fleet.Override = request => request is { IsOwn: false, Method: "DELETE" } ? BackendAnswer.Of([], status, null) : null;

        await host.SendAsync("DELETE", $"/v1/vms/{vm.VmId}", host.Token(tenant, "input"));

        Assert.Equal(gone ? 0 : 1, (await UseAsync(host, tenant)).VmsRunning);
        Assert.Equal(0, await IntentsAsync(host, tenant));
        await host.UntilAsync(() => host.Ledger.Events.Count(recorded => recorded.Log == tenant) >= (gone ? 2 : 1));
        Assert.Equal(gone ? [$"VM_CREATED:{vm.VmId}", $"VM_DESTROYED:{vm.VmId}"] : [$"VM_CREATED:{vm.VmId}"], host.Ledger.Events.Where(recorded => recorded.Log == tenant).Select(recorded => recorded.PayloadId));
    }

    [Fact]
    public async Task A_vm_that_the_fleet_destroyed_already_is_recorded_and_given_back()
    {
        var host = gateway.Host;
        var tenant = await host.NewTenantAsync();
        host.Forget();
        Assert.Equal(201, (await host.SendAsync("POST", "/v1/vms", host.Token(tenant, "input"), Create)).Status);
        var vm = host.Fleet.Vms.Values.Single(vm => vm.TenantId == tenant);
        Assert.Equal(200, (await host.GetAsync($"/v1/vms/{vm.VmId}", host.Token(tenant, "read"))).Status);
        // The owner is known by now; and while the list is away, nothing but the answer can settle anything.
        host.Fleet.Override = request => request is { IsOwn: true, Path: "/internal/v1/vms" } ? BackendAnswer.Json("{}", 500) : null;
        Assert.True(host.Fleet.Vms.TryRemove(vm.VmId, out _));

        var answer = await host.SendAsync("DELETE", $"/v1/vms/{vm.VmId}", host.Token(tenant, "input"));

        Assert.Equal((404, "not_found"), (answer.Status, answer.Code));
        Assert.Contains(host.Fleet.Backend.Forwarded, request => request.Method == "DELETE");
        Assert.Equal(0, (await UseAsync(host, tenant)).VmsRunning);
        Assert.Equal(0, await IntentsAsync(host, tenant));
        await host.UntilAsync(() => host.Ledger.Events.Count(recorded => recorded.Log == tenant) >= 2);
        Assert.Equal([$"VM_CREATED:{vm.VmId}", $"VM_DESTROYED:{vm.VmId}"], host.Ledger.Events.Where(recorded => recorded.Log == tenant).Select(recorded => recorded.PayloadId));
    }

    [Fact]
    public async Task A_quota_that_does_not_cover_a_create_is_told_in_numbers_and_recorded()
    {
        var host = gateway.Host;
        var tenant = await host.NewTenantAsync(tenant => tenant with { MaxVms = 0 });
        host.Forget();

        var answer = await host.SendAsync("POST", "/v1/vms", host.Token(tenant, "input"), Create);

        Assert.Equal((429, "quota_exceeded", "max_vms", 0, 0, 1), (answer.Status, answer.Code, answer.Json.GetProperty("quota").GetString(), answer.Json.GetProperty("limit").GetInt32(), answer.Json.GetProperty("used").GetInt32(), answer.Json.GetProperty("requested").GetInt32()));
        Assert.NotNull(answer["Retry-After"]);
        Assert.Empty(host.Fleet.Backend.Forwarded);
        await host.UntilAsync(() => host.Ledger.Events.Any(recorded => recorded.Log == tenant));
        Assert.Equal("QUOTA_EXCEEDED", Assert.Single(host.Ledger.Events, recorded => recorded.Log == tenant).Type);
    }

    internal static async Task<int> IntentsAsync(GatewayHost host, string tenant)
    {
        await using var connection = await host.Services.GetRequiredService<Database>().OpenConnectionAsync(TestContext.Current.CancellationToken);
        await using var count = connection.CreateCommand();
        count.CommandText = "SELECT COUNT(*) FROM intents WHERE tenant_id = @tenant";
        var parameter = count.CreateParameter();
        (parameter.ParameterName, parameter.Value) = ("@tenant", tenant);
        count.Parameters.Add(parameter);
        return (int)(long)(await count.ExecuteScalarAsync(TestContext.Current.CancellationToken))!;
    }

    private static async Task<UseStatus> UseAsync(GatewayHost host, string tenant)
    {
        var answer = await host.GetAsync("/v1/quota", host.Token(tenant, "read"));
        Assert.Equal(200, answer.Status);
        return JsonSerializer.Deserialize(answer.Body, WireJson.Default.UseStatus)!;
    }

    private static BackendAnswer Made(GatewayHost host, BackendRequest request, BackendAnswer said)
    {
        host.Fleet.Make(request);
        return said;
    }
}
