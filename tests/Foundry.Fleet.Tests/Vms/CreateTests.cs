using System.Net;
using Foundry.Contracts;
using Foundry.Fleet.Tests.Nodes;

namespace Foundry.Fleet.Tests.Vms;

public sealed class CreatedVm
{
    [Theory]
    [MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task Is_placed_for_the_callers_tenant_and_told_to_its_node(string store)
    {
        await using var fleet = await FleetHost.StartAsync(store);
        var node = fleet.NodeOf(FleetHost.Acme);
        await fleet.BeatAsync(node, "compute-1");

        var answer = await fleet.CreateAsync(fleet.Caller(FleetHost.Acme, "input"), Wire.Create(ramMb: 10_000, more: ",\"image\":\"alpine\""));
        Assert.Equal(HttpStatusCode.Created, answer.Status);
        var vm = answer.Read(WireJson.Default.VmRecord);
        Assert.Equal($"/v1/vms/{vm.VmId}", answer.Headers["Location"]);
        Assert.Matches("^vm-[0-9a-f]{32}$", vm.VmId);
        Assert.Equal(("VmTotebox", "Provisioning", 10_000L, 2, null, FleetHost.Acme, 10L, "compute-1", null), (vm.VmType, vm.State, vm.RamAllocMb, vm.VcpuCount, vm.StartedAt, vm.TenantId, vm.DiskGb, vm.NodeId, vm.ReservationId));
        Assert.Equal("alpine", vm.Others!["image"].GetString());

        await fleet.StopAsync();
        await fleet.StartAgainAsync();
        var assigned = Assert.Single((await fleet.BeatAsync(node, "compute-1")).AssignedVms);
        Assert.Equal((vm.VmId, "alpine", "Provisioning"), (assigned.VmId, assigned.Others!["image"].GetString(), assigned.State));
    }

    [Fact]
    public async Task Of_the_sample_is_the_platform_administrators_only_with_a_tenant()
    {
        await using var fleet = await FleetHost.StartAsync();
        await fleet.BeatAsync(fleet.NodeOf(FleetHost.Acme), "compute-1");
        var admin = fleet.Caller(null, "service:platform-admin");
        var sample = Wire.Sample("create-vm.json");

        Assert.Equal(FleetHost.Acme, (await fleet.CreatedAsync(fleet.Caller(FleetHost.Acme, "input"), sample)).TenantId);
        (await fleet.CreateAsync(admin, sample)).Refuses(ErrorCode.TenantRequired);
        Assert.Equal(FleetHost.Acme, (await fleet.CreatedAsync(admin, sample.Replace("\"tenant_id\":null", "\"tenant_id\":\"acme-corp\"", StringComparison.Ordinal))).TenantId);
        (await fleet.SendAsync(admin, HttpMethod.Post, "/v1/vms?tenant_id=globex", Wire.Create(more: ",\"tenant_id\":\"acme-corp\""))).Refuses(ErrorCode.TenantMismatch);
    }

    [Fact]
    public async Task On_a_shared_node_does_not_name_it_to_the_tenant()
    {
        await using var fleet = await FleetHost.StartAsync();
        await fleet.BeatAsync(fleet.NodeOf(null), "shared-1");
        var caller = fleet.Caller(FleetHost.Acme, "input");
        var vm = await fleet.CreatedAsync(caller);
        Assert.Null(vm.NodeId);
        Assert.Null(Assert.Single((await fleet.GetAsync(caller, "/v1/vms")).Vms()).NodeId);
        Assert.Equal("shared-1", (await fleet.GetAsync(fleet.Caller(null, "service:platform-admin"), $"/v1/vms/{vm.VmId}")).Read(WireJson.Default.VmRecord).NodeId);
    }

    [Fact]
    public async Task Is_its_tenants_alone_to_see_and_destroy()
    {
        await using var fleet = await FleetHost.StartAsync();
        await fleet.BeatAsync(fleet.NodeOf(FleetHost.Acme), "compute-1");
        var owner = fleet.Caller(FleetHost.Acme, "input");
        var other = fleet.Caller(FleetHost.Globex, "input");
        var vm = await fleet.CreatedAsync(owner);

        var foreign = await fleet.GetAsync(other, $"/v1/vms/{vm.VmId}");
        var absent = await fleet.GetAsync(other, "/v1/vms/vm-00000000000000000000000000000000");
        foreign.Refuses(ErrorCode.NotFound);
        // What is foreign and what never was look the same, but for the request's ID.
        Assert.Equal(WithoutId(absent), WithoutId(foreign));
        (await fleet.SendAsync(other, HttpMethod.Delete, $"/v1/vms/{vm.VmId}")).Refuses(ErrorCode.NotFound);
        Assert.Equal(HttpStatusCode.OK, (await fleet.GetAsync(owner, $"/v1/vms/{vm.VmId}")).Status);
        Assert.Equal(HttpStatusCode.OK, (await fleet.SendAsItselfAsync(fleet.Gateway, HttpMethod.Get, $"/v1/vms/{vm.VmId}")).Status);

        Assert.Equal(HttpStatusCode.NoContent, (await fleet.SendAsync(owner, HttpMethod.Delete, $"/v1/vms/{vm.VmId}")).Status);
        (await fleet.SendAsync(owner, HttpMethod.Delete, $"/v1/vms/{vm.VmId}")).Refuses(ErrorCode.NotFound);
        Assert.Equal("[]", (await fleet.GetAsync(owner, "/v1/vms")).Body);
    }

    [Fact]
    public async Task Is_listed_for_the_tenant_that_the_query_names_and_for_all_where_it_names_none()
    {
        await using var fleet = await FleetHost.StartAsync();
        await fleet.BeatAsync(fleet.NodeOf(null), "shared-1", vms: [Wire.Vm("vm-a", FleetHost.Acme), Wire.Vm("vm-g", FleetHost.Globex), Wire.Vm("vm-n")]);
        var caller = fleet.Caller(FleetHost.Acme, "read");
        Assert.Equal(["vm-a", "vm-g", "vm-n"], (await fleet.GetAsync(caller, "/v1/vms")).Vms().Select(vm => vm.VmId));
        Assert.Equal(["vm-a"], (await fleet.GetAsync(caller, "/v1/vms?tenant_id=acme-corp")).Vms().Select(vm => vm.VmId));
        Assert.Empty((await fleet.GetAsync(caller, "/v1/vms?tenant_id=acme")).Vms());
        (await fleet.GetAsync(caller, "/v1/vms?tenant_id=acme-corp&tenant_id=globex")).Refuses(ErrorCode.InvalidQuery);
        (await fleet.GetAsync(caller, "/v1/vms?tenant_id=")).Refuses(ErrorCode.InvalidQuery);
    }

    private static (HttpStatusCode, string, string) WithoutId(Answer answer) => (answer.Status,
        answer.Body.Replace(answer.Read(WireJson.Default.Problem).RequestId, "", StringComparison.Ordinal),
        string.Join('\n', answer.Headers.Where(header => header.Key is not ("Date" or FoundryHeaders.RequestId)).Select(header => $"{header.Key}: {header.Value}")));
}

public sealed class CreateOutOfBounds
{
    public static TheoryData<string, string> Bodies => new()
    {
        { """{"ram_mb":1,"vcpu_count":1}""", "invalid_value" },
        { """{"vm_type":"","ram_mb":1,"vcpu_count":1}""", "invalid_value" },
        { """{"vm_type":"1a","ram_mb":1,"vcpu_count":1}""", "invalid_value" },
        { $$"""{"vm_type":"{{new string('a', 65)}}","ram_mb":1,"vcpu_count":1}""", "invalid_value" },
        { """{"vm_type":"a/b","ram_mb":1,"vcpu_count":1}""", "invalid_value" },
        { """{"vm_type":"a\n","ram_mb":1,"vcpu_count":1}""", "invalid_value" },
        { """{"vm_type":"a","vcpu_count":1}""", "invalid_value" },
        { """{"vm_type":"a","ram_mb":0,"vcpu_count":1}""", "invalid_value" },
        { """{"vm_type":"a","ram_mb":-1,"vcpu_count":1}""", "invalid_value" },
        { """{"vm_type":"a","ram_mb":16777217,"vcpu_count":1}""", "invalid_value" },
        { """{"vm_type":"a","ram_mb":1.5,"vcpu_count":1}""", "invalid_body" },
        { """{"vm_type":"a","ram_mb":"1","vcpu_count":1}""", "invalid_body" },
        { """{"vm_type":"a","ram_mb":1}""", "invalid_value" },
        { """{"vm_type":"a","ram_mb":1,"vcpu_count":0}""", "invalid_value" },
        { """{"vm_type":"a","ram_mb":1,"vcpu_count":1025}""", "invalid_value" },
        { """{"vm_type":"a","ram_mb":1,"vcpu_count":1,"disk_gb":0}""", "invalid_value" },
        { """{"vm_type":"a","ram_mb":1,"vcpu_count":1,"disk_gb":1000001}""", "invalid_value" },
        { """{"vm_type":"a","ram_mb":1,"vcpu_count":1,"preferred_node":"a b"}""", "invalid_value" },
        { """{"vm_type":"a","ram_mb":1,"vcpu_count":1,"tenant_id":"globex"}""", "tenant_mismatch" },
        { """{"vm_type":"a","ram_mb":1,"vcpu_count":1,"Tenant_ID":"globex"}""", "invalid_body" },
        { """{"vm_type":"a","ram_mb":1,"vcpu_count":1,"ram_mb":2}""", "invalid_body" },
        // Members of a VM record that are not the caller's to say.
        { """{"vm_type":"a","ram_mb":1,"vcpu_count":1,"state":"Running"}""", "invalid_value" },
        { """{"vm_type":"a","ram_mb":1,"vcpu_count":1,"Vm_Id":"mine"}""", "invalid_value" },
        { """{"vm_type":"a","ram_mb":1,"vcpu_count":1,"reservation_id":"r"}""", "invalid_value" },
        { """{"vm_type":"a","ram_mb":1,"vcpu_count":1} {}""", "invalid_body" },
        { "null", "invalid_body" },
        { "[]", "invalid_body" },
        { "", "invalid_body" },
    };

    [Theory]
    [MemberData(nameof(Bodies))]
    public async Task Makes_nothing(string body, string code)
    {
        await using var fleet = await FleetHost.StartAsync();
        await fleet.BeatAsync(fleet.NodeOf(FleetHost.Acme), "compute-1");
        (await fleet.CreateAsync(fleet.Caller(FleetHost.Acme, "input"), body)).Refuses(ErrorCode.All[code]);
        Assert.Empty(fleet.Registry.Current.Vms);
    }

    [Fact]
    public async Task Is_not_within_them_at_the_very_edge()
    {
        await using var fleet = await FleetHost.StartAsync();
        await fleet.BeatAsync(fleet.NodeOf(FleetHost.Acme), "compute-1", ramMb: 16_777_216);
        var vm = await fleet.CreatedAsync(fleet.Caller(FleetHost.Acme, "input"), $$"""{"vm_type":"{{new string('a', 64)}}","ram_mb":16777216,"vcpu_count":1024,"disk_gb":1000000}""");
        Assert.Equal((16_777_216L, 1024, 1_000_000L), (vm.RamAllocMb, vm.VcpuCount, vm.DiskGb!.Value));
    }

    [Theory]
    [InlineData("X-Foundry-Reservation", "")]
    [InlineData("X-Foundry-Reservation", "r")]
    [InlineData("X-Foundry-Reservation", "r;epoch=1")]
    [InlineData("X-Foundry-Reservation", ";epoch=1;deadline=9999999999999")]
    [InlineData("X-Foundry-Reservation", "r;epoch=-1;deadline=9999999999999")]
    [InlineData("X-Foundry-Reservation", "r;epoch=+1;deadline=9999999999999")]
    [InlineData("X-Foundry-Reservation", "r;epoch=1;deadline=x")]
    [InlineData("X-Foundry-Reservation", "r;deadline=9999999999999;epoch=1")]
    [InlineData("X-Foundry-Reservation", "r;epoch=1;deadline=9999999999999;")]
    [InlineData("X-Foundry-Reservation", "r; epoch=1; deadline=9999999999999")]
    [InlineData("X-Foundry-Reservation", "r;epoch=9007199254740992;deadline=9999999999999")]
    [InlineData("X-Foundry-Reservation", "r;epoch=1;deadline=99999999999999999999")]
    [InlineData("Idempotency-Key", "")]
    [InlineData("Idempotency-Key", "a b")]
    public async Task Is_refused_for_its_headers(string name, string value)
    {
        await using var fleet = await FleetHost.StartAsync();
        await fleet.BeatAsync(fleet.NodeOf(FleetHost.Acme), "compute-1");
        (await fleet.CreateAsync(fleet.Caller(FleetHost.Acme, "input"), null, (name, value))).Refuses(ErrorCode.InvalidHeader);
        (await fleet.CreateAsync(fleet.Caller(FleetHost.Acme, "input"), null, ("Idempotency-Key", new string('k', 129)))).Refuses(ErrorCode.InvalidHeader);
        Assert.Empty(fleet.Registry.Current.Vms);
    }

    [Fact]
    public async Task Is_refused_where_nothing_can_be_recorded()
    {
        await using var fleet = await FleetHost.StartAsync();
        await fleet.BeatAsync(fleet.NodeOf(FleetHost.Acme), "compute-1");
        await Outboxes.FillAsync(fleet);
        (await fleet.CreateAsync(fleet.Caller(FleetHost.Acme, "input"))).Refuses(ErrorCode.RecordUnavailable);
    }
}

public sealed class Reservations
{
    [Theory]
    [MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task Make_one_VM_each_also_across_a_restart(string store)
    {
        await using var fleet = await FleetHost.StartAsync(store);
        await fleet.BeatAsync(fleet.NodeOf(FleetHost.Acme), "compute-1");
        var caller = fleet.Caller(FleetHost.Acme, "input");
        var reservation = ("X-Foundry-Reservation", fleet.Reservation("r-1", epoch: 0));

        var first = await fleet.CreatedAsync(caller, null, reservation);
        Assert.Equal(first.VmId, (await fleet.CreatedAsync(caller, null, reservation)).VmId);
        await fleet.StopAsync();
        await fleet.StartAgainAsync();
        Assert.Equal(first.VmId, (await fleet.CreatedAsync(caller, null, reservation)).VmId);
        // Another tenant's reservation of the same name is another one.
        (await fleet.CreateAsync(fleet.Caller(FleetHost.Globex, "input"), null, reservation)).Refuses(ErrorCode.NoCapacity);

        Assert.Equal(HttpStatusCode.NoContent, (await fleet.SendAsync(caller, HttpMethod.Delete, $"/v1/vms/{first.VmId}")).Status);
        (await fleet.CreateAsync(caller, null, reservation)).Refuses(ErrorCode.StaleReservation);
        await fleet.StopAsync();
        await fleet.StartAgainAsync();
        (await fleet.CreateAsync(caller, null, reservation)).Refuses(ErrorCode.StaleReservation);
    }

    [Fact]
    public async Task Are_good_until_their_deadline_on_the_fleets_clock()
    {
        await using var fleet = await FleetHost.StartAsync();
        await fleet.BeatAsync(fleet.NodeOf(FleetHost.Acme), "compute-1");
        var caller = fleet.Caller(FleetHost.Acme, "input");
        var (early, late) = (fleet.Reservation("early", goodForMs: 1_000), fleet.Reservation("late", goodForMs: 1_000));
        fleet.Time.Advance(TimeSpan.FromMilliseconds(999));
        await fleet.CreatedAsync(caller, null, ("X-Foundry-Reservation", early));
        fleet.Time.Advance(TimeSpan.FromMilliseconds(1));
        (await fleet.CreateAsync(caller, null, ("X-Foundry-Reservation", late))).Refuses(ErrorCode.StaleReservation);
        // The VM that was made in time is still the answer to a repeat.
        await fleet.CreatedAsync(caller, null, ("X-Foundry-Reservation", early));
    }

    [Theory]
    [MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task Of_an_older_epoch_are_refused_also_after_a_restart(string store)
    {
        await using var fleet = await FleetHost.StartAsync(store);
        await fleet.BeatAsync(fleet.NodeOf(FleetHost.Acme), "compute-1");
        var caller = fleet.Caller(FleetHost.Acme, "input");
        Assert.Equal(1, (await fleet.BeginEpochAsync(FleetHost.Acme)).Epoch);
        var vm = await fleet.CreatedAsync(caller, null, ("X-Foundry-Reservation", fleet.Reservation("r-1", epoch: 1)));

        var held = await fleet.BeginEpochAsync(FleetHost.Acme);
        Assert.Equal((1, 2L, fleet.Time.GetUtcNow().ToUnixTimeMilliseconds()), (held.V, held.Epoch, held.FleetTime));
        Assert.Equal((vm.VmId, "r-1"), (Assert.Single(held.Vms).VmId, held.Vms[0].ReservationId));
        (await fleet.CreateAsync(caller, null, ("X-Foundry-Reservation", fleet.Reservation("r-2", epoch: 1)))).Refuses(ErrorCode.StaleReservation);
        await fleet.StopAsync();
        await fleet.StartAgainAsync();
        (await fleet.CreateAsync(caller, null, ("X-Foundry-Reservation", fleet.Reservation("r-2", epoch: 1)))).Refuses(ErrorCode.StaleReservation);
        await fleet.CreatedAsync(caller, null, ("X-Foundry-Reservation", fleet.Reservation("r-3", epoch: 2)));
        // Each tenant has epochs of its own.
        Assert.Equal(1, (await fleet.BeginEpochAsync(FleetHost.Globex)).Epoch);
    }

    [Fact]
    public async Task Of_a_newer_epoch_than_the_registry_knows_raise_it()
    {
        await using var fleet = await FleetHost.StartAsync();
        await fleet.BeatAsync(fleet.NodeOf(FleetHost.Acme), "compute-1");
        await fleet.CreatedAsync(fleet.Caller(FleetHost.Acme, "input"), null, ("X-Foundry-Reservation", fleet.Reservation("r-1", epoch: 7)));
        Assert.Equal(8, (await fleet.BeginEpochAsync(FleetHost.Acme)).Epoch);
    }

    [Fact]
    public async Task Are_shown_to_gateways_and_issuance_alone()
    {
        await using var fleet = await FleetHost.StartAsync();
        await fleet.BeatAsync(fleet.NodeOf(FleetHost.Acme), "compute-1");
        var caller = fleet.Caller(FleetHost.Acme, "input");
        var answer = await fleet.CreateAsync(caller, null, ("X-Foundry-Reservation", fleet.Reservation("r-1")));
        Assert.DoesNotContain("r-1", answer.Body, StringComparison.Ordinal);
        Assert.DoesNotContain("r-1", (await fleet.GetAsync(caller, "/v1/vms")).Body, StringComparison.Ordinal);

        foreach (var (part, query) in ((Foundry.Testing.GatewayCaller, string)[])[(fleet.Gateway, "?tenant_id=acme-corp"), (fleet.Issuance, "?tenant_id=acme-corp"), (fleet.Gateway, ""), (fleet.Issuance, "")])
            Assert.Equal("r-1", Assert.Single((await fleet.SendAsItselfAsync(part, HttpMethod.Get, "/internal/v1/vms" + query)).Read(WireJson.Default.HeldVms).Vms).ReservationId);
        const string epoch = """{"v":1,"tenant_id":"acme-corp"}""";
        (await fleet.SendAsItselfAsync(fleet.Issuance, HttpMethod.Post, "/internal/v1/epochs", epoch)).Refuses(ErrorCode.InsufficientScope);
        foreach (var scope in (string[])["input", "service:tenant-admin", "service:platform-admin"])
        {
            var outsider = fleet.Caller(scope == "service:platform-admin" ? null : FleetHost.Acme, scope);
            (await fleet.GetAsync(outsider, "/internal/v1/vms")).Refuses(ErrorCode.InsufficientScope);
            (await fleet.SendAsync(outsider, HttpMethod.Post, "/internal/v1/epochs", epoch)).Refuses(ErrorCode.InsufficientScope);
        }
        Assert.Empty(fleet.Registry.Current.Epochs);
    }

    [Theory]
    [InlineData("""{"v":2,"tenant_id":"acme-corp"}""", "invalid_value")]
    [InlineData("""{"v":1,"tenant_id":"A"}""", "invalid_value")]
    [InlineData("""{"v":1,"tenant_id":null}""", "invalid_body")]
    [InlineData("""{"v":1,"tenant_id":"acme-corp","more":1}""", "invalid_body")]
    public async Task Are_ended_only_by_an_epoch_that_is_one(string body, string code)
    {
        await using var fleet = await FleetHost.StartAsync();
        (await fleet.SendAsItselfAsync(fleet.Gateway, HttpMethod.Post, "/internal/v1/epochs", body)).Refuses(ErrorCode.All[code]);
    }

    /// <summary>
    /// The property that quotas stand on: whatever the interleaving, each reservation of the old epoch is either in the
    /// epoch's answer or never becomes a VM.
    /// </summary>
    [Theory]
    [MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task Are_each_before_an_epoch_or_never(string store)
    {
        await using var fleet = await FleetHost.StartAsync(store);
        await fleet.BeatAsync(fleet.NodeOf(FleetHost.Acme), "compute-1", ramMb: 1_000_000);
        var caller = fleet.Caller(FleetHost.Acme, "input");
        var old = (await fleet.BeginEpochAsync(FleetHost.Acme)).Epoch;

        var creates = new List<Task<Answer>>();
        Task<HeldVms>? begun = null;
        for (var at = 0; at < 200; at++)
        {
            creates.Add(fleet.CreateAsync(caller, Wire.Create(ramMb: 64), ("X-Foundry-Reservation", fleet.Reservation($"r-{at}", old))));
            if (at == 100)
                begun = fleet.BeginEpochAsync(FleetHost.Acme);
        }
        var answers = await Task.WhenAll(creates);
        var held = (await begun!).Vms.Select(vm => vm.ReservationId!).ToHashSet(StringComparer.Ordinal);

        for (var at = 0; at < answers.Length; at++)
        {
            if (held.Contains($"r-{at}"))
                Assert.Equal(HttpStatusCode.Created, answers[at].Status);
            else
                answers[at].Refuses(ErrorCode.StaleReservation);
        }
        var now = (await fleet.SendAsItselfAsync(fleet.Gateway, HttpMethod.Get, "/internal/v1/vms?tenant_id=acme-corp")).Read(WireJson.Default.HeldVms);
        Assert.Equal(held.Order(StringComparer.Ordinal), now.Vms.Select(vm => vm.ReservationId!).Order(StringComparer.Ordinal));
    }
}

public sealed class IdempotencyKeys
{
    [Theory]
    [MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task Make_one_VM_each_for_a_day(string store)
    {
        await using var fleet = await FleetHost.StartAsync(store);
        var node = fleet.NodeOf(FleetHost.Acme);
        await fleet.BeatAsync(node, "compute-1");
        var caller = fleet.Caller(FleetHost.Acme, "input");
        var key = ("Idempotency-Key", "key-1");

        var first = await fleet.CreateAsync(caller, null, key, ("X-Foundry-Reservation", fleet.Reservation("r-1")));
        Assert.DoesNotContain("Idempotency-Replayed", first.Headers.Keys);
        var vmId = first.Read(WireJson.Default.VmRecord).VmId;
        for (var restart = 0; restart < 2; restart++)
        {
            var repeat = await fleet.CreateAsync(caller, null, key, ("X-Foundry-Reservation", fleet.Reservation("r-2")));
            Assert.Equal((HttpStatusCode.Created, vmId, "true"), (repeat.Status, repeat.Read(WireJson.Default.VmRecord).VmId, repeat.Headers["Idempotency-Replayed"]));
            (await fleet.CreateAsync(caller, Wire.Create(ramMb: 1), key)).Refuses(ErrorCode.IdempotencyKeyReused);
            await fleet.StopAsync();
            await fleet.StartAgainAsync();
        }
        // A key is its tenant's and its subject's: others have their own of the same name.
        Assert.NotEqual(vmId, (await fleet.CreatedAsync(fleet.Caller(FleetHost.Acme, "input"), null, key)).VmId);

        // Neither a destroyed VM nor a restart makes a repeat a new request …
        await fleet.SendAsync(caller, HttpMethod.Delete, $"/v1/vms/{vmId}");
        await fleet.StopAsync();
        await fleet.StartAgainAsync();
        Assert.Equal(vmId, (await fleet.CreatedAsync(caller, null, key)).VmId);
        (await fleet.GetAsync(caller, $"/v1/vms/{vmId}")).Refuses(ErrorCode.NotFound);

        // … but a day does.
        fleet.Time.Advance(TimeSpan.FromHours(24));
        await fleet.BeatAsync(node, "compute-1");
        Assert.NotEqual(vmId, (await fleet.CreatedAsync(caller, null, key)).VmId);
    }

    [Fact]
    public async Task Make_one_VM_for_many_at_once()
    {
        await using var fleet = await FleetHost.StartAsync();
        await fleet.BeatAsync(fleet.NodeOf(FleetHost.Acme), "compute-1");
        var caller = fleet.Caller(FleetHost.Acme, "input");
        var answers = await Task.WhenAll(Enumerable.Range(0, 50).Select(at => fleet.CreatedAsync(caller, null, ("Idempotency-Key", "key-1"), ("X-Foundry-Reservation", fleet.Reservation($"r-{at}")))));
        Assert.Single(answers.Select(vm => vm.VmId).Distinct());
        Assert.Single(fleet.Registry.Current.Vms);
    }
}
