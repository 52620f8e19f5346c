using System.Data.Common;
using System.Diagnostics.Metrics;
using System.Net;
using System.Net.Http.Headers;
using System.Text;
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
    private static readonly TimeSpan LookAgain = TimeSpan.FromSeconds(5);
    private static readonly TimeSpan RetryMin = TimeSpan.FromMilliseconds(50);
    private static readonly TimeSpan RetryMax = TimeSpan.FromSeconds(5);

    private readonly Outbox _outbox;
    private readonly IHttpClientFactory _clients;
    private readonly TimeProvider _time;
    private readonly Readiness _readiness;
    private readonly ILogger<OutboxSender> _log;
    private int _untaken;

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
                var rows = await _outbox.OldestAsync(BatchRows, refusing, stoppingToken);
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
        // Logs are independent of each other; within one, order is kept by sending its rows one after the other.
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

    private async Task<(List<long> Sent, HttpRequestException? Fault)> SendLogAsync(HttpClient ledger, IEnumerable<OutboxRow> rows, CancellationToken cancellationToken)
    {
        var sent = new List<long>();
        foreach (var row in rows)
        {
            try
            {
                using var request = new HttpRequestMessage(HttpMethod.Post, "/v1/append") { Content = Body(row) };
                request.Headers.TryAddWithoutValidation(FoundryHeaders.ModuleId, row.ModuleId);
                using var answer = await ledger.SendAsync(request, cancellationToken);
                // 409: another producer told of the same fact first; the record is there.
                if (!answer.IsSuccessStatusCode && answer.StatusCode != HttpStatusCode.Conflict)
                    return (sent, new HttpRequestException($"{row.PayloadId} for {row.ModuleId}: status {(int)answer.StatusCode}", null, answer.StatusCode));
                if (answer.StatusCode == HttpStatusCode.Conflict)
                    _log.LogInformation("{PayloadId} was in {ModuleId} already, told by another", row.PayloadId, row.ModuleId);
                sent.Add(row.Id);
            }
            catch (HttpRequestException fault)
            {
                return (sent, fault);
            }
            catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
            {
                return (sent, new HttpRequestException("the ledger did not answer in time"));
            }
        }
        return (sent, null);
    }

    private static ByteArrayContent Body(OutboxRow row)
    {
        using var payload = JsonDocument.Parse(row.Payload);
        var body = JsonSerializer.SerializeToUtf8Bytes(new AppendRequest(row.PayloadId, payload.RootElement), WireJson.Default.AppendRequest);
        return new ByteArrayContent(body) { Headers = { ContentType = new MediaTypeHeaderValue("application/json") { CharSet = Encoding.UTF8.WebName } } };
    }
}
