using System.CommandLine;

namespace Foundry.Cli;

/// <summary><c>foundry status</c>: who the token says you are, and how much of the quota is used.</summary>
internal static class StatusCommand
{
    public static Command Create(GlobalOptions globals)
    {
        var tenant = Take.Tenant("Whose use to show; a tenant's own token shows its own");
        var verb = new Verb("status", "Show your tenant, scope, and use of the quota", "foundry status") { tenant };
        return verb.Runs(globals, async (session, cancellationToken) =>
            session.Output.Finish(await session.Gateway.StatusAsync(session.Parse.GetValue(tenant), cancellationToken), session.Output.Members));
    }
}
