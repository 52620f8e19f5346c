namespace Foundry.Gateway.Tests;

/// <summary>The system's time, that a test can move forward at a stroke; timers go on as they were.</summary>
internal sealed class MovableTime : TimeProvider
{
    private long _moved;

    public void Move(TimeSpan by) => Interlocked.Add(ref _moved, by.Ticks);

    public override DateTimeOffset GetUtcNow() => base.GetUtcNow() + TimeSpan.FromTicks(Interlocked.Read(ref _moved));

    public override long GetTimestamp() => base.GetTimestamp() + (long)(TimeSpan.FromTicks(Interlocked.Read(ref _moved)).TotalSeconds * TimestampFrequency);
}
