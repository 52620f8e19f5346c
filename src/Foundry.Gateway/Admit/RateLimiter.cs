using System.Collections.Concurrent;
using Foundry.Contracts;
using Foundry.Gateway.Authenticate;
using Foundry.Gateway.Config;
using StackExchange.Redis;

namespace Foundry.Gateway.Admit;

/// <summary>What the tenant's rate says of one request.</summary>
/// <param name="Limit">Requests a minute.</param>
/// <param name="Remaining">Requests that the bucket has left, as far as this gateway knows.</param>
/// <param name="FullIn">When the bucket is full again.</param>
/// <param name="RetryAfter">Where the request is refused: when one fits again.</param>
/// <param name="Local">Whether the store was away and this gateway's own share was asked.</param>
internal readonly record struct RateVerdict(int Limit, long Remaining, TimeSpan FullIn, TimeSpan? RetryAfter, bool Local)
{
    /// <summary>A verdict of the shared bucket.</summary>
    /// <param name="rpm">The tenant's rate.</param>
    /// <param name="remaining">What is left of the bucket.</param>
    /// <param name="retryAfter">Where it is a refusal: when one fits again.</param>
    public static RateVerdict Of(int rpm, long remaining, TimeSpan? retryAfter) =>
        new(rpm, remaining, TimeSpan.FromMinutes((RateLimiter.Burst(rpm) - remaining) / (double)rpm), retryAfter, Local: false);
}

/// <summary>
/// The tenants' request rates: a token bucket each, one for all gateways, in the store and on its clock (CONTRACT section 5).
/// A slow tenant's is asked for each request (<i>direct</i>); of a fast one's this gateway takes a little in advance (<see cref="Lease"/>).
/// Either way no more than bucket and refill is admitted in any stretch of time. Where the store is away or slow, a
/// gateway goes by its own share of the rate, which begins empty.
/// </summary>
internal sealed class RateLimiter : IDisposable
{
    /// <summary>Requests a minute of a platform token that names no tenant: the platform's own work, on no tenant's account.</summary>
    public const int PlatformRpm = 6000;
    private static readonly TimeSpan KnownOverMax = TimeSpan.FromMilliseconds(500);
    private static readonly TimeSpan TidyInterval = TimeSpan.FromMilliseconds(250);
    /// <summary>What has not been used for so long is forgotten: by then every bucket has long been full, and every lease over.</summary>
    private static readonly TimeSpan IdleMax = TimeSpan.FromMinutes(10);

    private readonly ISharedBuckets _buckets;
    private readonly TenantDirectory _directory;
    private readonly Func<int> _gateways;
    private readonly int _leaseFromRpm;
    private readonly TimeProvider _time;
    private readonly ILogger<RateLimiter> _log;
    private readonly ConcurrentDictionary<string, Account> _tenants = new(StringComparer.Ordinal);
    private readonly ConcurrentDictionary<string, Account> _platformTokens = new(StringComparer.Ordinal);
    private readonly ITimer _tidying;

    /// <summary>Makes one that follows the directory: changed rates count at once.</summary>
    /// <param name="buckets">The shared buckets.</param>
    /// <param name="directory">Which tenants there are.</param>
    /// <param name="gateways">How many gateways share the rates when the store is away.</param>
    /// <param name="options">From which rate on there are leases.</param>
    /// <param name="time">The clock.</param>
    /// <param name="log">Where it is said that a bucket begins empty.</param>
    public RateLimiter(ISharedBuckets buckets, TenantDirectory directory, Func<int> gateways, GatewayOptions options, TimeProvider time, ILogger<RateLimiter> log)
    {
        (_buckets, _directory, _gateways, _leaseFromRpm, _time, _log) = (buckets, directory, gateways, options.LeaseFromRpm, time, log);
        directory.TenantChanged += OnTenantChanged;
        _tidying = time.CreateTimer(_ => Tidy(), null, TidyInterval, TidyInterval);
    }

    /// <summary>Accounts that are held, of tenants and of platform tokens.</summary>
    public int AccountsHeld => _tenants.Count + _platformTokens.Count;

    /// <summary>Spends a request of a tenant's rate.</summary>
    /// <param name="tenant">The tenant.</param>
    /// <param name="cost">What the route costs; 0 is free.</param>
    public ValueTask<RateVerdict> SpendAsync(Tenant tenant, int cost)
    {
        // More than the bucket ever holds would never fit: it takes the whole bucket.
        cost = Math.Min(cost, Burst(tenant.ApiRateLimitRpm));
        var account = AccountOf(tenant.TenantId);
        if (tenant.ApiRateLimitRpm >= _leaseFromRpm)
        {
            if (account.Lease!.TrySpend(tenant.ApiRateLimitRpm, _buckets.UnbrokenSince, cost, out var verdict))
                return new(verdict);
        }
        else if (account.IsKnownOver(tenant.ApiRateLimitRpm, cost, _time, out var verdict))
            return new(verdict);
        return _buckets.IsFast ? SpendSharedAsync(account, tenant, cost) : new(SpendShare(account, tenant, cost));
    }

    /// <summary>Spends a request of a platform token that names no tenant, of a bucket local to this gateway.</summary>
    /// <param name="tokenId">The token.</param>
    public RateVerdict SpendPlatform(string tokenId)
    {
        if (!_platformTokens.TryGetValue(tokenId, out var account))
            account = _platformTokens.GetOrAdd(tokenId, _ => new Account(null, new LocalBucket(_time, full: true)));
        account.UsedAt = _time.GetTimestamp();
        return account.Share!.Spend(PlatformRpm, 1) with { Local = false };
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _directory.TenantChanged -= OnTenantChanged;
        _tidying.Dispose();
    }

    /// <summary>Requests the bucket holds: a tenth of a minute's, at least one.</summary>
    /// <param name="rpm">Requests a minute.</param>
    public static int Burst(int rpm) => Math.Max(1, rpm / 10);

    /// <summary>
    /// A tenant that issuance made this moment has no history anywhere, so none can have been lost: its bucket begins full. Called before
    /// the tenant is known here, so no request can come first and find it empty.
    /// </summary>
    /// <param name="tenant">The new tenant.</param>
    public async Task BeginFullAsync(Tenant tenant)
    {
        if (!_buckets.IsFast || _time.GetUtcNow() - tenant.CreatedAt > TimeSpan.FromSeconds(10))
            return;
        try
        {
            await _buckets.TakeAsync(tenant.TenantId, new BucketAsk(tenant.ApiRateLimitRpm, 0, 0, IsNew: true));
        }
        catch (Exception fault) when (fault is RedisException or TimeoutException)
        {
            _log.LogDebug("The bucket of {Tenant} begins empty: {Reason}", tenant.TenantId, fault.Message);
        }
    }

    private async ValueTask<RateVerdict> SpendSharedAsync(Account account, Tenant tenant, int cost)
    {
        try
        {
            var verdict = tenant.ApiRateLimitRpm >= _leaseFromRpm ? await account.Lease!.SpendAsync(cost) : await SpendDirectAsync(account, tenant, cost);
            account.Share = null;
            return verdict;
        }
        catch (Exception fault) when (fault is RedisException or TimeoutException)
        {
            _log.LogDebug("Rates go by this gateway's own share: {Reason}", fault.Message);
            return SpendShare(account, tenant, cost);
        }
    }

    private async Task<RateVerdict> SpendDirectAsync(Account account, Tenant tenant, int cost)
    {
        var answer = await _buckets.TakeAsync(tenant.TenantId, new BucketAsk(tenant.ApiRateLimitRpm, cost, cost));
        var verdict = RateVerdict.Of(tenant.ApiRateLimitRpm, answer.Remaining, answer.Taken == cost ? null : TimeSpan.FromTicks(Math.Max(TimeSpan.TicksPerMillisecond, answer.Wait.Ticks)));
        if (verdict.RetryAfter is not null)
            account.Over = new Refused(_time.GetTimestamp(), cost, verdict);
        return verdict;
    }

    private RateVerdict SpendShare(Account account, Tenant tenant, int cost)
    {
        var share = account.Share ?? Interlocked.CompareExchange(ref account.Share, new LocalBucket(_time), null) ?? account.Share!;
        return share.Spend(tenant.ApiRateLimitRpm / (double)_gateways(), cost);
    }

    private Account AccountOf(string tenantId)
    {
        if (!_tenants.TryGetValue(tenantId, out var account))
            account = _tenants.GetOrAdd(tenantId, id => new Account(new Lease(_time, ask => _buckets.TakeAsync(id, ask)), null));
        account.UsedAt = _time.GetTimestamp();
        return account;
    }

    private void OnTenantChanged(Tenant tenant, bool created)
    {
        if (_tenants.TryGetValue(tenant.TenantId, out var account))
            account.Over = null;
    }

    private void Tidy()
    {
        foreach (var accounts in (ConcurrentDictionary<string, Account>[])[_tenants, _platformTokens])
            foreach (var (id, account) in accounts)
            {
                account.Lease?.Tidy();
                if (_time.GetElapsedTime(account.UsedAt) > IdleMax)
                    accounts.TryRemove(id, out _);
            }
    }

    /// <summary>What this gateway knows of one tenant, or one platform token.</summary>
    private sealed class Account(Lease? lease, LocalBucket? share)
    {
        public Lease? Lease { get; } = lease;
        public LocalBucket? Share = share;
        public volatile Refused? Over;
        public long UsedAt;

        /// <summary>
        /// Known to be over: no call. A refusal is remembered for half a second at most, so a raised limit counts within one; what
        /// costs less than the refused request may still fit, and is asked.
        /// </summary>
        public bool IsKnownOver(int rpm, int cost, TimeProvider time, out RateVerdict verdict)
        {
            verdict = default;
            if (Over is not { } over || cost < over.Cost || rpm != over.Verdict.Limit)
                return false;
            var passed = time.GetElapsedTime(over.At);
            if (passed >= KnownOverMax || passed >= over.Verdict.RetryAfter)
                return false;
            verdict = over.Verdict with { RetryAfter = over.Verdict.RetryAfter - passed, FullIn = over.Verdict.FullIn - passed };
            return true;
        }
    }

    private sealed record Refused(long At, int Cost, RateVerdict Verdict);
}
