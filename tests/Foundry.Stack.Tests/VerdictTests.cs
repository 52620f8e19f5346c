using System.Numerics;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using Foundry.Testing;
using Foundry.Tokens;

namespace Foundry.Stack.Tests;

/// <summary>A platform of its own, whose keys the tests know: they sign what nobody should.</summary>
public sealed class OpenPlatform : IAsyncLifetime
{
    public const string TenantId = "acme-corp";
    public const string SuspendedTenantId = "asleep";
    private readonly TempFolder _folder = new();

    public StandaloneProcess Process { get; private set; } = null!;
    public HttpClient Client { get; private set; } = null!;
    public string Admin { get; private set; } = null!;
    /// <summary>The key that signs tokens.</summary>
    public SigningKey Tokens { get; private set; } = null!;
    /// <summary>A key of the trust set that signs no tokens.</summary>
    public SigningKey Gateway { get; private set; } = null!;
    /// <summary>The claims of a good token.</summary>
    public CapabilityToken Good { get; private set; } = null!;

    public async ValueTask InitializeAsync()
    {
        var cancellation = TestContext.Current.CancellationToken;
        Process = await StandaloneProcess.StartAsync(_folder.File("data"), cancellation, environment: new Dictionary<string, string> { ["FOUNDRY_Gateway__AnonymousPerSecond"] = "100000" });
        Client = Http.NewClient(Process.Gateway);
        Admin = (await File.ReadAllTextAsync(Path.Combine(Process.Data, "admin.token"), cancellation)).Trim();
        Tokens = await KeyAsync(Assert.Single(Directory.GetFiles(Path.Combine(Process.Data, "issuance", "tokens.keys"))));
        Gateway = await KeyAsync(Path.Combine(Process.Data, "gateway", "service.key"));
        foreach (var tenant in new[] { TenantId, SuspendedTenantId })
            Assert.Equal(201, (await Client.PostAsync(Admin, "/v1/tenants", $$"""{"tenant_id":"{{tenant}}","display_name":"x","max_vms":1,"storage_quota_gb":1,"api_rate_limit_rpm":100000}""", cancellation)).Status);
        using var subject = SigningKey.Generate();
        var now = TimeProvider.System.GetUtcNow().ToUnixTimeSeconds();
        Good = new CapabilityToken
        {
            Iss = "http://127.0.0.1:9221",
            Aud = CapabilityToken.Audience,
            Jti = Guid.CreateVersion7().ToString(),
            Iat = now,
            Nbf = now,
            Exp = now + 86_400,
            TenantId = TenantId,
            Sub = subject.Public.X,
            Scope = "read",
            SubjectPubkey = subject.Public.X,
        };
        // Both have heard of the tenants, and the gateway has rate for the first.
        await Eventually.TrueAsync(async () => (await AskGatewayAsync(Good.Sign(Tokens))).Status == 200);
    }

    /// <summary>Issuance's verdict.</summary>
    public async Task<(int Status, string? Reason)> AskIssuanceAsync(string token)
    {
        var answer = await Client.PostAsync(null, "/v1/tokens/verify", $$"""{"token":{{JsonSerializer.Serialize(token)}}}""", TestContext.Current.CancellationToken);
        return (answer.Status, answer.Status == 200 ? null : answer.Text("reason"));
    }

    /// <summary>The gateway's.</summary>
    public async Task<(int Status, string? Reason)> AskGatewayAsync(string token)
    {
        var answer = await Client.SendAsync(null, HttpMethod.Get, "/v1/status", null, TestContext.Current.CancellationToken, ("Authorization", $"Bearer {token}"));
        return (answer.Status, answer.Status == 200 ? null : answer.Text("reason"));
    }

    public async ValueTask DisposeAsync()
    {
        await Process.DisposeAsync();
        Client.Dispose();
        Tokens.Dispose();
        Gateway.Dispose();
        _folder.Dispose();
    }

    private static async Task<SigningKey> KeyAsync(string file)
    {
        Assert.True(SigningKey.TryImport((await File.ReadAllTextAsync(file, TestContext.Current.CancellationToken)).Trim(), out var key), file);
        return key;
    }
}

/// <summary>Issuance and the gateway give every token the same verdict, for the same reason (docs/formats/token.md, Verdict).</summary>
public sealed class Verdict(OpenPlatform platform) : IClassFixture<OpenPlatform>
{
    private static readonly SigningKey _stranger = SigningKey.Generate();

    /// <summary>Each case: the reason (none where the token is good), what is the matter, and the token.</summary>
    private static readonly Dictionary<string, Func<OpenPlatform, string>> Tokens = new()
    {
        ["good"] = p => p.Good.Sign(p.Tokens),
        ["good: the algorithm's other name"] = p => With(p, """{"alg":"Ed25519","typ":"foundry-cap+jwt","kid":"KID"}"""),
        ["good: half a minute ahead"] = p => (p.Good with { Nbf = p.Good.Nbf + 20, Iat = p.Good.Iat + 20 }).Sign(p.Tokens),
        ["good: claims of which nobody knows"] = p => Of(p, Claims(p).Replace("{", "{\"extra\":[1],", StringComparison.Ordinal)),

        ["unsupported_algorithm: none"] = p => With(p, """{"alg":"none","typ":"foundry-cap+jwt","kid":"KID"}"""),
        ["unsupported_algorithm: none, and no signature"] = p => Unsigned(p, """{"alg":"none","typ":"foundry-cap+jwt","kid":"KID"}""") + Base64UrlText.Encode(new byte[64]),
        ["unsupported_algorithm: HMAC with the public key as its secret"] = p => Hmac(p, Decode(p.Tokens.Public.X)),
        ["unsupported_algorithm: HMAC with the public key's text as its secret"] = p => Hmac(p, Encoding.ASCII.GetBytes(p.Tokens.Public.X)),
        ["unsupported_algorithm: RSA"] = p => With(p, """{"alg":"RS256","typ":"foundry-cap+jwt","kid":"KID"}"""),
        ["unsupported_algorithm: another case"] = p => With(p, """{"alg":"eddsa","typ":"foundry-cap+jwt","kid":"KID"}"""),

        ["unknown_key: a stranger's"] = p => p.Good.Sign(_stranger),
        ["unknown_key: of the trust set, but not for tokens"] = p => p.Good.Sign(p.Gateway),
        ["unknown_key: a path"] = p => With(p, """{"alg":"EdDSA","typ":"foundry-cap+jwt","kid":"../../etc/passwd"}"""),
        ["unknown_key: empty"] = p => With(p, """{"alg":"EdDSA","typ":"foundry-cap+jwt","kid":""}"""),
        ["bad_signature: a stranger's under our kid"] = p => With(p, """{"alg":"EdDSA","typ":"foundry-cap+jwt","kid":"KID"}""", by: _stranger),
        ["bad_signature: of other claims"] = p => Graft(p.Good.Sign(p.Tokens), (p.Good with { Scope = "input" }).Sign(p.Tokens)),
        ["bad_signature: S not below L"] = p => WithoutCanonicalS(p.Good.Sign(p.Tokens)),
        ["bad_signature: R of small order, S zero"] = p => Unsigned(p, Header) + Base64UrlText.Encode([1, .. new byte[63]]),
        ["bad_signature: all zero"] = p => Unsigned(p, Header) + Base64UrlText.Encode(new byte[64]),

        ["malformed: four segments"] = p => p.Good.Sign(p.Tokens) + ".AAAA",
        ["malformed: two segments"] = p => p.Good.Sign(p.Tokens)[..p.Good.Sign(p.Tokens).LastIndexOf('.')],
        ["malformed: padding"] = p => p.Good.Sign(p.Tokens) + "==",
        ["malformed: unused bits set"] = p => WithUnusedBits(p.Good.Sign(p.Tokens)),
        ["malformed: the other alphabet"] = p => p.Good.Sign(p.Tokens).Replace('-', '+').Replace('_', '/') + "+",
        ["malformed: white space inside"] = p => p.Good.Sign(p.Tokens).Replace(".", ". ", StringComparison.Ordinal),
        ["malformed: a short signature"] = p => Unsigned(p, Header) + Base64UrlText.Encode(new byte[63]),
        ["malformed: typ JWT"] = p => With(p, """{"alg":"EdDSA","typ":"JWT","kid":"KID"}"""),
        ["malformed: typ of an assertion"] = p => With(p, """{"alg":"EdDSA","typ":"foundry-assertion+jwt","kid":"KID"}"""),
        ["malformed: typ of a proof"] = p => With(p, """{"alg":"EdDSA","typ":"dpop+jwt","kid":"KID"}"""),
        ["malformed: no typ"] = p => With(p, """{"alg":"EdDSA","kid":"KID"}"""),
        ["malformed: no kid"] = p => With(p, """{"alg":"EdDSA","typ":"foundry-cap+jwt"}"""),
        ["malformed: crit"] = p => With(p, """{"alg":"EdDSA","typ":"foundry-cap+jwt","kid":"KID","crit":["exp"]}"""),
        ["malformed: jku"] = p => With(p, """{"alg":"EdDSA","typ":"foundry-cap+jwt","kid":"KID","jku":"http://127.0.0.1:1/jwks.json"}"""),
        ["malformed: jwk"] = p => With(p, $$$"""{"alg":"EdDSA","typ":"foundry-cap+jwt","kid":"KID","jwk":{"kty":"OKP","crv":"Ed25519","x":"{{{_stranger.Public.X}}}"}}""", by: _stranger),
        ["malformed: x5u"] = p => With(p, """{"alg":"EdDSA","typ":"foundry-cap+jwt","kid":"KID","x5u":"http://127.0.0.1:1/"}"""),
        ["malformed: x5c"] = p => With(p, """{"alg":"EdDSA","typ":"foundry-cap+jwt","kid":"KID","x5c":["MII"]}"""),
        ["malformed: alg twice"] = p => With(p, """{"alg":"none","alg":"EdDSA","typ":"foundry-cap+jwt","kid":"KID"}"""),
        ["malformed: a claim twice"] = p => Of(p, Claims(p).Replace("\"scope\":\"read\"", "\"scope\":\"read\",\"scope\":\"input\"", StringComparison.Ordinal)),
        ["malformed: a claim twice, once escaped"] = p => Of(p, Claims(p).Replace("\"scope\":\"read\"", "\"scope\":\"read\",\"\\u0073cope\":\"input\"", StringComparison.Ordinal)),
        ["malformed: no scope"] = p => Of(p, Claims(p).Replace("\"scope\":\"read\",", "", StringComparison.Ordinal)),
        ["malformed: a scope in capitals"] = p => (p.Good with { Scope = "READ" }).Sign(p.Tokens),
        ["malformed: two scopes"] = p => (p.Good with { Scope = "read input" }).Sign(p.Tokens),
        ["malformed: a jti in capitals"] = p => (p.Good with { Jti = p.Good.Jti.ToUpperInvariant() }).Sign(p.Tokens),
        ["malformed: a time in words"] = p => Of(p, Claims(p).Replace("\"exp\":", "\"exp\":\"never\",\"x\":", StringComparison.Ordinal)),
        ["malformed: an administrator with a tenant"] = p => (p.Good with { Scope = "service:platform-admin" }).Sign(p.Tokens),
        ["malformed: a tier without a tenant"] = p => (p.Good with { TenantId = null }).Sign(p.Tokens),
        ["malformed: a key of another length"] = p => (p.Good with { SubjectPubkey = "AAAA" }).Sign(p.Tokens),
        ["malformed: bytes that are no text"] = p => OfBytes(p, [.. Encoding.UTF8.GetBytes(Claims(p)[..^1]), .. ",\"sub2\":\""u8, 0xFF, .. "\"}"u8]),
        ["malformed: no claims"] = p => Of(p, "{}"),
        ["malformed: claims in a list"] = p => Of(p, $"[{Claims(p)}]"),
        ["malformed: something behind the claims"] = p => Of(p, Claims(p) + "{}"),

        ["wrong_audience: another"] = p => (p.Good with { Aud = "foundry-two" }).Sign(p.Tokens),
        ["malformed: audiences in a list"] = p => Of(p, Claims(p).Replace("\"aud\":\"foundry\"", "\"aud\":[\"foundry\"]", StringComparison.Ordinal)),
        ["wrong_issuer: another"] = p => (p.Good with { Iss = "https://evil.example" }).Sign(p.Tokens),
        ["wrong_issuer: a slash more"] = p => (p.Good with { Iss = p.Good.Iss + "/" }).Sign(p.Tokens),
        ["expired: long ago"] = p => (p.Good with { Exp = p.Good.Iat - 1 }).Sign(p.Tokens),
        ["expired: before there was a clock"] = p => (p.Good with { Iat = -1, Nbf = -1, Exp = long.MinValue }).Sign(p.Tokens),
        ["not_yet_valid: nbf"] = p => (p.Good with { Nbf = p.Good.Nbf + 7200 }).Sign(p.Tokens),
        ["not_yet_valid: iat"] = p => (p.Good with { Iat = long.MaxValue }).Sign(p.Tokens),
        ["revoked: its tenant never was"] = p => (p.Good with { TenantId = "nobody-ever" }).Sign(p.Tokens),
    };

    private const string Header = """{"alg":"EdDSA","typ":"foundry-cap+jwt","kid":"KID"}""";

    public static TheoryData<string> Cases => [.. Tokens.Keys];

    [Theory, MemberData(nameof(Cases))]
    public async Task Is_the_same_at_both(string @case)
    {
        var token = Tokens[@case](platform);
        var expected = @case.Split(':')[0] is "good" ? (200, null) : (401, @case.Split(':')[0]);

        Assert.Equal((expected, expected), (await platform.AskIssuanceAsync(token), await platform.AskGatewayAsync(token)));
        // A verdict may be cached: it is the same the second time.
        Assert.Equal((expected, expected), (await platform.AskIssuanceAsync(token), await platform.AskGatewayAsync(token)));
    }

    [Fact]
    public async Task Of_what_was_revoked_or_whose_tenant_sleeps_is_the_same_at_both()
    {
        var cancellation = TestContext.Current.CancellationToken;
        using var key = SigningKey.Generate();
        async Task<Answer> IssueAsync(string tenant) => await platform.Client.PostAsync(platform.Admin, $"/v1/tenants/{tenant}/tokens", $$"""{"subject_pubkey":"{{key.Public.X}}","scope":"read","expires_in_seconds":600}""", cancellation);
        var (revoked, asleep) = (await IssueAsync(OpenPlatform.TenantId), await IssueAsync(OpenPlatform.SuspendedTenantId));
        Assert.Equal((201, 201), (revoked.Status, asleep.Status));

        Assert.Equal(204, (await platform.Client.SendAsync(platform.Admin, HttpMethod.Delete, $"/v1/tokens/{revoked.Text("token_id")}", null, cancellation)).Status);
        Assert.Equal(200, (await platform.Client.SendAsync(platform.Admin, HttpMethod.Patch, $"/v1/tenants/{OpenPlatform.SuspendedTenantId}", """{"status":"suspended"}""", cancellation)).Status);

        foreach (var (issued, reason) in new[] { (revoked, "revoked"), (asleep, "tenant_suspended") })
        {
            await Eventually.TrueAsync(async () => await platform.AskGatewayAsync(issued.Text("token")!) == (401, reason));
            Assert.Equal((401, reason), await platform.AskIssuanceAsync(issued.Text("token")!));
        }
    }

    /// <summary>The one difference, and why: issuance is asked about a token, the gateway about whoever sends it.</summary>
    [Fact]
    public async Task Of_a_bound_token_is_about_the_token_at_issuance_and_about_its_sender_at_the_gateway()
    {
        var cancellation = TestContext.Current.CancellationToken;
        using var key = SigningKey.Generate();
        var issued = await platform.Client.PostAsync(platform.Admin, $"/v1/tenants/{OpenPlatform.TenantId}/tokens", $$"""{"subject_pubkey":"{{key.Public.X}}","scope":"read","expires_in_seconds":600,"proof":true}""", cancellation);
        var token = issued.Text("token")!;
        async Task<Answer> SendAsync(HttpMethod method, string path)
        {
            Answer? answer = null;
            // 503: on a busy machine the store may be away for a moment.
            await Eventually.TrueAsync(async () => (answer = await platform.Client.SendAsync(null, method, path, null, cancellation,
                ("Authorization", $"DPoP {token}"), ("DPoP", DpopProof.Create(key, method.Method, new Uri(platform.Process.Gateway, path).AbsoluteUri, token, TimeProvider.System.GetUtcNow())))).Status != 503);
            return answer!;
        }

        Assert.Equal((200, null), await platform.AskIssuanceAsync(token));
        Assert.Equal((401, "invalid_proof"), await platform.AskGatewayAsync(token));
        Assert.Equal(200, (await SendAsync(HttpMethod.Get, "/v1/status")).Status);
        // Renewed through both: the same token, character by character.
        var renewed = await SendAsync(HttpMethod.Post, "/v1/tokens/renew");
        Assert.Equal((200, issued.Body), (renewed.Status, renewed.Body));
        Assert.Equal((401, "invalid_proof"), await RefusedAsync(platform.Client.SendAsync(token, HttpMethod.Post, "/v1/tokens/renew", null, cancellation)));
    }

    private static async Task<(int, string?)> RefusedAsync(Task<Answer> asked)
    {
        var answer = await asked;
        return (answer.Status, answer.Text("reason"));
    }

    private static string Claims(OpenPlatform p) => Encoding.UTF8.GetString(Decode(p.Good.Sign(p.Tokens).Split('.')[1]));

    private static string Of(OpenPlatform p, string claims) => OfBytes(p, Encoding.UTF8.GetBytes(claims));

    private static string OfBytes(OpenPlatform p, byte[] claims) => Jws.Sign(p.Tokens, CapabilityToken.Typ, claims);

    private static string Unsigned(OpenPlatform p, string header) =>
        $"{Base64UrlText.Encode(Encoding.UTF8.GetBytes(header.Replace("KID", p.Tokens.Kid, StringComparison.Ordinal)))}.{p.Good.Sign(p.Tokens).Split('.')[1]}.";

    private static string With(OpenPlatform p, string header, SigningKey? by = null)
    {
        var signed = Unsigned(p, header);
        return signed + Base64UrlText.Encode((by ?? p.Tokens).Sign(Encoding.ASCII.GetBytes(signed[..^1])));
    }

    private static string Hmac(OpenPlatform p, byte[] secret)
    {
        var signed = Unsigned(p, """{"alg":"HS256","typ":"foundry-cap+jwt","kid":"KID"}""");
        return signed + Base64UrlText.Encode(HMACSHA256.HashData(secret, Encoding.ASCII.GetBytes(signed[..^1])));
    }

    private static string Graft(string token, string signatureOf) => token[..token.LastIndexOf('.')] + signatureOf[signatureOf.LastIndexOf('.')..];

    /// <summary>The same signature with the group's order added to S (RFC 8032 section 5.1.7 forbids it).</summary>
    private static string WithoutCanonicalS(string token)
    {
        var signature = Decode(token.Split('.')[2]);
        var order = BigInteger.Pow(2, 252) + BigInteger.Parse("27742317777372353535851937790883648493", System.Globalization.CultureInfo.InvariantCulture);
        var s = (new BigInteger(signature.AsSpan(32), isUnsigned: true) + order).ToByteArray(isUnsigned: true);
        signature.AsSpan(32).Clear();
        s.CopyTo(signature.AsSpan(32));
        return token[..(token.LastIndexOf('.') + 1)] + Base64UrlText.Encode(signature);
    }

    private static string WithUnusedBits(string token)
    {
        const string alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        return token[..^1] + alphabet[alphabet.IndexOf(token[^1], StringComparison.Ordinal) + 1];
    }

    private static byte[] Decode(string text) => Base64UrlText.TryDecode(text, out var bytes) ? bytes : throw new FormatException();
}
