using Foundry.Gateway.Authenticate;
using Foundry.ServiceDefaults;

namespace Foundry.Gateway.Tests.Authenticate;

/// <summary>What issuance said is on disk, signed: a start with issuance down refuses what was refused before.</summary>
public sealed class FeedStateTests
{
    [Fact]
    public async Task A_restart_with_issuance_down_refuses_what_was_revoked_and_lets_in_the_rest()
    {
        await using var host = await GatewayHost.StartAsync();
        var (good, bad) = (host.Issuance.Mint(host.Acme, "read"), host.Issuance.Mint(host.Acme, "read"));
        host.Issuance.Revoke(bad.Claims);
        await host.CaughtUpAsync();
        await host.StopGatewayAsync();
        await host.Issuance.DisposeAsync();

        await host.StartGatewayAsync();

        Assert.Equal("revoked", (await host.GetAsync("/v1/vms", bad.Text)).Reason);
        Assert.Equal(200, (await host.GetAsync("/v1/vms", good.Text)).Status);
    }

    [Fact]
    public async Task A_gateway_that_never_heard_issuance_lets_nobody_in()
    {
        await using var host = await GatewayHost.StartAsync(new GatewaySetup { AwaitReady = false, Settings = new Dictionary<string, string?> { ["Issuance:Url"] = "http://127.0.0.1:1" } });

        var answer = await host.GetAsync("/v1/vms", host.Token("read"));

        Assert.Equal((503, "not_ready"), (answer.Status, answer.Code));
        Assert.NotNull(answer["Retry-After"]);
        Assert.Equal(System.Net.HttpStatusCode.ServiceUnavailable, (await host.Client.GetAsync(new Uri(host.OpsUrl, "/readyz"), TestContext.Current.CancellationToken)).StatusCode);
    }

    [Fact]
    public async Task A_line_that_was_being_written_when_the_process_died_is_dropped_alone()
    {
        await using var host = await GatewayHost.StartAsync();
        var bad = host.Issuance.Mint(host.Acme, "read");
        host.Issuance.Revoke(bad.Claims);
        await host.CaughtUpAsync();
        await host.StopGatewayAsync();
        await host.Issuance.DisposeAsync();
        var whole = await File.ReadAllTextAsync(StateFile(host), TestContext.Current.CancellationToken);
        await File.AppendAllTextAsync(StateFile(host), "eyJhbGciOiJFZERTQSIs", TestContext.Current.CancellationToken);

        await host.StartGatewayAsync();

        Assert.Equal("revoked", (await host.GetAsync("/v1/vms", bad.Text)).Reason);
        Assert.Equal(whole, await File.ReadAllTextAsync(StateFile(host), TestContext.Current.CancellationToken));
    }

    public static TheoryData<string> Damages => [.. Damage.Keys];

    private static readonly Dictionary<string, Func<string[], string>> Damage = new()
    {
        ["a bit of the snapshot"] = lines => Flip(lines[0]) + "\n" + string.Join('\n', lines[1..]),
        ["a bit of a later line"] = lines => string.Join('\n', lines[..^2]) + "\n" + Flip(lines[^2]) + "\n",
        ["a line is missing in the middle"] = lines => string.Join('\n', [lines[0], .. lines[2..]]),
        ["a line is there twice"] = lines => string.Join('\n', [.. lines[..2], .. lines[1..]]),
        ["the snapshot is missing"] = lines => string.Join('\n', lines[1..]),
        ["text"] = _ => "not a feed\n",
        ["zeros"] = _ => new string('\0', 100) + "\n",
        ["nothing"] = _ => "",
        ["only a torn line"] = lines => lines[0][..50],
    };

    [Theory, MemberData(nameof(Damages))]
    public async Task A_damaged_file_stops_the_start_names_itself_and_stays_as_it_is(string damage)
    {
        await using var host = await GatewayHost.StartAsync();
        for (var i = 0; i < 3; i++)
        {
            host.Issuance.Revoke(host.Issuance.Mint(host.Acme, "read").Claims);
            await host.CaughtUpAsync();
        }
        await host.StopGatewayAsync();
        var damaged = Damage[damage]((await File.ReadAllTextAsync(StateFile(host), TestContext.Current.CancellationToken)).Split('\n'));
        await File.WriteAllTextAsync(StateFile(host), damaged, TestContext.Current.CancellationToken);

        var fault = await Assert.ThrowsAsync<StateCorruptException>(host.StartGatewayAsync);

        Assert.Equal(StateFile(host), fault.File);
        Assert.Equal(damaged, await File.ReadAllTextAsync(StateFile(host), TestContext.Current.CancellationToken));
    }

    [Theory]
    [InlineData("trust.json", "{}")]
    [InlineData("trust.json", "")]
    [InlineData("feed.heard", "")]
    [InlineData("feed.heard", "not a feed\n")]
    [InlineData("service.key", "not a key\n")]
    [InlineData("gateway.db", "not a database, though long enough to be taken for the head of one, which is a hundred bytes in all, as is known")]
    public async Task Every_file_of_the_folder_is_checked_at_the_start(string name, string content)
    {
        await using var host = await GatewayHost.StartAsync();
        await host.StopGatewayAsync();
        var file = Path.Combine(host.Data.Path, "gateway", name);
        Assert.True(File.Exists(file));
        await File.WriteAllTextAsync(file, content, TestContext.Current.CancellationToken);

        var fault = await Assert.ThrowsAsync<StateCorruptException>(host.StartGatewayAsync);

        Assert.Equal(file, fault.File);
        Assert.Equal(content, await File.ReadAllTextAsync(file, TestContext.Current.CancellationToken));
    }

    private static string StateFile(GatewayHost host) => Path.Combine(host.Data.Path, "gateway", FeedFile.Name);

    private static string Flip(string line)
    {
        var middle = line.Length / 2;
        return line[..middle] + (line[middle] == 'A' ? 'B' : 'A') + line[(middle + 1)..];
    }
}
