using System.Globalization;
using CsCheck;
using Foundry.Contracts;
using Foundry.Gateway.Admit;
using Foundry.Gateway.Authenticate;
using Foundry.Gateway.Config;
using Foundry.Tokens;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Time.Testing;
using StackExchange.Redis;

namespace Foundry.Gateway.Tests.Admit;

/// <summary>A tenant's rate in the store (CONTRACT section 5; HAZARDS B5), by the store's own clock.</summary>
public sealed class RateBucket(EngineSet engines) : IClassFixture<EngineSet>
{
    private const string Since = "since", Rate = "rate";

    [Theory, MemberData(nameof(Engines.All), MemberType = typeof(Engines))]
    public async Task Holds_a_tenth_of_a_minutes_requests_at_once(string kind)
    {
        var engine = engines.Of(kind);
        await using var gateways = await Gateways.StartAsync(engine, 1);
        var tenant = Tenants.New(rpm: 600);
        await BeginFullAsync(engine, tenant);

        var begun = await engine.TimeAsync();
        var admitted = (await Task.WhenAll(Enumerable.Range(0, 200).Select(_ => gateways[0].SpendAsync(tenant, 1).AsTask()))).Count(verdict => verdict.RetryAfter is null);
        var ended = await engine.TimeAsync();

        Assert.InRange(admitted, 60, Most(60, 600, begun, ended));
    }

    [Theory, MemberData(nameof(Engines.All), MemberType = typeof(Engines))]
    public async Task Is_one_for_all_gateways(string kind)
    {
        var engine = engines.Of(kind);
        await using var gateways = await Gateways.StartAsync(engine, 3);
        var tenant = Tenants.New(rpm: 1000);
        await BeginFullAsync(engine, tenant);

        // Each admission, and the store's clock on both sides of it.
        var admitted = (await Task.WhenAll(Enumerable.Range(0, 24).Select(async worker =>
        {
            var mine = new List<(long From, long To)>();
            for (var i = 0; i < 25; i++)
            {
                var from = await engine.TimeAsync();
                var verdict = await gateways[worker % 3].SpendAsync(tenant, 1);
                if (verdict.RetryAfter is null)
                    mine.Add((from, await engine.TimeAsync()));
                Assert.False(verdict.Local);
            }
            return mine;
        }))).SelectMany(mine => mine).ToArray();

        Assert.True(admitted.Length >= 100, $"{admitted.Length} admitted of a full bucket of 100");
        // In no window more than the bucket and what it was refilled with.
        foreach (var from in admitted.Select(one => one.From))
            foreach (var to in admitted.Select(one => one.To).Where(to => to > from))
                Assert.True(admitted.Count(one => one.From >= from && one.To <= to) <= Most(100, 1000, from, to));
    }

    [Theory, MemberData(nameof(Engines.All), MemberType = typeof(Engines))]
    public async Task Is_not_charged_for_refusals(string kind)
    {
        var engine = engines.Of(kind);
        await using var gateways = await Gateways.StartAsync(engine, 1);
        var tenant = Tenants.New(rpm: 60);
        await BeginFullAsync(engine, tenant);
        while ((await gateways.AskAsync(tenant, 1)).RetryAfter is null) ;
        var before = await engine.Data.HashGetAllAsync(Tenants.KeyOf(tenant, Rate));

        for (var i = 0; i < 20; i++)
        {
            await ShiftAsync(engine, tenant, -3_600_000_000); // The clock an hour ahead: however long this takes, nothing is refilled.
            Assert.NotNull((await gateways.AskAsync(tenant, 1)).RetryAfter);
            await ShiftAsync(engine, tenant, 3_600_000_000);
        }

        Assert.Equal(before, await engine.Data.HashGetAllAsync(Tenants.KeyOf(tenant, Rate)));
    }

    [Theory, MemberData(nameof(Engines.All), MemberType = typeof(Engines))]
    public async Task That_expired_is_full(string kind)
    {
        var engine = engines.Of(kind);
        await using var gateways = await Gateways.StartAsync(engine, 1);
        var tenant = Tenants.New(rpm: 600);
        await BeginFullAsync(engine, tenant);
        await gateways.AskAsync(tenant, 60);
        await engine.Data.KeyDeleteAsync(Tenants.KeyOf(tenant, Rate));

        Assert.Equal(59, (await gateways.AskAsync(tenant, 1)).Remaining);
    }

    [Theory, MemberData(nameof(Engines.All), MemberType = typeof(Engines))]
    public async Task Whose_history_is_lost_starts_empty(string kind)
    {
        var engine = engines.Of(kind);
        await using var gateways = await Gateways.StartAsync(engine, 1);
        var tenant = Tenants.New(rpm: 10); // One request, every six seconds.
        await BeginFullAsync(engine, tenant);
        await engine.Data.KeyDeleteAsync([Tenants.KeyOf(tenant, Rate), Tenants.KeyOf(tenant, Since)]);

        var begun = await engine.TimeAsync();
        var verdict = await gateways.AskAsync(tenant, 1);

        Assert.NotNull(verdict.RetryAfter);
        Assert.Equal(0, verdict.Remaining);
        await engine.Data.StringSetAsync(Tenants.KeyOf(tenant, Since), begun - 6_000_000);
        Assert.Null((await gateways.AskAsync(tenant, 1)).RetryAfter);
    }

    [Theory, MemberData(nameof(Engines.All), MemberType = typeof(Engines))]
    public async Task Of_a_tenant_that_was_just_created_is_full(string kind)
    {
        var engine = engines.Of(kind);
        await using var gateways = await Gateways.StartAsync(engine, 1);
        var tenant = Tenants.New(rpm: 600, createdAt: gateways.Time.GetUtcNow());

        await gateways[0].BeginFullAsync(tenant);

        Assert.Equal(59, (await gateways.AskAsync(tenant, 1)).Remaining);
    }

    [Theory, MemberData(nameof(Engines.All), MemberType = typeof(Engines))]
    public async Task Of_a_tenant_that_was_created_long_ago_but_is_new_here_is_empty(string kind)
    {
        var engine = engines.Of(kind);
        await using var gateways = await Gateways.StartAsync(engine, 1);
        var tenant = Tenants.New(rpm: 10, createdAt: gateways.Time.GetUtcNow() - TimeSpan.FromMinutes(1));

        await gateways[0].BeginFullAsync(tenant);

        Assert.NotNull((await gateways.AskAsync(tenant, 1)).RetryAfter);
    }

    [Theory, MemberData(nameof(Engines.All), MemberType = typeof(Engines))]
    public async Task With_a_raised_rate_keeps_what_is_spent_and_gives_more_at_once(string kind)
    {
        var engine = engines.Of(kind);
        await using var gateways = await Gateways.StartAsync(engine, 1);
        var tenant = Tenants.New(rpm: 600);
        await BeginFullAsync(engine, tenant);
        var begun = await engine.TimeAsync();
        Assert.Null((await gateways.AskAsync(tenant, 60)).RetryAfter);

        var raised = tenant with { ApiRateLimitRpm = 1200 };
        gateways.Directory.Change(raised);
        var verdict = await gateways[0].SpendAsync(raised, 1);

        Assert.Null(verdict.RetryAfter);
        Assert.InRange(verdict.Remaining, 59, Most(59, 1200, begun, await engine.TimeAsync()));
    }

    /// <summary>A refusal that was remembered under the old rate must not outlive it.</summary>
    [Theory, MemberData(nameof(Engines.All), MemberType = typeof(Engines))]
    public async Task With_a_raised_rate_admits_in_the_same_moment_in_which_it_refused(string kind)
    {
        var engine = engines.Of(kind);
        await using var gateways = await Gateways.StartAsync(engine, 1);
        var tenant = Tenants.New(rpm: 10);
        await BeginFullAsync(engine, tenant);
        await gateways.AskAsync(tenant, 1);
        Assert.NotNull((await gateways[0].SpendAsync(tenant, 1)).RetryAfter);

        Assert.Null((await gateways[0].SpendAsync(tenant with { ApiRateLimitRpm = 1000 }, 1)).RetryAfter);
    }

    [Theory, MemberData(nameof(Engines.All), MemberType = typeof(Engines))]
    public async Task With_a_lowered_rate_keeps_what_is_spent(string kind)
    {
        var engine = engines.Of(kind);
        await using var gateways = await Gateways.StartAsync(engine, 1);
        var tenant = Tenants.New(rpm: 100);
        await BeginFullAsync(engine, tenant);
        var begun = await engine.TimeAsync();
        Assert.Null((await gateways.AskAsync(tenant, 5)).RetryAfter);

        var verdict = await gateways.AskAsync(tenant with { ApiRateLimitRpm = 50 }, 1);

        // Five of five are spent, less what was refilled at the old rate before the new one was first used.
        if (await engine.TimeAsync() - begun < 600_000)
            Assert.NotNull(verdict.RetryAfter);
        Assert.InRange(verdict.Remaining, 0, 4);
    }

    /// <summary>The old rate used to go on refilling until something was admitted: here, after 6 s rather than 60.</summary>
    [Theory, MemberData(nameof(Engines.All), MemberType = typeof(Engines))]
    public async Task With_a_lowered_rate_refills_by_it_from_the_first_refusal_on(string kind)
    {
        var engine = engines.Of(kind);
        await using var gateways = await Gateways.StartAsync(engine, 1);
        var tenant = Tenants.New(rpm: 10);
        await BeginFullAsync(engine, tenant);
        Assert.Null((await gateways.AskAsync(tenant, 1)).RetryAfter);
        var lowered = tenant with { ApiRateLimitRpm = 1 };
        Assert.NotNull((await gateways.AskAsync(lowered, 1)).RetryAfter);

        await ShiftAsync(engine, tenant, 10_000_000);

        Assert.NotNull((await gateways.AskAsync(lowered, 1)).RetryAfter);
    }

    [Theory, MemberData(nameof(Engines.All), MemberType = typeof(Engines))]
    public async Task Is_not_refilled_by_a_clock_that_steps_back(string kind)
    {
        var engine = engines.Of(kind);
        await using var gateways = await Gateways.StartAsync(engine, 1);
        var tenant = Tenants.New(rpm: 600);
        await BeginFullAsync(engine, tenant);
        await gateways.AskAsync(tenant, 60);
        await ShiftAsync(engine, tenant, -3_600_000_000); // As if the last request had come an hour from now.

        var verdict = await gateways.AskAsync(tenant, 1);

        Assert.NotNull(verdict.RetryAfter);
        Assert.Equal(0, verdict.Remaining);
        Assert.Equal(TimeSpan.FromMilliseconds(100), verdict.RetryAfter);
    }

    [Theory, MemberData(nameof(Engines.All), MemberType = typeof(Engines))]
    public async Task Admits_after_the_wait_that_it_named(string kind)
    {
        var engine = engines.Of(kind);
        await using var gateways = await Gateways.StartAsync(engine, 1);
        foreach (var (rpm, cost) in ((int, int)[])[(1, 1), (7, 1), (10, 2), (600, 1), (600, 2), (600, 1000), (7001, 3), (1_000_000, 1000), (10_000_000, 1_000_000)])
        {
            var tenant = Tenants.New(rpm);
            await BeginFullAsync(engine, tenant);
            while ((await gateways.AskAsync(tenant, cost)).RetryAfter is null) ;
            await ShiftAsync(engine, tenant, -10_000_000_000); // Far ahead, so that only this test moves time.

            var refused = await gateways.AskAsync(tenant, cost);
            Assert.True(refused.RetryAfter >= TimeSpan.FromMilliseconds(1));
            var wait = (long)refused.RetryAfter.Value.TotalMicroseconds;
            await RefillAsync(engine, tenant, wait);

            Assert.Null((await gateways.AskAsync(tenant, cost)).RetryAfter);
        }
    }

    [Theory, MemberData(nameof(Engines.All), MemberType = typeof(Engines))]
    public async Task Admits_when_the_stores_clock_has_moved_on_by_the_wait(string kind)
    {
        var engine = engines.Of(kind);
        await using var gateways = await Gateways.StartAsync(engine, 1);
        var tenant = Tenants.New(rpm: 1200);
        await BeginFullAsync(engine, tenant);
        RateVerdict refused;
        while ((refused = await gateways.AskAsync(tenant, 120)).RetryAfter is null) ;
        var due = await engine.TimeAsync() + (long)refused.RetryAfter.Value.TotalMicroseconds;

        await Eventually.TrueAsync(async () => await engine.TimeAsync() >= due);

        Assert.Null((await gateways.AskAsync(tenant, 120)).RetryAfter);
    }

    /// <summary>It used to be refused for ever, with a wait that never sufficed.</summary>
    [Theory, MemberData(nameof(Engines.All), MemberType = typeof(Engines))]
    public async Task Is_emptied_by_a_request_that_costs_more_than_it_holds(string kind)
    {
        var engine = engines.Of(kind);
        await using var gateways = await Gateways.StartAsync(engine, 1);
        var tenant = Tenants.New(rpm: 10);
        await BeginFullAsync(engine, tenant);

        var verdict = await gateways.AskAsync(tenant, 2);

        Assert.Null(verdict.RetryAfter);
        Assert.Equal(0, verdict.Remaining);
        Assert.NotNull((await gateways.AskAsync(tenant, 1)).RetryAfter);
    }

    [Theory, MemberData(nameof(Engines.All), MemberType = typeof(Engines))]
    public async Task Costs_nothing_where_the_cost_is_nothing(string kind)
    {
        var engine = engines.Of(kind);
        await using var gateways = await Gateways.StartAsync(engine, 1);
        var tenant = Tenants.New(rpm: 1);
        await BeginFullAsync(engine, tenant);

        for (var i = 0; i < 20; i++)
            Assert.Equal((null, 1L), await gateways.AskAsync(tenant, 0) is var verdict ? (verdict.RetryAfter, verdict.Remaining) : default);
        Assert.Null((await gateways.AskAsync(tenant, 1)).RetryAfter);
        Assert.Null((await gateways.AskAsync(tenant, 0)).RetryAfter);
    }

    /// <summary>A refusal of a dear request used to refuse cheap ones that fit.</summary>
    [Theory, MemberData(nameof(Engines.All), MemberType = typeof(Engines))]
    public async Task Still_admits_a_cheap_request_after_refusing_a_dear_one(string kind)
    {
        var engine = engines.Of(kind);
        await using var gateways = await Gateways.StartAsync(engine, 1);
        var tenant = Tenants.New(rpm: 100);
        await BeginFullAsync(engine, tenant);
        await gateways[0].SpendAsync(tenant, 5);
        Assert.NotNull((await gateways[0].SpendAsync(tenant, 10)).RetryAfter);

        Assert.Null((await gateways[0].SpendAsync(tenant, 1)).RetryAfter);
    }

    [Theory, MemberData(nameof(Engines.All), MemberType = typeof(Engines))]
    public async Task Leaves_no_key_without_an_end(string kind)
    {
        var engine = engines.Of(kind);
        await using var gateways = await Gateways.StartAsync(engine, 1);
        foreach (var rpm in (int[])[1, 9, 10, 600, 10_000_000])
        {
            var tenant = Tenants.New(rpm);
            await BeginFullAsync(engine, tenant);
            await gateways.AskAsync(tenant, 1);
            await gateways.AskAsync(tenant with { ApiRateLimitRpm = 2 }, 1);
            await gateways.Quotas.RebuildAsync(tenant.TenantId, gateways.RunId, new HeldVms(1, 1, 0, []));

            var keys = await engine.KeysAsync($"*{tenant.TenantId}*");
            Assert.Equal(new[] { "quota", Rate, Since }.Select(name => Tenants.KeyOf(tenant, name)), keys.Order(StringComparer.Ordinal));
            foreach (var key in keys)
            {
                var left = await engine.Data.KeyTimeToLiveAsync(key);
                // So a deleted tenant's keys are gone some day, whoever was away when it was deleted.
                var atMost = key.EndsWith(':' + Rate) ? TimeSpan.FromSeconds(61) : key.EndsWith(':' + Since) ? TimeSpan.FromDays(30) : TimeSpan.FromDays(1);
                Assert.InRange(left!.Value, TimeSpan.FromMilliseconds(1), atMost);
            }
        }
    }

    /// <summary>Every admission and refusal, at any rate and cost, is what an exact bucket says at the store's own time.</summary>
    [Theory, MemberData(nameof(Engines.All), MemberType = typeof(Engines))]
    public async Task Does_what_an_exact_bucket_does(string kind)
    {
        var engine = engines.Of(kind);
        await using var gateways = await Gateways.StartAsync(engine, 1);
        var rpm = Gen.Select(Gen.Double[0, 7], exponent => (int)Math.Clamp(Math.Round(Math.Pow(10, exponent)), 1, 10_000_000));
        var step = Gen.Select(Gen.Frequency((3, Gen.Const(1)), (1, Gen.Const(0)), (1, Gen.Const(2)), (1, Gen.Int[3, 2000])), Gen.Long[0, 8_000_000], Gen.Frequency((4, Gen.Const(0)), (1, rpm)));

        await Gen.Select(rpm, step.List[1, 12]).SampleAsync(async drawn =>
        {
            var (rate, steps) = drawn;
            var tenant = Tenants.New(rate);
            await BeginFullAsync(engine, tenant);
            var model = new ExactBucket(rate);
            foreach (var (cost, idle, newRate) in steps)
            {
                if (newRate != 0)
                    tenant = tenant with { ApiRateLimitRpm = newRate };
                await ShiftAsync(engine, tenant, idle);
                model.Pass(idle);
                var from = await engine.TimeAsync();
                var verdict = await gateways.AskAsync(tenant, cost);
                var to = await engine.TimeAsync();
                var fields = (await engine.Data.HashGetAllAsync(Tenants.KeyOf(tenant, Rate))).ToDictionary(field => (string)field.Name!, field => (string)field.Value!);
                model.Check(verdict, tenant.ApiRateLimitRpm, cost, from, to,
                    fields.Count == 0 ? null : (double.Parse(fields["spent"], CultureInfo.InvariantCulture), long.Parse(fields["clock"], CultureInfo.InvariantCulture)));
            }
        }, iter: 60, threads: 1);
    }

    private static int Most(long bucket, int rpm, long from, long to) => (int)Math.Floor(bucket + (to - from) * (double)rpm / 60_000_000 + 1e-6);

    /// <summary>A tenant with a history, that has been idle.</summary>
    private static async Task BeginFullAsync(Engine engine, Tenant tenant) =>
        await engine.Data.StringSetAsync(Tenants.KeyOf(tenant, Since), await engine.TimeAsync() - 3_600_000_000);

    /// <summary>Lets time pass for one bucket.</summary>
    private static async Task ShiftAsync(Engine engine, Tenant tenant, long microseconds)
    {
        var key = Tenants.KeyOf(tenant, Rate);
        if (await engine.Data.KeyExistsAsync(key))
            await engine.Data.HashDecrementAsync(key, "clock", microseconds);
    }

    /// <summary>The bucket, as it would be had this much time passed; its clock is ahead of the store's and stays there.</summary>
    private static async Task RefillAsync(Engine engine, Tenant tenant, long microseconds)
    {
        var key = Tenants.KeyOf(tenant, Rate);
        var rpm = (double)await engine.Data.HashGetAsync(key, "rpm");
        var spent = (double)await engine.Data.HashGetAsync(key, "spent");
        await engine.Data.HashSetAsync(key, "spent", Math.Max(0, spent - microseconds * rpm / 60_000_000).ToString("F9", CultureInfo.InvariantCulture));
    }

    /// <summary>The reference: what is spent, at the store's time, refilled at the rate that was in force.</summary>
    private sealed class ExactBucket(int rpm)
    {
        private double _spent;
        private double _rate = rpm;
        private long _at = long.MinValue;

        public void Pass(long microseconds) => _at = _at == long.MinValue ? _at : _at - microseconds;

        public void Check(RateVerdict verdict, int rpm, int cost, long from, long to, (double Spent, long Clock)? stored)
        {
            var burst = Math.Max(1, rpm / 10);
            cost = Math.Min(cost, burst);
            Assert.False(verdict.Local);
            Assert.Equal(rpm, verdict.Limit);
            Assert.InRange(verdict.Remaining, 0, burst);
            if (verdict.RetryAfter is { } wait)
            {
                Assert.True(SpentAt(from, burst) + cost > burst - 1e-6, "refused although it fitted");
                Assert.InRange(wait.TotalMicroseconds, (SpentAt(to, burst) + cost - burst) * 60_000_000 / rpm - 1, (SpentAt(from, burst) + cost - burst) * 60_000_000 / rpm + 1001);
            }
            if (stored is not { } now || now.Clock == _at)
                return; // Nothing was written: the bucket is as it was.
            Assert.InRange(now.Clock, from, to);
            var expected = SpentAt(now.Clock, burst);
            if (verdict.RetryAfter is null)
            {
                Assert.True(expected + cost <= burst + 1e-6, $"admitted {cost} with {expected} spent of {burst}");
                expected += cost;
            }
            Assert.Equal(expected, now.Spent, 1e-6);
            Assert.Equal(verdict.Remaining, (long)Math.Floor(burst - now.Spent + 1e-9));
            (_spent, _at, _rate) = (now.Spent, now.Clock, rpm);
        }

        private double SpentAt(long time, int burst) => _at == long.MinValue ? 0 : Math.Min(burst, Math.Max(0, _spent - Math.Max(0, time - _at) * _rate / 60_000_000));
    }
}

/// <summary>A store that is away (CONTRACT section 5: each gateway's own share).</summary>
public sealed class StoreAway(EngineSet engines) : IClassFixture<EngineSet>
{
    [Fact]
    public async Task Leaves_each_gateway_an_empty_share_of_the_rate()
    {
        var time = new FakeTimeProvider();
        await using var gateways = Gateways.Away(time, gatewaysExpected: 3);
        var tenant = Tenants.New(rpm: 600);

        var first = await gateways[0].SpendAsync(tenant, 1);
        Assert.Equal((true, 200, 0L), (first.Local, first.Limit, first.Remaining));
        Assert.Equal(TimeSpan.FromMilliseconds(300), first.RetryAfter);

        time.Advance(TimeSpan.FromMinutes(10));
        var admitted = 0;
        while ((await gateways[0].SpendAsync(tenant, 1)).RetryAfter is null)
            admitted++;
        Assert.Equal(20, admitted);

        time.Advance(TimeSpan.FromMilliseconds(299));
        Assert.NotNull((await gateways[0].SpendAsync(tenant, 1)).RetryAfter);
        time.Advance(TimeSpan.FromMilliseconds(1));
        Assert.Null((await gateways[0].SpendAsync(tenant, 1)).RetryAfter);
    }

    /// <summary>HAZARDS 49: whoever is limited by a share can see it.</summary>
    [Fact]
    public async Task Shows_in_the_answers_headers()
    {
        await using var gateways = Gateways.Away(new FakeTimeProvider(), gatewaysExpected: 3);
        using var heartbeats = new HeartbeatLane();
        var tenant = Tenants.New(rpm: 600);
        var token = new CapabilityToken { Iss = "", Aud = CapabilityToken.Audience, Jti = "j", Iat = 0, Nbf = 0, Exp = 0, Sub = "s", Scope = "read", SubjectPubkey = "k", TenantId = tenant.TenantId };
        var exchange = Exchange.Begin(new DefaultHttpContext());
        exchange.Route = new RoutePolicy("route", "cluster", default!, [], default!);
        exchange.Caller = new Caller(token, default);

        var refusal = await new RateGate(gateways[0], heartbeats, Tenants.Directory(tenant)).AdmitAsync(exchange);

        Assert.Equal((ErrorCode.RateLimited, TimeSpan.FromMilliseconds(300)), (refusal!.Error, refusal.RetryAfter!.Value));
        var headers = exchange.Context.Response.Headers;
        Assert.Equal(("local", "\"tenant\";q=200;w=60", "\"tenant\";r=0;t=6"), (headers["X-Foundry-Limiter"].ToString(), headers["RateLimit-Policy"].ToString(), headers["RateLimit"].ToString()));
    }

    /// <summary>A share below one request a minute used to be rounded up to one, on every gateway.</summary>
    [Fact]
    public async Task Shares_a_rate_smaller_than_the_number_of_gateways_too()
    {
        var time = new FakeTimeProvider();
        await using var gateways = Gateways.Away(time, gatewaysExpected: 4);
        var tenant = Tenants.New(rpm: 1);
        Assert.NotNull((await gateways[0].SpendAsync(tenant, 1)).RetryAfter);

        time.Advance(TimeSpan.FromMinutes(4) - TimeSpan.FromMilliseconds(1));
        Assert.NotNull((await gateways[0].SpendAsync(tenant, 1)).RetryAfter);
        time.Advance(TimeSpan.FromMilliseconds(1));
        Assert.Null((await gateways[0].SpendAsync(tenant, 1)).RetryAfter);
    }

    [Theory, MemberData(nameof(Engines.All), MemberType = typeof(Engines))]
    public async Task Is_asked_again_once_it_answers(string kind)
    {
        var engine = engines.Of(kind);
        await using var gateways = await Gateways.StartAsync(engine, 1, begin: false);
        var tenant = Tenants.New(rpm: 600);
        Assert.True((await gateways[0].SpendAsync(tenant, 1)).Local);

        await gateways.BeginAsync();
        await engine.Data.StringSetAsync(Tenants.KeyOf(tenant, "since"), 1);

        Assert.Equal((false, 59L), await gateways[0].SpendAsync(tenant, 1) is var verdict ? (verdict.Local, verdict.Remaining) : default);
    }
}

/// <summary>Rate limiters, each with a connection of its own, as gateways are.</summary>
internal sealed class Gateways : IAsyncDisposable
{
    private readonly List<RunningStore> _stores = [];
    private readonly List<RateLimiter> _limiters = [];

    public FakeTimeProvider Time { get; private init; } = new();

    public TenantDirectory Directory { get; } = Tenants.Directory();

    public RateLimiter this[int i] => _limiters[i];

    public Quotas Quotas => _stores[0].Quotas;

    public string RunId => _stores[0].Store.RunId!;

    /// <summary>Each with a connection to the engine; requests are asked for one by one, unless a rate is said from which on they are leased.</summary>
    public static async Task<Gateways> StartAsync(Engine engine, int count, bool begin = true, int leaseFromRpm = int.MaxValue, TimeProvider? time = null)
    {
        var gateways = new Gateways();
        for (var i = 0; i < count; i++)
        {
            var store = begin ? await RunningStore.UpAsync(engine.ConnectionString) : RunningStore.Idle(engine.ConnectionString);
            store.Options.LeaseFromRpm = leaseFromRpm;
            gateways._stores.Add(store);
            gateways._limiters.Add(store.Limiter(time ?? gateways.Time, gateways.Directory));
        }
        return gateways;
    }

    public static Gateways Away(FakeTimeProvider time, int gatewaysExpected)
    {
        var gateways = new Gateways { Time = time };
        var store = RunningStore.Idle("127.0.0.1:1");
        store.Options.GatewaysExpected = gatewaysExpected;
        gateways._stores.Add(store);
        gateways._limiters.Add(store.Limiter(time, gateways.Directory));
        return gateways;
    }

    public async Task BeginAsync()
    {
        foreach (var store in _stores)
        {
            await store.Store.StartAsync(CancellationToken.None);
            await Eventually.TrueAsync(() => store.Store.IsUp);
        }
    }

    /// <summary>Asks the store itself: what was remembered of an earlier refusal is forgotten by then.</summary>
    public async Task<RateVerdict> AskAsync(Tenant tenant, int cost)
    {
        Time.Advance(TimeSpan.FromSeconds(1));
        return await _limiters[0].SpendAsync(tenant, cost);
    }

    public async ValueTask DisposeAsync()
    {
        foreach (var limiter in _limiters)
            limiter.Dispose();
        foreach (var store in _stores)
            await store.DisposeAsync();
    }
}
