using System.Globalization;
using System.Numerics;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace Foundry.Tokens.Tests;

/// <summary>A token as issuance makes it, and ways to make it otherwise.</summary>
internal sealed class Mint : IDisposable
{
    public const string Issuer = "http://127.0.0.1:9221";
    public static readonly DateTimeOffset Now = new(2026, 6, 12, 9, 42, 0, TimeSpan.Zero);

    public SigningKey Key { get; } = SigningKey.Generate();

    public KeySet Keys => new([Key.Public]);

    public CapabilityToken Token() => new()
    {
        Iss = Issuer,
        Aud = CapabilityToken.Audience,
        Jti = "01976b3e-7c1a-7000-8000-000000000001",
        Iat = Now.ToUnixTimeSeconds(),
        Nbf = Now.ToUnixTimeSeconds(),
        Exp = Now.ToUnixTimeSeconds() + 3600,
        TenantId = "acme-corp",
        Sub = Key.Public.X,
        Scope = "read",
        SubjectPubkey = Key.Public.X,
    };

    /// <summary>A token whose claims were changed before it was signed.</summary>
    public string With(Action<JsonObject> change)
    {
        Assert.True(Jws.TryParse(Token().Sign(Key), CapabilityToken.Typ, out var jws, out _));
        var claims = JsonNode.Parse(jws.Payload)!.AsObject();
        change(claims);
        return WithPayload(claims.ToJsonString());
    }

    public string WithPayload(string payload) => Jws.Sign(Key, CapabilityToken.Typ, Encoding.UTF8.GetBytes(payload));

    public TokenRefusal? Verify(string text) => CapabilityToken.TryVerify(text, Keys, out _, out var refusal) ? null : refusal;

    public void Dispose() => Key.Dispose();
}

public sealed class CapabilityTokenSignature : IDisposable
{
    private readonly Mint _mint = new();

    [Fact]
    public void Of_a_key_in_force_is_accepted_and_every_claim_comes_back()
    {
        var made = _mint.Token() with
        {
            Cnf = new Confirmation(_mint.Key.Kid),
            WorkspaceId = "w1",
            Roles = ["viewer", "admin"],
            PolicyVersion = 7,
        };
        Assert.True(CapabilityToken.TryVerify(made.Sign(_mint.Key), _mint.Keys, out var read, out _));
        Assert.Equal(made.Roles, read.Roles);
        Assert.Equal(made with { Roles = null, Kid = _mint.Key.Kid }, read with { Roles = null });
    }

    [Fact]
    public void Of_a_key_that_is_not_in_force_is_unknown()
    {
        using var other = SigningKey.Generate();
        Assert.Equal(TokenRefusal.UnknownKey, _mint.Verify(_mint.Token().Sign(other)));
        Assert.False(CapabilityToken.TryVerify(_mint.Token().Sign(_mint.Key), KeySet.Empty, out _, out var refusal));
        Assert.Equal(TokenRefusal.UnknownKey, refusal);
    }

    [Fact]
    public void Under_the_kid_of_another_key_in_force_is_bad()
    {
        using var other = SigningKey.Generate();
        var signed = _mint.Token().Sign(other).Split('.');
        var header = _mint.Token().Sign(_mint.Key).Split('.')[0];
        Assert.False(CapabilityToken.TryVerify($"{header}.{signed[1]}.{signed[2]}", new KeySet([_mint.Key.Public, other.Public]), out _, out var refusal));
        Assert.Equal(TokenRefusal.BadSignature, refusal);
    }

    [Fact]
    public void Over_other_claims_is_bad()
    {
        var good = _mint.Token().Sign(_mint.Key).Split('.');
        var other = (_mint.Token() with { Scope = "input" }).Sign(_mint.Key).Split('.');
        Assert.Equal(TokenRefusal.BadSignature, _mint.Verify($"{good[0]}.{other[1]}.{good[2]}"));
    }

    /// <summary>The classic confusion: a MAC keyed with what everyone knows, the public key.</summary>
    [Theory]
    [InlineData("HS256", TokenRefusal.UnsupportedAlgorithm)]
    [InlineData("EdDSA", TokenRefusal.Malformed)]
    public void That_is_a_MAC_with_the_public_key_as_its_secret_is_refused(string alg, TokenRefusal expected)
    {
        Assert.True(Base64UrlText.TryDecode(_mint.Key.Public.X, out var secret));
        var header = Base64UrlText.Encode(Encoding.UTF8.GetBytes($$"""{"alg":"{{alg}}","typ":"{{CapabilityToken.Typ}}","kid":"{{_mint.Key.Kid}}"}"""));
        var signed = $"{header}.{_mint.Token().Sign(_mint.Key).Split('.')[1]}";
        Assert.Equal(expected, _mint.Verify($"{signed}.{Base64UrlText.Encode(HMACSHA256.HashData(secret, Encoding.ASCII.GetBytes(signed)))}"));
    }

    /// <summary>RFC 8032 section 5.1.7: S + L satisfies the same equation, so without this check anyone could respell a token.</summary>
    [Fact]
    public void With_S_not_below_the_groups_order_is_bad()
    {
        var order = BigInteger.Pow(2, 252) + BigInteger.Parse("27742317777372353535851937790883648493", CultureInfo.InvariantCulture);
        var parts = _mint.Token().Sign(_mint.Key).Split('.');
        Assert.True(Base64UrlText.TryDecode(parts[2], out var signature));
        var s = new BigInteger(signature.AsSpan(32), isUnsigned: true) + order;
        Assert.True(s.TryWriteBytes(signature.AsSpan(32), out _, isUnsigned: true));
        Assert.Equal(TokenRefusal.BadSignature, _mint.Verify($"{parts[0]}.{parts[1]}.{Base64UrlText.Encode(signature)}"));
    }

    [Theory]
    [InlineData("")]
    [InlineData("abc")]
    [InlineData("a.b.c")]
    public void Of_what_is_no_token_is_malformed(string text) => Assert.Equal(TokenRefusal.Malformed, _mint.Verify(text));

    public void Dispose() => _mint.Dispose();
}

public sealed class CapabilityTokenClaims : IDisposable
{
    private readonly Mint _mint = new();

    [Theory]
    [InlineData("iss")]
    [InlineData("aud")]
    [InlineData("jti")]
    [InlineData("iat")]
    [InlineData("nbf")]
    [InlineData("exp")]
    [InlineData("sub")]
    [InlineData("scope")]
    [InlineData("subject_pubkey")]
    public void With_one_missing_are_malformed(string claim)
    {
        Assert.Equal(TokenRefusal.Malformed, _mint.Verify(_mint.With(claims => Assert.True(claims.Remove(claim)))));
        // In another case it is another claim, and this one is still missing.
        Assert.Equal(TokenRefusal.Malformed, _mint.Verify(_mint.With(claims =>
        {
            claims[claim.ToUpperInvariant()] = claims[claim]!.DeepClone();
            claims.Remove(claim);
        })));
    }

    public static TheoryData<string, string> WrongValues { get; } = new()
    {
        { "exp", "\"1781260920\"" },
        { "exp", "1781260920.5" },
        { "exp", "1e400" },
        { "exp", "99999999999999999999" },
        { "exp", "null" },
        { "nbf", "true" },
        { "iat", "{}" },
        { "aud", "[\"foundry\"]" },
        { "iss", "1" },
        { "jti", "null" },
        { "jti", "\"1\"" },
        { "jti", "\"01976b3e7c1a70008000000000000001\"" },
        { "jti", "\"{01976b3e-7c1a-7000-8000-000000000001}\"" },
        { "jti", "\" 01976b3e-7c1a-7000-8000-000000000001\"" },
        { "jti", "\"01976B3E-7C1A-7000-8000-000000000001\"" },
        { "tenant_id", "1" },
        { "tenant_id", "[\"acme-corp\"]" },
        { "sub", "\"\"" },
        { "sub", "null" },
        { "sub", "\"\\ud800\"" },
        { "scope", "\"READ\"" },
        { "scope", "\"read input\"" },
        { "scope", "[\"read\"]" },
        { "scope", "\"\"" },
        { "scope", "null" },
        { "scope", "\"any\"" },
        { "subject_pubkey", "\"\"" },
        { "subject_pubkey", "null" },
        { "subject_pubkey", "\"d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a\"" },
        { "cnf", "\"jkt\"" },
        { "cnf", "{}" },
        { "cnf", "{\"jkt\":null}" },
        { "roles", "\"admin\"" },
        { "policy_version", "\"1\"" },
    };

    [Theory]
    [MemberData(nameof(WrongValues))]
    public void Of_another_type_or_shape_are_malformed(string claim, string value)
    {
        Assert.True(Jws.TryParse(_mint.With(claims => claims[claim] = "HERE"), CapabilityToken.Typ, out var jws, out _));
        var payload = Encoding.UTF8.GetString(jws.Payload).Replace("\"HERE\"", value, StringComparison.Ordinal);
        Assert.Equal(TokenRefusal.Malformed, _mint.Verify(_mint.WithPayload(payload)));
    }

    [Theory]
    [InlineData("scope", "\"input\"")]
    [InlineData("tenant_id", "\"globex\"")]
    [InlineData("exp", "9999999999")]
    [InlineData("\\u0073cope", "\"input\"")]
    public void That_come_twice_are_malformed(string claim, string value)
    {
        Assert.True(Jws.TryParse(_mint.Token().Sign(_mint.Key), CapabilityToken.Typ, out var jws, out _));
        var payload = Encoding.UTF8.GetString(jws.Payload);
        Assert.Equal(TokenRefusal.Malformed, _mint.Verify(_mint.WithPayload($"{payload[..^1]},\"{claim}\":{value}}}")));
        Assert.Equal(TokenRefusal.Malformed, _mint.Verify(_mint.WithPayload($"{{\"{claim}\":{value},{payload[1..]}")));
    }

    [Theory]
    [InlineData("")]
    [InlineData("null")]
    [InlineData("[]")]
    [InlineData("\"x\"")]
    [InlineData("{}")]
    [InlineData("{} {}")]
    public void That_are_no_object_of_claims_are_malformed(string payload) => Assert.Equal(TokenRefusal.Malformed, _mint.Verify(_mint.WithPayload(payload)));

    [Fact]
    public void That_are_not_UTF8_are_malformed() =>
        Assert.Equal(TokenRefusal.Malformed, _mint.Verify(Jws.Sign(_mint.Key, CapabilityToken.Typ, [(byte)'{', (byte)'"', 0xff, (byte)'"', (byte)':', (byte)'1', (byte)'}'])));

    /// <summary>A tenant is absent only on platform tokens.</summary>
    [Theory]
    [InlineData("read", true, true)]
    [InlineData("read", false, false)]
    [InlineData("user", true, true)]
    [InlineData("user", false, false)]
    [InlineData("input", true, true)]
    [InlineData("input", false, false)]
    [InlineData("service:tenant-admin", true, true)]
    [InlineData("service:tenant-admin", false, false)]
    [InlineData("service:platform-admin", true, false)]
    [InlineData("service:platform-admin", false, true)]
    [InlineData("service:fleet-node", true, true)]
    [InlineData("service:fleet-node", false, true)]
    public void Have_a_tenant_exactly_where_the_scope_has_one(string scope, bool tenant, bool accepted)
    {
        var token = _mint.Token() with { Scope = scope, TenantId = tenant ? "acme-corp" : null };
        Assert.Equal(accepted ? null : TokenRefusal.Malformed, _mint.Verify(token.Sign(_mint.Key)));
    }

    [Fact]
    public void Without_a_value_are_not_written()
    {
        Assert.True(Jws.TryParse(_mint.Token().Sign(_mint.Key), CapabilityToken.Typ, out var jws, out _));
        using var claims = JsonDocument.Parse(jws.Payload);
        Assert.Equal(["iss", "aud", "jti", "iat", "nbf", "exp", "tenant_id", "sub", "scope", "subject_pubkey"], claims.RootElement.EnumerateObject().Select(claim => claim.Name));
    }

    public void Dispose() => _mint.Dispose();
}

public sealed class CapabilityTokenClock
{
    /// <summary>Seconds from now to <c>iat</c>, <c>nbf</c> and <c>exp</c>. nbf and iat have 30 s of skew, exp has none.</summary>
    [Theory]
    [InlineData(0, 0, 60, null)]
    [InlineData(30, 0, 60, null)]
    [InlineData(31, 0, 60, TokenRefusal.NotYetValid)]
    [InlineData(0, 30, 60, null)]
    [InlineData(0, 31, 60, TokenRefusal.NotYetValid)]
    [InlineData(-60, -60, 1, null)]
    [InlineData(-60, -60, 0, TokenRefusal.Expired)]
    [InlineData(-60, -60, -1, TokenRefusal.Expired)]
    [InlineData(-60, -60, -30, TokenRefusal.Expired)]
    [InlineData(31, 31, -1, TokenRefusal.NotYetValid)]
    public void Decides_to_the_second(int iat, int nbf, int exp, TokenRefusal? expected)
    {
        using var mint = new Mint();
        var now = Mint.Now.ToUnixTimeSeconds();
        var token = mint.Token() with { Iat = now + iat, Nbf = now + nbf, Exp = now + exp };
        Assert.Equal(expected, token.Check(Mint.Issuer, Mint.Now));
        // Fractions of a second do not lengthen a life.
        Assert.Equal(expected, token.Check(Mint.Issuer, Mint.Now.AddMilliseconds(999)));
    }

    [Theory]
    [InlineData("foundry", Mint.Issuer, null)]
    [InlineData("Foundry", Mint.Issuer, TokenRefusal.WrongAudience)]
    [InlineData("", Mint.Issuer, TokenRefusal.WrongAudience)]
    [InlineData("foundry", "http://127.0.0.1:9221/", TokenRefusal.WrongIssuer)]
    [InlineData("foundry", "https://127.0.0.1:9221", TokenRefusal.WrongIssuer)]
    [InlineData("other", "other", TokenRefusal.WrongAudience)]
    public void Comes_after_audience_and_issuer(string audience, string issuer, TokenRefusal? expected)
    {
        using var mint = new Mint();
        Assert.Equal(expected, (mint.Token() with { Aud = audience, Iss = issuer }).Check(Mint.Issuer, Mint.Now));
        Assert.Equal(expected ?? TokenRefusal.Expired, (mint.Token() with { Aud = audience, Iss = issuer, Exp = 0 }).Check(Mint.Issuer, Mint.Now));
    }

    [Theory]
    [InlineData(long.MaxValue, TokenRefusal.NotYetValid)]
    [InlineData(long.MinValue, null)]
    public void Does_not_overflow(long value, TokenRefusal? expected)
    {
        using var mint = new Mint();
        Assert.Equal(expected, (mint.Token() with { Nbf = value, Iat = value, Exp = long.MaxValue }).Check(Mint.Issuer, Mint.Now));
        Assert.Equal(TokenRefusal.Expired, (mint.Token() with { Exp = long.MinValue }).Check(Mint.Issuer, Mint.Now));
    }
}

public sealed class RefusalNames
{
    [Fact]
    public void Are_the_closed_list_of_reasons() => Assert.Equal(
        ["missing", "malformed", "unsupported_algorithm", "unknown_key", "bad_signature", "expired", "not_yet_valid", "wrong_audience",
            "wrong_issuer", "revoked", "tenant_suspended", "stale_policy", "invalid_proof"],
        Enum.GetValues<TokenRefusal>().Select(refusal => refusal.WireName()));
}
