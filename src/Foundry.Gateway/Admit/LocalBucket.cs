namespace Foundry.Gateway.Admit;

/// <summary>A bucket of this gateway alone. It begins empty, unless it is nobody else's: what was spent elsewhere a moment ago is not known.</summary>
/// <param name="time">The clock; only its timestamps count.</param>
/// <param name="full">Whether it begins full.</param>
internal sealed class LocalBucket(TimeProvider time, bool full = false)
{
    private readonly Lock _lock = new();
    private TimeSpan? _fullAt = full ? TimeSpan.Zero : null;

    /// <summary>Spends of a rate that may be a share: less than one request a minute, too.</summary>
    /// <param name="rpm">The share, requests a minute.</param>
    /// <param name="cost">How much.</param>
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
