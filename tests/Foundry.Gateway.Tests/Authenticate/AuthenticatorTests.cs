using System.Text;
using Foundry.Contracts;
using Foundry.Testing;
using Foundry.Tokens;

namespace Foundry.Gateway.Tests.Authenticate;

/// <summary>CONTRACT section 2: who is not let in, and the one word that says why.</summary>
public sealed class AuthenticatorTests(OrdinaryGateway gateway) : IClassFixture<OrdinaryGateway>
{
    /// <summary>Each reason, with a header that has it and no other.</summary>
    private static readonly Dictionary<string, Func<GatewayHost, string>> Headers = new()
    {
        ["malformed: no token"] = _ => "Bearer",
        ["malformed: empty"] = _ => "Bearer ",
        ["malformed: another scheme"] = host => $"Basic {host.Token("read")}",
        ["malformed: DPoP and no token"] = _ => "DPoP",
        ["malformed: DPoP and white space"] = host => $"DPoP  {host.Token("read")}",
        ["bad_signature: as DPoP"] = host => $"DPoP {Graft(host.Token("read"), host.Token("input"))}",
        ["expired: as DPoP"] = host => $"DPoP {host.Issuance.Mint(host.Acme, "read", token => token with { Exp = token.Iat }).Text}",
        ["malformed: no JWS"] = _ => "Bearer abc",
        ["malformed: two in one"] = host => $"Bearer {host.Token("read")}, Bearer {host.Token("read")}",
        ["malformed: white space"] = host => $"Bearer  {host.Token("read")}",
        ["malformed: padding"] = host => $"Bearer {host.Token("read")}=",
        ["malformed: another type"] = host => $"Bearer {Jws.Sign(host.Issuance.SigningKey, "JWT", "{}"u8)}",
        ["malformed: an assertion"] = host => $"Bearer {Jws.Sign(host.Issuance.SigningKey, Assertion.Typ, "{}"u8)}",
        ["malformed: a header member of its own"] = host => $"Bearer {WithHeader(host, $$"""{"alg":"EdDSA","typ":"foundry-cap+jwt","kid":"{{host.Issuance.SigningKey.Kid}}","jku":"http://evil"}""")}",
        ["malformed: no claims"] = host => $"Bearer {Jws.Sign(host.Issuance.SigningKey, CapabilityToken.Typ, "{}"u8)}",
        ["malformed: a scope in capitals"] = host => $"Bearer {host.Token("READ")}",
        ["malformed: a tier without a tenant"] = host => $"Bearer {host.Token(null, "input")}",
        ["malformed: an administrator with a tenant"] = host => $"Bearer {host.Token(host.Acme, "service:platform-admin")}",
        ["malformed: a tenant's administrator without one"] = host => $"Bearer {host.Token(null, "service:tenant-admin")}",
        ["unsupported_algorithm: none"] = host => $"Bearer {WithHeader(host, $$"""{"alg":"none","typ":"foundry-cap+jwt","kid":"{{host.Issuance.SigningKey.Kid}}"}""")}",
        ["unsupported_algorithm: HMAC with the public key"] = host => $"Bearer {WithHeader(host, $$"""{"alg":"HS256","typ":"foundry-cap+jwt","kid":"{{host.Issuance.SigningKey.Kid}}"}""")}",
        ["unknown_key: nobody's"] = host => $"Bearer {host.Issuance.Mint(host.Acme, "read", key: _stranger).Text}",
        ["bad_signature: of another token"] = host => $"Bearer {Graft(host.Token("read"), host.Token("input"))}",
        ["bad_signature: of the same key's other typ"] = host => $"Bearer {Graft(host.Token("read"), Jws.Sign(host.Issuance.SigningKey, "x", "{}"u8))}",
        ["expired: now"] = host => $"Bearer {host.Issuance.Mint(host.Acme, "read", token => token with { Exp = token.Iat }).Text}",
        ["expired: long ago"] = host => $"Bearer {host.Issuance.Mint(host.Acme, "read", token => token with { Iat = 1, Nbf = 1, Exp = 2 }).Text}",
        ["not_yet_valid: nbf"] = host => $"Bearer {host.Issuance.Mint(host.Acme, "read", token => token with { Nbf = token.Nbf + 60 }).Text}",
        ["not_yet_valid: iat"] = host => $"Bearer {host.Issuance.Mint(host.Acme, "read", token => token with { Iat = token.Iat + 60 }).Text}",
        ["wrong_audience: another"] = host => $"Bearer {host.Issuance.Mint(host.Acme, "read", token => token with { Aud = "foundry2" }).Text}",
        ["wrong_audience: in capitals"] = host => $"Bearer {host.Issuance.Mint(host.Acme, "read", token => token with { Aud = "Foundry" }).Text}",
        ["wrong_issuer: another"] = host => $"Bearer {host.Issuance.Mint(host.Acme, "read", token => token with { Iss = "http://evil" }).Text}",
        ["wrong_issuer: a slash more"] = host => $"Bearer {host.Issuance.Mint(host.Acme, "read", token => token with { Iss = FakeIssuance.Issuer + "/" }).Text}",
        ["revoked: its tenant never was"] = host => $"Bearer {host.Token("nobody-ever", "read")}",
        ["invalid_proof: bound to a key, sent bare"] = host => $"Bearer {host.Issuance.Mint(host.Acme, "read", token => token with { Cnf = new Confirmation(new string('A', 43)) }).Text}",
    };

    private static readonly SigningKey _stranger = SigningKey.Generate();

    public static TheoryData<string> Cases => [.. Headers.Keys];

    [Theory, MemberData(nameof(Cases))]
    public async Task A_token_that_is_not_accepted_is_told_why(string @case)
    {
        var host = gateway.Host;
        host.Forget();

        var answer = await host.GetAsync("/v1/vms", null, ("Authorization", Headers[@case](host)));

        Assert.Equal((401, "invalid_token", @case.Split(':')[0]), (answer.Status, answer.Code, answer.Reason));
        Assert.Equal("Bearer error=\"invalid_token\"" + (answer.Reason == "invalid_proof" ? ", DPoP algs=\"EdDSA\", error=\"invalid_dpop_proof\"" : ""), answer["WWW-Authenticate"]);
        Assert.Empty(host.Fleet.Backend.Forwarded);
    }

    [Fact]
    public async Task A_request_without_a_token_gets_a_bare_challenge()
    {
        var answer = await gateway.Host.GetAsync("/v1/vms", null);

        Assert.Equal((401, "invalid_token", "missing", "Bearer"), (answer.Status, answer.Code, answer.Reason, answer["WWW-Authenticate"]));
    }

    [Fact]
    public async Task Two_authorization_headers_are_malformed_even_where_both_are_good()
    {
        var host = gateway.Host;
        host.Forget();
        var token = host.Token("read");

        var answer = await host.GetRawAsync("/v1/vms", token, $"Authorization: Bearer {token}\r\n");

        Assert.Equal((401, "malformed"), (answer.Status, answer.Reason));
        Assert.Empty(host.Fleet.Backend.Forwarded);
    }

    [Theory]
    [InlineData("bearer")]
    [InlineData("BEARER")]
    public async Task The_scheme_is_read_in_any_case(string scheme) =>
        Assert.Equal(200, (await gateway.Host.GetAsync("/v1/vms", null, ("Authorization", $"{scheme} {gateway.Host.Token("read")}"))).Status);

    [Fact]
    public async Task A_clock_half_a_minute_ahead_is_forgiven() =>
        Assert.Equal(200, (await gateway.Host.GetAsync("/v1/vms", gateway.Host.Issuance.Mint(gateway.Host.Acme, "read", token => token with { Nbf = token.Nbf + 25, Iat = token.Iat + 25 }).Text)).Status);

    [Fact]
    public async Task A_token_of_thousands_of_characters_outside_ascii_is_malformed_and_not_a_fault_of_ours()
    {
        var host = gateway.Host;
        await host.GetAsync("/v1/vms", host.Token("read")); // The cache has a key set to look the token up under.
        var request = Encoding.UTF8.GetBytes($"GET /v1/vms HTTP/1.1\r\nHost: foundry\r\nAuthorization: Bearer {new string('é', 8000)}\r\nConnection: close\r\n\r\n");

        var answer = await host.SendRawAsync(request);

        Assert.Equal((401, "malformed"), (answer.Status, answer.Reason));
    }

    [Fact]
    public async Task A_verdict_is_not_a_permission()
    {
        var host = gateway.Host;
        host.Forget();
        var token = host.Token("read");

        Assert.Equal(200, (await host.GetAsync("/v1/vms", token)).Status);
        var answer = await host.SendAsync("POST", "/v1/vms", token, """{"vm_type":"micro","ram_mb":512,"vcpu_count":1}""");

        Assert.Equal((403, "insufficient_scope"), (answer.Status, answer.Code));
        Assert.DoesNotContain(host.Fleet.Backend.Forwarded, request => request.Method == "POST");
    }

    [Fact]
    public async Task A_token_known_to_be_good_is_refused_once_it_is_revoked()
    {
        var host = gateway.Host;
        var token = host.Issuance.Mint(host.Acme, "read");
        Assert.Equal(200, (await host.GetAsync("/v1/vms", token.Text)).Status);

        host.Issuance.Revoke(token.Claims);
        await host.CaughtUpAsync();

        var answer = await host.GetAsync("/v1/vms", token.Text);
        Assert.Equal((401, "revoked"), (answer.Status, answer.Reason));
    }

    [Fact]
    public async Task Tokens_die_with_their_tenant()
    {
        var host = gateway.Host;
        var tenant = await host.NewTenantAsync();
        var token = host.Token(tenant, "service:tenant-admin");
        Assert.Equal(200, (await host.GetAsync("/v1/vms", token)).Status);

        host.Issuance.Delete(tenant);
        await host.CaughtUpAsync();

        var answer = await host.GetAsync("/v1/vms", token);
        Assert.Equal((401, "revoked"), (answer.Status, answer.Reason));
    }

    [Fact]
    public async Task A_tenant_that_requires_proof_takes_no_bare_token()
    {
        var host = gateway.Host;
        var tenant = await host.NewTenantAsync(tenant => tenant with { RequireProof = true });

        var answer = await host.GetAsync("/v1/vms", host.Token(tenant, "read"));
        Assert.Equal((401, "invalid_proof"), (answer.Status, answer.Reason));
    }

    [Fact]
    public async Task A_suspended_tenant_is_refused_everything_but_its_nodes_reports()
    {
        var host = gateway.Host;
        host.Forget();
        var tenant = await host.NewTenantAsync(tenant => tenant with { Status = Tenant.Suspended });

        foreach (var (method, target, scope) in new[] { ("GET", "/v1/vms", "read"), ("POST", "/v1/vms", "input"), ("GET", "/v1/status", "read"), ("GET", $"/v1/tenants/{tenant}", "service:tenant-admin") })
        {
            var answer = await host.SendAsync(method, target, host.Token(tenant, scope), method == "POST" ? "{}" : null);
            Assert.Equal((401, "tenant_suspended"), (answer.Status, answer.Reason));
        }
        Assert.Empty(host.Fleet.Backend.Forwarded);
        Assert.Equal(200, (await host.SendAsync("POST", "/v1/nodes/heartbeat", host.Token(tenant, "service:fleet-node"), """{"vms":[]}""")).Status);
    }

    [Fact]
    public async Task A_tenant_that_is_being_deleted_makes_no_vm_and_does_everything_else()
    {
        var host = gateway.Host;
        host.Forget();
        var tenant = await host.NewTenantAsync();
        var vm = host.Fleet.Add(tenant, "last");
        host.Issuance.Change(tenant, known => known with { Status = Tenant.Deleting });
        await host.CaughtUpAsync();

        foreach (var (token, body) in new[] { (host.Token(tenant, "input"), "{}"), (host.PlatformToken(), $$"""{"tenant_id":"{{tenant}}"}""") })
        {
            var answer = await host.SendAsync("POST", "/v1/vms", token, body);
            Assert.Equal((409, "tenant_deleting"), (answer.Status, answer.Code));
        }
        Assert.Empty(host.Fleet.Backend.Forwarded);
        Assert.Equal(200, (await host.GetAsync("/v1/vms", host.Token(tenant, "read"))).Status);
        Assert.Equal(200, (await host.GetAsync("/v1/status", host.Token(tenant, "read"))).Status);
        Assert.Equal(200, (await host.SendAsync("POST", "/v1/nodes/heartbeat", host.Token(tenant, "service:fleet-node"), """{"vms":[]}""")).Status);
        Assert.Equal(204, (await host.SendAsync("DELETE", $"/v1/vms/{vm.VmId}", host.Token(tenant, "input"))).Status);
    }

    [Fact]
    public async Task A_suspension_that_ends_lets_the_tenant_in_again()
    {
        var host = gateway.Host;
        var tenant = await host.NewTenantAsync();
        var token = host.Token(tenant, "read");
        foreach (var (status, expected) in new[] { (Tenant.Active, 200), (Tenant.Suspended, 401), (Tenant.Active, 200) })
        {
            host.Issuance.Change(tenant, known => known with { Status = status });
            await host.CaughtUpAsync();
            Assert.Equal(expected, (await host.GetAsync("/v1/vms", token)).Status);
        }
    }

    private static string WithHeader(GatewayHost host, string header)
    {
        var signed = $"{Base64UrlText.Encode(Encoding.UTF8.GetBytes(header))}.{host.Token("read").Split('.')[1]}";
        return $"{signed}.{Base64UrlText.Encode(host.Issuance.SigningKey.Sign(Encoding.ASCII.GetBytes(signed)))}";
    }

    private static string Graft(string token, string signatureOf) => $"{token[..token.LastIndexOf('.')]}.{signatureOf.Split('.')[2]}";
}
