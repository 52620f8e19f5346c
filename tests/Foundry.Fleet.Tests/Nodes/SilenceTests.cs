using Foundry.Contracts;

namespace Foundry.Fleet.Tests.Nodes;

public sealed class SilentNode
{
    private static readonly CancellationToken Soon = TestContext.Current.CancellationToken;

    [Theory]
    [MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task Is_stale_at_thirty_seconds_and_recorded_as_lost_once(string store)
    {
        await using var fleet = await FleetHost.StartAsync(store);
        var node = fleet.NodeOf(FleetHost.Acme);
        await fleet.BeatAsync(node, "compute-1");

        fleet.Time.Advance(TimeSpan.FromMilliseconds(29_999));
        await fleet.Caretaker.DeclareLostAsync(Soon);
        Assert.False(await IsStaleAsync(fleet));
        Assert.Empty(await LossesAsync(fleet));

        fleet.Time.Advance(TimeSpan.FromMilliseconds(1));
        Assert.True(await IsStaleAsync(fleet));
        await fleet.Caretaker.DeclareLostAsync(Soon);
        await fleet.Caretaker.DeclareLostAsync(Soon);
        var (log, lost) = Assert.Single(await LossesAsync(fleet));
        Assert.Equal((FleetHost.Acme, "compute-1", "service:fleet"), (log, lost.Others!["node_id"].GetString(), lost.Actor.Scope));

        // Nor again after a restart, which would otherwise give it grace.
        await fleet.StopAsync();
        await fleet.StartAgainAsync();
        Assert.True(await IsStaleAsync(fleet));
        fleet.Time.Advance(TimeSpan.FromSeconds(31));
        await fleet.Caretaker.DeclareLostAsync(Soon);
        Assert.Single(await LossesAsync(fleet));

        // Back, and lost once more: that is another loss.
        await fleet.BeatAsync(node, "compute-1");
        Assert.False(await IsStaleAsync(fleet));
        fleet.Time.Advance(TimeSpan.FromSeconds(30));
        await fleet.Caretaker.DeclareLostAsync(Soon);
        Assert.Equal(2, (await LossesAsync(fleet)).Count);
    }

    [Fact]
    public async Task Is_not_blamed_for_the_fleets_own_absence()
    {
        await using var fleet = await FleetHost.StartAsync();
        await fleet.BeatAsync(fleet.NodeOf(FleetHost.Acme), "compute-1");
        await fleet.StopAsync();
        fleet.Time.Advance(TimeSpan.FromHours(1));
        await fleet.StartAgainAsync();

        fleet.Time.Advance(TimeSpan.FromMilliseconds(29_999));
        await fleet.Caretaker.DeclareLostAsync(Soon);
        Assert.False(await IsStaleAsync(fleet));
        Assert.Empty(await LossesAsync(fleet));
        fleet.Time.Advance(TimeSpan.FromMilliseconds(1));
        await fleet.Caretaker.DeclareLostAsync(Soon);
        Assert.Single(await LossesAsync(fleet));
    }

    [Fact]
    public async Task Is_not_blamed_for_an_outage_between_all_nodes_and_the_fleet()
    {
        await using var fleet = await FleetHost.StartAsync();
        var nodes = Enumerable.Range(0, 5).Select(at => (Caller: fleet.NodeOf(FleetHost.Acme), Id: $"compute-{at}")).ToList();
        foreach (var (caller, id) in nodes)
            await fleet.BeatAsync(caller, id);

        fleet.Time.Advance(TimeSpan.FromSeconds(60));
        await fleet.Caretaker.DeclareLostAsync(Soon);
        await fleet.BeatAsync(nodes[0].Caller, nodes[0].Id);
        await fleet.Caretaker.DeclareLostAsync(Soon);
        Assert.Empty(await LossesAsync(fleet));

        // The others have as long as ever to come back; one does not.
        fleet.Time.Advance(TimeSpan.FromSeconds(10));
        foreach (var (caller, id) in nodes[..4])
            await fleet.BeatAsync(caller, id);
        fleet.Time.Advance(TimeSpan.FromSeconds(20));
        await fleet.Caretaker.DeclareLostAsync(Soon);
        Assert.Equal("compute-4", Assert.Single(await LossesAsync(fleet)).Event.Others!["node_id"].GetString());
    }

    [Fact]
    public async Task Is_lost_with_all_others_when_the_silence_lasts()
    {
        await using var fleet = await FleetHost.StartAsync();
        for (var at = 0; at < 3; at++)
            await fleet.BeatAsync(fleet.NodeOf(FleetHost.Acme), $"compute-{at}");
        fleet.Time.Advance(TimeSpan.FromMinutes(5) - TimeSpan.FromMilliseconds(1));
        await fleet.Caretaker.DeclareLostAsync(Soon);
        Assert.Empty(await LossesAsync(fleet));
        fleet.Time.Advance(TimeSpan.FromMilliseconds(1));
        await fleet.Caretaker.DeclareLostAsync(Soon);
        Assert.Equal(3, (await LossesAsync(fleet)).Count);
    }

    [Fact]
    public async Task Gets_no_VMs()
    {
        await using var fleet = await FleetHost.StartAsync();
        await fleet.BeatAsync(fleet.NodeOf(FleetHost.Acme), "compute-1");
        fleet.Time.Advance(TimeSpan.FromSeconds(30));
        (await fleet.CreateAsync(fleet.Caller(FleetHost.Acme, "input"))).Refuses(ErrorCode.NoCapacity);
    }

    [Fact]
    public async Task Keeps_its_VMs_counted()
    {
        await using var fleet = await FleetHost.StartAsync();
        await fleet.BeatAsync(fleet.NodeOf(FleetHost.Acme), "compute-1", vms: Wire.Vm("vm-a"));
        fleet.Time.Advance(TimeSpan.FromSeconds(30));
        await fleet.Caretaker.DeclareLostAsync(Soon);
        Assert.Equal("vm-a", Assert.Single((await fleet.BeginEpochAsync(FleetHost.Acme)).Vms).VmId);
    }

    private static async Task<bool> IsStaleAsync(FleetHost fleet) =>
        Assert.Single((await fleet.GetAsync(fleet.Caller(FleetHost.Acme, "read"), "/v1/nodes?tenant_id=acme-corp")).Nodes()).Stale;

    private static async Task<IReadOnlyList<(string Log, PlatformEvent Event)>> LossesAsync(FleetHost fleet) =>
        [.. (await fleet.EventsAsync()).Where(each => each.Event.EventType == EventTypes.NodeLost)];
}
