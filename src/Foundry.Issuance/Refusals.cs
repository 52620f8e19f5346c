using Foundry.Contracts;
using Foundry.ServiceDefaults;
using Foundry.ServiceDefaults.Trust;
using Foundry.Tokens;
using Microsoft.AspNetCore.Http;

namespace Foundry.Issuance;

/// <summary>The token is valid, but does not open this: names the scope that would.</summary>
/// <param name="RequiredScope">As a route's <c>foundry.scope</c> would say it.</param>
internal sealed record InsufficientScopeResult(string RequiredScope) : IResult
{
    /// <inheritdoc/>
    public Task ExecuteAsync(HttpContext httpContext) => Problems.WriteAsync(httpContext,
        Problems.Of(httpContext, ErrorCode.InsufficientScope, $"This needs a token of scope {RequiredScope.Replace(",", " or ", StringComparison.Ordinal)}.") with { RequiredScope = RequiredScope });
}

/// <summary>A token was not accepted: says why, by the same names as the gateway (CONTRACT section 2).</summary>
/// <param name="Reason">Why.</param>
internal sealed record InvalidTokenResult(TokenRefusal Reason) : IResult
{
    /// <inheritdoc/>
    public Task ExecuteAsync(HttpContext httpContext)
    {
        httpContext.Response.Headers.WWWAuthenticate = Reason.Challenges();
        return Problems.WriteAsync(httpContext, Problems.Of(httpContext, ErrorCode.InvalidToken, $"The token is refused: {Reason.WireName()}.") with { Reason = Reason.WireName() });
    }
}

/// <summary>Who may do what here, read from the assertion and from nothing else.</summary>
internal static class Callers
{
    /// <summary>Platform administrators alone.</summary>
    public const string PlatformAdmin = "service:platform-admin";
    /// <summary>Administrators of either kind.</summary>
    public const string AnyAdmin = "service:tenant-admin,service:platform-admin";

    /// <summary>The one answer for what the caller may not know of and for what is not there.</summary>
    public static readonly Refused NotFound = new(ErrorCode.NotFound, "There is nothing here that this token may see.");

    /// <summary>Why a caller who must be a platform administrator is refused, or null.</summary>
    public static IResult? RefusePlatform(Asserted caller) => caller.IsPlatformAdmin ? null : new InsufficientScopeResult(PlatformAdmin);

    /// <summary>Why a caller who must administer this tenant, or the platform, is refused, or null.</summary>
    /// <param name="caller">Who asks.</param>
    /// <param name="tenantId">The tenant of the path.</param>
    public static IResult? RefuseTenant(Asserted caller, string tenantId) =>
        RefuseAdmin(caller) ?? (caller.IsPlatformAdmin || caller.TenantId == tenantId ? null : NotFound);

    /// <summary>Why a caller who must be an administrator of either kind is refused, or null.</summary>
    public static IResult? RefuseAdmin(Asserted caller) =>
        caller.IsPlatformAdmin || (!caller.IsOwn && caller.Scope == Scope.TenantAdmin && caller.TenantId is not null) ? null : new InsufficientScopeResult(AnyAdmin);

    /// <summary>A value of the request that will not do; <paramref name="detail"/> names its field and what would be right.</summary>
    public static Refused Invalid(string detail) => new(ErrorCode.InvalidValue, detail);
}
