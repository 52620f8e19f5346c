using System.Net;
using System.Text.Json;
using Foundry.Contracts;
using Foundry.Storage;
using Microsoft.Extensions.DependencyInjection;

namespace Foundry.Fleet.Tests.Nodes;

public sealed class FirstHeartbeat
{
    [Theory]
    [MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task Enrols_the_node_and_is_recorded_in_its_tenants_log(string store)
    {
        await using var fleet = await FleetHost.StartAsync(store);
        var node = fleet.NodeOf(FleetHost.Acme);
        await fleet.BeatAsync(node, "compute-1");
        await fleet.BeatAsync(node, "compute-1");

        var (log, enrolled) = Assert.Single(await fleet.EventsAsync());
        Assert.Equal(FleetHost.Acme, log);
        Assert.Equal(EventTypes.NodeEnrolled, enrolled.EventType);
        Assert.Equal(FleetHost.Acme, enrolled.TenantId);
        Assert.Equal(node.SubjectPubkey, enrolled.Actor.SubjectPubkey);
        Assert.Equal("compute-1", enrolled.Others!["node_id"].GetString());
        var shown = Assert.Single((await fleet.GetAsync(fleet.Caller(FleetHost.Acme, "read"), "/v1/nodes?tenant_id=acme-corp")).Nodes());
        Assert.Equal(("compute-1", FleetHost.Acme, false, fleet.Time.GetUtcNow()), (shown.NodeId, shown.TenantId, shown.Stale, shown.LastSeen));
    }

    [Fact]
    public async Task Of_a_platform_node_makes_it_shared_and_is_recorded_in_the_platforms_log()
    {
        await using var fleet = await FleetHost.StartAsync();
        await fleet.BeatAsync(fleet.NodeOf(null), "shared-1");

        var (log, enrolled) = Assert.Single(await fleet.EventsAsync());
        Assert.Equal(Logs.Platform, log);
        Assert.Null(enrolled.TenantId);
        var shown = Assert.Single((await fleet.GetAsync(fleet.Caller(null, "service:platform-admin"), "/v1/nodes")).Nodes());
        Assert.Null(shown.TenantId);
    }

    [Fact]
    public async Task Takes_its_tenant_from_the_token_whatever_the_body_says()
    {
        await using var fleet = await FleetHost.StartAsync();
        var body = Wire.Heartbeat("compute-1").Replace("\"node_id\"", "\"tenant_id\":\"globex\",\"node_id\"", StringComparison.Ordinal);
        Assert.Equal(HttpStatusCode.OK, (await fleet.PostBeatAsync(fleet.NodeOf(FleetHost.Acme), body)).Status);
        Assert.Equal(FleetHost.Acme, Assert.Single(fleet.Registry.Current.Nodes).Key.TenantId);
    }

    [Fact]
    public async Task Is_refused_where_it_cannot_be_recorded()
    {
        await using var fleet = await FleetHost.StartAsync();
        await fleet.BeatAsync(fleet.NodeOf(FleetHost.Acme), "compute-1");
        await Outboxes.FillAsync(fleet);

        (await fleet.PostBeatAsync(fleet.NodeOf(FleetHost.Acme), Wire.Heartbeat("compute-2"))).Refuses(ErrorCode.RecordUnavailable);
        Assert.Single(fleet.Registry.Current.Nodes);
    }

    [Theory]
    [InlineData("read")]
    [InlineData("input")]
    [InlineData("service:tenant-admin")]
    public async Task Needs_a_nodes_token(string scope)
    {
        await using var fleet = await FleetHost.StartAsync();
        (await fleet.PostBeatAsync(fleet.Caller(FleetHost.Acme, scope), Wire.Heartbeat("compute-1"))).Refuses(ErrorCode.InsufficientScope);
        Assert.Empty(fleet.Registry.Current.Nodes);
    }
}

/// <summary>A key beats for one node, and a node belongs to one key; each row is (tenant, key, node, expected).</summary>
public sealed class NodeAndKey
{
    public static TheoryData<string?, int, string, bool> Second => new()
    {
        // After key 1 of acme-corp has enrolled "one":
        { FleetHost.Acme, 1, "one", true },
        { FleetHost.Acme, 1, "two", false },
        { FleetHost.Acme, 2, "one", false },
        { FleetHost.Acme, 2, "two", true },
        // Another tenant can neither learn of nor stand in the way of that one's names and keys.
        { FleetHost.Globex, 2, "one", true },
        { FleetHost.Globex, 1, "one", true },
        { FleetHost.Globex, 1, "two", true },
        { null, 1, "one", true },
    };

    [Theory]
    [MemberData(nameof(Second))]
    public async Task Belong_together_within_their_tenant(string? tenantId, int key, string nodeId, bool accepted)
    {
        await using var fleet = await FleetHost.StartAsync();
        var first = fleet.NodeOf(FleetHost.Acme);
        await fleet.BeatAsync(first, "one");

        var second = fleet.NodeOf(tenantId) with { SubjectPubkey = key == 1 ? first.SubjectPubkey : fleet.NodeOf(null).SubjectPubkey };
        var answer = await fleet.PostBeatAsync(second, Wire.Heartbeat(nodeId));
        if (accepted)
            Assert.Equal(HttpStatusCode.OK, answer.Status);
        else
            answer.Refuses(ErrorCode.NodeConflict);
    }

    [Theory]
    [MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task Come_apart_when_the_node_is_unbound_and_its_VMs_stay(string store)
    {
        await using var fleet = await FleetHost.StartAsync(store);
        await fleet.BeatAsync(fleet.NodeOf(FleetHost.Acme), "one");
        var vm = await fleet.CreatedAsync(fleet.Caller(FleetHost.Acme, "input"));
        var admin = fleet.Caller(FleetHost.Acme, "service:tenant-admin");

        Assert.Equal(HttpStatusCode.NoContent, (await fleet.SendAsync(admin, HttpMethod.Delete, "/v1/nodes/one")).Status);
        (await fleet.SendAsync(admin, HttpMethod.Delete, "/v1/nodes/one")).Refuses(ErrorCode.NotFound);
        Assert.Equal(vm.VmId, Assert.Single((await fleet.GetAsync(admin, "/v1/vms?tenant_id=acme-corp")).Vms()).VmId);

        // The machine comes back with a new key, and is told of its VM.
        var answer = await fleet.BeatAsync(fleet.NodeOf(FleetHost.Acme), "one");
        Assert.Equal(vm.VmId, Assert.Single(answer.AssignedVms).VmId);
    }

    [Theory]
    [InlineData(FleetHost.Acme, "input", "insufficient_scope")]
    [InlineData(FleetHost.Acme, "service:fleet-node", "insufficient_scope")]
    [InlineData(FleetHost.Globex, "service:tenant-admin", "not_found")]
    public async Task Are_parted_by_nobody_else(string tenantId, string scope, string code)
    {
        await using var fleet = await FleetHost.StartAsync();
        await fleet.BeatAsync(fleet.NodeOf(FleetHost.Acme), "one");
        (await fleet.SendAsync(fleet.Caller(tenantId, scope), HttpMethod.Delete, "/v1/nodes/one")).Refuses(ErrorCode.All[code]);
        Assert.Single(fleet.Registry.Current.Nodes);
    }

    [Fact]
    public async Task Are_named_with_their_tenant_where_two_tenants_use_the_name()
    {
        await using var fleet = await FleetHost.StartAsync();
        await fleet.BeatAsync(fleet.NodeOf(FleetHost.Acme), "one");
        await fleet.BeatAsync(fleet.NodeOf(FleetHost.Globex), "one");
        var admin = fleet.Caller(null, "service:platform-admin");

        (await fleet.GetAsync(admin, "/v1/nodes/one")).Refuses(ErrorCode.TenantRequired);
        Assert.Equal(FleetHost.Globex, (await fleet.GetAsync(admin, "/v1/nodes/one?tenant_id=globex")).Read(WireJson.Default.NodeRecord).TenantId);
        Assert.Equal(FleetHost.Acme, (await fleet.GetAsync(fleet.Caller(FleetHost.Acme, "read"), "/v1/nodes/one")).Read(WireJson.Default.NodeRecord).TenantId);
    }
}

public sealed class HeartbeatOutOfBounds
{
    private static readonly string Good = Wire.Heartbeat("n", 65536, true, false, Wire.Vm("vm-a", FleetHost.Acme));

    public static TheoryData<string, string, string> Bodies => new()
    {
        { "\"node_id\":\"n\"", "\"node_id\":null", "invalid_body" },
        { "\"node_id\":\"n\"", "\"node_id\":\"\"", "invalid_value" },
        { "\"node_id\":\"n\"", "\"node_id\":\"a/b\"", "invalid_value" },
        { "\"node_id\":\"n\"", $"\"node_id\":\"{new string('n', 257)}\"", "invalid_value" },
        { "\"node_id\":\"n\"", "\"node_id\":7", "invalid_body" },
        { "\"node_id\":\"n\"", "\"node_id\":\"n\",\"node_id\":\"m\"", "invalid_body" },
        { "\"node_id\":\"n\",", "", "invalid_body" },
        { "\"hostname\":\"n\"", $"\"hostname\":\"{new string('h', 257)}\"", "invalid_value" },
        { "\"hostname\":\"n\"", "\"hostname\":\"a\\u0000b\"", "invalid_value" },
        { "\"hostname\":\"n\"", "\"hostname\":\"\\ud800\"", "invalid_body" },
        { "\"wg_ip\":\"10.8.0.9\"", "\"wg_ip\":null", "invalid_body" },
        { "\"ram_total_mb\":65536", "\"ram_total_mb\":-1", "invalid_value" },
        { "\"ram_total_mb\":65536", "\"ram_total_mb\":9223372036854775807", "invalid_value" },
        { "\"ram_used_mb\":1024", "\"ram_used_mb\":-1", "invalid_value" },
        { "\"ram_used_mb\":1024", "\"ram_used_mb\":1e400", "invalid_body" },
        { "\"cpu_cores\":16", "\"cpu_cores\":-1", "invalid_value" },
        { "\"cpu_load_pct\":12.5", "\"cpu_load_pct\":-0.1", "invalid_value" },
        { "\"cpu_load_pct\":12.5", "\"cpu_load_pct\":1e308", "invalid_value" },
        { "\"cpu_load_pct\":12.5", "\"cpu_load_pct\":\"NaN\"", "invalid_body" },
        { "\"timestamp_utc\":\"2026-06-12T09:42:00.000000001Z\"", "\"timestamp_utc\":\"yesterday\"", "invalid_value" },
        { "\"timestamp_utc\":\"2026-06-12T09:42:00.000000001Z\"", "\"timestamp_utc\":\"2026-06-12T09:42:00.0000000012Z\"", "invalid_value" },
        { "\"vms\":[", "\"vms\":[null,", "invalid_value" },
        { "\"vm_id\":\"vm-a\"", "\"vm_id\":\"vm a\"", "invalid_value" },
        { "\"state\":\"Running\"", "\"state\":\"Dancing\"", "invalid_value" },
        { "\"ram_alloc_mb\":4096", "\"ram_alloc_mb\":16777217", "invalid_value" },
        { "\"vcpu_count\":2", "\"vcpu_count\":1025", "invalid_value" },
        { "\"host_ports\":[]", "\"host_ports\":[{\"host_port\":0,\"guest_port\":22,\"protocol\":\"tcp\"}]", "invalid_value" },
        { "\"host_ports\":[]", "\"host_ports\":[null]", "invalid_value" },
        { "\"tenant_id\":\"acme-corp\"", "\"tenant_id\":\"globex\"", "tenant_mismatch" },
        { "\"host_ports\":[]", "\"host_ports\":[],\"note\":\"\\ud800\"", "invalid_value" },
        { "\"host_ports\":[]", $"\"host_ports\":[],\"note\":{new string('[', 20)}{new string(']', 20)}", "invalid_value" },
        { "\"host_ports\":[]", $"\"host_ports\":[],\"note\":\"{new string('x', 20_000)}\"", "invalid_value" },
        { "\"host_ports\":[]", "\"host_ports\":[],\"Tenant_ID\":\"globex\"", "invalid_body" },
        { "\"host_ports\":[]", "\"host_ports\":[{\"host_port\":1,\"guest_port\":22,\"protocol\":\"tcp\",\"Host_Port\":2}]", "invalid_value" },
    };

    [Theory]
    [MemberData(nameof(Bodies))]
    public async Task Is_refused_and_changes_nothing(string good, string bad, string code)
    {
        await using var fleet = await FleetHost.StartAsync();
        Assert.Contains(good, Good, StringComparison.Ordinal);
        (await fleet.PostBeatAsync(fleet.NodeOf(FleetHost.Acme), Good.Replace(good, bad, StringComparison.Ordinal))).Refuses(ErrorCode.All[code]);
        Assert.Empty(fleet.Registry.Current.Nodes);
        Assert.Empty(fleet.Registry.Current.Vms);
    }

    [Fact]
    public async Task Is_refused_when_it_names_a_VM_twice_too_many_VMs_or_too_many_bytes()
    {
        await using var fleet = await FleetHost.StartAsync();
        var node = fleet.NodeOf(FleetHost.Acme);
        (await fleet.PostBeatAsync(node, Wire.Heartbeat("n", vms: [Wire.Vm("vm-a"), Wire.Vm("vm-a")]))).Refuses(ErrorCode.InvalidValue);
        (await fleet.PostBeatAsync(node, Wire.Heartbeat("n") + new string(' ', 1024 * 1024))).Refuses(ErrorCode.BodyTooLarge);
        var small = Enumerable.Range(0, 10_001).Select(at => $$"""{"vm_id":"{{at}}","vm_type":"V","state":"Error","ram_alloc_mb":0,"vcpu_count":0}""");
        (await fleet.PostBeatAsync(node, Wire.Heartbeat("n", vms: small))).Refuses(ErrorCode.InvalidValue);
        Assert.Empty(fleet.Registry.Current.Nodes);
    }
}

public sealed class ReportedVms
{
    [Theory]
    [MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task That_nobody_knows_are_adopted_and_given_back_byte_for_byte(string store)
    {
        await using var fleet = await FleetHost.StartAsync(store);
        var node = fleet.NodeOf(FleetHost.Acme);
        var vm = Wire.Vm("vmtotebox-1781000000", FleetHost.Acme, startedAt: "2026-06-12T09:41:07.123456789+02:00",
            ports: """[{"host_port":10022,"guest_port":22,"protocol":"tcp","label":"a+b"}]""", more: ""","x_made_up":{"deep":[1.50,"é<>&"]}""");
        await fleet.BeatAsync(node, "compute-1", vms: vm);

        var expected = vm[..^1].Replace(",\"x_made_up\"", ",\"node_id\":\"compute-1\",\"x_made_up\"", StringComparison.Ordinal) + "}";
        Assert.Equal($"[{expected}]", (await fleet.GetAsync(fleet.Caller(FleetHost.Acme, "read"), "/v1/vms")).Body);
        Assert.Equal(expected, (await fleet.GetAsync(fleet.Caller(FleetHost.Acme, "read"), "/v1/vms/vmtotebox-1781000000")).Body);
        Assert.Contains(expected, (await fleet.PostBeatAsync(node, Wire.Heartbeat("compute-1"))).Body, StringComparison.Ordinal);

        await fleet.StopAsync();
        await fleet.StartAgainAsync();
        Assert.Equal(expected, (await fleet.GetAsync(fleet.Caller(FleetHost.Acme, "read"), "/v1/vms/vmtotebox-1781000000")).Body);
    }

    [Fact]
    public async Task Of_the_samples_come_back_as_they_came()
    {
        await using var fleet = await FleetHost.StartAsync();
        var sample = Wire.Sample("vms.json");
        var shared = fleet.NodeOf(null);
        Assert.Equal(HttpStatusCode.OK, (await fleet.PostBeatAsync(shared, Wire.Heartbeat("shared-1", vms: sample[1..^1]))).Status);

        using var expected = JsonDocument.Parse(sample);
        using var vms = JsonDocument.Parse((await fleet.GetAsync(fleet.Caller(FleetHost.Acme, "read"), "/v1/vms")).Body);
        // A tenant is shown no name of a shared node, so here the fleet adds nothing at all.
        Assert.Equal(
            expected.RootElement.EnumerateArray().Select(vm => vm.GetRawText()).Order(StringComparer.Ordinal),
            vms.RootElement.EnumerateArray().Select(vm => vm.GetRawText()).Order(StringComparer.Ordinal));
    }

    [Fact]
    public async Task Of_the_heartbeat_sample_belong_to_its_tenant()
    {
        await using var fleet = await FleetHost.StartAsync();
        Assert.Equal(HttpStatusCode.OK, (await fleet.PostBeatAsync(fleet.NodeOf(FleetHost.Acme), Wire.Sample("heartbeat.json"))).Status);
        var vm = Assert.Single((await fleet.GetAsync(fleet.Caller(FleetHost.Acme, "read"), "/v1/vms?tenant_id=acme-corp")).Vms());
        Assert.Equal(("vmtotebox-1781000000", FleetHost.Acme, "compute-west-01", "2026-06-12T09:41:07.123456789Z"), (vm.VmId, vm.TenantId, vm.NodeId, vm.StartedAt));
    }

    [Fact]
    public async Task Without_a_tenant_are_the_tokens_tenants_and_of_a_shared_node_nobodys()
    {
        await using var fleet = await FleetHost.StartAsync();
        await fleet.BeatAsync(fleet.NodeOf(FleetHost.Acme), "own", vms: Wire.Vm("vm-own"));
        await fleet.BeatAsync(fleet.NodeOf(null), "shared", vms: [Wire.Vm("vm-globex", FleetHost.Globex), Wire.Vm("vm-direct")]);

        Assert.Equal(
            [("vm-direct", null), ("vm-globex", FleetHost.Globex), ("vm-own", FleetHost.Acme)],
            fleet.Registry.Current.Vms.Values.Select(vm => (vm.VmId, vm.TenantId)));
        foreach (var tenant in (string[])[FleetHost.Acme, FleetHost.Globex])
            (await fleet.GetAsync(fleet.Caller(tenant, "read"), "/v1/vms/vm-direct")).Refuses(ErrorCode.NotFound);
    }

    [Fact]
    public async Task Say_state_start_and_ports_and_nothing_else()
    {
        await using var fleet = await FleetHost.StartAsync();
        var node = fleet.NodeOf(FleetHost.Acme);
        await fleet.BeatAsync(node, "compute-1");
        var made = await fleet.CreatedAsync(fleet.Caller(FleetHost.Acme, "input"), Wire.Create(ramMb: 2048));

        await fleet.BeatAsync(node, "compute-1", vms: Wire.Vm(made.VmId, state: "Running", ports: """[{"host_port":10022,"guest_port":22,"protocol":"tcp"}]"""));
        var vm = (await fleet.GetAsync(fleet.Caller(FleetHost.Acme, "read"), $"/v1/vms/{made.VmId}")).Read(WireJson.Default.VmRecord);
        Assert.Equal(("Running", "2026-06-12T09:41:07.123456789Z", 10022), (vm.State, vm.StartedAt, Assert.Single(vm.HostPorts).Port));
        // The node's report says 4096 MiB; what was reserved stays what is counted.
        Assert.Equal((2048L, 2, 8L), (vm.RamAllocMb, vm.VcpuCount, vm.DiskGb!.Value));
    }

    [Fact]
    public async Task That_are_missing_free_nothing()
    {
        await using var fleet = await FleetHost.StartAsync();
        var node = fleet.NodeOf(FleetHost.Acme);
        await fleet.BeatAsync(node, "compute-1", vms: Wire.Vm("vm-a"));
        var answer = await fleet.BeatAsync(node, "compute-1");
        Assert.Equal("vm-a", Assert.Single(answer.AssignedVms).VmId);
        Assert.Equal(4096, Assert.Single((await fleet.GetAsync(fleet.Caller(FleetHost.Acme, "read"), "/v1/nodes")).Nodes()).RamAllocatedMb);
    }

    [Theory]
    [MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task That_were_given_to_another_or_destroyed_are_ignored_and_recorded_once(string store)
    {
        await using var fleet = await FleetHost.StartAsync(store);
        var (mine, theirs) = (fleet.NodeOf(FleetHost.Acme), fleet.NodeOf(FleetHost.Globex));
        await fleet.BeatAsync(mine, "mine");
        await fleet.BeatAsync(theirs, "theirs", vms: Wire.Vm("vm-theirs"));
        var gone = await fleet.CreatedAsync(fleet.Caller(FleetHost.Acme, "input"));
        Assert.Equal(HttpStatusCode.NoContent, (await fleet.SendAsync(fleet.Caller(FleetHost.Acme, "input"), HttpMethod.Delete, $"/v1/vms/{gone.VmId}")).Status);

        for (var restart = 0; restart < 2; restart++)
        {
            for (var beat = 0; beat < 3; beat++)
                Assert.Empty((await fleet.BeatAsync(mine, "mine", vms: [Wire.Vm(gone.VmId, state: "Running"), Wire.Vm("vm-theirs", state: "Stopped")])).AssignedVms);
            (await fleet.GetAsync(fleet.Caller(FleetHost.Acme, "read"), $"/v1/vms/{gone.VmId}")).Refuses(ErrorCode.NotFound);
            Assert.Equal("Running", (await fleet.GetAsync(fleet.Caller(FleetHost.Globex, "read"), "/v1/vms/vm-theirs")).Read(WireJson.Default.VmRecord).State);
            var recorded = (await fleet.EventsAsync()).Where(each => each.Event.EventType == EventTypes.AccessDenied).ToList();
            Assert.All(recorded, each => Assert.Equal(FleetHost.Acme, each.Log));
            Assert.Equal(new[] { gone.VmId, "vm-theirs" }.Order(StringComparer.Ordinal), recorded.Select(each => each.Event.Others!["vm_id"].GetString()!).Order(StringComparer.Ordinal));
            await fleet.StopAsync();
            await fleet.StartAgainAsync();
        }
    }

    [Fact]
    public async Task Of_a_shared_node_do_not_change_owners()
    {
        await using var fleet = await FleetHost.StartAsync();
        var shared = fleet.NodeOf(null);
        await fleet.BeatAsync(shared, "shared", vms: Wire.Vm("vm-a", FleetHost.Acme));
        await fleet.BeatAsync(shared, "shared", vms: Wire.Vm("vm-a", FleetHost.Globex, state: "Stopped"));
        Assert.Equal((FleetHost.Acme, "Running"), (fleet.Registry.Current.Vms["vm-a"].TenantId, fleet.Registry.Current.Vms["vm-a"].State));
    }

    [Fact]
    public async Task Cannot_claim_a_reservation()
    {
        await using var fleet = await FleetHost.StartAsync();
        await fleet.BeatAsync(fleet.NodeOf(FleetHost.Acme), "n", vms: Wire.Vm("vm-a", more: ",\"reservation_id\":\"r-1\",\"node_id\":\"elsewhere\""));
        var held = (await fleet.SendAsItselfAsync(fleet.Gateway, HttpMethod.Get, "/internal/v1/vms?tenant_id=acme-corp")).Read(WireJson.Default.HeldVms);
        var vm = Assert.Single(held.Vms);
        Assert.Null(vm.ReservationId);
        Assert.Equal("n", vm.NodeId);
    }
}

public sealed class UsualHeartbeat
{
    [Fact]
    public async Task Takes_no_turn_and_writes_nothing()
    {
        await using var fleet = await FleetHost.StartAsync();
        var node = fleet.NodeOf(FleetHost.Acme);
        await fleet.BeatAsync(node, "compute-1", vms: Wire.Vm("vm-a", more: ",\"uptime\":1"));
        var before = fleet.Registry.Current;
        await fleet.BeatAsync(node, "compute-1", vms: Wire.Vm("vm-a", more: ",\"uptime\":2"));
        // A turn that changed something would have published another state.
        Assert.Same(before, fleet.Registry.Current);
        Assert.Equal(2, (await fleet.GetAsync(fleet.Caller(FleetHost.Acme, "read"), "/v1/vms/vm-a")).Read(WireJson.Default.VmRecord).Others!["uptime"].GetInt32());
    }

    [Theory]
    [MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task Is_written_behind(string store)
    {
        await using var fleet = await FleetHost.StartAsync(store);
        var node = fleet.NodeOf(FleetHost.Acme);
        await fleet.BeatAsync(node, "compute-1", vms: Wire.Vm("vm-a", more: ",\"uptime\":1"));
        fleet.Time.Advance(TimeSpan.FromMilliseconds(500));
        await fleet.PostBeatAsync(node, Wire.Heartbeat("compute-1", vms: Wire.Vm("vm-a", more: ",\"uptime\":2")).Replace("12.5", "37.25", StringComparison.Ordinal));
        var seen = fleet.Time.GetUtcNow();
        await fleet.StopAsync();
        await fleet.StartAgainAsync();

        var shown = Assert.Single((await fleet.GetAsync(fleet.Caller(FleetHost.Acme, "read"), "/v1/nodes")).Nodes());
        Assert.Equal((37.25, 1024, seen), (shown.CpuLoadPct, shown.RamUsedMb, shown.LastSeen));
        Assert.Equal(2, (await fleet.GetAsync(fleet.Caller(FleetHost.Acme, "read"), "/v1/vms/vm-a")).Read(WireJson.Default.VmRecord).Others!["uptime"].GetInt32());
    }

    [Fact]
    public async Task Is_told_when_to_report_next()
    {
        await using var fleet = await FleetHost.StartAsync(Stores.Sqlite, ("Fleet:HeartbeatSeconds", "10"));
        var node = fleet.NodeOf(FleetHost.Acme);
        var intervals = new List<double>();
        for (var beat = 0; beat < 10; beat++)
            intervals.Add((await fleet.BeatAsync(node, "compute-1")).NextHeartbeatS);
        Assert.All(intervals, seconds => Assert.InRange(seconds, 8, 12));
        Assert.Equal(10, intervals.Distinct().Count());

        await fleet.CreatedAsync(fleet.Caller(FleetHost.Acme, "input"));
        Assert.InRange((await fleet.BeatAsync(node, "compute-1")).NextHeartbeatS, 1, 2);
        fleet.Time.Advance(TimeSpan.FromMinutes(3));
        Assert.InRange((await fleet.BeatAsync(node, "compute-1")).NextHeartbeatS, 8, 12);
    }
}

internal static class Outboxes
{
    /// <summary>Fills the outbox to its bound, in the store and in what was counted of it.</summary>
    public static async Task FillAsync(FleetHost fleet)
    {
        var outbox = fleet.Services.GetRequiredService<Outbox>();
        await outbox.Database.WriteAsync(async transaction =>
        {
            await using var command = transaction.Connection!.CreateCommand();
            command.Transaction = transaction;
            command.CommandText = $"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {Outbox.EventsMax}) INSERT INTO outbox (module_id, payload_id, payload) SELECT 'acme-corp', 'x' || i, '{{}}' FROM n";
            return await command.ExecuteNonQueryAsync();
        }, TestContext.Current.CancellationToken);
        while (outbox.HasRoom)
            outbox.Wake();
    }
}
