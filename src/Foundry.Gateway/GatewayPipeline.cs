using Foundry.Contracts;
using Foundry.Gateway.Admit;
using Foundry.Gateway.Authenticate;
using Foundry.Gateway.Authorize;
using Foundry.Gateway.Bound;
using Foundry.Gateway.Forward;
using Foundry.Gateway.Record;
using Yarp.ReverseProxy.Forwarder;

namespace Foundry.Gateway;

/// <summary>
/// The story of a request (CONTRACT section 4). Every request takes these steps in this order, and no step can skip another:
/// steps return values, and only <see cref="RunAsync"/> decides.
/// <para>
/// bound → match → authenticate → admit by rate → authorise → admit by quota → record decision → forward → filter → record outcome
/// </para>
/// Filtering cannot be a statement after forwarding, because the answer streams inside YARP: it is
/// <see cref="Filter.ResponseFilter"/>, put into every route by <see cref="BackendTransforms"/>.
/// </summary>
internal sealed class GatewayPipeline(Matcher matcher, Authenticator authenticator, RateGate rates, Authorizer authorizer, QuotaGate quotas,
    Recorder recorder, Outcome outcome, RefusalRecorder refusals, LiveRequests live, GatewayMetrics metrics, ILogger<GatewayPipeline> log)
{
    /// <summary>Takes a request through the steps.</summary>
    /// <param name="context">The request, as routing found it.</param>
    /// <param name="forward">What answers it: YARP, or the gateway itself; null where routing found nothing.</param>
    public async Task RunAsync(HttpContext context, RequestDelegate? forward)
    {
        var exchange = Exchange.Begin(context);
        try
        {
            // 1 Bound: is it a request that can be read in one way only?
            if (RequestBounds.Check(exchange) is { } unbounded)
            {
                await RefuseAsync(exchange, unbounded);
                return;
            }

            // 2 Match: which route is it on, byte for byte?
            if (matcher.Match(exchange, forward) is { } unmatched)
            {
                await RefuseAsync(exchange, unmatched);
                return;
            }

            // 3 Authenticate: who is calling?
            var (caller, stranger) = await authenticator.AuthenticateAsync(exchange);
            if (caller is null)
            {
                await RefuseAsync(exchange, stranger!);
                return;
            }
            exchange.Caller = caller;

            // 4 Admit by rate: is it their turn?
            if (await rates.AdmitAsync(exchange) is { } tooFast)
            {
                await RefuseAsync(exchange, tooFast);
                return;
            }

            // 5 Authorise: may they do this, to this?
            if (await authorizer.AuthorizeAsync(exchange) is { } forbidden)
            {
                await RefuseAsync(exchange, forbidden);
                return;
            }

            // 6 Admit by quota: is there room for what they ask?
            if (await quotas.AdmitAsync(exchange) is { } noRoom)
            {
                await RefuseAsync(exchange, noRoom);
                return;
            }

            // 7 Record the decision: will it be known, whatever happens next?
            if (await recorder.DecisionAsync(exchange) is { } unrecorded)
            {
                await quotas.CancelAsync(exchange);
                await RefuseAsync(exchange, unrecorded);
                return;
            }

            if (context.RequestAborted.IsCancellationRequested)
            {
                // Nobody waits for it, and nothing was sent: it is taken back rather than left to be found out.
                await WithdrawAsync(exchange);
                return;
            }

            // 8 Forward: what does the backend say? 9 Filter: what of it may they see? (ResponseFilter, inside.)
            using var held = exchange.Intent is null ? null : HeldAnswer.Begin(context);
            PassBody(exchange);
            live.Enter(exchange);
            await forward!(context);

            // 10 Record the outcome: what became of it?
            var failure = exchange.AnswerRefusal ?? FailureOf(context);
            if (held is not null)
            {
                failure = await outcome.SettleAsync(exchange, held.Body) ?? failure;
                if (failure is null)
                    await held.SendAsync();
                else
                    held.Discard();
            }
            if (failure is not null)
            {
                await RefuseAsync(exchange, failure);
                return;
            }
            exchange.Finished = !context.RequestAborted.IsCancellationRequested;
        }
        finally
        {
            // Did the token end while it ran?
            exchange.Refusal = live.Leave(exchange) ?? exchange.Refusal;
            if (exchange is { Intent: { } intent, Finished: false })
                recorder.Leave(intent);
            metrics.Decided(exchange);
            refusals.Note(exchange);
            Log(exchange);
        }
    }

    private async Task WithdrawAsync(Exchange exchange)
    {
        if (exchange.Intent is { } intent && !await recorder.TryWithdrawAsync(intent))
            return;
        await quotas.CancelAsync(exchange);
    }

    private static async Task RefuseAsync(Exchange exchange, Refusal refusal)
    {
        exchange.Refusal = refusal;
        if (exchange.Context.Response.HasStarted)
        {
            // After the first byte a clean end would be a lie: break off.
            exchange.Context.Abort();
            return;
        }
        // What a backend said in the head of an answer that is not passed on belongs to that answer.
        exchange.Context.Response.Headers.Clear();
        exchange.PutAnswerHeaders();
        await RefusalWriter.WriteAsync(exchange.Context, refusal);
    }

    /// <summary>The body that was read and checked is the body that is sent.</summary>
    private static void PassBody(Exchange exchange)
    {
        if (exchange.Body is not { } body)
            return;
        exchange.Context.Request.Body = new MemoryStream(body, writable: false);
        exchange.Context.Request.ContentLength = body.Length;
        exchange.Context.Request.Headers.TransferEncoding = default;
    }

    /// <summary>How forwarding failed, in the client's terms; a client that hung up is nobody's failure.</summary>
    private static Refusal? FailureOf(HttpContext context) => context.GetForwarderErrorFeature()?.Error switch
    {
        null => null,
        ForwarderError.RequestTimedOut or ForwarderError.UpgradeActivityTimeout => new Refusal(ErrorCode.BackendTimeout, "The backend did not answer in time."),
        ForwarderError.RequestCanceled or ForwarderError.RequestBodyCanceled or ForwarderError.ResponseBodyCanceled or ForwarderError.UpgradeRequestCanceled
            or ForwarderError.UpgradeResponseCanceled or ForwarderError.ResponseBodyClient or ForwarderError.RequestBodyClient when context.RequestAborted.IsCancellationRequested => null,
        _ => new Refusal(ErrorCode.BackendUnavailable, "The backend could not be reached, or broke off."),
    };

    private void Log(Exchange exchange) => Requests.Line(log, exchange.RequestId, exchange.Context.Request.Method, exchange.Route?.Path.Text ?? "", exchange.Context.Response.StatusCode,
        exchange.Refusal?.Reason ?? (exchange.Finished ? "served" : "aborted"), exchange.Caller.TenantId, exchange.Caller.Token?.Jti,
        System.Diagnostics.Stopwatch.GetElapsedTime(exchange.StartedAt).TotalMilliseconds);
}

/// <summary>The one log line of a request: route template, never the path; token ID, never the token.</summary>
internal static partial class Requests
{
    [LoggerMessage(1, LogLevel.Information, "{Method} {Route} {Status} {Outcome} tenant={Tenant} token={TokenId} request={RequestId} {ElapsedMs:0.00} ms")]
    public static partial void Line(ILogger logger, string requestId, string method, string route, int status, string outcome, string? tenant, string? tokenId, double elapsedMs);
}
