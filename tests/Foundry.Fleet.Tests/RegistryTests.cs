using CsCheck;
using Dapper;
using Foundry.Contracts;
using Foundry.Fleet.Nodes;
using Foundry.Fleet.Vms;
using Foundry.Storage;
using Foundry.Testing;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;

namespace Foundry.Fleet.Tests;

/// <summary>The commit breaks: before anything is on disk, or when everything is.</summary>
public sealed class BrokenCommit
{
    public static TheoryData<string, bool> Faults
    {
        get
        {
            var rows = new TheoryData<string, bool>();
            foreach (var store in Stores.Postgres is null ? (string[])[Stores.Sqlite] : [Stores.Sqlite, Stores.PostgreSql])
            {
                rows.Add(store, false);
                rows.Add(store, true);
            }
            return rows;
        }
    }

    [Theory]
    [MemberData(nameof(Faults))]
    public async Task Is_answered_as_unknown_and_what_the_store_has_is_what_counts(string store, bool persisted)
    {
        await using var fleet = await FleetHost.StartAsync(store);
        await fleet.BeatAsync(fleet.NodeOf(FleetHost.Acme), "a");
        var vm = new Vm { VmId = "vm-x", TenantId = FleetHost.Acme, Node = new NodeKey(FleetHost.Acme, "a"), Type = "V", RamMb = 1, VcpuCount = 1, CreatedAt = 1 };

        var failure = await Assert.ThrowsAsync<RegistryException>(() => fleet.Registry.TakeTurnAsync(turn =>
        {
            turn.State = turn.State.With(vm);
            turn.Write(FleetStore.Insert(vm));
            turn.Write(async transaction =>
            {
                if (persisted)
                    await transaction.CommitAsync(CancellationToken.None);
                throw new IOException("the disk is gone");
            });
            return 0;
        }, TestContext.Current.CancellationToken));
        Assert.Equal(ErrorCode.Internal, failure.Error);
        Assert.False(fleet.Registry.Current.Vms.ContainsKey("vm-x"));

        var held = await fleet.BeginEpochAsync(FleetHost.Acme);
        Assert.Equal(persisted ? ["vm-x"] : [], held.Vms.Select(held => held.VmId));
    }

    [Fact]
    public async Task Leaves_turns_that_come_behind_it_undone_until_the_store_can_be_read()
    {
        await using var fleet = await FleetHost.StartAsync();
        await fleet.BeatAsync(fleet.NodeOf(FleetHost.Acme), "a");
        var caller = fleet.Caller(FleetHost.Acme, "input");
        await AlterAsync(fleet, "ALTER TABLE vm RENAME TO vm_away");
        (await fleet.CreateAsync(caller)).Refuses(ErrorCode.Internal);
        (await fleet.CreateAsync(caller)).Refuses(ErrorCode.RecordUnavailable);
        Assert.Equal("[]", (await fleet.GetAsync(caller, "/v1/vms")).Body);
        using var ready = await fleet.Gateway.Client.GetAsync(new Uri("/readyz", UriKind.Relative), TestContext.Current.CancellationToken);
        Assert.Contains("\"registry\":{\"met\":false", await ready.Content.ReadAsStringAsync(TestContext.Current.CancellationToken), StringComparison.Ordinal);

        await AlterAsync(fleet, "ALTER TABLE vm_away RENAME TO vm");
        await fleet.CreatedAsync(caller);
        Assert.Single(fleet.Registry.Current.Vms);
    }

    private static async Task AlterAsync(FleetHost fleet, string sql)
    {
        await using var connection = await fleet.Services.GetRequiredService<Database>().OpenConnectionAsync(TestContext.Current.CancellationToken);
        await connection.ExecuteAsync(sql);
    }
}

public sealed class FaultyTurn
{
    [Fact]
    public async Task Is_its_own_senders_trouble_alone()
    {
        await using var fleet = await FleetHost.StartAsync();
        await fleet.BeatAsync(fleet.NodeOf(FleetHost.Acme), "a");
        var turns = Enumerable.Range(0, 20).Select(at => fleet.Registry.TakeTurnAsync(turn =>
        {
            turn.State = turn.State.WithEpoch($"tenant-{at}", 1);
            turn.Write(FleetStore.PutEpoch($"tenant-{at}", 1));
            return at % 2 == 0 ? at : throw new ArgumentException("a defect");
        }, TestContext.Current.CancellationToken)).ToList();
        for (var at = 0; at < turns.Count; at++)
        {
            if (at % 2 == 0)
                Assert.Equal(at, await turns[at]);
            else
                await Assert.ThrowsAsync<ArgumentException>(() => turns[at]);
        }
        var expected = Enumerable.Range(0, 10).Select(at => $"tenant-{at * 2}").Order(StringComparer.Ordinal);
        Assert.Equal(expected, fleet.Registry.Current.Epochs.Keys.Order(StringComparer.Ordinal));
        await fleet.StopAsync();
        await fleet.StartAgainAsync();
        Assert.Equal(expected, fleet.Registry.Current.Epochs.Keys.Order(StringComparer.Ordinal));
    }
}

public sealed class SecondFleet
{
    [Theory]
    [MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task On_the_same_registry_ends_the_first(string store)
    {
        await using var fleet = await FleetHost.StartAsync(store);
        await fleet.BeatAsync(fleet.NodeOf(FleetHost.Acme), "a");
        var second = await fleet.LoadSecondAsync();
        await using var database = second.Database;

        (await fleet.CreateAsync(fleet.Caller(FleetHost.Acme, "input"))).Refuses(ErrorCode.RecordUnavailable);
        Assert.True(fleet.Services.GetRequiredService<IHostApplicationLifetime>().ApplicationStopping.IsCancellationRequested);
        await using var connection = await database.OpenConnectionAsync(TestContext.Current.CancellationToken);
        Assert.Equal(0, await connection.ExecuteScalarAsync<long>("SELECT COUNT(*) FROM vm"));
    }
}

public sealed class Restart
{
    /// <summary>Steps that anyone may take, in any order.</summary>
    private static readonly Gen<(int Kind, int Node, int Vm)[]> Steps = Gen.Select(Gen.Int[0, 6], Gen.Int[0, 3], Gen.Int[0, 5]).Array[5, 40];

    [Theory]
    [MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task Changes_nothing_that_anyone_can_see(string store) =>
        await Steps.SampleAsync(async steps =>
        {
            await using var fleet = await FleetHost.StartAsync(store);
            var nodes = new[] { fleet.NodeOf(FleetHost.Acme), fleet.NodeOf(FleetHost.Acme), fleet.NodeOf(FleetHost.Globex), fleet.NodeOf(null) };
            var caller = fleet.Caller(FleetHost.Acme, "input");
            foreach (var (kind, node, vm) in steps)
            {
                fleet.Time.Advance(TimeSpan.FromMilliseconds(10));
                var known = fleet.Registry.Current.Vms.Values.Where(each => each.TenantId == FleetHost.Acme).ElementAtOrDefault(vm)?.VmId ?? "vm-none";
                _ = kind switch
                {
                    0 => await fleet.PostBeatAsync(nodes[node], Wire.Heartbeat($"n-{node}", vms: Wire.Vm($"vm-{node}-{vm}", more: $",\"beat\":{vm}"))),
                    1 => await fleet.PostBeatAsync(nodes[node], Wire.Heartbeat($"n-{node}", ramMb: 9000 + vm, kvm: vm > 2, vms: Wire.Vm(known, state: "Stopped", startedAt: null))),
                    2 => await fleet.CreateAsync(caller, Wire.Create(ramMb: 1000 + vm), ("X-Foundry-Reservation", fleet.Reservation($"r-{vm}", node)), ("Idempotency-Key", $"k-{vm}-{node}")),
                    3 => await fleet.SendAsync(caller, HttpMethod.Delete, $"/v1/vms/{known}"),
                    4 => await fleet.SendAsItselfAsync(fleet.Gateway, HttpMethod.Post, "/internal/v1/epochs", """{"v":1,"tenant_id":"acme-corp"}"""),
                    5 => await fleet.SendAsync(fleet.Caller(FleetHost.Acme, "service:tenant-admin"), HttpMethod.Delete, $"/v1/nodes/n-{node}"),
                    _ => await fleet.PostBeatAsync(nodes[node], Wire.Heartbeat($"n-{vm}")),
                };
            }
            var before = await SeenAsync(fleet, caller);
            await fleet.StopAsync();
            await fleet.StartAgainAsync();
            Assert.Equal(before, await SeenAsync(fleet, caller));
        }, iter: 12, threads: 1);

    private static async Task<string> SeenAsync(FleetHost fleet, CallerFacts caller)
    {
        var seen = new List<string>();
        foreach (var path in (string[])["/v1/vms", "/v1/fleet", "/v1/placement"])
            seen.Add((await fleet.GetAsync(caller, path)).Body);
        foreach (var path in (string[])["/internal/v1/vms", "/internal/v1/vms?tenant_id=acme-corp"])
            seen.Add((await fleet.SendAsItselfAsync(fleet.Gateway, HttpMethod.Get, path)).Body);
        // Repeats of every create, whether their VM lives or not, are answered as before; creates without room make nothing.
        for (var vm = 0; vm < 6; vm++)
            for (var epoch = 0; epoch < 4; epoch++)
            {
                var state = fleet.Registry.Current;
                seen.Add($"{state.SpentOn(FleetHost.Acme, $"r-{vm}")?.VmId} {state.MadeWith(new IdempotencyKey(FleetHost.Acme, caller.SubjectPubkey, $"k-{vm}-{epoch}"), fleet.Registry.Now().UnixMs)?.VmId}");
            }
        return string.Join('\n', seen);
    }
}
