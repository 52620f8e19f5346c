using System.CommandLine;
using Foundry.Tokens;

namespace Foundry.Cli;

/// <summary><c>foundry keys …</c>: Ed25519 key files. Nothing here leaves the machine.</summary>
internal static class KeysCommands
{
    private const string FileDefault = "foundry.key";

    public static Command Create(GlobalOptions globals) => new Command("keys", "Ed25519 keys that tokens are issued to")
    {
        New(globals),
        Show(globals),
    };

    private static Verb New(GlobalOptions globals)
    {
        var file = new Option<string>("--out") { HelpName = "FILE", Description = $"Where to; never overwrites. Default: {FileDefault}" };
        var verb = new Verb("new", "Make a key", "foundry keys new --out alice.key")
        {
            Details = ["The file holds the private key (the 32-byte seed, one line of base64url, mode 0600): keep it where it was made. The public key goes to whoever issues the token."],
        };
        verb.Options.Add(file);
        return verb.RunsLocally(globals, (parse, output) =>
        {
            var path = parse.GetValue(file) ?? FileDefault;
            if (!SecretFile.TryReserve(path, out var secret, out var complaint))
                return output.Failed(complaint.Value);
            using (secret)
            using (var key = SigningKey.Generate())
            {
                secret.Write(key.ExportSeed());
                output.Note($"private key written to {path}; keep it secret");
                return Print(key.Public, output);
            }
        });
    }

    private static Verb Show(GlobalOptions globals)
    {
        var file = new Argument<string>("FILE") { Description = "A key file" };
        var verb = new Verb("show", "Show the public half of a key file", "foundry keys show alice.key") { file };
        return verb.RunsLocally(globals, (parse, output) =>
        {
            if (!SecretFile.TryReadKey(parse.GetValue(file)!, out var key, out var warning, out var complaint))
                return output.Misused(complaint.Value);
            if (warning is not null)
                output.Note(warning);
            using (key)
                return Print(key.Public, output);
        });
    }

    private static int Print(VerifyingKey key, Output output)
    {
        Base64UrlText.TryDecode(key.X, out var bytes);
        var hex = Convert.ToHexStringLower(bytes!);
        if (output.AsJson)
        {
            output.Line($$"""{"public_key":"{{key.X}}","hex":"{{hex}}","thumbprint":"{{key.Kid}}"}""");
            return ExitCode.Done;
        }
        output.Line($"public key  {key.X}");
        output.Line($"hex         {hex}");
        output.Line($"thumbprint  {key.Kid}");
        return ExitCode.Done;
    }
}
