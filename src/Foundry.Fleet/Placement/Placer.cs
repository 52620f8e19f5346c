using Foundry.Contracts;
using Foundry.Fleet.Nodes;

namespace Foundry.Fleet.Placement;

/// <summary>What a VM needs of a node.</summary>
/// <param name="TenantId">Whose it is: its own nodes come first, then shared ones, never another's.</param>
/// <param name="RamMb">RAM that must be free, MiB.</param>
/// <param name="PrefersKvm">Whether nodes with KVM come first.</param>
/// <param name="PreferredNode">A node that is taken where it is allowed and has room.</param>
/// <param name="KnowsShared">Whether it may be a shared one: tenants do not know those by name.</param>
internal sealed record Wish(string TenantId, long RamMb, bool PrefersKvm = false, string? PreferredNode = null, bool KnowsShared = false);

/// <summary>Where VMs go (CONTRACT section 6).</summary>
internal static class Placer
{
    /// <summary>What shared nodes are called to a tenant, which is shown none of them by name.</summary>
    public const string Shared = "shared";

    /// <summary>The nodes that have room, best first.</summary>
    public static IEnumerable<Node> Rank(FleetState state, Wish wish, Instant now) => state.Nodes.Values
        .Where(node => (node.Key.TenantId is null || node.Key.TenantId == wish.TenantId) && !node.IsStale(now) && Free(state, node) >= wish.RamMb)
        .OrderByDescending(node => node.Key.NodeId == wish.PreferredNode && (wish.KnowsShared || node.Key.TenantId is not null))
        .ThenByDescending(node => node.Key.TenantId is not null)
        .ThenBy(node => node.Facts.Reserved)
        .ThenByDescending(node => wish.PrefersKvm && node.Facts.KvmAvailable)
        .ThenByDescending(node => Free(state, node))
        .ThenBy(node => node.Key.NodeId, StringComparer.Ordinal);

    /// <summary>Advice to a tenant: its own nodes by name, shared ones as one.</summary>
    public static PlacementAdvice Advise(FleetState state, string tenantId, Instant now)
    {
        var names = Rank(state, new Wish(tenantId, RamMb: 1), now).Select(node => node.Key.TenantId is null ? Shared : node.Key.NodeId).Distinct(StringComparer.Ordinal).ToList();
        return names.Count == 0
            ? new PlacementAdvice(null, "no node has room", [])
            : new PlacementAdvice(names[0], names[0] == Shared ? "no own node has room; shared ones have" : "own node with the most free RAM, unreserved first", names[1..]);
    }

    private static long Free(FleetState state, Node node) => node.Facts.RamTotalMb - state.PlacedOn(node.Key).RamMb;
}
