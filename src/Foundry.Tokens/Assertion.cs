using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;
using System.Security.Cryptography;
using System.Text.Json;

namespace Foundry.Tokens;

/// <summary>
/// What one part says to another about a call: who sends it and, from a gateway, for whom
/// (CONTRACT section 4; docs/architecture.md, Trust between parts).
/// </summary>
public sealed record Assertion
{
    /// <summary>JWS <c>typ</c> of an assertion.</summary>
    public const string Typ = "foundry-assertion+jwt";
    /// <summary><see cref="Use"/> of one that only GET and HEAD may carry, and that may be used again.</summary>
    public const string ReadUse = "read";
    /// <summary><see cref="Use"/> of one bound to method, path and body, and used once.</summary>
    public const string WriteUse = "write";
    /// <summary>How long an assertion is good for.</summary>
    public static readonly TimeSpan Lifetime = TimeSpan.FromSeconds(30);
    /// <summary>How long a sender may go on using one for reads.</summary>
    public static readonly TimeSpan ReuseMax = TimeSpan.FromSeconds(15);

    /// <summary>1.</summary>
    public int V { get; init; } = 1;
    /// <summary>The sender's name.</summary>
    public required string Iss { get; init; }
    /// <summary>The cluster it is for.</summary>
    public required string Aud { get; init; }
    /// <summary>Unix seconds.</summary>
    public required long Iat { get; init; }
    /// <summary>Unix seconds.</summary>
    public required long Exp { get; init; }
    /// <summary>Its ID, so that a write is taken once.</summary>
    public required string Jti { get; init; }
    /// <summary><see cref="ReadUse"/> or <see cref="WriteUse"/>.</summary>
    public required string Use { get; init; }
    /// <summary>Method, of a write.</summary>
    public string? Htm { get; init; }
    /// <summary>Path and query as sent, of a write.</summary>
    public string? Htu { get; init; }
    /// <summary>base64url SHA-256 of the body, of a write.</summary>
    public string? Bh { get; init; }
    /// <summary>True where the sender speaks for itself and not for a caller.</summary>
    public bool? Own { get; init; }
    /// <summary>The caller's tenant.</summary>
    public string? TenantId { get; init; }
    /// <summary>The caller's scope; absent on anonymous routes.</summary>
    public string? Scope { get; init; }
    /// <summary>The caller's <c>sub</c>.</summary>
    public string? Sub { get; init; }
    /// <summary>The caller's key.</summary>
    public string? SubjectPubkey { get; init; }
    /// <summary>The token the caller used.</summary>
    public string? TokenId { get; init; }
    /// <summary>When the caller's token ends, Unix seconds.</summary>
    public long? TokenExp { get; init; }
    /// <summary>True where the caller has proved to hold the key that the token names (RFC 9449).</summary>
    public bool? Proof { get; init; }
    /// <summary>The request, of a write.</summary>
    public string? RequestId { get; init; }

    /// <summary>Signs the assertion.</summary>
    /// <param name="key">The sender's own key.</param>
    public string Sign(SigningKey key) => Jws.Sign(key, Typ, JsonSerializer.SerializeToUtf8Bytes(this, TokenJson.Default.Assertion));

    /// <summary>The hash that binds a body.</summary>
    /// <param name="body">The body as sent; empty where there is none.</param>
    public static string BodyHash(ReadOnlySpan<byte> body) => Base64UrlText.Encode(SHA256.HashData(body));

    // That a point is one that signatures can be believed of costs as much as a signature does, and is so for good.
    private static readonly ConditionalWeakTable<TrustedKey, VerifyingKey> _keys = [];

    private static bool TryKey(TrustedKey trusted, [NotNullWhen(true)] out VerifyingKey? key)
    {
        if (_keys.TryGetValue(trusted, out key))
            return true;
        if (!VerifyingKey.TryCreate(trusted.X, out key))
            return false;
        _keys.AddOrUpdate(trusted, key);
        return true;
    }

    /// <summary>Reads an assertion that a key in force signed.</summary>
    /// <param name="text">The JWS.</param>
    /// <param name="find">The key in force that a <c>kid</c> names.</param>
    /// <param name="assertion">What it says. Audience, time, use and binding are the reader's to check.</param>
    /// <param name="signer">Whose key it was.</param>
    public static bool TryVerify(string text, Func<string, TrustedKey?> find, [NotNullWhen(true)] out Assertion? assertion, [NotNullWhen(true)] out TrustedKey? signer)
    {
        ArgumentNullException.ThrowIfNull(find);
        assertion = null;
        signer = null;
        if (!Jws.TryParse(text, Typ, out var jws, out _) || find(jws.Kid) is not { } trusted
            || !TryKey(trusted, out var key) || key.Kid != jws.Kid || !jws.IsSignedBy(key))
            return false;
        try
        {
            assertion = JsonSerializer.Deserialize(jws.Payload, TokenJson.Default.Assertion);
        }
        catch (JsonException)
        {
            return false;
        }
        if (assertion is null || assertion.V != 1 || assertion.Iss != trusted.Name)
        {
            assertion = null;
            return false;
        }
        signer = trusted;
        return true;
    }
}
