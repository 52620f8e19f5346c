using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using System.Text.Json;
using Foundry.Contracts;
using Foundry.Proofs;

namespace Foundry.Cli;

/// <summary>A log as a tlog client sees it (c2sp.org/tlog-tiles): behind the gateway, or in a copied folder.</summary>
/// <param name="Name">What it is called in messages.</param>
/// <param name="NoteAsync">Gives its checkpoint.</param>
/// <param name="WitnessedAsync">Gives the latest checkpoint that the log's quorum of witnesses has cosigned; null where there is none, or nobody to ask.</param>
/// <param name="Fetch">Gives its tiles and bundles; <see cref="InvalidDataException"/> says that one is not there.</param>
/// <param name="AtOnce">Bundles that are worth asking for at once.</param>
internal sealed record LogSource(string Name, Func<CancellationToken, Task<byte[]>> NoteAsync, Func<CancellationToken, Task<byte[]?>> WitnessedAsync, TileFetch Fetch, int AtOnce)
{
    /// <summary>The checkpoint's name in a log's folder.</summary>
    public const string CheckpointFile = "checkpoint";

    // A request each, and each is recorded; a tenth of a second's journey is an eighth of that with so many under way.
    private const int RequestsAtOnce = 8;

    /// <summary>A log behind the gateway. What the gateway refuses is thrown as <see cref="RefusedException"/>.</summary>
    public static LogSource Of(Session session, LedgerContract contract) => new(contract.ModuleId,
        cancellation => BytesAsync(session, contract.ModuleId, CheckpointFile, cancellation),
        async cancellation => await TryBytesAsync(session, contract.ModuleId, CheckpointFile, witnessed: true, cancellation),
        async (tile, cancellation) => await BytesAsync(session, contract.ModuleId, tile.Path, cancellation), RequestsAtOnce);

    /// <summary>A log's folder, as the ledger keeps it or as it was copied.</summary>
    public static LogSource Of(string folder) => new(folder,
        cancellation => File.ReadAllBytesAsync(Path.Combine(folder, CheckpointFile), cancellation),
        _ => Task.FromResult<byte[]?>(null),
        (tile, _) => ValueTask.FromResult(ReadTile(folder, tile)), AtOnce: 1);

    /// <summary>Asks what log it is, and by which key it is signed.</summary>
    public static async Task<(LedgerContract? Contract, Answer Answer)> ContractAsync(Session session, string? module, CancellationToken cancellationToken)
    {
        var answer = await session.Gateway.LedgerContractAsync(module, cancellationToken);
        if (!answer.IsAccepted)
            return (null, answer);
        try
        {
            if (JsonSerializer.Deserialize(answer.Body, WireJson.Default.LedgerContract) is { ModuleId: { } id, Vkey: { } vkey } contract && Take.IsId(id) && NoteVerifier.TryParse(vkey, out _))
                return (contract, answer);
        }
        catch (JsonException)
        {
        }
        return (null, answer with { Failure = "the answer does not say which log this is, and by which key" });
    }

    private static async Task<byte[]> BytesAsync(Session session, string module, string file, CancellationToken cancellation) =>
        await TryBytesAsync(session, module, file, witnessed: false, cancellation) ?? throw new InvalidDataException($"The gateway has no {file}.");

    private static async Task<byte[]?> TryBytesAsync(Session session, string module, string file, bool witnessed, CancellationToken cancellation)
    {
        var answer = await LedgerPages.PatientAsync(() => session.Gateway.LedgerFileAsync(module, file, witnessed, cancellation), session.Surroundings.Time, cancellation);
        return answer.IsAccepted ? answer.Body : answer.Status == 404 ? null : throw new RefusedException(answer);
    }

    private static ReadOnlyMemory<byte> ReadTile(string folder, Tile tile)
    {
        var sizeMax = tile.IsEntries ? EntryBundle.BytesMax : Tile.BytesMax;
        if (TryRead(Path.Combine(folder, tile.Path), sizeMax, out var bytes))
            return bytes;
        // The log may have grown since: then a wider one begins with this one.
        if (!tile.IsPartial || !TryReadWider(folder, tile, sizeMax, out bytes))
            throw new InvalidDataException($"{tile.Path} is not in {folder}, or too large.");
        if (!tile.IsEntries)
            return bytes.AsMemory(0, Math.Min(bytes.Length, tile.Width * TreeHash.Length));
        ReadOnlyMemory<byte> rest = bytes;
        for (var i = 0; i < tile.Width && EntryBundle.TryNext(ref rest, out _); i++)
        {
        }
        return bytes.AsMemory(0, bytes.Length - rest.Length);
    }

    private static bool TryReadWider(string folder, Tile tile, int sizeMax, [NotNullWhen(true)] out byte[]? bytes)
    {
        var full = Path.Combine(folder, tile.Full.Path);
        if (TryRead(full, sizeMax, out bytes))
            return true;
        var partials = full + ".p";
        var wider = !Directory.Exists(partials) ? null : Directory.EnumerateFiles(partials)
            .Where(file => int.TryParse(Path.GetFileName(file), NumberStyles.None, CultureInfo.InvariantCulture, out var width) && width > tile.Width)
            .Order(StringComparer.Ordinal).FirstOrDefault();
        return wider is not null && TryRead(wider, sizeMax, out bytes);
    }

    private static bool TryRead(string path, int sizeMax, [NotNullWhen(true)] out byte[]? bytes)
    {
        var file = new FileInfo(path);
        bytes = file.Exists && file.Length <= sizeMax ? File.ReadAllBytes(path) : null;
        return bytes is not null;
    }
}

/// <summary>The gateway refused, or could not be reached, in the middle of something that needs it.</summary>
internal sealed class RefusedException(Answer answer) : Exception
{
    /// <summary>Its answer.</summary>
    public Answer Answer { get; } = answer;
}
