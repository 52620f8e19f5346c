using Foundry.Contracts;
using Foundry.Gateway.Admit;
using Foundry.Gateway.Config;
using Foundry.Tokens;
using StackExchange.Redis;

namespace Foundry.Gateway;

/// <summary>What the gateway answers itself. These take the same steps as everything else.</summary>
internal static class OwnAnswers
{
    /// <summary>The policies of these routes.</summary>
    public static readonly IReadOnlyList<RoutePolicy> Policies =
    [
        Policy("gateway-health", "/healthz", "anonymous"),
        Policy("gateway-health-v1", "/v1/health", "anonymous"),
        Policy("status", "/v1/status", "any"),
        Policy("quota", "/v1/quota", "any"),
    ];

    /// <summary>Maps them.</summary>
    /// <param name="endpoints">Where.</param>
    /// <param name="pipeline">The steps.</param>
    public static void MapOwnAnswers(this IEndpointRouteBuilder endpoints, GatewayPipeline pipeline)
    {
        Map("gateway-health", context => context.Response.WriteAsync("ok\n", context.RequestAborted));
        Map("gateway-health-v1", context => context.Response.WriteAsJsonAsync(new Dictionary<string, string> { ["status"] = "ok" }, context.RequestAborted));
        Map("status", context => UseAsync(context, withReservations: false));
        Map("quota", context => UseAsync(context, withReservations: true));

        void Map(string routeId, RequestDelegate answer)
        {
            var policy = Policies.Single(policy => policy.RouteId == routeId);
            endpoints.MapMethods(policy.Path.Text, policy.Methods, context => pipeline.RunAsync(context, answer)).WithMetadata(policy);
        }
    }

    /// <summary><c>GET /v1/status</c>, <c>GET /v1/quota</c> (CONTRACT section 3): the caller's tenant, scope and use.</summary>
    private static async Task UseAsync(HttpContext context, bool withReservations)
    {
        var exchange = Exchange.Of(context);
        var tenant = exchange.TenantId is { } id ? context.RequestServices.GetRequiredService<Authenticate.TenantDirectory>().Find(id) : null;
        (long Vms, long RamMb, long DiskGb)? held = null;
        IReadOnlyList<ReservationStatus>? reservations = null;
        if (tenant is not null)
            try
            {
                var quotas = context.RequestServices.GetRequiredService<Quotas>();
                held = await quotas.ReadTotalsAsync(tenant.TenantId);
                if (withReservations)
                    reservations = (await quotas.ReadAsync(tenant.TenantId))?.Reservations.Select(reservation => new ReservationStatus(reservation.Id, reservation.State,
                        reservation.RamMb, reservation.DiskGb, DateTimeOffset.FromUnixTimeMilliseconds(reservation.SinceMs))).ToArray();
            }
            catch (Exception fault) when (fault is RedisException or TimeoutException)
            {
                // Absent rather than wrong: what is held is not known at the moment.
            }
        var status = new UseStatus(tenant?.TenantId, exchange.Caller.Scope.Text, (int?)held?.Vms, tenant?.MaxVms, held?.RamMb, tenant?.MaxRamMb, held?.DiskGb, tenant?.StorageQuotaGb, tenant?.ApiRateLimitRpm)
        {
            Reservations = reservations,
        };
        context.Response.Headers.CacheControl = "private, no-store";
        await context.Response.WriteAsJsonAsync(status, WireJson.Default.UseStatus, cancellationToken: context.RequestAborted);
    }

    private static RoutePolicy Policy(string routeId, string path, string scope) =>
        new(routeId, "", RoutePath.TryParse(path, out _)!, ["GET"], ScopeRule.TryParse(scope, out var rule, out _) ? rule : throw new InvalidOperationException(scope));
}
