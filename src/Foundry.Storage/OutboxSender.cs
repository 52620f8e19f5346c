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
    private static readonly TimeSpan RetryMax = TimeSpan.FromSeconds(5);

    private readonly Outbox _outbox;
    private readonly IHttpClientFactory _clients;
    private readonly TimeProvider _time;
    private readonly Readiness _readiness;
    private readonly ILogger<OutboxSender> _log;

    /// <summary>Makes one.</summary>
    /// <param name="outbox">What is to be sent.</param>
    /// <param name="clients">Where the ledger's client is.</param>
    /// <param name="time">The clock.</param>
    /// <param name="readiness">Where "ledger" is reported; serving does not depend on it while the outbox has room.</param>
    /// <param name="log">The log.</param>
    public OutboxSender(Outbox outbox, IHttpClientFactory clients, TimeProvider time, Readiness readiness, ILogger<OutboxSender> log) =>
        (_outbox, _clients, _time, _readiness, _log) = (outbox, clients, time, readiness, log);

    /// <inheritdoc/>
    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        var retry = TimeSpan.FromMilliseconds(50);
        while (!stoppingToken.IsCancellationRequested)
        {
            try
            {
                var rows = await _outbox.OldestAsync(BatchRows, stoppingToken);
                if (rows.Count == 0)
                {
                    _readiness.Report("outbox", met: true, required: false);
                    await _outbox.WaitAsync(LookAgain, _time, stoppingToken);
                    continue;
                }
                await SendAsync(rows, stoppingToken);
                _readiness.Report("outbox", met: true, required: false);
                retry = TimeSpan.FromMilliseconds(50);
            }
            catch (Exception fault) when (fault is HttpRequestException || (fault is OperationCanceledException && !stoppingToken.IsCancellationRequested))
            {
                _readiness.Report("outbox", met: false, $"the ledger does not take events; {_outbox.Waiting} wait", required: false);
                _log.LogWarning("The ledger does not take events ({Reason}); {Waiting} wait", fault.Message, _outbox.Waiting);
                await Task.Delay(retry, _time, stoppingToken);
                retry = retry * 2 < RetryMax ? retry * 2 : RetryMax;
            }
        }
    }

    private async Task SendAsync(IReadOnlyList<OutboxRow> rows, CancellationToken cancellationToken)
    {
        var ledger = _clients.CreateClient(LedgerClient);
        // Logs are independent of each other; within one, order is kept by sending its rows one after the other.
        var sent = await Task.WhenAll(rows.GroupBy(row => row.ModuleId).Select(log => SendLogAsync(ledger, log, cancellationToken)));
        await _outbox.RemoveAsync([.. sent.SelectMany(log => log.Sent)], cancellationToken);
        if (sent.Select(log => log.Fault).FirstOrDefault(fault => fault is not null) is { } first)
            throw first;
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
                    return (sent, new HttpRequestException($"{row.PayloadId} for {row.ModuleId}: status {(int)answer.StatusCode}"));
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
