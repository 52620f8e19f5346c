using System.Net;
using Foundry.Contracts;
using Foundry.Gateway.Admit;
using Foundry.Gateway.Authenticate;
using Foundry.Gateway.Config;
using Foundry.Tokens;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Time.Testing;

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
        var lane = Lane(out _);
        SpendAll(lane, one);

        Assert.True(lane.IsSpent(From(other), out _));
        Assert.NotNull(lane.TrySpend(From(other)));
    }

    [Theory, MemberData(nameof(Different))]
    public void Is_not_one_for(string one, string other)
    {
        var lane = Lane(out _);
        SpendAll(lane, one);

        Assert.False(lane.IsSpent(From(other), out _));
        Assert.Null(lane.TrySpend(From(other)));
        Assert.Null(lane.TrySpend(From(other)));
    }

    [Fact]
    public void Holds_two_seconds_of_requests_and_refuses_as_rate_limited_until_one_fits()
    {
        var lane = Lane(out var time, perSecond: 4);
        for (var i = 0; i < 8; i++)
            Assert.Null(lane.TrySpend(From("192.0.2.1")));
        var refusal = lane.TrySpend(From("192.0.2.1"));
        Assert.Equal((ErrorCode.RateLimited, TimeSpan.FromSeconds(1)), (refusal!.Error, refusal.RetryAfter!.Value));

        time.Advance(TimeSpan.FromMilliseconds(249));
        Assert.NotNull(lane.TrySpend(From("192.0.2.1")));
        time.Advance(TimeSpan.FromMilliseconds(1));
        Assert.Null(lane.TrySpend(From("192.0.2.1")));
        Assert.NotNull(lane.TrySpend(From("192.0.2.1")));
    }

    [Fact]
    public void Is_not_spent_by_asking_whether_it_is()
    {
        var lane = Lane(out _);
        for (var i = 0; i < 100; i++)
            Assert.False(lane.IsSpent(From("192.0.2.1"), out _));
        Assert.Null(lane.TrySpend(From("192.0.2.1")));
    }

    /// <summary>It used to hold a bucket for each address of the last seconds: as many as anybody cared to have.</summary>
    [Fact]
    public void Takes_no_memory_for_another_address()
    {
        var lane = Lane(out _);
        var context = From("2001:db8::1");
        lane.TrySpend(context);
        var addresses = Enumerable.Range(0, 10_000).Select(i => IPAddress.Parse($"2001:db8:{i:x}::1")).ToArray();

        var before = GC.GetAllocatedBytesForCurrentThread();
        foreach (var address in addresses)
        {
            context.Connection.RemoteIpAddress = address;
            lane.TrySpend(context);
        }

        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
    }

    private static AddressLane Lane(out FakeTimeProvider time, int perSecond = 1) => new(new GatewayOptions { AnonymousPerSecond = perSecond }, time = new FakeTimeProvider());

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
