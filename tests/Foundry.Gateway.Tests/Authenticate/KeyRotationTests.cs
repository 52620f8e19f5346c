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
