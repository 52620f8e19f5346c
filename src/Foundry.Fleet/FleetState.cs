using System.Collections.Immutable;
using Foundry.Fleet.Nodes;
using Foundry.Fleet.Vms;

namespace Foundry.Fleet;

/// <summary>
/// Everything the registry knows, as it was at one commit. Immutable: a reader holds one and sees no change half made, and
/// a change that cannot be committed is dropped with nothing to undo.
/// </summary>
internal sealed record FleetState
{
    private static readonly ImmutableSortedDictionary<string, Vm> NoVms = ImmutableSortedDictionary.Create<string, Vm>(StringComparer.Ordinal);

    public static readonly FleetState Empty = new();

    public ImmutableDictionary<NodeKey, Node> Nodes { get; private init; } = ImmutableDictionary<NodeKey, Node>.Empty;
    /// <summary>Every VM that is not destroyed, by ID.</summary>
    public ImmutableSortedDictionary<string, Vm> Vms { get; private init; } = NoVms;
    /// <summary>Which node each key beats for, within its tenant: (tenant or null, key) to node ID.</summary>
    public ImmutableDictionary<(string? TenantId, string SubjectPubkey), string> Bindings { get; private init; } = ImmutableDictionary<(string?, string), string>.Empty;
    /// <summary>Each tenant's store epoch; 0 until one is begun.</summary>
    public ImmutableDictionary<string, long> Epochs { get; private init; } = ImmutableDictionary.Create<string, long>(StringComparer.Ordinal);

    /// <summary>Tenants for which nothing is made: until when, Unix milliseconds.</summary>
    public ImmutableDictionary<string, long> Seals { get; private init; } = ImmutableDictionary.Create<string, long>(StringComparer.Ordinal);

    private ImmutableDictionary<NodeKey, Placed> ByNode { get; init; } = ImmutableDictionary<NodeKey, Placed>.Empty;
    private ImmutableDictionary<string, ImmutableSortedDictionary<string, Vm>> ByTenant { get; init; } = ImmutableDictionary.Create<string, ImmutableSortedDictionary<string, Vm>>(StringComparer.Ordinal);
    private ImmutableDictionary<string, int> NodesByTenant { get; init; } = ImmutableDictionary.Create<string, int>(StringComparer.Ordinal);
    // A spent reservation and a used key outlive their VM: a late repeat must not make a second one.
    private ImmutableDictionary<(string TenantId, string Id), Vm> Spent { get; init; } = ImmutableDictionary<(string, string), Vm>.Empty;
    private ImmutableDictionary<IdempotencyKey, Vm> Keys { get; init; } = ImmutableDictionary<IdempotencyKey, Vm>.Empty;

    /// <summary>The VMs on a node and the RAM promised to them.</summary>
    public Placed PlacedOn(NodeKey node) => ByNode.GetValueOrDefault(node, Placed.Nothing);

    /// <summary>A tenant's VMs, in the order of their IDs.</summary>
    public IReadOnlyDictionary<string, Vm> VmsOf(string tenantId) => ByTenant.GetValueOrDefault(tenantId, NoVms);

    /// <summary>Nodes enrolled by one tenant (null: shared ones).</summary>
    public int NodeCount(string? tenantId) => NodesByTenant.GetValueOrDefault(tenantId ?? "");

    /// <summary>The VM, living or not, that a reservation was spent on.</summary>
    public Vm? SpentOn(string tenantId, string reservationId) => Spent.GetValueOrDefault((tenantId, reservationId));

    /// <summary>The VM, living or not, that was made with a key which still counts.</summary>
    public Vm? MadeWith(IdempotencyKey key, long nowUnixMs) =>
        Keys.GetValueOrDefault(key) is { } vm && KeyUntil(vm) > nowUnixMs ? vm : null;

    public FleetState With(Node node) => this with
    {
        NodesByTenant = Nodes.ContainsKey(node.Key) ? NodesByTenant : NodesByTenant.SetItem(node.Key.TenantId ?? "", NodeCount(node.Key.TenantId) + 1),
        Nodes = Nodes.SetItem(node.Key, node),
        Bindings = Bindings.SetItem((node.Key.TenantId, node.SubjectPubkey), node.Key.NodeId),
    };

    public FleetState Without(Node node) => this with
    {
        NodesByTenant = NodesByTenant.SetItem(node.Key.TenantId ?? "", NodeCount(node.Key.TenantId) - 1),
        Nodes = Nodes.Remove(node.Key),
        Bindings = Bindings.Remove((node.Key.TenantId, node.SubjectPubkey)),
    };

    /// <summary>A new VM, or a new version of one.</summary>
    public FleetState With(Vm vm)
    {
        var placed = PlacedOn(vm.Node);
        return Remember(vm) with
        {
            Vms = Vms.SetItem(vm.VmId, vm),
            ByNode = ByNode.SetItem(vm.Node, placed.With(vm)),
            ByTenant = vm.TenantId is null ? ByTenant : ByTenant.SetItem(vm.TenantId, ByTenant.GetValueOrDefault(vm.TenantId, NoVms).SetItem(vm.VmId, vm)),
        };
    }

    public FleetState Without(Vm vm)
    {
        var placed = PlacedOn(vm.Node).Without(vm);
        var own = vm.TenantId is null ? NoVms : ByTenant.GetValueOrDefault(vm.TenantId, NoVms).Remove(vm.VmId);
        return this with
        {
            Vms = Vms.Remove(vm.VmId),
            ByNode = placed.Vms.IsEmpty ? ByNode.Remove(vm.Node) : ByNode.SetItem(vm.Node, placed),
            ByTenant = vm.TenantId is null ? ByTenant : own.IsEmpty ? ByTenant.Remove(vm.TenantId) : ByTenant.SetItem(vm.TenantId, own),
        };
    }

    /// <summary>What a VM leaves behind when it is destroyed: its reservation and its key.</summary>
    public FleetState Remember(Vm vm) => vm.TenantId is null ? this : this with
    {
        Spent = vm.Reservation is null ? Spent : Spent.SetItem((vm.TenantId, vm.Reservation.Id), vm),
        Keys = vm.Key is null ? Keys : Keys.SetItem(vm.Key, vm),
    };

    public FleetState WithEpoch(string tenantId, long epoch) => this with { Epochs = Epochs.SetItem(tenantId, epoch) };

    /// <summary>Seals a tenant until then; a moment that has passed takes the seal off.</summary>
    public FleetState WithSeal(string tenantId, long untilUnixMs) => this with { Seals = Seals.SetItem(tenantId, untilUnixMs) };

    /// <summary>Forgets seals that have ended, and the reservations and keys of destroyed VMs that nobody can use any more.</summary>
    public FleetState Forget(long nowUnixMs) => this with
    {
        Spent = Spent.RemoveRange(Spent.Where(spent => !Vms.ContainsKey(spent.Value.VmId) && spent.Value.Reservation!.Deadline <= nowUnixMs).Select(spent => spent.Key)),
        Keys = Keys.RemoveRange(Keys.Where(key => KeyUntil(key.Value) <= nowUnixMs).Select(key => key.Key)),
        Seals = Seals.RemoveRange(Seals.Where(seal => seal.Value <= nowUnixMs).Select(seal => seal.Key)),
    };

    /// <summary>How long an Idempotency-Key counts.</summary>
    public const long KeyLifetimeMs = 24 * 60 * 60 * 1000L;

    private static long KeyUntil(Vm vm) => vm.CreatedAt + KeyLifetimeMs;
}

/// <summary>What is on a node.</summary>
/// <param name="Vms">The VMs, by ID.</param>
/// <param name="RamMb">RAM promised to them, MiB.</param>
internal sealed record Placed(ImmutableSortedDictionary<string, Vm> Vms, long RamMb)
{
    public static readonly Placed Nothing = new(ImmutableSortedDictionary.Create<string, Vm>(StringComparer.Ordinal), 0);

    public Placed With(Vm vm) => new(Vms.SetItem(vm.VmId, vm), RamMb - (Vms.GetValueOrDefault(vm.VmId)?.RamMb ?? 0) + vm.RamMb);

    public Placed Without(Vm vm) => new(Vms.Remove(vm.VmId), RamMb - (Vms.GetValueOrDefault(vm.VmId)?.RamMb ?? 0));
}
