using System.Collections.Concurrent;
using System.Net.Http.Json;
using System.Text.Json;
using Foundry.Contracts;
using Foundry.Gateway.Authenticate;
using Foundry.Gateway.Config;
using Foundry.ServiceDefaults;
using StackExchange.Redis;

namespace Foundry.Gateway.Admit;

/// <summary>
/// Keeps held numbers true to the fleet's own list: begins a new epoch where the store's memory is missing, settles what is unknown,
/// adopts what was made behind the gateway's back. Everything it does is an idempotent transition guarded by the version that was
/// read before the list was asked for, so it never turns a right number into a wrong one while creates and deletes race with it.
/// </summary>
internal sealed class Reconciler(Quotas quotas, Store store, TenantDirectory directory, IHttpClientFactory clients, GatewayOptions options, Readiness readiness, TimeProvider time, ILogger<Reconciler> log)
    : BackgroundService
{
    private readonly ConcurrentDictionary<string, Lazy<Task<bool>>> _rebuilding = new(StringComparer.Ordinal);

    /// <summary>Rebuilds a tenant's counters from the fleet; callers at the same time share one attempt.</summary>
    /// <param name="tenantId">Whose.</param>
    /// <param name="cancellationToken">Ends the wait, not the attempt.</param>
    /// <returns>Whether creates can be admitted now.</returns>
    public async Task<bool> RebuildAsync(string tenantId, CancellationToken cancellationToken)
    {
        var attempt = _rebuilding.GetOrAdd(tenantId, id => new Lazy<Task<bool>>(async () =>
        {
            try
            {
                return await RebuildOnceAsync(id);
            }
            finally
            {
                _rebuilding.TryRemove(id, out _);
            }
        }));
        return await attempt.Value.WaitAsync(cancellationToken);
    }

    /// <inheritdoc/>
    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        readiness.Report("quotas", met: false, "held numbers are compared with the fleet's list");
        directory.TenantChanged += OnTenantChanged;
        try
        {
            string? rebuiltRun = null;
            using var timer = new PeriodicTimer(TimeSpan.FromMilliseconds(250), time);
            var reconciledAt = time.GetTimestamp();
            do
            {
                if (store.RunId is not { } run || !directory.IsKnown)
                    continue;
                if (run != rebuiltRun)
                {
                    if (!await BeginAsync(stoppingToken))
                        continue;
                    rebuiltRun = run;
                    reconciledAt = time.GetTimestamp();
                    readiness.Report("quotas", met: true);
                }
                else if (time.GetElapsedTime(reconciledAt) >= options.ReconcileInterval)
                {
                    foreach (var tenant in directory.Tenants)
                        await ReconcileAsync(tenant.TenantId, stoppingToken);
                    reconciledAt = time.GetTimestamp();
                }
            }
            while (await timer.WaitForNextTickAsync(stoppingToken));
        }
        finally
        {
            directory.TenantChanged -= OnTenantChanged;
        }
    }

    /// <summary>After a start, or another life of the store: every tenant whose counters are not of this life.</summary>
    private async Task<bool> BeginAsync(CancellationToken cancellationToken)
    {
        foreach (var tenant in directory.Tenants)
        {
            try
            {
                if (await quotas.ReadAsync(tenant.TenantId) is null && !await RebuildAsync(tenant.TenantId, cancellationToken))
                    return false;
            }
            catch (Exception fault) when (fault is RedisException or TimeoutException)
            {
                return false;
            }
        }
        return true;
    }

    private async Task<bool> RebuildOnceAsync(string tenantId)
    {
        try
        {
            if (store.RunId is not { } run)
                return false;
            using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(10), time);
            using var answer = await clients.CreateClient(Clusters.Fleet).PostAsJsonAsync("/internal/v1/epochs", new BeginEpoch(1, tenantId), WireJson.Default.BeginEpoch, limit.Token);
            answer.EnsureSuccessStatusCode();
            var held = await answer.Content.ReadFromJsonAsync(WireJson.Default.HeldVms, limit.Token) ?? throw new JsonException("null");
            await quotas.RebuildAsync(tenantId, run, held);
            log.LogInformation("Held numbers of {Tenant} rebuilt from the fleet: {Vms} VMs, epoch {Epoch}", tenantId, held.Vms.Count, held.Epoch);
            return true;
        }
        catch (Exception fault) when (fault is HttpRequestException or JsonException or RedisException or TimeoutException or OperationCanceledException)
        {
            log.LogWarning("Held numbers of {Tenant} cannot be rebuilt yet: {Reason}", tenantId, fault.Message);
            return false;
        }
    }

    private async Task ReconcileAsync(string tenantId, CancellationToken cancellationToken)
    {
        try
        {
            if (await quotas.ReadAsync(tenantId) is not { } before)
            {
                await RebuildAsync(tenantId, cancellationToken);
                return;
            }
            using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
            limit.CancelAfter(TimeSpan.FromSeconds(10));
            var list = await clients.CreateClient(Clusters.Fleet).GetFromJsonAsync($"/internal/v1/vms?tenant_id={tenantId}", WireJson.Default.HeldVms, limit.Token);
            if (list is not null)
                await SettleAsync(tenantId, before, list);
        }
        catch (Exception fault) when (fault is HttpRequestException or JsonException or RedisException or TimeoutException || (fault is OperationCanceledException && !cancellationToken.IsCancellationRequested))
        {
            log.LogWarning("Held numbers of {Tenant} cannot be compared with the fleet's list: {Reason}", tenantId, fault.Message);
        }
    }

    private async Task SettleAsync(string tenantId, Held before, HeldVms list)
    {
        var reservations = before.Reservations.ToDictionary(reservation => reservation.Id, StringComparer.Ordinal);
        var listed = new HashSet<string>(StringComparer.Ordinal);
        foreach (var vm in list.Vms)
        {
            listed.Add(vm.VmId);
            if (vm.ReservationId is { } id && reservations.Remove(id))
                await quotas.CommitAsync(tenantId, id, vm.VmId, vm.RamAllocMb, Quotas.DiskOf(vm));
            else if (!before.HeldVms.ContainsKey(vm.VmId))
                await quotas.AdoptAsync(tenantId, vm.VmId, vm.RamAllocMb, Quotas.DiskOf(vm), before.Version);
        }
        foreach (var vmId in before.HeldVms.Keys.Where(vmId => !listed.Contains(vmId)))
            await quotas.ForgetAsync(tenantId, vmId, before.Version);
        // Absent from a list that the fleet made after the deadline, by its own clock: it will never be accepted.
        foreach (var reservation in reservations.Values.Where(reservation => reservation.DeadlineMs < list.FleetTime))
            await quotas.ReleaseAsync(tenantId, reservation.Id);
    }

    private void OnTenantChanged(Tenant tenant, bool created)
    {
        if (created && store.IsUp)
            _ = RebuildAsync(tenant.TenantId, CancellationToken.None);
    }
}
