using System.Data.Common;
using System.Net.Http.Json;
using Foundry.Contracts;
using Foundry.Gateway.Admit;

namespace Foundry.Gateway.Record;

/// <summary>
/// Settles decisions whose outcome this gateway did not see, because it was killed or the backend fell silent: the fleet's own list
/// says what became of them. So <c>VM_CREATED</c> is never lost between the fleet's yes and a kill -9.
/// </summary>
internal sealed class IntentSettler(Recorder recorder, IHttpClientFactory clients, TimeProvider time, ILogger<IntentSettler> log) : BackgroundService
{
    private static readonly TimeSpan Interval = TimeSpan.FromSeconds(1);

    /// <inheritdoc/>
    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        using var timer = new PeriodicTimer(Interval, time);
        do
        {
            foreach (var ofTenant in await LeftAsync(stoppingToken))
                try
                {
                    await SettleAsync(ofTenant.Key, ofTenant, stoppingToken);
                }
                catch (Exception fault) when (Reconciler.IsExpected(fault) || fault is DbException || (fault is OperationCanceledException && !stoppingToken.IsCancellationRequested))
                {
                    log.LogWarning("Decisions about {Tenant} are left open: {Reason}", ofTenant.Key, fault.Message);
                }
        }
        while (await timer.WaitForNextTickAsync(stoppingToken));
    }

    private async Task<IEnumerable<IGrouping<string, Intent>>> LeftAsync(CancellationToken cancellationToken)
    {
        try
        {
            return (await recorder.LeftAsync(cancellationToken)).GroupBy(intent => intent.TenantId);
        }
        catch (DbException fault)
        {
            log.LogWarning("Decisions cannot be read: {Reason}", fault.Message);
            return [];
        }
    }

    private async Task SettleAsync(string tenantId, IEnumerable<Intent> intents, CancellationToken cancellationToken)
    {
        var list = Reconciler.Checked(await clients.CreateClient(Clusters.Fleet).GetFromJsonAsync($"/internal/v1/vms?tenant_id={tenantId}", WireJson.Default.HeldVms, cancellationToken));
        foreach (var intent in intents)
        {
            var vm = list.Vms.FirstOrDefault(vm => intent.VmId is null ? vm.ReservationId == intent.Id : vm.VmId == intent.VmId);
            var created = intent.EventType == EventTypes.VmCreated;
            if (created && vm is not null)
                await recorder.DoneAsync(intent, vm.VmId, vm);
            else if (!created && vm is null)
                await recorder.DoneAsync(intent, intent.VmId!, null);
            else if (list.FleetTime > intent.DeadlineMs)
                await recorder.NotDoneAsync(intent); // By the fleet's own clock it is too late for it to happen still.
            else
                continue;
            log.LogInformation("Decision {Intent} ({EventType}) settled from the fleet's list", intent.Id, intent.EventType);
        }
    }
}
