using Foundry.Contracts;
using Foundry.Fleet.Nodes;
using Foundry.Fleet.Placement;
using Foundry.Fleet.Vms;

namespace Foundry.Fleet.Tests.Placement;

/// <summary>Each row: the nodes, what is wished for, and where it goes. Nodes are <c>tenant/name free[ kvm][ reserved][ stale]</c>, tenant <c>-</c> is shared.</summary>
public sealed class PlacedVm
{
    private static readonly Instant Now = new(1_781_000_000_000, 100_000);

    public static TheoryData<string[], string, string?> Places => new()
    {
        { [], "4096", null },
        { ["acme-corp/a 4095"], "4096", null },
        { ["acme-corp/a 4096"], "4096", "a" },
        // Own nodes first, however roomy shared ones are; then shared ones; never another's.
        { ["-/s 99999", "acme-corp/a 4096"], "4096", "a" },
        { ["-/s 99999", "acme-corp/a 4095"], "4096", "s" },
        { ["globex/g 99999"], "4096", null },
        { ["acme-corp/a 99999 reserved", "-/s 99999"], "4096", "a" },
        // Unreserved before reserved.
        { ["acme-corp/a 99999 reserved", "acme-corp/b 4096"], "4096", "b" },
        { ["acme-corp/a 99999 reserved", "acme-corp/b 4095"], "4096", "a" },
        // KVM first, if asked.
        { ["acme-corp/a 99999", "acme-corp/b 4096 kvm"], "4096", "a" },
        { ["acme-corp/a 99999", "acme-corp/b 4096 kvm"], "4096 kvm", "b" },
        { ["acme-corp/a 99999", "acme-corp/b 4095 kvm"], "4096 kvm", "a" },
        { ["acme-corp/a 99999", "-/s 99999 kvm"], "4096 kvm", "a" },
        { ["acme-corp/a 99999 kvm reserved", "acme-corp/b 4096"], "4096 kvm", "b" },
        // The preferred node, where it is the tenant's own and fits.
        { ["acme-corp/a 99999", "acme-corp/b 4096 reserved"], "4096 prefers:b", "b" },
        { ["acme-corp/a 99999", "acme-corp/b 4095"], "4096 prefers:b", "a" },
        { ["acme-corp/a 99999", "acme-corp/b 9999 stale"], "4096 prefers:b", "a" },
        { ["acme-corp/a 99999", "globex/b 99999"], "4096 prefers:b", "a" },
        { ["acme-corp/a 4096", "-/s 99999"], "4096 prefers:s", "a" },
        { ["acme-corp/a 4096", "-/s 99999"], "4096 prefers:s admin", "s" },
        // Stale nodes never.
        { ["acme-corp/a 99999 stale"], "4096", null },
        { ["acme-corp/a 99999 stale", "-/s 4096"], "4096", "s" },
        // Most free RAM, then the name: the same question has the same answer.
        { ["acme-corp/a 5000", "acme-corp/b 6000"], "4096", "b" },
        { ["acme-corp/b 5000", "acme-corp/a 5000"], "4096", "a" },
    };

    [Theory]
    [MemberData(nameof(Places))]
    public void Goes_to(string[] nodes, string wish, string? expected)
    {
        var words = wish.Split(' ');
        var wished = new Wish(FleetHost.Acme, long.Parse(words[0]), words.Contains("kvm"),
            words.FirstOrDefault(word => word.StartsWith("prefers:", StringComparison.Ordinal))?["prefers:".Length..], words.Contains("admin"));
        Assert.Equal(expected, Placer.Rank(StateOf(nodes), wished, Now).FirstOrDefault()?.Key.NodeId);
    }

    public static TheoryData<string[], string?, string[]> Advices => new()
    {
        { [], null, [] },
        { ["globex/g 9"], null, [] },
        { ["-/s1 9", "-/s2 9"], "shared", [] },
        { ["acme-corp/a 9", "acme-corp/b 99", "-/s1 9", "-/s2 9"], "b", ["a", "shared"] },
        { ["acme-corp/a 0", "-/s1 9"], "shared", [] },
    };

    [Theory]
    [MemberData(nameof(Advices))]
    public void Is_advised(string[] nodes, string? recommended, string[] alternatives)
    {
        var advice = Placer.Advise(StateOf(nodes), FleetHost.Acme, Now);
        Assert.Equal(recommended, advice.RecommendedNode);
        Assert.Equal(alternatives, advice.Alternatives);
    }

    [Fact]
    public async Task Is_advised_to_its_own_tenant()
    {
        await using var fleet = await FleetHost.StartAsync();
        await fleet.BeatAsync(fleet.NodeOf(FleetHost.Acme), "a");
        await fleet.BeatAsync(fleet.NodeOf(null), "s");
        var advice = (await fleet.GetAsync(fleet.Caller(FleetHost.Acme, "read"), "/v1/placement")).Read(WireJson.Default.PlacementAdvice);
        Assert.Equal(("a", "shared"), (advice.RecommendedNode, Assert.Single(advice.Alternatives)));
        (await fleet.GetAsync(fleet.Caller(FleetHost.Acme, "read"), "/v1/placement?tenant_id=globex")).Refuses(ErrorCode.TenantMismatch);
        (await fleet.GetAsync(fleet.Caller(null, "service:platform-admin"), "/v1/placement")).Refuses(ErrorCode.TenantRequired);
        Assert.Equal("shared", (await fleet.GetAsync(fleet.Caller(null, "service:platform-admin"), "/v1/placement?tenant_id=globex")).Read(WireJson.Default.PlacementAdvice).RecommendedNode);
    }

    [Fact]
    public async Task Takes_its_RAM_until_it_is_destroyed()
    {
        await using var fleet = await FleetHost.StartAsync();
        await fleet.BeatAsync(fleet.NodeOf(FleetHost.Acme), "a", ramMb: 4096);
        var caller = fleet.Caller(FleetHost.Acme, "input");
        var vm = await fleet.CreatedAsync(caller, Wire.Create(ramMb: 4096));
        (await fleet.CreateAsync(caller, Wire.Create(ramMb: 1))).Refuses(ErrorCode.NoCapacity);
        await fleet.SendAsync(caller, HttpMethod.Delete, $"/v1/vms/{vm.VmId}");
        await fleet.CreatedAsync(caller, Wire.Create(ramMb: 4096));
    }

    private static FleetState StateOf(string[] nodes)
    {
        var state = FleetState.Empty;
        foreach (var node in nodes)
        {
            var words = node.Split(' ');
            var (tenant, name) = (words[0].Split('/')[0], words[0].Split('/')[1]);
            var key = new NodeKey(tenant == "-" ? null : tenant, name);
            var pulse = new NodePulse();
            pulse.Beat(0, 0, words.Contains("stale") ? new Instant(0, Now.MonoMs - 30_000) : Now);
            // Half of each node is taken, so that free RAM is total less promised and not total.
            var free = long.Parse(words[1]);
            state = state
                .With(new Node(key, $"key-of-{words[0]}", new NodeFacts("10.8.0.9", name, free * 2, 16, words.Contains("kvm"), words.Contains("reserved"), "boot"), 0, LostAfter: null, pulse))
                .With(new Vm { VmId = $"vm-on-{words[0]}", TenantId = tenant == "-" ? null : tenant, Node = key, Type = "V", RamMb = free, VcpuCount = 1, CreatedAt = 0 });
        }
        return state;
    }
}
