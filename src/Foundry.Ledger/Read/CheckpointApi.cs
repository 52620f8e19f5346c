using Foundry.Contracts;
using Foundry.Ledger.Append;
using Foundry.Ledger.Storage;

namespace Foundry.Ledger.Read;

/// <summary><c>GET /v1/checkpoint</c>, <c>GET /v1/contract</c>.</summary>
internal static class CheckpointApi
{
    private const string NoteType = "text/plain; charset=utf-8";

    /// <summary>Maps the checkpoint.</summary>
    public static void MapCheckpoint(this IEndpointRouteBuilder endpoints) => endpoints.MapGet("/v1/checkpoint", CheckpointAsync);

    /// <summary>Maps the contract.</summary>
    public static void MapContract(this IEndpointRouteBuilder endpoints) => endpoints.MapGet("/v1/contract", Contract);

    /// <summary>The log's latest signed checkpoint (c2sp.org/tlog-checkpoint). It covers every append that was answered, and nothing that is not durable. <c>404</c> for a log without entries.</summary>
    private static async Task<IResult> CheckpointAsync(HttpContext context, LogShelf shelf) =>
        Access.TryOf(context, out var access, out var refusal) ? await OfAsync(context, shelf, access.Module) : refusal;

    /// <summary>The leaf format's version, and the origin and verifier key of the log's checkpoints.</summary>
    private static IResult Contract(HttpContext context, LogShelf shelf)
    {
        if (!Access.TryOf(context, out var access, out var refusal))
            return refusal;
        context.Response.Headers.CacheControl = CacheRules.Briefly;
        var verifier = shelf.VerifierOf(access.Module);
        return Results.Json(new LedgerContract(Entry.VersionNumber, access.Module.Name, verifier.Name, verifier.VerifierKey), WireJson.Default.LedgerContract);
    }

    /// <summary>The checkpoint of one log.</summary>
    public static async Task<IResult> OfAsync(HttpContext context, LogShelf shelf, ModuleId module)
    {
        if (await shelf.TryOpenAsync(module) is not { } log)
            return Access.Unknown;
        using (log)
        {
            context.Response.Headers.CacheControl = CacheRules.Never;
            return Results.Bytes(log.State.Note, NoteType);
        }
    }
}
