using Foundry.Gateway.Config;
using Foundry.ServiceDefaults;
using Microsoft.AspNetCore.Connections.Features;

namespace Foundry.Gateway;

/// <summary>
/// What operators see, on a port of its own (CONTRACT section 10). Which port a request came in on is the connection's fact; no
/// Host header, and no route to loopback, can claim it.
/// </summary>
internal static class OpsApi
{
    private static readonly object OpsKey = new();

    /// <summary>Marks a listener's connections as the operators'.</summary>
    /// <param name="listen">The listener.</param>
    public static void MarkAsOps(Microsoft.AspNetCore.Server.Kestrel.Core.ListenOptions listen) => listen.Use(next => connection =>
    {
        connection.Items[OpsKey] = OpsKey;
        return next(connection);
    });

    /// <summary>Answers what comes in on the operators' port: <c>/livez</c>, <c>/healthz</c>, <c>/readyz</c>, <c>/metrics</c>, <c>/config/status</c>.</summary>
    /// <param name="app">The application.</param>
    public static void UseOps(this WebApplication app)
    {
        app.MapWhen(context => context.Features.Get<IConnectionItemsFeature>()?.Items.ContainsKey(OpsKey) == true, ops =>
        {
            ops.UseProblems();
            ops.UseRouting();
            ops.UseEndpoints(endpoints =>
            {
                endpoints.MapHealth();
                endpoints.MapGet("/config/status", (RouteTable routes) => Results.Json(new
                {
                    running_hash = routes.Status.RunningHash,
                    on_disk_hash = routes.Status.OnDiskHash,
                    applied_at = routes.Status.AppliedAt,
                    errors = routes.Status.Errors.Select(error => new { file = error.File, line = error.Line, field = error.Field, message = error.Message }),
                }));
            });
        });
    }
}
