using System.Text.Json;
using Foundry.Contracts;
using Microsoft.Extensions.Time.Testing;
using StackExchange.Redis;

namespace Foundry.Gateway.Tests;

/// <summary>What a tenant uses, as the gateway itself answers it.</summary>
public sealed class OwnAnswersTests
{
    [Fact]
    public async Task A_status_is_told_from_totals_alone_however_many_vms_there_are()
    {
        // The clock stands still outside of waiting, so that nothing but the request reads what is spoilt below.
        await using var host = await GatewayHost.StartAsync(new GatewaySetup { Time = new FakeTimeProvider(TimeProvider.System.GetUtcNow()) });
        var id = $"many-{Guid.NewGuid():N}"[..20];
        for (var i = 0; i < 5_000; i++)
            host.Fleet.Add(id, ramMb: i, diskGb: i % 7);
        host.Issuance.CreateTenant(id, tenant => tenant with { MaxVms = 10_000 });
        await host.CaughtUpAsync();
        var token = host.Token(id, "read");
        await host.UntilAsync(async () => (await host.GetAsync("/v1/status", token)) is { Status: 200 } answer && Use(answer).VmsRunning is not null);
        var listed = (await host.GetAsync("/v1/vms", token)).Json.EnumerateArray().ToArray();
        var expected = ((int?)listed.Length, (long?)listed.Sum(vm => vm.GetProperty("ram_alloc_mb").GetInt64()), (long?)listed.Sum(vm => vm.GetProperty("disk_gb").GetInt64()));
        Assert.Equal(5_000, expected.Item1);
        Assert.Equal(expected, Totals(Use(await host.GetAsync("/v1/status", token))));

        await using var redis = await ConnectionMultiplexer.ConnectAsync(SharedRedis.ConnectionString);
        var key = $"foundry:v1:{{{id}}}:quota";
        Assert.False(await redis.GetDatabase().HashSetAsync(key, $"v:{listed[0].GetProperty("vm_id").GetString()}", "unreadable"));

        Assert.Equal(expected, Totals(Use(await host.GetAsync("/v1/status", token))));
    }

    private static UseStatus Use(Answer answer) => JsonSerializer.Deserialize(answer.Body, WireJson.Default.UseStatus)!;

    private static (int?, long?, long?) Totals(UseStatus use) => (use.VmsRunning, use.RamUsedMb, use.StorageUsedGb);
}
