using System.CommandLine;
using Foundry.Tokens;

namespace Foundry.Cli;

/// <summary><c>foundry gateway …</c> (CONTRACT section 1, Trust between parts).</summary>
internal static class GatewayCommands
{
    public static Command Create(GlobalOptions globals) => new Command("gateway", "Gateways: join another one")
    {
        Join(globals),
    };

    private static Verb Join(GlobalOptions globals)
    {
        var name = Take.Id("--name", "NAME", "The gateway's name, as its code was made for", required: true);
        var join = new JoinOptions();
        var verb = new Verb("join", "Join a gateway to the platform, before it first starts here",
            "foundry gateway join --name gw-2 --issuance http://10.0.0.5:9210 --root THUMBPRINT --code-file gw-2.code",
            "foundry part code gw-2 | ssh gw-2 foundry gateway join --name gw-2 --issuance http://10.0.0.5:9210 --root THUMBPRINT --code-file - --allow-http")
        {
            Details = ["Makes the gateway's key in its folder, has it let in with the code of 'foundry part code', and keeps what it is to trust there. The gateway then starts without a code, under this name."],
        };
        verb.Options.Add(name);
        return join.Runs(verb, globals, parse => ("gateway", TrustedKey.Gateway, parse.GetValue(name)!));
    }
}
