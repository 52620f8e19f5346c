using Foundry.Gateway.Config;
using Foundry.ServiceDefaults;
using StackExchange.Redis;

namespace Foundry.Gateway.Admit;

/// <summary>
/// The shared counters' store, embedded or real, always through one client. When it stops answering, a breaker opens: requests
/// do not queue up behind it, and a probe closes it again.
/// </summary>
internal sealed class Store(GatewayOptions options, Readiness readiness, TimeProvider time, ILogger<Store> log) : BackgroundService
{
    private static readonly TimeSpan ProbeInterval = TimeSpan.FromMilliseconds(250);
    private static readonly TimeSpan ProbeIntervalWhileFast = TimeSpan.FromSeconds(1);
    /// <summary>What a request waits for an answer that it can do without, once the store has been slow for <see cref="SlowMax"/>.</summary>
    private static readonly TimeSpan FastAnswerMax = TimeSpan.FromMilliseconds(50);
    private static readonly TimeSpan SlowMax = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan PolicyInterval = TimeSpan.FromSeconds(30);
    // How long an answer takes is real time, also where the rest goes by a clock that tests move.
    private static readonly TimeProvider Wire = TimeProvider.System;
    private const int AnswerMillisecondsMax = 1000;
    private const string Slow = "slow: rates go by this gateway's own share";

    // One of each command that the scripts use, on a key that is gone afterwards.
    private static readonly Script WarmUp = new("""
        redis.call('TIME')
        redis.call('SET', KEYS[1], '1')
        redis.call('GET', KEYS[1])
        redis.call('DEL', KEYS[1])
        redis.call('HSET', KEYS[1], 'a', string.format('%.0f', 1))
        redis.call('HINCRBY', KEYS[1], 'a', 1)
        redis.call('HMGET', KEYS[1], 'a', 'b')
        redis.call('HEXISTS', KEYS[1], 'a')
        redis.call('HGETALL', KEYS[1])
        redis.call('PEXPIRE', KEYS[1], 1000)
        redis.call('HDEL', KEYS[1], 'a')
        redis.call('DEL', KEYS[1])
        local t = redis.call('TIME')
        return string.format('%.0f', tonumber(t[1]) * 1000000 + tonumber(t[2]))
        """);

    private ConnectionMultiplexer? _redis;
    private readonly Lock _lock = new();
    private volatile string? _runId;
    private int _losses;
    private long _policyCheckedAt = long.MinValue;
    private volatile bool _isFast;
    private long _slowSince = long.MinValue;
    private string? _lastRunId;
    private long _unbrokenSince;

    /// <summary>
    /// Which life of the store this is: another value after a restart or failover, null while it does not answer. What was
    /// counted in another life may have been lost in part.
    /// </summary>
    public string? RunId => _runId;

    /// <summary>Whether the store answers and keeps what it is told.</summary>
    public bool IsUp => _runId is not null;

    /// <summary>Whether it answers, and fast enough for a request that can do without to wait for it.</summary>
    public bool IsFast => _isFast && IsUp;

    /// <summary>
    /// When this process saw another life of the store begin, on the store's clock in microseconds; 0 where it saw only one. What was written
    /// before may be without its last changes.
    /// </summary>
    public long UnbrokenSince => Volatile.Read(ref _unbrokenSince);

    /// <summary>
    /// Runs a script for a request that can do without. A store that was fast is waited for until it has been slow for a second; after that it
    /// is not asked until a probe was answered fast. So after the first second no request is held up by it.
    /// </summary>
    /// <param name="script">The script; every key it touches is declared.</param>
    /// <param name="keys">Its keys, all in one slot.</param>
    /// <param name="values">Its arguments.</param>
    /// <exception cref="RedisException">It is not asked, or does not answer.</exception>
    /// <exception cref="TimeoutException">It did not answer in time, and may have run the script.</exception>
    public async Task<RedisResult> EvaluateSoonAsync(Script script, RedisKey[] keys, RedisValue[] values)
    {
        if (!_isFast)
            throw new RedisException("The store is slow.");
        var asked = Wire.GetTimestamp();
        var answer = EvaluateAsync(script, keys, values);
        if (await IsAnsweredAsync(answer, FastAnswerMax))
        {
            Interlocked.Exchange(ref _slowSince, long.MinValue);
            return await answer;
        }
        var since = Interlocked.CompareExchange(ref _slowSince, asked, long.MinValue);
        if (await IsAnsweredAsync(answer, SlowMax - Wire.GetElapsedTime(since == long.MinValue ? asked : since)))
            return await answer;
        SlowDown();
        throw new TimeoutException("The store is slow.");
    }

    private static async ValueTask<bool> IsAnsweredAsync(Task answer, TimeSpan within)
    {
        if (!answer.IsCompleted && within > TimeSpan.Zero)
            await answer.WaitAsync(within, Wire).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        return answer.IsCompleted;
    }

    /// <summary>Runs a script, or throws <see cref="RedisException"/> within a second.</summary>
    /// <param name="script">The script; every key it touches is declared.</param>
    /// <param name="keys">Its keys, all in one slot.</param>
    /// <param name="values">Its arguments.</param>
    public Task<RedisResult> EvaluateAsync(Script script, RedisKey[] keys, RedisValue[] values) => AskAsync(data => data.ScriptEvaluateAsync(script.Text, keys, values));

    /// <summary>Adds a key that is not there yet, or throws <see cref="RedisException"/> within a second.</summary>
    /// <param name="key">The key.</param>
    /// <param name="life">How long it is kept.</param>
    /// <returns>Whether it was not there.</returns>
    public Task<bool> TryAddAsync(RedisKey key, TimeSpan life) => AskAsync(data => data.StringSetAsync(key, 1, life, When.NotExists));

    private async Task<T> AskAsync<T>(Func<IDatabase, Task<T>> ask)
    {
        if (_runId is null || _redis is not { } redis)
            throw new RedisException("The store does not answer.");
        try
        {
            return await ask(redis.GetDatabase());
        }
        catch (Exception fault) when (fault is RedisConnectionException or RedisTimeoutException)
        {
            Open(fault.Message);
            throw;
        }
    }

    /// <inheritdoc/>
    public override Task StartAsync(CancellationToken cancellationToken)
    {
        // Here and not in ExecuteAsync, which may begin only after the port is open.
        readiness.Report("redis", met: false, "not connected yet", required: false);
        return base.StartAsync(cancellationToken);
    }

    /// <inheritdoc/>
    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        using var timer = new PeriodicTimer(ProbeInterval, time);
        do
        {
            try
            {
                await ProbeAsync();
            }
            catch (Exception fault) when (fault is RedisException or TimeoutException)
            {
                Open(fault.Message);
            }
            timer.Period = IsFast ? ProbeIntervalWhileFast : ProbeInterval;
        }
        while (await timer.WaitForNextTickAsync(stoppingToken));
    }

    private async Task ProbeAsync()
    {
        if (_redis is null)
        {
            _redis = await ConnectAsync();
            _redis.ConnectionFailed += OnConnectionFailed;
        }
        var losses = Volatile.Read(ref _losses);
        var primaries = _redis.GetServers().Where(server => server.IsConnected && !server.IsReplica).OrderBy(server => server.EndPoint.ToString(), StringComparer.Ordinal).ToArray();
        if (primaries.Length == 0 && _redis.GetServers().Any(server => server.IsConnected))
            // A replica may have taken over; by itself the client looks once a minute.
            await _redis.ConfigureAsync();
        if (primaries.Length == 0)
            throw new RedisException($"not connected ({await WhyNotAsync(_redis)})");
        // In a cluster each primary has a part of the tenants, and any of them may have begun another life.
        var server = primaries[0];
        var runs = new List<string>();
        var asked = Wire.GetTimestamp();
        foreach (var primary in server.ServerType == ServerType.Cluster ? primaries : [server])
            runs.Add(await ReadAsync(primary, "server", "run_id") ?? throw new RedisException("the store does not say which run it is (INFO server: run_id)"));
        var runId = string.Join('+', runs);
        var isFast = Wire.GetElapsedTime(asked) <= FastAnswerMax;
        if (_policyCheckedAt == long.MinValue || time.GetElapsedTime(_policyCheckedAt) > PolicyInterval)
        {
            // A store that evicts forgets quotas silently; it is refused, not worked around.
            var policy = await ReadAsync(server, "memory", "maxmemory_policy");
            if (policy is not null and not "noeviction")
                throw new RedisException($"maxmemory-policy is {policy}; set it to noeviction, or held quotas can be evicted");
            _policyCheckedAt = time.GetTimestamp();
        }
        // Up means fast: a store that has just begun loads its script engine with the first script, and no request should wait for that.
        var now = _runId == runId ? 0 : (long)await _redis.GetDatabase().ScriptEvaluateAsync(WarmUp.Text, [(RedisKey)"foundry:v1:{warm-up}"], []);
        lock (_lock)
        {
            if (_losses != losses)
                throw new RedisException("the connection was lost while the store was asked");
            if (isFast)
                Interlocked.Exchange(ref _slowSince, long.MinValue);
            if (_runId == runId && (_isFast || !isFast))
                return;
            // One that has just begun is not called slow for its first answer.
            _isFast = true;
            if (_lastRunId is not null && _lastRunId != runId)
                Volatile.Write(ref _unbrokenSince, now);
            _lastRunId = _runId = runId;
        }
        readiness.Report("redis", met: true, required: false);
        log.LogInformation("The counters' store answers (run {RunId})", runId);
    }

    /// <summary>Slow for too long: no request waits for it until a probe was answered fast. What cannot do without it still asks.</summary>
    private void SlowDown()
    {
        lock (_lock)
        {
            if (!IsFast)
                return;
            _isFast = false;
            _slowSince = long.MinValue;
        }
        log.LogWarning("The counters' store is slow: rates go by this gateway's own share");
        readiness.Report("redis", met: false, Slow, required: false);
    }

    private Task<ConnectionMultiplexer> ConnectAsync()
    {
        ConfigurationOptions parsed;
        try
        {
            parsed = ConfigurationOptions.Parse(options.Redis);
        }
        catch (ArgumentException fault)
        {
            throw new RedisException($"Gateway:Redis is no connection string: {fault.Message}");
        }
        parsed.AbortOnConnectFail = false;
        parsed.ConnectTimeout = 2000;
        parsed.AsyncTimeout = AnswerMillisecondsMax;
        parsed.SyncTimeout = AnswerMillisecondsMax;
        // A command that cannot be sent now is answered now: nobody waits in a queue for a store that is away.
        parsed.BacklogPolicy = BacklogPolicy.FailFast;
        parsed.ReconnectRetryPolicy = new LinearRetry(500);
        parsed.ClientName = options.Name;
        parsed.AllowAdmin = true; // The client counts INFO among the administrator's commands; nothing else of them is used.
        return ConnectionMultiplexer.ConnectAsync(parsed);
    }

    private static async Task<string?> ReadAsync(IServer server, string section, string name) =>
        (await server.InfoAsync(section)).SelectMany(pairs => pairs).FirstOrDefault(pair => pair.Key == name).Value;

    /// <summary>A password that is not the store's reads otherwise than a store that is not there; neither text has a secret in it.</summary>
    private static async Task<ConnectionFailureType> WhyNotAsync(ConnectionMultiplexer redis)
    {
        try
        {
            await redis.GetDatabase().PingAsync();
            return ConnectionFailureType.None;
        }
        catch (RedisConnectionException fault)
        {
            // The client says it in the message alone.
            return fault.Message.Contains("password", StringComparison.Ordinal) ? ConnectionFailureType.AuthenticationFailure : fault.FailureType;
        }
    }

    /// <summary>What answers on the next connection may be another life of the store, so nothing is counted there before a probe has asked.</summary>
    private void OnConnectionFailed(object? sender, ConnectionFailedEventArgs failed)
    {
        if (failed.ConnectionType != ConnectionType.Interactive)
            return;
        Interlocked.Increment(ref _losses);
        Open($"connection lost ({failed.FailureType})");
    }

    private void Open(string reason)
    {
        lock (_lock)
        {
            if (_runId is not null)
                log.LogWarning("The counters' store does not answer: {Reason}", reason);
            _runId = null;
            _isFast = false;
        }
        Interlocked.Exchange(ref _slowSince, long.MinValue);
        _policyCheckedAt = long.MinValue;
        readiness.Report("redis", met: false, reason.Split('\n')[0], required: false);
    }

    /// <inheritdoc/>
    public override void Dispose()
    {
        _redis?.Dispose();
        base.Dispose();
    }
}

/// <summary>
/// A Lua script. Written in what Redis's Lua 5.1 and the embedded server's 5.4 have in common: numbers go through
/// <c>string.format('%.0f', …)</c>, counters through HINCRBY.
/// </summary>
/// <param name="Text">The script.</param>
internal sealed record Script(string Text);
