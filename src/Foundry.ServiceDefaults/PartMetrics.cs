using System.Diagnostics.Metrics;
using Foundry.ServiceDefaults.Trust;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Routing;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using OpenTelemetry.Metrics;

namespace Foundry.ServiceDefaults;

/// <summary>
/// What a part counts, for Prometheus. The meter of a part is <c>Foundry.&lt;Part&gt;</c>; what all parts count alike is in
/// <see cref="Shared"/>, with the part as a label. The gateway shows every meter of the process it runs in, so that standalone has one
/// place to look. Labels come from closed lists and from settings: nothing here names a tenant.
/// </summary>
public static class PartMetrics
{
    /// <summary>Name of the meter for what every part counts.</summary>
    public const string Shared = "Foundry.Parts";

    /// <summary>The part that shows all.</summary>
    private const string Door = "gateway";

    /// <summary>Makes an instrument's label of the part.</summary>
    /// <param name="environment">The part's host.</param>
    public static KeyValuePair<string, object?> LabelOf(IHostEnvironment environment)
    {
        ArgumentNullException.ThrowIfNull(environment);
        return new("part", environment.ApplicationName);
    }

    /// <summary>Registers what <c>/metrics</c> is made of; <see cref="ServiceHost.CreateBuilder"/> has done it for every part.</summary>
    /// <param name="services">The part's services.</param>
    /// <param name="part">Its name.</param>
    public static void AddPartMetrics(this IServiceCollection services, string part)
    {
        ArgumentNullException.ThrowIfNull(services);
        ArgumentException.ThrowIfNullOrEmpty(part);
        services.AddMetrics();
        services.AddOpenTelemetry().WithMetrics(metrics => metrics
            .AddMeter(part == Door ? ["Foundry.*"] : [Shared, $"Foundry.{char.ToUpperInvariant(part[0])}{part[1..]}"])
            .AddPrometheusExporter());
    }

    /// <summary>Maps <c>/metrics</c>, as open as health is: on a port that only the platform's own network reaches.</summary>
    internal static void MapMetrics(this IEndpointRouteBuilder endpoints)
    {
        var services = endpoints.ServiceProvider;
        var (readiness, part) = (services.GetRequiredService<Readiness>(), LabelOf(services.GetRequiredService<IHostEnvironment>()));
        services.GetRequiredService<IMeterFactory>().Create(Shared).CreateObservableGauge("foundry.need_met",
            () => readiness.Needs.Select(need => new Measurement<int>(need.Met ? 1 : 0, part, new("need", need.Name), new("required", need.Required))),
            description: "What a part needs, as its /readyz says: 1 where it has it");
        endpoints.MapPrometheusScrapingEndpoint("/metrics").WithMetadata(OpenToAll.Instance);
    }
}
