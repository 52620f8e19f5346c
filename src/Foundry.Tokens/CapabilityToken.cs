// The capability token: CONTRACT section 2. JWT claims: RFC 7519 section 4; cnf.jkt: RFC 7800, RFC 9449 section 6.1.
using System.Diagnostics.CodeAnalysis;
using System.Text.Json;
using System.Text.Json.Serialization;
using System.Text.Unicode;

namespace Foundry.Tokens;

/// <summary>A capability token's claims.</summary>
public sealed record CapabilityToken
{
    /// <summary>JWS <c>typ</c> of a capability token.</summary>
    public const string Typ = "foundry-cap+jwt";
    /// <summary>The one audience.</summary>
    public const string Audience = "foundry";
    /// <summary>How far ahead of ours the issuer's clock may be, for <c>nbf</c> and <c>iat</c>; <c>exp</c> has none.</summary>
    public static readonly TimeSpan Skew = TimeSpan.FromSeconds(30);

    /// <summary>Issuer URL.</summary>
    public required string Iss { get; init; }
    /// <summary><see cref="Audience"/>.</summary>
    public required string Aud { get; init; }
    /// <summary>Token ID, UUIDv7.</summary>
    public required string Jti { get; init; }
    /// <summary>Unix seconds.</summary>
    public required long Iat { get; init; }
    /// <summary>Unix seconds.</summary>
    public required long Nbf { get; init; }
    /// <summary>Unix seconds.</summary>
    public required long Exp { get; init; }
    /// <summary>Absent only on platform tokens.</summary>
    public string? TenantId { get; init; }
    /// <summary>The user's ID where one is named, else the subject key.</summary>
    public required string Sub { get; init; }
    /// <summary>Exactly one scope, in lower case.</summary>
    public required string Scope { get; init; }
    /// <summary>base64url without padding.</summary>
    public required string SubjectPubkey { get; init; }
    /// <summary>Key binding, on tokens issued for proof of possession.</summary>
    public Confirmation? Cnf { get; init; }
    /// <summary>Only on tokens issued for a workspace.</summary>
    public string? WorkspaceId { get; init; }
    /// <summary>Only on tokens issued for a workspace.</summary>
    public IReadOnlyList<string>? Roles { get; init; }
    /// <summary>Only on tokens issued for a workspace.</summary>
    public long? PolicyVersion { get; init; }

    /// <summary>The key that signed it; no claim, but what <see cref="TryVerify"/> found. Empty on a token that was not read by it.</summary>
    [JsonIgnore]
    public string Kid { get; init; } = "";

    /// <summary>Signs the claims.</summary>
    /// <param name="key">The platform's signing key.</param>
    public string Sign(SigningKey key) => Jws.Sign(key, Typ, JsonSerializer.SerializeToUtf8Bytes(this, TokenJson.Default.CapabilityToken));

    /// <summary>
    /// Who made the token, and what it says. This verdict does not change while the key set does not, so it may be
    /// cached; time, audience and issuer are <see cref="Check"/>'s, every time.
    /// </summary>
    /// <param name="text">The token.</param>
    /// <param name="keys">The keys in force.</param>
    /// <param name="token">Its claims.</param>
    /// <param name="refusal">Why not.</param>
    public static bool TryVerify(string text, KeySet keys, [NotNullWhen(true)] out CapabilityToken? token, out TokenRefusal refusal)
    {
        ArgumentNullException.ThrowIfNull(keys);
        token = null;
        if (!Jws.TryParse(text, Typ, out var jws, out refusal))
            return false;
        if (keys.Find(jws.Kid) is not { } key)
        {
            refusal = TokenRefusal.UnknownKey;
            return false;
        }
        if (!jws.IsSignedBy(key))
        {
            refusal = TokenRefusal.BadSignature;
            return false;
        }
        refusal = TokenRefusal.Malformed;
        // The reader looks at the text of known claims alone.
        if (!Utf8.IsValid(jws.Payload))
            return false;
        CapabilityToken? read;
        try
        {
            read = JsonSerializer.Deserialize(jws.Payload, TokenJson.Default.CapabilityToken);
        }
        catch (JsonException)
        {
            return false;
        }
        // Guid's reader takes white space and capitals, but an ID has one spelling: revocation compares it as text.
        if (read is null || !Guid.TryParseExact(read.Jti, "D", out var jti) || jti.ToString("D") != read.Jti || !Tokens.Scope.TryParseStored(read.Scope, out var scope)
            || read.SubjectPubkey is not { Length: 43 } || read.Cnf is { Jkt: not { Length: 43 } } || string.IsNullOrEmpty(read.Sub))
            return false;
        // A tenant is absent only on platform tokens: administrators never have one, tiers and tenant-admins always do.
        if (read.TenantId is null ? !scope.IsService || scope == Tokens.Scope.TenantAdmin : scope == Tokens.Scope.PlatformAdmin)
            return false;
        token = read with { Kid = jws.Kid };
        return true;
    }

    /// <summary>Whether the token is meant for us and in force at this moment. Checked on every use.</summary>
    /// <param name="issuer">The issuer in force.</param>
    /// <param name="now">The clock.</param>
    /// <returns>Why not, or null.</returns>
    public TokenRefusal? Check(string issuer, DateTimeOffset now)
    {
        if (Aud != Audience)
            return TokenRefusal.WrongAudience;
        if (Iss != issuer)
            return TokenRefusal.WrongIssuer;
        var seconds = now.ToUnixTimeSeconds();
        if (Math.Max(Nbf, Iat) > seconds + (long)Skew.TotalSeconds)
            return TokenRefusal.NotYetValid;
        return seconds >= Exp ? TokenRefusal.Expired : null;
    }
}

/// <summary>The <c>cnf</c> claim.</summary>
/// <param name="Jkt">Thumbprint of the key that must prove itself.</param>
public sealed record Confirmation(string Jkt);
