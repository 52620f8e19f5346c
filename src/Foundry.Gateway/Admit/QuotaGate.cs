using System.Text.Json;
using Foundry.Contracts;
using Foundry.Gateway.Authenticate;
using Foundry.Gateway.Config;
using StackExchange.Redis;

namespace Foundry.Gateway.Admit;

/// <summary>Is there room in the tenant's quota? (CONTRACT section 4, step 6.)</summary>
internal sealed class QuotaGate(Quotas quotas, Reconciler reconciler, TenantDirectory directory, GatewayOptions options, TimeProvider time)
{
    private static readonly TimeSpan RebuildWait = TimeSpan.FromSeconds(2);

    /// <summary>Reserves what a create asks for; other requests pass.</summary>
    /// <param name="exchange">The request, its tenant and body known.</param>
    /// <returns>Why not, or null; the reservation is in <see cref="Exchange.Reservation"/>.</returns>
    public async ValueTask<Refusal?> AdmitAsync(Exchange exchange)
    {
        if (exchange.Route!.Quota != QuotaEffect.Create)
            return null;
        if (directory.Find(exchange.TenantId!) is not { } tenant)
            return Refusal.NotFound;
        if (tenant.Status == Tenant.Deleting)
            return new Refusal(ErrorCode.TenantDeleting, "The tenant is being deleted; nothing new is made for it.");
        if (ReadSize(exchange.Body, out var ramMb, out var diskGb) is { } invalid)
            return invalid;
        var id = Guid.CreateVersion7().ToString("N");
        var deadline = time.GetUtcNow() + options.CreateDeadline;
        try
        {
            var answer = await quotas.ReserveAsync(tenant, id, ramMb, diskGb, deadline);
            if (answer.NeedsRebuild)
            {
                using var limit = new CancellationTokenSource(RebuildWait, time);
                if (!await reconciler.RebuildAsync(tenant.TenantId, limit.Token))
                    return Unavailable;
                answer = await quotas.ReserveAsync(tenant, id, ramMb, diskGb, deadline);
            }
            if (answer.Shortage is { } shortage)
                return new Refusal(ErrorCode.QuotaExceeded, $"{shortage.Quota} is {shortage.Limit}; {shortage.Used} are held and {shortage.Requested} more were asked for.") { Shortage = shortage, RetryAfter = TimeSpan.FromSeconds(30) };
            if (answer.Epoch is not { } epoch)
                return Unavailable;
            exchange.Reservation = new Reservation(id, tenant.TenantId, ramMb, diskGb, epoch, deadline);
            return null;
        }
        catch (Exception fault) when (fault is RedisException or TimeoutException or OperationCanceledException)
        {
            return Unavailable;
        }
    }

    /// <summary>Gives back what was reserved for a request that goes no further.</summary>
    /// <param name="exchange">The request.</param>
    public async ValueTask CancelAsync(Exchange exchange)
    {
        if (exchange.Reservation is not { } reservation)
            return;
        try
        {
            await quotas.ReleaseAsync(reservation.TenantId, reservation.Id);
        }
        catch (Exception fault) when (fault is RedisException or TimeoutException)
        {
            // Held until its deadline; then the reconciler finds that the fleet never heard of it.
        }
    }

    /// <summary>What the create asks for, by the same defaults that the fleet uses.</summary>
    private static Refusal? ReadSize(byte[]? body, out long ramMb, out long diskGb)
    {
        const long mostMb = 1L << 24, mostGb = 1_000_000;
        ramMb = diskGb = 0;
        try
        {
            var create = JsonSerializer.Deserialize(body ?? [], WireJson.Default.CreateVm);
            if (create?.RamMb is not { } ram || ram is < 1 or > mostMb)
                return new Refusal(ErrorCode.InvalidValue, $"'ram_mb' is a whole number from 1 to {mostMb}.");
            if (create.DiskGb is < 1 or > mostGb)
                return new Refusal(ErrorCode.InvalidValue, $"'disk_gb' is a whole number from 1 to {mostGb}.");
            ramMb = ram;
            diskGb = create.DiskGb ?? CreateVm.DefaultDiskGb(ram);
            return null;
        }
        catch (JsonException fault)
        {
            return new Refusal(ErrorCode.InvalidBody, $"The body is not a VM to create (at {fault.Path ?? "$"}).");
        }
    }

    private static readonly Refusal Unavailable = new(ErrorCode.QuotaUnavailable, "Quotas are being rebuilt or their store is away; nothing was created.") { RetryAfter = TimeSpan.FromSeconds(2) };
}
