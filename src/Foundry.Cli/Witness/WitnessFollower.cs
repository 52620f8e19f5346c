using Foundry.Proofs;

namespace Foundry.Cli.Witness;

/// <summary>
/// A witness that nobody asks: it fetches a log's checkpoint through the gateway on its own schedule, checks with the log's
/// tiles that it continues the one it remembers, and cosigns it for its own book. All it needs is a token that reads the log.
/// </summary>
internal sealed class WitnessFollower(GatewayClient gateway, TokenSource token, string module, string origin, WitnessBook book, TimeSpan interval, TimeProvider time, Output output)
{
    public static readonly TimeSpan IntervalDefault = TimeSpan.FromMinutes(1);
    public static readonly TimeSpan IntervalMin = TimeSpan.FromSeconds(1);
    public static readonly TimeSpan IntervalMax = TimeSpan.FromDays(1);

    // A changed history is a grave charge: what was fetched while something went wrong is fetched once more before it is made.
    private const int AttemptsMax = 2;

    private string? _lastFailure;

    /// <summary>Follows until told to stop, or until the history was changed.</summary>
    public async Task<int> RunAsync(bool once, CancellationToken cancellationToken)
    {
        try
        {
            while (true)
            {
                token.Refresh();
                if (await LookAsync(cancellationToken) is { } exit && (once || exit.IsFinal))
                    return exit.Code;
                await Task.Delay(interval, time, cancellationToken);
            }
        }
        catch (OperationCanceledException) when (cancellationToken.IsCancellationRequested)
        {
            output.Note("stopped");
            return ExitCode.Done;
        }
    }

    private async Task<(int Code, bool IsFinal)?> LookAsync(CancellationToken cancellation)
    {
        for (var attempt = 1; ; attempt++)
        {
            // What does the log say of itself?
            var answer = await gateway.GetFileAsync($"/ledger/{module}/checkpoint", SignedNote.BytesMax, cancellation);
            if (!answer.IsAccepted)
                return (Failed(answer), false);
            if (!SignedNote.TryParse(answer.Body, out var note) || !book.Logs[origin].TryOpen(note, out var checkpoint))
                return (Told($"what {module} shows is no checkpoint of {origin} signed by a key given with --log",
                    "when its key was changed, the log has announced the new one: foundry ledger read --event-type KEY_ANNOUNCED; check it, and give both"), false);

            // Does it continue what was seen before?
            var remembered = book.Remembered(origin);
            if (checkpoint == remembered)
                return (Seen(checkpoint, remembered), false);
            TreeHash[] proof = [];
            var judged = WitnessVerdict.Inconsistent;
            var request = new AddCheckpoint(remembered?.Size ?? 0, proof, note);
            if (checkpoint.Size >= request.OldSize)
            {
                try
                {
                    proof = await TreeProof.ConsistencyAsync(new TreeReader(checkpoint.Size, TileAsync), request.OldSize, cancellation);
                }
                catch (InvalidDataException fault)
                {
                    return (Told($"{module} cannot be checked: {fault.Message}", "try again; when it stays so, the log does not show what its checkpoint signs"), false);
                }
                request = request with { Proof = proof };
                judged = book.Take(request, out _, out _);
            }
            if (judged == WitnessVerdict.Cosign)
                return (Seen(checkpoint, remembered), false);
            if (attempt < AttemptsMax)
                continue;
            book.KeepEvidence(origin, request);
            return (output.Failed(new Complaint(
                checkpoint.Size < request.OldSize
                    ? $"THE HISTORY OF {module} WAS CHANGED: it had {request.OldSize} entries and shows {checkpoint.Size}"
                    : $"THE HISTORY OF {module} WAS CHANGED: its {checkpoint.Size} entries do not continue the {request.OldSize} seen before",
                $"both checkpoints, each signed by the log, are kept in {book.EvidencePath}: anyone with the log's key can check them; ask the operator")), true);
        }
    }

    private async ValueTask<ReadOnlyMemory<byte>> TileAsync(Tile tile, CancellationToken cancellation)
    {
        var answer = await gateway.GetFileAsync($"/ledger/{module}/{tile.Path}", Tile.BytesMax, cancellation);
        return answer.IsAccepted ? answer.Body : throw new InvalidDataException($"{tile.Path}: {answer.Problem?.Title ?? answer.Failure}");
    }

    private int Seen(Checkpoint checkpoint, Checkpoint? remembered)
    {
        _lastFailure = null;
        if (checkpoint != remembered)
            output.Line($"{checkpoint.Origin} {checkpoint.Size} {Convert.ToBase64String(checkpoint.Root.Bytes)}");
        return ExitCode.Done;
    }

    // Each trouble is told once, not at every look.
    private int Failed(Answer answer)
    {
        var failure = $"{answer.Problem?.Code} {answer.Problem?.Reason} {answer.Failure}";
        if (failure != _lastFailure)
            output.Explain(answer);
        _lastFailure = failure;
        return ExitCode.Failed;
    }

    private int Told(string what, string next)
    {
        if (what != _lastFailure)
            output.Failed(new Complaint(what, next));
        _lastFailure = what;
        return ExitCode.Failed;
    }
}
