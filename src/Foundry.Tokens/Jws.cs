// JWS compact serialisation: RFC 7515 section 7.1. EdDSA: RFC 8037 section 3.1; "Ed25519" as a name: RFC 9864.
using System.Diagnostics.CodeAnalysis;
using System.Text;
using System.Text.Json;

namespace Foundry.Tokens;

/// <summary>
/// A JWS in compact serialisation, taken apart strictly: three canonical base64url segments, a header of exactly
/// <c>alg</c>, <c>typ</c> and <c>kid</c>, each once. Nothing in a header chooses how it is verified.
/// </summary>
public sealed class Jws
{
    /// <summary>Characters of the longest JWS that is looked at where the reader names no other bound.</summary>
    public const int CharsMax = 8 * 1024;

    private readonly Parts _parts;

    private Jws(string kid, Parts parts) => (Kid, _parts) = (kid, parts);

    /// <summary>Which key is said to have signed.</summary>
    public string Kid { get; }

    /// <summary>The payload; believe it only after <see cref="IsSignedBy"/>.</summary>
    public byte[] Payload => _parts.Payload;

    /// <summary>Signs a payload.</summary>
    /// <param name="key">Who signs.</param>
    /// <param name="typ">What it is, so that no JWS of ours can stand in for one of another kind.</param>
    /// <param name="payload">UTF-8 JSON.</param>
    public static string Sign(SigningKey key, string typ, ReadOnlySpan<byte> payload)
    {
        ArgumentNullException.ThrowIfNull(key);
        return Sign(key, Encoding.ASCII.GetBytes($$"""{"alg":"EdDSA","typ":"{{typ}}","kid":"{{key.Kid}}"}"""), payload);
    }

    internal static string Sign(SigningKey key, ReadOnlySpan<byte> header, ReadOnlySpan<byte> payload)
    {
        var signed = $"{Base64UrlText.Encode(header)}.{Base64UrlText.Encode(payload)}";
        return $"{signed}.{Base64UrlText.Encode(key.Sign(Encoding.ASCII.GetBytes(signed)))}";
    }

    /// <summary>Takes a JWS apart; says nothing yet about its signature.</summary>
    /// <param name="text">The compact serialisation.</param>
    /// <param name="typ">The only <c>typ</c> that is acceptable, compared ordinally.</param>
    /// <param name="jws">The parts.</param>
    /// <param name="refusal">Why not: <see cref="TokenRefusal.Malformed"/> or <see cref="TokenRefusal.UnsupportedAlgorithm"/>.</param>
    /// <param name="charsMax">Longest text that is looked at.</param>
    public static bool TryParse(string text, string typ, [NotNullWhen(true)] out Jws? jws, out TokenRefusal refusal, int charsMax = CharsMax)
    {
        ArgumentNullException.ThrowIfNull(text);
        jws = null;
        refusal = TokenRefusal.Malformed;
        if (!TrySplit(text, charsMax, out var parts))
            return false;
        if (!TryReadHeader(parts.Header, out var alg, out var headerTyp, out var kid))
            return false;
        if (alg is not ("EdDSA" or "Ed25519"))
        {
            refusal = TokenRefusal.UnsupportedAlgorithm;
            return false;
        }
        if (headerTyp != typ || kid is null || parts.Signature.Length != VerifyingKey.SignatureBytes)
            return false;
        jws = new Jws(kid, parts);
        return true;
    }

    /// <summary>Whether this key made the signature.</summary>
    /// <param name="key">The key that <see cref="Kid"/> was found to name.</param>
    public bool IsSignedBy(VerifyingKey key)
    {
        ArgumentNullException.ThrowIfNull(key);
        return key.Verify(_parts.Signed, _parts.Signature);
    }

    /// <summary>Three canonical base64url segments, and nothing else.</summary>
    internal static bool TrySplit(string text, int charsMax, [NotNullWhen(true)] out Parts? parts)
    {
        parts = null;
        if (text.Length > charsMax)
            return false;
        var first = text.IndexOf('.', StringComparison.Ordinal);
        var second = first < 0 ? -1 : text.IndexOf('.', first + 1);
        if (second < 0 || text.IndexOf('.', second + 1) >= 0)
            return false;
        if (!Base64UrlText.TryDecode(text.AsSpan(0, first), out var header)
            || !Base64UrlText.TryDecode(text.AsSpan(first + 1, second - first - 1), out var payload)
            || !Base64UrlText.TryDecode(text.AsSpan(second + 1), out var signature))
            return false;
        parts = new Parts(header, payload, signature, Encoding.ASCII.GetBytes(text[..second]));
        return true;
    }

    private static bool TryReadHeader(byte[] header, out string? alg, out string? typ, out string? kid)
    {
        alg = typ = kid = null;
        try
        {
            using var document = JsonDocument.Parse(header, StrictDocument);
            if (document.RootElement.ValueKind != JsonValueKind.Object)
                return false;
            foreach (var member in document.RootElement.EnumerateObject())
            {
                if (member.Value.ValueKind != JsonValueKind.String)
                    return false;
                switch (member.Name)
                {
                    case "alg": alg = member.Value.GetString(); break;
                    case "typ": typ = member.Value.GetString(); break;
                    case "kid": kid = member.Value.GetString(); break;
                    // Nothing else is honoured, and what is not honoured must not be there: crit, jku, jwk, x5u, x5c, zip …
                    default: return false;
                }
            }
            return alg is not null;
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

    /// <summary>The segments of a JWS, decoded, and what its signature is over.</summary>
    internal sealed record Parts(byte[] Header, byte[] Payload, byte[] Signature, byte[] Signed);

    internal static readonly JsonDocumentOptions StrictDocument = new() { AllowDuplicateProperties = false, MaxDepth = 16 };
}
