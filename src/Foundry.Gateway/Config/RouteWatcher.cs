using Foundry.Contracts;
using Foundry.Gateway.Record;
using Yarp.ReverseProxy.Configuration;

namespace Foundry.Gateway.Config;

/// <summary>
/// Makes an edit live within a second. It looks at the bytes rather than listening for file events: rename-over, symlink swaps,
/// network file systems and half-written files differ in the events they cause, and not in the bytes that are there in the end.
/// </summary>
internal sealed class RouteWatcher(RouteTable table, IConfigValidator validator, GatewayMetrics metrics, Recorder recorder, TimeProvider time, ILogger<RouteWatcher> log) : BackgroundService
{
    private static readonly TimeSpan Interval = TimeSpan.FromMilliseconds(300);

    /// <inheritdoc/>
    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        using var timer = new PeriodicTimer(Interval, time);
        while (await timer.WaitForNextTickAsync(stoppingToken))
        {
            if (await table.RefreshAsync(validator) is not { } status)
                continue;
            metrics.ConfigReloaded(applied: status.Errors.Count == 0);
            if (status.Errors.Count == 0)
            {
                log.LogInformation("Route files applied: {Hash}", status.RunningHash);
                await recorder.TryAddAsync(Logs.Platform, new PlatformEvent
                {
                    EventType = EventTypes.ConfigReloaded,
                    EventId = Guid.CreateVersion7().ToString(),
                    Time = status.AppliedAt,
                    Actor = new EventActor(null, null, "service:gateway"),
                    Others = new(StringComparer.Ordinal) { ["hash"] = Recorder.Text(status.RunningHash) },
                });
            }
            else
                log.LogError("Route files not applied, the old ones go on: {Errors}", string.Join("; ", status.Errors));
        }
    }
}
