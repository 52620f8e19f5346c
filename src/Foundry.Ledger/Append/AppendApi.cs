using System.Text.Json;
using Foundry.Contracts;
using Foundry.Ledger.Storage;
using Foundry.ServiceDefaults;

namespace Foundry.Ledger.Append;

/// <summary><c>POST /v1/append</c>.</summary>
internal static class AppendApi
{
    /// <summary>Maps the endpoint.</summary>
    public static void MapAppend(this IEndpointRouteBuilder endpoints) => endpoints.MapPost("/v1/append", AppendAsync);

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
        if (await ReadBodyAsync(context) is not { } bytes)
            return TooLarge;
        if (!AppendBody.TryParse(bytes, out var body, out refusal))
            return refusal;
        if (body.IsReserved && !access.IsPart)
            return new Refused(ErrorCode.EventTypeReserved, "This event_type is written by the platform alone; choose another.");
        if (Entry.LeafBytesOf(access.Writer, body.PayloadId, body.Payload.Length) > Proofs.EntryBundle.EntryBytesMax)
            return TooLarge;

        using var log = await shelf.OpenOrCreateAsync(access.Module);
        var outcome = await log.AppendAsync(access.Writer, body.PayloadId, body.Payload, context.RequestAborted);
        return outcome.Status switch
        {
            // In one piece, with its length: a chunked answer is three writes.
            AppendStatus.Appended => Results.Bytes(JsonSerializer.SerializeToUtf8Bytes(new Appended(outcome.Cursor, body.PayloadId), WireJson.Default.Appended), "application/json; charset=utf-8"),
            AppendStatus.Conflict => new Refused(ErrorCode.PayloadConflict, "This payload_id was used for other bytes; an entry cannot be changed."),
            AppendStatus.TooLarge => TooLarge,
            AppendStatus.Busy => new Refused(ErrorCode.RecordUnavailable, "Too many appends wait in this log; repeat this one in a moment."),
            _ => new Refused(ErrorCode.RecordUnavailable, "The log takes no entries at the moment; repeat this one later."),
        };
    }

    private static Refused TooLarge { get; } = new(ErrorCode.EntryTooLarge, $"An entry, with writer, payload_id and time, is at most {Proofs.EntryBundle.EntryBytesMax} bytes.");

    private static async Task<byte[]?> ReadBodyAsync(HttpContext context)
    {
        if (context.Request.ContentLength > AppendBody.BytesMax)
            return null;
        var buffer = new byte[(context.Request.ContentLength ?? AppendBody.BytesMax) + 1];
        var length = await context.Request.Body.ReadAtLeastAsync(buffer, buffer.Length, throwOnEndOfStream: false, context.RequestAborted);
        return length <= AppendBody.BytesMax ? buffer[..length] : null;
    }
}
