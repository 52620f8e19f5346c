using Foundry.Contracts;
using Foundry.Gateway.Admit;
using Foundry.Gateway.Config;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Time.Testing;

namespace Foundry.Gateway.Tests.Admit;

/// <summary>What is simulated.</summary>
internal sealed record Scenario
{
    public int Seed { get; init; }
    public int Gateways { get; init; } = 5;
    public int Tenants { get; init; } = 1000;
    public TimeSpan Length { get; init; } = TimeSpan.FromMinutes(10);
    /// <summary>The tenants' rates, requests a minute.</summary>
    public (int Least, int Most) Rpm { get; init; } = (10, 2000);
    /// <summary>How many tenants of the greatest rate there are besides.</summary>
    public int FastTenants { get; init; } = 2;
    public int FastRpm { get; init; } = 60_000;
    /// <summary>What tenants ask for, in parts of their rate.</summary>
    public (double Least, double Most) Demand { get; init; } = (0.1, 3);
    public int LeaseFromRpm { get; init; } = 300;
    /// <summary>How often something happens to a gateway or the store; zero for never.</summary>
    public TimeSpan TroubleEvery { get; init; } = TimeSpan.FromSeconds(3);
    /// <summary>Whether every tenant's requests come in at one gateway.</summary>
    public bool IsOneDoor { get; init; }
    /// <summary>Whether tenants come and go, rather than ask steadily.</summary>
    public bool IsBursty { get; init; } = true;
}

/// <summary>
/// Gateways' own rate limiters, with traffic, in simulated time on one thread: the same seed is the same run. Clocks go wrong, gateways are
/// restarted, stopped and cut off, answers are late or lost, the store forgets everything or falls back to what a replica has.
/// Each admission goes to the tenant's <see cref="Replay"/>, which knows only bucket and rate.
/// </summary>
internal sealed class Simulation
{
    private const long TickMicroseconds = 5_000;
    private static readonly TimeSpan NoticedIn = TimeSpan.FromMilliseconds(250);

    private readonly Scenario _scenario;
    private readonly Dice _random;
    // The same requests, whatever else happens.
    private readonly Dice _arrivals;
    private readonly SimulatedBuckets _buckets = new();
    private readonly long _begun;
    private readonly PriorityQueue<Action, (long At, long Order)> _due = new();
    private readonly Door[] _doors;
    private readonly Customer[] _customers;
    private readonly List<Task> _requests = [];
    private readonly Turn _turn = new();
    private Func<SimulatedBuckets>? _replica;
    private long _order;
    private long _asOf;

    private Simulation(Scenario scenario)
    {
        (_scenario, _random, _arrivals) = (scenario, new Dice(scenario.Seed), new Dice(~scenario.Seed));
        _begun = _asOf = _buckets.Now;
        _customers = [.. Enumerable.Range(0, scenario.Tenants + scenario.FastTenants).Select(i =>
        {
            var rpm = i < scenario.FastTenants ? scenario.FastRpm : (int)(scenario.Rpm.Least * Math.Pow((double)scenario.Rpm.Most / scenario.Rpm.Least, _random.NextDouble()));
            return new Customer(new Tenant($"t{i}", "", 0, 0, rpm, null, false, Tenant.Active, DateTimeOffset.UnixEpoch), scenario.Gateways)
            {
                PerMicrosecond = rpm / 60e6 * (scenario.Demand.Least + (scenario.Demand.Most - scenario.Demand.Least) * _random.NextDouble()),
                Home = scenario.IsOneDoor || _random.Next(2) == 0 ? _random.Next(scenario.Gateways) : null,
            };
        })];
        _doors = [.. Enumerable.Range(0, scenario.Gateways).Select(_ => new Door(this))];
    }

    /// <summary>Requests admitted by the shared buckets.</summary>
    public long Shared => _customers.Sum(customer => customer.Shared.Admitted);

    /// <summary>Requests admitted by gateways' own shares.</summary>
    public long Local => _customers.Sum(customer => customer.Local.Sum(replay => replay.Admitted));

    public long Refused { get; private set; }

    public long StoreCalls => _buckets.Calls;

    /// <summary>Runs it to its end.</summary>
    public static Simulation Run(Scenario scenario)
    {
        var simulation = new Simulation(scenario);
        simulation.Run();
        return simulation;
    }

    private void Run()
    {
        SynchronizationContext.SetSynchronizationContext(_turn);
        foreach (var customer in _customers)
            Arrive(customer, _begun);
        if (_scenario.TroubleEvery > TimeSpan.Zero)
            Trouble();
        for (var now = _begun; now <= _begun + (long)_scenario.Length.TotalMicroseconds; now += TickMicroseconds)
        {
            (_asOf, _buckets.Now) = (now, now);
            foreach (var door in _doors)
                door.Tick(now);
            _turn.Run();
            while (_due.TryPeek(out var action, out var at) && at.At <= now)
            {
                _due.Dequeue();
                action();
                _turn.Run();
            }
            // Whatever went wrong in one of them is seen here.
            _requests.RemoveAll(request => request.IsCompletedSuccessfully || (request.IsFaulted ? throw request.Exception! : false));
        }
        foreach (var door in _doors)
            door.Stop();
        foreach (var replay in _customers.SelectMany(customer => (IEnumerable<Replay>)[customer.Shared, customer.All, .. customer.Local]))
            replay.Check();
    }

    private void After(TimeSpan wait, Action action) => _due.Enqueue(action, (_asOf + (long)wait.TotalMicroseconds, _order++));

    private void Arrive(Customer customer, double from)
    {
        var gap = -Math.Log(1 - _arrivals.NextDouble()) / customer.PerMicrosecond;
        // Some five seconds of requests, then up to ten of none.
        if (_scenario.IsBursty && _arrivals.NextDouble() < Math.Min(0.3, 1 / (customer.PerMicrosecond * 5e6)))
            gap += _arrivals.NextDouble() * 10e6;
        _due.Enqueue(() =>
        {
            _requests.Add(_doors[customer.Home ?? _arrivals.Next(_doors.Length)].RequestAsync(customer, _arrivals.Next(20) == 0 ? _arrivals.Next(2, 6) : 1));
            Arrive(customer, from + gap);
        }, ((long)(from + gap), _order++));
    }

    private void Trouble()
    {
        var door = _doors[_random.Next(_doors.Length)];
        switch (_random.Next(12))
        {
            case < 3:
                door.Restart();
                break;
            case < 6:
                door.Cut(TimeSpan.FromSeconds(_random.NextDouble() * 20));
                break;
            case < 9:
                door.Stop(TimeSpan.FromSeconds(_random.NextDouble() * 5));
                break;
            case 9:
                door.Link.DelayMax = TimeSpan.FromMilliseconds(_random.Next(2) == 0 ? 4 : 900);
                break;
            case 10:
                _buckets.Flush();
                break;
            default:
                if (_replica is { } replica)
                {
                    replica();
                    _replica = null;
                    foreach (var each in _doors)
                        each.Link.UnbrokenSince = _asOf;
                }
                else
                    _replica = _buckets.Replica();
                break;
        }
        After(_scenario.TroubleEvery * 2 * _random.NextDouble(), Trouble);
    }

    /// <summary>What was awaited goes on here, on the simulation's thread and before anything else happens.</summary>
    private sealed class Turn : SynchronizationContext
    {
        private readonly Queue<(SendOrPostCallback Callback, object? State)> _posted = new();

        public override void Post(SendOrPostCallback d, object? state) => _posted.Enqueue((d, state));

        public void Run()
        {
            while (_posted.TryDequeue(out var next))
                next.Callback(next.State);
        }
    }

    /// <summary>A tenant, and what was admitted of its requests.</summary>
    private sealed class Customer(Tenant tenant, int gateways)
    {
        public Tenant Tenant { get; } = tenant;
        public double PerMicrosecond { get; init; }
        public int? Home { get; init; }
        public Replay Shared { get; } = new(RateLimiter.Burst(tenant.ApiRateLimitRpm), tenant.ApiRateLimitRpm);
        /// <summary>Whatever admitted it: with gateways that are cut off, twice the rate at most.</summary>
        public Replay All { get; } = new(2 * RateLimiter.Burst(tenant.ApiRateLimitRpm), 2.0 * tenant.ApiRateLimitRpm);
        public Replay[] Local { get; } = [.. Enumerable.Range(0, gateways).Select(_ => new Replay(Math.Max(1, tenant.ApiRateLimitRpm / gateways / 10), Door.PaceMax * tenant.ApiRateLimitRpm / gateways))];
    }

    /// <summary>A gateway.</summary>
    private sealed class Door
    {
        public const double PaceMax = 1.1;
        // The clocks that leases must bear: near a tenth slow, or fast; and any time of day.
        private readonly FakeTimeProvider _time;
        private readonly double _pace;
        private readonly Simulation _simulation;
        private readonly List<Action> _held = [];
        private RateLimiter _limiter;
        private long _life;
        private long _ticked;
        private long _stoppedUntil;

        public Door(Simulation simulation)
        {
            _simulation = simulation;
            _ticked = simulation._begun;
            _pace = 0.92 + (PaceMax - 0.92) * simulation._random.NextDouble();
            _time = new FakeTimeProvider(DateTimeOffset.UnixEpoch + TimeSpan.FromDays(10_000 * simulation._random.NextDouble()));
            Link = NewLink();
            _limiter = NewLimiter();
        }

        public SimulatedLink Link { get; private set; }

        public void Tick(long now)
        {
            if (now < _stoppedUntil)
                return;
            _time.Advance(TimeSpan.FromMicroseconds((now - _ticked) * _pace));
            _ticked = now;
            if (_held.Count == 0)
                return;
            var held = _held.ToArray();
            _held.Clear();
            foreach (var action in held)
            {
                action();
                _simulation._turn.Run();
            }
        }

        public async Task RequestAsync(Customer customer, int cost)
        {
            if (_simulation._asOf < _stoppedUntil)
                return;
            var life = _life;
            var verdict = await _limiter.SpendAsync(customer.Tenant, cost);
            if (life != _life)
                return; // Its gateway is no more.
            if (verdict.RetryAfter is not null)
            {
                _simulation.Refused++;
                return;
            }
            if (verdict.Local)
            {
                cost = Math.Min(cost, Math.Max(1, customer.Tenant.ApiRateLimitRpm / _simulation._doors.Length / 10));
                customer.Local[Array.IndexOf(_simulation._doors, this)].Note(_simulation._asOf, cost);
                customer.All.Note(_simulation._asOf, cost);
                return;
            }
            cost = Math.Min(cost, RateLimiter.Burst(customer.Tenant.ApiRateLimitRpm));
            // Asked for one by one, it counts from when the store said yes; of a lease, from when it is spent.
            var at = customer.Tenant.ApiRateLimitRpm < _simulation._scenario.LeaseFromRpm ? Link.PaidAt : _simulation._asOf;
            customer.Shared.Note(at, cost);
            customer.All.Note(at, cost);
        }

        public void Restart()
        {
            Stop();
            _life++;
            Link = NewLink();
            _limiter = NewLimiter();
        }

        public void Stop() => _limiter.Dispose();

        /// <summary>Cut off from the store, and found to be so.</summary>
        public void Cut(TimeSpan length)
        {
            var link = Link;
            link.IsCut = true;
            _simulation.After(TimeSpan.FromSeconds(1), () => link.IsFast = !link.IsCut);
            _simulation.After(length, () =>
            {
                link.IsCut = false;
                _simulation.After(NoticedIn, () => link.IsFast = !link.IsCut);
            });
        }

        /// <summary>Neither runs nor hears anything; its clock goes on.</summary>
        public void Stop(TimeSpan length) => _stoppedUntil = Math.Max(_stoppedUntil, _simulation._asOf + (long)length.TotalMicroseconds);

        private SimulatedLink NewLink() => new(_simulation._buckets, _simulation.After, (wait, action) => _simulation.After(wait, () =>
        {
            if (_simulation._asOf < _stoppedUntil)
                _held.Add(action);
            else
                action();
        }), _simulation._random)
        { UnbrokenSince = Link?.UnbrokenSince ?? 0, OneLostIn = _simulation._scenario.TroubleEvery > TimeSpan.Zero ? 200 : 0 };

        private RateLimiter NewLimiter() => new(Link, Tenants.Directory(), () => _simulation._scenario.Gateways,
            new GatewayOptions { LeaseFromRpm = _simulation._scenario.LeaseFromRpm }, _time, NullLogger<RateLimiter>.Instance);
    }
}

/// <summary>
/// A bucket that is played what was admitted, in order of time. It overflows if, and only if, there is a stretch of time in which more was
/// admitted than the bucket holds and the rate refilled in it.
/// </summary>
internal sealed class Replay(double bucket, double rpm)
{
    private readonly List<(long At, int Cost)> _admissions = [];

    public long Admitted => _admissions.Sum(admission => (long)admission.Cost);

    /// <summary>Notes an admission.</summary>
    /// <param name="at">When, microseconds.</param>
    /// <param name="cost">What was admitted.</param>
    public void Note(long at, int cost) => _admissions.Add((at, cost));

    /// <summary>Plays them.</summary>
    public void Check()
    {
        _admissions.Sort();
        var (level, last) = (0.0, 0L);
        foreach (var (at, cost) in _admissions)
        {
            level = Math.Max(0, level - (at - last) * rpm / 60e6) + cost;
            last = at;
            Assert.True(level <= bucket + 1e-6, $"{level} in a bucket of {bucket} at {rpm} requests a minute: more than bucket and refill was admitted");
        }
    }
}

/// <summary>Chance, the same each time for a seed (SplitMix64).</summary>
internal sealed class Dice(int seed)
{
    private ulong _state = (ulong)seed;

    public double NextDouble() => (Next64() >> 11) / (double)(1UL << 53);

    public int Next(int below) => (int)(NextDouble() * below);

    public int Next(int from, int below) => from + Next(below - from);

    private ulong Next64()
    {
        var z = _state += 0x9E3779B97F4A7C15;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
        return z ^ (z >> 31);
    }
}
