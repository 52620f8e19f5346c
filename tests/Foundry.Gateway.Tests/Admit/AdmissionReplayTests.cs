using CsCheck;

namespace Foundry.Gateway.Tests.Admit;

/// <summary>
/// The rates' promise, over simulated gateways and the gateways' own code (CONTRACT section 5; HAZARDS 42, 43, 45): in no stretch of time more
/// than bucket and refill by the shared buckets, and with gateways that are cut off at most twice that.
/// </summary>
public sealed class AdmissionReplay(ITestOutputHelper output)
{
    /// <summary>Ten minutes of a thousand tenants at five gateways, something going wrong every three seconds.</summary>
    [Fact]
    public Task Of_ten_minutes_of_trouble_holds_no_more_than_bucket_and_refill()
    {
        var seed = System.Security.Cryptography.RandomNumberGenerator.GetInt32(int.MaxValue);
        output.WriteLine($"seed {seed}");
        return OnItsOwnThread(() =>
        {
            var run = Simulation.Run(new Scenario { Seed = seed });
            output.WriteLine($"{run.Shared} admitted by the shared buckets, {run.Local} by gateways' own shares, {run.Refused} refused, {run.StoreCalls} calls of the store");
            Assert.True(run.Shared > 100_000 && run.Local > 1000 && run.Refused > 10_000, "the simulation did not do what it is to show");
        });
    }

    [Fact]
    public Task Of_any_short_run_holds_no_more_than_bucket_and_refill() => OnItsOwnThread(() =>
        Gen.Select(Gen.Int[0, int.MaxValue - 1], Gen.Int[1, 6], Gen.Int[1, 20_000], Gen.Double[0.1, 10], Gen.Bool, Gen.Bool).Sample((seed, gateways, fastRpm, demand, isOneDoor, isLeased) =>
            Simulation.Run(new Scenario
            {
                Seed = seed,
                Gateways = gateways,
                Tenants = 4,
                FastTenants = 1,
                FastRpm = fastRpm,
                Demand = (demand, demand),
                Length = TimeSpan.FromSeconds(40),
                TroubleEvery = TimeSpan.FromSeconds(1),
                IsOneDoor = isOneDoor,
                LeaseFromRpm = isLeased ? 1 : 300,
            }), iter: 60, threads: 1));

    /// <summary>
    /// What is taken in advance is spent or given back: next to nothing of the rate is lost by it. Of demand that comes and goes, the last quarter of a
    /// second before it goes is.
    /// </summary>
    [Theory]
    [InlineData(6_000, true, false)]
    [InlineData(60_000, true, false)]
    [InlineData(60_000, true, true)]
    [InlineData(60_000, false, false)]
    [InlineData(60_000, false, true)]
    public Task Of_more_demand_than_the_rate_holds_as_much_as_if_each_request_were_asked_for(int rpm, bool isOneDoor, bool isBursty) => OnItsOwnThread(() =>
    {
        var scenario = new Scenario
        {
            Seed = 7,
            Tenants = 0,
            FastTenants = 4,
            FastRpm = rpm,
            Demand = (1.5, 3),
            Length = TimeSpan.FromMinutes(2),
            TroubleEvery = TimeSpan.Zero,
            IsOneDoor = isOneDoor,
            IsBursty = isBursty,
        };
        var (leased, direct) = (Simulation.Run(scenario), Simulation.Run(scenario with { LeaseFromRpm = int.MaxValue }));
        output.WriteLine($"{leased.Shared} with {leased.StoreCalls} calls, {direct.Shared} with {direct.StoreCalls}");
        Assert.True(leased.Shared >= (isBursty ? 0.95 : 0.98) * direct.Shared, $"{leased.Shared} of {direct.Shared}");
        // Who is over the limit asks four times a second, and gives back now and then.
        Assert.InRange(leased.StoreCalls, 0, 4 * (isOneDoor ? 1 : 5) * 120 * 5);
    });

    // The simulation sets a context of its own on its thread.
    private static Task OnItsOwnThread(Action run) => Task.Factory.StartNew(run, TestContext.Current.CancellationToken, TaskCreationOptions.LongRunning, TaskScheduler.Default);
}
