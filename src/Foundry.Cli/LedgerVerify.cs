using System.Buffers;
using System.CommandLine;
using System.Diagnostics.CodeAnalysis;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using Foundry.Proofs;

namespace Foundry.Cli;

/// <summary><c>foundry ledger verify</c>: a log, a copied folder or a proof file, held against the key that signs the log.</summary>
internal static class LedgerVerify
{
    private const string LeafVersion = "foundry-ledger-entry/v1";
    private const int LeafHeaderLines = 4;
    private static readonly JsonWriterOptions _relaxed = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    public static Verb Create(GlobalOptions globals)
    {
        var module = LedgerQuery.ModuleOption();
        var folder = new Option<string?>("--folder") { HelpName = "DIR", Description = "Check a copy of the log's folder; nothing is sent. Needs --vkey" };
        var proof = new Option<string?>("--proof") { HelpName = "FILE", Description = "Check a proof of one entry ('foundry ledger prove'); nothing is sent. Needs --vkey" };
        var options = new LogTrustOptions();
        var since = new Option<string?>("--since-checkpoint") { HelpName = "FILE", Description = "Keep the checkpoint in this file, and check that the log continues the one that is in it" };
        var all = new Option<bool>("--all") { Description = "Check also what the kept checkpoint covers" };
        var verb = new Verb("verify", "Check that a log is what was signed",
            "foundry ledger verify --since-checkpoint acme.checkpoint",
            "foundry ledger verify --folder backup/ledger/acme --vkey 'foundry.local/acme+…'",
            "foundry ledger verify --proof 42.tlog-proof --vkey 'foundry.local/acme+…' --witness 'witness.example/w1+…'")
        {
            Details =
            [
                "Every entry is hashed into the tree, and its root compared with the signed checkpoint; of a folder, every tile is compared too. What is wrong is named by "
                    + "its first bad entry, where the tiles prove one, with the last checkpoint that is still good. Exit code 1 says that something is wrong.",
                "A log that is rewritten and signed again looks whole to whoever has not seen it before. With --since-checkpoint you have: a rewritten log does not continue the "
                    + "checkpoint that you kept, and that shows. With it, only the entries since are read. Pin the key with --vkey: without it the gateway says whom to believe.",
                "With --witness somebody else has seen it: the latest checkpoint that this witness has cosigned is checked, and where there is none, that is an error. Of a folder it "
                    + "is the one that lies in it.",
            ],
        };
        foreach (var option in new Option[] { module, folder, proof, since, all })
            verb.Options.Add(option);
        options.AddTo(verb);
        verb.Validators.Add(result =>
        {
            var sources = new[] { module.Name, folder.Name, proof.Name }.Where(name => result.Children.Any(child => child is System.CommandLine.Parsing.OptionResult { Implicit: false } option && option.Option.Name == name)).ToList();
            if (sources.Count > 1)
                result.AddError($"{string.Join(" and ", sources)} name different things to check: give one");
            if ((result.GetValue(folder) ?? result.GetValue(proof)) is not null && result.GetValue(options.Keys) is null or [])
                result.AddError("--vkey is needed: nothing in a folder or a proof can say whom to believe");
        });
        verb.SetAction(async (parse, cancellationToken) =>
        {
            var output = globals.OutputOf(parse);
            var kept = new Kept(parse.GetValue(since), parse.GetValue(all));
            if (parse.GetValue(proof) is { } file)
                return options.TryRead(parse, null, output, out var trust, out var complaint) ? CheckProof(file, trust, output) : output.Misused(complaint.Value);
            if (parse.GetValue(folder) is { } path)
            {
                if (!File.Exists(Path.Combine(path, LogSource.CheckpointFile)))
                    return output.Misused(new Complaint($"{path} has no {LogSource.CheckpointFile}, so it is no log's folder", "name a folder below the ledger's, or a copy of one"));
                return options.TryRead(parse, null, output, out var trust, out var complaint)
                    ? await CheckAsync(LogSource.Of(path), trust, kept, includesTiles: true, globals.Surroundings, output, cancellationToken)
                    : output.Misused(complaint.Value);
            }
            if (!globals.TryOpen(parse, output, sendsToken: true, keyFile: null, out var session, out var misuse))
                return output.Misused(misuse.Value);
            using (session)
                return await CheckOnlineAsync(session, parse.GetValue(module), options, kept, cancellationToken);
        });
        return verb;
    }

    private static async Task<int> CheckOnlineAsync(Session session, string? module, LogTrustOptions options, Kept kept, CancellationToken cancellationToken)
    {
        var (contract, answer) = await LogSource.ContractAsync(session, module, cancellationToken);
        if (contract is null)
            return session.Output.Refused(answer);
        if (!options.TryRead(session.Parse, contract, session.Output, out var trust, out var complaint))
            return session.Output.Misused(complaint.Value);
        try
        {
            // Every tile is a request; they are read where something is wrong.
            return await CheckAsync(LogSource.Of(session, contract), trust, kept, includesTiles: false, session.Surroundings, session.Output, cancellationToken);
        }
        catch (RefusedException refused)
        {
            return session.Output.Refused(refused.Answer);
        }
        catch (InvalidDataException)
        {
            return session.Output.Failed(new Complaint($"log {contract.ModuleId} has no checkpoint", "there is nothing to check before its first entry"));
        }
    }

    private static async Task<int> CheckAsync(LogSource log, LogTrust trust, Kept kept, bool includesTiles, Surroundings surroundings, Output output, CancellationToken cancellationToken)
    {
        // What did the log sign before, and what now?
        if (!kept.TryRead(trust.Log, out var earlier, out var complaint))
            return output.Misused(complaint.Value);
        var (signed, note, unsigned) = await trust.OpenAsync(log, earlier?.Size ?? 0, cancellationToken);
        if (signed is null)
            return output.Failed(unsigned!.Value);

        // Is it that?
        var progress = new ProgressLine(surroundings, signed.Size);
        var check = new LogCheck(signed, log.Fetch) { Earlier = earlier, BeginsBehindEarlier = !kept.ChecksAll, IncludesTiles = includesTiles, ReadAhead = log.AtOnce, Progress = progress.Show };
        var fault = await check.RunAsync(cancellationToken);
        progress.End();
        if (fault is not null)
            return Fail(log, fault, signed, earlier, output);
        kept.Write(note);
        var result = new ArrayBufferWriter<byte>();
        using (var json = new Utf8JsonWriter(result, _relaxed))
        {
            json.WriteStartObject();
            json.WriteString("origin", signed.Origin);
            json.WriteNumber("entries", signed.Size);
            json.WriteString("root", Convert.ToBase64String(signed.Root.Bytes));
            if (earlier is not null)
                json.WriteNumber("continues", earlier.Size);
            if (trust.Witnesses.Count > 0)
                json.WriteString("witnessed_by", string.Join(", ", trust.Witnesses.Select(witness => witness.Name)));
            json.WriteString("verified", earlier is null || kept.ChecksAll ? "every entry" : $"entries after {earlier.Size}");
            json.WriteEndObject();
        }
        Show(result.WrittenMemory, output);
        return ExitCode.Done;
    }

    private static int Fail(LogSource log, LogFault fault, Checkpoint signed, Checkpoint? earlier, Output output)
    {
        var lastGood = fault.GoodSize == signed.Size ? signed : earlier is not null && earlier.Size <= fault.GoodSize ? earlier : null;
        output.Note($"{log.Name}: {fault.What}");
        if (fault.GoodSize < signed.Size)
            output.Detail("entry", fault.IsCertain ? $"{fault.GoodSize + 1} is the first bad one" : $"{fault.GoodSize + 1} is the first that is not proved to be as signed");
        output.Detail("good", fault.GoodSize == 0 ? "no entry" : $"entries 1 to {fault.GoodSize}");
        output.Detail("checkpoint", lastGood is null ? "no good one is known; --since-checkpoint keeps one" : $"the last good one is of {lastGood.Size} entries, root {Convert.ToBase64String(lastGood.Root.Bytes)}");
        output.Detail("next", "leave the log as it is, and compare with another copy of it");
        return ExitCode.Failed;
    }

    private static int CheckProof(string file, LogTrust trust, Output output)
    {
        byte[] bytes;
        try
        {
            if (new FileInfo(file).Length > EntryProof.BytesMax)
                return output.Failed(new Complaint($"{file} is longer than any proof", "name a file that 'foundry ledger prove' wrote"));
            bytes = File.ReadAllBytes(file);
        }
        catch (Exception fault) when (fault is IOException or UnauthorizedAccessException)
        {
            return output.Misused(new Complaint($"{file} cannot be read: {fault.Message}", "name a file that 'foundry ledger prove' wrote"));
        }
        if (!EntryProof.TryParse(bytes, out var proof))
            return output.Failed(new Complaint($"{file} is no proof", "it should be one as c2sp.org/tlog-proof has them; was it copied whole?"));
        if (proof.Extra is not { } entry)
            return output.Failed(new Complaint($"{file} does not hold the entry that it proves", "have one made by 'foundry ledger prove'"));
        if (!proof.Proves(entry.Span, trust.Log, out var checkpoint))
            return output.Failed(new Complaint($"{file} does not prove its entry by that key", "check that the key is that log's; if it is, the file is damaged, or was made up"));
        if (trust.MissingOf(proof.Note.Span) is { } missing)
            return output.Failed(LogTrust.NotWitnessed($"{checkpoint.Size} entries in {file}", missing));
        Show(Describe(proof, entry, checkpoint), output);
        return ExitCode.Done;
    }

    private static ReadOnlyMemory<byte> Describe(EntryProof proof, ReadOnlyMemory<byte> entry, Checkpoint checkpoint)
    {
        var result = new ArrayBufferWriter<byte>();
        using (var json = new Utf8JsonWriter(result, _relaxed))
        {
            json.WriteStartObject();
            json.WriteString("origin", checkpoint.Origin);
            json.WriteNumber("entries", checkpoint.Size);
            json.WriteNumber("cursor", proof.Index + 1);
            // docs/formats/ledger.md, "Leaf, version 1". Of another log, or a later version, the bytes are proved and not read.
            if (Encoding.UTF8.GetString(entry.Span).Split('\n', LeafHeaderLines + 1) is [LeafVersion, var writer, var id, var time, var payload] && IsJson(payload))
            {
                json.WriteString("payload_id", id);
                json.WriteString("writer", writer);
                json.WriteString("time", time);
                json.WritePropertyName("payload");
                json.WriteRawValue(payload);
            }
            else
            {
                json.WriteBase64String("entry", entry.Span);
            }
            json.WriteEndObject();
        }
        return result.WrittenMemory;
    }

    private static bool IsJson(string text)
    {
        try
        {
            JsonElement.Parse(text);
            return true;
        }
        catch (JsonException)
        {
            return false;
        }
    }

    private static void Show(ReadOnlyMemory<byte> json, Output output)
    {
        if (output.AsJson)
            output.Json(json.Span);
        else
            output.Members(JsonElement.Parse(json.Span));
    }

    /// <summary>The checkpoint that is kept from one check to the next.</summary>
    private sealed class Kept(string? file, bool checksAll)
    {
        /// <summary>Whether what it covers is checked again.</summary>
        public bool ChecksAll => checksAll;

        /// <summary>Reads it; null where none is kept yet. One that is not the log's is never taken for "none".</summary>
        public bool TryRead(LogVerifier verifier, out Checkpoint? earlier, [NotNullWhen(false)] out Complaint? complaint)
        {
            (earlier, complaint) = (null, null);
            if (file is null || !File.Exists(file))
                return true;
            if (new FileInfo(file).Length <= SignedNote.BytesMax && Checkpoint.TryOpen(File.ReadAllBytes(file), verifier, out earlier))
                return true;
            complaint = new Complaint($"what is in {file} is not a checkpoint of this log by that key", "name the file that was kept for this log; a new name begins anew");
            return false;
        }

        /// <summary>Puts a checkpoint in its place, whole.</summary>
        public void Write(byte[] note)
        {
            if (file is null)
                return;
            var temporary = file + ".tmp";
            File.WriteAllBytes(temporary, note);
            File.Move(temporary, file, overwrite: true);
        }
    }

    /// <summary>How far it is, where somebody looks at it.</summary>
    private sealed class ProgressLine(Surroundings surroundings, long total)
    {
        private const int Bars = 30;
        private static readonly TimeSpan _interval = TimeSpan.FromMilliseconds(100);
        private readonly long _began = surroundings.Time.GetTimestamp();
        private long _shown;

        public void Show(long done)
        {
            if (!surroundings.ErrorIsTerminal || surroundings.Time.GetElapsedTime(_shown) < _interval)
                return;
            _shown = surroundings.Time.GetTimestamp();
            var bars = (int)(done * Bars / total);
            var perSecond = done / Math.Max(surroundings.Time.GetElapsedTime(_began).TotalSeconds, 0.001);
            surroundings.Error.Write($"\r  [{new string('#', bars)}{new string('.', Bars - bars)}] {done:N0} of {total:N0} entries, {perSecond:N0}/s ");
        }

        public void End()
        {
            if (_shown != 0)
                surroundings.Error.Write($"\r{new string(' ', 79)}\r");
        }
    }
}
