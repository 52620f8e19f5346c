using System.Text.Json;
using Foundry.Contracts;

namespace Foundry.Fleet.Nodes;

/// <summary>
/// Declares nodes lost: once per loss, and not for what is more likely our own deafness. A start, and a silence of every
/// node at once (a gateway or a network that was away), put the decision off.
/// </summary>
internal sealed class Silence
{
    /// <summary>Fewer nodes than this may well fall silent together.</summary>
    public const int NodesThatDoNotFailTogether = 3;
    /// <summary>So long without any heartbeat, and it is not the nodes.</summary>
    public const long DeafAfterMs = 15_000;
    /// <summary>So long, and it is the nodes after all.</summary>
    public const long DeafAtMostMs = 5 * 60_000;

    private long _newestBeatMs;
    private long _graceUntilMs;

    /// <summary>A node was heard.</summary>
    public void Heard(FleetState state, Instant now)
    {
        var silent = now.MonoMs - Interlocked.Exchange(ref _newestBeatMs, now.MonoMs);
        if (silent >= DeafAfterMs && state.Nodes.Count >= NodesThatDoNotFailTogether)
            Interlocked.Exchange(ref _graceUntilMs, now.MonoMs + Node.StaleAfterMs);
    }

    /// <summary>The nodes to declare lost now.</summary>
    public IReadOnlyList<Node> Lost(FleetState state, Instant now)
    {
        if (now.MonoMs < Interlocked.Read(ref _graceUntilMs))
            return [];
        var present = state.Nodes.Values.Where(node => !node.IsLost).ToList();
        var silent = present.Where(node => node.IsStale(now)).ToList();
        var everybody = silent.Count == present.Count && present.Count >= NodesThatDoNotFailTogether;
        return everybody && now.MonoMs - Interlocked.Read(ref _newestBeatMs) < DeafAtMostMs ? [] : silent;
    }

    /// <summary>The turn that declares them; those that were heard meanwhile are not.</summary>
    public int Declare(Turn turn)
    {
        if (!turn.HasRoomForEvents)
            return 0;
        var lost = 0;
        foreach (var node in Lost(turn.State, turn.Now))
        {
            var heard = node.Pulse.HeardMonoMs;
            if (turn.Now.MonoMs - heard < Node.StaleAfterMs)
                continue;
            lost++;
            var declared = node with { LostAfter = heard };
            turn.State = turn.State.With(declared);
            turn.Write(FleetStore.Put(declared));
            turn.Record(Enrolment.LogOf(node.Key), LostEvent(node, turn.Now));
        }
        return lost;
    }

    private static PlatformEvent LostEvent(Node node, Instant now) => new()
    {
        EventType = EventTypes.NodeLost,
        EventId = Guid.CreateVersion7(now.Wall).ToString(),
        Time = now.Wall,
        TenantId = node.Key.TenantId,
        Actor = new EventActor(null, null, "service:fleet"),
        Others = new()
        {
            ["node_id"] = JsonSerializer.SerializeToElement(node.Key.NodeId, WireJson.Default.String),
            ["last_seen"] = JsonSerializer.SerializeToElement(DateTimeOffset.FromUnixTimeMilliseconds(node.Pulse.Read().SeenUnixMs), WireJson.Default.DateTimeOffset),
        },
    };
}
