using System.Globalization;
using System.Text.RegularExpressions;
using Foundry.Gateway.Authenticate;
namespace Foundry.Gateway.Tests.Authenticate;

/// <summary>CONTRACT section 3: when issuance has long been silent, what needs the newest revocations stops, and the rest goes on.</summary>
public sealed class StalenessTests
{
    [Fact]
    public async Task Making_and_administering_stop_while_reading_deleting_and_reporting_go_on()
    {
        var time = new MovableTime();
        await using var host = await GatewayHost.StartAsync(new GatewaySetup { Time = time });
        const string create = """{"vm_type":"micro","ram_mb":512,"vcpu_count":1}""";
        var mine = host.Fleet.Add(host.Acme);
        host.Issuance.IsSilent = true;
        var (input, admin, node, platform, read, user) = (host.Token("input"), host.Token("service:tenant-admin"), host.Token("service:fleet-node"), host.PlatformToken(), host.Token("read"), host.Token("user"));

        time.Move(TimeSpan.FromMinutes(4));
        Assert.Equal(201, (await host.SendAsync("POST", "/v1/vms", input, create)).Status);
        time.Move(TimeSpan.FromMinutes(2));

        foreach (var (method, target, token, json) in new[] { ("POST", "/v1/vms", input, create), ("POST", "/v1/vms", admin, create), ("GET", "/v1/vms", admin, null), ("GET", "/v1/tenants", platform, null) })
        {
            var answer = await host.SendAsync(method, target, token, json);
            Assert.Equal((503, "feed_stale"), (answer.Status, answer.Code));
            Assert.NotNull(answer["Retry-After"]);
        }
        Assert.Equal(200, (await host.GetAsync("/v1/vms", read)).Status);
        Assert.Equal(200, (await host.GetAsync("/v1/vms", user)).Status);
        Assert.Equal(200, (await host.SendAsync("POST", "/v1/nodes/heartbeat", node, """{"vms":[]}""")).Status);
        Assert.Equal(204, (await host.SendAsync("DELETE", $"/v1/vms/{mine.VmId}", input)).Status);

        // It is said where operators look, and ends when issuance speaks again.
        await host.UntilAsync(async () => !(await host.OpsAsync("/readyz")).GetProperty("needs").GetProperty("feed").GetProperty("met").GetBoolean());
        host.Issuance.IsSilent = false;
        await host.UntilAsync(async () => (await host.SendAsync("POST", "/v1/vms", input, create)).Status == 201);
    }

    /// <summary>A gateway that is restarted again and again without issuance becomes stale all the same.</summary>
    [Fact]
    public async Task Silence_is_counted_across_restarts()
    {
        var time = new MovableTime();
        await using var host = await GatewayHost.StartAsync(new GatewaySetup { Time = time });
        const string create = """{"vm_type":"micro","ram_mb":512,"vcpu_count":1}""";
        var (input, read) = (host.Token("input"), host.Token("read"));
        var heard = Path.Combine(host.Data.Path, "gateway", FeedFollower.HeardFile);
        await host.UntilAsync(() => File.Exists(heard));
        await host.StopGatewayAsync();
        await host.Issuance.DisposeAsync();

        for (var minutes = 2; minutes <= 6; minutes += 2)
        {
            time.Move(TimeSpan.FromMinutes(2));
            await host.StartGatewayAsync();
            var answer = await host.SendAsync("POST", "/v1/vms", input, create);
            Assert.Equal(minutes < 5 ? 201 : 503, answer.Status);
            Assert.Equal(minutes < 5 ? null : "feed_stale", minutes < 5 ? null : answer.Code);
            Assert.Equal(200, (await host.GetAsync("/v1/vms", read)).Status);
            var feed = (await host.OpsAsync("/readyz")).GetProperty("needs").GetProperty("feed");
            Assert.False(feed.GetProperty("met").GetBoolean());
            var age = Regex.Match(feed.GetProperty("detail").GetString()!, "last heard ([0-9]+) s ago").Groups[1].Value;
            Assert.True(int.Parse(age, CultureInfo.InvariantCulture) > (minutes * 60) - 10, age);
            await host.StopGatewayAsync();
        }
    }

    [Theory]
    [InlineData(11, "ahead of")]
    [InlineData(-11, "behind")]
    public async Task A_clock_more_than_ten_seconds_off_is_shown_and_hinders_nothing(int secondsBehind, string word)
    {
        await using var host = await GatewayHost.StartAsync();
        async Task<System.Text.Json.JsonElement> ClockAsync() => (await host.OpsAsync("/readyz")).GetProperty("needs").GetProperty("clock");
        await host.UntilAsync(async () => (await ClockAsync()).GetProperty("met").GetBoolean());

        host.Issuance.ClockBehind = TimeSpan.FromSeconds(secondsBehind);
        await host.UntilAsync(async () => !(await ClockAsync()).GetProperty("met").GetBoolean());
        Assert.Contains(word, (await ClockAsync()).GetProperty("detail").GetString()!, StringComparison.Ordinal);
        Assert.True((await host.OpsAsync("/readyz")).GetProperty("ready").GetBoolean());

        host.Issuance.ClockBehind = TimeSpan.Zero;
        await host.UntilAsync(async () => (await ClockAsync()).GetProperty("met").GetBoolean());
    }
}
