using System.Net;
using Foundry.Contracts;
using Foundry.Gateway.Config;

namespace Foundry.Gateway.Admit;

/// <summary>
/// The small share of those without a valid token: one bucket per address (IPv6 by /64), local to the gateway, apart from every
/// tenant's rate. Nobody who has a token known to be good ever waits for it. The buckets are a fixed number, found by a hash that nobody outside
/// can foretell: a flood from every address there is takes no more memory than a quiet day, and of a million addresses a few share a bucket.
/// </summary>
internal sealed class AddressLane(GatewayOptions options, TimeProvider time)
{
    private const int BucketsCount = 1 << 20;
    private const int BurstSeconds = 2;

    // When each is full again, by the monotonic clock.
    private readonly long[] _fullAt = new long[BucketsCount];
    private readonly long _each = time.TimestampFrequency / options.AnonymousPerSecond;

    /// <summary>Spends one of the address's requests.</summary>
    /// <param name="context">The request.</param>
    /// <returns>Why not, or null.</returns>
    public Refusal? TrySpend(HttpContext context)
    {
        ref var fullAt = ref BucketOf(context);
        while (true)
        {
            var (known, now) = (Volatile.Read(ref fullAt), time.GetTimestamp());
            var after = Math.Max(known, now) + _each;
            if (after - now > BurstSeconds * time.TimestampFrequency)
                return Limited;
            if (Interlocked.CompareExchange(ref fullAt, after, known) == known)
                return null;
        }
    }

    /// <summary>Whether the address has none left.</summary>
    /// <param name="context">The request.</param>
    /// <param name="refusal">Why not.</param>
    public bool IsSpent(HttpContext context, out Refusal? refusal)
    {
        refusal = Volatile.Read(ref BucketOf(context)) + _each - time.GetTimestamp() > BurstSeconds * time.TimestampFrequency ? Limited : null;
        return refusal is not null;
    }

    private static readonly Refusal Limited = new(ErrorCode.RateLimited, "Too many requests without a valid token from this address.") { RetryAfter = TimeSpan.FromSeconds(1) };

    private ref long BucketOf(HttpContext context)
    {
        var address = context.Connection.RemoteIpAddress ?? IPAddress.None;
        if (address.IsIPv4MappedToIPv6)
            address = address.MapToIPv4();
        Span<byte> bytes = stackalloc byte[16];
        address.TryWriteBytes(bytes, out var count);
        var hash = new HashCode(); // Another one in each process.
        hash.AddBytes(bytes[..(count == 16 ? 8 : count)]);
        hash.Add(count);
        return ref _fullAt[hash.ToHashCode() & (BucketsCount - 1)];
    }
}
