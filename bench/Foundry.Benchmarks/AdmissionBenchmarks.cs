using BenchmarkDotNet.Attributes;
using Foundry.Contracts;
using Foundry.Gateway.Admit;
using Foundry.Gateway.Authenticate;
using Foundry.Gateway.Config;
using Foundry.ServiceDefaults;
using Microsoft.Extensions.Logging.Abstractions;

namespace Foundry.Benchmarks;

/// <summary>
/// What one thread pays to have one request admitted by its tenant's rate, beside the least that a shared counter costs: one script a request
/// that increments and sets an end. FOUNDRY_TEST_REDIS is host:port of the Redis that all of them ask.
/// </summary>
[MemoryDiagnoser]
public class AdmissionBenchmarks : IDisposable
{
    private const int FastRpm = 10_000_000;

    private static readonly Script Increment = new("""
        local count = redis.call('INCR', KEYS[1])
        if count == 1 then redis.call('PEXPIRE', KEYS[1], 60000) end
        return count
        """);

    private readonly Tenant _tenant = new("bench", "", 0, 0, FastRpm, null, false, Tenant.Active, DateTimeOffset.UnixEpoch);
    private Store _store = null!;
    private RateLimiter _leased = null!;
    private RateLimiter _direct = null!;

    [GlobalSetup]
    public async Task PrepareAsync()
    {
        var address = Environment.GetEnvironmentVariable("FOUNDRY_TEST_REDIS") ?? throw new InvalidOperationException("FOUNDRY_TEST_REDIS is not set.");
        var options = new GatewayOptions { Redis = address };
        _store = new Store(options, new Readiness(TimeProvider.System), TimeProvider.System, NullLogger<Store>.Instance);
        await _store.StartAsync(CancellationToken.None);
        while (!_store.IsFast)
            await Task.Delay(10);
        await _store.EvaluateAsync(new Script("return redis.call('SET', KEYS[1], '1')"), ["foundry:v1:{bench}:since"], []);
        _leased = Limiter(options);
        _direct = Limiter(new GatewayOptions { LeaseFromRpm = int.MaxValue });
        if ((await _leased.SpendAsync(_tenant, 1)) is not { RetryAfter: null, Local: false })
            throw new InvalidOperationException("What is measured does not work.");
    }

    [GlobalCleanup]
    public void Dispose()
    {
        _leased.Dispose();
        _direct.Dispose();
        _store.StopAsync(CancellationToken.None).GetAwaiter().GetResult();
        _store.Dispose();
        GC.SuppressFinalize(this);
    }

    [Benchmark(Description = "admitted by a lease", OperationsPerInvoke = 1000)]
    public async Task<long> Leased()
    {
        // A bucket of a million, refilled at 167,000 a second: what is asked for beyond that is refused, at the same cost.
        var remaining = 0L;
        for (var i = 0; i < 1000; i++)
            remaining += (await _leased.SpendAsync(_tenant, 1)).Remaining;
        return remaining;
    }

    [Benchmark(Description = "admitted by one script a request")]
    public async Task<long> Direct() => (await _direct.SpendAsync(_tenant, 1)).Remaining;

    [Benchmark(Description = "INCR and PEXPIRE in one script a request", Baseline = true)]
    public async Task<long> Counted() => (long)await _store.EvaluateAsync(Increment, ["foundry:v1:{bench}:count"], []);

    private RateLimiter Limiter(GatewayOptions options) =>
        new(new SharedBuckets(_store), new TenantDirectory(), () => 1, options, TimeProvider.System, NullLogger<RateLimiter>.Instance);
}
