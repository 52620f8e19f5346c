using System.Diagnostics.Metrics;
using System.Globalization;
using Foundry.Contracts;
using Foundry.Gateway.Admit;
using Foundry.Gateway.Config;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Time.Testing;
using StackExchange.Redis;

namespace Foundry.Gateway.Tests.Admit;

/// <summary>Rates while Redis is in trouble (CONTRACT section 5; HAZARDS 41, 42, 48 to 50): real processes, and a way to them that a test may break.</summary>
public sealed class TroubledRedis
{
    private const string Skipped = "FOUNDRY_TEST_REDIS is not set";
    private static readonly Script Ping = new("return 'pong'");

    /// <summary>Hung for one gateway only: its requests are answered by its own share, and none of them waits; the others go on sharing.</summary>
    [Theory(Skip = Skipped, SkipType = typeof(Engines), SkipWhen = nameof(Engines.NoRedis))]
    [InlineData(false, 60)]
    [InlineData(true, 60)]
    [InlineData(false, 60_000)]
    [InlineData(true, 60_000)]
    public async Task Cut_off_from_one_gateway_leaves_that_one_its_share_and_the_others_the_bucket(bool isCut, int rpm)
    {
        using var redis = await OwnRedis.StartAsync();
        using var engine = Engine.At(redis.Address);
        using var way = new RedisProxy(redis.Port);
        await using var one = await RunningStore.UpAsync(way.Address);
        await using var other = await RunningStore.UpAsync(redis.Address);
        using var cutOff = one.Limiter(new FakeTimeProvider());
        using var wellOff = other.Limiter(new FakeTimeProvider());

        if (isCut)
            way.Cut();
        else
            way.Stall();

        // Whoever noticed it has an answer, too; from then on every answer is there at once, though nothing ever comes back.
        await Eventually.TrueAsync(async () => (await cutOff.SpendAsync(await FullAsync(engine, rpm), 1)).Local);
        Assert.False(one.Store.IsFast);
        for (var i = 0; i < 1000; i++)
        {
            var asked = cutOff.SpendAsync(Tenants.New(rpm), 1);
            Assert.True(asked.IsCompletedSuccessfully && (await asked).Local);
        }
        Assert.Equal((false, null), await wellOff.SpendAsync(await FullAsync(engine, rpm), 1) is var verdict ? (verdict.Local, verdict.RetryAfter) : default);

        way.Mend();
        await Eventually.TrueAsync(async () => !(await cutOff.SpendAsync(await FullAsync(engine, rpm), 1)).Local);
    }

    /// <summary>Slow, but not away: nobody waits who can do without it, creates still ask.</summary>
    [Fact(Skip = Skipped, SkipType = typeof(Engines), SkipWhen = nameof(Engines.NoRedis))]
    public async Task That_is_slow_holds_no_request_up_and_is_still_asked_by_creates()
    {
        using var redis = await OwnRedis.StartAsync();
        using var engine = Engine.At(redis.Address);
        using var way = new RedisProxy(redis.Port);
        await using var store = await RunningStore.UpAsync(way.Address);
        using var limiter = store.Limiter(new FakeTimeProvider());

        way.Delay = TimeSpan.FromMilliseconds(300);
        await Eventually.TrueAsync(async () => (await limiter.SpendAsync(await FullAsync(engine, 60), 1)).Local);

        Assert.True(store.Readiness.Shows("redis", "slow"));
        var asked = limiter.SpendAsync(Tenants.New(60), 1);
        Assert.True(asked.IsCompletedSuccessfully && (await asked).Local);
        Assert.Equal("pong", (string?)await store.Store.EvaluateAsync(Ping, [], []));

        way.Mend();
        await Eventually.TrueAsync(async () => !(await limiter.SpendAsync(await FullAsync(engine, 60), 1)).Local);
    }

    /// <summary>The replica that took over lacks what was spent last: the bucket used to be as full as the replica had it.</summary>
    [Fact(Skip = Skipped, SkipType = typeof(Engines), SkipWhen = nameof(Engines.NoRedis))]
    public async Task That_failed_over_leaves_every_bucket_empty()
    {
        using var primary = await OwnRedis.StartAsync();
        using var replica = await OwnRedis.StartAsync("--replicaof", "127.0.0.1", primary.Port.ToString(CultureInfo.InvariantCulture), "--repl-diskless-sync-delay", "0");
        using var second = Engine.At($"{replica.Address},allowAdmin=true");
        await using var store = await RunningStore.UpAsync($"{primary.Address},{replica.Address}");
        using var limiter = store.Limiter(new FakeTimeProvider());
        var tenant = Tenants.New(rpm: 1);
        using (var first = Engine.At(primary.Address))
            await first.Data.StringSetAsync(Tenants.KeyOf(tenant, "since"), 1);
        await Eventually.TrueAsync(async () => await second.Data.KeyExistsAsync(Tenants.KeyOf(tenant, "since"), CommandFlags.DemandReplica));
        var run = store.Store.RunId;

        // It spends its one request, and the replica has not heard of it.
        primary.Kill();
        await second.Side.GetServer(replica.Address).ExecuteAsync("REPLICAOF", "NO", "ONE");
        await Eventually.TrueAsync(() => store.Store.IsFast && store.Store.RunId != run);

        var verdict = await limiter.SpendAsync(tenant, 1);
        Assert.False(verdict.Local);
        Assert.NotNull(verdict.RetryAfter);
    }

    /// <summary>HAZARDS 41: of a fast tenant, one command for fifty requests at most, those inside scripts and the probes included.</summary>
    [Fact(Skip = Skipped, SkipType = typeof(Engines), SkipWhen = nameof(Engines.NoRedis))]
    public async Task Runs_a_command_for_fifty_requests_of_a_fast_tenant()
    {
        const int requests = 50_000;
        using var redis = await OwnRedis.StartAsync();
        using var engine = Engine.At(redis.Address);
        await using var store = await RunningStore.UpAsync(redis.Address);
        var time = new FakeTimeProvider();
        using var limiter = store.Limiter(time);
        // A thousand requests a second by the gateway's clock; the store's goes as it goes, and has enough for all of them.
        var tenant = await FullAsync(engine, 1_000_000);
        await limiter.SpendAsync(tenant, 1);

        var before = await CommandsAsync(engine);
        for (var i = 0; i < requests; i++)
        {
            time.Advance(TimeSpan.FromMilliseconds(1));
            Assert.Equal((false, null), await limiter.SpendAsync(tenant, 1) is var verdict ? (verdict.Local, verdict.RetryAfter) : default);
        }
        var commands = await CommandsAsync(engine) - before;

        Assert.InRange(commands, 1, requests / 50);
    }

    /// <summary>HAZARDS 42: what was admitted is what the bucket says was taken of it, to the request; and no stretch of time holds more.</summary>
    [Theory, MemberData(nameof(Engines.All), MemberType = typeof(Engines))]
    public async Task Admits_of_two_thousand_requests_at_three_gateways_what_the_bucket_holds(string kind)
    {
        using var engine = Engine.Start(kind);
        await using var gateways = await Gateways.StartAsync(engine, 3);
        var tenant = await FullAsync(engine, 1000);

        var begun = await engine.TimeAsync();
        var verdicts = await Task.WhenAll(Enumerable.Range(0, 2000).Select(i => gateways[i % 3].SpendAsync(tenant, 1).AsTask()));
        var ended = await engine.TimeAsync();

        var admitted = verdicts.Count(verdict => verdict.RetryAfter is null);
        Assert.DoesNotContain(verdicts, verdict => verdict.Local);
        var spent = (double)await engine.Data.HashGetAsync(Tenants.KeyOf(tenant, "rate"), "spent");
        var clock = (long)await engine.Data.HashGetAsync(Tenants.KeyOf(tenant, "rate"), "clock");
        Assert.InRange(clock, begun, ended);
        Assert.InRange(admitted, Math.Max(100, spent), spent + (clock - begun) / 60e6 * 1000 + 1e-6);
    }

    /// <summary>The same of leases, over seconds: every stretch of the store's time is looked at.</summary>
    [Theory, MemberData(nameof(Engines.All), MemberType = typeof(Engines))]
    public async Task Never_admits_more_than_bucket_and_refill_of_what_three_gateways_leased(string kind)
    {
        const int rpm = 3000;
        using var engine = Engine.Start(kind);
        await using var gateways = await Gateways.StartAsync(engine, 3, leaseFromRpm: 1, time: TimeProvider.System);
        var tenant = await FullAsync(engine, rpm);

        var begun = await engine.TimeAsync();
        var admitted = (await Task.WhenAll(Enumerable.Range(0, 12).Select(async worker =>
        {
            var mine = new List<(long From, long To)>();
            for (var from = begun; from < begun + 5_000_000; from = await engine.TimeAsync())
                if (await gateways[worker % 3].SpendAsync(tenant, 1) is { RetryAfter: null, Local: false })
                    mine.Add((from, await engine.TimeAsync()));
            return mine;
        }))).SelectMany(mine => mine).OrderBy(one => one.To).ToArray();

        Assert.True(admitted.Length >= 300, $"{admitted.Length} admitted of a full bucket of 300");
        foreach (var (start, _) in admitted)
        {
            var count = 0;
            foreach (var (from, to) in admitted)
                if (from >= start)
                    Assert.True(++count <= 300 + (to - start) / 60e6 * rpm + 1e-6, $"{count} in {to - start} microseconds");
        }
    }

    /// <summary>Each says by name that it is there; how many there are is how the rate is shared when the store is away.</summary>
    [Theory, MemberData(nameof(Engines.All), MemberType = typeof(Engines))]
    public async Task Tells_gateways_how_many_they_are(string kind)
    {
        using var engine = Engine.Start(kind);
        await engine.Data.KeyDeleteAsync("foundry:v1:gateways");
        await using var store = await RunningStore.UpAsync(engine.ConnectionString);
        await using var services = new ServiceCollection().AddMetrics().BuildServiceProvider();
        var time = new FakeTimeProvider();
        var gateways = Enumerable.Range(0, 3).Select(i => new GatewaysSeen(store.Store, new GatewayOptions { Name = $"g{i}", GatewaysExpected = 2 }, services.GetRequiredService<IMeterFactory>(), time)).ToArray();
        // One that was there half an hour ago, and one nine minutes ago.
        var now = await engine.TimeAsync();
        await engine.Data.SortedSetAddAsync("foundry:v1:gateways", [new("long-gone", now - 1_800_000_000), new("just-gone", now - 540_000_000)]);
        try
        {
            Assert.Equal(2, gateways[0].Count);
            foreach (var gateway in gateways)
                await gateway.StartAsync(CancellationToken.None);
            await Eventually.TrueAsync(() =>
            {
                time.Advance(TimeSpan.FromSeconds(10));
                return gateways.All(gateway => gateway.Count == 4);
            });
            Assert.InRange((await engine.Data.KeyTimeToLiveAsync("foundry:v1:gateways"))!.Value, TimeSpan.FromSeconds(1), GatewaysSeen.SeenFor);
        }
        finally
        {
            foreach (var gateway in gateways)
            {
                await gateway.StopAsync(CancellationToken.None);
                gateway.Dispose();
            }
            await engine.Data.KeyDeleteAsync("foundry:v1:gateways");
        }
    }

    /// <summary>A tenant with a history, whose bucket is full.</summary>
    private static async Task<Tenant> FullAsync(Engine engine, int rpm)
    {
        var tenant = Tenants.New(rpm);
        await engine.Data.StringSetAsync(Tenants.KeyOf(tenant, "since"), await engine.TimeAsync() - 3_600_000_000);
        return tenant;
    }

    private static async Task<long> CommandsAsync(Engine engine) =>
        ((string?)await engine.Data.ExecuteAsync("INFO", "commandstats"))!.Split('\n').Where(line => line.StartsWith("cmdstat_", StringComparison.Ordinal))
            .Sum(line => long.Parse(line.Split("calls=")[1].Split(',')[0], CultureInfo.InvariantCulture));
}

/// <summary>Nodes' reports (CONTRACT section 5; HAZARDS 72): nothing of the tenants' rates or of Redis is on their path.</summary>
public sealed class NodesReports
{
    [Fact]
    public async Task Are_not_lost_with_a_tenant_far_over_its_rate_and_Redis_away()
    {
        await using var host = await GatewayHost.StartAsync(new GatewaySetup { AwaitReady = false, Settings = new Dictionary<string, string?> { ["Gateway:Redis"] = "127.0.0.1:1" } });
        var slow = host.Issuance.CreateTenant($"slow-{Guid.NewGuid():N}"[..20], tenant => tenant with { ApiRateLimitRpm = 60 });
        await host.CaughtUpAsync();
        var flood = host.Token(slow.TenantId, "read");
        var nodes = Enumerable.Range(0, 100).Select(_ => host.Token("service:fleet-node")).ToArray();
        await host.UntilAsync(async () => (await host.GetAsync("/v1/vms", flood)).Status is 200 or 429);

        using var over = CancellationTokenSource.CreateLinkedTokenSource(TestContext.Current.CancellationToken);
        var flooding = Enumerable.Range(0, 8).Select(async _ =>
        {
            var refused = 0;
            while (!over.IsCancellationRequested)
                refused += (await host.GetAsync("/v1/vms", flood)).Status == 429 ? 1 : 0;
            return refused;
        }).ToArray();
        var reports = new List<Answer>();
        foreach (var some in nodes.Chunk(10))
            reports.AddRange(await Task.WhenAll(some.Select(node => host.SendAsync("POST", "/v1/nodes/heartbeat", node, """{"vms":[]}"""))));
        await over.CancelAsync();

        Assert.All(reports, report => Assert.Equal(200, report.Status));
        Assert.True((await Task.WhenAll(flooding)).Sum() > 0, "The tenant was never over its rate.");
    }
}
