using System.CommandLine;

namespace Foundry.Cli;

/// <summary><c>foundry node …</c> (CONTRACT section 6).</summary>
internal static class NodeCommands
{
    private static readonly string[] Columns = ["node_id", "tenant_id", "wg_ip", "stale", "vm_count", "ram_total_mb", "ram_allocated_mb", "cpu_cores", "cpu_load_pct", "last_seen"];

    public static Command Create(GlobalOptions globals) => new Command("node", "Nodes: the machines that VMs run on")
    {
        Run(globals),
        List(globals),
    };

    private static Verb List(GlobalOptions globals)
    {
        var tenant = Take.Tenant("Only this tenant's; a tenant's own token sees its own anyway");
        var verb = new Verb("list", "List nodes", "foundry node list") { tenant };
        return verb.Runs(globals, async (session, cancellationToken) =>
            session.Output.Finish(await session.Gateway.ListNodesAsync(session.Parse.GetValue(tenant), cancellationToken),
                list => session.Output.Rows(Output.Elements(list), Columns)));
    }

    private static Verb Run(GlobalOptions globals)
    {
        var nodeId = Take.Id("--node-id", "ID", "The node's name; the first heartbeat enrols it, and it belongs to the token's key from then on", required: true);
        var keyFile = new Option<string?>("--key-file") { HelpName = "FILE", Description = "The node's key: checked to be the one the token was issued to" };
        var once = new Option<bool>("--once") { Description = "Send one heartbeat and end" };
        var interval = Take.Duration("--interval", "Pause between heartbeats where the fleet does not say one. Default: 10s", NodeAgent.IntervalMin, NodeAgent.IntervalMax);
        var wgIp = new Option<string?>("--wg-ip") { HelpName = "ADDRESS", Description = "The node's address in the overlay network. Default: its first IPv4 address" };
        var ram = Take.Number("--ram-total-mb", "RAM to offer, MiB. Default: all there is", 1, int.MaxValue);
        var reserved = new Option<bool>("--reserved") { Description = "Ask placement to prefer other nodes" };
        var verb = new Verb("run", "Keep a node in the fleet",
            "foundry node run --node-id compute-west-01 --token-file node.token",
            "foundry node run --node-id laptop --ram-total-mb 4096 --once --output json")
        {
            Details =
            [
                "Reports this machine through the gateway every few seconds, takes up the VMs that the fleet assigns to it, and reports them as running. "
                    + "It does the reporting only: it starts no hypervisor. The token needs scope service:fleet-node.",
                "It rides out whatever time can mend. It ends on Ctrl-C or SIGTERM (exit code 0), and when its token is revoked or has expired (exit code 1). "
                    + "A token file is read again before each heartbeat, so that a new token needs no restart.",
            ],
        };
        foreach (var option in new Option[] { nodeId, keyFile, once, interval, wgIp, ram, reserved })
            verb.Options.Add(option);
        verb.Validators.Add(result =>
        {
            if (result.GetValue(wgIp) is { } text && !System.Net.IPAddress.TryParse(text, out _))
                result.AddError($"--wg-ip: '{text}' is not an IP address");
        });
        return verb.Runs(globals, keyFile: keyFile, body: async (session, cancellationToken) =>
        {
            var parse = session.Parse;
            var identity = new NodeIdentity(parse.GetValue(nodeId)!, parse.GetValue(wgIp) ?? Machine.FirstAddress(), Environment.MachineName, parse.GetValue(reserved));
            var machine = new Machine(session.Surroundings.ProcRoot, session.Surroundings.KvmDevice, parse.GetValue(ram));
            var agent = new NodeAgent(session.Gateway, session.Token!, machine, identity, parse.GetValue(interval) ?? NodeAgent.IntervalDefault, session.Surroundings.Time, session.Output);
            return await agent.RunAsync(parse.GetValue(once), cancellationToken);
        });
    }
}
