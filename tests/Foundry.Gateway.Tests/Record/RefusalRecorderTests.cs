using Microsoft.Extensions.Time.Testing;

namespace Foundry.Gateway.Tests.Record;

/// <summary>CONTRACT section 7: the first refusal per token, route, code and minute as it happens, the rest of the minute as a count.</summary>
public sealed class RefusalRecorderTests
{
    [Fact]
    public async Task The_first_of_a_minute_is_recorded_and_the_rest_are_counted()
    {
        var time = new FakeTimeProvider(TimeProvider.System.GetUtcNow());
        await using var host = await GatewayHost.StartAsync(new GatewaySetup { Time = time });
        var (token, other) = (host.Token("read"), host.Token("read"));
        const string create = """{"vm_type":"micro","ram_mb":512,"vcpu_count":1}""";
        for (var i = 0; i < 5; i++)
            Assert.Equal(403, (await host.SendAsync("POST", "/v1/vms", token, create)).Status);
        Assert.Equal(403, (await host.GetAsync($"/v1/vms?tenant_id={host.AcmeTwin}", token)).Status);
        Assert.Equal(403, (await host.SendAsync("POST", "/v1/vms", other, create)).Status);

        // One per token, route and code; and nobody hears of it in the log of the tenant that was named.
        var first = await host.RecordedAsync("ACCESS_DENIED", 3);
        Assert.All(first, recorded => Assert.Equal(host.Acme, recorded.Log));
        Assert.Equal([("vms-create", "insufficient_scope"), ("vms-create", "insufficient_scope"), ("vms-list", "tenant_mismatch")],
            first.Select(recorded => (recorded.Payload.GetProperty("route").GetString()!, recorded.Payload.GetProperty("code").GetString()!)).Order());

        time.Advance(TimeSpan.FromMinutes(1));
        var all = await host.RecordedAsync("ACCESS_DENIED", 4);

        var counted = Assert.Single(all, recorded => recorded.Payload.TryGetProperty("repeats", out _));
        Assert.Equal((4, "vms-create", "insufficient_scope"), (counted.Payload.GetProperty("repeats").GetInt32(), counted.Payload.GetProperty("route").GetString(), counted.Payload.GetProperty("code").GetString()));
        Assert.Equal(4, all.Length);
        Assert.Equal(4, all.DistinctBy(recorded => recorded.PayloadId).Count());

        // A new minute begins with one again.
        Assert.Equal(403, (await host.SendAsync("POST", "/v1/vms", token, create)).Status);
        await host.RecordedAsync("ACCESS_DENIED", 5);
    }

    [Fact]
    public async Task What_may_be_foreign_or_absent_is_not_recorded()
    {
        await using var host = await GatewayHost.StartAsync();
        host.Fleet.Add(host.AcmeTwin, "foreign");
        var token = host.Token("read");
        await host.GetAsync("/v1/vms/foreign", token);
        await host.GetAsync("/v1/vms/absent", token);
        await host.GetAsync("/v1/unknown", token);
        // What is recorded after them shows that they were not.
        await host.GetAsync("/v1/tenants", token);

        await host.RecordedAsync("ACCESS_DENIED");
        Assert.Equal("tenants", Assert.Single(host.Ledger.Events).Payload.GetProperty("route").GetString());
    }
}
