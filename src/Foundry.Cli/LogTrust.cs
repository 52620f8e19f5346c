using System.CommandLine;
using System.Diagnostics.CodeAnalysis;
using Foundry.Contracts;
using Foundry.Proofs;

namespace Foundry.Cli;

/// <summary>The options that say whose word counts for a log.</summary>
internal sealed class LogTrustOptions
{
    /// <summary>Whose signature counts.</summary>
    public Option<string[]> Keys { get; } = new("--vkey") { HelpName = "KEY", Description = "The log's verifier key, as it was when you first trusted it; repeated where the log changed its key, each of them. Default: what the gateway says" };

    /// <summary>Who must have seen it.</summary>
    public Option<string[]> Witnesses { get; } = new("--witness") { HelpName = "KEY", Description = "A witness's verifier key: only what this witness has cosigned counts. May be repeated: then all of them must have" };

    /// <summary>Adds both.</summary>
    public void AddTo(Verb verb)
    {
        verb.Options.Add(Keys);
        verb.Options.Add(Witnesses);
    }

    /// <summary>What is given, else the key that the gateway says, which is then said.</summary>
    public bool TryRead(ParseResult parse, LedgerContract? contract, Output output, [NotNullWhen(true)] out LogTrust? trust, [NotNullWhen(false)] out Complaint? complaint)
    {
        trust = null;
        complaint = null;
        var given = parse.GetValue(Keys) ?? [];
        string[] keys = given.Length > 0 ? given : contract is null ? [] : [contract.Vkey];
        if (!LogVerifier.TryParse(keys, out var logs, out _) || logs.Count == 0)
            complaint = new Complaint("--vkey: this is no verifier key", "it is one word, NAME+ID+BASE64, as GET /v1/contract says it; put it in quotes");
        else if (logs.Count > 1)
            complaint = new Complaint($"--vkey: these are keys of {logs.Count} logs", "check one log at a time");
        if (complaint is not null)
            return false;
        var witnesses = new List<CosignatureVerifier>();
        foreach (var text in parse.GetValue(Witnesses) ?? [])
        {
            if (!CosignatureVerifier.TryParse(text, out var witness))
            {
                complaint = new Complaint("--witness: this is no witness's verifier key", "it is one word, NAME+ID+BASE64, as 'foundry witness key' shows it; put it in quotes");
                return false;
            }
            witnesses.Add(witness);
        }
        trust = new LogTrust(logs.Values.Single(), witnesses);
        if (given.Length == 0)
            output.Note($"the gateway says that this log's key is {trust.Log.Keys[0].VerifierKey}; pin it with --vkey");
        return true;
    }
}

/// <summary>Whose word counts for a log: the keys that sign it, and the witnesses that must have seen it.</summary>
/// <param name="Log">The log's keys.</param>
/// <param name="Witnesses">All of them must have cosigned.</param>
internal sealed record LogTrust(LogVerifier Log, IReadOnlyList<CosignatureVerifier> Witnesses)
{
    /// <summary>The log's latest checkpoint that all witnesses have cosigned, where any are asked for; else its latest.</summary>
    /// <param name="log">The log.</param>
    /// <param name="atLeast">Entries that it must cover, because they were seen before.</param>
    /// <param name="cancellationToken">Ends it.</param>
    /// <returns>The checkpoint and its bytes; or what is wrong, which is somebody's fault or only time's.</returns>
    public async Task<(Checkpoint? Checkpoint, byte[] Note, Complaint? Complaint)> OpenAsync(LogSource log, long atLeast, CancellationToken cancellationToken)
    {
        var note = await log.NoteAsync(cancellationToken);
        if (!Checkpoint.TryOpen(note, Log, out var latest))
            return (null, note, new Complaint($"the checkpoint of {log.Name} is not signed by that key", "check that the key is this log's; if it is, somebody else wrote this checkpoint, or it is damaged"));
        // The latest has the cosignatures that there are; on a busy log that is often none yet.
        if (MissingOf(note) is not { } missing)
            return (latest, note, null);
        if (await log.WitnessedAsync(cancellationToken) is { } older && Checkpoint.TryOpen(older, Log, out var witnessed))
        {
            if (MissingOf(older) is { } missingOlder)
                missing = missingOlder;
            else if (witnessed.Size >= atLeast)
                return (witnessed, older, null);
            else
                return (null, older, new Complaint($"of the {atLeast} entries that you checked before, the witnesses have cosigned {witnessed.Size}", "try again when they have caught up, or keep the witnessed checkpoints in a file of their own"));
        }
        return (null, note, NotWitnessed(log.Name, missing));
    }

    /// <summary>The first of the witnesses that has not cosigned a note, or whose signature on it is false.</summary>
    public CosignatureVerifier? MissingOf(ReadOnlySpan<byte> note) =>
        SignedNote.TryParse(note, out var signed)
        ? Witnesses.FirstOrDefault(witness => !witness.HasCosigned(signed, out _)) : throw new ArgumentException("Only of what was opened can it be asked who else signed it.", nameof(note));

    /// <summary>What is said where one has not.</summary>
    public static Complaint NotWitnessed(string name, CosignatureVerifier witness) =>
        new($"{Plain.Text(witness.Name)} has not cosigned the checkpoint of {name}", "ask who runs that witness whether it follows this log; without it, the log may be telling others something else");
}
