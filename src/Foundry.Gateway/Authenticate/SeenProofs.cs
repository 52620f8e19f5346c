using System.Collections.Concurrent;
using Foundry.Gateway.Admit;
using Foundry.Tokens;
using StackExchange.Redis;

namespace Foundry.Gateway.Authenticate;

/// <summary>What is known of a proof when it is shown.</summary>
internal enum Sighting
{
    /// <summary>It has been shown before.</summary>
    Again,
    /// <summary>It is shown for the first time, to any gateway.</summary>
    First,
    /// <summary>It is shown to this gateway for the first time; the store is away, so others cannot be asked.</summary>
    FirstHere,
    /// <summary>The tenant has shown more than is remembered of it.</summary>
    TooMany,
}

/// <summary>
/// Every proof that is still good and was shown once: of all gateways in the store, of this one in memory too, so that the store's absence
/// brings none of them back. Each is kept for as long as it could be shown again. How many a tenant may leave behind goes by its
/// rate: proofs are checked before the rate is, and the store is every tenant's.
/// </summary>
internal sealed class SeenProofs(Store store, TimeProvider time)
{
    /// <summary>How far another gateway's clock may be behind, which then takes a proof for so much longer.</summary>
    private static readonly TimeSpan Skew = TimeSpan.FromSeconds(10);
    /// <summary>The longest that a proof can be good for: made by a clock that is ahead by all that is allowed.</summary>
    private static readonly TimeSpan LifeMax = 2 * DpopProof.AgeMax + Skew;
    private const int PerTenantMin = 1_000;
    private const int PerTenantMax = 1_000_000;

    private readonly ConcurrentDictionary<string, Memory> _memories = new(StringComparer.Ordinal);

    /// <summary>Notes a proof that is good in every other respect.</summary>
    /// <param name="tenantId">Whose rate it counts against, and on whose slot it is stored.</param>
    /// <param name="rpm">That rate, requests a minute.</param>
    /// <param name="proof">The proof.</param>
    public async ValueTask<Sighting> NoteAsync(string tenantId, int rpm, DpopProof proof)
    {
        // Three minutes' worth in a little over two: refused requests leave their proofs too.
        var room = (int)Math.Clamp(rpm * 3L, PerTenantMin, PerTenantMax);
        var here = _memories.GetOrAdd(tenantId, _ => new Memory(time)).Note(proof.ReplayId, room);
        if (here != Sighting.FirstHere)
            return here;
        try
        {
            return await store.TryAddAsync($"foundry:v1:{{{tenantId}}}:proof:{proof.ReplayId}", proof.GoodUntil - time.GetUtcNow() + Skew) ? Sighting.First : Sighting.Again;
        }
        catch (Exception fault) when (fault is RedisException or TimeoutException)
        {
            return Sighting.FirstHere;
        }
    }

    /// <summary>One tenant's, in two generations: each is forgotten whole once its youngest is too old to be shown again.</summary>
    private sealed class Memory(TimeProvider time)
    {
        private readonly Lock _lock = new();
        private HashSet<string> _young = new(StringComparer.Ordinal);
        private HashSet<string> _old = new(StringComparer.Ordinal);
        private long _since = time.GetTimestamp();

        public Sighting Note(string id, int room)
        {
            lock (_lock)
            {
                var passed = time.GetElapsedTime(_since);
                if (passed >= LifeMax)
                {
                    (_old, _young) = (passed >= 2 * LifeMax ? [] : _young, new(StringComparer.Ordinal));
                    _since = time.GetTimestamp();
                }
                if (_old.Contains(id) || _young.Contains(id))
                    return Sighting.Again;
                if (_young.Count >= room)
                    return Sighting.TooMany;
                _young.Add(id);
                return Sighting.FirstHere;
            }
        }
    }
}
