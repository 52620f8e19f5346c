using System.Buffers;
using System.Data.Common;
using System.Diagnostics.Metrics;
using System.Net;
using System.Net.Http.Headers;
using System.Net.Http.Json;
using System.Text.Json;
using Foundry.Contracts;
using Foundry.ServiceDefaults;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace Foundry.Storage;

/// <summary>
/// Brings an outbox's events to the ledger, oldest first; one log that refuses does not hold up the others. Ledger away:
/// it waits and tries again, with nothing in memory but the batch in hand.
/// </summary>
public sealed class OutboxSender : BackgroundService
{
    /// <summary>Name of the ledger's client in <see cref="IHttpClientFactory"/>.</summary>
    public const string LedgerClient = "ledger";
    private const int BatchRows = 256;
    /// <summary>Batches in hand at once: behind a log whose events fill one, other logs' events do not wait.</summary>
    private const int BatchesMax = 8;
    /// <summary>Bytes of events after which a request takes no further one; an event is smaller than 64 KiB.</summary>
    private const int RequestBytesMax = 512 * 1024;
    private static readonly TimeSpan LookAgain = TimeSpan.FromSeconds(5);
    private static readonly TimeSpan CountAgain = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan RetryMin = TimeSpan.FromMilliseconds(50);
    private static readonly TimeSpan RetryMax = TimeSpan.FromSeconds(5);

    private readonly Outbox _outbox;
    private readonly IHttpClientFactory _clients;
    private readonly TimeProvider _time;
    private readonly Readiness _readiness;
    private readonly ILogger<OutboxSender> _log;
    private int _untaken;
    private long _countedAt = long.MinValue;

    /// <summary>Makes one.</summary>
    /// <param name="outbox">What is to be sent.</param>
    /// <param name="clients">Where the ledger's client is.</param>
    /// <param name="time">The clock.</param>
    /// <param name="readiness">Where "ledger" is reported; serving does not depend on it while the outbox has room.</param>
    /// <param name="meters">Where it is counted how many wait.</param>
    /// <param name="environment">Says which part this is.</param>
    /// <param name="log">The log.</param>
    public OutboxSender(Outbox outbox, IHttpClientFactory clients, TimeProvider time, Readiness readiness, IMeterFactory meters, IHostEnvironment environment, ILogger<OutboxSender> log)
    {
        (_outbox, _clients, _time, _readiness, _log) = (outbox, clients, time, readiness, log);
        var part = PartMetrics.LabelOf(environment);
        meters.Create(PartMetrics.Shared).CreateObservableGauge("foundry.outbox_waiting", () => new Measurement<long>(outbox.Waiting, part),
            description: $"Events that the ledger does not have yet; at {Outbox.EventsMax} changes are refused");
    }

    /// <inheritdoc/>
    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        var retry = RetryMin;
        // Logs that refused an event a moment ago: what is theirs waits, what is others' does not.
        var refusing = new HashSet<string>(StringComparer.Ordinal);
        var refusedAt = 0L;
        while (!stoppingToken.IsCancellationRequested)
        {
            try
            {
                if (refusing.Count > 0 && _time.GetElapsedTime(refusedAt) >= retry)
                {
                    refusing.Clear();
                    retry = Longer(retry);
                }
                var rows = await OldestAsync(refusing, stoppingToken);
                if (rows.Count > 0)
                {
                    if (refusing.Count == 0)
                        refusedAt = _time.GetTimestamp();
                    await SendAsync(rows, refusing, stoppingToken);
                }
                if (refusing.Count == 0)
                {
                    retry = RetryMin;
                    _untaken = 0;
                    _readiness.Report("outbox", met: true, required: false);
                }
                if (rows.Count > 0)
                    continue;
                var left = refusing.Count == 0 ? LookAgain : retry - _time.GetElapsedTime(refusedAt);
                if (left > TimeSpan.Zero)
                    await _outbox.WaitAsync(left, _time, stoppingToken);
            }
            catch (Exception fault) when (fault is HttpRequestException or DbException or IOException || (fault is OperationCanceledException && !stoppingToken.IsCancellationRequested))
            {
                ReportUntaken(fault.Message);
                await Task.Delay(retry, _time, stoppingToken);
                retry = Longer(retry);
            }
        }
    }

    /// <summary>The oldest events and, where those are a full batch, the oldest of other logs.</summary>
    private async Task<IReadOnlyList<OutboxRow>> OldestAsync(HashSet<string> refusing, CancellationToken cancellationToken)
    {
        var (rows, inHand) = (new List<OutboxRow>(), new HashSet<string>(refusing, StringComparer.Ordinal));
        for (var batches = 0; batches < BatchesMax; batches++)
        {
            var batch = await _outbox.OldestAsync(BatchRows, inHand, cancellationToken);
            rows.AddRange(batch);
            if (batch.Count < BatchRows)
                break;
            inHand.UnionWith(batch.Select(row => row.ModuleId));
        }
        if (_countedAt == long.MinValue || rows.Count == 0 || _time.GetElapsedTime(_countedAt) >= CountAgain)
        {
            await _outbox.CountAsync(cancellationToken);
            _countedAt = _time.GetTimestamp();
        }
        return rows;
    }

    private static TimeSpan Longer(TimeSpan retry) => retry * 2 < RetryMax ? retry * 2 : RetryMax;

    private void ReportUntaken(string reason)
    {
        _readiness.Report("outbox", met: false, $"the ledger does not take events; {_outbox.Waiting} wait", required: false);
        // Parts that start together find each other at the second or third try.
        _log.Log(++_untaken > 3 ? LogLevel.Warning : LogLevel.Debug, "The ledger does not take events ({Reason}); {Waiting} wait", reason, _outbox.Waiting);
    }

    private async Task SendAsync(IReadOnlyList<OutboxRow> rows, HashSet<string> refusing, CancellationToken cancellationToken)
    {
        var ledger = _clients.CreateClient(LedgerClient);
        // Logs are independent of each other; within one, the ledger keeps the order of a request, and requests follow each other.
        var sent = await Task.WhenAll(rows.GroupBy(row => row.ModuleId).Select(async log => (Log: log.Key, Result: await SendLogAsync(ledger, log, cancellationToken))));
        await _outbox.RemoveAsync([.. sent.SelectMany(log => log.Result.Sent)], cancellationToken);
        foreach (var (log, result) in sent)
        {
            if (result.Fault is not { } fault)
                continue;
            // Without a status there was no answer: it is the ledger that is away, not a log that refuses.
            if (fault.StatusCode is null)
                throw fault;
            refusing.Add(log);
            ReportUntaken(fault.Message);
        }
    }

    private static async Task<(List<long> Sent, HttpRequestException? Fault)> SendLogAsync(HttpClient ledger, IGrouping<string, OutboxRow> log, CancellationToken cancellationToken)
    {
        var (sent, waiting) = (new List<long>(), new Queue<OutboxRow>(log));
        while (waiting.Count > 0)
        {
            try
            {
                var (lines, body) = Lines(waiting);
                using var request = new HttpRequestMessage(HttpMethod.Post, "/internal/v1/append") { Content = body };
                request.Headers.TryAddWithoutValidation(FoundryHeaders.ModuleId, log.Key);
                using var answer = await ledger.SendAsync(request, cancellationToken);
                if (!answer.IsSuccessStatusCode)
                    return (sent, new HttpRequestException($"{lines} events for {log.Key}: status {(int)answer.StatusCode}", null, answer.StatusCode));
                var appended = await answer.Content.ReadFromJsonAsync(WireJson.Default.AppendedLines, cancellationToken);
                for (var taken = appended?.Taken ?? 0; taken > 0 && waiting.TryDequeue(out var row); taken--)
                    sent.Add(row.Id);
                if (appended?.Refused is { } refused)
                    return (sent, new HttpRequestException($"{waiting.Peek().PayloadId} for {log.Key}: {refused.Code}", null, (HttpStatusCode)refused.Status));
                if (appended is null or { Taken: < 1 })
                    return (sent, new HttpRequestException($"{lines} events for {log.Key}: the answer says nothing of them"));
            }
            catch (HttpRequestException fault)
            {
                return (sent, fault);
            }
            catch (JsonException fault)
            {
                return (sent, new HttpRequestException($"what the ledger answers cannot be read: {fault.Message}"));
            }
            catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
            {
                return (sent, new HttpRequestException("the ledger did not answer in time"));
            }
        }
        return (sent, null);
    }

    /// <summary>The next events, in lines: each is the body of <c>POST /v1/append</c>.</summary>
    private static (int Lines, ByteArrayContent Body) Lines(IEnumerable<OutboxRow> rows)
    {
        var (buffer, lines) = (new ArrayBufferWriter<byte>(), 0);
        using var json = new Utf8JsonWriter(buffer);
        foreach (var row in rows)
        {
            json.WriteStartObject();
            json.WriteString("payload_id", row.PayloadId);
            json.WritePropertyName("payload");
            json.WriteRawValue(row.Payload);
            json.WriteEndObject();
            json.Flush();
            json.Reset();
            buffer.Write("\n"u8);
            lines++;
            if (buffer.WrittenCount >= RequestBytesMax)
                break;
        }
        return (lines, new ByteArrayContent(buffer.WrittenSpan.ToArray()) { Headers = { ContentType = new MediaTypeHeaderValue("application/x-ndjson") } });
    }
}
