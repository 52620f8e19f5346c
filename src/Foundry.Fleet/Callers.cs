using Foundry.Contracts;
using Foundry.ServiceDefaults;
using Foundry.ServiceDefaults.Trust;
using Foundry.Tokens;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;

namespace Foundry.Fleet;

/// <summary>
/// What a caller may see of one object. The gateway decides who may call what; this is the second look, so that a mistake
/// there shows no tenant another's VM.
/// </summary>
internal static class Callers
{
    /// <summary>Whether the object's owner is the caller's tenant, or the caller is a gateway itself or a platform administrator.</summary>
    public static bool Sees(this Asserted caller, string? owner) =>
        caller.SeesAll() || (caller.TenantId is not null && caller.TenantId == owner);

    public static bool SeesAll(this Asserted caller) => caller.IsOwn || caller.IsPlatformAdmin;

    /// <summary>The tenant a call is about: the caller's, or the one that a platform administrator names.</summary>
    public static (string? TenantId, Refused? Refusal) TenantOf(this Asserted caller, params ReadOnlySpan<string?> named)
    {
        var tenant = caller.TenantId;
        foreach (var name in named)
        {
            if (name is null)
                continue;
            if (tenant is not null && name != tenant)
                return (null, new Refused(ErrorCode.TenantMismatch, "The request names another tenant than the token's, or two."));
            tenant = name;
        }
        if (tenant is null)
            return (null, new Refused(ErrorCode.TenantRequired, "Name the tenant with tenant_id."));
        return Bounds.TenantId.IsMatch(tenant) ? (tenant, null) : (null, new Refused(ErrorCode.InvalidValue, "tenant_id is no tenant ID."));
    }

    /// <summary>The query's <c>tenant_id</c>, at most once.</summary>
    public static bool TryTenantQuery(HttpContext context, out string? tenantId, out Refused? refusal)
    {
        var named = context.Request.Query["tenant_id"];
        tenantId = named.Count == 1 ? named[0] : null;
        refusal = named.Count > 1 || tenantId is { Length: 0 } ? new Refused(ErrorCode.InvalidQuery, "Give tenant_id once, or leave it out.") : null;
        return refusal is null;
    }

    /// <summary>A header's only value; false where it is there twice.</summary>
    public static bool TryHeader(HttpContext context, string name, out string? value)
    {
        var values = context.Request.Headers[name];
        value = values.Count == 1 ? values[0] : null;
        return values.Count <= 1;
    }

    /// <summary>
    /// What every endpoint has in front of it: somebody is calling (a gateway or a part for itself, a tenant's token, or a
    /// platform one), and a registry that cannot be written is an answer and not a fault.
    /// </summary>
    public static RouteGroupBuilder MapForCallers(this IEndpointRouteBuilder endpoints)
    {
        var group = endpoints.MapGroup("");
        group.AddEndpointFilter(async (invocation, next) =>
        {
            var caller = Asserted.Of(invocation.HttpContext);
            if (!caller.IsOwn && (caller.Scope is null || (caller.TenantId is null && caller.Scope != Scope.PlatformAdmin && caller.Scope != Scope.FleetNode)))
                return new Refused(ErrorCode.InsufficientScope, "The fleet is not open to callers without a token.");
            try
            {
                return await next(invocation);
            }
            catch (RegistryException failure)
            {
                return new Refused(failure.Error, failure.Message);
            }
        });
        return group;
    }

    /// <summary>Maps a read, for HEAD as well.</summary>
    public static void MapRead(this IEndpointRouteBuilder endpoints, string pattern, Delegate handler) =>
        endpoints.MapMethods(pattern, [HttpMethods.Get, HttpMethods.Head], handler);
}
