using Foundry.Contracts;

namespace Foundry.Issuance.Tenants;

/// <summary>A tenant, as it is stored. A deleted one stays, so that its ID is never given to another.</summary>
internal sealed record TenantRow
{
    /// <summary><see cref="Status"/> of a tenant that is no more.</summary>
    public const string Deleted = "deleted";

    /// <summary>The columns, for SELECT.</summary>
    public const string Columns = """
        tenant_id AS TenantId, display_name AS DisplayName, max_vms AS MaxVms, storage_quota_gb AS StorageQuotaGb, api_rate_limit_rpm AS ApiRateLimitRpm,
        max_ram_mb AS MaxRamMb, require_proof AS RequireProof, status AS Status, created_at_ms AS CreatedAtMs, version AS Version
        """;

    public string TenantId { get; init; } = "";
    public string DisplayName { get; init; } = "";
    public long MaxVms { get; init; }
    public long StorageQuotaGb { get; init; }
    public long ApiRateLimitRpm { get; init; }
    public long? MaxRamMb { get; init; }
    public long RequireProof { get; init; }
    public string Status { get; init; } = "";
    public long CreatedAtMs { get; init; }
    /// <summary>Grows with every change; the ETag.</summary>
    public long Version { get; init; }

    /// <summary>The record that callers and gateways are shown.</summary>
    public Tenant Shown() => new(TenantId, DisplayName, (int)MaxVms, (int)StorageQuotaGb, (int)ApiRateLimitRpm, (int?)MaxRamMb, RequireProof != 0, Status, DateTimeOffset.FromUnixTimeMilliseconds(CreatedAtMs));

    /// <summary>The quotas alone, for the record.</summary>
    public Dictionary<string, long?> Quotas() => new(StringComparer.Ordinal)
    {
        ["max_vms"] = MaxVms,
        ["storage_quota_gb"] = StorageQuotaGb,
        ["api_rate_limit_rpm"] = ApiRateLimitRpm,
        ["max_ram_mb"] = MaxRamMb,
    };
}
