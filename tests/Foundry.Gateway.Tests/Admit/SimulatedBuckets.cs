using Foundry.Gateway.Admit;
using StackExchange.Redis;

namespace Foundry.Gateway.Tests.Admit;

/// <summary>The buckets' script in C#, over a clock that the simulation moves. That it does what the script does is tested over both.</summary>
internal sealed class SimulatedBuckets
{
    private Dictionary<string, State> _states = new(StringComparer.Ordinal);

    /// <summary>The store's clock, microseconds.</summary>
    public long Now { get; set; } = 1_000_000_000_000_000;

    public long Calls { get; private set; }

    public BucketAnswer Take(string tenantId, BucketAsk ask, long unbrokenSince)
    {
        Calls++;
        var known = _states.TryGetValue(tenantId, out var state);
        state ??= new State(RateLimiter.Burst(ask.Rpm), Now, ask.Rpm, Now, 0, 0, 0); // No history: empty.
        var (spent, clock, rate, born, slot, held, before) = state;
        var (rpm, burst) = ask.Need == 0 && known && ask.Done.Count > 0 ? (rate, RateLimiter.Burst(rate)) : (ask.Rpm, RateLimiter.Burst(ask.Rpm));
        if (clock < unbrokenSince)
            (spent, clock, rate, born, held, before) = (burst, unbrokenSince, rpm, Now, 0, 0);
        var now = Math.Max(Now, clock);
        var each = rate / 60_000_000.0;
        spent -= (now - clock) * each;
        spent = Math.Max(spent, held + before - Math.Max(0, now - (slot + 1) * SharedBuckets.SlotMicroseconds) * each);
        spent = Math.Max(spent, held - Math.Max(0, now - (slot + 2) * SharedBuckets.SlotMicroseconds) * each);
        spent = Math.Max(spent, 0);
        var current = now / SharedBuckets.SlotMicroseconds;
        if (current != slot)
            (before, slot, held) = (current == slot + 1 ? held : 0, current, 0);
        if (ask.Done.Count > 0 && ask.Done.Mark.Born == born)
        {
            var over = ask.Done.Mark.Slot == slot ? Math.Min(ask.Done.Count, held) : ask.Done.Mark.Slot == slot - 1 ? Math.Min(ask.Done.Count, before) : 0;
            if (ask.Done.Mark.Slot == slot)
                held -= over;
            else
                before -= over;
            spent = Math.Max(0, spent - Math.Min(over, ask.Done.Unspent));
        }
        spent = Math.Min(spent, burst);
        var free = burst - spent + 1e-9;
        long taken = 0;
        if (ask.Need <= free)
        {
            taken = Math.Min(ask.Want, Math.Max(ask.Need, (long)(free / 2)));
            spent += taken;
            if (ask.IsLease)
                held += taken;
        }
        _states[tenantId] = new State(spent, now, rpm, born, slot, held, before);
        return new BucketAnswer(taken, (long)(burst - spent + 1e-9), TimeSpan.FromMilliseconds(Math.Ceiling(Math.Max(0, ask.Need - free) * 60_000 / rpm)), new LeaseMark(born, slot));
    }

    /// <summary>Makes a bucket as the store's fields say it is.</summary>
    public void Set(string tenantId, double spent, long clock, int rate, long born, long slot, long held, long before) => _states[tenantId] = new State(spent, clock, rate, born, slot, held, before);

    /// <summary>What there is of a bucket.</summary>
    public (double Spent, long Slot, long Held, long Before) Get(string tenantId) => _states[tenantId] is { } state ? (state.Spent, state.Slot, state.Held, state.Before) : default;

    /// <summary>Everything is forgotten.</summary>
    public void Flush() => _states.Clear();

    /// <summary>What a replica has.</summary>
    public Func<SimulatedBuckets> Replica()
    {
        var states = new Dictionary<string, State>(_states, StringComparer.Ordinal);
        return () =>
        {
            _states = states;
            return this;
        };
    }

    private sealed record State(double Spent, long Clock, int Rate, long Born, long Slot, long Held, long Before);
}

/// <summary>One gateway's way to the buckets: slow, broken or lossy, as the simulation says.</summary>
/// <param name="buckets">The buckets.</param>
/// <param name="there">Lets something happen at the store after a time.</param>
/// <param name="back">Lets something happen at the gateway after a time.</param>
/// <param name="random">Of the simulation.</param>
internal sealed class SimulatedLink(SimulatedBuckets buckets, Action<TimeSpan, Action> there, Action<TimeSpan, Action> back, Dice random) : ISharedBuckets
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(1);

    /// <summary>Calls vanish.</summary>
    public bool IsCut { get; set; }

    /// <summary>Of how many answers one is lost; 0 for none.</summary>
    public int OneLostIn { get; init; } = 200;

    /// <summary>The longest that an answer takes.</summary>
    public TimeSpan DelayMax { get; set; } = TimeSpan.FromMilliseconds(4);

    public bool IsFast { get; set; } = true;

    public long UnbrokenSince { get; set; }

    /// <summary>When the store gave the answer that is being heard, microseconds.</summary>
    public long PaidAt { get; private set; }

    public Task<BucketAnswer> TakeAsync(string tenantId, BucketAsk ask)
    {
        if (!IsFast)
            return Task.FromException<BucketAnswer>(new RedisException("away"));
        var answer = new TaskCompletionSource<BucketAnswer>();
        var (way, wayBack) = (DelayMax * random.NextDouble() / 2, DelayMax * random.NextDouble() / 2);
        var isLost = OneLostIn > 0 && random.Next(OneLostIn) == 0;
        var unbroken = UnbrokenSince;
        there(way, () =>
        {
            if (IsCut || unbroken != UnbrokenSince)
                return;
            var (taken, at) = (buckets.Take(tenantId, ask, unbroken), buckets.Now);
            if (!isLost)
                back(wayBack, () =>
                {
                    PaidAt = at;
                    answer.TrySetResult(taken);
                });
        });
        back(Patience, () => answer.TrySetException(new TimeoutException("away")));
        return answer.Task;
    }
}
