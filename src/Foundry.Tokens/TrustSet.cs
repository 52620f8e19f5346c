using System.Diagnostics.CodeAnalysis;
using System.Text.Json;

namespace Foundry.Tokens;

/// <summary>
/// Every key that anyone may believe, signed by the platform's root (docs/architecture.md, Trust between parts).
/// A part that pins the root's thumbprint needs no other introduction to anyone.
/// </summary>
/// <param name="V">1.</param>
/// <param name="Seq">Grows with every change; a smaller one is a replay.</param>
/// <param name="Iat">Unix seconds.</param>
/// <param name="Issuer">The <c>iss</c> of every capability token in force.</param>
/// <param name="Keys">The keys in force.</param>
public sealed record TrustSet(int V, long Seq, long Iat, string Issuer, IReadOnlyList<TrustedKey> Keys)
{
    /// <summary>JWS <c>typ</c> of a trust set.</summary>
    public const string Typ = "foundry-trust+jwt";
    /// <summary>Characters of the longest trust set that is looked at.</summary>
    public const int CharsMax = 4 * 1024 * 1024;

    /// <summary>Signs the set.</summary>
    /// <param name="root">The platform's root key.</param>
    public string Sign(SigningKey root) => Jws.Sign(root, Typ, JsonSerializer.SerializeToUtf8Bytes(this, TokenJson.Default.TrustSet));

    /// <summary>Reads a set that the pinned root signed.</summary>
    /// <param name="text">The JWS.</param>
    /// <param name="root">The root's public key; the caller has compared its thumbprint with the pinned one.</param>
    /// <param name="set">The set.</param>
    public static bool TryVerify(string text, VerifyingKey root, [NotNullWhen(true)] out TrustSet? set)
    {
        ArgumentNullException.ThrowIfNull(root);
        set = null;
        if (!Jws.TryParse(text, Typ, out var jws, out _, CharsMax) || jws.Kid != root.Kid || !jws.IsSignedBy(root))
            return false;
        try
        {
            set = JsonSerializer.Deserialize(jws.Payload, TokenJson.Default.TrustSet);
        }
        catch (JsonException)
        {
            return false;
        }
        return set is { V: 1, Keys: not null, Issuer: not null };
    }

    /// <summary>The keys of one kind, whoever they belong to.</summary>
    /// <param name="kind">See <see cref="TrustedKey"/>.</param>
    public KeySet KeysOf(string kind) => new(Keys.Where(key => key.Kind == kind)
        .Select(key => VerifyingKey.TryCreate(key.X, out var verifying) ? verifying : null).OfType<VerifyingKey>());
}

/// <summary>A key in force.</summary>
/// <param name="Kid">Its thumbprint.</param>
/// <param name="Kind"><see cref="Token"/>, <see cref="Gateway"/> or <see cref="Service"/>: what it is believed for.</param>
/// <param name="Name">Whose it is.</param>
/// <param name="X">The key, base64url.</param>
/// <param name="Status"><c>active</c>; <c>next</c>: published, signs soon; <c>retired</c>: verifies what it signed.</param>
public sealed record TrustedKey(string Kid, string Kind, string Name, string X, string Status = "active")
{
    /// <summary>Signs capability tokens.</summary>
    public const string Token = "token";
    /// <summary>May say who a caller is.</summary>
    public const string Gateway = "gateway";
    /// <summary>May speak as itself.</summary>
    public const string Service = "service";
}
