using StackExchange.Redis;

namespace Foundry.Gateway.Admit;

/// <summary>
/// What this gateway has taken in advance of one tenant's shared bucket, to spend it without asking for each request.
/// <para>
/// A lease is paid before any of it is spent, and can be spent for <see cref="Life"/> from the moment in which it was <i>asked for</i>, on
/// this machine's monotonic clock: a pause, or an answer that is long on its way, only makes it shorter. The bucket keeps a place for what is
/// leased and unspent (<see cref="SharedBuckets"/>), so all gateways together never spend more than bucket and refill, in no stretch of time.
/// </para>
/// <para>
/// Its size follows what was asked for since the last one, for <see cref="Span"/> at that pace: one question a second, whatever the
/// pace. Half-way through it the next one is asked for in the background. What is over or has not been used for a while goes back, with the next
/// question or by <see cref="Tidy"/>.
/// </para>
/// </summary>
/// <param name="time">The clock; only its timestamps count.</param>
/// <param name="take">Takes of the tenant's shared bucket.</param>
internal sealed class Lease(TimeProvider time, Func<BucketAsk, Task<BucketAnswer>> take)
{
    /// <summary>How long a lease can be spent.</summary>
    public static readonly TimeSpan Life = TimeSpan.FromSeconds(2);
    /// <summary>For how long a lease is meant to last.</summary>
    public static readonly TimeSpan Span = TimeSpan.FromSeconds(1);
    /// <summary>A gateway that got less than it wanted asks again after so long at the earliest: who is over its limit costs four calls a second.</summary>
    public static readonly TimeSpan HoldOff = TimeSpan.FromMilliseconds(250);
    /// <summary>A lease is at most this part of the bucket, so that one gateway leaves something to the others.</summary>
    public const int ShareMax = 4;
    // From one lease to the next: what was asked for since the last one may have been the beginning of more.
    private const double GrowthMax = 4;

    private readonly Lock _lock = new();
    private readonly long _life = Ticks(time, Life);
    private Part _current;
    private Part _next;
    private Finished _finished;
    private Task<bool> _asking = Task.FromResult(true);
    private int _rpm;
    private long _unbrokenSince;
    private long _wanted;
    private long _waiting;
    private long _askedAt = time.GetTimestamp();
    private long _usedAt = time.GetTimestamp();
    private long _remaining;
    // The bucket is not asked until then, and whatever costs this or more is refused.
    private (long Until, long Cost, TimeSpan Wait, long Since) _over;

    /// <summary>Spends of the lease, or says that it is known that nothing fits.</summary>
    /// <param name="rpm">The tenant's rate now. Under another one than before, what was leased goes back.</param>
    /// <param name="unbrokenSince">The life of the store; what was leased in another is void.</param>
    /// <param name="cost">How much.</param>
    /// <param name="verdict">The answer, where this is one.</param>
    /// <returns>Whether it is; otherwise the bucket is to be asked.</returns>
    public bool TrySpend(int rpm, long unbrokenSince, int cost, out RateVerdict verdict)
    {
        lock (_lock)
        {
            var now = time.GetTimestamp();
            (_wanted, _usedAt) = (_wanted + cost, now);
            if (rpm != _rpm || unbrokenSince != _unbrokenSince)
                Renew(rpm, unbrokenSince);
            return TrySpend(now, cost, out verdict);
        }
    }

    /// <summary>Asks the bucket, and then spends or refuses. Who comes while it is asked waits for the same answer.</summary>
    /// <param name="cost">How much.</param>
    /// <exception cref="RedisException">The store does not answer.</exception>
    public async Task<RateVerdict> SpendAsync(int cost)
    {
        while (true)
        {
            Task<bool> asking;
            lock (_lock)
            {
                if (TrySpend(time.GetTimestamp(), cost, out var verdict))
                    return verdict;
                _waiting += cost;
                asking = _asking.IsCompleted ? Ask(cost) : _asking;
            }
            try
            {
                // Each answer gives something to one of those who wait at least, or refuses them all: this ends.
                if (!await asking)
                    throw new RedisException("The store does not answer.");
            }
            finally
            {
                lock (_lock)
                    _waiting -= cost;
            }
        }
    }

    /// <summary>Gives back what has not been used for a while, before it is too late for that.</summary>
    public void Tidy()
    {
        lock (_lock)
        {
            if (_asking.IsCompleted && time.GetElapsedTime(_usedAt) >= Span / 2)
            {
                // One at a time: a question has room for one.
                if (_current.Count > 0)
                    Retire(ref _current);
                else
                    Retire(ref _next);
                if (_finished.Unspent > 0)
                    Ask(0);
            }
        }
    }

    private bool TrySpend(long now, int cost, out RateVerdict verdict)
    {
        if (now >= _current.Until || _current.Left < cost)
        {
            // What is left of it is less than what is asked for, and goes back.
            if (now < _next.Until && _next.Left >= cost)
            {
                Retire(ref _current);
                (_current, _next) = (_next, default);
            }
            else if (now < _over.Until && cost >= _over.Cost)
            {
                // No call for a tenant that is known to be over its limit.
                verdict = Verdict(TimeSpan.FromTicks(Math.Max(1, (_over.Wait - time.GetElapsedTime(_over.Since, now)).Ticks)));
                return true;
            }
            else
            {
                verdict = default;
                return false;
            }
        }
        _current.Left -= cost;
        // Before it is exhausted or expires: whoever comes then does not wait.
        if (_next.Count == 0 && now >= _over.Until && _asking.IsCompleted && (_current.Left < _current.Count / 2 || _current.Until - now < _life / 4))
            Ask(1);
        verdict = Verdict(null);
        return true;
    }

    private RateVerdict Verdict(TimeSpan? wait) =>
        RateVerdict.Of(_rpm, Math.Min(RateLimiter.Burst(_rpm), _remaining + _current.Left + _next.Left), wait);

    private void Renew(int rpm, long unbrokenSince)
    {
        Retire(ref _current);
        Retire(ref _next);
        (_rpm, _unbrokenSince, _over) = (rpm, unbrokenSince, default);
    }

    /// <summary>Nobody spends of it any more; the bucket hears so with the next question.</summary>
    private void Retire(ref Part part)
    {
        if (part.Count > 0)
            // Of the older of two marks nothing is said: it is forgotten there soon.
            _finished = part.Mark == _finished.Mark ? _finished with { Count = _finished.Count + part.Count, Unspent = _finished.Unspent + part.Left }
                : new Finished(part.Mark, part.Count, part.Left);
        part = default;
    }

    /// <summary>Begins to ask; under the lock.</summary>
    private Task<bool> Ask(int need)
    {
        var now = time.GetTimestamp();
        if (now >= _current.Until || _current.Left == 0)
            Retire(ref _current);
        if (now >= _next.Until)
            Retire(ref _next);
        var pace = Math.Min(GrowthMax, Span / TimeSpan.FromTicks(Math.Max(1, time.GetElapsedTime(_askedAt, now).Ticks)));
        var want = need == 0 ? 0 : Math.Clamp((long)Math.Max(_wanted * pace, _waiting), need, Math.Max(need, RateLimiter.Burst(_rpm) / ShareMax));
        var ask = new BucketAsk(_rpm, need, want, IsLease: true, _finished);
        (_wanted, _askedAt, _finished) = (0, now, default);
        return _asking = AskAsync(ask, _unbrokenSince, now);
    }

    private async Task<bool> AskAsync(BucketAsk ask, long unbrokenSince, long askedAt)
    {
        BucketAnswer answer;
        try
        {
            answer = await take(ask);
        }
        catch (Exception fault) when (fault is RedisException or TimeoutException)
        {
            // What it may have taken is nobody's, and the bucket keeps its place until it has expired.
            lock (_lock)
                _over = (time.GetTimestamp() + Ticks(time, HoldOff), long.MaxValue, default, default);
            return false;
        }
        lock (_lock)
        {
            var part = new Part { Mark = answer.Mark, Count = answer.Taken, Left = answer.Taken, Until = askedAt + _life };
            var now = time.GetTimestamp();
            _remaining = answer.Remaining;
            if (ask.Rpm != _rpm || unbrokenSince != _unbrokenSince || now >= part.Until)
                Retire(ref part);
            else if (_current.Count == 0)
                _current = part;
            else
            {
                Retire(ref _next);
                _next = part;
            }
            if (answer.Taken < ask.Want)
            {
                var wait = answer.Wait > HoldOff ? answer.Wait : HoldOff;
                // What others spend or give back meanwhile is not known here: it is asked for again before long, in any case.
                var until = now + Math.Min(Ticks(time, wait), Ticks(time, 2 * HoldOff));
                _over = (until, answer.Taken > 0 ? 1 : ask.Need, wait, now);
            }
        }
        return true;
    }

    private static long Ticks(TimeProvider time, TimeSpan span) => (long)(span.TotalSeconds * time.TimestampFrequency);

    /// <summary>What one answer gave.</summary>
    private struct Part
    {
        public LeaseMark Mark;
        public long Count;
        public long Left;
        public long Until;
    }
}
