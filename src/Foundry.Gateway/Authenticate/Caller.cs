using Foundry.Tokens;

namespace Foundry.Gateway.Authenticate;

/// <summary>Who is calling, as far as a checked token says; <see cref="Nobody"/> on anonymous routes.</summary>
/// <param name="Token">The token's claims.</param>
/// <param name="Scope">Its scope.</param>
/// <param name="Proved">Whether the sender has proved to hold the key that the token names.</param>
internal sealed record Caller(CapabilityToken? Token, Scope Scope, bool Proved = false)
{
    /// <summary>No token was needed, and none was looked at.</summary>
    public static readonly Caller Nobody = new(null, default);

    /// <summary>The caller's tenant; null for platform tokens and for nobody.</summary>
    public string? TenantId => Token?.TenantId;

    /// <summary>Whether this is a token of the platform rather than of a tenant.</summary>
    public bool IsPlatform => Token is { TenantId: null };

    /// <summary>Whether the caller is a platform administrator.</summary>
    public bool IsPlatformAdmin => Token is not null && Scope == Scope.PlatformAdmin;
}
