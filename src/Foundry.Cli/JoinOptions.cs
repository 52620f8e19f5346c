using System.CommandLine;
using System.Diagnostics.CodeAnalysis;
using Foundry.ServiceDefaults;
using Foundry.ServiceDefaults.Trust;
using Microsoft.Extensions.Configuration;

namespace Foundry.Cli;

/// <summary>What every way of joining takes, and what it does with it.</summary>
internal sealed class JoinOptions
{
    private const int CodeCharsMax = 256;
    private const int ThumbprintChars = 43;

    private readonly Option<string> _issuance = new("--issuance") { HelpName = "URL", Description = "Issuance's own address, not a gateway's", Required = true };
    private readonly Option<string> _root = new("--root") { HelpName = "THUMBPRINT", Description = "The thumbprint of the platform's root key: 'foundry part code' tells it, and issuance when it starts", Required = true };
    private readonly Option<string> _codeFile = new("--code-file") { HelpName = "FILE", Description = "The file with the code ('-': standard input)", Required = true };
    private readonly Option<string?> _data = Data();

    /// <summary>The folder of a platform's state.</summary>
    public static Option<string?> Data() => new("--data") { HelpName = "DIR", Description = "The state folder. Default: FOUNDRY_DATA, else ./data" };

    /// <summary>Adds the options to a command, and what it does.</summary>
    /// <param name="verb">The command.</param>
    /// <param name="globals">The global options.</param>
    /// <param name="part">The part's section of the settings, its kind and its name.</param>
    public Verb Runs(Verb verb, GlobalOptions globals, Func<ParseResult, (string Section, string Kind, string Name)> part)
    {
        foreach (var option in new Option[] { _issuance, _root, _codeFile, _data })
            verb.Options.Add(option);
        verb.Validators.Add(result =>
        {
            if (result.GetValue(_root) is { } root && (root.Length != ThumbprintChars || !Take.IsId(root)))
                result.AddError($"--root: '{root}' is not a thumbprint, which has {ThumbprintChars} characters");
        });
        verb.SetAction((parse, cancellationToken) => RunAsync(parse, globals, part(parse), cancellationToken));
        return verb;
    }

    private async Task<int> RunAsync(ParseResult parse, GlobalOptions globals, (string Section, string Kind, string Name) part, CancellationToken cancellationToken)
    {
        var output = globals.OutputOf(parse);
        if (!globals.TryReadAddress(parse, parse.GetValue(_issuance)!, "the code", out var issuance, out var complaint) || !TryReadCode(parse, globals, output, out var code, out complaint))
            return output.Misused(complaint.Value);
        try
        {
            var settings = new ConfigurationBuilder();
            ServiceHost.AddSettings(settings, parse.GetValue(_data) is { } data ? [new("DATA", data)] : []);
            var folder = ServiceHost.DataFolder(settings.Build(), part.Section);
            using var held = folder.Lock();
            using var http = new HttpMessageInvoker(new SocketsHttpHandler { AllowAutoRedirect = false, UseCookies = false, UseProxy = !issuance.IsLoopback });
            var (kid, why) = await PartJoin.JoinAsync(folder, part.Kind, part.Name, http, issuance, parse.GetValue(_root)!, code, cancellationToken);
            if (why is not null)
                return output.Failed(new Complaint($"{part.Name} has not joined: {why}", "a code is good for one part, once: 'foundry part code' makes another; then repeat this, the key is kept"));
            if (output.AsJson)
                output.Line($$"""{"name":"{{part.Name}}","kind":"{{part.Kind}}","kid":"{{kid}}"}""");
            else
                output.Line($"{part.Name} has joined with the key {kid}; its state is in {folder.Path}");
            output.Detail("next", $"start it with {ListenAddress.EnvironmentName("Trust:RootThumbprint")}={parse.GetValue(_root)} {ListenAddress.EnvironmentName("Issuance:Url")}={issuance.AbsoluteUri.TrimEnd('/')}");
            return ExitCode.Done;
        }
        catch (Exception fault) when (fault is StartupException or StateUnwritableException)
        {
            output.Note(fault.Message);
            return ExitCode.Failed;
        }
    }

    private bool TryReadCode(ParseResult parse, GlobalOptions globals, Output output, [NotNullWhen(true)] out string? code, [NotNullWhen(false)] out Complaint? complaint)
    {
        var file = parse.GetValue(_codeFile)!;
        complaint = null;
        if (file == TokenSource.StandardInput)
        {
            code = TokenSource.ReadInput(globals.Surroundings.Input);
        }
        else
        {
            code = null;
            if (!SecretFile.TryRead(file, CodeCharsMax, out var secret, out complaint))
                return false;
            if (secret.Warning is { } warning)
                output.Note(warning);
            code = secret.Text;
        }
        if (code.Length is > 0 and <= CodeCharsMax)
            return true;
        complaint = new Complaint($"what is in {file} is not a code", "a code is one line, as 'foundry part code' gives it");
        return false;
    }
}
