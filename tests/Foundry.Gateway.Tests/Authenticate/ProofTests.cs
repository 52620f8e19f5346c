using System.Text;
using System.Text.Json;
using Foundry.Gateway.Admit;
using Foundry.Gateway.Authenticate;
using Foundry.Gateway.Tests.Admit;
using Foundry.Testing;
using Foundry.Tokens;
using Microsoft.Extensions.Time.Testing;
using StackExchange.Redis;

namespace Foundry.Gateway.Tests.Authenticate;

/// <summary>Somebody with a key, and a token that names it.</summary>
internal sealed class Holder : IDisposable
{
    private readonly SigningKey _key = SigningKey.Generate();

    public Holder(GatewayHost host, string? tenant, string scope, bool bound = true) => Token = host.Issuance.Mint(tenant, scope, token => token with
    {
        Sub = _key.Public.X,
        SubjectPubkey = _key.Public.X,
        Cnf = bound ? new Confirmation(_key.Kid) : null,
    });

    public MintedToken Token { get; }

    public SigningKey Key => _key;

    /// <summary>A proof for a request to a gateway at this address.</summary>
    public string Proof(string origin, string method, string target, DateTimeOffset? at = null) =>
        DpopProof.Create(_key, method, origin + target, Token.Text, at ?? TimeProvider.System.GetUtcNow());

    public string Proof(GatewayHost host, string method, string target) => Proof(Origin(host), method, target);

    public static string Origin(GatewayHost host) => host.Url.GetLeftPart(UriPartial.Authority);

    /// <summary>Sends with this proof, or with one made for it.</summary>
    public Task<Answer> SendAsync(GatewayHost host, string method, string target, string? json = null, string? proof = null) =>
        host.SendAsync(method, target, null, json, ("Authorization", $"DPoP {Token.Text}"), ("DPoP", proof ?? Proof(host, method, target)));

    public Task<Answer> SendAsBearerAsync(GatewayHost host, string method, string target, string? json = null) => host.SendAsync(method, target, Token.Text, json);

    public void Dispose() => _key.Dispose();
}

/// <summary>CONTRACT section 2: a token with a proof by its key, made for this request, once (RFC 9449 section 4.3).</summary>
public sealed class ProvedRequest(OrdinaryGateway gateway) : IClassFixture<OrdinaryGateway>
{
    private const string Target = "/v1/vms";
    private static readonly SigningKey _stranger = SigningKey.Generate();

    /// <summary>Each request that proves nothing: what is sent for <c>GET /v1/vms</c> by the holder of a bound token.</summary>
    private static readonly Dictionary<string, Func<GatewayHost, Holder, string>> Wrong = new()
    {
        ["no proof"] = (_, _) => "",
        ["an empty proof"] = (_, _) => Header(""),
        ["two proofs, each good"] = (host, holder) => Header(holder.Proof(host, "GET", Target)) + Header(holder.Proof(host, "GET", Target)),
        ["two proofs in one"] = (host, holder) => Header($"{holder.Proof(host, "GET", Target)}, {holder.Proof(host, "GET", Target)}"),
        ["another method"] = (host, holder) => Header(holder.Proof(host, "POST", Target)),
        ["another path"] = (host, holder) => Header(holder.Proof(host, "GET", "/v1/nodes")),
        ["a longer path"] = (host, holder) => Header(holder.Proof(host, "GET", "/v1/vms/")),
        ["another host"] = (_, holder) => Header(holder.Proof("http://gateway.example", "GET", Target)),
        ["another host, which the Host header names too"] = (_, holder) => "Host: evil.example\r\n" + Header(holder.Proof("http://evil.example", "GET", Target)),
        ["another host, which a forwarding header names too"] = (_, holder) => "X-Forwarded-Host: evil.example\r\nForwarded: host=evil.example\r\n" + Header(holder.Proof("http://evil.example", "GET", Target)),
        ["another scheme"] = (host, holder) => Header(holder.Proof(Holder.Origin(host).Replace("http:", "https:", StringComparison.Ordinal), "GET", Target)),
        ["another port"] = (_, holder) => Header(holder.Proof("http://127.0.0.1:1", "GET", Target)),
        ["too old"] = (host, holder) => Header(holder.Proof(Holder.Origin(host), "GET", Target, TimeProvider.System.GetUtcNow().AddSeconds(-62))),
        ["too new"] = (host, holder) => Header(holder.Proof(Holder.Origin(host), "GET", Target, TimeProvider.System.GetUtcNow().AddSeconds(120))),
        ["another token's"] = (host, holder) => Header(DpopProof.Create(holder.Key, "GET", Holder.Origin(host) + Target, host.Token("read"), TimeProvider.System.GetUtcNow())),
        ["another key's"] = (host, holder) => Header(DpopProof.Create(_stranger, "GET", Holder.Origin(host) + Target, holder.Token.Text, TimeProvider.System.GetUtcNow())),
        ["a changed signature"] = (host, holder) => Header(Changed(holder.Proof(host, "GET", Target))),
        ["the token itself"] = (_, holder) => Header(holder.Token.Text),
        ["over its bound"] = (host, holder) => Header(holder.Proof(host, "GET", Target) + new string('A', DpopProof.CharsMax)),
        ["not ASCII"] = (_, _) => Header("é"),
    };

    public static TheoryData<string> Cases => [.. Wrong.Keys];

    [Theory, MemberData(nameof(Cases))]
    public async Task Is_refused_where_the_proof_is_for_something_else(string @case)
    {
        var host = gateway.Host;
        host.Forget();
        using var holder = new Holder(host, host.Acme, "read");
        var headers = Wrong[@case](host, holder);

        var answer = await host.SendRawAsync(Encoding.UTF8.GetBytes($"GET {Target} HTTP/1.1\r\n{(headers.StartsWith("Host", StringComparison.Ordinal) ? "" : "Host: foundry\r\n")}Authorization: DPoP {holder.Token.Text}\r\nConnection: close\r\n{headers}\r\n"));

        Assert.Equal((401, "invalid_token", "invalid_proof"), (answer.Status, answer.Code, answer.Reason));
        Assert.Equal(["Bearer error=\"invalid_token\"", "DPoP algs=\"EdDSA\", error=\"invalid_dpop_proof\""], answer.Headers.Where(header => header.Name == "WWW-Authenticate").Select(header => header.Value));
        Assert.Empty(host.Fleet.Backend.Forwarded);
        // And the same holder is let in with a good one.
        Assert.Equal(200, (await holder.SendAsync(host, "GET", Target)).Status);
    }

    [Theory]
    [InlineData("http://127.0.0.1:{port}", "/v1/vms")]
    [InlineData("http://localhost:{port}", "/v1/vms")]
    [InlineData("HTTP://LOCALHOST:{port}", "/v1/%76ms")]
    [InlineData("http://127.0.0.1:{port}", "/v1/vms?limit=1#x")]
    [InlineData("http://127.0.0.1:{port}", "/v1/./x/../vms")]
    public async Task Is_let_in_whichever_way_the_proof_spells_the_same_place(string origin, string target)
    {
        using var holder = new Holder(gateway.Host, gateway.Host.Acme, "read");
        var proof = holder.Proof(origin.Replace("{port}", $"{gateway.Host.Url.Port}", StringComparison.Ordinal), "GET", target);

        Assert.Equal(200, (await holder.SendAsync(gateway.Host, "GET", "/v1/vms?limit=2", proof: proof)).Status);
    }

    [Fact]
    public async Task Is_let_in_once_per_proof()
    {
        var host = gateway.Host;
        using var holder = new Holder(host, host.Acme, "read");
        var proof = holder.Proof(host, "GET", Target);

        Assert.Equal(200, (await holder.SendAsync(host, "GET", Target, proof: proof)).Status);
        Assert.Equal((401, "invalid_proof"), Of(await holder.SendAsync(host, "GET", Target, proof: proof)));
        Assert.Equal(200, (await holder.SendAsync(host, "GET", Target)).Status);
    }

    /// <summary>The verdict on a token may be cached; the one on its sender never is.</summary>
    [Fact]
    public async Task Opens_nothing_for_a_copy_of_its_token()
    {
        var host = gateway.Host;
        host.Forget();
        using var holder = new Holder(host, host.Acme, "read");
        Assert.Equal(200, (await holder.SendAsync(host, "GET", Target)).Status);
        host.Forget();

        Assert.Equal((401, "invalid_proof"), Of(await holder.SendAsBearerAsync(host, "GET", Target)));
        Assert.Equal((401, "invalid_proof"), Of(await host.GetAsync(Target, null, ("Authorization", $"DPoP {holder.Token.Text}"))));
        Assert.Empty(host.Fleet.Backend.Forwarded);
    }

    [Fact]
    public async Task Is_refused_once_its_token_is_revoked()
    {
        var host = gateway.Host;
        using var holder = new Holder(host, host.Acme, "read");
        Assert.Equal(200, (await holder.SendAsync(host, "GET", Target)).Status);
        host.Issuance.Revoke(holder.Token.Claims);
        await host.CaughtUpAsync();

        Assert.Equal((401, "revoked"), Of(await holder.SendAsync(host, "GET", Target)));
    }

    [Fact]
    public async Task Is_refused_where_the_token_is_bound_to_another_key_than_its_own()
    {
        var host = gateway.Host;
        using var key = SigningKey.Generate();
        foreach (var (subject, bound) in new[] { (key, _stranger), (_stranger, key) })
        {
            var token = host.Issuance.Mint(host.Acme, "read", claims => claims with { SubjectPubkey = subject.Public.X, Cnf = new Confirmation(bound.Kid) }).Text;
            var answer = await host.GetAsync(Target, null, ("Authorization", $"DPoP {token}"), ("DPoP", DpopProof.Create(key, "GET", Holder.Origin(host) + Target, token, TimeProvider.System.GetUtcNow())));
            Assert.Equal((401, "invalid_proof"), Of(answer));
        }
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Is_what_a_tenant_that_requires_proof_takes_and_nothing_else(bool bound)
    {
        var host = gateway.Host;
        using var holder = new Holder(host, await host.NewTenantAsync(tenant => tenant with { RequireProof = true }), "read", bound);

        Assert.Equal((401, "invalid_proof"), Of(await holder.SendAsBearerAsync(host, "GET", Target)));
        Assert.Equal(200, (await holder.SendAsync(host, "GET", Target)).Status);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Is_what_a_route_that_requires_proof_takes_and_nothing_else(bool platform)
    {
        var host = gateway.Host;
        host.Forget();
        using var holder = new Holder(host, platform ? null : host.Acme, platform ? "service:platform-admin" : "read", bound: false);

        Assert.Equal((401, "invalid_proof"), Of(await holder.SendAsBearerAsync(host, "POST", "/v1/tokens/renew")));
        Assert.Empty(host.Issuance.Forwarded);
        Assert.Equal(200, (await holder.SendAsync(host, "POST", "/v1/tokens/renew")).Status);
        Assert.True(IsProved(Assert.Single(host.Issuance.Forwarded).Headers["X-Foundry-Assertion"]));
    }

    /// <summary>A read's assertion is used again, but never across the two.</summary>
    [Fact]
    public async Task Is_asserted_as_proved_and_lends_that_to_no_other()
    {
        var host = gateway.Host;
        using var holder = new Holder(host, host.Acme, "read", bound: false);
        foreach (var proves in new[] { true, false, true, false })
        {
            host.Forget();
            Assert.Equal(200, (proves ? await holder.SendAsync(host, "GET", Target) : await holder.SendAsBearerAsync(host, "GET", Target)).Status);
            var received = Assert.Single(host.Fleet.Backend.Forwarded);
            Assert.Equal(proves, IsProved(received["X-Foundry-Assertion"]!));
            Assert.DoesNotContain("dpop", received.Head, StringComparison.OrdinalIgnoreCase);
        }
    }

    /// <summary>Under Bearer nothing is proved, whatever comes with it.</summary>
    [Fact]
    public async Task Says_so_by_its_scheme()
    {
        var host = gateway.Host;
        host.Forget();
        using var holder = new Holder(host, host.Acme, "read", bound: false);

        Assert.Equal(200, (await host.GetAsync(Target, holder.Token.Text, ("DPoP", holder.Proof(host, "GET", Target)))).Status);
        Assert.False(IsProved(Assert.Single(host.Fleet.Backend.Forwarded)["X-Foundry-Assertion"]!));
        Assert.Equal(200, (await host.GetAsync(Target, null, ("Authorization", $"dpop {holder.Token.Text}"), ("dpop", holder.Proof(host, "GET", Target)))).Status);
    }

    private static (int, string?) Of(Answer answer) => (answer.Status, answer.Reason);

    private static string Header(string value) => $"DPoP: {value}\r\n";

    /// <summary>Another good encoding, of another signature.</summary>
    private static string Changed(string proof)
    {
        var at = proof.LastIndexOf('.') + 1;
        return proof[..at] + (proof[at] == 'A' ? 'B' : 'A') + proof[(at + 1)..];
    }

    internal static bool IsProved(string assertion)
    {
        Assert.True(Jws.TryParse(assertion, Assertion.Typ, out var jws, out _));
        using var claims = JsonDocument.Parse(jws.Payload);
        return claims.RootElement.TryGetProperty("proof", out var proof) && proof.GetBoolean();
    }
}

/// <summary>CONTRACT section 2: each proof once across gateways, and what that costs while the store is away.</summary>
public sealed class ReplayedProof(EngineSet engines) : IClassFixture<EngineSet>
{
    private const string Origin = "https://gateway.example";
    private const string Target = "/v1/vms";

    [Theory, MemberData(nameof(Engines.All), MemberType = typeof(Engines))]
    public async Task Is_refused_by_the_gateway_next_door(string kind)
    {
        await using var one = await StartAsync(engines.Of(kind).ConnectionString);
        await using var other = await one.StartAnotherAsync();
        using var holder = new Holder(one, one.Acme, "read");
        // Both answer with the store before anything is said about one of them.
        await one.UntilAsync(() => IsUp(one) && IsUp(other));

        foreach (var (first, second) in new[] { (one, other), (other, one) })
        {
            var proof = holder.Proof(Origin, "GET", Target);
            Assert.Equal(200, (await holder.SendAsync(first, "GET", Target, proof: proof)).Status);
            Assert.Equal((401, "invalid_proof"), Of(await holder.SendAsync(second, "GET", Target, proof: proof)));
            Assert.Equal((401, "invalid_proof"), Of(await holder.SendAsync(first, "GET", Target, proof: proof)));
        }
    }

    /// <summary>Whoever has no good token with a good proof puts nothing into the store, and who has puts what goes away by itself.</summary>
    [Theory, MemberData(nameof(Engines.All), MemberType = typeof(Engines))]
    public async Task Is_remembered_by_a_hash_on_its_tenants_slot_and_not_for_long(string kind)
    {
        var engine = engines.Of(kind);
        await using var host = await StartAsync(engine.ConnectionString);
        using var holder = new Holder(host, host.Acme, "read");
        using var expired = new Holder(host, host.Acme, "read");
        await host.UntilAsync(() => IsUp(host));
        host.Issuance.Revoke(expired.Token.Claims);
        await host.CaughtUpAsync();

        await expired.SendAsync(host, "GET", Target, proof: expired.Proof(Origin, "GET", Target));
        await holder.SendAsync(host, "GET", Target, proof: holder.Proof(Origin, "POST", Target));
        await holder.SendAsync(host, "GET", Target, proof: expired.Proof(Origin, "GET", Target));
        Assert.Empty(await engine.KeysAsync($"foundry:v1:{{{host.Acme}}}:proof:*"));

        Assert.Equal(200, (await holder.SendAsync(host, "GET", Target, proof: holder.Proof(Origin, "GET", Target))).Status);
        var key = Assert.Single(await engine.KeysAsync($"foundry:v1:{{{host.Acme}}}:proof:*"));
        Assert.Equal(43, key.Split(':')[^1].Length);
        Assert.InRange((await engine.Data.KeyTimeToLiveAsync(key))!.Value, TimeSpan.FromTicks(1), 2 * DpopProof.AgeMax + TimeSpan.FromSeconds(10));
    }

    [Fact]
    public async Task Is_refused_by_the_gateway_that_saw_it_while_the_store_was_there()
    {
        var engine = Engine.Start(Engines.Embedded);
        await using var host = await StartAsync(engine.ConnectionString);
        using var holder = new Holder(host, host.Acme, "read");
        await host.UntilAsync(() => IsUp(host));
        var proof = holder.Proof(Origin, "GET", Target);
        Assert.Equal(200, (await holder.SendAsync(host, "GET", Target, proof: proof)).Status);

        engine.Dispose();
        await host.UntilAsync(() => !IsUp(host));

        Assert.Equal((401, "invalid_proof"), Of(await holder.SendAsync(host, "GET", Target, proof: proof)));
        // The gateway's own share of the rate begins empty.
        await host.UntilAsync(async () => (await holder.SendAsync(host, "GET", Target, proof: holder.Proof(Origin, "GET", Target))).Status == 200);
    }

    [Fact]
    public async Task Is_known_to_one_gateway_alone_while_the_store_is_away()
    {
        await using var host = await StartAsync("127.0.0.1:1", awaitReady: false);
        await host.UntilAsync(async () => (await host.GetAsync(Target, host.Token("read"))).Status == 200);
        using var reader = new Holder(host, host.Acme, "read");
        using var node = new Holder(host, host.Acme, "service:fleet-node");
        using var admin = new Holder(host, host.Acme, "service:tenant-admin");
        using var unbound = new Holder(host, host.Acme, "service:tenant-admin", bound: false);
        host.Forget();

        // Reads, and nodes' reports, go on; each proof once here, and the metric says how many.
        var proof = reader.Proof(Origin, "GET", Target);
        Assert.Equal(200, (await reader.SendAsync(host, "GET", Target, proof: proof)).Status);
        Assert.Equal((401, "invalid_proof"), Of(await reader.SendAsync(host, "GET", Target, proof: proof)));
        Assert.Equal(200, (await node.SendAsync(host, "POST", "/v1/nodes/heartbeat", """{"vms":[]}""", node.Proof(Origin, "POST", "/v1/nodes/heartbeat"))).Status);
        // A scrape may be answered with the one of a moment ago.
        await host.UntilAsync(async () => CountOf(await host.Client.GetStringAsync(new Uri(host.OpsUrl, "/metrics"), TestContext.Current.CancellationToken)) == 2);

        // What changes something and needs a proof does not.
        foreach (var (holder, target) in new[] { (admin, "/v1/tokens"), (unbound, "/v1/tokens/renew") })
        {
            var refused = await holder.SendAsync(host, "POST", target, "{}", holder.Proof(Origin, "POST", target));
            Assert.Equal((503, "not_ready"), (refused.Status, refused.Code));
            Assert.NotNull(refused["Retry-After"]);
        }
        Assert.Empty(host.Issuance.Forwarded);

        // What needs none goes on as it would without.
        Assert.Equal(200, (await unbound.SendAsync(host, "POST", "/v1/tokens", "{}", unbound.Proof(Origin, "POST", "/v1/tokens"))).Status);
        Assert.False(ProvedRequest.IsProved(Assert.Single(host.Issuance.Forwarded).Headers["X-Foundry-Assertion"]));
    }

    private static Task<GatewayHost> StartAsync(string redis, bool awaitReady = true) => GatewayHost.StartAsync(new GatewaySetup
    {
        AwaitReady = awaitReady,
        Settings = new Dictionary<string, string?> { ["Gateway:Redis"] = redis, ["Gateway:PublicOrigins:0"] = "https://other.example", ["Gateway:PublicOrigins:1"] = Origin },
    });

    private static bool IsUp(GatewayHost host) => ((Store)host.Services.GetService(typeof(Store))!).IsUp;

    private static (int, string?) Of(Answer answer) => (answer.Status, answer.Reason);

    private static int? CountOf(string metrics) =>
        metrics.Split('\n').FirstOrDefault(line => line.StartsWith("foundry_proof_replay_local_total", StringComparison.Ordinal)) is { } line ? int.Parse(line[(line.IndexOf('}', StringComparison.Ordinal) + 1)..].Split(' ', StringSplitOptions.RemoveEmptyEntries)[0]) : null;
}

/// <summary>What a gateway remembers of proofs is bounded by the tenant's rate, and forgotten once they could not be shown again.</summary>
public sealed class RememberedProofs
{
    private readonly FakeTimeProvider _time = new(TimeProvider.System.GetUtcNow());

    [Fact]
    public async Task Are_no_more_than_the_tenants_rate_has_use_for()
    {
        await using var store = RunningStore.Idle("127.0.0.1:1");
        var seen = new SeenProofs(store.Store, _time);
        using var key = SigningKey.Generate();
        for (var i = 0; i < 1000; i++)
            Assert.Equal(Sighting.FirstHere, await seen.NoteAsync("acme", 1, Proof(key)));
        Assert.Equal(Sighting.TooMany, await seen.NoteAsync("acme", 1, Proof(key)));
        Assert.Equal(Sighting.FirstHere, await seen.NoteAsync("other", 1, Proof(key)));
        Assert.Equal(Sighting.FirstHere, await seen.NoteAsync("acme", 1000, Proof(key)));

        _time.Advance(TimeSpan.FromSeconds(130));
        Assert.Equal(Sighting.FirstHere, await seen.NoteAsync("acme", 1, Proof(key)));
    }

    [Theory]
    [InlineData(0, 129)]
    [InlineData(60, 189)]
    [InlineData(129, 258)]
    [InlineData(131, 259)]
    public async Task Are_known_for_as_long_as_they_could_be_shown_again(int notedAt, int shownAt)
    {
        await using var store = RunningStore.Idle("127.0.0.1:1");
        var seen = new SeenProofs(store.Store, _time);
        using var key = SigningKey.Generate();
        var proof = Proof(key);
        Assert.Equal(Sighting.FirstHere, await seen.NoteAsync("acme", 600, Proof(key)));
        _time.Advance(TimeSpan.FromSeconds(notedAt));
        Assert.Equal(Sighting.FirstHere, await seen.NoteAsync("acme", 600, proof));
        _time.Advance(TimeSpan.FromSeconds(shownAt - notedAt));
        Assert.Equal(Sighting.Again, await seen.NoteAsync("acme", 600, proof));
        _time.Advance(TimeSpan.FromSeconds(261));
        Assert.Equal(Sighting.FirstHere, await seen.NoteAsync("acme", 600, proof));
    }

    private DpopProof Proof(SigningKey key)
    {
        Assert.True(DpopProof.TryParse(DpopProof.Create(key, "GET", "http://127.0.0.1:9221/", "t", _time.GetUtcNow()), out var proof));
        return proof;
    }
}
