using Foundry.Contracts;
using Foundry.Tokens;

namespace Foundry.Gateway;

/// <summary>
/// A step's "no": one value, from a closed list, that response, metric and ledger all read. Only <see cref="RefusalWriter"/>
/// turns it into an answer.
/// </summary>
/// <param name="Error">Which.</param>
/// <param name="Detail">What would be right; never inner detail.</param>
internal sealed record Refusal(ErrorCode Error, string Detail)
{
    /// <summary>Why the token was refused, with <c>invalid_token</c>.</summary>
    public TokenRefusal? TokenRefusal { get; init; }
    /// <summary>The scope that would open the route.</summary>
    public string? RequiredScope { get; init; }
    /// <summary>The quota that does not cover the request.</summary>
    public QuotaShortage? Shortage { get; init; }
    /// <summary>When to come back.</summary>
    public TimeSpan? RetryAfter { get; init; }
    /// <summary>The methods that the path takes.</summary>
    public string? Allow { get; init; }

    /// <summary>What the metric and the ledger call it: the code, and for a token its reason.</summary>
    public string Reason => TokenRefusal?.WireName() ?? Error.Code;

    /// <summary>The one answer for what is foreign and for what never existed (CONTRACT section 4).</summary>
    public static readonly Refusal NotFound = new(ErrorCode.NotFound, "There is no such resource.");

    /// <summary>A refused token.</summary>
    /// <param name="reason">Why.</param>
    public static Refusal InvalidToken(TokenRefusal reason) => new(ErrorCode.InvalidToken, reason switch
    {
        Tokens.TokenRefusal.Missing => "Send a capability token in the Authorization header, after the word Bearer.",
        Tokens.TokenRefusal.Malformed => "The Authorization header does not hold exactly one capability token.",
        Tokens.TokenRefusal.UnsupportedAlgorithm => "Capability tokens are signed with EdDSA (Ed25519) alone.",
        Tokens.TokenRefusal.UnknownKey => "The token names a signing key that is not in force.",
        Tokens.TokenRefusal.BadSignature => "The token's signature is not the platform's.",
        Tokens.TokenRefusal.Expired => "The token has expired: ask your administrator for a new one.",
        Tokens.TokenRefusal.NotYetValid => "The token is not valid yet: check the clocks.",
        Tokens.TokenRefusal.WrongAudience => "The token is for another audience.",
        Tokens.TokenRefusal.WrongIssuer => "The token is from another issuer.",
        Tokens.TokenRefusal.Revoked => "The token was revoked.",
        Tokens.TokenRefusal.TenantSuspended => "The tenant is suspended: ask the platform's operator.",
        Tokens.TokenRefusal.StalePolicy => "The workspace's policy has changed: renew the token.",
        Tokens.TokenRefusal.InvalidProof => "Send the token as DPoP, with one proof of possession by its subject key, made for this request and not used before.",
        _ => throw new ArgumentOutOfRangeException(nameof(reason)),
    })
    { TokenRefusal = reason };
}

/// <summary>A quota that does not cover what was asked.</summary>
/// <param name="Quota"><c>max_vms</c>, <c>max_ram_mb</c> or <c>storage_quota_gb</c>.</param>
/// <param name="Limit">The limit.</param>
/// <param name="Used">What is held, reserved and unknown included.</param>
/// <param name="Requested">What was asked for.</param>
internal sealed record QuotaShortage(string Quota, long Limit, long Used, long Requested);
