using System.Net;
using Foundry.Contracts;
using Foundry.Gateway.Admit;
using Foundry.Gateway.Authenticate;
using Foundry.Gateway.Config;
using Foundry.Tokens;
using Microsoft.AspNetCore.Http;

namespace Foundry.Gateway.Tests.Admit;

/// <summary>The share of those without a valid token (CONTRACT section 5; HAZARDS 53).</summary>
public sealed class AddressShare
{
    public static TheoryData<string, string> Same { get; } = new()
    {
        { "192.0.2.1", "192.0.2.1" },
        { "192.0.2.1", "::ffff:192.0.2.1" },
        { "2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff" },
    };

    public static TheoryData<string, string> Different { get; } = new()
    {
        { "192.0.2.1", "192.0.2.2" },
        { "::ffff:192.0.2.1", "::ffff:192.0.2.2" },
        { "2001:db8:1:2::1", "2001:db8:1:3::1" },
        { "2001:db8:1:2::1", "2001:db8:1:102::1" },
        { "192.0.2.1", "2001:db8:1:2::1" },
        { "0.0.0.0", "::" },
    };

    [Theory, MemberData(nameof(Same))]
    public void Is_one_for(string one, string other)
    {
        using var lane = Lane();
        SpendAll(lane, one);

        // A second may pass on a busy machine and refill it: then it is spent at one, and so at the other, again.
        Assert.True(EitherSpentTogether(lane, one, other));
    }

    [Theory, MemberData(nameof(Different))]
    public void Is_not_one_for(string one, string other)
    {
        using var lane = Lane();
        SpendAll(lane, one);

        Assert.False(lane.IsSpent(From(other), out _));
        Assert.Null(lane.TrySpend(From(other)));
        Assert.Null(lane.TrySpend(From(other)));
    }

    [Fact]
    public void Holds_two_seconds_of_requests_and_refuses_as_rate_limited()
    {
        using var lane = new AddressLane(new GatewayOptions { AnonymousPerSecond = 50_000 });
        for (var i = 0; i < 100_000; i++)
            Assert.Null(lane.TrySpend(From("192.0.2.1")));

        using var small = Lane();
        var refusal = SpendAll(small, "192.0.2.1");
        Assert.Equal(ErrorCode.RateLimited, refusal.Error);
        Assert.True(refusal.RetryAfter >= TimeSpan.FromSeconds(1));
    }

    [Fact]
    public void Is_not_spent_by_asking_whether_it_is()
    {
        using var lane = Lane();
        for (var i = 0; i < 100; i++)
            Assert.False(lane.IsSpent(From("192.0.2.1"), out _));
        Assert.Null(lane.TrySpend(From("192.0.2.1")));
    }

    private static bool EitherSpentTogether(AddressLane lane, string one, string other)
    {
        for (var i = 0; i < 100; i++)
        {
            SpendAll(lane, one);
            if (lane.IsSpent(From(other), out _))
                return true;
        }
        return false;
    }

    private static AddressLane Lane() => new(new GatewayOptions { AnonymousPerSecond = 1 });

    private static Refusal SpendAll(AddressLane lane, string address)
    {
        for (var i = 0; i < 10_000; i++)
            if (lane.TrySpend(From(address)) is { } refusal)
                return refusal;
        throw new InvalidOperationException("The address was never refused.");
    }

    private static DefaultHttpContext From(string address) => new() { Connection = { RemoteIpAddress = IPAddress.Parse(address) } };
}

/// <summary>The nodes' lane (CONTRACT section 5).</summary>
public sealed class NodeLane
{
    [Fact]
    public void Is_one_per_key()
    {
        using var lane = new HeartbeatLane();
        var (one, other) = (Node("one"), Node("other"));
        Refusal? refusal = null;
        var admitted = 0;
        for (; admitted < 10_000 && (refusal = lane.TrySpend(one)) is null; admitted++) ;

        Assert.True(admitted >= 5);
        Assert.Equal(ErrorCode.RateLimited, refusal!.Error);
        for (var i = 0; i < 5; i++)
            Assert.Null(lane.TrySpend(other));
    }

    [Fact]
    public void Is_not_used_up_by_another_tenant_that_names_the_nodes_key()
    {
        using var lane = new HeartbeatLane();
        var refused = false;
        for (var i = 0; i < 10_000 && !refused; i++)
            refused = lane.TrySpend(Node("public", "mallory")) is not null;
        Assert.True(refused);

        for (var i = 0; i < 5; i++)
            Assert.Null(lane.TrySpend(Node("public", "acme")));
    }

    private static Caller Node(string key, string? tenantId = null) =>
        new(new CapabilityToken { Iss = "", Aud = CapabilityToken.Audience, Jti = Guid.NewGuid().ToString(), Iat = 0, Nbf = 0, Exp = 0, TenantId = tenantId, Sub = key, Scope = "service:fleet-node", SubjectPubkey = key }, default);
}
