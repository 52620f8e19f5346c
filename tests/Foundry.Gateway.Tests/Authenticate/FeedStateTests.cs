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

    [Fact]
    public async Task A_gateway_that_followed_a_history_which_is_no_more_takes_a_new_snapshot()
    {
        await using var host = await GatewayHost.StartAsync();
        var (kept, lost) = (host.Issuance.Mint(host.Acme, "read"), host.Issuance.Mint(host.Acme, "read"));
        host.Issuance.Revoke(kept.Claims);
        host.Issuance.Revoke(lost.Claims);
        await host.CaughtUpAsync();
        var snapshots = host.Issuance.Snapshots;

        // The number that the lost change had is given out again.
        host.Issuance.Restore(changesLost: 1);
        var another = host.Issuance.Mint(host.Acme, "read");
        host.Issuance.Revoke(another.Claims);

        await host.UntilAsync(() => host.Issuance.Snapshots > snapshots);
        await host.UntilAsync(async () => (await host.GetAsync("/v1/vms", another.Text)).Status == 401);
        Assert.Equal("revoked", (await host.GetAsync("/v1/vms", kept.Text)).Reason);
        Assert.Equal(200, (await host.GetAsync("/v1/vms", lost.Text)).Status);
    }

    /// <summary>All of a snapshot or nothing: until its last part is there, what was before it is in force, also after a restart.</summary>
    [Fact]
    public async Task Half_a_snapshot_changes_nothing()
    {
        await using var host = await GatewayHost.StartAsync();
        var bad = host.Issuance.Mint(host.Acme, "read");
        host.Issuance.Revoke(bad.Claims);
        await host.CaughtUpAsync();
        var snapshots = host.Issuance.Snapshots;
        var before = await File.ReadAllTextAsync(StateFile(host), TestContext.Current.CancellationToken);

        host.Issuance.SecondPart = new();
        host.Issuance.Restore(changesLost: 0);
        host.Issuance.CreateTenant("never-whole");
        await host.UntilAsync(() => host.Issuance.Snapshots > snapshots);
        await host.UntilAsync(() => File.Exists(StateFile(host) + ".new") && new FileInfo(StateFile(host) + ".new").Length >= 0);
        Assert.Equal("revoked", (await host.GetAsync("/v1/vms", bad.Text)).Reason);
        Assert.Equal("revoked", (await host.GetAsync("/v1/vms", host.Token("never-whole", "read"))).Reason);
        await host.StopGatewayAsync();
        Assert.Equal(before, await File.ReadAllTextAsync(StateFile(host), TestContext.Current.CancellationToken));

        await host.StartGatewayAsync();
        Assert.Equal("revoked", (await host.GetAsync("/v1/vms", bad.Text)).Reason);
        host.Issuance.SecondPart.SetResult();
        await host.UntilAsync(async () => (await host.GetAsync("/v1/vms", host.Token("never-whole", "read"))).Status != 401);
        Assert.Equal("revoked", (await host.GetAsync("/v1/vms", bad.Text)).Reason);
    }

    /// <summary>A snapshot of a million takes seconds; what is revoked meanwhile is refused within one.</summary>
    [Fact]
    public async Task A_long_file_is_replaced_while_the_feed_goes_on()
    {
        await using var host = await GatewayHost.StartAsync(new GatewaySetup { Settings = new Dictionary<string, string?> { ["Gateway:FeedLinesMax"] = "10" } });
        var snapshots = host.Issuance.Snapshots;
        var tokens = new List<Foundry.Testing.MintedToken>();
        async Task RevokeOneAsync()
        {
            tokens.Add(host.Issuance.Mint(host.Acme, "read"));
            host.Issuance.Revoke(tokens[^1].Claims);
            await host.CaughtUpAsync();
            Assert.Equal("revoked", (await host.GetAsync("/v1/vms", tokens[^1].Text)).Reason);
        }
        host.Issuance.SecondPart = new();
        while (host.Issuance.Snapshots == snapshots)
            await RevokeOneAsync();
        // While it is on its way, and behind what is known already.
        for (var number = 0; number < 5; number++)
            await RevokeOneAsync();
        Assert.True(LinesIn(host) > 10);

        host.Issuance.SecondPart.SetResult();
        await host.UntilAsync(() => LinesIn(host) < 10);
        await RevokeOneAsync();

        Assert.Equal(snapshots + 1, host.Issuance.Snapshots);
        await host.StopGatewayAsync();
        await host.Issuance.DisposeAsync();
        await host.StartGatewayAsync();
        foreach (var token in tokens)
            Assert.Equal("revoked", (await host.GetAsync("/v1/vms", token.Text)).Reason);
    }

    private static int LinesIn(GatewayHost host) => File.ReadAllText(StateFile(host)).Count(character => character == '\n');

    public static TheoryData<string> Damages => [.. Damage.Keys];

    private static readonly Dictionary<string, Func<string[], string>> Damage = new()
    {
        ["a bit of the snapshot"] = lines => Flip(lines[0]) + "\n" + string.Join('\n', lines[1..]),
        ["a bit of a later line"] = lines => string.Join('\n', lines[..^2]) + "\n" + Flip(lines[^2]) + "\n",
        ["a line is missing in the middle"] = lines => string.Join('\n', [.. lines[..^4], .. lines[^3..]]),
        ["a line is there twice"] = lines => string.Join('\n', [.. lines[..^2], .. lines[^3..]]),
        ["a part of the snapshot is missing"] = lines => string.Join('\n', [lines[0], .. lines[2..]]),
        ["a part of the snapshot is there twice"] = lines => string.Join('\n', [.. lines[..2], .. lines[1..]]),
        ["only a part of the snapshot"] = lines => lines[0] + "\n",
        ["a second snapshot"] = lines => string.Join('\n', [.. lines[..^1], .. lines[..2], ""]),
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
