using System.Text.Encodings.Web;
using System.Text.Json;
using Foundry.Contracts;
using Foundry.Ledger.Append;
using Foundry.Ledger.Storage;
using Foundry.Ledger.Witness;

namespace Foundry.Ledger.Read;

/// <summary><c>GET /v1/checkpoint</c>, <c>GET /v1/contract</c>.</summary>
internal static class CheckpointApi
{
    private const string WitnessedParameter = "witnessed";
    private const string NoteType = "text/plain; charset=utf-8";

    // A verifier key has two plus signs or more, and is copied by hand and by sed: they are written as they are.
    private static readonly WireJson _plain = new(new JsonSerializerOptions(WireJson.Default.Options) { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping });

    /// <summary>Maps the checkpoint.</summary>
    public static void MapCheckpoint(this IEndpointRouteBuilder endpoints) => endpoints.MapGet("/v1/checkpoint", CheckpointAsync);

    /// <summary>Maps the contract.</summary>
    public static void MapContract(this IEndpointRouteBuilder endpoints) => endpoints.MapGet("/v1/contract", Contract);

    /// <summary>The log's latest signed checkpoint (c2sp.org/tlog-checkpoint). It covers every append that was answered, and nothing that is not durable, and carries the cosignatures there are of it. With <c>?witnessed=true</c> the latest that the quorum of witnesses has cosigned, which may be older. <c>404</c> for a log without entries, or without such a checkpoint.</summary>
    private static async Task<IResult> CheckpointAsync(HttpContext context, LogShelf shelf, CosignedNotes notes) =>
        Access.TryOf(context, out var access, out var refusal) ? await OfAsync(context, shelf, notes, access.Module) : refusal;

    /// <summary>The leaf format's version, the origin and verifier key of the log's checkpoints, the key before while that one signs too, and the witnesses.</summary>
    private static IResult Contract(HttpContext context, LedgerState state, LedgerOptions options)
    {
        if (!Access.TryOf(context, out var access, out var refusal))
            return refusal;
        context.Response.Headers.CacheControl = CacheRules.Briefly;
        var origin = options.OriginOf(access.Module);
        var previous = state.Keys.PreviousOf(origin);
        return Results.Json(new LedgerContract(Entry.VersionNumber, access.Module.Name, origin, state.Keys.CurrentOf(origin).VerifierKey,
            previous?.VerifierKey, previous is null ? null : state.Keys.Rotation!.Until,
            options.Witnesses is [] ? null : options.Witnesses.ConvertAll(witness => witness.Vkey), options.Witnesses is [] ? null : Math.Max(1, options.WitnessQuorum)), _plain.LedgerContract);
    }

    /// <summary>The checkpoint of one log.</summary>
    public static async Task<IResult> OfAsync(HttpContext context, LogShelf shelf, CosignedNotes notes, ModuleId module)
    {
        if (await shelf.TryOpenAsync(module) is not { } log)
            return Access.Unknown;
        using (log)
        {
            context.Response.Headers.CacheControl = CacheRules.Never;
            var note = context.Request.Query[WitnessedParameter] == "true" ? notes.Witnessed(module) : notes.Decorate(module, log.State.Note);
            return note is null ? Access.Unknown : Results.Bytes(note, NoteType);
        }
    }
}
