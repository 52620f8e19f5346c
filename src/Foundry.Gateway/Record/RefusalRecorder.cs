using System.Collections.Concurrent;
using System.Threading.Channels;
using Foundry.Contracts;

namespace Foundry.Gateway.Record;

/// <summary>
/// Refusals in the caller's own log: the first per token, route, code and minute as it happens, the rest of that minute as a count
/// (CONTRACT section 7). Never in the way of an answer: what cannot be recorded is dropped and counted.
/// </summary>
internal sealed class RefusalRecorder(Recorder recorder, GatewayMetrics metrics, TimeProvider time) : BackgroundService
{
    private const int WaitingMax = 10_000;
    private const int KindsMax = 100_000;
    private readonly ConcurrentDictionary<(string Token, string Route, string Code), Repeats> _minute = new();
    private readonly Channel<(string Log, PlatformEvent Payload)> _waiting =
        Channel.CreateBounded<(string, PlatformEvent)>(new BoundedChannelOptions(WaitingMax) { FullMode = BoundedChannelFullMode.DropWrite });

    /// <summary>Notes a refusal, where it is one that is recorded.</summary>
    /// <param name="exchange">The request, refused.</param>
    public void Note(Exchange exchange)
    {
        if (exchange is not { Refusal: { } refusal, Caller.Token: { } token })
            return;
        // What may be foreign or absent is not recorded: the caller reads this log and must not learn which it was.
        var eventType = refusal.Error == ErrorCode.QuotaExceeded ? EventTypes.QuotaExceeded : refusal.Error.Status == 403 ? EventTypes.AccessDenied : null;
        if (eventType is null)
            return;
        var key = (token.Jti, exchange.Route?.RouteId ?? "", refusal.Error.Code);
        if (_minute.TryGetValue(key, out var repeats))
        {
            repeats.Add();
            return;
        }
        if (_minute.Count >= KindsMax)
        {
            metrics.RefusalRecordDropped();
            return;
        }
        var payload = recorder.NewEvent(exchange, eventType) with { TenantId = token.TenantId };
        payload.Others!["code"] = Recorder.Text(refusal.Error.Code);
        if (refusal.Shortage is { } shortage)
        {
            payload.Others["quota"] = Recorder.Text(shortage.Quota);
            payload.Others["limit"] = Recorder.Number(shortage.Limit);
            payload.Others["used"] = Recorder.Number(shortage.Used);
            payload.Others["requested"] = Recorder.Number(shortage.Requested);
        }
        var log = token.TenantId ?? Logs.Platform;
        if (_minute.TryAdd(key, new Repeats(log, payload)))
            Send(log, payload);
    }

    /// <inheritdoc/>
    protected override Task ExecuteAsync(CancellationToken stoppingToken) => Task.WhenAll(WriteAsync(stoppingToken), CountAsync(stoppingToken));

    private async Task WriteAsync(CancellationToken stoppingToken)
    {
        await foreach (var (log, payload) in _waiting.Reader.ReadAllAsync(stoppingToken))
            if (!await recorder.TryAddAsync(log, payload))
                metrics.RefusalRecordDropped();
    }

    private async Task CountAsync(CancellationToken stoppingToken)
    {
        using var timer = new PeriodicTimer(TimeSpan.FromMinutes(1), time);
        while (await timer.WaitForNextTickAsync(stoppingToken))
            foreach (var (key, repeats) in _minute)
                if (_minute.TryRemove(key, out _) && repeats.Count > 0)
                    Send(repeats.Log, repeats.First with
                    {
                        EventId = Guid.CreateVersion7().ToString(),
                        Time = time.GetUtcNow(),
                        RequestId = null,
                        Others = new(repeats.First.Others!, StringComparer.Ordinal) { ["repeats"] = Recorder.Number(repeats.Count) },
                    });
    }

    private void Send(string log, PlatformEvent payload)
    {
        if (!_waiting.Writer.TryWrite((log, payload)))
            metrics.RefusalRecordDropped();
    }

    private sealed class Repeats(string log, PlatformEvent first)
    {
        private long _count;
        public string Log => log;
        public PlatformEvent First => first;
        public long Count => Interlocked.Read(ref _count);
        public void Add() => Interlocked.Increment(ref _count);
    }
}
