using Foundry.Contracts;
using Foundry.Issuance.Changes;
using Foundry.ServiceDefaults;
using Foundry.ServiceDefaults.Trust;
using Foundry.Tokens;

namespace Foundry.Issuance.Tokens;

/// <summary>Who may grant what (CONTRACT section 3, Delegation and Platform tokens). Decides; stores nothing.</summary>
internal static class Delegation
{
    /// <summary>Shortest life of a token, seconds.</summary>
    public const long SecondsMin = 60;
    /// <summary>Longest: 90 days.</summary>
    public const long SecondsMax = 7_776_000;
    /// <summary>Longest time that a token and the one it replaces are both good: 7 days.</summary>
    public const long OverlapSecondsMax = 604_800;
    /// <summary>
    /// Characters of the longest user ID. Fewer than the 43 of a subject key, so that no user can bear the name of a key
    /// in <c>sub</c>.
    /// </summary>
    public const int UserIdCharsMax = 40;

    private static readonly HashSet<Scope> TenantAdminGrants = [Scope.Read, Scope.User, Scope.Input, Scope.FleetNode, Scope.TenantAdmin];

    /// <summary>Decides about a request for a token.</summary>
    /// <param name="caller">An administrator of either kind.</param>
    /// <param name="pathTenant">The tenant of the path, which the caller may administer; null where the path names none.</param>
    /// <param name="request">What is asked for.</param>
    /// <param name="defaultTenant">See <see cref="IssuanceOptions.DefaultTenant"/>.</param>
    /// <param name="now">The clock.</param>
    public static Outcome<TokenGrant> Decide(Asserted caller, string? pathTenant, TokenRequest request, string? defaultTenant, DateTimeOffset now)
    {
        // For whom? Another tenant in the body is a mismatch whether or not it exists.
        var own = pathTenant ?? (caller.IsPlatformAdmin ? null : caller.TenantId);
        if (own is not null && request.TenantId is not null && request.TenantId != own)
            return new Refused(ErrorCode.TenantMismatch, "tenant_id: leave it out, or name the tenant of the path or of the token.");
        var tenant = own ?? request.TenantId;

        // Is every value what it should be?
        if (tenant is not null && !Names.IsWellFormed(tenant))
            return pathTenant is null ? Callers.Invalid($"tenant_id: {Names.Grammar}.") : Callers.NotFound;
        if (NotOffered(request) is { } notOffered)
            return notOffered;
        if (!VerifyingKey.TryParse(request.SubjectPubkey, out var subject))
            return Callers.Invalid("subject_pubkey: an Ed25519 public key of 32 bytes in base64, base64url or hex, which is a point of the prime-order group.");
        if (!Scope.TryParse(request.Scope, out var scope))
            return Callers.Invalid("scope: exactly one of read, user, input or service:<name>.");
        if (request.ExpiresInSeconds is not { } seconds || seconds is < SecondsMin or > SecondsMax)
            return Callers.Invalid("expires_in_seconds: a whole number from 60 to 7776000 (90 days).");
        if (request.MaxOverlapSeconds is { } overlap && (overlap is < 0 or > OverlapSecondsMax || scope.IsService))
            return Callers.Invalid("max_overlap_seconds: a whole number from 0 to 604800 (7 days), with a scope of read, user or input.");
        if (request.UserId is { } user && !IsUserId(user))
            return Callers.Invalid($"user_id: 1 to {UserIdCharsMax} of letters, digits and . _ @ -, beginning with a letter or _.");

        // May the caller grant it?
        if (!caller.IsPlatformAdmin)
        {
            if (!TenantAdminGrants.Contains(scope))
                return new Refused(ErrorCode.ScopeNotGrantable, "scope: a tenant administrator grants read, user, input, service:fleet-node and service:tenant-admin.");
            // Otherwise a chain of administrators could outlive its first by granting itself anew.
            if (scope == Scope.TenantAdmin && now.ToUnixTimeSeconds() + seconds > (caller.TokenExp ?? 0))
                return new Refused(ErrorCode.ExpiryExceedsIssuer, "expires_in_seconds: a service:tenant-admin token ends no later than the one it is granted by.");
        }
        else if (scope == Scope.PlatformAdmin && tenant is not null)
            return Callers.Invalid("scope: service:platform-admin tokens belong to no tenant; ask for them at /v1/tokens without tenant_id.");
        else if (tenant is null && scope != Scope.PlatformAdmin && scope != Scope.FleetNode)
        {
            tenant = defaultTenant;
            if (tenant is null)
                return new Refused(ErrorCode.TenantRequired, "tenant_id: name the tenant; without one only service:platform-admin and service:fleet-node are issued.");
        }
        return new TokenGrant(tenant, scope, subject, request.UserId, seconds, Proof: request.Proof == true);
    }

    private static Refused? NotOffered(TokenRequest request) =>
        request.Alg is not (null or "EdDSA") ? Callers.Invalid("alg: EdDSA is the one algorithm that this version offers.")
        : request.Service is not null ? Callers.Invalid("service: not offered by this version; leave it out.")
        : request.WorkspaceId is not null ? Callers.Invalid("workspace_id: not offered by this version; leave it out.")
        : null;

    private static bool IsUserId(string text) =>
        text is { Length: >= 1 and <= UserIdCharsMax } && (char.IsAsciiLetter(text[0]) || text[0] == '_')
        && text.All(character => char.IsAsciiLetterOrDigit(character) || character is '.' or '_' or '@' or '-');
}
