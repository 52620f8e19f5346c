using Foundry.Contracts;
using Foundry.ServiceDefaults;

namespace Foundry.Issuance.Tenants;

/// <summary>What a tenant's members may be (CONTRACT section 3).</summary>
internal static class TenantBounds
{
    public const int DisplayNameCharsMax = 200;
    public const int VmsMax = 100_000;
    public const int RpmMax = 10_000_000;
    /// <summary>GiB; no fleet is as large, and a sum of such quotas still fits in 64 bits.</summary>
    public const int StorageGbMax = 1_000_000_000;
    /// <summary>MiB.</summary>
    public const int RamMbMax = 1_000_000_000;

    /// <summary>Why a new tenant is refused, or null.</summary>
    public static Refused? Refuse(TenantRequest request)
    {
        if (!Names.IsWellFormed(request.TenantId))
            return Callers.Invalid($"tenant_id: {Names.Grammar}.");
        if (request.DisplayName is null)
            return Callers.Invalid($"display_name: 1 to {DisplayNameCharsMax} characters, no control characters.");
        if (request.MaxVms is null)
            return Callers.Invalid($"max_vms: a whole number from 0 to {VmsMax}.");
        if (request.StorageQuotaGb is null)
            return Callers.Invalid($"storage_quota_gb: a whole number from 0 to {StorageGbMax}.");
        if (request.ApiRateLimitRpm is null)
            return Callers.Invalid($"api_rate_limit_rpm: a whole number from 1 to {RpmMax}.");
        return Refuse(request.DisplayName, request.MaxVms, request.StorageQuotaGb, request.ApiRateLimitRpm, request.MaxRamMb);
    }

    /// <summary>Why a change is refused, or null.</summary>
    public static Refused? Refuse(TenantPatch patch) =>
        patch.Status is not (null or Tenant.Active or Tenant.Suspended)
            ? Callers.Invalid("status: active or suspended.")
            : Refuse(patch.DisplayName, patch.MaxVms, patch.StorageQuotaGb, patch.ApiRateLimitRpm, patch.MaxRamMb);

    private static Refused? Refuse(string? name, int? vms, int? storage, int? rpm, int? ram)
    {
        if (name is not null && (name.Length is 0 or > DisplayNameCharsMax || name.Any(char.IsControl) || string.IsNullOrWhiteSpace(name)))
            return Callers.Invalid($"display_name: 1 to {DisplayNameCharsMax} characters, no control characters.");
        if (vms is < 0 or > VmsMax)
            return Callers.Invalid($"max_vms: a whole number from 0 to {VmsMax}.");
        if (storage is < 0 or > StorageGbMax)
            return Callers.Invalid($"storage_quota_gb: a whole number from 0 to {StorageGbMax}.");
        if (rpm is < 1 or > RpmMax)
            return Callers.Invalid($"api_rate_limit_rpm: a whole number from 1 to {RpmMax}.");
        return ram is < 0 or > RamMbMax ? Callers.Invalid($"max_ram_mb: a whole number from 0 to {RamMbMax}; absent is no limit.") : null;
    }
}
