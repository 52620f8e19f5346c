using System.Text.Json;
using Foundry.Gateway.Config;
using Microsoft.Extensions.DependencyInjection;

namespace Foundry.Gateway.Tests.Authorize;

/// <summary>
/// Who may use what, written down here by hand (CONTRACT section 2) and held against every route that ships: a route that is not
/// in the table, or opens to anybody else, fails.
/// </summary>
public sealed class ScopeTests(OrdinaryGateway gateway) : IClassFixture<OrdinaryGateway>
{
    private const string Readers = "read user input service:tenant-admin service:platform-admin";
    private const string Makers = "input service:tenant-admin service:platform-admin";
    private const string Admins = "service:tenant-admin service:platform-admin";
    private const string Platform = "service:platform-admin";
    private const string Everybody = "read user input service:tenant-admin service:platform-admin service:fleet-node service:other";
    private static readonly string[] Scopes = Everybody.Split(' ');

    /// <summary>Method and path, with ACME for the caller's tenant and OWN for its VM or node; then who may.</summary>
    private static readonly (string RouteId, string Method, string Target, string Who)[] Table =
    [
        ("heartbeat", "POST", "/v1/nodes/heartbeat", "service:fleet-node"),
        ("vms-list", "GET", "/v1/vms", Readers),
        ("vms-create", "POST", "/v1/vms", Makers),
        ("vms-show", "GET", "/v1/vms/OWN", Readers),
        ("vms-delete", "DELETE", "/v1/vms/OWN", Makers),
        ("nodes-list", "GET", "/v1/nodes", Readers),
        ("nodes-show", "GET", "/v1/nodes/OWN", Readers),
        ("nodes-unbind", "DELETE", "/v1/nodes/OWN", Admins),
        ("fleet-status", "GET", "/v1/fleet", Readers),
        ("placement", "GET", "/v1/placement", Readers),
        ("tenants", "GET", "/v1/tenants", Platform),
        ("tenants", "POST", "/v1/tenants", Platform),
        ("tenant-show", "GET", "/v1/tenants/ACME", Admins),
        ("tenant-change", "PATCH", "/v1/tenants/ACME", Platform),
        ("tenant-change", "DELETE", "/v1/tenants/ACME", Platform),
        ("tenant-tokens", "GET", "/v1/tenants/ACME/tokens", Admins),
        ("tenant-tokens", "POST", "/v1/tenants/ACME/tokens", Admins),
        ("tokens", "POST", "/v1/tokens", Admins),
        ("token", "GET", "/v1/tokens/some-token", Admins),
        ("token", "DELETE", "/v1/tokens/some-token", Admins),
        ("keys", "GET", "/v1/keys", Platform),
        ("keys-rotate", "POST", "/v1/keys/rotate", Platform),
        ("ledger-append", "POST", "/v1/append", Makers),
        ("ledger-entries", "GET", "/v1/entries", Readers),
        ("ledger-tail", "GET", "/v1/tail", Readers),
        ("ledger-checkpoint", "GET", "/v1/checkpoint", Readers),
        ("ledger-contract", "GET", "/v1/contract", Readers),
        ("ledger-files", "GET", "/ledger/ACME/checkpoint", Readers),
        ("status", "GET", "/v1/status", Everybody),
        ("quota", "GET", "/v1/quota", Everybody),
    ];

    private static readonly (string RouteId, string Method, string Target)[] Open =
    [
        ("jwks", "GET", "/.well-known/jwks.json"), ("tokens-verify", "POST", "/v1/tokens/verify"), ("gateway-health", "GET", "/healthz"), ("gateway-health-v1", "GET", "/v1/health"),
    ];

    public static TheoryData<string, string, string, string> Rows
    {
        get
        {
            var rows = new TheoryData<string, string, string, string>();
            foreach (var (_, method, target, who) in Table)
                foreach (var scope in Scopes)
                    rows.Add(method, target, scope, who);
            return rows;
        }
    }

    [Fact]
    public void Every_route_and_method_is_in_the_table()
    {
        var policies = gateway.Host.Services.GetRequiredService<RouteTable>().Current.Policies.Values.Concat(OwnAnswers.Policies);

        Assert.Equal(
            Table.Select(row => $"{row.RouteId} {row.Method}").Concat(Open.Select(row => $"{row.RouteId} {row.Method}")).Order(StringComparer.Ordinal),
            policies.SelectMany(policy => policy.Methods.Select(method => $"{policy.RouteId} {method}")).Order(StringComparer.Ordinal));
    }

    [Theory, MemberData(nameof(Rows))]
    public async Task A_route_opens_to_those_it_names_and_to_nobody_else(string method, string target, string scope, string who)
    {
        var host = gateway.Host;
        host.Forget();
        var allowed = who.Split(' ').Contains(scope);
        var id = host.Fleet.Add(host.Acme).VmId;
        host.Fleet.Nodes[(host.Acme, id)] = $$"""{"node_id":"{{id}}","tenant_id":"{{host.Acme}}"}""";
        var tenant = scope == "service:platform-admin" ? null : host.Acme;
        var body = method is "GET" or "DELETE" ? null : $$"""{"vm_type":"micro","ram_mb":512,"vcpu_count":1,"tenant_id":"{{host.Acme}}","vms":[]}""";

        var answer = await host.SendAsync(method, target.Replace("ACME", host.Acme, StringComparison.Ordinal).Replace("OWN", id, StringComparison.Ordinal), host.Token(tenant, scope), body);

        if (allowed)
        {
            Assert.InRange(answer.Status, 200, 299);
            return;
        }
        Assert.Equal((403, "insufficient_scope"), (answer.Status, answer.Code));
        // It names what is needed: exactly those who may, tiers by the lowest.
        var lowest = who.Split(' ').Where(item => !item.StartsWith("service:", StringComparison.Ordinal)).Take(1);
        Assert.Equal(lowest.Concat(who.Split(' ').Where(item => item.StartsWith("service:", StringComparison.Ordinal))), answer.Json.GetProperty("required_scope").GetString()!.Split(','));
        Assert.Empty(host.Fleet.Backend.Forwarded);
        Assert.Empty(host.Issuance.Forwarded);
        Assert.Empty(host.Ledger.Backend.Forwarded);
        // Not even the gateway's own question about the object was asked.
        Assert.DoesNotContain(host.Fleet.Backend.Requests, request => request.Path.StartsWith("/v1/", StringComparison.Ordinal));
    }

    [Fact]
    public async Task An_open_route_needs_no_token_and_looks_at_none()
    {
        var host = gateway.Host;
        foreach (var (_, method, target) in Open)
        {
            var body = method == "POST" ? """{"token":"x"}""" : null;
            Assert.Equal(200, (await host.SendAsync(method, target, null, body)).Status);
            Assert.Equal(200, (await host.SendAsync(method, target, "garbage", body)).Status);
        }
    }

    [Fact]
    public async Task An_open_route_forwards_nobody()
    {
        var host = gateway.Host;
        host.Forget();
        await host.SendAsync("POST", "/v1/tokens/verify", host.PlatformToken(), """{"token":"x"}""");

        var headers = Assert.Single(host.Issuance.Forwarded).Headers;
        Assert.DoesNotContain("X-Foundry-Scope", headers.Keys, StringComparer.OrdinalIgnoreCase);
        Assert.DoesNotContain("Authorization", headers.Keys, StringComparer.OrdinalIgnoreCase);
        Assert.True(Tokens.Base64UrlText.TryDecode(headers["X-Foundry-Assertion"].Split('.')[1], out var claims));
        Assert.False(JsonDocument.Parse(claims).RootElement.TryGetProperty("scope", out _));
    }
}
