using System.Net;
using Foundry.Contracts;
using Foundry.ServiceDefaults;
using Foundry.Storage;
using Microsoft.Extensions.DependencyInjection;

namespace Foundry.Fleet.Tests;

public sealed class FleetItself
{
    [Fact]
    public async Task Is_closed_to_everyone_but_gateways_and_parts()
    {
        await using var fleet = await FleetHost.StartAsync();
        foreach (var (method, path) in ((HttpMethod, string)[])
            [(HttpMethod.Get, "/v1/vms"), (HttpMethod.Get, "/v1/nodes"), (HttpMethod.Get, "/v1/fleet"), (HttpMethod.Get, "/v1/placement"), (HttpMethod.Get, "/internal/v1/vms"),
             (HttpMethod.Post, "/v1/vms"), (HttpMethod.Post, "/v1/nodes/heartbeat"), (HttpMethod.Post, "/internal/v1/epochs"), (HttpMethod.Delete, "/v1/vms/a"), (HttpMethod.Delete, "/v1/nodes/a"), (HttpMethod.Get, "/nothing")])
        {
            using var request = new HttpRequestMessage(method, new Uri(path, UriKind.Relative));
            using var bare = await fleet.Gateway.Client.SendAsync(request, TestContext.Current.CancellationToken);
            (await Answer.OfAsync(bare)).Refuses(ErrorCode.GatewayRequired);
            if (path != "/nothing")
                (await fleet.SendAsync(null, method, path, method == HttpMethod.Post ? "{}" : null)).Refuses(ErrorCode.InsufficientScope);
        }
        (await fleet.GetAsync(fleet.Caller(FleetHost.Acme, "read"), "/nothing")).Refuses(ErrorCode.NotFound);
    }

    [Fact]
    public async Task Says_how_it_is_to_everyone()
    {
        await using var fleet = await FleetHost.StartAsync();
        foreach (var path in (string[])["/healthz", "/livez"])
            Assert.Equal("ok\n", await fleet.Gateway.Client.GetStringAsync(new Uri(path, UriKind.Relative), TestContext.Current.CancellationToken));
        // Not ready: issuance was never heard, so the fleet believes nobody. The registry is.
        using var ready = await fleet.Gateway.Client.GetAsync(new Uri("/readyz", UriKind.Relative), TestContext.Current.CancellationToken);
        Assert.Equal(HttpStatusCode.ServiceUnavailable, ready.StatusCode);
        Assert.Contains("\"registry\":{\"met\":true", await ready.Content.ReadAsStringAsync(TestContext.Current.CancellationToken), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Shows_nodes_with_the_newest_of_them()
    {
        await using var fleet = await FleetHost.StartAsync();
        await fleet.BeatAsync(fleet.NodeOf(FleetHost.Acme), "a");
        fleet.Time.Advance(TimeSpan.FromSeconds(1));
        await fleet.BeatAsync(fleet.NodeOf(FleetHost.Globex), "g");
        var caller = fleet.Caller(FleetHost.Acme, "read");

        var all = (await fleet.GetAsync(caller, "/v1/fleet")).Read(WireJson.Default.FleetStatus);
        Assert.Equal((2, fleet.Time.GetUtcNow()), (all.Nodes.Count, all.LastUpdated));
        var own = (await fleet.GetAsync(caller, "/v1/fleet?tenant_id=acme-corp")).Read(WireJson.Default.FleetStatus);
        Assert.Equal(("a", fleet.Time.GetUtcNow() - TimeSpan.FromSeconds(1)), (Assert.Single(own.Nodes).NodeId, own.LastUpdated));
        Assert.Null((await fleet.GetAsync(caller, "/v1/fleet?tenant_id=nobody")).Read(WireJson.Default.FleetStatus).LastUpdated);
        (await fleet.GetAsync(caller, "/v1/nodes/g")).Refuses(ErrorCode.NotFound);
        (await fleet.GetAsync(caller, "/v1/nodes/g?tenant_id=globex")).Refuses(ErrorCode.NotFound);
    }

    [Theory]
    [InlineData("Fleet:HeartbeatSeconds", "0.5")]
    [InlineData("Fleet:HeartbeatSeconds", "21")]
    [InlineData("Fleet:HeartbeatSeconds", "often")]
    [InlineData("Fleet:HeartbeatSecnods", "10")]
    [InlineData("Fleet:Listen", "http://0.0.0.0:9203")]
    [InlineData("Fleet:Listen", "everywhere")]
    public async Task Does_not_start_with_a_setting_that_is_wrong(string setting, string value)
    {
        var failure = await Assert.ThrowsAsync<StartupException>(async () =>
        {
            await using var fleet = await FleetHost.StartAsync(Stores.Sqlite, (setting, value));
        });
        Assert.Contains(setting.Split(':')[1], failure.Message, StringComparison.Ordinal);
    }
}

public sealed class DamagedRegistry
{
    public static TheoryData<string> Damages => new("garbage", "cut", "row");

    [Theory]
    [MemberData(nameof(Damages))]
    public async Task Stops_the_start_and_is_left_as_it_is(string damage)
    {
        await using var fleet = await FleetHost.StartAsync();
        await fleet.BeatAsync(fleet.NodeOf(FleetHost.Acme), "a", vms: Wire.Vm("vm-a"));
        if (damage == "row")
            await fleet.Services.GetRequiredService<Database>().WriteAsync(async transaction =>
            {
                await using var command = transaction.Connection!.CreateCommand();
                command.CommandText = "UPDATE vm SET host_ports = '[1'";
                command.Transaction = transaction;
                return await command.ExecuteNonQueryAsync();
            }, TestContext.Current.CancellationToken);
        await fleet.StopAsync();
        var file = Path.Combine(fleet.Folder, FleetStore.FileName);
        var bytes = await File.ReadAllBytesAsync(file, TestContext.Current.CancellationToken);
        if (damage == "garbage")
            await File.WriteAllTextAsync(file, new string('x', 8192), TestContext.Current.CancellationToken);
        else if (damage == "cut")
            await File.WriteAllBytesAsync(file, bytes[..(bytes.Length / 2 / 4096 * 4096)], TestContext.Current.CancellationToken);
        // Nothing of the fleet's was there before: what a refused start makes would show.
        File.Delete(Path.Combine(fleet.Folder, "service.key"));
        var before = await FolderAsync(fleet.Folder);

        var failure = await Assert.ThrowsAsync<StateCorruptException>(() => fleet.StartAgainAsync());
        Assert.Contains(file, failure.Message, StringComparison.Ordinal);
        Assert.Equal(before, await FolderAsync(fleet.Folder));
    }

    private static async Task<IReadOnlyList<string>> FolderAsync(string folder)
    {
        var found = new List<string>();
        foreach (var file in Directory.GetFiles(folder).Order(StringComparer.Ordinal))
            found.Add($"{Path.GetFileName(file)} {Convert.ToHexString(System.Security.Cryptography.SHA256.HashData(await File.ReadAllBytesAsync(file, TestContext.Current.CancellationToken)))}");
        return found;
    }
}
