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
    private static readonly TimeSpan FleetAnswerMax = TimeSpan.FromSeconds(10);
    private const string Comparing = "held numbers are compared with the fleet's list";
    private const int VmIdCharsMax = 256;
    // MiB or GiB of one VM: so much that nobody has it, so little that sums stay exact.
    private const long SizeMax = 1L << 40;

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
    public override Task StartAsync(CancellationToken cancellationToken)
    {
        // Here and not in ExecuteAsync, which may begin only after the port is open.
        readiness.Report("quotas", met: false, Comparing);
        return base.StartAsync(cancellationToken);
    }

    /// <inheritdoc/>
    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
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
                    // At a start this keeps the gateway unready. Later it is only shown: creates are refused, reads and deletes go on.
                    readiness.Report("quotas", met: false, Comparing, required: rebuiltRun is null);
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
            // Several gateways come here at once. Who finds the numbers in force, or another at work on them, begins no epoch: each
            // one makes the fleet refuse the creates of those before it.
            switch (await quotas.StateAsync(tenantId, run))
            {
                case CountersState.InForce:
                    return true;
                case CountersState.Building:
                    return false;
            }
            using var limit = new CancellationTokenSource(FleetAnswerMax, time);
            using var answer = await clients.CreateClient(Clusters.Fleet).PostAsJsonAsync("/internal/v1/epochs", new BeginEpoch(1, tenantId), WireJson.Default.BeginEpoch, limit.Token);
            answer.EnsureSuccessStatusCode();
            var held = Checked(await answer.Content.ReadFromJsonAsync(WireJson.Default.HeldVms, limit.Token));
            if (!await quotas.RebuildAsync(tenantId, run, held))
                return false;
            log.LogInformation("Held numbers of {Tenant} rebuilt from the fleet: {Vms} VMs, epoch {Epoch}", tenantId, held.Vms.Count, held.Epoch);
            return true;
        }
        catch (Exception fault) when (IsExpected(fault) || fault is OperationCanceledException)
        {
            log.LogWarning("Held numbers of {Tenant} cannot be rebuilt yet: {Reason}", tenantId, fault.Message);
            return false;
        }
    }

    /// <summary>Compares a tenant's held numbers with the fleet's list, once.</summary>
    /// <param name="tenantId">Whose.</param>
    /// <param name="cancellationToken">Ends it.</param>
    public async Task ReconcileAsync(string tenantId, CancellationToken cancellationToken)
    {
        try
        {
            if (await quotas.ReadAsync(tenantId) is not { } before)
            {
                await RebuildAsync(tenantId, cancellationToken);
                return;
            }
            using var limit = new CancellationTokenSource(FleetAnswerMax, time);
            using var ending = cancellationToken.Register(limit.Cancel);
            var list = Checked(await clients.CreateClient(Clusters.Fleet).GetFromJsonAsync($"/internal/v1/vms?tenant_id={tenantId}", WireJson.Default.HeldVms, limit.Token));
            await SettleAsync(tenantId, before, list);
        }
        catch (Exception fault) when (IsExpected(fault) || (fault is OperationCanceledException && !cancellationToken.IsCancellationRequested))
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
            // Not a commit: by now the reservation may have been settled and the VM destroyed again.
            if ((vm.ReservationId is { } id && reservations.Remove(id)) || !before.HeldVms.ContainsKey(vm.VmId))
                await quotas.AdoptAsync(tenantId, before, vm);
        }
        foreach (var vmId in before.HeldVms.Keys.Where(vmId => !listed.Contains(vmId)))
            await quotas.ForgetAsync(tenantId, before, vmId);
        // Absent from a list that the fleet made after the deadline, by its own clock: it will never be accepted.
        foreach (var reservation in reservations.Values.Where(reservation => reservation.DeadlineMs < list.FleetTime))
            await quotas.ReleaseAsync(tenantId, reservation.Id);
    }

    /// <summary>A list that can be counted: what is absent is not empty, and no VM is smaller than nothing.</summary>
    internal static HeldVms Checked(HeldVms? list) =>
        list?.Vms is { } vms && vms.All(vm => vm is { VmId.Length: > 0 and <= VmIdCharsMax, RamAllocMb: >= 0 and <= SizeMax } && Quotas.DiskOf(vm) is >= 0 and <= SizeMax)
            ? list
            : throw new JsonException("the fleet's answer is no list of VMs");

    /// <summary>What a fleet or a store can do to us; an answer that breaks off is an <see cref="IOException"/>, one in an unknown charset an <see cref="InvalidOperationException"/>.</summary>
    internal static bool IsExpected(Exception fault) => fault is HttpRequestException or IOException or InvalidOperationException or JsonException or RedisException or TimeoutException;

    private void OnTenantChanged(Tenant tenant, bool created)
    {
        if (created && store.IsUp)
            _ = RebuildAsync(tenant.TenantId, CancellationToken.None);
    }
}
