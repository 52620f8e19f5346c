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
}
