using Foundry.Testing;

namespace Foundry.Gateway.Tests.Authorize;

/// <summary>What is foreign and what never existed are the same thing to a tenant (CONTRACT section 4).</summary>
public sealed class OwnershipTests(OrdinaryGateway gateway) : IClassFixture<OrdinaryGateway>
{
    [Theory]
    [InlineData("GET", "vms", "read")]
    [InlineData("DELETE", "vms", "input")]
    [InlineData("GET", "nodes", "read")]
    [InlineData("DELETE", "nodes", "service:tenant-admin")]
    public async Task A_foreign_object_and_none_at_all_get_the_same_bytes_and_the_backend_hears_of_neither(string method, string kind, string scope)
    {
        var host = Fresh();
        host.Fleet.Add(host.AcmeTwin, "foreign");
        host.Fleet.Add(null, "nobodys");
        host.Fleet.Nodes[(host.AcmeTwin, "foreign")] = $$"""{"node_id":"foreign","tenant_id":"{{host.AcmeTwin}}"}""";
        host.Fleet.Nodes[(null, "nobodys")] = """{"node_id":"nobodys","tenant_id":null}""";

        var absent = await host.SendAsync(method, $"/v1/{kind}/absents", host.Token(scope));
        Assert.Equal((404, "not_found"), (absent.Status, absent.Code));
        foreach (var id in new[] { "foreign", "nobodys", "foreign" })
            TenantClaimsTests.AssertSame(absent, await host.SendAsync(method, $"/v1/{kind}/{id}", host.Token(scope)));
        Assert.Empty(host.Fleet.Backend.Forwarded);
        Assert.True(host.Fleet.Vms.ContainsKey("foreign"));
    }

    [Fact]
    public async Task An_object_that_goes_between_the_question_and_the_request_is_not_found_in_the_same_bytes()
    {
        var host = Fresh();
        var absent = await host.GetAsync("/v1/vms/absent", host.Token("read"));
        host.Fleet.Add(host.Acme, "fleeting");
        host.Fleet.Override = request => request.IsOwn ? null : BackendAnswer.Json("""{"detail":"gone from 10.0.0.7"}""", 404, ("X-Inner", "10.0.0.7"));

        TenantClaimsTests.AssertSame(absent, await host.GetAsync("/v1/vms/fleeting", host.Token("read")));
    }

    [Fact]
    public async Task An_own_object_is_shown_to_every_spelling_of_nobody_else()
    {
        var host = Fresh();
        var mine = host.Fleet.Add(host.AcmeTwin);
        Assert.Equal(404, (await host.GetAsync($"/v1/vms/{mine.VmId}", host.Token("read"))).Status);
        Assert.Equal(200, (await host.GetAsync($"/v1/vms/{mine.VmId}", host.Token(host.AcmeTwin, "read"))).Status);
        Assert.Equal(404, (await host.GetAsync($"/v1/vms/{mine.VmId}", host.Token("read"))).Status);
    }

    [Theory]
    [InlineData("[]")]
    [InlineData("{}")]
    [InlineData("null")]
    [InlineData("""{"tenant_id":null}""")]
    [InlineData("""{"tenant_id":["ACME"]}""")]
    [InlineData("""{"Tenant_Id":"ACME"}""")]
    [InlineData("""{"tenant_id":"ACME "}""")]
    public async Task An_owner_that_is_not_plainly_the_caller_is_not_the_caller(string shown)
    {
        var host = Fresh();
        host.Fleet.Override = request => request.IsOwn && request.Path.StartsWith("/v1/", StringComparison.Ordinal) ? BackendAnswer.Json(shown.Replace("ACME", host.Acme, StringComparison.Ordinal)) : null;

        Assert.Equal(404, (await host.GetAsync("/v1/vms/any", host.Token("read"))).Status);
        Assert.Empty(host.Fleet.Backend.Forwarded);
    }

    [Theory]
    [InlineData("""{"tenant_id":"ACME","tenant_id":"ACME"}""", 200)]
    [InlineData("not json", 200)]
    [InlineData("{}", 500)]
    [InlineData("{}", 302)]
    public async Task An_owner_that_cannot_be_learnt_is_a_backends_fault_and_nobodys_object(string shown, int status)
    {
        var host = Fresh();
        host.Fleet.Override = request => request.IsOwn && request.Path.StartsWith("/v1/", StringComparison.Ordinal) ? BackendAnswer.Json(shown.Replace("ACME", host.Acme, StringComparison.Ordinal), status) : null;

        var answer = await host.SendAsync("DELETE", "/v1/vms/other", host.Token("input"));

        Assert.Equal((502, "backend_unavailable"), (answer.Status, answer.Code));
        Assert.Empty(host.Fleet.Backend.Forwarded);
    }

    [Fact]
    public async Task A_node_name_that_two_tenants_use_is_each_ones_own_node()
    {
        var host = Fresh();
        foreach (var tenant in new[] { host.Acme, host.AcmeTwin })
            host.Fleet.Nodes[(tenant, "node-1")] = $$"""{"node_id":"node-1","tenant_id":"{{tenant}}"}""";

        foreach (var tenant in new[] { host.Acme, host.AcmeTwin })
        {
            var answer = await host.GetAsync("/v1/nodes/node-1", host.Token(tenant, "read"));
            Assert.Equal((200, tenant), (answer.Status, answer.Json.GetProperty("tenant_id").GetString()));
        }
    }

    [Fact]
    public async Task A_platform_read_across_tenants_is_recorded_before_it_is_answered()
    {
        var host = Fresh();
        host.Fleet.Add(host.Acme, "seen");

        Assert.Equal(200, (await host.GetAsync($"/v1/vms?tenant_id={host.Acme}", host.PlatformToken())).Status);
        Assert.Equal(200, (await host.GetAsync("/v1/vms/seen", host.PlatformToken())).Status);

        var events = await host.RecordedAsync("CROSS_TENANT_READ", 3);
        Assert.Equal([host.Acme, "foundry.platform", "foundry.platform"], events.Select(recorded => recorded.Log).Order(StringComparer.Ordinal));
        Assert.All(events, recorded => Assert.Equal("service:platform-admin", recorded.Payload.GetProperty("actor").GetProperty("scope").GetString()));
    }

    [Fact]
    public async Task A_read_within_the_tenant_is_not_one_across_tenants()
    {
        var host = Fresh();
        host.Fleet.Add(host.Acme, "mine");
        Assert.Equal(200, (await host.GetAsync("/v1/vms/mine", host.Token("read"))).Status);
        Assert.Equal(200, (await host.GetAsync("/v1/vms", host.PlatformToken())).Status);

        await host.RecordedAsync("CROSS_TENANT_READ");
        Assert.Single(host.Ledger.Events, recorded => recorded.Type == "CROSS_TENANT_READ");
    }

    [Theory]
    [InlineData("own", 1)]
    [InlineData("foreign", 2)]
    [InlineData("absent", 2)]
    public async Task Only_the_askers_own_is_remembered_so_that_a_foreign_object_is_refused_no_faster_than_none(string whose, int lookups)
    {
        var host = Fresh();
        var id = $"{whose}-{Guid.NewGuid():N}";
        if (whose != "absent")
            host.Fleet.Add(whose == "own" ? host.Acme : host.AcmeTwin, id);

        for (var i = 0; i < 2; i++)
            Assert.Equal(whose == "own" ? 200 : 404, (await host.GetAsync($"/v1/vms/{id}", host.Token("read"))).Status);

        Assert.Equal(lookups, host.Fleet.Backend.Requests.Count(request => request.IsOwn && request.Path == $"/v1/vms/{id}"));
    }

    private GatewayHost Fresh()
    {
        gateway.Host.Forget();
        return gateway.Host;
    }
}
