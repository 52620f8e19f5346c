using System.Globalization;
using Foundry.Contracts;
using Foundry.Ledger.Storage;
using Foundry.ServiceDefaults;

namespace Foundry.Ledger.Read;

/// <summary><c>GET /v1/tail</c>.</summary>
internal static class TailApi
{
    private const string EventStream = "text/event-stream";
    private const string Lines = "application/x-ndjson";
    private const string LastEventId = "Last-Event-ID";

    /// <summary>Maps the endpoint.</summary>
    public static void MapTail(this IEndpointRouteBuilder endpoints) => endpoints.MapGet("/v1/tail", FollowAsync);

    /// <summary>
    /// A log's entries behind <c>since</c> (or <c>Last-Event-ID</c>; without either, those to come), and then each one as it is
    /// committed, with the filters of <c>GET /v1/entries</c>. NDJSON, an entry a line; or server-sent events, where <c>Accept</c>
    /// asks for them, with the cursor as their ID. The first line and those of quiet times say <c>next_cursor</c> alone: where to
    /// go on. The stream ends by itself after <see cref="LedgerOptions.TailTimeMax"/>, with the token, and when the ledger stops.
    /// The read is recorded first, once a stream, or not answered: <c>record_unavailable</c>. <c>rate_limited</c>: so many follow
    /// already.
    /// </summary>
    private static async Task<IResult> FollowAsync(HttpContext context, LogShelf shelf, ReadRecorder recorder, TailSeats seats, LedgerOptions options, TimeProvider time, IHostApplicationLifetime lifetime)
    {
        if (!Access.TryOf(context, out var access, out var refusal))
            return refusal;
        if (!EntryQuery.TryParse(context.Request.Query, access.Module, out var query, out refusal) || !TrySince(context, ref query, out var since, out refusal))
            return refusal;
        if (!seats.TryTake(access.Module, out var seat))
            return new Refused(ErrorCode.RateLimited, "So many follow this log, or logs, at once already.") { RetryAfter = options.TailTimeMax };
        using (seat)
        {
            if (!await recorder.TryRecordAsync(context, access, context.Request.Path + context.Request.QueryString))
                return ReadRecorder.Unrecorded;
            var asEvents = context.Request.Headers.Accept.Any(accepted => accepted?.Contains(EventStream, StringComparison.OrdinalIgnoreCase) == true);
            context.Response.ContentType = asEvents ? EventStream : Lines;
            context.Response.Headers.CacheControl = CacheRules.Never;
            await ServeAsync(new Tail(context.Response.BodyWriter, shelf, access.Module, query, asEvents, options, time), since, access, context, options, time, lifetime);
            return Results.Empty;
        }
    }

    private static async Task ServeAsync(Tail tail, long? since, Access access, HttpContext context, LedgerOptions options, TimeProvider time, IHostApplicationLifetime lifetime)
    {
        var left = access.Who.TokenExp is { } exp ? DateTimeOffset.FromUnixTimeSeconds(exp) - time.GetUtcNow() : TimeSpan.MaxValue;
        using var limit = new CancellationTokenSource(TimeSpan.FromTicks(Math.Clamp(left.Ticks, 0, options.TailTimeMax.Ticks)), time);
        using var ending = CancellationTokenSource.CreateLinkedTokenSource(limit.Token, context.RequestAborted, lifetime.ApplicationStopping);
        try
        {
            await tail.RunAsync(since, ending.Token);
        }
        catch (OperationCanceledException) when (ending.IsCancellationRequested)
        {
            // Its time is up, or the ledger stops: what was sent was whole lines, and the follower knows where to go on.
        }
    }

    // A tail has no end, so a limit means nothing. What a browser's EventSource says when it comes back is later than its URL.
    private static bool TrySince(HttpContext context, ref EntryQuery query, out long? since, [System.Diagnostics.CodeAnalysis.NotNullWhen(false)] out Refused? refusal)
    {
        since = context.Request.Query.ContainsKey("since") ? query.Since : null;
        refusal = context.Request.Query.ContainsKey("limit") ? new Refused(ErrorCode.InvalidQuery, "A tail takes no limit.") : null;
        if (context.Request.Headers.TryGetValue(LastEventId, out var last))
        {
            if (long.TryParse(last, NumberStyles.None, CultureInfo.InvariantCulture, out var cursor))
                since = cursor;
            else
                refusal = new Refused(ErrorCode.InvalidHeader, $"{LastEventId} is a cursor: 0 or more.");
        }
        return refusal is null;
    }
}
