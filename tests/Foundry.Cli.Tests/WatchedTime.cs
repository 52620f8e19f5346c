using System.Threading.Channels;
using Microsoft.Extensions.Time.Testing;

namespace Foundry.Cli.Tests;

/// <summary>A clock that stands still until told, and says when somebody has begun to wait for it.</summary>
internal sealed class WatchedTime() : FakeTimeProvider(new DateTimeOffset(2026, 6, 12, 9, 41, 7, TimeSpan.Zero).AddTicks(1_234_567))
{
    private readonly Channel<TimeSpan> _waits = Channel.CreateUnbounded<TimeSpan>();

    public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period)
    {
        var timer = base.CreateTimer(callback, state, dueTime, period);
        // A call's time-out is no pause of the agent's, nor a stream's; no test pauses for just as long.
        if (dueTime != GatewayClient.CallTimeout && dueTime != GatewayClient.SilenceMax && dueTime > TimeSpan.Zero)
            _waits.Writer.TryWrite(dueTime);
        return timer;
    }

    /// <summary>Waits until the agent pauses, lets the pause pass, and returns how long it was.</summary>
    public async Task<TimeSpan> PassPauseAsync()
    {
        var wait = await PauseAsync();
        Advance(wait);
        return wait;
    }

    /// <summary>Waits until the agent pauses, and leaves it there.</summary>
    public Task<TimeSpan> PauseAsync() =>
        _waits.Reader.ReadAsync(TestContext.Current.CancellationToken).AsTask().WaitAsync(StandInGateway.Patience, TestContext.Current.CancellationToken);
}
