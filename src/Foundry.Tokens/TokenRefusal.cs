namespace Foundry.Tokens;

/// <summary>Why a token was not accepted (CONTRACT section 2): the <c>reason</c> of an <c>invalid_token</c>.</summary>
public enum TokenRefusal
{
    /// <summary>There is no token.</summary>
    Missing,
    /// <summary>It is not a token of ours, or there are two.</summary>
    Malformed,
    /// <summary>Its <c>alg</c> is not EdDSA.</summary>
    UnsupportedAlgorithm,
    /// <summary>Its <c>kid</c> names no key in force.</summary>
    UnknownKey,
    /// <summary>The signature is not that key's.</summary>
    BadSignature,
    /// <summary>Its <c>exp</c> has come.</summary>
    Expired,
    /// <summary>Its <c>nbf</c> or <c>iat</c> is more than the skew ahead.</summary>
    NotYetValid,
    /// <summary>Its <c>aud</c> is not ours.</summary>
    WrongAudience,
    /// <summary>Its <c>iss</c> is not ours.</summary>
    WrongIssuer,
    /// <summary>It was revoked.</summary>
    Revoked,
    /// <summary>Its tenant is suspended.</summary>
    TenantSuspended,
    /// <summary>Its <c>policy_version</c> is older than its workspace's.</summary>
    StalePolicy,
    /// <summary>Its proof of possession is missing or wrong.</summary>
    InvalidProof,
}

/// <summary>The wire names of <see cref="TokenRefusal"/>.</summary>
public static class TokenRefusals
{
    /// <summary>The name that <c>reason</c> has in a problem document.</summary>
    /// <param name="refusal">The refusal.</param>
    public static string WireName(this TokenRefusal refusal) => refusal switch
    {
        TokenRefusal.Missing => "missing",
        TokenRefusal.Malformed => "malformed",
        TokenRefusal.UnsupportedAlgorithm => "unsupported_algorithm",
        TokenRefusal.UnknownKey => "unknown_key",
        TokenRefusal.BadSignature => "bad_signature",
        TokenRefusal.Expired => "expired",
        TokenRefusal.NotYetValid => "not_yet_valid",
        TokenRefusal.WrongAudience => "wrong_audience",
        TokenRefusal.WrongIssuer => "wrong_issuer",
        TokenRefusal.Revoked => "revoked",
        TokenRefusal.TenantSuspended => "tenant_suspended",
        TokenRefusal.StalePolicy => "stale_policy",
        TokenRefusal.InvalidProof => "invalid_proof",
        _ => throw new ArgumentOutOfRangeException(nameof(refusal)),
    };

    /// <summary>The values of <c>WWW-Authenticate</c> that go with it.</summary>
    /// <param name="refusal">The refusal.</param>
    public static string[] Challenges(this TokenRefusal refusal) => refusal switch
    {
        // RFC 6750 section 3: a request without credentials gets a bare challenge.
        TokenRefusal.Missing => ["Bearer"],
        // RFC 9449 section 7.1.
        TokenRefusal.InvalidProof => ["Bearer error=\"invalid_token\"", "DPoP algs=\"EdDSA\", error=\"invalid_dpop_proof\""],
        _ => ["Bearer error=\"invalid_token\""],
    };
}
