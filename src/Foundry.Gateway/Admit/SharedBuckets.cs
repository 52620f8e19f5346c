using StackExchange.Redis;

namespace Foundry.Gateway.Admit;

/// <summary>What is asked of a tenant's shared bucket.</summary>
/// <param name="Rpm">The tenant's rate, requests a minute.</param>
/// <param name="Need">The least that is of use; 0 asks for nothing.</param>
/// <param name="Want">The most that is of use.</param>
/// <param name="IsLease">Whether what is taken may be spent later, for <see cref="Lease.Life"/>; otherwise it is spent now.</param>
/// <param name="Done">What was taken earlier and is over.</param>
/// <param name="IsNew">Whether the tenant is known to be new: it has no history that could be lost.</param>
internal readonly record struct BucketAsk(int Rpm, long Need, long Want, bool IsLease = false, Finished Done = default, bool IsNew = false);

/// <summary>What a shared bucket answers.</summary>
/// <param name="Taken">What was taken: from <see cref="BucketAsk.Need"/> to <see cref="BucketAsk.Want"/>, or nothing.</param>
/// <param name="Remaining">What the bucket has left.</param>
/// <param name="Wait">Where nothing was taken: when <see cref="BucketAsk.Need"/> fits again.</param>
/// <param name="Mark">By which the bucket knows what it leased then.</param>
internal readonly record struct BucketAnswer(long Taken, long Remaining, TimeSpan Wait, LeaseMark Mark = default);

/// <summary>When a lease was paid, in the bucket's own terms.</summary>
/// <param name="Born">Which life of the bucket; what was leased of another is nothing to it.</param>
/// <param name="Slot">Which stretch of <see cref="SharedBuckets.SlotMicroseconds"/>.</param>
internal readonly record struct LeaseMark(long Born, long Slot);

/// <summary>Of what was leased at a mark, how much nobody can spend any more. It is said once: what is lost on the way is lost, never counted twice.</summary>
/// <param name="Mark">When it was leased.</param>
/// <param name="Count">How much is over, spent or not.</param>
/// <param name="Unspent">How much of that was not spent, and goes back.</param>
internal readonly record struct Finished(LeaseMark Mark, long Count, long Unspent);

/// <summary>The tenants' token buckets, one for all gateways. In the store (<see cref="SharedBuckets"/>), or in the tests' simulation of one.</summary>
internal interface ISharedBuckets
{
    /// <summary>Whether the store answers, and so fast that a request may wait for it.</summary>
    bool IsFast { get; }

    /// <summary>Since when, on the store's clock in microseconds, what it holds is unbroken; 0 where nothing is known to the contrary.</summary>
    long UnbrokenSince { get; }

    /// <summary>Takes from a bucket.</summary>
    /// <param name="tenantId">Whose.</param>
    /// <param name="ask">How much.</param>
    /// <exception cref="RedisException">The store does not answer.</exception>
    /// <exception cref="TimeoutException">It does not answer in time; whether it took anything is not known.</exception>
    Task<BucketAnswer> TakeAsync(string tenantId, BucketAsk ask);
}

/// <summary>
/// The buckets in the store: one script on the store's clock, whose greatest time so far counts. In no stretch of time does more than the
/// bucket and its refill leave it, <b>by the time of spending</b>, not only of taking: see the script's second paragraph.
/// </summary>
internal sealed class SharedBuckets(Store store) : ISharedBuckets
{
    /// <summary>
    /// A lease is remembered in the slot of the store's clock in which it was paid, and in the next. So for longer than it can be spent, by
    /// gateways whose clocks run up to a tenth slower than the store's.
    /// </summary>
    public const long SlotMicroseconds = 2_200_000;
    private const long SinceKeptMs = 30L * 24 * 60 * 60 * 1000;

    // The bucket is what is spent of it, at a time and under a rate; it refills from then on. In requests with nine decimals and not as
    // a time, because at the highest rates a request costs few microseconds, and rounding those would admit more than the rate.
    //
    // What is leased and may still be unspent keeps its place in the bucket: "spent" never falls below it, so nothing is refilled under
    // it. Let O be what is leased and unspent at a, and P what is taken from a to b. Then spent(b) >= spent(a) + P - refill and
    // spent(a) >= O and spent(b) <= burst: what is spent from a to b, O + P at most, is at most burst + refill. "held" is leased in the
    // slot "slot", "before" in the one before it. A gateway says what of it is over, so that little is held for long.
    //
    // KEYS: bucket, since. ARGV: rpm, burst, need, want, lease, new, unbroken since, born, slot, count and unspent of what is over,
    // milliseconds that since is kept.
    private static readonly Script Take = new($$"""
        local t = redis.call('TIME')
        local now = tonumber(t[1]) * 1000000 + tonumber(t[2])
        local rpm, burst, need, want = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
        local unbroken = tonumber(ARGV[7])
        local known = redis.call('HMGET', KEYS[1], 'spent', 'clock', 'rpm', 'born', 'slot', 'held', 'before')
        local spent, clock, rate, born
        local slot, held, before = tonumber(known[5] or '0'), tonumber(known[6] or '0'), tonumber(known[7] or '0')
        if known[1] then
            spent, clock, rate, born = tonumber(known[1]), tonumber(known[2]), tonumber(known[3]), known[4] or '0'
        else
            -- Idle so long that the bucket's key expired: full, if the tenant has a history here. Without one, it was lost, and
            -- a bucket whose history is lost starts empty.
            local since = redis.call('GET', KEYS[2])
            if not since then
                since = string.format('%.0f', ARGV[6] == '1' and now - math.ceil(burst * 60000000 / rpm) or now)
                redis.call('SET', KEYS[2], since)
            end
            spent, clock, rate, born = burst, tonumber(since), rpm, string.format('%.0f', now)
        end
        if need == 0 and known[1] and tonumber(ARGV[10]) > 0 then
            -- What only gives back may be of an earlier rate: that in force stays.
            rpm, burst = rate, math.max(1, math.floor(rate / 10))
        end
        -- Of another life of the store (a restart, a replica that took over): what was spent last may be missing. Empty, then.
        if clock < unbroken then
            spent, clock, rate, born, held, before = burst, unbroken, rpm, string.format('%.0f', now), 0, 0
        end
        -- The clock never steps back: the greater of stored and now.
        if clock > now then now = clock end

        -- The quotient first: in Lua 5.4 whole numbers overflow.
        local each = rate / 60000000
        spent = spent - (now - clock) * each
        local function keep(leased, ends)
            local least = leased - math.max(0, now - ends) * each
            if spent < least then spent = least end
        end
        keep(held + before, (slot + 1) * {{SlotMicroseconds}})
        keep(held, (slot + 2) * {{SlotMicroseconds}})
        if spent < 0 then spent = 0 end
        local current = math.floor(now / {{SlotMicroseconds}})
        if current ~= slot then
            before = current == slot + 1 and held or 0
            slot, held = current, 0
        end

        local over, unspent = tonumber(ARGV[10]), tonumber(ARGV[11])
        local changed = rate ~= rpm
        if over > 0 and ARGV[8] == born then
            if tonumber(ARGV[9]) == slot then
                over = math.min(over, held)
                held = held - over
            elseif tonumber(ARGV[9]) == slot - 1 then
                over = math.min(over, before)
                before = before - over
            else
                -- So late that it was refilled under it.
                over = 0
            end
            spent = math.max(0, spent - math.min(over, unspent))
            changed = changed or over > 0
        end
        -- Another rate: as many requests stay spent as were, of a bucket that holds more or fewer.
        if spent > burst then spent = burst end

        -- A billionth of slack, or rounding would make the last request of a full bucket wait.
        local free = burst - spent + 0.000000001
        local taken, wait = 0, 0
        if need > free then
            wait = (need - free) * 60000 / rpm
        else
            -- Half of what is there at most, so that near the limit leases shrink and every gateway finds something.
            taken = math.min(want, math.max(need, math.floor(free / 2)))
            spent = spent + taken
            if ARGV[5] == '1' then held = held + taken end
        end
        -- A refusal costs nothing and writes nothing, unless the rate is another: from now on the bucket refills by the new one.
        if taken > 0 or need == 0 or changed then
            redis.call('HSET', KEYS[1], 'spent', string.format('%.9f', spent), 'clock', string.format('%.0f', now), 'rpm', string.format('%.0f', rpm), 'born', born,
                'slot', string.format('%.0f', slot), 'held', string.format('%.0f', held), 'before', string.format('%.0f', before))
            local life = math.ceil(burst * 60000 / rpm) + 1000
            if held + before > 0 then life = life + {{2 * SlotMicroseconds / 1000}} end
            redis.call('PEXPIRE', KEYS[1], string.format('%.0f', life))
            -- The history of a tenant that is no more goes by itself; one that comes back after so long begins with an empty bucket.
            if not known[1] or math.floor(now / 3600000000) ~= math.floor(clock / 3600000000) then redis.call('PEXPIRE', KEYS[2], ARGV[12]) end
        end
        return {string.format('%.0f', taken), string.format('%.0f', math.max(0, math.floor(burst - spent + 0.000000001))), string.format('%.0f', math.ceil(wait)), born, string.format('%.0f', slot)}
        """);

    /// <inheritdoc/>
    public bool IsFast => store.IsFast;

    /// <inheritdoc/>
    public long UnbrokenSince => store.UnbrokenSince;

    /// <inheritdoc/>
    public async Task<BucketAnswer> TakeAsync(string tenantId, BucketAsk ask)
    {
        var done = ask.Done;
        var answer = (RedisValue[])(await store.EvaluateSoonAsync(Take, [$"foundry:v1:{{{tenantId}}}:rate", $"foundry:v1:{{{tenantId}}}:since"],
            [ask.Rpm, RateLimiter.Burst(ask.Rpm), ask.Need, ask.Want, ask.IsLease ? 1 : 0, ask.IsNew ? 1 : 0, UnbrokenSince, done.Mark.Born, done.Mark.Slot, done.Count, done.Unspent, SinceKeptMs]))!;
        return new BucketAnswer((long)answer[0], (long)answer[1], TimeSpan.FromMilliseconds((long)answer[2]), new LeaseMark((long)answer[3], (long)answer[4]));
    }
}
