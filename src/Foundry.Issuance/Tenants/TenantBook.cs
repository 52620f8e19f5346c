using System.Text.Json;
using Foundry.Contracts;
using Foundry.Issuance.Changes;
using Foundry.Issuance.Tokens;
using Foundry.ServiceDefaults;
using Foundry.ServiceDefaults.Trust;

namespace Foundry.Issuance.Tenants;

/// <summary>The tenants. Every change is told to the gateways and recorded in the tenant's log and in the platform's.</summary>
internal sealed class TenantBook
{
    /// <summary>A new tenant's version.</summary>
    public const long FirstVersion = 1;
    /// <summary>For how long the fleet is asked to make nothing for a tenant that may be deleted.</summary>
    public static readonly TimeSpan SealLength = TimeSpan.FromSeconds(30);
    /// <summary>Within which the deletion must have begun to commit.</summary>
    private static readonly TimeSpan SealUsable = TimeSpan.FromSeconds(20);
    /// <summary>The seal of a tenant that is no more: a gateway that has not heard of it yet lets creates through for some minutes.</summary>
    private static readonly TimeSpan LastSealLength = TimeSpan.FromDays(1);

    /// <summary>The refusal of what a tenant that is being deleted cannot have any more.</summary>
    public static readonly Refused BeingDeleted = new(ErrorCode.TenantDeleting, "The tenant is being deleted; nothing new is made for it.");

    private static readonly Refused FleetAway = new(ErrorCode.NotReady, "The fleet cannot be asked at the moment whether the tenant still has VMs. Nothing was changed.");
    private static readonly Refused SealOver = new(ErrorCode.NotReady, "It took so long that the tenant may have VMs again. Nothing was changed; try again.");
    private static readonly Refused Changed = new(ErrorCode.PreconditionFailed, "The tenant has changed since; read it again.");

    private readonly Journal _journal;
    private readonly TenantVms _vms;
    private readonly TimeProvider _time;

    /// <summary>Makes one.</summary>
    /// <param name="journal">Where tenants are written.</param>
    /// <param name="vms">What the fleet has of them.</param>
    /// <param name="time">The clock.</param>
    public TenantBook(Journal journal, TenantVms vms, TimeProvider time) => (_journal, _vms, _time) = (journal, vms, time);

    /// <summary>A tenant; null where there is none.</summary>
    public Task<TenantRow?> FindAsync(string tenantId, CancellationToken cancellationToken) =>
        _journal.Database.ReadOneAsync<TenantRow>($"SELECT {TenantRow.Columns} FROM tenants WHERE tenant_id = @tenantId AND status <> 'deleted'", new { tenantId }, cancellationToken);

    /// <summary>A page of tenants by ID, one longer than asked where there is more.</summary>
    public Task<IReadOnlyList<TenantRow>> ListAsync(string after, int limit, CancellationToken cancellationToken) =>
        _journal.Database.ReadAllAsync<TenantRow>($"SELECT {TenantRow.Columns} FROM tenants WHERE tenant_id > @after AND status <> 'deleted' ORDER BY tenant_id LIMIT @limit", new { after, limit = limit + 1 }, cancellationToken);

    /// <summary>Makes a tenant of a request whose values are right.</summary>
    public Task<Outcome<Answered<Tenant>>> CreateAsync(Asserted caller, TenantRequest request, IdempotencyKey? key, string requestId, CancellationToken cancellationToken) =>
        _journal.WriteForAsync(caller, entry => IdempotencyKey.OnceAsync(key, entry, caller,
            () => CreateAsync(entry, request, Doer.Of(caller, requestId)),
            tenant => JsonSerializer.Serialize(tenant, WireJson.Default.Tenant),
            kept => Task.FromResult<Outcome<Tenant>>(JsonSerializer.Deserialize(kept, WireJson.Default.Tenant)!)), cancellationToken);

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
            if (was.Status == Tenant.Deleting)
                return BeingDeleted;
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
    /// Deletes a tenant that has no VMs; its tokens die with it. The fleet seals it first, so that none is made between its answer
    /// and the deletion; with VMs, the seal is taken off again.
    /// </summary>
    public async Task<Outcome<bool>> DeleteAsync(Asserted caller, string tenantId, string requestId, CancellationToken cancellationToken)
    {
        if (await FindAsync(tenantId, cancellationToken) is not { } tenant)
            return Callers.NotFound;
        var sealedAt = _time.GetTimestamp();
        if (await _vms.SealAsync(tenantId, SealLength, cancellationToken) is not { } vms)
            return FleetAway;
        if (vms.Count > 0)
        {
            if (tenant.Status != Tenant.Deleting)
                await _vms.SealAsync(tenantId, TimeSpan.Zero, cancellationToken);
            return new Refused(ErrorCode.TenantNotEmpty, $"The tenant still has {vms.Count} VMs. Delete them first, or delete the tenant with ?force=true.");
        }
        var deleted = await _journal.EndForAsync(caller, entry => DeleteAsync(entry, tenantId, Doer.Of(caller, requestId), sealedAt), cancellationToken);
        return await SealedForGoodAsync(tenantId, deleted);
    }

    /// <summary>Deletes a tenant that was <see cref="Tenant.Deleting"/> and has been found empty.</summary>
    /// <param name="tenantId">The tenant.</param>
    /// <param name="doer">Who wanted it.</param>
    /// <param name="sealedAt">Taken before the fleet was asked.</param>
    /// <param name="cancellationToken">Ends the wait for a turn.</param>
    public async Task DeleteEmptyAsync(string tenantId, Doer doer, long sealedAt, CancellationToken cancellationToken) =>
        await SealedForGoodAsync(tenantId, await _journal.WriteAsync(entry => DeleteAsync(entry, tenantId, doer, sealedAt), cancellationToken));

    /// <summary>
    /// Has a tenant taken down with all it has, by <see cref="TenantRemoval"/>. Until then its nodes report, and its tokens read and
    /// delete; those of a suspended one do not come to life again for that. Again is the same.
    /// </summary>
    public Task<Outcome<TenantRow>> BeginDeletionAsync(Asserted caller, string tenantId, string requestId, CancellationToken cancellationToken) =>
        _journal.WriteForAsync<TenantRow>(caller, async entry =>
        {
            if (await entry.SingleAsync<TenantRow>($"SELECT {TenantRow.Columns} FROM tenants WHERE tenant_id = @tenantId AND status <> 'deleted'", new { tenantId }) is not { } was)
                return Callers.NotFound;
            if (was.Status == Tenant.Deleting)
                return was;
            var (now, doer) = (was with { Status = Tenant.Deleting, Version = was.Version + 1 }, Doer.Of(caller, requestId));
            await entry.ExecuteAsync("UPDATE tenants SET status = @Status, version = @Version, deletion = @deletion WHERE tenant_id = @TenantId",
                new { now.Status, now.Version, deletion = JsonSerializer.Serialize(doer), now.TenantId });
            if (was.Status == Tenant.Suspended)
                await TokenMint.RevokeAsync(entry, await entry.QueryAsync<TokenRow>($"""
                    SELECT {TokenRow.Columns} FROM tokens
                    WHERE tenant_id = @tenantId AND scope <> 'service:fleet-node' AND revoked_at IS NULL AND expires_at > @NowSeconds ORDER BY token_id
                    """, new { tenantId, entry.NowSeconds }), doer);
            await entry.ChangeAsync(new Change("tenant", Tenant: now.Shown()));
            await RecordAsync(entry, was, now, doer);
            return now;
        }, cancellationToken);

    private async Task<Outcome<bool>> DeleteAsync(JournalEntry entry, string tenantId, Doer doer, long sealedAt)
    {
        if (_time.GetElapsedTime(sealedAt) > SealUsable)
            return SealOver;
        if (await entry.SingleAsync<long>("SELECT COUNT(*) FROM vm_removals WHERE tenant_id = @tenantId", new { tenantId }) > 0)
            return new Refused(ErrorCode.TenantNotEmpty, "The last of the tenant's VMs are being destroyed at the moment.");
        if (await entry.ExecuteAsync("UPDATE tenants SET status = 'deleted', version = version + 1, deletion = NULL WHERE tenant_id = @tenantId AND status <> 'deleted'", new { tenantId }) == 0)
            return Callers.NotFound;
        // Gateways refuse every token of a tenant that they are told is gone; here each is shown as what it is.
        var tokens = await entry.ExecuteAsync("UPDATE tokens SET revoked_at = @NowSeconds WHERE tenant_id = @tenantId AND revoked_at IS NULL AND expires_at > @NowSeconds", new { tenantId, entry.NowSeconds });
        await entry.ChangeAsync(new Change("tenant_deleted", TenantId: tenantId));
        await entry.RecordAsync([tenantId, Logs.Platform], EventTypes.TenantDeleted, tenantId, doer, ("tokens_revoked", tokens));
        return true;
    }

    private async Task<Outcome<bool>> SealedForGoodAsync(string tenantId, Outcome<bool> deleted)
    {
        // The tenant is gone, whether or not this is heard.
        if (deleted.Value)
            await _vms.SealAsync(tenantId, LastSealLength, CancellationToken.None);
        return deleted;
    }

    private static async Task<Outcome<Tenant>> CreateAsync(JournalEntry entry, TenantRequest request, Doer doer)
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
            Version = FirstVersion,
        };
        await entry.ExecuteAsync("""
            INSERT INTO tenants (tenant_id, display_name, max_vms, storage_quota_gb, api_rate_limit_rpm, max_ram_mb, require_proof, status, created_at_ms, version)
            VALUES (@TenantId, @DisplayName, @MaxVms, @StorageQuotaGb, @ApiRateLimitRpm, @MaxRamMb, @RequireProof, @Status, @CreatedAtMs, @Version)
            """, tenant);
        await entry.ChangeAsync(new Change("tenant", Tenant: tenant.Shown()));
        await entry.RecordAsync([tenant.TenantId, Logs.Platform], EventTypes.TenantCreated, tenant.TenantId, doer,
            ("display_name", tenant.DisplayName), ("quotas", tenant.Quotas()));
        return tenant.Shown();
    }

    private static async Task RecordAsync(JournalEntry entry, TenantRow was, TenantRow now, Doer doer)
    {
        string[] logs = [now.TenantId, Logs.Platform];
        var (old, quotas) = (was.Quotas(), now.Quotas());
        if (quotas.Any(quota => old[quota.Key] != quota.Value))
            await entry.RecordAsync(logs, EventTypes.QuotaChanged, now.TenantId, doer, ("old", old), ("new", quotas));
        if (was.DisplayName != now.DisplayName || was.RequireProof != now.RequireProof || (was.Status != now.Status && now.Status != Tenant.Suspended))
            await entry.RecordAsync(logs, EventTypes.TenantUpdated, now.TenantId, doer,
                ("display_name", now.DisplayName), ("require_proof", now.RequireProof != 0), ("status", now.Status));
        if (was.Status != now.Status && now.Status == Tenant.Suspended)
            await entry.RecordAsync(logs, EventTypes.TenantSuspended, now.TenantId, doer);
    }
}
