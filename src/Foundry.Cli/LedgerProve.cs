using System.CommandLine;
using Foundry.Proofs;

namespace Foundry.Cli;

/// <summary><c>foundry ledger prove</c>: a file that proves an entry to whoever has the log's verifier key.</summary>
internal static class LedgerProve
{
    public static Verb Create(GlobalOptions globals)
    {
        var entry = new Argument<long>("entry") { Description = "The entry's cursor: 1 is the first" };
        entry.Validators.Add(result =>
        {
            if (!long.TryParse(result.Tokens[0].Value, out var cursor) || cursor < 1)
                result.AddError($"entry: '{result.Tokens[0].Value}' is not a cursor: 1 is the first");
        });
        var file = new Option<string?>("--out") { HelpName = "FILE", Description = $"Write to this new file; by custom its name ends in {EntryProof.FileExtension}. Default: standard output" };
        var module = LedgerQuery.ModuleOption();
        var options = new LogTrustOptions();
        var verb = new Verb("prove", "Prove that an entry is in the log",
            "foundry ledger prove 42 --out 42.tlog-proof",
            "foundry ledger prove 42 --module-id foundry.platform > 42.tlog-proof")
        {
            Details =
            [
                "The proof is one file (c2sp.org/tlog-proof): the entry, its path to the root, and the checkpoint that the log signed. It is checked with "
                    + "'foundry ledger verify --proof FILE --vkey KEY', without a gateway or a token, or by anyone's program for that format. With --witness it is "
                    + "the checkpoint that this witness has cosigned.",
            ],
        };
        verb.Arguments.Add(entry);
        foreach (var option in new Option[] { file, module })
            verb.Options.Add(option);
        options.AddTo(verb);
        return verb.Runs(globals, async (session, cancellationToken) =>
        {
            var (contract, answer) = await LogSource.ContractAsync(session, session.Parse.GetValue(module), cancellationToken);
            if (contract is null)
                return session.Output.Refused(answer);
            if (!options.TryRead(session.Parse, contract, session.Output, out var trust, out var complaint))
                return session.Output.Misused(complaint.Value);
            try
            {
                var (proof, unproved) = await ProveAsync(LogSource.Of(session, contract), session.Parse.GetValue(entry), trust, cancellationToken);
                return proof is null ? session.Output.Failed(unproved!.Value) : Write(session, session.Parse.GetValue(file), proof.Encode());
            }
            catch (RefusedException refused)
            {
                return session.Output.Refused(refused.Answer);
            }
            catch (InvalidDataException fault)
            {
                return session.Output.Failed(new Complaint($"the log has not what proves it: {fault.Message}", "say so to the operator: 'foundry ledger verify' finds what is wrong"));
            }
        });
    }

    private static async Task<(EntryProof? Proof, Complaint? Unproved)> ProveAsync(LogSource log, long cursor, LogTrust trust, CancellationToken cancellationToken)
    {
        var (checkpoint, note, unsigned) = await trust.OpenAsync(log, 0, cancellationToken);
        if (checkpoint is null)
            return (null, unsigned);
        if (cursor > checkpoint.Size)
            return (null, new Complaint($"the {(trust.Witnesses.Count > 0 ? "witnessed log" : "log")} has {checkpoint.Size} entries, and no {cursor}", "give the cursor of an entry: 'foundry ledger read' shows them"));
        var index = cursor - 1;
        var bundle = new Tile(Tile.EntriesLevel, index / Tile.WidthMax, Tile.WidthAt(Tile.EntriesLevel, index / Tile.WidthMax, checkpoint.Size));
        var path = await TreeProof.InclusionAsync(new TreeReader(checkpoint.Size, log.Fetch), index, cancellationToken);
        if (!EntryBundle.TryRead(await log.Fetch(bundle, cancellationToken), bundle.Width, out var leaves))
            throw new InvalidDataException($"{bundle.Path} is damaged.");
        var leaf = leaves[index % Tile.WidthMax];
        var proof = new EntryProof(index, path, note, leaf);
        // Handed out only when it proves what it says.
        return proof.Proves(leaf.Span, trust.Log, out _)
            ? (proof, null)
            : (null, new Complaint($"entry {cursor} and its path do not lead to the signed root", "keep this log as it is: 'foundry ledger verify' finds what is wrong"));
    }

    private static int Write(Session session, string? path, byte[] proof)
    {
        if (path is null)
        {
            session.Surroundings.Output.Write(proof);
            session.Surroundings.Output.Flush();
            return ExitCode.Done;
        }
        if (!NewFile.TryCreate(path, out var file, out var complaint))
            return session.Output.Failed(complaint.Value);
        using (file)
            file.Write(proof);
        session.Output.Note($"written to {path}");
        return ExitCode.Done;
    }
}
