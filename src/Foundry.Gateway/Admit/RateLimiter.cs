using System.Collections.Concurrent;
using Foundry.Contracts;
using Foundry.Gateway.Authenticate;
using Foundry.Gateway.Config;
using StackExchange.Redis;

namespace Foundry.Gateway.Admit;

/// <summary>What the tenant's rate says of one request.</summary>
/// <param name="Limit">Requests a minute.</param>
/// <param name="Remaining">Requests that the bucket has left.</param>
/// <param name="FullIn">When the bucket is full again.</param>
/// <param name="RetryAfter">Where the request is refused: when one fits again.</param>
/// <param name="Local">Whether the store was away and this gateway's own share was asked.</param>
internal sealed record RateVerdict(int Limit, long Remaining, TimeSpan FullIn, TimeSpan? RetryAfter, bool Local);

/// <summary>
/// The tenants' request rates: a token bucket each, one for all gateways, in the store and on its clock (CONTRACT section 5).
/// </summary>
internal sealed class RateLimiter : IDisposable
{
    /// <summary>Requests a minute of a platform token that names no tenant: the platform's own work, on no tenant's account.</summary>
    public const int PlatformRpm = 6000;
    private const long SinceKeptMs = 30L * 24 * 60 * 60 * 1000;
    private static readonly TimeSpan KnownOverMax = TimeSpan.FromMilliseconds(500);

    // The bucket is kept as what is spent of it, at a time and under a rate; it refills from then on. In requests with nine
    // decimals and not as a time, because at the highest rates a request costs few microseconds, and rounding those would admit
    // more than the rate. KEYS: bucket, since. ARGV: rpm, burst, cost, fresh, milliseconds that since is kept.
    private static readonly Script Spend = new("""
        local t = redis.call('TIME')
        local now = tonumber(t[1]) * 1000000 + tonumber(t[2])
        local rpm = tonumber(ARGV[1])
        local burst = tonumber(ARGV[2])
        local known = redis.call('HMGET', KEYS[1], 'spent', 'clock', 'rpm')
        local spent, clock, rate
        if known[1] then
            spent, clock, rate = tonumber(known[1]), tonumber(known[2]), tonumber(known[3])
        else
            -- Idle so long that the bucket's key expired: full, if the tenant has a history here. Without one, it was lost, and
            -- a bucket whose history is lost starts empty.
            local since = redis.call('GET', KEYS[2])
            if not since then
                since = string.format('%.0f', ARGV[4] == '1' and now - math.ceil(burst * 60000000 / rpm) or now)
                redis.call('SET', KEYS[2], since)
            end
            spent, clock, rate = burst, tonumber(since), rpm
        end
        -- The clock never steps back: the greater of stored and now.
        if clock > now then now = clock end
        spent = spent - (now - clock) * rate / 60000000
        if spent < 0 then spent = 0 end
        -- Another rate: as many requests stay spent as were, of a bucket that holds more or fewer.
        if spent > burst then spent = burst end
        local after = spent + tonumber(ARGV[3])
        local allowed = 1
        local wait = 0
        -- A billionth of slack, or rounding would make the last request of a full bucket wait.
        if after > burst + 0.000000001 then
            allowed = 0
            wait = (after - burst) * 60000 / rpm
        else
            spent = after
        end
        -- A refusal costs nothing and writes nothing, unless the rate is another: from now on the bucket refills by the new one.
        if allowed == 1 or rate ~= rpm then
            redis.call('HSET', KEYS[1], 'spent', string.format('%.9f', spent), 'clock', string.format('%.0f', now), 'rpm', ARGV[1])
            redis.call('PEXPIRE', KEYS[1], string.format('%.0f', math.ceil(burst * 60000 / rpm) + 1000))
            -- The history of a tenant that is no more goes by itself; one that comes back after so long begins with an empty bucket.
            redis.call('PEXPIRE', KEYS[2], ARGV[5])
        end
        return {allowed, math.floor(burst - spent + 0.000000001), math.ceil(spent * 60000 / rpm), math.ceil(wait)}
        """);

    private readonly Store _store;
    private readonly TenantDirectory _directory;
    private readonly GatewayOptions _options;
    private readonly TimeProvider _time;
    private readonly ILogger<RateLimiter> _log;
    private readonly ConcurrentDictionary<string, LocalBucket> _shares = new(StringComparer.Ordinal);
    private readonly ConcurrentDictionary<string, (long At, int Cost, RateVerdict Verdict)> _knownOver = new(StringComparer.Ordinal);

    /// <summary>Makes one that follows the directory: changed rates count at once.</summary>
    public RateLimiter(Store store, TenantDirectory directory, GatewayOptions options, TimeProvider time, ILogger<RateLimiter> log)
    {
        (_store, _directory, _options, _time, _log) = (store, directory, options, time, log);
        directory.TenantChanged += OnTenantChanged;
    }

    /// <summary>Spends a request of a tenant's rate.</summary>
    /// <param name="tenant">The tenant.</param>
    /// <param name="cost">What the route costs; 0 is free.</param>
    public async ValueTask<RateVerdict> SpendAsync(Tenant tenant, int cost)
    {
        // More than the bucket ever holds would never fit: it takes the whole bucket.
        cost = Math.Min(cost, Burst(tenant.ApiRateLimitRpm));
        // Known to be over: no call. A refusal is remembered for half a second at most, so a raised limit counts within one; what
        // costs less than the refused request may still fit, and is asked.
        if (_knownOver.TryGetValue(tenant.TenantId, out var over))
        {
            var passed = _time.GetElapsedTime(over.At);
            if (passed >= KnownOverMax || passed >= over.Verdict.RetryAfter)
                _knownOver.TryRemove(tenant.TenantId, out _);
            else if (cost >= over.Cost && over.Verdict.Limit == tenant.ApiRateLimitRpm)
                return over.Verdict with { RetryAfter = over.Verdict.RetryAfter - passed, FullIn = over.Verdict.FullIn - passed };
        }
        if (_store.IsUp)
            try
            {
                var verdict = await SpendSharedAsync(tenant, cost, fresh: false);
                _shares.TryRemove(tenant.TenantId, out _);
                if (verdict.RetryAfter is not null)
                    _knownOver[tenant.TenantId] = (_time.GetTimestamp(), cost, verdict);
                return verdict;
            }
            catch (Exception fault) when (fault is RedisException or TimeoutException)
            {
                _log.LogDebug("Rates go by this gateway's own share: {Reason}", fault.Message);
            }
        return _shares.GetOrAdd(tenant.TenantId, _ => new LocalBucket(_time)).Spend(tenant.ApiRateLimitRpm / (double)_options.GatewaysExpected, cost);
    }

    /// <summary>Spends a request of a platform token that names no tenant, of a bucket local to this gateway.</summary>
    /// <param name="tokenId">The token.</param>
    public RateVerdict SpendPlatform(string tokenId) =>
        _shares.GetOrAdd($"platform:{tokenId}", _ => new LocalBucket(_time, full: true)).Spend(PlatformRpm, 1) with { Local = false };

    /// <inheritdoc/>
    public void Dispose() => _directory.TenantChanged -= OnTenantChanged;

    /// <summary>Requests the bucket holds: a tenth of a minute's, at least one.</summary>
    /// <param name="rpm">Requests a minute.</param>
    public static int Burst(int rpm) => Math.Max(1, rpm / 10);

    private async Task<RateVerdict> SpendSharedAsync(Tenant tenant, int cost, bool fresh)
    {
        var rpm = tenant.ApiRateLimitRpm;
        var answer = (RedisValue[])(await _store.EvaluateAsync(Spend, [Key(tenant.TenantId, "rate"), Key(tenant.TenantId, "since")], [rpm, Burst(rpm), cost, fresh ? 1 : 0, SinceKeptMs]))!;
        return new RateVerdict(rpm, Math.Max(0, (long)answer[1]), TimeSpan.FromMilliseconds((long)answer[2]),
            (long)answer[0] == 1 ? null : TimeSpan.FromMilliseconds(Math.Max(1, (long)answer[3])), Local: false);
    }

    /// <summary>
    /// A tenant that issuance made this moment has no history anywhere, so none can have been lost: its bucket begins full. Called before
    /// the tenant is known here, so no request can come first and find it empty.
    /// </summary>
    /// <param name="tenant">The new tenant.</param>
    public async Task BeginFullAsync(Tenant tenant)
    {
        if (!_store.IsUp || _time.GetUtcNow() - tenant.CreatedAt > TimeSpan.FromSeconds(10))
            return;
        try
        {
            await SpendSharedAsync(tenant, cost: 0, fresh: true);
        }
        catch (Exception fault) when (fault is RedisException or TimeoutException)
        {
            _log.LogDebug("The bucket of {Tenant} begins empty: {Reason}", tenant.TenantId, fault.Message);
        }
    }

    private void OnTenantChanged(Tenant tenant, bool created) => _knownOver.TryRemove(tenant.TenantId, out _);

    private static RedisKey Key(string tenantId, string name) => $"foundry:v1:{{{tenantId}}}:{name}";

    /// <summary>A bucket of this gateway alone. It begins empty: what was spent elsewhere a moment ago is not known.</summary>
    private sealed class LocalBucket(TimeProvider time, bool full = false)
    {
        private readonly Lock _lock = new();
        private TimeSpan? _fullAt = full ? TimeSpan.Zero : null;

        /// <summary>Spends of a rate that may be a share: less than one request a minute, too.</summary>
        public RateVerdict Spend(double rpm, int cost)
        {
            lock (_lock)
            {
                var now = TimeSpan.FromSeconds(time.GetTimestamp() / (double)time.TimestampFrequency);
                var each = TimeSpan.FromMinutes(1) / rpm;
                var burst = Math.Max(1, (int)(rpm / 10));
                var depth = each * burst;
                var fullAt = _fullAt ?? now + depth;
                fullAt = fullAt > now + depth ? now + depth : fullAt < now ? now : fullAt;
                var after = fullAt + each * Math.Min(cost, burst);
                var allowed = after - now <= depth;
                _fullAt = allowed ? after : fullAt;
                return new RateVerdict(Math.Max(1, (int)rpm), (long)((depth - (_fullAt.Value - now)) / each), _fullAt.Value - now, allowed ? null : after - now - depth, Local: true);
            }
        }
    }
}
