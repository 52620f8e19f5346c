using System.CommandLine;
using System.Diagnostics.CodeAnalysis;
using System.Net;
using Foundry.Cli.Witness;
using Foundry.Proofs;
using Foundry.Tokens;

namespace Foundry.Cli;

/// <summary><c>foundry witness …</c>: somebody else who remembers a log, so that its operator cannot change what it says (CONTRACT section 7).</summary>
internal static class WitnessCommands
{
    private const string NameDefault = "witness.local";
    private const string ListenDefault = "127.0.0.1:9331";
    private const int TrustBytesMax = 4 * 1024 * 1024;

    public static Command Create(GlobalOptions globals) => new Command("witness", "Witnesses: hold a log's operator to its history")
    {
        Key(globals),
        Run(globals),
        Follow(globals),
    };

    private static Verb Key(GlobalOptions globals)
    {
        var who = new Who();
        var verb = new Verb("key", "Show a witness's verifier key", "foundry witness key --key witness.key --name example.com/w1")
        {
            Details = ["This is what a ledger's operator puts into Ledger:Witnesses, and what verifiers require: name, key ID and public key (c2sp.org/tlog-cosignature)."],
        };
        who.AddTo(verb);
        return verb.RunsLocally(globals, (parse, output) =>
        {
            if (!who.TryRead(parse, output, out var key, out var name, out var complaint))
                return output.Misused(complaint.Value);
            using (key)
                output.Line(key.CosignerFor(name).VerifierKey);
            return ExitCode.Done;
        });
    }

    private static Verb Run(GlobalOptions globals)
    {
        var who = new Who();
        var memory = new Memory();
        var listen = new Option<string?>("--listen") { HelpName = "ADDRESS:PORT", Description = $"Where ledgers ask. Default: {ListenDefault}" };
        var verb = new Verb("run", "Cosign what ledgers bring, over HTTP",
            "foundry witness run --key witness.key --name example.com/w1 --log VKEY --state witness/ --begin",
            "foundry witness run --key witness.key --name example.com/w1 --trust logs.txt --state witness/ --listen 0.0.0.0:9331")
        {
            Details =
            [
                "Answers POST /add-checkpoint (c2sp.org/tlog-witness). It cosigns a checkpoint that a trusted key signed and that is proved to continue the last one it "
                    + "cosigned of that log, once that is on disk. It never cosigns a second history or a smaller log; what shows one is kept in the state folder's evidence/.",
                "The state folder is the witness: back it up never, restore it never. A witness that lost it must take a new key.",
                "Requests need no token: the log's signature is what counts. Put TLS in front of it where the network is not private.",
            ],
        };
        who.AddTo(verb);
        memory.AddTo(verb);
        verb.Options.Add(listen);
        return verb.RunsLocally(globals, async (parse, output, cancellationToken) =>
        {
            if (!IPEndPoint.TryParse(parse.GetValue(listen) ?? ListenDefault, out var endpoint))
                return output.Misused(new Complaint($"--listen: '{parse.GetValue(listen)}' is not an address and a port", $"write it as {ListenDefault}"));
            if (!TryOpen(parse, globals, output, who, memory, out var book, out var complaint))
                return output.Misused(complaint.Value);
            using (book)
            await using (var server = await WitnessServer.StartAsync(endpoint, book, output, cancellationToken))
            {
                output.Line(book.VerifierKey);
                output.Note($"witness of {book.Logs.Count} logs at {server.Address}");
                await WaitAsync(globals.Surroundings.Time, cancellationToken);
                output.Note("stopped");
                return ExitCode.Done;
            }
        });
    }

    private static Verb Follow(GlobalOptions globals)
    {
        var who = new Who();
        var memory = new Memory();
        var module = Take.Id("--module-id", "LOG", "The log. Default: the token's tenant");
        var once = new Option<bool>("--once") { Description = "Look once and end, for a timer to repeat" };
        var interval = Take.Duration("--interval", "Pause between looks. Default: 60s", WitnessFollower.IntervalMin, WitnessFollower.IntervalMax);
        var verb = new Verb("follow", "Check by oneself, with a token alone, that a log only grows",
            "foundry witness follow --key witness.key --log VKEY --state witness/ --begin --token-file acme.token",
            "foundry witness follow --key witness.key --log VKEY --state witness/ --once")
        {
            Details =
            [
                "Fetches the log's checkpoint through the gateway, checks its signature and, with the log's tiles, that it continues the one remembered, and cosigns it into "
                    + "the state folder. Each new checkpoint is a line on standard output: origin, entries, root.",
                "It ends with exit code 1 when the history was changed; both checkpoints, signed by the log, are then in the state folder's evidence/. "
                    + "Take VKEY from 'vkey' of GET /v1/contract once, and keep it: a key asked for anew each time proves nothing.",
            ],
        };
        who.AddTo(verb);
        memory.AddTo(verb);
        foreach (var option in new Option[] { module, once, interval })
            verb.Options.Add(option);
        return verb.Runs(globals, async (session, cancellationToken) =>
        {
            var parse = session.Parse;
            if ((parse.GetValue(module) ?? session.Token!.Claim("tenant_id")) is not { } log || !Take.IsId(log))
                return session.Output.Misused(new Complaint("the token names no tenant, so no log", "name the log with --module-id"));
            if (!TryOpen(parse, globals, session.Output, who, memory, out var book, out var complaint))
                return session.Output.Misused(complaint.Value);
            using (book)
            {
                if (book.Logs.Count != 1)
                    return session.Output.Misused(new Complaint($"the keys are of {book.Logs.Count} logs", "follow one log at a time, each with a state folder of its own"));
                var follower = new WitnessFollower(session.Gateway, session.Token!, log, book.Logs.Keys.Single(), book, parse.GetValue(interval) ?? WitnessFollower.IntervalDefault, session.Surroundings.Time, session.Output);
                return await follower.RunAsync(parse.GetValue(once), cancellationToken);
            }
        });
    }

    private static bool TryOpen(ParseResult parse, GlobalOptions globals, Output output, Who who, Memory memory, [NotNullWhen(true)] out WitnessBook? book, [NotNullWhen(false)] out Complaint? complaint)
    {
        book = null;
        if (!memory.TryReadLogs(parse, out var logs, out complaint) || !who.TryRead(parse, output, out var key, out var name, out complaint))
            return false;
        if (WitnessBook.TryOpen(parse.GetValue(memory.State)!, parse.GetValue(memory.Begin), key, name, logs, globals.Surroundings.Time, out book, out complaint))
            return true;
        key.Dispose();
        return false;
    }

    private static async Task WaitAsync(TimeProvider time, CancellationToken cancellationToken)
    {
        try
        {
            await Task.Delay(Timeout.InfiniteTimeSpan, time, cancellationToken);
        }
        catch (OperationCanceledException)
        {
            // The way it is meant to end.
        }
    }

    /// <summary>The witness itself.</summary>
    private sealed class Who
    {
        private readonly Option<string> _key = new("--key") { HelpName = "FILE", Description = "The witness's own key, as 'foundry keys new' makes it; used for nothing else", Required = true };
        private readonly Option<string?> _name = new("--name") { HelpName = "NAME", Description = $"The witness's name, as a URL without a scheme; fixed with the key. Default: {NameDefault}" };

        public void AddTo(Verb verb)
        {
            verb.Options.Add(_key);
            verb.Options.Add(_name);
            verb.Validators.Add(result =>
            {
                if (result.GetValue(_name) is { } name && (name.Length is 0 or > Take.IdCharsMax || name.Any(c => c == '+' || char.IsWhiteSpace(c) || char.IsControl(c))))
                    result.AddError($"--name: '{name}' is not a witness's name: no spaces and no '+', such as example.com/w1");
            });
        }

        public bool TryRead(ParseResult parse, Output output, [NotNullWhen(true)] out NoteKey? key, out string name, [NotNullWhen(false)] out Complaint? complaint)
        {
            key = null;
            name = parse.GetValue(_name) ?? NameDefault;
            if (!SecretFile.TryReadKey(parse.GetValue(_key)!, out var signing, out var warning, out complaint))
                return false;
            if (warning is not null)
                output.Note(warning);
            using (signing)
            {
                Base64UrlText.TryDecode(signing.ExportSeed(), out var seed);
                key = NoteKey.FromSeed(seed!);
                System.Security.Cryptography.CryptographicOperations.ZeroMemory(seed);
            }
            return true;
        }
    }

    /// <summary>What the witness follows, and where it remembers it.</summary>
    private sealed class Memory
    {
        private readonly Option<string[]> _logs = new("--log") { HelpName = "VKEY", Description = "A log's verifier key ('vkey' of GET /v1/contract); may be repeated, or joined by commas" };
        private readonly Option<string?> _trust = new("--trust") { HelpName = "FILE", Description = "Verifier keys of logs from a file, a line each; '#' begins a comment" };

        public Option<string> State { get; } = new("--state") { HelpName = "FOLDER", Description = "Where the witness remembers what it cosigned", Required = true };

        public Option<bool> Begin { get; } = new("--begin") { Description = "Begin a new memory; without it a folder without one is refused" };

        public void AddTo(Verb verb)
        {
            foreach (var option in new Option[] { _logs, _trust, State, Begin })
                verb.Options.Add(option);
        }

        public bool TryReadLogs(ParseResult parse, out IReadOnlyDictionary<string, LogVerifier> logs, [NotNullWhen(false)] out Complaint? complaint)
        {
            logs = new Dictionary<string, LogVerifier>();
            complaint = null;
            var keys = (parse.GetValue(_logs) ?? []).SelectMany(given => given.Split(',')).ToList();
            if (parse.GetValue(_trust) is { } file)
            {
                try
                {
                    if (new FileInfo(file).Length > TrustBytesMax)
                        complaint = new Complaint($"{file} is longer than {TrustBytesMax / 1024 / 1024} MiB", $"a witness follows at most {WitnessBook.LogsMax:N0} logs");
                    else
                        keys.AddRange(File.ReadLines(file).Select(line => line.Trim()).Where(line => line.Length > 0 && line[0] != '#'));
                }
                catch (Exception fault) when (fault is IOException or UnauthorizedAccessException)
                {
                    complaint = new Complaint($"{file} cannot be read: {fault.Message}", "name a file of verifier keys");
                }
            }
            if (complaint is null && keys.Count == 0)
                complaint = new Complaint("no log is named", "give its verifier key with --log, or a file of them with --trust");
            else if (complaint is null && !LogVerifier.TryParse(keys, out logs, out var unreadable))
                complaint = new Complaint($"'{unreadable}' is not a log's verifier key", "it is 'vkey' of GET /v1/contract: name+id+base64, of type 1");
            else if (logs.Count > WitnessBook.LogsMax)
                complaint = new Complaint($"there are {logs.Count:N0} logs", $"a witness follows at most {WitnessBook.LogsMax:N0}");
            return complaint is null;
        }
    }
}
