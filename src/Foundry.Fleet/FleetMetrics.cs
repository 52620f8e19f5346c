using System.Diagnostics.Metrics;

namespace Foundry.Fleet;

/// <summary>What the fleet counts.</summary>
internal sealed class FleetMetrics : IDisposable
{
    public const string MeterName = "Foundry.Fleet";

    private readonly Meter _meter = new(MeterName);
    private readonly Counter<long> _reportsIgnored;

    public FleetMetrics() =>
        _reportsIgnored = _meter.CreateCounter<long>("foundry.fleet.reports_ignored", "{report}", "Reports of a VM by a node that it was not given to, or after its deletion");

    public void ReportsIgnored(int count)
    {
        if (count > 0)
            _reportsIgnored.Add(count);
    }

    public void Dispose() => _meter.Dispose();
}
