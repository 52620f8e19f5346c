using Foundry.Ledger.Storage;
using Foundry.Ledger.Witness;
using Foundry.Proofs;

namespace Foundry.Ledger.Read;

/// <summary><c>GET /ledger/{module_id}/…</c>: a log as any tlog client reads it (c2sp.org/tlog-tiles).</summary>
internal static class TilesApi
{
    private const string TileType = "application/octet-stream";

    /// <summary>Maps the endpoints.</summary>
    public static void MapTiles(this IEndpointRouteBuilder endpoints)
    {
        endpoints.MapGet("/ledger/{module_id}/checkpoint", CheckpointAsync);
        endpoints.MapGet("/ledger/{module_id}/tile/{**rest}", TileAsync);
    }

    /// <summary>The log's checkpoint, as <c>GET /v1/checkpoint</c> gives it.</summary>
    private static async Task<IResult> CheckpointAsync(HttpContext context, LogShelf shelf, CosignedNotes notes)
    {
        if (!Access.TryOf(context, out var access, out var refusal))
            return refusal;
        return IsNamed(context, access) ? await CheckpointApi.OfAsync(context, shelf, notes, access.Module) : Access.Unknown;
    }

    /// <summary>
    /// A hash tile or an entry bundle, of any width that the log has had. A bundle's read is recorded first, or not answered:
    /// <c>record_unavailable</c>. <c>404</c> for one that the log does not have yet, or is spelt in any but the one right way.
    /// </summary>
    private static async Task<IResult> TileAsync(HttpContext context, LogShelf shelf, ReadRecorder recorder, string rest)
    {
        if (!Access.TryOf(context, out var access, out var refusal))
            return refusal;
        if (!IsNamed(context, access) || !Tile.TryParse("tile/" + rest, out var tile) || await shelf.TryOpenAsync(access.Module) is not { } log)
            return Access.Unknown;
        using (log)
        {
            if (tile.Width > Tile.WidthAt(tile.Level, tile.Index, log.State.Size))
                return Access.Unknown;
            if (tile.IsEntries && !await recorder.TryRecordAsync(context, access, context.Request.Path))
                return ReadRecorder.Unrecorded;
            var bytes = await log.ReadAsync(state => LogReader.TileOf(state, tile));
            if (bytes is null)
                return Access.Unknown;
            context.Response.Headers.CacheControl = tile.IsEntries ? CacheRules.Never : tile.IsPartial ? CacheRules.Briefly : CacheRules.Immutable;
            return Results.Bytes(bytes, TileType);
        }
    }

    // The header has been checked against the caller, so the path must say the same.
    private static bool IsNamed(HttpContext context, Access access) =>
        string.Equals(context.GetRouteValue("module_id") as string, access.Module.Name, StringComparison.Ordinal);
}
