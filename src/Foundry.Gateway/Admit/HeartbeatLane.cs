using System.Threading.RateLimiting;
using Foundry.Contracts;
using Foundry.Gateway.Authenticate;

namespace Foundry.Gateway.Admit;

/// <summary>
/// The nodes' own lane: one report a second per node key and tenant (a key is public: another tenant may name it in a token of its own), local, with no Redis on it, so that neither a tenant over its rate nor
/// a store that is away ever makes a node look dead (CONTRACT section 5).
/// </summary>
internal sealed class HeartbeatLane : IDisposable
{
    private readonly PartitionedRateLimiter<string> _buckets = PartitionedRateLimiter.Create<string, string>(key =>
        RateLimitPartition.GetTokenBucketLimiter(key, _ => new TokenBucketRateLimiterOptions
        {
            // A node that was held up may catch up a little.
            TokenLimit = 5,
            TokensPerPeriod = 1,
            ReplenishmentPeriod = TimeSpan.FromSeconds(1),
            QueueLimit = 0,
        }));

    /// <summary>Spends one of the node's reports.</summary>
    /// <param name="caller">The node.</param>
    /// <returns>Why not, or null.</returns>
    public Refusal? TrySpend(Caller caller)
    {
        using var lease = _buckets.AttemptAcquire($"{caller.TenantId}/{caller.Token!.SubjectPubkey}");
        return lease.IsAcquired ? null : new Refusal(ErrorCode.RateLimited, "A node reports once a second at most.") { RetryAfter = TimeSpan.FromSeconds(1) };
    }

    /// <inheritdoc/>
    public void Dispose() => _buckets.Dispose();
}
