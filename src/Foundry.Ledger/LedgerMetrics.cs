using System.Diagnostics.Metrics;
using Foundry.Ledger.Storage;

namespace Foundry.Ledger;

/// <summary>The ledger's own instruments, all <c>foundry.ledger.*</c>, without labels that clients could grow.</summary>
internal sealed class LedgerMetrics
{
    /// <summary>The meter's name.</summary>
    public const string MeterName = "Foundry.Ledger";

    /// <summary>Logs that take no entries.</summary>
    public const string LogsFailed = "foundry.ledger.logs_failed";

    /// <summary>Makes the instruments.</summary>
    public LedgerMetrics(IMeterFactory meters, LogShelf shelf)
    {
        var meter = meters.Create(MeterName);
        meter.CreateObservableGauge(LogsFailed, () => shelf.FailedCount, description: "Logs that take no entries until the ledger starts again");
        meter.CreateObservableGauge("foundry.ledger.logs_open", () => shelf.OpenCount, description: "Logs held open");
    }
}
