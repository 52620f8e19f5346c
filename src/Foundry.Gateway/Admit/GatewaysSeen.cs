using System.Diagnostics.Metrics;
using System.Globalization;
using Foundry.Gateway.Config;
using StackExchange.Redis;

namespace Foundry.Gateway.Admit;

/// <summary>
/// How many gateways share the tenants' rates when the store is away: those that said in the store, within ten minutes and by its clock, that
/// they are there, and no fewer than expected. Off every request's path; while the store is away the last answer stands.
/// </summary>
internal sealed class GatewaysSeen : BackgroundService
{
    /// <summary>How long a gateway counts after it was last there.</summary>
    public static readonly TimeSpan SeenFor = TimeSpan.FromMinutes(10);
    private static readonly TimeSpan AnnounceInterval = TimeSpan.FromSeconds(10);
    private static readonly TimeSpan RetryInterval = TimeSpan.FromSeconds(1);

    // ARGV: name, microseconds that it counts.
    private static readonly Script Announce = new("""
        local t = redis.call('TIME')
        local now = tonumber(t[1]) * 1000000 + tonumber(t[2])
        local before = string.format('%.0f', now - tonumber(ARGV[2]))
        redis.call('ZADD', KEYS[1], string.format('%.0f', now), ARGV[1])
        redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', before)
        redis.call('PEXPIRE', KEYS[1], string.format('%.0f', math.floor(tonumber(ARGV[2]) / 1000)))
        return redis.call('ZCARD', KEYS[1])
        """);

    private readonly Store _store;
    private readonly GatewayOptions _options;
    private readonly TimeProvider _time;
    private volatile int _seen;

    /// <summary>Makes one, and the meters that show whether rates are shared.</summary>
    public GatewaysSeen(Store store, GatewayOptions options, IMeterFactory meters, TimeProvider time)
    {
        (_store, _options, _time) = (store, options, time);
        var meter = meters.Create(GatewayMetrics.MeterName);
        meter.CreateObservableGauge("foundry.limiter_mode", Modes, description: "1 for how rates are limited: shared by all gateways, or local to this one while Redis is away or slow");
        meter.CreateObservableGauge("foundry.gateways_seen", () => Count, description: "Gateways that share the rates where they are local");
    }

    /// <summary>How many share.</summary>
    public int Count => Math.Max(_seen, _options.GatewaysExpected);

    /// <inheritdoc/>
    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        using var timer = new PeriodicTimer(RetryInterval, _time);
        do
        {
            try
            {
                timer.Period = RetryInterval;
                if (!_store.IsUp)
                    continue;
                _seen = (int)await _store.EvaluateAsync(Announce, ["foundry:v1:gateways"], [_options.Name, SeenFor.TotalMicroseconds.ToString("F0", CultureInfo.InvariantCulture)]);
                timer.Period = AnnounceInterval;
            }
            catch (Exception fault) when (fault is RedisException or TimeoutException)
            {
                // The store says so itself; the last answer stands.
            }
        }
        while (await timer.WaitForNextTickAsync(stoppingToken));
    }

    private IEnumerable<Measurement<int>> Modes() =>
        [new(_store.IsFast ? 1 : 0, new KeyValuePair<string, object?>("mode", "shared")), new(_store.IsFast ? 0 : 1, new KeyValuePair<string, object?>("mode", "local"))];
}
