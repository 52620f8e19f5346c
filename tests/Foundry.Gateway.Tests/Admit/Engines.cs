using System.Collections.Concurrent;
using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Text.Json;
using Foundry.Contracts;
using Foundry.Gateway.Admit;
using Foundry.Gateway.Authenticate;
using Foundry.Gateway.Config;
using Foundry.ServiceDefaults;
using Foundry.Standalone;
using Foundry.Testing;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using StackExchange.Redis;

namespace Foundry.Gateway.Tests.Admit;

/// <summary>
/// What the counters' tests run on: the embedded server always; a real Redis where FOUNDRY_TEST_REDIS is host:port of one that tests
/// may write to. Tests that stop, hang or reconfigure a Redis start one of their own then, from <c>redis-server</c> on the PATH.
/// </summary>
public static class Engines
{
    public const string Embedded = "embedded";
    public const string Redis = "redis";

    public static string? Address { get; } = Environment.GetEnvironmentVariable("FOUNDRY_TEST_REDIS") is { Length: > 0 } address ? address : null;

    public static TheoryData<string> All { get; } = Address is null ? new(Embedded) : new(Embedded, Redis);

    /// <summary>Rows of tests that need a Redis process of their own; skipped as a whole where there is no real one.</summary>
    public static bool NoRedis => Address is null;
}

public sealed class ContinuousIntegration
{
    /// <summary>Without this, a runner that lost its Redis would go on being green.</summary>
    [Fact]
    public void Tests_the_counters_on_a_real_Redis_too() =>
        Assert.True(Engines.Address is not null || Environment.GetEnvironmentVariable("CI") != "true", "CI=true, but FOUNDRY_TEST_REDIS is not set.");
}

/// <summary>The engines of one test class, each started when first asked for.</summary>
public sealed class EngineSet : IDisposable
{
    private readonly ConcurrentDictionary<string, Lazy<Engine>> _engines = new();

    internal Engine Of(string kind) => _engines.GetOrAdd(kind, _ => new Lazy<Engine>(() => Engine.Start(kind))).Value;

    public void Dispose()
    {
        foreach (var engine in _engines.Values)
            engine.Value.Dispose();
    }
}

/// <summary>A store's server, and a connection beside the one under test.</summary>
internal sealed class Engine : IDisposable
{
    private readonly TempFolder? _folder;
    private readonly EmbeddedRedis? _embedded;

    private Engine(string connection, TempFolder? folder, EmbeddedRedis? embedded)
    {
        (ConnectionString, _folder, _embedded) = (connection, folder, embedded);
        var parsed = ConfigurationOptions.Parse(connection);
        parsed.AllowAdmin = true;
        parsed.AsyncTimeout = parsed.SyncTimeout = parsed.ConnectTimeout = 30_000;
        Side = ConnectionMultiplexer.Connect(parsed);
    }

    public string ConnectionString { get; }

    public ConnectionMultiplexer Side { get; }

    public IDatabase Data => Side.GetDatabase();

    public static Engine Start(string kind)
    {
        if (kind == Engines.Redis)
            return new Engine(Engines.Address!, null, null);
        var folder = new TempFolder();
        var server = EmbeddedRedis.Start(StateFolder.Open(folder.File("redis")), NullLoggerFactory.Instance, NullLogger.Instance);
        return new Engine(server.ConnectionString, folder, server);
    }

    public static Engine At(string connectionString) => new(connectionString, null, null);

    /// <summary>The store's clock, microseconds.</summary>
    public async Task<long> TimeAsync()
    {
        var parts = (RedisValue[])(await Data.ExecuteAsync("TIME"))!;
        return (long)parts[0] * 1_000_000 + (long)parts[1];
    }

    public async Task<string[]> KeysAsync(string pattern) => [.. ((RedisKey[])(await Data.ExecuteAsync("KEYS", pattern))!).Select(key => key.ToString())];

    public Task FlushAsync() => Data.ExecuteAsync("FLUSHALL");

    public void Dispose()
    {
        Side.Dispose();
        _embedded?.Dispose();
        _folder?.Dispose();
    }
}

/// <summary>A gateway's connection to a store, as its host would run it.</summary>
internal sealed class RunningStore : IAsyncDisposable
{
    private RunningStore(GatewayOptions options, TimeProvider? time)
    {
        Options = options;
        Readiness = new Readiness(TimeProvider.System);
        Log = new QueueLogger<Store>();
        Store = new Store(options, Readiness, time ?? TimeProvider.System, Log);
    }

    public GatewayOptions Options { get; }

    public Readiness Readiness { get; }

    public QueueLogger<Store> Log { get; }

    public Store Store { get; }

    public Quotas Quotas => new(Store);

    /// <summary>A rate limiter over it, which counts on as many gateways as the options expect.</summary>
    public RateLimiter Limiter(TimeProvider time, TenantDirectory? directory = null) =>
        new(new SharedBuckets(Store), directory ?? Tenants.Directory(), () => Options.GatewaysExpected, Options, time, NullLogger<RateLimiter>.Instance);

    /// <summary>Not yet begun.</summary>
    public static RunningStore Idle(string connectionString, TimeProvider? time = null) => new(new GatewayOptions { Redis = connectionString }, time);

    /// <summary>Begins to connect; returns at once.</summary>
    public static async Task<RunningStore> BeginAsync(string connectionString, TimeProvider? time = null)
    {
        var running = Idle(connectionString, time);
        await running.Store.StartAsync(CancellationToken.None);
        return running;
    }

    /// <summary>Connected, and said to be up.</summary>
    public static async Task<RunningStore> UpAsync(string connectionString)
    {
        var running = await BeginAsync(connectionString);
        await Eventually.TrueAsync(() => running.Store.IsUp);
        return running;
    }

    public async ValueTask DisposeAsync()
    {
        await Store.StopAsync(CancellationToken.None);
        Store.Dispose();
    }
}

/// <summary>What was logged, for tests of what operators are told.</summary>
internal sealed class QueueLogger<T> : ILogger<T>
{
    public ConcurrentQueue<string> Lines { get; } = new();

    public IDisposable? BeginScope<TState>(TState state) where TState : notnull => null;

    public bool IsEnabled(LogLevel logLevel) => true;

    public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter) =>
        Lines.Enqueue($"{logLevel}: {formatter(state, exception)}");
}

/// <summary>Waits for what must come, however long a busy machine takes; ends with the test.</summary>
internal static class Eventually
{
    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(1);

    public static Task TrueAsync(Func<bool> condition) => TrueAsync(() => Task.FromResult(condition()));

    public static async Task TrueAsync(Func<Task<bool>> condition)
    {
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(TestContext.Current.CancellationToken);
        limit.CancelAfter(Patience);
        using var timer = new PeriodicTimer(TimeSpan.FromMilliseconds(5));
        while (!await condition())
            await timer.WaitForNextTickAsync(limit.Token);
    }
}

/// <summary>What <c>/readyz</c> says.</summary>
internal static class ReadinessText
{
    /// <summary>Whether a need's entry has this text in it.</summary>
    public static bool Shows(this Readiness readiness, string need, string text)
    {
        var answer = JsonSerializer.SerializeToElement(((IValueHttpResult)readiness.ToResult()).Value);
        return answer.GetProperty("needs").TryGetProperty(need, out var entry) && entry.GetProperty("detail").GetString()?.Contains(text, StringComparison.Ordinal) == true;
    }
}

/// <summary>Tenants that nobody else has.</summary>
internal static class Tenants
{
    public static Tenant New(int rpm = 600, int maxVms = 10, int? maxRamMb = null, int storageGb = 1_000_000, DateTimeOffset? createdAt = null) =>
        new($"t-{Guid.NewGuid():N}", "Tenant", maxVms, storageGb, rpm, maxRamMb, false, Tenant.Active, createdAt ?? DateTimeOffset.UnixEpoch);

    public static string KeyOf(Tenant tenant, string name) => $"foundry:v1:{{{tenant.TenantId}}}:{name}";

    /// <summary>What issuance says of them, as a snapshot.</summary>
    public static TenantDirectory Directory(params IEnumerable<Tenant> tenants)
    {
        var directory = new TenantDirectory();
        directory.Apply(new FeedMessage(1, FeedMessage.Snapshot, 0, 1, DateTimeOffset.UnixEpoch, [.. tenants.Select(tenant => new Change("tenant", tenant))]), live: true);
        return directory;
    }

    /// <summary>A change of one, as it comes while running.</summary>
    public static void Change(this TenantDirectory directory, Tenant tenant) =>
        Assert.True(directory.Apply(new FeedMessage(1, FeedMessage.Delta, directory.Seq, directory.Seq + 1, DateTimeOffset.UnixEpoch, [new Change("tenant", tenant)]), live: true));
}

/// <summary>A Redis process that a test may stop, hang and reconfigure.</summary>
internal sealed class OwnRedis : IDisposable
{
    private readonly TempFolder _folder = new();
    private readonly string[] _settings;
    private Process? _process;

    private OwnRedis(int port, string[] settings) => (Port, _settings) = (port, settings);

    public int Port { get; }

    public string Address => $"127.0.0.1:{Port.ToString(CultureInfo.InvariantCulture)}";

    public static async Task<OwnRedis> StartAsync(params string[] settings)
    {
        var redis = new OwnRedis(LoopbackPort.Free(), settings);
        try
        {
            await redis.StartAgainAsync();
            return redis;
        }
        catch
        {
            redis.Dispose(); // Or its process would outlive the test.
            throw;
        }
    }

    public async Task StartAgainAsync()
    {
        var start = new ProcessStartInfo("redis-server") { RedirectStandardOutput = true };
        foreach (var argument in (string[])["--port", Port.ToString(CultureInfo.InvariantCulture), "--bind", "127.0.0.1", "--save", "", "--dir", _folder.Path, "--maxmemory-policy", "noeviction", .. _settings])
            start.ArgumentList.Add(argument);
        var ready = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        _process = new Process { StartInfo = start };
        _process.OutputDataReceived += (_, line) =>
        {
            if (line.Data is null)
                ready.TrySetException(new InvalidOperationException("redis-server ended before it was ready."));
            else if (line.Data.Contains("Ready to accept connections", StringComparison.Ordinal))
                ready.TrySetResult();
        };
        _process.Start();
        _process.BeginOutputReadLine();
        await ready.Task;
    }

    public void Kill()
    {
        _process!.Kill();
        _process.WaitForExit();
    }

    public Task HangAsync() => SignalAsync("-STOP");

    public Task GoOnAsync() => SignalAsync("-CONT");

    public void Dispose()
    {
        if (_process is { HasExited: false })
            Kill();
        _process?.Dispose();
        _folder.Dispose();
    }

    private async Task SignalAsync(string signal)
    {
        using var kill = Process.Start("kill", [signal, _process!.Id.ToString(CultureInfo.InvariantCulture)]);
        await kill.WaitForExitAsync();
        Assert.Equal(0, kill.ExitCode);
    }
}

/// <summary>A way to a Redis that a test may make slow, stop without a word, or cut.</summary>
internal sealed class RedisProxy : IDisposable
{
    private readonly TcpListener _listener = new(IPAddress.Loopback, 0);
    private readonly CancellationTokenSource _ending = new();
    private readonly ConcurrentDictionary<TcpClient, byte> _clients = new();
    private readonly int _port;
    private volatile TaskCompletionSource _open = Opened();
    private volatile bool _isRefusing;

    public RedisProxy(int port)
    {
        _port = port;
        _listener.Start();
        _ = AcceptAsync();
    }

    public string Address => $"127.0.0.1:{((IPEndPoint)_listener.LocalEndpoint).Port.ToString(CultureInfo.InvariantCulture)}";

    /// <summary>How long each answer is held back.</summary>
    public TimeSpan Delay { get; set; }

    /// <summary>Nothing comes through any more, and nobody hears of it.</summary>
    public void Stall() => _open = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);

    /// <summary>Breaks every connection and takes no other.</summary>
    public void Cut()
    {
        _isRefusing = true;
        foreach (var client in _clients.Keys)
            client.Dispose();
    }

    /// <summary>All is well again; what was held back comes through.</summary>
    public void Mend()
    {
        _isRefusing = false;
        Delay = TimeSpan.Zero;
        _open.TrySetResult();
    }

    public void Dispose()
    {
        _ending.Cancel();
        _listener.Dispose();
        Cut();
        _open.TrySetResult();
    }

    private static TaskCompletionSource Opened()
    {
        var opened = new TaskCompletionSource();
        opened.SetResult();
        return opened;
    }

    private async Task AcceptAsync()
    {
        try
        {
            while (true)
                _ = ServeAsync(await _listener.AcceptTcpClientAsync(_ending.Token));
        }
        catch (Exception fault) when (fault is OperationCanceledException or ObjectDisposedException or SocketException)
        {
            // The test is over.
        }
    }

    private async Task ServeAsync(TcpClient client)
    {
        using var redis = new TcpClient();
        _clients[client] = 0;
        try
        {
            if (_isRefusing)
                return;
            await redis.ConnectAsync(IPAddress.Loopback, _port, _ending.Token);
            await Task.WhenAny(PassAsync(client.GetStream(), redis.GetStream(), answers: false), PassAsync(redis.GetStream(), client.GetStream(), answers: true));
        }
        catch (Exception fault) when (fault is IOException or SocketException or ObjectDisposedException or InvalidOperationException or OperationCanceledException)
        {
            // Either side is gone, and so is the other.
        }
        finally
        {
            _clients.TryRemove(client, out _);
            client.Dispose();
        }
    }

    private async Task PassAsync(NetworkStream from, NetworkStream to, bool answers)
    {
        var buffer = new byte[16_384];
        while (await from.ReadAsync(buffer, _ending.Token) is var count and > 0)
        {
            await _open.Task;
            if (answers && Delay > TimeSpan.Zero)
                await Task.Delay(Delay, _ending.Token);
            await to.WriteAsync(buffer.AsMemory(0, count), _ending.Token);
        }
    }
}
