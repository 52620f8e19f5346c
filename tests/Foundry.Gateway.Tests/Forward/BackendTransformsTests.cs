using Foundry.Testing;
using Foundry.Tokens;

namespace Foundry.Gateway.Tests.Forward;

/// <summary>CONTRACT section 4: what a backend hears is what the gateway says, and what a client gets back likewise.</summary>
public sealed class BackendTransformsTests(OrdinaryGateway gateway) : IClassFixture<OrdinaryGateway>
{
    private const string Create = """{"vm_type":"micro","ram_mb":512,"vcpu_count":1}""";
    private static readonly string[] OwnHeaders = ["X-Foundry-Tenant", "X-Foundry-Module-ID", "X-Foundry-Scope", "X-Foundry-Subject", "X-Foundry-Token-ID", "X-Foundry-Assertion", "X-Foundry-Reservation", "X-Foundry-On-Behalf-Of", "X-Foundry-Anything"];

    [Fact]
    public async Task No_spelling_of_a_header_of_the_gateways_reaches_a_backend()
    {
        // Every single-character variant of '-', '_' and '.', all of them at once, and other cases.
        var spellings = OwnHeaders.SelectMany(name => Enumerable.Range(0, name.Length).Where(i => name[i] == '-').SelectMany(i => "_.".Select(c => name[..i] + c + name[(i + 1)..]))
            .Concat([name, name.ToLowerInvariant(), name.ToUpperInvariant(), name.Replace('-', '_'), name.Replace('-', '.'), name.Replace('-', '_').ToLowerInvariant()])).Distinct(StringComparer.Ordinal)
            .Where(name => !name.Equals("X-Foundry-On-Behalf-Of", StringComparison.OrdinalIgnoreCase) || name == "X-Foundry-On-Behalf-Of").ToArray();
        var host = Fresh();
        var token = host.Issuance.Mint(host.Acme, "read");
        foreach (var some in spellings.Chunk(80))
        {
            host.Fleet.Backend.Requests.Clear();
            Assert.Equal(200, (await host.GetRawAsync("/v1/vms", token.Text, string.Concat(some.Select(name => $"{name}: evil\r\n")))).Status);
            var received = Assert.Single(host.Fleet.Backend.Forwarded);
            Assert.DoesNotContain("evil", received.Head, StringComparison.Ordinal);
            Assert.Equal((host.Acme, host.Acme, "read", token.Claims.Sub, token.Claims.Jti),
                (received["X-Foundry-Tenant"], received["X-Foundry-Module-ID"], received["X-Foundry-Scope"], received["X-Foundry-Subject"], received["X-Foundry-Token-ID"]));
        }
    }

    [Fact]
    public async Task A_backend_hears_an_allow_list_of_the_clients_headers_and_no_more()
    {
        var host = Fresh();
        string[] passed = ["Accept", "Accept-Language", "User-Agent", "Idempotency-Key", "If-Match", "Last-Event-ID"];
        string[] stopped =
        [
            "Authorization-Info", "Cookie", "DPoP", "Proxy-Authorization", "X-Real-IP", "X-Original-URL", "X-Rewrite-URL", "X-HTTP-Method-Override", "Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Port",
            "X-Forwarded-Proto", "X-Forwarded-Uri", "X-Forwarded-Prefix", "X-Content-Length", "Via", "TE", "Trailer", "Upgrade", "Origin", "Referer", "X-Tenant-Id", "X-Anything", "Accept-Encoding", "Expect-CT", "True-Client-IP", "X-Forwarded_For",
        ];

        var answer = await host.GetRawAsync("/v1/vms", host.Token("read"), string.Concat(passed.Concat(stopped).Select(name => $"{name}: value-{name}\r\n")));

        Assert.Equal(200, answer.Status);
        var received = Assert.Single(host.Fleet.Backend.Forwarded);
        Assert.All(passed, name => Assert.Equal($"value-{name}", received[name]));
        Assert.Equal(passed.Concat(["Host", "X-Foundry-Tenant", "X-Foundry-Module-ID", "X-Foundry-Scope", "X-Foundry-Subject", "X-Foundry-Token-ID", "X-Foundry-Request-ID", "X-Foundry-Assertion", "X-Forwarded-For", "X-Forwarded-Proto"]).Order(StringComparer.OrdinalIgnoreCase),
            received.Headers.Select(header => header.Name).Where(name => name != "traceparent").Order(StringComparer.OrdinalIgnoreCase));
        Assert.Equal(("127.0.0.1", "http"), (received["X-Forwarded-For"], received["X-Forwarded-Proto"]));
        Assert.DoesNotContain("Bearer", received.Head, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_header_that_connection_names_takes_none_of_the_gateways_with_it()
    {
        var host = Fresh();

        var answer = await host.SendRawAsync($"GET /v1/vms HTTP/1.1\r\nHost: foundry\r\nAuthorization: Bearer {host.Token("read")}\r\nAccept: a/b\r\nConnection: close, X-Foundry-Tenant, X-Foundry-Assertion, X-Foundry-Scope, X-Forwarded-For\r\n\r\n");

        Assert.Equal(200, answer.Status);
        var received = Assert.Single(host.Fleet.Backend.Forwarded);
        Assert.Equal(host.Acme, received["X-Foundry-Tenant"]);
        Assert.NotNull(received["X-Foundry-Assertion"]);
        Assert.Equal("read", received["X-Foundry-Scope"]);
        Assert.Null(received["Connection"]);
    }

    [Fact]
    public async Task The_assertion_is_the_gateways_and_says_who_is_calling()
    {
        var host = Fresh();
        var token = host.Issuance.Mint(host.Acme, "read");
        await host.GetAsync("/v1/vms", token.Text);

        var assertion = Verified(host, Assert.Single(host.Fleet.Backend.Forwarded));

        Assert.Equal(("gateway", "fleet", Assertion.ReadUse, host.Acme, "read", token.Claims.Sub, token.Claims.SubjectPubkey, token.Claims.Jti, token.Claims.Exp),
            (assertion.Iss, assertion.Aud, assertion.Use, assertion.TenantId, assertion.Scope, assertion.Sub, assertion.SubjectPubkey, assertion.TokenId, assertion.TokenExp!.Value));
        Assert.Equal(30, assertion.Exp - assertion.Iat);
        Assert.Equal((null, null, null, null, null), (assertion.Own, assertion.Htm, assertion.Htu, assertion.Bh, assertion.RequestId));
    }

    [Fact]
    public async Task A_write_has_an_assertion_of_its_own_bound_to_these_very_bytes()
    {
        var host = Fresh();
        var token = host.Token("input");
        for (var i = 0; i < 2; i++)
            await host.SendAsync("POST", "/v1/vms?trace=a%20b", token, Create);

        var sent = host.Fleet.Backend.Forwarded.ToArray();
        var assertions = sent.Select(request => Verified(host, request)).ToArray();
        foreach (var (request, assertion) in sent.Zip(assertions))
        {
            Assert.Equal((Assertion.WriteUse, "POST", "/v1/vms?trace=a%20b", Assertion.BodyHash(request.Body), request["X-Foundry-Request-ID"]),
                (assertion.Use, assertion.Htm, assertion.Htu, assertion.Bh, assertion.RequestId));
            Assert.Equal(assertion.Htu, request.Target);
        }
        Assert.NotEqual(assertions[0].Jti, assertions[1].Jti);
    }

    [Fact]
    public async Task A_reads_assertion_serves_one_token_and_cluster_for_a_quarter_of_a_minute()
    {
        var time = new MovableTime();
        await using var host = await GatewayHost.StartAsync(new GatewaySetup { Time = time });
        var (one, other) = (host.Token("read"), host.Token("read"));
        async Task<string> SentAsync(string token, string target)
        {
            host.Forget();
            Assert.Equal(200, (await host.GetAsync(target, token)).Status);
            return host.Fleet.Backend.Forwarded.Concat(host.Ledger.Backend.Forwarded).Single()["X-Foundry-Assertion"]!;
        }

        var first = await SentAsync(one, "/v1/vms");
        time.Move(TimeSpan.FromSeconds(10));
        Assert.Equal(first, await SentAsync(one, "/v1/nodes"));
        Assert.NotEqual(first, await SentAsync(other, "/v1/vms"));
        Assert.NotEqual(first, await SentAsync(one, "/v1/checkpoint"));
        time.Move(TimeSpan.FromSeconds(6));
        Assert.NotEqual(first, await SentAsync(one, "/v1/vms"));
    }

    [Fact]
    public async Task What_is_the_backends_business_does_not_come_back()
    {
        var host = Fresh();
        (string, string)[] inner = [("Server", "inner"), ("X-Powered-By", "inner"), ("Set-Cookie", "inner=1"), ("Via", "1.1 inner"), ("Alt-Svc", "inner"), ("X-Foundry-Tenant", "inner"), ("x-foundry-anything", "inner"), ("X-Foundry-Request-ID", "inner"), ("RateLimit", "inner"), ("RateLimit-Policy", "inner")];
        host.Fleet.Override = request => request.IsOwn ? null : BackendAnswer.Json("{}", request.Method == "POST" ? 400 : 200, [.. inner, ("X-Kept", "kept")]);
        host.Fleet.Add(host.Acme, "mine");

        foreach (var (method, target, scope, json) in new[] { ("GET", "/v1/placement", "read", null), ("GET", "/v1/vms/mine", "read", null), ("POST", "/v1/nodes/heartbeat", "service:fleet-node", """{"vms":[]}"""), ("POST", "/v1/vms", "input", Create) })
        {
            var answer = await host.SendAsync(method, target, host.Token(scope), json);
            Assert.DoesNotContain(answer.Headers, header => header.Value.Contains("inner", StringComparison.Ordinal));
            Assert.Equal("kept", answer["X-Kept"]);
        }
    }

    [Theory]
    [InlineData("abc-DEF_1.2", true)]
    [InlineData("with space", false)]
    [InlineData("a/b", false)]
    [InlineData("", false)]
    public async Task A_well_formed_request_id_is_taken_over_and_another_replaced(string id, bool taken)
    {
        var host = Fresh();

        var answer = await host.GetRawAsync("/v1/vms", host.Token("read"), $"X-Foundry-Request-ID: {id}\r\n");

        var received = Assert.Single(host.Fleet.Backend.Forwarded)["X-Foundry-Request-ID"]!;
        Assert.Equal(received, answer["X-Foundry-Request-ID"]);
        if (taken)
            Assert.Equal(id, received);
        else
            Assert.True(Guid.TryParse(received, out _));
    }

    [Fact]
    public async Task A_backend_that_is_away_is_said_to_be_so_and_nothing_more()
    {
        var host = Fresh();
        await host.Fleet.Backend.StopAsync();
        try
        {
            foreach (var target in new[] { "/v1/placement", "/v1/vms", "/v1/vms/any" })
            {
                var answer = await host.GetAsync(target, host.Token("read"));
                Assert.Equal((502, "backend_unavailable"), (answer.Status, answer.Code));
                Assert.DoesNotContain("127.0.0.1", answer.Text, StringComparison.Ordinal);
            }
        }
        finally
        {
            host.Fleet.Backend.Start();
        }
    }

    private static Assertion Verified(GatewayHost host, BackendRequest request)
    {
        Assert.True(Assertion.TryVerify(request["X-Foundry-Assertion"]!, kid => host.Issuance.KeyOf("gateway") is { } key && key.Kid == kid ? key : null, out var assertion, out _));
        return assertion;
    }

    private GatewayHost Fresh()
    {
        gateway.Host.Forget();
        return gateway.Host;
    }
}
