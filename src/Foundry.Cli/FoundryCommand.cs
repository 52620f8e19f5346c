using System.CommandLine;
using System.CommandLine.Help;
using System.CommandLine.Invocation;
using System.Text;
using System.Text.RegularExpressions;

namespace Foundry.Cli;

/// <summary>The command line as a whole: its nouns, its global options, what it does with a line that makes no sense.</summary>
internal static partial class FoundryCommand
{
    private const string Name = "foundry";

    /// <summary>Runs one command line and returns the process's exit code (<see cref="ExitCode"/>).</summary>
    public static async Task<int> RunAsync(IReadOnlyList<string> args, Surroundings surroundings, CancellationToken cancellationToken = default)
    {
        if (args.Any(argument => TokenText().IsMatch(argument)))
        {
            // Before anything else: the parser's own messages would repeat the token.
            await surroundings.Error.WriteLineAsync(
                "foundry: there is a token on the command line, where every process of this machine can read it and the shell's history keeps it.\n" +
                $"  next        revoke it, and give its successor in {TokenSource.EnvironmentVariable}, or in a file with --token-file FILE");
            return ExitCode.Usage;
        }

        // No @files and no bundled letters: a display name may begin with @, a public key with -o.
        var parse = Create(surroundings).Parse(args, new ParserConfiguration { EnablePosixBundling = false, ResponseFileTokenReplacer = null });
        if (parse.Action is ParseErrorAction || (parse.Action is null && parse.Errors.Count > 0))
        {
            var output = new Output(surroundings, asJson: false);
            var command = parse.CommandResult.Command;
            var isGroup = command.Subcommands.Count > 0;
            if (isGroup)
                output.Note(parse.UnmatchedTokens is [var unknown, ..] ? $"'{unknown}' is nothing that '{PathOf(parse)}' does" : $"'{PathOf(parse)}' does nothing by itself");
            foreach (var error in isGroup ? [] : parse.Errors)
                output.Note(error.Message);
            output.Detail("next", isGroup
                ? $"say which: {string.Join(", ", command.Subcommands.Select(sub => sub.Name))}; {PathOf(parse)} --help explains them"
                : $"see {PathOf(parse)} --help");
            return ExitCode.Usage;
        }

        await using var help = new StreamWriter(surroundings.Output, new UTF8Encoding(false), leaveOpen: true);
        try
        {
            return await parse.InvokeAsync(new InvocationConfiguration { Output = help, Error = surroundings.Error, EnableDefaultExceptionHandler = false }, cancellationToken);
        }
        catch (OperationCanceledException)
        {
            await surroundings.Error.WriteLineAsync("foundry: cancelled");
            return ExitCode.Interrupted;
        }
        catch (IOException fault)
        {
            // A full disk, a closed pipe: nothing of ours, and a stack trace would help nobody.
            await surroundings.Error.WriteLineAsync($"foundry: {Plain.Text(fault.Message)}");
            return ExitCode.Failed;
        }
    }

    private static Command Create(Surroundings surroundings)
    {
        var globals = new GlobalOptions(surroundings);
        // Not a RootCommand, which takes its name from whatever program it is run in.
        var root = new Verb(Name, "Foundry Gateway from a shell",
            "foundry --token-file data/admin.token status",
            "foundry tenant create acme-corp --display-name 'Acme Corporation' --max-vms 10 --storage-quota-gb 100 --api-rate-limit-rpm 600",
            "foundry keys new --out alice.key",
            "export PLATFORM_TOKEN=$(foundry token issue --tenant acme-corp --scope input --key-file alice.key --expires 24h)",
            "foundry vm list --output json | jq '.[].vm_id'",
            "foundry request GET /v1/quota")
        {
            Details =
            [
                "Everything goes through the gateway, but for joining a part and 'admin reset'. The token that says who you are comes from the environment variable "
                    + $"{TokenSource.EnvironmentVariable}, or from a file with --token-file; never from the command line, and it is never shown.",
                $"Where {GlobalOptions.KeyFileVariable} names the file of the token's key, each request carries a proof of it (DPoP), as bound tokens need.",
                "Exit codes: 0 done; 1 refused or failed; 2 the command line is wrong or incomplete, and nothing was sent; 130 interrupted.",
            ],
        };
        Command[] nouns =
        [
            TenantCommands.Create(globals),
            TokenCommands.Create(globals),
            KeysCommands.Create(globals),
            NodeCommands.Create(globals),
            VmCommands.Create(globals),
            LedgerCommands.Create(globals),
            WitnessCommands.Create(globals),
            StatusCommand.Create(globals),
            RequestCommand.Create(globals),
            PartCommands.Create(globals),
            GatewayCommands.Create(globals),
            AdminCommands.Create(globals),
        ];
        foreach (var noun in nouns)
            root.Subcommands.Add(noun);
        globals.AddTo(root);
        root.Options.Add(new VersionOption { Action = new PrintVersion() });
        root.Options.Add(new HelpOption { Action = new FullHelp(surroundings.Width) });
        return root;
    }

    private static string PathOf(ParseResult parse)
    {
        var names = new Stack<string>();
        for (var result = parse.CommandResult; result is not null; result = result.Parent as System.CommandLine.Parsing.CommandResult)
            names.Push(result.Command.Name);
        return string.Join(' ', names);
    }

    // A compact JWS whose header begins with {" (RFC 7515 section 3.1), wherever it stands in the argument.
    [GeneratedRegex(@"eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]*")]
    private static partial Regex TokenText();

    private sealed class PrintVersion : SynchronousCommandLineAction
    {
        public override int Invoke(ParseResult parseResult)
        {
            parseResult.InvocationConfiguration.Output.WriteLine($"foundry {typeof(FoundryCommand).Assembly.GetName().Version?.ToString(3)}");
            return ExitCode.Done;
        }
    }

    private sealed class FullHelp(int width) : SynchronousCommandLineAction
    {
        private const string Indent = "  ";

        private readonly HelpAction _usual = new() { MaxWidth = width };

        // Asking for help is never wrong, whatever else is missing on the line.
        public override bool ClearsParseErrors => true;

        public override int Invoke(ParseResult parseResult)
        {
            _usual.Invoke(parseResult);
            if (parseResult.CommandResult.Command is not Verb verb)
                return ExitCode.Done;
            var output = parseResult.InvocationConfiguration.Output;
            foreach (var paragraph in verb.Details)
            {
                foreach (var line in Wrap(paragraph, width - Indent.Length))
                    output.WriteLine(Indent + line);
                output.WriteLine();
            }
            output.WriteLine("Examples:");
            foreach (var example in verb.Examples)
                output.WriteLine(Indent + example);
            return ExitCode.Done;
        }

        private static IEnumerable<string> Wrap(string text, int columns)
        {
            while (text.Length > columns && text.LastIndexOf(' ', columns) is > 0 and var at)
            {
                yield return text[..at];
                text = text[(at + 1)..];
            }
            yield return text;
        }
    }
}

/// <summary>What the process says to its caller when it ends.</summary>
internal static class ExitCode
{
    /// <summary>Done.</summary>
    public const int Done = 0;
    /// <summary>It was tried, and refused or failed; standard error says why.</summary>
    public const int Failed = 1;
    /// <summary>The command line, its environment or a file it names is wrong or incomplete; nothing was sent.</summary>
    public const int Usage = 2;
    /// <summary>Stopped from outside (Ctrl-C, SIGTERM) before it was done: 128 and SIGINT's number, as shells have it.</summary>
    public const int Interrupted = 130;
}
