using System.Data.Common;
using Foundry.Ledger.Storage;
using Foundry.ServiceDefaults;

namespace Foundry.Ledger.Recovery;

/// <summary>
/// Looks every few seconds whether what was stored is still there. A log of which something was deleted or cut takes no more
/// entries; it is said which file, and that the ledger is no longer whole.
/// </summary>
internal sealed class LogWatch(ILogStore store, LogShelf shelf, TimeProvider time, Readiness readiness) : BackgroundService
{
    /// <summary>The need as operators see it. Not required: the other logs go on, and a ledger taken out of service would stop them too.</summary>
    public const string Need = "appends";

    /// <summary>Between two looks. A loss is noticed by the second one at the latest: the first may find the log being written.</summary>
    public static TimeSpan Interval { get; } = TimeSpan.FromSeconds(4);

    /// <summary>Looks once.</summary>
    /// <param name="cancellation">Ends it.</param>
    public void Look(CancellationToken cancellation)
    {
        try
        {
            foreach (var (module, fault) in store.FindLosses(shelf.VerifierOf, cancellation))
                shelf.Fail(module, fault);
        }
        catch (DbException)
        {
            // Away, and whoever reads or writes is told so; it is looked at when it is back.
            return;
        }
        var failed = shelf.FailedCount;
        readiness.Report(Need, failed == 0, failed == 0 ? null : $"{failed} logs take no entries until the ledger starts again; its own log says why", required: false);
    }

    /// <inheritdoc/>
    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        using var timer = new PeriodicTimer(Interval, time);
        do
            // Recomputing logs takes a thread for as long as that takes, which is not to be one of the pool's.
            await Task.Factory.StartNew(() => Look(stoppingToken), stoppingToken, TaskCreationOptions.LongRunning, TaskScheduler.Default);
        while (await timer.WaitForNextTickAsync(stoppingToken));
    }
}
