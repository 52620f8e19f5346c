using System.Text.Json.Serialization;

namespace Foundry.Contracts;

/// <summary>A tenant's record (CONTRACT section 3).</summary>
/// <param name="TenantId"><c>^[a-z][a-z0-9-]{1,61}[a-z0-9]$</c>, immutable, never reused.</param>
/// <param name="DisplayName">What people call it.</param>
/// <param name="MaxVms">VMs it may hold at once, 0 to 100,000.</param>
/// <param name="StorageQuotaGb">Disk its VMs may hold together, GiB.</param>
/// <param name="ApiRateLimitRpm">Requests a minute over all gateways, 1 to 10,000,000.</param>
/// <param name="MaxRamMb">RAM its VMs may hold together, MiB; absent is no limit.</param>
/// <param name="RequireProof">Whether its tokens are only taken with proof of possession.</param>
/// <param name="Status"><c>active</c>, <c>suspended</c> or <c>deleting</c>.</param>
/// <param name="CreatedAt">When it was created.</param>
public sealed record Tenant(
    string TenantId,
    string DisplayName,
    int MaxVms,
    int StorageQuotaGb,
    int ApiRateLimitRpm,
    int? MaxRamMb,
    bool RequireProof,
    string Status,
    DateTimeOffset CreatedAt)
{
    /// <summary><see cref="Status"/> of a tenant that may work.</summary>
    public const string Active = "active";
    /// <summary><see cref="Status"/> of a tenant whose tokens are refused, but whose nodes still report.</summary>
    public const string Suspended = "suspended";
    /// <summary><see cref="Status"/> of a tenant that is being taken down.</summary>
    public const string Deleting = "deleting";
}

/// <summary>Body of <c>POST /v1/tenants</c>.</summary>
/// <param name="TenantId">See <see cref="Tenant"/>.</param>
/// <param name="DisplayName">See <see cref="Tenant"/>.</param>
/// <param name="MaxVms">See <see cref="Tenant"/>.</param>
/// <param name="StorageQuotaGb">See <see cref="Tenant"/>.</param>
/// <param name="ApiRateLimitRpm">See <see cref="Tenant"/>.</param>
/// <param name="MaxRamMb">See <see cref="Tenant"/>.</param>
/// <param name="RequireProof">See <see cref="Tenant"/>; absent is false.</param>
[JsonUnmappedMemberHandling(JsonUnmappedMemberHandling.Disallow)]
public sealed record TenantRequest(
    string? TenantId,
    string? DisplayName,
    int? MaxVms,
    int? StorageQuotaGb,
    int? ApiRateLimitRpm,
    int? MaxRamMb = null,
    bool? RequireProof = null);

/// <summary>Body of <c>PATCH /v1/tenants/{id}</c>: what is absent stays as it is.</summary>
/// <param name="DisplayName">See <see cref="Tenant"/>.</param>
/// <param name="MaxVms">See <see cref="Tenant"/>.</param>
/// <param name="StorageQuotaGb">See <see cref="Tenant"/>.</param>
/// <param name="ApiRateLimitRpm">See <see cref="Tenant"/>.</param>
/// <param name="MaxRamMb">See <see cref="Tenant"/>.</param>
/// <param name="RequireProof">See <see cref="Tenant"/>.</param>
/// <param name="Status"><c>active</c> or <c>suspended</c>.</param>
[JsonUnmappedMemberHandling(JsonUnmappedMemberHandling.Disallow)]
public sealed record TenantPatch(
    string? DisplayName = null,
    int? MaxVms = null,
    int? StorageQuotaGb = null,
    int? ApiRateLimitRpm = null,
    int? MaxRamMb = null,
    bool? RequireProof = null,
    string? Status = null);

/// <summary>One page of a cursor-paged list.</summary>
/// <typeparam name="T">What is listed.</typeparam>
/// <param name="Items">The page.</param>
/// <param name="NextCursor">Opaque; give it back as <c>?cursor=</c>. Absent on the last page.</param>
public sealed record Page<T>(IReadOnlyList<T> Items, string? NextCursor);

/// <summary>Answer of <c>GET /v1/status</c>: the caller's tenant, scope and use (CONTRACT section 3).</summary>
/// <param name="TenantId">Absent for platform tokens that name no tenant.</param>
/// <param name="Scope">The caller's scope.</param>
/// <param name="VmsRunning">VMs held, in any state, reserved and unknown ones included.</param>
/// <param name="MaxVms">The limit of <paramref name="VmsRunning"/>.</param>
/// <param name="RamUsedMb">RAM held, MiB.</param>
/// <param name="MaxRamMb">Its limit; absent is none.</param>
/// <param name="StorageUsedGb">Disk held, GiB.</param>
/// <param name="StorageQuotaGb">Its limit.</param>
/// <param name="ApiRateLimitRpm">Requests a minute.</param>
public sealed record UseStatus(
    string? TenantId,
    string Scope,
    int? VmsRunning,
    int? MaxVms,
    long? RamUsedMb,
    int? MaxRamMb,
    long? StorageUsedGb,
    int? StorageQuotaGb,
    int? ApiRateLimitRpm)
{
    /// <summary>Only in <c>GET /v1/quota</c>: every reservation that is not yet a VM.</summary>
    public IReadOnlyList<ReservationStatus>? Reservations { get; init; }
}

/// <summary>A quota reservation, in <c>GET /v1/quota</c>.</summary>
/// <param name="ReservationId">Its ID.</param>
/// <param name="State"><c>reserved</c>: its create is in flight; <c>unknown</c>: held until the fleet's list says.</param>
/// <param name="RamMb">RAM it holds, MiB.</param>
/// <param name="DiskGb">Disk it holds, GiB.</param>
/// <param name="Since">When it was made.</param>
public sealed record ReservationStatus(string ReservationId, string State, long RamMb, long DiskGb, DateTimeOffset Since);
