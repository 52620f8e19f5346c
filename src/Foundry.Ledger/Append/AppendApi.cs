using System.Diagnostics.CodeAnalysis;
using System.Text.Json;
using Foundry.Contracts;
using Foundry.Ledger.Storage;
using Foundry.ServiceDefaults;
using Foundry.ServiceDefaults.Trust;

namespace Foundry.Ledger.Append;

/// <summary><c>POST /v1/append</c>, and what outboxes send.</summary>
internal static class AppendApi
{
    /// <summary>Lines of one request at most.</summary>
    public const int LinesMax = 1024;

    /// <summary>Maps the endpoints.</summary>
    public static void MapAppend(this IEndpointRouteBuilder endpoints)
    {
        endpoints.MapPost("/v1/append", AppendAsync);
        endpoints.MapPost("/internal/v1/append", AppendLinesAsync);
    }

    /// <summary>
    /// Appends an entry to the log that <c>X-Foundry-Module-ID</c> names, made where it does not exist (CONTRACT section 7).
    /// <c>200 {cursor, payload_id}</c> once it is durable, also for a repeat of the same bytes; else <c>payload_conflict</c>,
    /// <c>entry_too_large</c>, <c>event_type_reserved</c>, <c>module_required</c>, <c>invalid_body</c>, or
    /// <c>record_unavailable</c> when it cannot be made durable, in which case it may or may not be there and can be repeated.
    /// </summary>
    private static async Task<IResult> AppendAsync(HttpContext context, LogShelf shelf)
    {
        if (!Access.TryOf(context, out var access, out var refusal))
            return refusal;
        if (!context.Request.HasJsonContentType())
            return new Refused(ErrorCode.UnsupportedMediaType, "Send the body as application/json.");
        if (await ReadBodyAsync(context, AppendBody.BytesMax) is not { } bytes)
            return TooLarge;
        if (!TryRead(access, bytes, out var body, out refusal))
            return refusal;

        using var log = await shelf.OpenOrCreateAsync(access.Module);
        var outcome = await log.AppendAsync(access.Writer, body.PayloadId, body.Payload, context.RequestAborted);
        // In one piece, with its length: a chunked answer is three writes.
        return RefusalOf(outcome) ?? Results.Bytes(JsonSerializer.SerializeToUtf8Bytes(new Appended(outcome.Cursor, body.PayloadId), WireJson.Default.Appended), "application/json; charset=utf-8");
    }

    /// <summary>
    /// Appends what a part's outbox holds for one log (docs/architecture.md, Recording): bodies of <c>POST /v1/append</c>, one to a line. In
    /// their order, and none behind one that is not in the log. <c>200 {taken, refused?}</c>: so many lines, from the first on, are in the
    /// log, by this part or because another told of the same first; and why the next one is not. <c>insufficient_scope</c> to callers who are no part.
    /// </summary>
    private static async Task<IResult> AppendLinesAsync(HttpContext context, LogShelf shelf)
    {
        if (!Access.TryOf(context, out var access, out var refusal))
            return refusal;
        if (!access.IsPart)
            return new Refused(ErrorCode.InsufficientScope, "This is for parts of the platform, speaking for themselves.");
        if (await ReadBodyAsync(context, AssertionGate.BodyBytesMax) is not { } bytes)
            return new Refused(ErrorCode.BodyTooLarge, $"A body is at most {AssertionGate.BodyBytesMax} bytes.");
        var bodies = new List<AppendBody>();
        foreach (var line in Lines(bytes))
        {
            if (bodies.Count == LinesMax)
                refusal = new Refused(ErrorCode.InvalidBody, $"Send at most {LinesMax} lines.");
            else if (TryRead(access, line, out var body, out refusal))
            {
                bodies.Add(body);
                continue;
            }
            break;
        }
        var taken = 0;
        if (bodies.Count > 0)
        {
            using var log = await shelf.OpenOrCreateAsync(access.Module);
            var outcomes = await log.AppendInOrderAsync(access.Writer, bodies, context.RequestAborted);
            taken = outcomes.Count(outcome => outcome.IsThere);
            if (taken < bodies.Count)
                refusal = RefusalOf(outcomes[^1]);
        }
        return Results.Json(new AppendedLines(taken, refusal is null ? null : Problems.Of(context, refusal.Error, refusal.Detail)), WireJson.Default.AppendedLines);
    }

    private static bool TryRead(Access access, ReadOnlyMemory<byte> bytes, [NotNullWhen(true)] out AppendBody? body, [NotNullWhen(false)] out Refused? refusal)
    {
        if (!AppendBody.TryParse(bytes, out body, out refusal))
            return false;
        if (body.IsReserved && !access.IsPart)
            refusal = new Refused(ErrorCode.EventTypeReserved, "This event_type is written by the platform alone; choose another.");
        else if (Entry.LeafBytesOf(access.Writer, body.PayloadId, body.Payload.Length) > Proofs.EntryBundle.EntryBytesMax)
            refusal = TooLarge;
        return refusal is null;
    }

    private static Refused? RefusalOf(AppendOutcome outcome) => outcome.Status switch
    {
        AppendStatus.Appended => null,
        AppendStatus.Conflict => new Refused(ErrorCode.PayloadConflict, "This payload_id was used for other bytes; an entry cannot be changed."),
        AppendStatus.TooLarge => TooLarge,
        AppendStatus.Busy => new Refused(ErrorCode.RecordUnavailable, "Too many appends wait in this log; repeat this one in a moment."),
        _ => new Refused(ErrorCode.RecordUnavailable, "The log takes no entries at the moment; repeat this one later."),
    };

    private static IEnumerable<ReadOnlyMemory<byte>> Lines(ReadOnlyMemory<byte> bytes)
    {
        while (bytes.Length > 0)
        {
            var end = bytes.Span.IndexOf((byte)'\n');
            yield return end < 0 ? bytes : bytes[..end];
            bytes = end < 0 ? default : bytes[(end + 1)..];
        }
    }

    private static Refused TooLarge { get; } = new(ErrorCode.EntryTooLarge, $"An entry, with writer, payload_id and time, is at most {Proofs.EntryBundle.EntryBytesMax} bytes.");

    private static async Task<byte[]?> ReadBodyAsync(HttpContext context, int bytesMax)
    {
        if (context.Request.ContentLength > bytesMax)
            return null;
        var buffer = new byte[(context.Request.ContentLength ?? bytesMax) + 1];
        var length = await context.Request.Body.ReadAtLeastAsync(buffer, buffer.Length, throwOnEndOfStream: false, context.RequestAborted);
        return length <= bytesMax ? buffer[..length] : null;
    }
}
