using Foundry.Tokens;

namespace Foundry.Gateway.Tests.Authenticate;

/// <summary>HAZARDS B4: keys come and go without an outage, and go at once where they must.</summary>
public sealed class KeyRotationTests
{
    [Fact]
    public async Task A_new_key_verifies_beside_the_old_one_and_a_withdrawn_one_no_longer()
    {
        await using var host = await GatewayHost.StartAsync();
        var (oldKid, oldToken) = (host.Issuance.SigningKey.Kid, host.Token("read"));
        host.Issuance.Rotate();
        await host.CaughtUpAsync();
        var newToken = host.Token("read");
        Assert.Equal(200, (await host.GetAsync("/v1/vms", oldToken)).Status);
        Assert.Equal(200, (await host.GetAsync("/v1/vms", newToken)).Status);

        host.Issuance.Withdraw(oldKid);
        await host.CaughtUpAsync();

        var answer = await host.GetAsync("/v1/vms", oldToken);
        Assert.Equal((401, "unknown_key"), (answer.Status, answer.Reason));
        Assert.Equal(200, (await host.GetAsync("/v1/vms", newToken)).Status);
    }

    [Fact]
    public async Task Unknown_keys_are_asked_about_once_however_many_there_are()
    {
        var time = new MovableTime();
        await using var host = await GatewayHost.StartAsync(new GatewaySetup { Time = time });
        // The feed does not tell of this key; only who asks hears of it.
        host.Issuance.Rotate(announce: false);
        time.Move(TimeSpan.FromSeconds(11));
        var before = host.Issuance.TrustFetches;

        Assert.Equal(200, (await host.GetAsync("/v1/vms", host.Token("read"))).Status);
        Assert.Equal(before + 1, host.Issuance.TrustFetches);
        for (var i = 0; i < 20; i++)
        {
            using var stranger = SigningKey.Generate();
            Assert.Equal("unknown_key", (await host.GetAsync("/v1/vms", host.Issuance.Mint(host.Acme, "read", key: stranger).Text)).Reason);
        }
        Assert.Equal(before + 1, host.Issuance.TrustFetches);
    }

    [Fact]
    public async Task A_flood_of_unknown_keys_asks_once_in_ten_seconds_and_delays_no_known_one()
    {
        var time = new MovableTime();
        await using var host = await GatewayHost.StartAsync(new GatewaySetup { Time = time });
        var known = host.Token("read");
        using var stranger = SigningKey.Generate();
        for (var window = 0; window < 2; window++)
        {
            time.Move(TimeSpan.FromSeconds(11));
            var before = host.Issuance.TrustFetches;
            // In one go, all of them together: those who ask meanwhile share the answer.
            var flood = Enumerable.Range(0, 40).Select(_ => host.GetAsync("/v1/vms", host.Issuance.Mint(host.Acme, "read", key: stranger).Text)).ToList();
            Assert.Equal(200, (await host.GetAsync("/v1/vms", known)).Status);
            Assert.All(await Task.WhenAll(flood), answer => Assert.Equal((401, "unknown_key"), (answer.Status, answer.Reason)));
            Assert.InRange(host.Issuance.TrustFetches, before + 1, before + 2); // One of them may be the follower's own.
        }
    }

    [Fact]
    public async Task With_issuance_down_known_keys_go_on_and_unknown_ones_are_unknown()
    {
        var time = new MovableTime();
        await using var host = await GatewayHost.StartAsync(new GatewaySetup { Time = time });
        var known = host.Token("read");
        var fresh = host.Token("read");
        host.Issuance.Rotate(announce: false);
        var unheard = host.Token("read");
        await host.Issuance.DisposeAsync();
        time.Move(TimeSpan.FromSeconds(11));

        Assert.Equal("unknown_key", (await host.GetAsync("/v1/vms", unheard)).Reason);
        Assert.Equal(200, (await host.GetAsync("/v1/vms", known)).Status);
        await host.StopGatewayAsync();
        await host.StartGatewayAsync();
        Assert.Equal(200, (await host.GetAsync("/v1/vms", fresh)).Status);
    }

    [Fact]
    public async Task A_token_known_to_be_good_ends_at_its_second()
    {
        var time = new MovableTime();
        await using var host = await GatewayHost.StartAsync(new GatewaySetup { Time = time });
        var token = host.Token("read");
        Assert.Equal(200, (await host.GetAsync("/v1/vms", token)).Status);

        time.Move(TimeSpan.FromHours(1));

        Assert.Equal("expired", (await host.GetAsync("/v1/vms", token)).Reason);
    }
}
