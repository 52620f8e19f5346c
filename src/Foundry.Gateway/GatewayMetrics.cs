using System.Diagnostics;
using System.Diagnostics.Metrics;

namespace Foundry.Gateway;

/// <summary>
/// The gateway's own instruments, all <c>foundry.*</c>. Labels come from route files and closed lists, never from what a client
/// sends, so that strangers cannot grow them.
/// </summary>
internal sealed class GatewayMetrics
{
    /// <summary>The meter's name.</summary>
    public const string MeterName = "Foundry.Gateway";

    private readonly Counter<long> _decisions;
    private readonly Counter<long> _leaks;
    private readonly Counter<long> _items;
    private readonly Counter<long> _unfilterable;
    private readonly Counter<long> _dropped;
    private readonly Counter<long> _reloads;
    private readonly Counter<long> _localProofs;
    private readonly Counter<long> _cut;
    private readonly Histogram<double> _duration;

    /// <summary>Makes the instruments.</summary>
    /// <param name="meters">Where.</param>
    public GatewayMetrics(IMeterFactory meters)
    {
        var meter = meters.Create(MeterName);
        _decisions = meter.CreateCounter<long>("foundry.decisions", description: "Requests by decision, reason and route");
        _leaks = meter.CreateCounter<long>("foundry.isolation_leaks_blocked", description: "Foreign elements that a backend sent and the filter kept back");
        _items = meter.CreateCounter<long>("foundry.filter_items", description: "List elements by route and result");
        _unfilterable = meter.CreateCounter<long>("foundry.unfilterable_responses", description: "Answers that could not be filtered and were not passed on");
        _dropped = meter.CreateCounter<long>("foundry.refusal_records_dropped", description: "Refusals that could not be recorded");
        _reloads = meter.CreateCounter<long>("foundry.config_reloads", description: "Changed route files by result: applied or refused");
        _localProofs = meter.CreateCounter<long>("foundry.proof_replay_local", description: "Proofs of possession whose first use was checked at this gateway alone, the store being away");
        _cut = meter.CreateCounter<long>("foundry.requests_cut", description: "Running requests that were broken off, by reason: their token ended, or the gateway stopped");
        _duration = meter.CreateHistogram("http.server.request.duration", "s", "Duration of requests", tags: null,
            advice: new InstrumentAdvice<double> { HistogramBucketBoundaries = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10] });
    }

    /// <summary>Counts a request's end.</summary>
    /// <param name="exchange">The request.</param>
    public void Decided(Exchange exchange)
    {
        var route = exchange.Route?.Path.Text ?? "";
        _decisions.Add(1, new("decision", exchange.Refusal is not null ? "refused" : exchange.Finished ? "served" : "failed"),
            new("reason", exchange.Refusal?.Reason ?? ""), new("route", route));
        _duration.Record(Stopwatch.GetElapsedTime(exchange.StartedAt).TotalSeconds, new("http.route", route),
            new("http.request.method", MethodOf(exchange.Context.Request.Method)), new("http.response.status_code", exchange.Context.Response.StatusCode));
    }

    /// <summary>Counts what a filter did.</summary>
    /// <param name="routeId">The route.</param>
    /// <param name="kept">Elements that passed.</param>
    /// <param name="dropped">Elements that did not.</param>
    public void FilterItems(string routeId, long kept, long dropped)
    {
        _items.Add(kept, new("route", routeId), new("result", "kept"));
        _items.Add(dropped, new("route", routeId), new("result", "dropped"));
        _leaks.Add(dropped);
    }

    /// <summary>Counts an answer that could not be filtered.</summary>
    /// <param name="routeId">The route.</param>
    public void Unfilterable(string routeId) => _unfilterable.Add(1, new KeyValuePair<string, object?>("route", routeId));

    /// <summary>Counts route files that changed.</summary>
    /// <param name="applied">Whether they are in force.</param>
    public void ConfigReloaded(bool applied) => _reloads.Add(1, new KeyValuePair<string, object?>("result", applied ? "applied" : "refused"));

    /// <summary>Counts a refusal whose record was dropped.</summary>
    public void RefusalRecordDropped() => _dropped.Add(1);

    /// <summary>Counts a proof that only this gateway was asked about.</summary>
    public void ProofCheckedLocally() => _localProofs.Add(1);

    /// <summary>Counts a running request that was broken off.</summary>
    /// <param name="refusal">Why.</param>
    public void RequestCut(Refusal refusal) => _cut.Add(1, new KeyValuePair<string, object?>("reason", refusal.Reason));

    private static string MethodOf(string method) => method is "GET" or "HEAD" or "POST" or "PUT" or "PATCH" or "DELETE" or "OPTIONS" ? method : "_OTHER";
}
