using System.CommandLine;
using System.Text.Json;
using Foundry.ServiceDefaults;
using Microsoft.Extensions.Configuration;

namespace Foundry.Cli;

/// <summary><c>foundry admin …</c>: for whoever has the platform's folder (CONTRACT section 1).</summary>
internal static class AdminCommands
{
    public static Command Create(GlobalOptions globals) => new Command("admin", "The platform administrator's way back")
    {
        Reset(globals),
    };

    private static Verb Reset(GlobalOptions globals)
    {
        var data = JoinOptions.Data();
        var yes = new Option<bool>("--yes") { Description = "Do not ask" };
        var verb = new Verb("reset", "Revoke every platform administrator's token and write a new one",
            "foundry admin reset --data /var/lib/foundry")
        {
            Details =
            [
                "Works on the folder of a stopped platform, standalone or issuance by itself, with the settings that it runs with (FOUNDRY_CONFIG, FOUNDRY_…). "
                    + "Codes that were made for parts and not used die too. What the old tokens issued or changed stays: look at it with 'foundry ledger read --module-id foundry.platform'.",
            ],
        };
        verb.Options.Add(data);
        verb.Options.Add(yes);
        verb.SetAction((parse, _) => RunAsync(globals, globals.OutputOf(parse), parse.GetValue(data), parse.GetValue(yes)));
        return verb;
    }

    private static async Task<int> RunAsync(GlobalOptions globals, Output output, string? data, bool yes)
    {
        var surroundings = globals.Surroundings;
        if (!yes)
        {
            if (surroundings.InputIsRedirected)
                return output.Misused(new Complaint("this revokes every platform administrator's token, and nobody is there to be asked", "say --yes"));
            output.Note("this revokes every platform administrator's token. Type yes to go on:");
            if (surroundings.Input.ReadLine()?.Trim() != "yes")
                return output.Failed(new Complaint("nothing was changed", "type yes, or say --yes"));
        }
        try
        {
            var file = await ResetAsync(data, surroundings.Time);
            output.Line(output.AsJson ? $$"""{"token_file":"{{JsonEncodedText.Encode(file)}}"}""" : $"every platform administrator's token is revoked; the new one is in {file}");
            return ExitCode.Done;
        }
        catch (Exception fault) when (fault is StartupException or StateUnwritableException)
        {
            output.Note(fault.Message);
            return ExitCode.Failed;
        }
    }

    private static async Task<string> ResetAsync(string? data, TimeProvider time)
    {
        var builder = new ConfigurationBuilder();
        ServiceHost.AddSettings(builder, data is null ? [] : [new("DATA", data)]);
        var settings = builder.Build();
        var root = settings["DATA"] is { Length: > 0 } named ? named : "data";
        // Standalone holds a lock on the folder as a whole and has the administrator's files there; issuance by itself has its own.
        if (!File.Exists(Path.Combine(root, "lock")))
            return await Issuance.Issuance.ResetAdministratorAsync(settings, time);
        var folder = StateFolder.Open(root);
        using var held = folder.Lock();
        builder.AddInMemoryCollection([new("Issuance:AdminFolder", folder.Path)]);
        return await Issuance.Issuance.ResetAdministratorAsync(builder.Build(), time);
    }
}
