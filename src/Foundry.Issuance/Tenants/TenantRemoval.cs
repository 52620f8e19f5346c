using System.Collections.Concurrent;
using System.Data.Common;
using System.Text.Json;
using Foundry.Contracts;
using Foundry.Issuance.Changes;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace Foundry.Issuance.Tenants;

/// <summary>
/// Takes down the tenants that are <c>deleting</c>: destroys their VMs, and deletes each under a seal once it is empty. Every
/// step can be repeated, by this process after a restart or by another beside it; whatever cannot be done now is tried again.
/// </summary>
internal sealed class TenantRemoval : BackgroundService
{
    private static readonly TimeSpan Interval = TimeSpan.FromSeconds(1);
    private const int VmsPerRound = 200;
    private const int VmsAtOnce = 8;
    private const int TenantsPerRound = 100;
    /// <summary>Longer than the fleet's client waits: by then an attempt has been answered, or never will be.</summary>
    private const int AnsweredSecondsMax = 15;

    private readonly TenantBook _tenants;
    private readonly TenantVms _vms;
    private readonly Journal _journal;
    private readonly TimeProvider _time;
    private readonly ILogger<TenantRemoval> _log;

    /// <summary>Makes one.</summary>
    public TenantRemoval(TenantBook tenants, TenantVms vms, Journal journal, TimeProvider time, ILogger<TenantRemoval> log) =>
        (_tenants, _vms, _journal, _time, _log) = (tenants, vms, journal, time, log);

    /// <inheritdoc/>
    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        while (!stoppingToken.IsCancellationRequested)
        {
            try
            {
                foreach (var tenant in await DeletingAsync(stoppingToken))
                    await RemoveAsync(tenant, stoppingToken);
            }
            catch (Exception fault) when (fault is DbException or IOException)
            {
                _log.LogError(fault, "Tenants that are being deleted cannot be looked after");
            }
            await Task.Delay(Interval, _time, stoppingToken);
        }
    }

    private Task<IReadOnlyList<DeletingRow>> DeletingAsync(CancellationToken cancellationToken) => _journal.Database.ReadAllAsync<DeletingRow>(
        $"SELECT tenant_id AS TenantId, deletion AS Deletion FROM tenants WHERE status = 'deleting' ORDER BY tenant_id LIMIT {TenantsPerRound}", null, cancellationToken);

    /// <summary>As much as can be done now.</summary>
    private async Task RemoveAsync(DeletingRow tenant, CancellationToken cancellationToken)
    {
        var doer = JsonSerializer.Deserialize<Doer>(tenant.Deletion)!;
        var had = int.MaxValue;
        while (true)
        {
            var sealedAt = _time.GetTimestamp();
            if (await _vms.SealAsync(tenant.TenantId, TenantBook.SealLength, cancellationToken) is not { } listed)
            {
                _log.LogWarning("{Tenant} cannot be deleted yet: the fleet cannot be asked", tenant.TenantId);
                return;
            }
            var (fresh, left) = await BeginAsync(tenant.TenantId, listed, cancellationToken);
            if (listed.Count == 0 && left.Count == 0)
            {
                // Refused while the end of a VM is unknown.
                await _tenants.DeleteEmptyAsync(tenant.TenantId, doer, sealedAt, cancellationToken);
                return;
            }
            await DestroyAsync(tenant.TenantId, fresh, left, doer, cancellationToken);
            // No fewer than a round ago: what hinders it will hinder the next one.
            if (listed.Count >= had)
                return;
            had = listed.Count;
        }
    }

    /// <summary>
    /// Writes down which VMs are about to be destroyed, so that each is recorded even if this process ends before it has heard the
    /// answer. What another process is at, or this one was a moment ago, is left alone.
    /// </summary>
    /// <returns>Those that are new here, and those whose end is unknown since an earlier attempt.</returns>
    private Task<(IReadOnlyList<string> Fresh, IReadOnlyList<string> Left)> BeginAsync(string tenantId, IReadOnlyList<string> listed, CancellationToken cancellationToken) =>
        _journal.WriteAsync<(IReadOnlyList<string>, IReadOnlyList<string>)>(async entry =>
        {
            var left = await entry.QueryAsync<string>($"SELECT vm_id FROM vm_removals WHERE tenant_id = @tenantId AND begun_at <= @floor ORDER BY vm_id LIMIT {VmsPerRound}",
                new { tenantId, floor = entry.NowSeconds - AnsweredSecondsMax });
            await entry.ExecuteForEachAsync("UPDATE vm_removals SET begun_at = @NowSeconds WHERE vm_id IN ({some})", left, new { entry.NowSeconds });
            var fresh = new List<string>();
            foreach (var vmId in listed.Take(VmsPerRound))
                if (await entry.ExecuteAsync("INSERT INTO vm_removals (vm_id, tenant_id, begun_at) VALUES (@vmId, @tenantId, @NowSeconds) ON CONFLICT DO NOTHING", new { vmId, tenantId, entry.NowSeconds }) == 1)
                    fresh.Add(vmId);
            return (fresh, left);
        }, cancellationToken);

    /// <summary>Destroys VMs, and records of each that it is gone.</summary>
    private async Task DestroyAsync(string tenantId, IReadOnlyList<string> fresh, IReadOnlyList<string> left, Doer doer, CancellationToken cancellationToken)
    {
        var destroyed = new ConcurrentDictionary<string, bool>(StringComparer.Ordinal);
        await Parallel.ForEachAsync(fresh.Concat(left), new ParallelOptions { MaxDegreeOfParallelism = VmsAtOnce, CancellationToken = cancellationToken }, async (vmId, token) =>
        {
            if (await _vms.DestroyAsync(vmId, token) is { } here)
                // What is gone now and was not answered for earlier was destroyed then; what is gone at the first attempt, by
                // somebody else, who has recorded it.
                destroyed[vmId] = here || left.Contains(vmId);
        });
        await _journal.WriteAsync(async entry =>
        {
            await entry.ExecuteForEachAsync("DELETE FROM vm_removals WHERE vm_id IN ({some})", destroyed.Keys);
            await entry.RecordAsync([.. destroyed.Where(vm => vm.Value).Select(vm => vm.Key).Order(StringComparer.Ordinal)
                .Select(vmId => (tenantId, $"{EventTypes.VmDestroyed}:{vmId}", entry.EventOf(EventTypes.VmDestroyed, tenantId, doer, ("vm_id", vmId))))]);
            return 0;
        }, cancellationToken);
    }

    private sealed record DeletingRow
    {
        public string TenantId { get; init; } = "";
        public string Deletion { get; init; } = "";
    }
}
