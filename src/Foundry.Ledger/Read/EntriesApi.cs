using Foundry.Ledger.Storage;

namespace Foundry.Ledger.Read;

/// <summary><c>GET /v1/entries</c>.</summary>
internal static class EntriesApi
{
    /// <summary>Maps the endpoint.</summary>
    public static void MapEntries(this IEndpointRouteBuilder endpoints) => endpoints.MapGet("/v1/entries", ReadAsync);

    /// <summary>
    /// A page of a log's entries behind <c>since</c>, at most <c>limit</c> (100; to 10,000), fewer where they are large
    /// or far between; the last page is the one whose <c>next_cursor</c> is the <c>since</c> that was asked for (CONTRACT section 7). Any other parameter is a string member at the top of the payload and the value it must have, such
    /// as <c>event_type</c>. The read is recorded first, or not answered: <c>record_unavailable</c>.
    /// </summary>
    private static async Task<IResult> ReadAsync(HttpContext context, LogShelf shelf, ReadRecorder recorder)
    {
        if (!Access.TryOf(context, out var access, out var refusal))
            return refusal;
        if (!EntryQuery.TryParse(context.Request.Query, access.Module, out var query, out refusal))
            return refusal;
        context.Response.Headers.CacheControl = CacheRules.Never;
        if (await shelf.TryOpenAsync(access.Module) is not { } log)
            return Json(new EntryPage([], query.Since).ToJson(access.Module));
        using (log)
        {
            if (!await recorder.TryRecordAsync(context, access, context.Request.Path + context.Request.QueryString))
                return ReadRecorder.Unrecorded;
            return Json((await EntryPage.FindAsync(log, query, EntryPage.BytesMax)).ToJson(access.Module));
        }
    }

    private static IResult Json(ReadOnlyMemory<byte> page) => Results.Bytes(page, "application/json");
}
