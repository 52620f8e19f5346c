using Foundry.Contracts;
using Foundry.Ledger.Append;
using Foundry.Ledger.Storage;

namespace Foundry.Ledger.Read;

/// <summary><c>GET /v1/checkpoint</c>, <c>GET /v1/contract</c>.</summary>
internal static class CheckpointApi
{
    private const string NoteType = "text/plain; charset=utf-8";

    /// <summary>Maps the checkpoint.</summary>
    public static void MapCheckpoint(this IEndpointRouteBuilder endpoints) => endpoints.MapGet("/v1/checkpoint", Checkpoint);

    /// <summary>Maps the contract.</summary>
    public static void MapContract(this IEndpointRouteBuilder endpoints) => endpoints.MapGet("/v1/contract", Contract);

    /// <summary>The log's latest signed checkpoint (c2sp.org/tlog-checkpoint). It covers every append that was answered, and nothing that is not durable. <c>404</c> for a log without entries.</summary>
    private static IResult Checkpoint(HttpContext context, LogShelf shelf) =>
        Access.TryOf(context, out var access, out var refusal) ? Of(context, shelf, access.Module) : refusal;

    /// <summary>The leaf format's version, the origin and verifier key of the log's checkpoints, and the key before while that one signs too.</summary>
    private static IResult Contract(HttpContext context, LedgerState state, LedgerOptions options)
    {
        if (!Access.TryOf(context, out var access, out var refusal))
            return refusal;
        context.Response.Headers.CacheControl = CacheRules.Briefly;
        var origin = options.OriginOf(access.Module);
        var previous = state.Keys.PreviousOf(origin);
        return Results.Json(new LedgerContract(Entry.VersionNumber, access.Module.Name, origin, state.Keys.CurrentOf(origin).VerifierKey,
            previous?.VerifierKey, previous is null ? null : state.Keys.Rotation!.Until), WireJson.Default.LedgerContract);
    }

    /// <summary>The checkpoint of one log.</summary>
    public static IResult Of(HttpContext context, LogShelf shelf, ModuleId module)
    {
        if (!shelf.TryOpen(module, out var log))
            return Access.Unknown;
        using (log)
        {
            context.Response.Headers.CacheControl = CacheRules.Never;
            return Results.Bytes(log.State.Note, NoteType);
        }
    }
}
