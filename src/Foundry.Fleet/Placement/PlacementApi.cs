using Foundry.Contracts;
using Foundry.ServiceDefaults.Trust;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;

namespace Foundry.Fleet.Placement;

/// <summary>Advice where a VM would go (CONTRACT section 6).</summary>
internal static class PlacementApi
{
    public static void MapPlacement(this IEndpointRouteBuilder endpoints) => endpoints.MapRead("/v1/placement", Advise);

    /// <summary>
    /// <c>GET /v1/placement?tenant_id=</c>: 200 <see cref="PlacementAdvice"/>, own nodes by name and shared ones as
    /// <c>shared</c>; 403 tenant_mismatch, 422 tenant_required.
    /// </summary>
    private static IResult Advise(HttpContext context, Registry registry)
    {
        if (!Callers.TryTenantQuery(context, out var named, out var refusal))
            return refusal!;
        var (tenantId, mismatch) = Asserted.Of(context).TenantOf(named);
        return tenantId is null ? mismatch! : Results.Json(Placer.Advise(registry.Current, tenantId, registry.Now()), FleetJson.Advice);
    }
}
