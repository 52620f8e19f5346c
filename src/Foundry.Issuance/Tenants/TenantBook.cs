using System.Text.Json;
using Foundry.Contracts;
using Foundry.Issuance.Changes;
using Foundry.ServiceDefaults;
using Foundry.ServiceDefaults.Trust;

namespace Foundry.Issuance.Tenants;

/// <summary>The tenants. Every change is told to the gateways and recorded in the tenant's log and in the platform's.</summary>
internal sealed class TenantBook
{
    /// <summary>Name of the fleet's client, and its cluster ID.</summary>
    public const string FleetClient = "fleet";

    private static readonly Refused FleetAway = new(ErrorCode.NotReady, "The fleet cannot be asked at the moment whether the tenant still has VMs. Nothing was changed.");
    private static readonly Refused Changed = new(ErrorCode.PreconditionFailed, "The tenant has changed since; read it again.");

    private readonly Journal _journal;
    private readonly IHttpClientFactory _clients;

    /// <summary>Makes one.</summary>
    /// <param name="journal">Where tenants are written.</param>
    /// <param name="clients">Where the fleet's client is.</param>
    public TenantBook(Journal journal, IHttpClientFactory clients) => (_journal, _clients) = (journal, clients);

    /// <summary>A tenant; null where there is none.</summary>
    public Task<TenantRow?> FindAsync(string tenantId, CancellationToken cancellationToken) =>
        _journal.Database.ReadOneAsync<TenantRow>($"SELECT {TenantRow.Columns} FROM tenants WHERE tenant_id = @tenantId AND status <> 'deleted'", new { tenantId }, cancellationToken);

    /// <summary>A page of tenants by ID, one longer than asked where there is more.</summary>
    public Task<IReadOnlyList<TenantRow>> ListAsync(string after, int limit, CancellationToken cancellationToken) =>
        _journal.Database.ReadAllAsync<TenantRow>($"SELECT {TenantRow.Columns} FROM tenants WHERE tenant_id > @after AND status <> 'deleted' ORDER BY tenant_id LIMIT @limit", new { after, limit = limit + 1 }, cancellationToken);

    /// <summary>Makes a tenant of a request whose values are right.</summary>
    public Task<Outcome<TenantRow>> CreateAsync(Asserted caller, TenantRequest request, string requestId, CancellationToken cancellationToken) =>
        _journal.WriteForAsync<TenantRow>(caller, async entry =>
        {
            if (await entry.SingleAsync<long>("SELECT COUNT(*) FROM tenants WHERE tenant_id = @TenantId", new { request.TenantId }) > 0)
                return new Refused(ErrorCode.TenantExists, "tenant_id: it is or was in use, and IDs are never given out twice.");
            var tenant = new TenantRow
            {
                TenantId = request.TenantId!,
                DisplayName = request.DisplayName!,
                MaxVms = request.MaxVms!.Value,
                StorageQuotaGb = request.StorageQuotaGb!.Value,
                ApiRateLimitRpm = request.ApiRateLimitRpm!.Value,
                MaxRamMb = request.MaxRamMb,
                RequireProof = request.RequireProof == true ? 1 : 0,
                Status = Tenant.Active,
                CreatedAtMs = entry.Now.ToUnixTimeMilliseconds(),
                Version = 1,
            };
            await entry.ExecuteAsync("""
                INSERT INTO tenants (tenant_id, display_name, max_vms, storage_quota_gb, api_rate_limit_rpm, max_ram_mb, require_proof, status, created_at_ms, version)
                VALUES (@TenantId, @DisplayName, @MaxVms, @StorageQuotaGb, @ApiRateLimitRpm, @MaxRamMb, @RequireProof, @Status, @CreatedAtMs, @Version)
                """, tenant);
            await entry.ChangeAsync(new Change("tenant", Tenant: tenant.Shown()));
            await entry.RecordAsync([tenant.TenantId, Logs.Platform], EventTypes.TenantCreated, tenant.TenantId, Doer.Of(caller, requestId),
                ("display_name", tenant.DisplayName), ("quotas", tenant.Quotas()));
            return tenant;
        }, cancellationToken);

    /// <summary>Changes a tenant. What stays as it was is no change, makes no version and is not recorded.</summary>
    /// <param name="caller">Who asks.</param>
    /// <param name="tenantId">The tenant.</param>
    /// <param name="patch">The change, its values right.</param>
    /// <param name="liftRamLimit">Whether <c>max_ram_mb</c> was given as null: no limit any more.</param>
    /// <param name="matches">Whether a version is one that the caller means.</param>
    /// <param name="requestId">The request.</param>
    /// <param name="cancellationToken">Ends the wait for a turn.</param>
    public Task<Outcome<TenantRow>> ChangeAsync(Asserted caller, string tenantId, TenantPatch patch, bool liftRamLimit, Func<long, bool> matches, string requestId, CancellationToken cancellationToken) =>
        _journal.WriteForAsync<TenantRow>(caller, async entry =>
        {
            if (await entry.SingleAsync<TenantRow>($"SELECT {TenantRow.Columns} FROM tenants WHERE tenant_id = @tenantId AND status <> 'deleted'", new { tenantId }) is not { } was)
                return Callers.NotFound;
            if (!matches(was.Version))
                return Changed;
            var now = was with
            {
                DisplayName = patch.DisplayName ?? was.DisplayName,
                MaxVms = patch.MaxVms ?? was.MaxVms,
                StorageQuotaGb = patch.StorageQuotaGb ?? was.StorageQuotaGb,
                ApiRateLimitRpm = patch.ApiRateLimitRpm ?? was.ApiRateLimitRpm,
                MaxRamMb = liftRamLimit ? null : patch.MaxRamMb ?? was.MaxRamMb,
                RequireProof = patch.RequireProof is { } proof ? (proof ? 1 : 0) : was.RequireProof,
                Status = patch.Status ?? was.Status,
            };
            if (now == was)
                return was;
            now = now with { Version = was.Version + 1 };
            await entry.ExecuteAsync("""
                UPDATE tenants SET display_name = @DisplayName, max_vms = @MaxVms, storage_quota_gb = @StorageQuotaGb, api_rate_limit_rpm = @ApiRateLimitRpm,
                    max_ram_mb = @MaxRamMb, require_proof = @RequireProof, status = @Status, version = @Version
                WHERE tenant_id = @TenantId
                """, now);
            await entry.ChangeAsync(new Change("tenant", Tenant: now.Shown()));
            await RecordAsync(entry, was, now, Doer.Of(caller, requestId));
            return now;
        }, cancellationToken);

    /// <summary>
    /// Deletes a tenant that has no VMs; its tokens die with it. The fleet is asked first and not again: a create that was
    /// let through in between leaves a VM that the fleet still lists under the ID, which no other tenant can ever get.
    /// </summary>
    public async Task<Outcome<bool>> DeleteAsync(Asserted caller, string tenantId, string requestId, CancellationToken cancellationToken)
    {
        if (await FindAsync(tenantId, cancellationToken) is null)
            return Callers.NotFound;
        if (await CountVmsAsync(tenantId, cancellationToken) is not { } vms)
            return FleetAway;
        if (vms > 0)
            return new Refused(ErrorCode.TenantNotEmpty, $"The tenant still has {vms} VMs. Delete them first.");
        return await _journal.WriteForAsync<bool>(caller, async entry =>
        {
            if (await entry.ExecuteAsync("UPDATE tenants SET status = 'deleted', version = version + 1 WHERE tenant_id = @tenantId AND status <> 'deleted'", new { tenantId }) == 0)
                return Callers.NotFound;
            // Gateways refuse every token of a tenant that they are told is gone; here each is shown as what it is.
            var tokens = await entry.ExecuteAsync("UPDATE tokens SET revoked_at = @NowSeconds WHERE tenant_id = @tenantId AND revoked_at IS NULL AND expires_at > @NowSeconds", new { tenantId, entry.NowSeconds });
            await entry.ChangeAsync(new Change("tenant_deleted", TenantId: tenantId));
            await entry.RecordAsync([tenantId, Logs.Platform], EventTypes.TenantDeleted, tenantId, Doer.Of(caller, requestId), ("tokens_revoked", tokens));
            return true;
        }, cancellationToken);
    }

    private static async Task RecordAsync(JournalEntry entry, TenantRow was, TenantRow now, Doer doer)
    {
        string[] logs = [now.TenantId, Logs.Platform];
        var (old, quotas) = (was.Quotas(), now.Quotas());
        if (quotas.Any(quota => old[quota.Key] != quota.Value))
            await entry.RecordAsync(logs, EventTypes.QuotaChanged, now.TenantId, doer, ("old", old), ("new", quotas));
        if (was.DisplayName != now.DisplayName || was.RequireProof != now.RequireProof || (was.Status != now.Status && now.Status == Tenant.Active))
            await entry.RecordAsync(logs, EventTypes.TenantUpdated, now.TenantId, doer,
                ("display_name", now.DisplayName), ("require_proof", now.RequireProof != 0), ("status", now.Status));
        if (was.Status != now.Status && now.Status == Tenant.Suspended)
            await entry.RecordAsync(logs, EventTypes.TenantSuspended, now.TenantId, doer);
    }

    private async Task<int?> CountVmsAsync(string tenantId, CancellationToken cancellationToken)
    {
        try
        {
            using var answer = await _clients.CreateClient(FleetClient).GetAsync($"/internal/v1/vms?tenant_id={tenantId}", cancellationToken);
            if (!answer.IsSuccessStatusCode)
                return null;
            await using var body = await answer.Content.ReadAsStreamAsync(cancellationToken);
            return (await JsonSerializer.DeserializeAsync(body, WireJson.Default.HeldVms, cancellationToken))?.Vms?.Count;
        }
        catch (Exception fault) when (fault is HttpRequestException or JsonException || (fault is OperationCanceledException && !cancellationToken.IsCancellationRequested))
        {
            return null;
        }
    }
}
