using System.Collections.Concurrent;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Microsoft.Extensions.DependencyInjection;

namespace Foundry.ServiceDefaults;

/// <summary>Whether a part can serve: a list of what it needs, each there or not, and since when.</summary>
public sealed class Readiness
{
    private readonly ConcurrentDictionary<string, Need> _needs = new(StringComparer.Ordinal);
    private readonly TimeProvider _time;

    /// <summary>Makes one; a part without needs is ready.</summary>
    /// <param name="time">The clock.</param>
    public Readiness(TimeProvider time) => _time = time;

    /// <summary>Whether everything needed is there.</summary>
    public bool IsReady => _needs.Values.All(need => need.Met || !need.Required);

    /// <summary>Says how a need stands. One that was never met is not.</summary>
    /// <param name="name">What is needed, as operators know it.</param>
    /// <param name="met">Whether it is there.</param>
    /// <param name="detail">What is the matter; nothing secret.</param>
    /// <param name="required">Whether the part can serve nothing without it; otherwise it is only shown.</param>
    public void Report(string name, bool met, string? detail = null, bool required = true)
    {
        var now = _time.GetUtcNow();
        _needs.AddOrUpdate(name,
            _ => new Need(met, detail, now, required),
            (_, known) => known.Met == met ? known with { Detail = detail } : new Need(met, detail, now, required));
    }

    /// <summary>Every need, as it stands.</summary>
    public IEnumerable<(string Name, bool Met, bool Required)> Needs => _needs.Select(need => (need.Key, need.Value.Met, need.Value.Required));

    /// <summary>The answer of <c>/readyz</c>.</summary>
    public IResult ToResult() => Results.Json(new
    {
        ready = IsReady,
        needs = _needs.OrderBy(need => need.Key, StringComparer.Ordinal).ToDictionary(need => need.Key, need => new
        {
            met = need.Value.Met,
            required = need.Value.Required,
            since = need.Value.Since,
            detail = need.Value.Detail,
        }),
    }, statusCode: IsReady ? 200 : 503);

    private sealed record Need(bool Met, string? Detail, DateTimeOffset Since, bool Required);
}

/// <summary>The health endpoints that every part has.</summary>
public static class HealthEndpoints
{
    /// <summary>Maps <c>/livez</c> and <c>/healthz</c> (the process answers), <c>/readyz</c> (it can serve) and <c>/metrics</c> (<see cref="PartMetrics"/>), open to everyone.</summary>
    /// <param name="endpoints">Where.</param>
    public static void MapHealth(this IEndpointRouteBuilder endpoints)
    {
        ArgumentNullException.ThrowIfNull(endpoints);
        foreach (var path in (string[])["/livez", "/healthz"])
            endpoints.MapGet(path, () => Results.Text("ok\n")).WithMetadata(Trust.OpenToAll.Instance);
        endpoints.MapGet("/readyz", (HttpContext context) => context.RequestServices.GetRequiredService<Readiness>().ToResult())
            .WithMetadata(Trust.OpenToAll.Instance);
        endpoints.MapMetrics();
    }
}
