using System.Text;
using System.Text.Json;
using CsCheck;

namespace Foundry.Tokens.Tests;

/// <summary>A proof says one thing: this key's holder makes this request with this token, now (RFC 9449 section 4.3).</summary>
public sealed class ProofOfPossession : IDisposable
{
    private const string Url = "http://127.0.0.1:9221/v1/vms";
    private const string Token = "eyJ.a.token";
    private static readonly DateTimeOffset Now = DateTimeOffset.FromUnixTimeSeconds(1_800_000_000);
    private readonly SigningKey _key = SigningKey.Generate();
    private readonly SigningKey _other = SigningKey.Generate();

    private const string Header = """{"typ":"dpop+jwt","alg":"EdDSA","jwk":{"kty":"OKP","crv":"Ed25519","x":"X"}}""";
    private const string Claims = """{"jti":"j-1","htm":"GET","htu":"http://127.0.0.1:9221/v1/vms","iat":1800000000,"ath":"ATH"}""";

    private static string Ath => Base64UrlText.Encode(System.Security.Cryptography.SHA256.HashData(Encoding.ASCII.GetBytes(Token)));

    /// <summary>A proof that says this, its signature made over what it really says.</summary>
    private string Of(string header = Header, string claims = Claims) =>
        Of(Encoding.UTF8.GetBytes(header.Replace("\"X\"", $"\"{_key.Public.X}\"", StringComparison.Ordinal)), Encoding.UTF8.GetBytes(claims.Replace("ATH", Ath, StringComparison.Ordinal)));

    private string Of(byte[] header, byte[] claims)
    {
        var signed = $"{Base64UrlText.Encode(header)}.{Base64UrlText.Encode(claims)}";
        return $"{signed}.{Base64UrlText.Encode(_key.Sign(Encoding.ASCII.GetBytes(signed)))}";
    }

    private static HttpTarget Target(string url)
    {
        Assert.True(HttpTarget.TryParse(url, out var target), url);
        return target;
    }

    private static bool Proves(string proof, string method = "GET", string url = Url, string token = Token, DateTimeOffset? now = null) =>
        DpopProof.TryParse(proof, out var parsed) && parsed.Proves(method, [Target(url)], token, now ?? Now);

    [Fact]
    public void Made_by_us_proves_the_request_it_was_made_for_and_no_other()
    {
        var proof = DpopProof.Create(_key, "GET", Url + "?tenant_id=acme#x", Token, Now);
        Assert.True(DpopProof.TryParse(proof, out var parsed));
        Assert.Equal(_key.Public, parsed.Key);
        Assert.Equal(Now + DpopProof.AgeMax, parsed.GoodUntil);
        Assert.True(Proves(proof));
        Assert.True(Proves(proof, url: Url + "?limit=1"));
        Assert.True(parsed.Proves("GET", [Target("https://gateway.example/v1/vms"), Target(Url)], Token, Now));
        Assert.False(parsed.Proves("GET", [], Token, Now));
        Assert.False(Proves(proof, method: "POST"));
        Assert.False(Proves(proof, method: "get"));
        Assert.False(Proves(proof, url: "http://127.0.0.1:9221/v1/vms/"));
        Assert.False(Proves(proof, url: "http://127.0.0.1:9221/v1/VMS"));
        Assert.False(Proves(proof, url: "https://127.0.0.1:9221/v1/vms"));
        Assert.False(Proves(proof, url: "http://127.0.0.1:9222/v1/vms"));
        Assert.False(Proves(proof, url: "http://localhost:9221/v1/vms"));
        Assert.False(Proves(proof, token: Token + "x"));
    }

    [Theory]
    [InlineData(-61, false)]
    [InlineData(-60, true)]
    [InlineData(60, true)]
    [InlineData(61, false)]
    public void Is_good_for_a_minute_either_way(int seconds, bool good) =>
        Assert.Equal(good, Proves(DpopProof.Create(_key, "GET", Url, Token, Now.AddSeconds(seconds))));

    public static TheoryData<string> Accepted { get; } = new(
        Claims,
        Claims.Replace("}", ",\"nonce\":\"n\"}", StringComparison.Ordinal),
        Claims.Replace("}", ",\"extra\":{\"a\":[1]}}", StringComparison.Ordinal),
        Claims.Replace("}", ",\"exp\":1800000001}", StringComparison.Ordinal),
        Claims.Replace("}", ",\"nbf\":1800000060}", StringComparison.Ordinal),
        Claims.Replace("1800000000", "1800000000.25", StringComparison.Ordinal),
        Claims.Replace("1800000000", "1.8e9", StringComparison.Ordinal),
        Claims.Replace("http://127", "HTTP://127", StringComparison.Ordinal),
        Claims.Replace("/v1/vms", "/v1/%76ms?tenant_id=acme#f", StringComparison.Ordinal),
        Claims.Replace("/v1/vms", "/v1/x/../vms", StringComparison.Ordinal));

    [Theory]
    [MemberData(nameof(Accepted))]
    public void With_what_the_standard_lets_a_client_write_it_proves(string claims) => Assert.True(Proves(Of(claims: claims)));

    [Fact]
    public void With_the_algorithms_other_name_it_proves() => Assert.True(Proves(Of(Header.Replace("EdDSA", "Ed25519", StringComparison.Ordinal))));

    public static TheoryData<string> BadHeaders { get; } = new(
        Header.Replace("dpop+jwt", "DPoP+JWT", StringComparison.Ordinal),
        Header.Replace("dpop+jwt", "JWT", StringComparison.Ordinal),
        Header.Replace("dpop+jwt", "foundry-cap+jwt", StringComparison.Ordinal),
        Header.Replace("\"typ\":\"dpop+jwt\",", "", StringComparison.Ordinal),
        Header.Replace("EdDSA", "none", StringComparison.Ordinal),
        Header.Replace("EdDSA", "HS256", StringComparison.Ordinal),
        Header.Replace("EdDSA", "ES256", StringComparison.Ordinal),
        Header.Replace("EdDSA", "Ed448", StringComparison.Ordinal),
        Header.Replace("EdDSA", "eddsa", StringComparison.Ordinal),
        Header.Replace("\"alg\":\"EdDSA\",", "", StringComparison.Ordinal),
        Header.Replace("\"EdDSA\"", "[\"EdDSA\"]", StringComparison.Ordinal),
        Header.Replace("\"alg\"", "\"alg\":\"none\",\"alg\"", StringComparison.Ordinal),
        Header.Replace("\"alg\"", "\"\\u0061lg\":\"none\",\"alg\"", StringComparison.Ordinal),
        Header.Replace("\"typ\"", "\"kid\":\"k\",\"typ\"", StringComparison.Ordinal),
        Header.Replace("\"typ\"", "\"crit\":[\"exp\"],\"typ\"", StringComparison.Ordinal),
        Header.Replace("\"typ\"", "\"jku\":\"https://a.example\",\"typ\"", StringComparison.Ordinal),
        Header.Replace("\"typ\"", "\"x5c\":[\"MII\"],\"typ\"", StringComparison.Ordinal),
        Header.Replace("OKP", "EC", StringComparison.Ordinal),
        Header.Replace("Ed25519", "X25519", StringComparison.Ordinal),
        Header.Replace("\"kty\"", "\"d\":\"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A\",\"kty\"", StringComparison.Ordinal),
        Header.Replace("\"kty\"", "\"kid\":\"k\",\"kty\"", StringComparison.Ordinal),
        Header.Replace("\"kty\"", "\"kty\":\"OKP\",\"kty\"", StringComparison.Ordinal),
        Header.Replace("\"kty\":\"OKP\",", "", StringComparison.Ordinal),
        Header.Replace("{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"X\"}", "\"X\"", StringComparison.Ordinal),
        Header.Replace("{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"X\"}", "null", StringComparison.Ordinal),
        Header.Replace(",\"jwk\":{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"X\"}", "", StringComparison.Ordinal),
        // The neutral point, one of order eight, and a text that is no key at all.
        Header.Replace("\"X\"", "\"AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"", StringComparison.Ordinal),
        Header.Replace("\"X\"", "\"JuiVj8KyJ7BFw_SJ8u-Y8NWspawGbTnGKJj4lOj_BYU\"", StringComparison.Ordinal),
        Header.Replace("\"X\"", "\"x\"", StringComparison.Ordinal),
        Header.Replace("\"X\"", "7", StringComparison.Ordinal),
        Header + " {}",
        "[]",
        "");

    [Theory]
    [MemberData(nameof(BadHeaders))]
    public void With_any_other_header_it_is_none(string header) => Assert.False(DpopProof.TryParse(Of(header), out _));

    public static TheoryData<string> BadClaims { get; } = new(
        Claims.Replace("\"jti\":\"j-1\",", "", StringComparison.Ordinal),
        Claims.Replace("j-1", "", StringComparison.Ordinal),
        Claims.Replace("j-1", "a b", StringComparison.Ordinal),
        Claims.Replace("j-1", "é", StringComparison.Ordinal),
        Claims.Replace("j-1", "a\\u0000", StringComparison.Ordinal),
        Claims.Replace("j-1", "\\ud800", StringComparison.Ordinal),
        Claims.Replace("j-1", new string('j', DpopProof.JtiCharsMax + 1), StringComparison.Ordinal),
        Claims.Replace("\"j-1\"", "1", StringComparison.Ordinal),
        Claims.Replace("\"htm\":\"GET\",", "", StringComparison.Ordinal),
        Claims.Replace("\"GET\"", "null", StringComparison.Ordinal),
        Claims.Replace("\"htu\":\"http://127.0.0.1:9221/v1/vms\",", "", StringComparison.Ordinal),
        Claims.Replace("http://127.0.0.1:9221", "", StringComparison.Ordinal),
        Claims.Replace("http://127", "ftp://127", StringComparison.Ordinal),
        Claims.Replace("\"iat\":1800000000,", "", StringComparison.Ordinal),
        Claims.Replace("1800000000", "\"1800000000\"", StringComparison.Ordinal),
        Claims.Replace("1800000000", "-1", StringComparison.Ordinal),
        Claims.Replace("1800000000", "1e999", StringComparison.Ordinal),
        Claims.Replace(",\"ath\":\"ATH\"", "", StringComparison.Ordinal),
        Claims.Replace("\"ATH\"", "null", StringComparison.Ordinal),
        Claims.Replace("}", ",\"exp\":\"never\"}", StringComparison.Ordinal),
        Claims.Replace("}", ",\"nbf\":null}", StringComparison.Ordinal),
        Claims.Replace("}", ",\"jti\":\"j-2\"}", StringComparison.Ordinal),
        Claims.Replace("}", ",\"\\u006ati\":\"j-2\"}", StringComparison.Ordinal),
        Claims.Replace("}", ",\"extra\":{\"a\":1,\"a\":2}}", StringComparison.Ordinal),
        Claims.Replace("}", ",}", StringComparison.Ordinal),
        Claims + "{}",
        $"[{Claims}]",
        "null",
        "");

    [Theory]
    [MemberData(nameof(BadClaims))]
    public void With_claims_that_are_missing_twice_or_wrong_it_is_none(string claims) => Assert.False(DpopProof.TryParse(Of(claims: claims), out _));

    public static TheoryData<string> OtherClaims { get; } = new(
        Claims.Replace("ATH", "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU", StringComparison.Ordinal),
        Claims.Replace("ATH", "ATH=", StringComparison.Ordinal),
        Claims.Replace("\"GET\"", "\"get\"", StringComparison.Ordinal),
        Claims.Replace("9221", "9222", StringComparison.Ordinal),
        Claims.Replace("}", ",\"exp\":1800000000}", StringComparison.Ordinal),
        Claims.Replace("}", ",\"nbf\":1800000061}", StringComparison.Ordinal));

    [Theory]
    [MemberData(nameof(OtherClaims))]
    public void About_something_else_it_proves_nothing(string claims)
    {
        Assert.True(DpopProof.TryParse(Of(claims: claims), out _));
        Assert.False(Proves(Of(claims: claims)));
    }

    [Fact]
    public void In_bytes_that_are_no_text_it_is_none()
    {
        var header = Encoding.UTF8.GetBytes(Header.Replace("\"X\"", $"\"{_key.Public.X}\"", StringComparison.Ordinal));
        var claims = Encoding.UTF8.GetBytes(Claims.Replace("}", ",\"extra\":\"?\"}", StringComparison.Ordinal));
        Assert.True(DpopProof.TryParse(Of(header, claims), out _));
        claims[Array.LastIndexOf(claims, (byte)'?')] = 0xFF;
        Assert.False(DpopProof.TryParse(Of(header, claims), out _));
    }

    [Fact]
    public void Over_its_bound_it_is_none()
    {
        Assert.True(DpopProof.TryParse(Of(claims: Claims.Replace("}", $",\"p\":\"{new string('x', 2000)}\"}}", StringComparison.Ordinal)), out _));
        Assert.False(DpopProof.TryParse(Of(claims: Claims.Replace("}", $",\"p\":\"{new string('x', 3000)}\"}}", StringComparison.Ordinal)), out _));
    }

    [Fact]
    public void Signed_by_another_key_it_proves_nothing()
    {
        var proof = DpopProof.Create(_key, "GET", Url, Token, Now).Split('.');
        var forged = _other.Sign(Encoding.ASCII.GetBytes($"{proof[0]}.{proof[1]}"));
        Assert.False(Proves($"{proof[0]}.{proof[1]}.{Base64UrlText.Encode(forged)}"));
    }

    [Fact]
    public void Any_changed_character_makes_it_prove_nothing()
    {
        const string alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=";
        var proof = DpopProof.Create(_key, "GET", Url, Token, Now);
        Gen.Select(Gen.Int[0, proof.Length - 1], Gen.Int[0, alphabet.Length - 1]).Sample(at =>
        {
            var changed = proof[..at.Item1] + alphabet[at.Item2] + proof[(at.Item1 + 1)..];
            return changed == proof || !Proves(changed);
        });
    }

    /// <summary>Whatever is sent, the answer is yes or no.</summary>
    [Fact]
    public void Nothing_that_is_sent_is_a_fault()
    {
        Gen.String.Sample(text => !DpopProof.TryParse(text, out _));
        Gen.Select(Gen.Byte.Array[0, 200], Gen.Byte.Array[0, 200]).Sample((header, claims) => !DpopProof.TryParse(Of(header, claims), out _));
    }

    [Fact]
    public void Is_remembered_by_its_key_and_ID_together()
    {
        Assert.True(DpopProof.TryParse(Of(), out var first));
        Assert.True(DpopProof.TryParse(Of(claims: Claims.Replace("1800000000", "1800000001", StringComparison.Ordinal)), out var sameId));
        Assert.True(DpopProof.TryParse(Of(claims: Claims.Replace("j-1", "j-2", StringComparison.Ordinal)), out var otherId));
        Assert.True(DpopProof.TryParse(Of(Header.Replace("\"X\"", $"\"{_other.Public.X}\"", StringComparison.Ordinal)), out var otherKey));
        Assert.Equal(first.ReplayId, sameId.ReplayId);
        Assert.NotEqual(first.ReplayId, otherId.ReplayId);
        Assert.NotEqual(first.ReplayId, otherKey.ReplayId);
    }

    [Fact]
    public void Two_for_the_same_request_are_different()
    {
        Assert.True(DpopProof.TryParse(DpopProof.Create(_key, "GET", Url, Token, Now), out var first));
        Assert.True(DpopProof.TryParse(DpopProof.Create(_key, "GET", Url, Token, Now), out var second));
        Assert.NotEqual(first.ReplayId, second.ReplayId);
    }

    public void Dispose()
    {
        _key.Dispose();
        _other.Dispose();
    }
}

/// <summary>RFC 9449's own examples, as far as they are not about ES256.</summary>
public sealed class Rfc9449
{
    [Fact]
    public void Section_7_1_access_token_hash_and_request()
    {
        using var key = SigningKey.Generate();
        var now = DateTimeOffset.FromUnixTimeSeconds(1562262618);
        const string token = "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU";
        var proof = DpopProof.Create(key, "GET", "https://resource.example.org/protectedresource", token, now);
        Assert.True(Base64UrlText.TryDecode(proof.Split('.')[1], out var claims));
        using var document = JsonDocument.Parse(claims);
        Assert.Equal("fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo", document.RootElement.GetProperty("ath").GetString());
        Assert.Equal("GET", document.RootElement.GetProperty("htm").GetString());
        Assert.Equal("https://resource.example.org/protectedresource", document.RootElement.GetProperty("htu").GetString());
        Assert.Equal(1562262618, document.RootElement.GetProperty("iat").GetInt64());
    }

    /// <summary>Figure 2: a proof with ES256, which is not among our algorithms.</summary>
    [Fact]
    public void Section_4_1_proof_is_of_an_algorithm_that_we_do_not_take() => Assert.False(DpopProof.TryParse(
        "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19"
        + ".eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva2VuIiwiaWF0IjoxNTYyMjYyNjE2fQ"
        + ".2-GxA6T8lP4vfrg8v-FdWP0A0zdrj8igiMLvqRMUvwnQg4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT3Lg", out _));
}

/// <summary>A target has one spelling (RFC 3986 sections 6.2.2 and 6.2.3).</summary>
public sealed class RequestTarget
{
    [Theory]
    [InlineData("http://127.0.0.1:9221/v1/vms", "http://127.0.0.1:9221/v1/vms")]
    [InlineData("HTTPS://Gateway.Example/V1", "https://gateway.example/V1")]
    [InlineData("https://gateway.example:443/v1", "https://gateway.example/v1")]
    [InlineData("http://gateway.example:80/v1", "http://gateway.example/v1")]
    [InlineData("http://gateway.example:443/v1", "http://gateway.example:443/v1")]
    [InlineData("http://gateway.example:/v1", "http://gateway.example/v1")]
    [InlineData("http://gateway.example:09221/v1", "http://gateway.example:9221/v1")]
    [InlineData("http://gateway.example", "http://gateway.example/")]
    [InlineData("http://gateway.example?a=b", "http://gateway.example/")]
    [InlineData("http://gateway.example/a?b/../c#d", "http://gateway.example/a")]
    [InlineData("http://gateway.example/a#b?c", "http://gateway.example/a")]
    [InlineData("http://gateway.example/%7Euser/%2d/%41", "http://gateway.example/~user/-/A")]
    [InlineData("http://gateway.example/%c3%a9/%2f", "http://gateway.example/%C3%A9/%2F")]
    [InlineData("http://gateway.example/a/./b/../c", "http://gateway.example/a/c")]
    [InlineData("http://gateway.example/a/%2e%2E/c", "http://gateway.example/c")]
    [InlineData("http://gateway.example/../..", "http://gateway.example/")]
    [InlineData("http://gateway.example/a/..", "http://gateway.example/")]
    [InlineData("http://gateway.example/a/.", "http://gateway.example/a/")]
    [InlineData("http://gateway.example/.well-known/jwks.json", "http://gateway.example/.well-known/jwks.json")]
    [InlineData("http://gateway.example//a", "http://gateway.example//a")]
    [InlineData("http://[::1]:9221/v1", "http://[::1]:9221/v1")]
    [InlineData("http://[2001:DB8::1]/v1", "http://[2001:db8::1]/v1")]
    public void Is_brought_to_its_normal_form(string text, string normal)
    {
        Assert.True(HttpTarget.TryParse(text, out var target));
        Assert.Equal(normal, target.ToString());
    }

    [Theory]
    [InlineData(null)]
    [InlineData("")]
    [InlineData("/v1/vms")]
    [InlineData("//gateway.example/v1")]
    [InlineData("gateway.example/v1")]
    [InlineData("ftp://gateway.example/v1")]
    [InlineData("http:/gateway.example/v1")]
    [InlineData("http:///v1")]
    [InlineData("http://:9221/v1")]
    [InlineData("http://user@gateway.example/v1")]
    [InlineData("http://gateway.example@evil.example/v1")]
    [InlineData("http://gateway.example:0/v1")]
    [InlineData("http://gateway.example:65536/v1")]
    [InlineData("http://gateway.example:9221x/v1")]
    [InlineData("http://gateway.example:-1/v1")]
    [InlineData("http://gateway.example:1:2/v1")]
    [InlineData("http://[::1/v1")]
    [InlineData("http://[]/v1")]
    [InlineData("http://[::1]x/v1")]
    [InlineData("http://gateway.example\\v1")]
    [InlineData("http://gateway.example/a\\b")]
    [InlineData("http://gateway.example/a b")]
    [InlineData(" http://gateway.example/a")]
    [InlineData("http://gateway.example/a\n")]
    [InlineData("http://gateway.example/é")]
    [InlineData("http://gatewäy.example/")]
    [InlineData("http://gateway.example/%")]
    [InlineData("http://gateway.example/%2")]
    [InlineData("http://gateway.example/%zz")]
    [InlineData("http://gateway%2eexample/")]
    public void Is_none_where_it_could_be_read_in_two_ways(string? text) => Assert.False(HttpTarget.TryParse(text, out _));

    [Fact]
    public void Over_its_bound_it_is_none() => Assert.False(HttpTarget.TryParse("http://a/" + new string('a', HttpTarget.CharsMax), out _));

    [Fact]
    public void Is_its_own_normal_form_and_meets_the_requests()
    {
        Assert.True(HttpTarget.TryParse("http://gateway.example", out var origin));
        var paths = Gen.String[Gen.Char["abAB./~%25eEfF-_"], 0, 40];
        paths.Sample(path =>
        {
            if (!HttpTarget.TryParse($"http://gateway.example/{path}", out var target))
                return !HttpTarget.TryJoin(origin, $"/{path}", out _);
            return HttpTarget.TryParse(target.ToString(), out var again) && again == target
                && HttpTarget.TryJoin(origin, $"/{path}", out var joined) && joined == target;
        });
    }
}
