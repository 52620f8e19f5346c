using System.Net;
using System.Threading.RateLimiting;
using Foundry.Contracts;
using Foundry.Gateway.Config;

namespace Foundry.Gateway.Admit;

/// <summary>
/// The small share of those without a valid token: one bucket per address (IPv6 by /64), local to the gateway, apart from every
/// tenant's rate. Nobody who has a token known to be good ever waits for it.
/// </summary>
internal sealed class AddressLane(GatewayOptions options) : IDisposable
{
    private readonly PartitionedRateLimiter<IPAddress> _buckets = PartitionedRateLimiter.Create<IPAddress, IPAddress>(address =>
        RateLimitPartition.GetTokenBucketLimiter(address, _ => new TokenBucketRateLimiterOptions
        {
            TokenLimit = options.AnonymousPerSecond * 2,
            TokensPerPeriod = options.AnonymousPerSecond,
            ReplenishmentPeriod = TimeSpan.FromSeconds(1),
            QueueLimit = 0,
        }));

    /// <summary>Spends one of the address's requests.</summary>
    /// <param name="context">The request.</param>
    /// <returns>Why not, or null.</returns>
    public Refusal? TrySpend(HttpContext context)
    {
        using var lease = _buckets.AttemptAcquire(Of(context));
        return lease.IsAcquired ? null : Limited;
    }

    /// <summary>Whether the address has none left.</summary>
    /// <param name="context">The request.</param>
    /// <param name="refusal">Why not.</param>
    public bool IsSpent(HttpContext context, out Refusal? refusal)
    {
        // Not by acquiring none: that succeeds with a fraction of a permit, which buys nothing.
        refusal = _buckets.GetStatistics(Of(context)) is { CurrentAvailablePermits: > 0 } ? null : Limited;
        return refusal is not null;
    }

    /// <inheritdoc/>
    public void Dispose() => _buckets.Dispose();

    private static readonly Refusal Limited = new(ErrorCode.RateLimited, "Too many requests without a valid token from this address.") { RetryAfter = TimeSpan.FromSeconds(1) };

    private static IPAddress Of(HttpContext context)
    {
        var address = context.Connection.RemoteIpAddress ?? IPAddress.None;
        if (address.IsIPv4MappedToIPv6)
            return address.MapToIPv4();
        if (address.AddressFamily != System.Net.Sockets.AddressFamily.InterNetworkV6)
            return address;
        Span<byte> bytes = stackalloc byte[16];
        address.TryWriteBytes(bytes, out _);
        bytes[8..].Clear();
        return new IPAddress(bytes);
    }
}
