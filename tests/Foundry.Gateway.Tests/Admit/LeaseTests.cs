using CsCheck;
using Foundry.Contracts;
using Foundry.Gateway.Admit;
using Foundry.Gateway.Config;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Time.Testing;
using StackExchange.Redis;

namespace Foundry.Gateway.Tests.Admit;

/// <summary>What one gateway takes in advance of a tenant's rate, and how it spends it.</summary>
public sealed class LeasedRate
{
    private const int Rpm = 60_000; // A thousand a second; the bucket holds 6,000.

    [Fact]
    public async Task Is_spent_without_waiting_while_the_next_is_asked_for()
    {
        var bucket = new HeldBucket();
        var lease = bucket.Lease();
        await bucket.LeaseAsync(lease, 100);
        bucket.IsHeld = true;

        // Half of it spent, the next question is on its way; nothing of this waits for its answer.
        for (var i = 0; i < 100; i++)
            Assert.True(lease.TrySpend(Rpm, 0, 1, out var verdict) && verdict.RetryAfter is null);

        Assert.Single(bucket.Held);
        Assert.False(lease.TrySpend(Rpm, 0, 1, out _));
    }

    [Fact]
    public async Task Is_spent_on_from_the_next_one()
    {
        var bucket = new HeldBucket();
        var lease = bucket.Lease();
        await bucket.LeaseAsync(lease, 100);

        var calls = bucket.Calls;
        for (var i = 0; i < 10_000; i++)
        {
            bucket.Pass(TimeSpan.FromMilliseconds(1));
            Assert.True(lease.TrySpend(Rpm, 0, 1, out var verdict) && verdict.RetryAfter is null);
        }

        // A question a second, and those by which the lease grew to a second's worth.
        Assert.InRange(bucket.Calls - calls, 9, 16);
    }

    /// <summary>A pause (of a collector, of the whole process) must not make it outlive what was paid for it.</summary>
    [Fact]
    public async Task Is_void_when_its_life_is_over()
    {
        var bucket = new HeldBucket();
        var lease = bucket.Lease();
        await bucket.LeaseAsync(lease, 100);

        bucket.Pass(Lease.Life);

        Assert.False(lease.TrySpend(Rpm, 0, 1, out _));
    }

    [Fact]
    public async Task Is_void_when_the_answer_took_as_long_as_it_would_have_lived()
    {
        var bucket = new HeldBucket { IsHeld = true };
        var lease = bucket.Lease();
        Assert.False(lease.TrySpend(Rpm, 0, 50, out _));
        var spending = lease.SpendAsync(50);

        bucket.Pass(Lease.Life);
        bucket.AnswerOne();

        // It has asked again, and what it was given and did not spend goes back.
        Assert.False(spending.IsCompleted);
        var done = bucket.Held[0].Ask.Done;
        Assert.Equal(done.Count, done.Unspent);
        Assert.True(done.Unspent >= 50);
        bucket.AnswerOne();
        Assert.Null((await spending).RetryAfter);
    }

    [Fact]
    public async Task Goes_back_when_it_has_not_been_used_for_a_while()
    {
        var bucket = new HeldBucket();
        var lease = bucket.Lease();
        await bucket.LeaseAsync(lease, 100);
        Assert.True(lease.TrySpend(Rpm, 0, 30, out _));
        var free = bucket.Free;

        lease.Tidy();
        Assert.Equal(free, bucket.Free);
        bucket.Pass(Lease.Span / 2);
        lease.Tidy();

        Assert.True(bucket.Free >= free + 70);
        Assert.False(lease.TrySpend(Rpm, 0, 1, out _));
    }

    /// <summary>A lowered limit counts within a second, and a raised one: what was leased under another is not spent.</summary>
    [Theory]
    [InlineData(Rpm / 10)]
    [InlineData(Rpm * 10)]
    public async Task Is_void_under_another_rate(int rpm)
    {
        var bucket = new HeldBucket();
        var lease = bucket.Lease();
        await bucket.LeaseAsync(lease, 100);

        Assert.False(lease.TrySpend(rpm, 0, 1, out _));

        bucket.IsHeld = true;
        _ = lease.SpendAsync(1);
        Assert.Equal((rpm, 100L), (bucket.Held[0].Ask.Rpm, bucket.Held[0].Ask.Done.Unspent));
    }

    [Fact]
    public async Task Is_void_in_another_life_of_the_store()
    {
        var bucket = new HeldBucket();
        var lease = bucket.Lease();
        await bucket.LeaseAsync(lease, 100);

        Assert.False(lease.TrySpend(Rpm, 1, 1, out _));
    }

    [Fact]
    public async Task Is_asked_for_once_by_all_who_wait()
    {
        var bucket = new HeldBucket { IsHeld = true };
        var lease = bucket.Lease();

        var waiting = Enumerable.Range(0, 500).Select(_ => lease.TrySpend(Rpm, 0, 1, out var verdict) ? Task.FromResult(verdict) : lease.SpendAsync(1)).ToArray();
        bucket.AnswerOne();
        await bucket.AskedAsync(2);
        bucket.AnswerOne();

        Assert.All(await Task.WhenAll(waiting), verdict => Assert.Null(verdict.RetryAfter));
        Assert.Equal(2, bucket.Calls);
    }

    [Fact]
    public async Task Shrinks_near_the_limit_and_leaves_half_of_what_is_there()
    {
        var bucket = new HeldBucket();
        bucket.Empty(but: 100);

        var lease = bucket.Lease();
        Assert.False(lease.TrySpend(Rpm, 0, 1000, out _));
        Assert.NotNull((await lease.SpendAsync(1000)).RetryAfter);
        bucket.Pass(Lease.HoldOff);
        bucket.Empty(but: 100);
        for (var i = 0; i < 200; i++)
            Assert.False(lease.TrySpend(Rpm, 0, 1, out _));
        Assert.Null((await lease.SpendAsync(1)).RetryAfter);

        Assert.Equal(50, bucket.Free);
    }

    [Fact]
    public async Task Of_a_full_bucket_is_a_quarter_at_most()
    {
        var bucket = new HeldBucket();
        var lease = bucket.Lease();
        await bucket.LeaseAsync(lease, 1000);

        for (var i = 0; i < 4000; i++)
            if (!lease.TrySpend(Rpm, 0, 1, out _))
                await lease.SpendAsync(1);

        Assert.InRange(bucket.GreatestTaken, 1000, 1500);
    }

    [Fact]
    public async Task That_is_known_to_be_over_costs_no_call_and_what_is_refused_costs_nothing()
    {
        var bucket = new HeldBucket();
        bucket.Empty(but: 0);
        var lease = bucket.Lease();
        Assert.False(lease.TrySpend(Rpm, 0, 1, out _));
        Assert.NotNull((await lease.SpendAsync(1)).RetryAfter);

        var (calls, free) = (bucket.Calls, bucket.Free);
        for (var i = 0; i < 1000; i++)
        {
            Assert.True(lease.TrySpend(Rpm, 0, 1, out var verdict));
            Assert.True(verdict.RetryAfter > TimeSpan.Zero);
            Assert.InRange(verdict.Remaining, 0, 0);
        }

        Assert.Equal((calls, free), (bucket.Calls, bucket.Free));
    }

    [Fact]
    public async Task Is_spent_to_its_end_when_the_store_no_longer_answers()
    {
        var bucket = new HeldBucket();
        var lease = bucket.Lease();
        await bucket.LeaseAsync(lease, 100);
        bucket.IsAway = true;

        for (var i = 0; i < 100; i++)
            Assert.True(lease.TrySpend(Rpm, 0, 1, out var verdict) && verdict.RetryAfter is null);
        Assert.False(lease.TrySpend(Rpm, 0, 1, out _));
        await Assert.ThrowsAsync<RedisException>(() => lease.SpendAsync(1));
    }

    [Fact]
    public async Task Is_decided_on_without_an_allocation()
    {
        var bucket = new HeldBucket();
        using var limiter = new RateLimiter(bucket, Tenants.Directory(), () => 1, new GatewayOptions { LeaseFromRpm = Rpm }, bucket.Time, NullLogger<RateLimiter>.Instance);
        var tenant = new Tenant(HeldBucket.TenantId, "", 0, 0, Rpm, null, false, Tenant.Active, DateTimeOffset.UnixEpoch);
        await limiter.SpendAsync(tenant, 1000);
        for (var i = 0; i < 100; i++)
            Assert.Null((await limiter.SpendAsync(tenant, 1)).RetryAfter);

        var calls = bucket.Calls;
        var before = GC.GetAllocatedBytesForCurrentThread();
        for (var i = 0; i < 100; i++)
            _ = await limiter.SpendAsync(tenant, 1);

        Assert.Equal((0L, calls), (GC.GetAllocatedBytesForCurrentThread() - before, bucket.Calls));
    }

    /// <summary>Whatever the clients do, what this gateway knows of tenants and tokens does not grow for ever.</summary>
    [Fact]
    public async Task Is_forgotten_with_its_tenant()
    {
        var bucket = new HeldBucket();
        using var limiter = new RateLimiter(bucket, Tenants.Directory(), () => 1, new GatewayOptions(), bucket.Time, NullLogger<RateLimiter>.Instance);
        for (var i = 0; i < 100; i++)
        {
            await limiter.SpendAsync(Tenants.New(i % 2 == 0 ? 60 : Rpm), 1);
            limiter.SpendPlatform($"token-{i}");
        }
        Assert.Equal(200, limiter.AccountsHeld);

        bucket.Pass(TimeSpan.FromMinutes(11));

        Assert.Equal(0, limiter.AccountsHeld);
    }

    /// <summary>A bucket, full at first, whose answers a test may hold back.</summary>
    private sealed class HeldBucket : ISharedBuckets
    {
        public const string TenantId = "t";
        private readonly SimulatedBuckets _buckets = new();
        private readonly List<(BucketAsk Ask, TaskCompletionSource<BucketAnswer> Answer)> _held = [];

        public HeldBucket() => Empty(but: RateLimiter.Burst(Rpm));

        public FakeTimeProvider Time { get; } = new();

        public bool IsHeld { get; set; }

        public bool IsAway { get; set; }

        public bool IsFast => true;

        public long UnbrokenSince => 0;

        public long Calls { get; private set; }

        public long GreatestTaken { get; private set; }

        public IReadOnlyList<(BucketAsk Ask, TaskCompletionSource<BucketAnswer> Answer)> Held => _held;

        public long Free => (long)(RateLimiter.Burst(Rpm) - _buckets.Get(TenantId).Spent);

        public Lease Lease() => new(Time, ask => TakeAsync(TenantId, ask));

        /// <summary>Has so much been asked for that it is leased, and gives it back unspent.</summary>
        public async Task LeaseAsync(Lease lease, int count)
        {
            // The first question is for what is asked; the refusal of none of it is what is wanted here, so it is asked for at once.
            Assert.False(lease.TrySpend(Rpm, 0, 1, out _));
            IsHeld = true;
            var first = lease.SpendAsync(1);
            var (_, answer) = _held[0];
            _held.Clear();
            IsHeld = false;
            answer.SetResult(_buckets.Take(TenantId, new BucketAsk(Rpm, count + 1, count + 1, IsLease: true), 0));
            Assert.Null((await first).RetryAfter);
        }

        public void Empty(int but) => _buckets.Set(TenantId, RateLimiter.Burst(Rpm) - but, _buckets.Now, Rpm, _buckets.Now, 0, 0, 0);

        public void Pass(TimeSpan time)
        {
            _buckets.Now += (long)time.TotalMicroseconds;
            Time.Advance(time);
        }

        public void AnswerOne()
        {
            var (ask, answer) = _held[0];
            _held.RemoveAt(0);
            answer.SetResult(_buckets.Take(TenantId, ask, 0));
        }

        public Task AskedAsync(int calls) => Eventually.TrueAsync(() => Calls == calls && _held.Count > 0);

        public async Task<BucketAnswer> TakeAsync(string tenantId, BucketAsk ask)
        {
            Calls++;
            if (IsAway)
                throw new RedisException("away");
            if (IsHeld)
            {
                var answer = new TaskCompletionSource<BucketAnswer>();
                _held.Add((ask, answer));
                return await answer.Task;
            }
            var taken = _buckets.Take(tenantId, ask, 0);
            GreatestTaken = Math.Max(GreatestTaken, taken.Taken);
            return taken;
        }
    }
}

/// <summary>The script in the store does what the simulation takes it to do, step by step, from any state.</summary>
public sealed class BucketScript(EngineSet engines) : IClassFixture<EngineSet>
{
    [Theory, MemberData(nameof(Engines.All), MemberType = typeof(Engines))]
    public async Task Does_what_the_simulated_one_does(string kind)
    {
        var engine = engines.Of(kind);
        await using var store = await RunningStore.UpAsync(engine.ConnectionString);
        var buckets = new SharedBuckets(store.Store);
        const long slot = SharedBuckets.SlotMicroseconds;
        var step = Gen.Select(Gen.Int[0, 400], Gen.Int[0, 800], Gen.Bool, Gen.Int[0, 3], Gen.Frequency((3, Gen.Const(0)), (2, Gen.Int[1, 3])), Gen.Frequency((6, Gen.Const(0)), (1, Gen.Int[10, 100_000])));

        await Gen.Select(Gen.Int[10, 100_000], step.List[1, 12]).SampleAsync(async drawn =>
        {
            var (rpm, steps) = drawn;
            var tenant = Tenants.New(rpm);
            var key = Tenants.KeyOf(tenant, "rate");
            var leased = new List<Finished>();
            await buckets.TakeAsync(tenant.TenantId, new BucketAsk(rpm, 0, 0, IsNew: true));
            foreach (var (need, more, isLease, slotsPassed, giveBack, newRpm) in steps)
            {
                rpm = newRpm == 0 ? rpm : newRpm;
                var simulated = new SimulatedBuckets();
                // Some slots of time pass for the bucket, and what was leased is so much older.
                var state = (await engine.Data.HashGetAllAsync(key)).ToDictionary(field => (string)field.Name!, field => field.Value);
                await engine.Data.HashSetAsync(key, [new("clock", (long)state["clock"] - slotsPassed * slot), new("slot", (long)state["slot"] - slotsPassed)]);
                simulated.Set(tenant.TenantId, (double)state["spent"], (long)state["clock"] - slotsPassed * slot, (int)state["rpm"], (long)state["born"], (long)state["slot"] - slotsPassed, (long)state["held"], (long)state["before"]);
                leased = [.. leased.Select(lease => lease with { Mark = lease.Mark with { Slot = lease.Mark.Slot - slotsPassed } })];
                var done = giveBack > 0 && leased.Count > 0 ? leased[^1] : default;
                var ask = new BucketAsk(rpm, Math.Min(need, RateLimiter.Burst(rpm)), Math.Min(need, RateLimiter.Burst(rpm)) + more, isLease, giveBack == 2 ? done with { Unspent = 0 } : done);

                var from = await engine.TimeAsync();
                var answer = await buckets.TakeAsync(tenant.TenantId, ask);
                var to = await engine.TimeAsync();
                var after = (await engine.Data.HashGetAllAsync(key)).ToDictionary(field => (string)field.Name!, field => field.Value);
                if ((long)after["clock"] < from)
                    continue; // Refused, and nothing was written.
                simulated.Now = (long)after["clock"];
                Assert.InRange(simulated.Now, from, to);
                if (done.Count > 0)
                    leased.Remove(done);
                if (isLease && answer.Taken > 0)
                    leased.Add(new Finished(answer.Mark, answer.Taken, answer.Taken / 2));

                var expected = simulated.Take(tenant.TenantId, ask, 0);
                Assert.Equal((expected.Taken, expected.Mark.Slot, expected.Remaining), (answer.Taken, answer.Mark.Slot, answer.Remaining));
                var (spent, expectedSlot, held, heldBefore) = simulated.Get(tenant.TenantId);
                Assert.Equal(spent, (double)after["spent"], 1e-6);
                Assert.Equal((expectedSlot, held, heldBefore), ((long)after["slot"], (long)after["held"], (long)after["before"]));
            }
        }, iter: 60, threads: 1);
    }
}
