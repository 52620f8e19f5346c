// Proof of possession: RFC 9449 sections 4.2 and 4.3. JWK of the key: RFC 8037 section 2.
using System.Diagnostics.CodeAnalysis;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using System.Text.Unicode;

namespace Foundry.Tokens;

/// <summary>
/// A DPoP proof: a JWS by the holder of a key, made for one request with one token. Whether its <c>jti</c> has been seen before
/// is the reader's to know; <see cref="ReplayId"/> is what to remember.
/// </summary>
public sealed class DpopProof
{
    /// <summary>JWS <c>typ</c> of a proof.</summary>
    public const string Typ = "dpop+jwt";
    /// <summary>Characters of the longest proof that is looked at.</summary>
    public const int CharsMax = 4 * 1024;
    /// <summary>Characters of the longest <c>jti</c>.</summary>
    public const int JtiCharsMax = 128;
    /// <summary>How far <c>iat</c> may be from the reader's clock, either way.</summary>
    public static readonly TimeSpan AgeMax = TimeSpan.FromSeconds(60);

    private const int JtiBytes = 16;

    private readonly Jws.Parts _parts;
    private readonly string _htm;
    private readonly HttpTarget _htu;
    private readonly double _iat;
    private readonly double? _nbf;
    private readonly double? _exp;
    private readonly string _ath;

    private DpopProof(Jws.Parts parts, VerifyingKey key, string jti, string htm, HttpTarget htu, double iat, double? nbf, double? exp, string ath)
    {
        (_parts, _htm, _htu, _iat, _nbf, _exp, _ath) = (parts, htm, htu, iat, nbf, exp, ath);
        Key = key;
        ReplayId = Base64UrlText.Encode(SHA256.HashData(Encoding.ASCII.GetBytes($"{key.Kid} {jti}")));
    }

    /// <summary>The key in the proof's header. That it signed is <see cref="Proves"/>'s to say.</summary>
    public VerifyingKey Key { get; }

    /// <summary>Names the proof among all proofs of all keys: a hash of key and <c>jti</c>, so that nobody can use up another's.</summary>
    public string ReplayId { get; }

    /// <summary>When the proof stops being acceptable on account of its age alone.</summary>
    public DateTimeOffset GoodUntil => DateTimeOffset.UnixEpoch + TimeSpan.FromSeconds(_iat) + AgeMax;

    /// <summary>Makes a proof for one request.</summary>
    /// <param name="key">The key that the token names as its subject.</param>
    /// <param name="method">The request's method, as it is sent.</param>
    /// <param name="htu">The request's URL, as it is sent; query and fragment are left out.</param>
    /// <param name="accessToken">The token that the request carries.</param>
    /// <param name="now">The clock.</param>
    /// <returns>The value of the <c>DPoP</c> header.</returns>
    public static string Create(SigningKey key, string method, string htu, string accessToken, DateTimeOffset now)
    {
        ArgumentNullException.ThrowIfNull(key);
        ArgumentNullException.ThrowIfNull(htu);
        var end = htu.AsSpan().IndexOfAny('?', '#');
        var claims = new DpopClaims(Base64UrlText.Encode(RandomNumberGenerator.GetBytes(JtiBytes)), method, end < 0 ? htu : htu[..end], now.ToUnixTimeSeconds(), HashOf(accessToken));
        return Jws.Sign(key, Encoding.ASCII.GetBytes($$$"""{"typ":"{{{Typ}}}","alg":"EdDSA","jwk":{"kty":"OKP","crv":"Ed25519","x":"{{{key.Public.X}}}"}}"""),
            JsonSerializer.SerializeToUtf8Bytes(claims, TokenJson.Default.DpopClaims));
    }

    /// <summary>Takes a proof apart: header, key and claims are of the right form. Says nothing yet about what it proves.</summary>
    /// <param name="text">The value of the <c>DPoP</c> header.</param>
    /// <param name="proof">The proof.</param>
    public static bool TryParse(string? text, [NotNullWhen(true)] out DpopProof? proof)
    {
        proof = null;
        if (text is null || !Jws.TrySplit(text, CharsMax, out var parts))
            return false;
        try
        {
            if (ReadKey(parts.Header) is not { } key || !Utf8.IsValid(parts.Payload))
                return false;
            using var document = JsonDocument.Parse(parts.Payload, Jws.StrictDocument);
            var claims = document.RootElement;
            // Other claims pass unread (RFC 7519 section 4); a nonce among them, since we never ask for one.
            if (claims.ValueKind != JsonValueKind.Object
                || StringOf(claims, "jti") is not { Length: >= 1 and <= JtiCharsMax } jti || jti.Any(character => character is <= ' ' or > '~')
                || StringOf(claims, "htm") is not { } htm
                || !HttpTarget.TryParse(StringOf(claims, "htu"), out var htu)
                || StringOf(claims, "ath") is not { } ath
                || !TryReadTime(claims, "iat", out var iat) || iat is null
                || !TryReadTime(claims, "nbf", out var nbf) || !TryReadTime(claims, "exp", out var exp))
                return false;
            proof = new DpopProof(parts, key, jti, htm, htu, iat.Value, nbf, exp, ath);
            return true;
        }
        catch (JsonException)
        {
            return false;
        }
        catch (InvalidOperationException)
        {
            // A string that is not valid UTF-16 once unescaped, such as a lone surrogate.
            return false;
        }
    }

    /// <summary>
    /// Whether the holder of <see cref="Key"/> made this proof for this request with this token, about now (RFC 9449 section 4.3, but for
    /// the replay).
    /// </summary>
    /// <param name="method">The request's method.</param>
    /// <param name="targets">The request's URL under each name that the reader answers to.</param>
    /// <param name="accessToken">The token that the request carries.</param>
    /// <param name="now">The clock.</param>
    public bool Proves(string method, IEnumerable<HttpTarget> targets, string accessToken, DateTimeOffset now)
    {
        var seconds = now.ToUnixTimeMilliseconds() / 1000.0;
        return _htm == method
            && targets.Contains(_htu)
            && Math.Abs(seconds - _iat) <= AgeMax.TotalSeconds
            // Not asked for; where the client adds them they only narrow what it proves (RFC 7519 sections 4.1.4 and 4.1.5).
            && !(_nbf > seconds + AgeMax.TotalSeconds) && !(_exp <= seconds)
            && _ath == HashOf(accessToken)
            && Key.Verify(_parts.Signed, _parts.Signature);
    }

    private static VerifyingKey? ReadKey(byte[] header)
    {
        if (!Utf8.IsValid(header))
            return null;
        using var document = JsonDocument.Parse(header, Jws.StrictDocument);
        var root = document.RootElement;
        // Nothing else is honoured, and what is not honoured must not be there; above all not the private half (d).
        if (!HasExactly(root, "typ", "alg", "jwk") || StringOf(root, "typ") != Typ || StringOf(root, "alg") is not ("EdDSA" or "Ed25519"))
            return null;
        var jwk = root.GetProperty("jwk");
        return HasExactly(jwk, "kty", "crv", "x") && StringOf(jwk, "kty") == "OKP" && StringOf(jwk, "crv") == "Ed25519"
            && VerifyingKey.TryCreate(StringOf(jwk, "x"), out var key) ? key : null;
    }

    private static bool HasExactly(JsonElement element, params ReadOnlySpan<string> names)
    {
        if (element.ValueKind != JsonValueKind.Object || element.GetPropertyCount() != names.Length)
            return false;
        foreach (var name in names)
            if (!element.TryGetProperty(name, out _))
                return false;
        return true;
    }

    private static string? StringOf(JsonElement element, string name) =>
        element.TryGetProperty(name, out var value) && value.ValueKind == JsonValueKind.String ? value.GetString() : null;

    /// <summary>A NumericDate, whole or not (RFC 7519 section 2), of this side of the year 9999.</summary>
    private static bool TryReadTime(JsonElement claims, string name, out double? seconds)
    {
        const double secondsMax = 253_402_300_799;
        seconds = null;
        if (!claims.TryGetProperty(name, out var value))
            return true;
        if (value.ValueKind != JsonValueKind.Number || !value.TryGetDouble(out var number) || number is not (>= 0 and <= secondsMax))
            return false;
        seconds = number;
        return true;
    }

    private static string HashOf(string accessToken) => Base64UrlText.Encode(SHA256.HashData(Encoding.ASCII.GetBytes(accessToken)));
}

/// <summary>The claims of a proof that we make.</summary>
internal sealed record DpopClaims(string Jti, string Htm, string Htu, long Iat, string Ath);
