using System.CommandLine;
using Foundry.Contracts;
using Foundry.Tokens;

namespace Foundry.Cli;

/// <summary><c>foundry part …</c>: which parts of the platform are believed (docs/decisions/0012).</summary>
internal static class PartCommands
{
    /// <summary>The services of a platform; any other name is a gateway's.</summary>
    private static readonly string[] Services = ["ledger", "fleet"];
    private static readonly TimeSpan ExpiresMin = TimeSpan.FromMinutes(1);
    private static readonly TimeSpan ExpiresMax = TimeSpan.FromDays(7);
    private static readonly string[] Columns = ["name", "kind", "kid", "joined_at"];

    public static Command Create(GlobalOptions globals) => new Command("part", "The platform's parts: who is believed, who may join")
    {
        Code(globals),
        Join(globals),
        List(globals),
        Remove(globals),
    };

    private static Verb Code(GlobalOptions globals)
    {
        var name = Take.Id("NAME", "The part's name: ledger, fleet, or one of your choice for a gateway");
        var expires = Take.Duration("--expires", "How long it may be used. Default: 1h", ExpiresMin, ExpiresMax);
        var verb = new Verb("code", "Make a code with which a part may join, once",
            "foundry part code gw-2",
            "foundry part code ledger --expires 10m > ledger.code")
        {
            Details = ["Standard output gets the code and nothing else; the root's thumbprint, which the part pins, is told on standard error. The code is shown this once."],
        };
        verb.Arguments.Add(name);
        verb.Options.Add(expires);
        return verb.Runs(globals, async (session, cancellationToken) =>
        {
            var part = session.Parse.GetValue(name)!;
            var answer = await session.Gateway.MakePartCodeAsync(new PartCodeRequest(KindOf(part), part, (long?)session.Parse.GetValue(expires)?.TotalSeconds), cancellationToken);
            return session.Output.Finish(answer, made =>
            {
                session.Output.Line(Member("code"));
                session.Output.Detail("kind", Member("kind"));
                session.Output.Detail("name", Member("name"));
                session.Output.Detail("expires at", Member("expires_at"));
                session.Output.Detail("root", Member("root_thumbprint"));

                string Member(string member) => made.TryGetProperty(member, out var value) ? value.ToString() : "-";
            });
        });
    }

    private static Verb List(GlobalOptions globals)
    {
        var cursor = Paging.Cursor();
        var verb = new Verb("list", "List the keys of the platform's parts", "foundry part list") { cursor };
        return verb.Runs(globals, (session, cancellationToken) =>
            Paging.RunAsync(session, session.Parse.GetValue(cursor), session.Gateway.ListPartsAsync, Columns, cancellationToken));
    }

    private static Verb Remove(GlobalOptions globals)
    {
        var kid = Take.Id("KID", "The key's thumbprint, as 'foundry part list' shows it");
        var verb = new Verb("remove", "Take a part's key out of the platform, everywhere and for good", "foundry part remove kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k")
        {
            Details = ["What it signs is refused within a second. A part with the deployment's code (Trust:JoinCode) can make a new key and join again: change that code too."],
        };
        verb.Arguments.Add(kid);
        return verb.Runs(globals, async (session, cancellationToken) =>
            session.Output.Finish(await session.Gateway.RemovePartAsync(session.Parse.GetValue(kid)!, cancellationToken), session.Output.Members));
    }

    private static Verb Join(GlobalOptions globals)
    {
        var name = new Argument<string>("NAME") { Description = "ledger or fleet; a gateway joins with 'foundry gateway join'" };
        name.AcceptOnlyFromAmong(Services);
        var join = new JoinOptions();
        var verb = new Verb("join", "Join a service to the platform, before it first starts here",
            "foundry part join ledger --issuance http://10.0.0.5:9210 --root THUMBPRINT --code-file ledger.code --data /var/lib/foundry");
        verb.Arguments.Add(name);
        return join.Runs(verb, globals, parse => (parse.GetValue(name)!, KindOf(parse.GetValue(name)!), parse.GetValue(name)!));
    }

    private static string KindOf(string name) => Services.Contains(name) ? TrustedKey.Service : TrustedKey.Gateway;
}
