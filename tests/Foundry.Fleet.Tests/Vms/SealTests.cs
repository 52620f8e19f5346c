using System.Net;
using Foundry.Contracts;

namespace Foundry.Fleet.Tests.Vms;

public sealed class SealedTenant
{
    [Theory]
    [MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task Gets_no_vm_until_the_seal_ends_also_over_a_restart(string store)
    {
        await using var fleet = await FleetHost.StartAsync(store);
        var node = fleet.NodeOf(null);
        await fleet.BeatAsync(node, "shared-1");
        var caller = fleet.Caller(FleetHost.Acme, "input");
        var vm = await fleet.CreatedAsync(caller, null, ("X-Foundry-Reservation", fleet.Reservation("first")));

        var held = (await SealAsync(fleet, seconds: 30)).Read(WireJson.Default.HeldVms);

        Assert.Equal(vm.VmId, Assert.Single(held.Vms).VmId);
        (await fleet.CreateAsync(caller)).Refuses(ErrorCode.TenantDeleting);
        // A repeat makes nothing, so it is answered.
        Assert.Equal(vm.VmId, (await fleet.CreatedAsync(caller, null, ("X-Foundry-Reservation", fleet.Reservation("first")))).VmId);
        Assert.Equal(FleetHost.Globex, (await fleet.CreatedAsync(fleet.Caller(FleetHost.Globex, "input"))).TenantId);
        await fleet.StopAsync();
        fleet.Time.Advance(TimeSpan.FromMilliseconds(29_999));
        await fleet.StartAgainAsync();
        await fleet.BeatAsync(node, "shared-1");
        (await fleet.CreateAsync(caller)).Refuses(ErrorCode.TenantDeleting);
        Assert.Equal(HttpStatusCode.NoContent, (await fleet.SendAsync(caller, HttpMethod.Delete, $"/v1/vms/{vm.VmId}")).Status);
        fleet.Time.Advance(TimeSpan.FromMilliseconds(1));
        Assert.Equal(FleetHost.Acme, (await fleet.CreatedAsync(caller)).TenantId);
    }

    [Theory]
    [MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task Is_free_again_when_the_seal_is_taken_off(string store)
    {
        await using var fleet = await FleetHost.StartAsync(store);
        var node = fleet.NodeOf(null);
        await fleet.BeatAsync(node, "shared-1");
        var caller = fleet.Caller(FleetHost.Acme, "input");
        Assert.Equal(HttpStatusCode.OK, (await SealAsync(fleet, seconds: 86_400)).Status);
        (await fleet.CreateAsync(caller)).Refuses(ErrorCode.TenantDeleting);
        Assert.Equal(HttpStatusCode.OK, (await SealAsync(fleet, seconds: 0)).Status);
        await fleet.CreatedAsync(caller);
        await fleet.StopAsync();
        await fleet.StartAgainAsync();
        await fleet.BeatAsync(node, "shared-1");
        await fleet.CreatedAsync(caller);
    }

    [Fact]
    public async Task Is_complete_in_the_answer_whatever_creates_come_at_once()
    {
        await using var fleet = await FleetHost.StartAsync();
        await fleet.BeatAsync(fleet.NodeOf(null), "shared-1", ramMb: 1_000_000);
        var caller = fleet.Caller(FleetHost.Acme, "input");
        var creates = Enumerable.Range(0, 20).Select(_ => fleet.CreateAsync(caller)).ToList();
        var held = (await SealAsync(fleet, seconds: 30)).Read(WireJson.Default.HeldVms);
        var made = (await Task.WhenAll(creates)).Where(answer => answer.Status == HttpStatusCode.Created).Select(answer => answer.Read(WireJson.Default.VmRecord).VmId);
        Assert.Equal(held.Vms.Select(vm => vm.VmId).Order(StringComparer.Ordinal), made.Order(StringComparer.Ordinal));
    }

    [Fact]
    public async Task Is_sealed_by_issuance_alone()
    {
        await using var fleet = await FleetHost.StartAsync();
        const string seal = """{"v":1,"tenant_id":"acme-corp","seconds":30}""";
        (await fleet.SendAsItselfAsync(fleet.Gateway, HttpMethod.Post, "/internal/v1/seals", seal)).Refuses(ErrorCode.InsufficientScope);
        foreach (var caller in new[] { fleet.Caller(null, "service:platform-admin"), fleet.Caller(FleetHost.Acme, "service:tenant-admin"), fleet.NodeOf(null) })
            (await fleet.SendAsync(caller, HttpMethod.Post, "/internal/v1/seals", seal)).Refuses(ErrorCode.InsufficientScope);
        Assert.Empty(fleet.Registry.Current.Seals);
    }

    [Theory]
    [InlineData("""{"v":2,"tenant_id":"acme-corp","seconds":30}""", "invalid_value")]
    [InlineData("""{"v":1,"tenant_id":"Acme","seconds":30}""", "invalid_value")]
    [InlineData("""{"v":1,"tenant_id":"acme-corp","seconds":-1}""", "invalid_value")]
    [InlineData("""{"v":1,"tenant_id":"acme-corp","seconds":86401}""", "invalid_value")]
    [InlineData("""{"v":1,"tenant_id":"acme-corp","seconds":1.5}""", "invalid_body")]
    [InlineData("""{"v":1,"tenant_id":"acme-corp","seconds":1,"force":true}""", "invalid_body")]
    public async Task Is_asked_for_precisely(string body, string code)
    {
        await using var fleet = await FleetHost.StartAsync();
        (await fleet.SendAsItselfAsync(fleet.Issuance, HttpMethod.Post, "/internal/v1/seals", body)).Refuses(ErrorCode.All[code]);
    }

    [Fact]
    public async Task Is_forgotten_when_its_seal_has_ended()
    {
        await using var fleet = await FleetHost.StartAsync();
        await SealAsync(fleet, seconds: 30);
        fleet.Time.Advance(TimeSpan.FromSeconds(30));
        Assert.Empty(fleet.Registry.Current.Forget(fleet.Time.GetUtcNow().ToUnixTimeMilliseconds()).Seals);
    }

    private static Task<Answer> SealAsync(FleetHost fleet, long seconds) =>
        fleet.SendAsItselfAsync(fleet.Issuance, HttpMethod.Post, "/internal/v1/seals", $$"""{"v":1,"tenant_id":"acme-corp","seconds":{{seconds}}}""");
}
