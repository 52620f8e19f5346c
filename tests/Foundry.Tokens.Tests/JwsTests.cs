using System.Text;

namespace Foundry.Tokens.Tests;

/// <summary>The compact serialisation has one spelling, and its header chooses nothing.</summary>
public sealed class JwsText : IDisposable
{
    private const string Typ = CapabilityToken.Typ;
    private readonly SigningKey _key = SigningKey.Generate();

    private static string Segment(string text) => Base64UrlText.Encode(Encoding.UTF8.GetBytes(text));

    /// <summary>A JWS with this header, its signature made over what it really says.</summary>
    private string With(string header, string payload = "{}")
    {
        var signed = $"{Segment(header.Replace("KID", _key.Kid, StringComparison.Ordinal))}.{Segment(payload)}";
        return $"{signed}.{Base64UrlText.Encode(_key.Sign(Encoding.ASCII.GetBytes(signed)))}";
    }

    private static TokenRefusal? Refusal(string text, int charsMax = Jws.CharsMax) =>
        Jws.TryParse(text, Typ, out _, out var refusal, charsMax) ? null : refusal;

    public static TheoryData<string> Accepted { get; } = new(
        """{"alg":"EdDSA","typ":"foundry-cap+jwt","kid":"KID"}""",
        """{"alg":"Ed25519","typ":"foundry-cap+jwt","kid":"KID"}""",
        """{ "kid": "KID", "typ": "foundry-cap+jwt", "alg": "EdDSA" }""");

    [Theory]
    [MemberData(nameof(Accepted))]
    public void With_exactly_the_three_members_is_read_and_verifies(string header)
    {
        Assert.True(Jws.TryParse(With(header, "{\"a\":1}"), Typ, out var jws, out _));
        Assert.Equal(_key.Kid, jws.Kid);
        Assert.Equal("{\"a\":1}", Encoding.UTF8.GetString(jws.Payload));
        Assert.True(jws.IsSignedBy(_key.Public));
        using var other = SigningKey.Generate();
        Assert.False(jws.IsSignedBy(other.Public));
    }

    public static TheoryData<string> MalformedHeaders { get; } = new(
        """{"alg":"EdDSA","typ":"foundry-cap+jwt","kid":"KID","crit":["exp"]}""",
        """{"alg":"EdDSA","typ":"foundry-cap+jwt","kid":"KID","crit":"exp"}""",
        """{"alg":"EdDSA","typ":"foundry-cap+jwt","kid":"KID","jku":"https://a.example/jwks"}""",
        """{"alg":"EdDSA","typ":"foundry-cap+jwt","kid":"KID","jwk":{"kty":"OKP"}}""",
        """{"alg":"EdDSA","typ":"foundry-cap+jwt","kid":"KID","x5u":"https://a.example/cert"}""",
        """{"alg":"EdDSA","typ":"foundry-cap+jwt","kid":"KID","x5c":["MIIB"]}""",
        """{"alg":"EdDSA","typ":"foundry-cap+jwt","kid":"KID","x5t":"AAAA"}""",
        """{"alg":"EdDSA","typ":"foundry-cap+jwt","kid":"KID","zip":"DEF"}""",
        """{"alg":"EdDSA","typ":"foundry-cap+jwt","kid":"KID","b64":false}""",
        """{"alg":"EdDSA","typ":"foundry-cap+jwt","kid":"KID","cty":"JWT"}""",
        """{"alg":"EdDSA","alg":"EdDSA","typ":"foundry-cap+jwt","kid":"KID"}""",
        """{"alg":"EdDSA","alg":"none","typ":"foundry-cap+jwt","kid":"KID"}""",
        """{"alg":"EdDSA","\u0061lg":"none","typ":"foundry-cap+jwt","kid":"KID"}""",
        """{"alg":"EdDSA","typ":"foundry-cap+jwt","kid":"KID","kid":"KID"}""",
        """{"alg":"EdDSA","typ":"JWT","typ":"foundry-cap+jwt","kid":"KID"}""",
        """{"alg":"EdDSA","Alg":"none","typ":"foundry-cap+jwt","kid":"KID"}""",
        """{"ALG":"EdDSA","typ":"foundry-cap+jwt","kid":"KID"}""",
        """{"alg":"EdDSA","typ":"foundry-cap+jwt","KID":"KID"}""",
        """{"typ":"foundry-cap+jwt","kid":"KID"}""",
        """{"alg":"EdDSA","kid":"KID"}""",
        """{"alg":"EdDSA","typ":"foundry-cap+jwt"}""",
        """{"alg":"EdDSA","typ":"JWT","kid":"KID"}""",
        """{"alg":"EdDSA","typ":"Foundry-Cap+JWT","kid":"KID"}""",
        """{"alg":"EdDSA","typ":"application/foundry-cap+jwt","kid":"KID"}""",
        """{"alg":"EdDSA","typ":"foundry-assertion+jwt","kid":"KID"}""",
        """{"alg":"EdDSA","typ":"foundry-cap+jwt ","kid":"KID"}""",
        """{"alg":1,"typ":"foundry-cap+jwt","kid":"KID"}""",
        """{"alg":null,"typ":"foundry-cap+jwt","kid":"KID"}""",
        """{"alg":["EdDSA"],"typ":"foundry-cap+jwt","kid":"KID"}""",
        """{"alg":"EdDSA","typ":"foundry-cap+jwt","kid":null}""",
        """{"alg":"\ud800","typ":"foundry-cap+jwt","kid":"KID"}""",
        """{"alg":"EdDSA","typ":"foundry-cap+jwt","kid":"KID",}""",
        """{"alg":"EdDSA","typ":"foundry-cap+jwt","kid":"KID"} {}""",
        """/**/{"alg":"EdDSA","typ":"foundry-cap+jwt","kid":"KID"}""",
        "\uFEFF" + """{"alg":"EdDSA","typ":"foundry-cap+jwt","kid":"KID"}""",
        """["EdDSA"]""",
        "\"EdDSA\"",
        "null",
        "");

    [Theory]
    [MemberData(nameof(MalformedHeaders))]
    public void With_any_other_header_is_malformed(string header) => Assert.Equal(TokenRefusal.Malformed, Refusal(With(header)));

    [Theory]
    [InlineData("none")]
    [InlineData("None")]
    [InlineData("")]
    [InlineData("HS256")]
    [InlineData("RS256")]
    [InlineData("ES256")]
    [InlineData("Ed448")]
    [InlineData("eddsa")]
    [InlineData("EDDSA")]
    [InlineData("ed25519")]
    [InlineData("EdDSA ")]
    public void With_another_algorithm_is_unsupported(string alg) =>
        Assert.Equal(TokenRefusal.UnsupportedAlgorithm, Refusal(With($$"""{"alg":"{{alg}}","typ":"foundry-cap+jwt","kid":"KID"}""")));

    public static TheoryData<string, string> Disfigured { get; } = new()
    {
        { "empty", "" },
        { "no dots", "H" },
        { "two segments", "H.P" },
        { "only dots", ".." },
        { "four segments", "H.P.S.S" },
        { "five segments, as in JWE", "H.P.S.S.S" },
        { "dot before", ".H.P.S" },
        { "dot behind", "H.P.S." },
        { "no header", ".P.S" },
        { "no signature", "H.P." },
        { "padding on the header", "H=.P.S" },
        { "padding on the signature", "H.P.S==" },
        { "space before", " H.P.S" },
        { "space behind", "H.P.S " },
        { "line end behind", "H.P.S\n" },
        { "space inside", "H. P.S" },
        { "NUL behind", "H.P.S\0" },
        { "a letter that is not ASCII", "H.P.Sé" },
        { "a full-width dot", "H\uFF0EP.S" },
        { "base64 alphabet", "H.P+.S" },
        { "signature a byte short", "H.P.s" },
        { "signature a byte long", "H.P.L" },
        { "percent encoding", "H%2EP.S" },
        { "scheme before", "Bearer H.P.S" },
    };

    [Theory]
    [MemberData(nameof(Disfigured))]
    public void Disfigured_is_malformed(string how, string shape)
    {
        var parts = With("""{"alg":"EdDSA","typ":"foundry-cap+jwt","kid":"KID"}""").Split('.');
        var signature = _key.Sign([]);
        var text = string.Concat(shape.Select(c => c switch
        {
            'H' => parts[0],
            'P' => parts[1],
            'S' => parts[2],
            's' => Base64UrlText.Encode(signature.AsSpan(1)),
            'L' => Base64UrlText.Encode([.. signature, 0]),
            _ => c.ToString(),
        }));
        Assert.True(Refusal(text) == TokenRefusal.Malformed, how);
    }

    /// <summary>The signature's last character carries four bits that stand for nothing; only zeros are a spelling.</summary>
    [Fact]
    public void With_the_signatures_unused_bits_set_is_malformed()
    {
        const string alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        var good = With("""{"alg":"EdDSA","typ":"foundry-cap+jwt","kid":"KID"}""");
        for (var bits = 1; bits < 16; bits++)
            Assert.Equal(TokenRefusal.Malformed, Refusal(good[..^1] + alphabet[alphabet.IndexOf(good[^1], StringComparison.Ordinal) + bits]));
    }

    [Fact]
    public void Over_the_bound_is_malformed_and_up_to_it_is_read()
    {
        var header = """{"alg":"EdDSA","typ":"foundry-cap+jwt","kid":"KID"}""";
        var text = With(header, $"\"{new string('x', 5000)}\"");
        Assert.Null(Refusal(text, text.Length));
        Assert.Equal(TokenRefusal.Malformed, Refusal(text, text.Length - 1));
        Assert.Equal(TokenRefusal.Malformed, Refusal(With(header, $"\"{new string('x', Jws.CharsMax)}\"")));
    }

    [Fact]
    public void Made_by_us_is_read_by_us_and_only_as_what_it_is()
    {
        var text = Jws.Sign(_key, Typ, "{}"u8);
        Assert.True(Jws.TryParse(text, Typ, out var jws, out _));
        Assert.True(jws.IsSignedBy(_key.Public));
        foreach (var other in (string[])[Assertion.Typ, TrustSet.Typ, "foundry-feed+jwt"])
            Assert.False(Jws.TryParse(text, other, out _, out _), other);
    }

    public void Dispose() => _key.Dispose();
}
