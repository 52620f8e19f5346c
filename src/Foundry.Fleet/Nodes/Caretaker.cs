using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace Foundry.Fleet.Nodes;

/// <summary>What happens by itself: losses are declared, pulses written behind, what is out of date forgotten.</summary>
internal sealed class Caretaker : BackgroundService
{
    /// <summary>How long a pulse is in memory alone, at most.</summary>
    public static readonly TimeSpan WriteBehindInterval = TimeSpan.FromSeconds(5);
    private static readonly TimeSpan LookInterval = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan ForgetInterval = TimeSpan.FromMinutes(1);

    private readonly Registry _registry;
    private readonly Silence _silence;
    private readonly TimeProvider _time;
    private readonly ILogger<Caretaker> _log;

    public Caretaker(Registry registry, Silence silence, TimeProvider time, ILogger<Caretaker> log) =>
        (_registry, _silence, _time, _log) = (registry, silence, time, log);

    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        using var timer = new PeriodicTimer(LookInterval, _time);
        long writtenAt = 0, forgottenAt = 0;
        while (await timer.WaitForNextTickAsync(stoppingToken))
        {
            var now = _registry.Now().MonoMs;
            try
            {
                await DeclareLostAsync(stoppingToken);
                if (now - writtenAt >= WriteBehindInterval.TotalMilliseconds)
                {
                    await WriteBehindAsync(stoppingToken);
                    writtenAt = now;
                }
                if (now - forgottenAt >= ForgetInterval.TotalMilliseconds)
                {
                    await _registry.TakeTurnAsync(turn => turn.State = turn.State.Forget(turn.Now.UnixMs), stoppingToken);
                    forgottenAt = now;
                }
            }
            catch (RegistryException fault)
            {
                _log.LogWarning("The registry could not be kept: {Reason}", fault.Message);
            }
        }
    }

    /// <summary>Everything known of the nodes is in the store when the process ends.</summary>
    public override async Task StopAsync(CancellationToken cancellationToken)
    {
        await base.StopAsync(cancellationToken);
        try
        {
            await WriteBehindAsync(cancellationToken);
        }
        catch (RegistryException fault)
        {
            _log.LogWarning("The nodes' last heartbeats could not be kept: {Reason}", fault.Message);
        }
    }

    /// <summary>Declares the nodes lost that are.</summary>
    public async Task DeclareLostAsync(CancellationToken cancellationToken)
    {
        if (_silence.Lost(_registry.Current, _registry.Now()).Count > 0 && await _registry.TakeTurnAsync(_silence.Declare, cancellationToken) is var lost and > 0)
            _log.LogWarning("{Nodes} nodes are lost", lost);
    }

    /// <summary>Writes what heartbeats changed that was worth no transaction of its own.</summary>
    public async Task WriteBehindAsync(CancellationToken cancellationToken)
    {
        var state = _registry.Current;
        var pulses = new List<(NodePulse Pulse, (NodeKey Node, double Load, long RamUsedMb, long SeenUnixMs) Row)>();
        foreach (var node in state.Nodes.Values)
            if (node.Pulse.TakeDirty() is { } pulse)
                pulses.Add((node.Pulse, (node.Key, pulse.Load, pulse.RamUsedMb, pulse.SeenUnixMs)));
        var reports = state.Vms.Values.Where(vm => vm.Report.IsDirty).Select(vm => (vm.VmId, vm.Report, vm.Report.Members)).ToList();
        if (pulses.Count == 0 && reports.Count == 0)
            return;
        try
        {
            await _registry.TakeTurnAsync(turn =>
            {
                // A node that was unbound meanwhile has no pulse to be kept.
                foreach (var write in FleetStore.PutPulses([.. pulses.Select(pulse => pulse.Row).Where(row => turn.State.Nodes.ContainsKey(row.Node))]))
                    turn.Write(write);
                foreach (var (vmId, _, members) in reports)
                    turn.Write(FleetStore.PutReportedMembers(vmId, members?.Text));
                return 0;
            }, cancellationToken);
        }
        catch (RegistryException)
        {
            pulses.ForEach(pulse => pulse.Pulse.MarkDirty());
            throw;
        }
        reports.ForEach(report => report.Report.MarkWritten(report.Members));
    }
}
