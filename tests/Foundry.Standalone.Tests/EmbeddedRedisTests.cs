using System.Collections.Concurrent;
using Foundry.ServiceDefaults;
using Foundry.Testing;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using StackExchange.Redis;

namespace Foundry.Standalone.Tests;

/// <summary>The embedded server's files (CONTRACT section 1): read back after a clean stop, set aside after anything else.</summary>
public sealed class EmbeddedRedisFiles
{
    private readonly QueueLog _log = new();

    [Fact]
    public async Task Survive_a_clean_stop()
    {
        using var folder = new TempFolder();
        await WriteAsync(folder.Path, 100);

        using var again = Start(folder.Path);
        await using var client = await ConnectAsync(again);
        for (var i = 0; i < 100; i++)
            Assert.Equal(i, (long)await client.GetDatabase().StringGetAsync($"key-{i}"));
        Assert.NotNull(await client.GetDatabase().KeyTimeToLiveAsync("lives-on"));
        Assert.Empty(_log.Lines);
        Assert.Empty(Aside(folder.Path));
    }

    [Fact]
    public async Task Survive_many_clean_stops()
    {
        using var folder = new TempFolder();
        for (var life = 1; life <= 4; life++)
        {
            using var server = Start(folder.Path);
            await using var client = await ConnectAsync(server);
            Assert.Equal(life, await client.GetDatabase().StringIncrementAsync("lives"));
        }
        Assert.Empty(_log.Lines);
    }

    [Theory]
    [InlineData("flip"), InlineData("truncate"), InlineData("append"), InlineData("delete"), InlineData("add")]
    public async Task Are_set_aside_after_any_change_to_any_of_them(string damage)
    {
        using var original = new TempFolder();
        await WriteAsync(original.Path, 20);
        var files = Directory.GetFiles(original.Path, "*", SearchOption.AllDirectories).Select(file => Path.GetRelativePath(original.Path, file)).Order(StringComparer.Ordinal).ToArray();
        Assert.True(files.Length >= 2, "the server keeps files");

        foreach (var file in files)
        {
            using var folder = new TempFolder();
            var copy = folder.File("redis");
            Copy(original.Path, copy);
            if (!Damage(Path.Combine(copy, file), damage))
                continue;
            _log.Lines.Clear();

            using var server = Start(copy);

            var aside = Assert.Single(Aside(copy));
            Assert.Contains(_log.Lines, line => line.StartsWith("Warning", StringComparison.Ordinal) && line.Contains(aside, StringComparison.Ordinal));
            await using var client = await ConnectAsync(server);
            Assert.False(await client.GetDatabase().KeyExistsAsync("key-1"));
            Assert.True(await client.GetDatabase().StringSetAsync("works", "yes"));
            // Nothing of what there was is lost.
            Assert.Equal(damage is "delete" ? files.Length - 1 : damage is "add" ? files.Length + 1 : files.Length, Directory.GetFiles(aside, "*", SearchOption.AllDirectories).Length);
        }
    }

    [Fact]
    public async Task Are_set_aside_after_an_unclean_stop()
    {
        using var folder = new TempFolder();
        var running = folder.File("running");
        using var server = Start(running);
        await using (var client = await ConnectAsync(server))
            await client.GetDatabase().StringSetAsync("key-1", 1);
        // What a killed process leaves: the files as they are while it runs.
        var killed = folder.File("killed");
        Copy(running, killed);
        File.WriteAllText(Path.Combine(killed, "redis.sock"), ""); // Its socket, too.

        using var again = Start(killed);

        Assert.Single(Aside(killed));
        Assert.Single(_log.Lines);
        await using var survivor = await ConnectAsync(again);
        Assert.False(await survivor.GetDatabase().KeyExistsAsync("key-1"));
    }

    [Fact]
    public async Task Set_aside_replace_those_that_were_before()
    {
        using var folder = new TempFolder();
        await WriteAsync(folder.Path, 1);
        File.Delete(folder.File("stopped-clean"));
        await WriteAsync(folder.Path, 1);
        var first = Assert.Single(Aside(folder.Path));
        File.Delete(folder.File("stopped-clean"));

        await WriteAsync(folder.Path, 1);

        Assert.NotEqual(first, Assert.Single(Aside(folder.Path)));
        Assert.Equal(2, _log.Lines.Count);
        // And what was set aside is no part of what must be unchanged.
        Directory.Delete(Assert.Single(Aside(folder.Path)), recursive: true);
        using var server = Start(folder.Path);
        await using var client = await ConnectAsync(server);
        Assert.True(await client.GetDatabase().KeyExistsAsync("key-0"));
    }

    [Theory]
    [InlineData(60), InlineData(200)]
    public async Task May_be_at_the_end_of_a_long_path(int characters)
    {
        using var folder = new TempFolder();
        var deep = Path.Combine(folder.Path, new string('a', characters), new string('b', characters));

        await WriteAsync(deep, 1);
        await WriteAsync(deep, 1);

        Assert.Empty(_log.Lines);
    }

    private async Task WriteAsync(string path, int keys)
    {
        using var server = Start(path);
        await using var client = await ConnectAsync(server);
        for (var i = 0; i < keys; i++)
            await client.GetDatabase().StringSetAsync($"key-{i}", i);
        await client.GetDatabase().StringSetAsync("lives-on", "yes", TimeSpan.FromHours(1));
    }

    private EmbeddedRedis Start(string path) => EmbeddedRedis.Start(StateFolder.Open(path), NullLoggerFactory.Instance, _log);

    private static async Task<ConnectionMultiplexer> ConnectAsync(EmbeddedRedis server) => await ConnectionMultiplexer.ConnectAsync(server.ConnectionString);

    private static string[] Aside(string path) => Directory.GetDirectories(path, "aside-*");

    private static bool Damage(string file, string how)
    {
        var bytes = File.ReadAllBytes(file);
        switch (how)
        {
            case "flip" when bytes.Length > 0:
                bytes[bytes.Length / 2] ^= 1;
                File.WriteAllBytes(file, bytes);
                return true;
            case "truncate" when bytes.Length > 1:
                File.WriteAllBytes(file, bytes[..(bytes.Length / 2)]);
                return true;
            case "append":
                File.AppendAllText(file, "x");
                return true;
            case "delete":
                File.Delete(file);
                return true;
            case "add":
                File.WriteAllBytes(file + ".more", bytes);
                return true;
            default:
                return false; // An empty file cannot be made shorter.
        }
    }

    private static void Copy(string from, string to)
    {
        Directory.CreateDirectory(to);
        foreach (var folder in Directory.GetDirectories(from, "*", SearchOption.AllDirectories))
            Directory.CreateDirectory(Path.Combine(to, Path.GetRelativePath(from, folder)));
        foreach (var file in Directory.GetFiles(from, "*", SearchOption.AllDirectories).Where(file => !file.EndsWith(".sock", StringComparison.Ordinal)))
        {
            // As another process would: the server holds them open.
            using var source = new FileStream(file, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
            using var target = File.Create(Path.Combine(to, Path.GetRelativePath(from, file)));
            source.CopyTo(target);
        }
    }

    private sealed class QueueLog : ILogger
    {
        public ConcurrentQueue<string> Lines { get; } = new();

        public IDisposable? BeginScope<TState>(TState state) where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => true;

        public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter) =>
            Lines.Enqueue($"{logLevel}: {formatter(state, exception)}");
    }
}

/// <summary>Off by default in the embedded server: without it two scripts on one key lose each other's writes.</summary>
public sealed class EmbeddedRedisScripts
{
    [Fact]
    public async Task Are_atomic()
    {
        using var folder = new TempFolder();
        using var server = EmbeddedRedis.Start(StateFolder.Open(folder.Path), NullLoggerFactory.Instance, NullLogger.Instance);
        const int connections = 8, each = 2500;
        const string increment = "local n = tonumber(redis.call('HGET', KEYS[1], 'n') or '0'); redis.call('HSET', KEYS[1], 'n', string.format('%.0f', n + 1)); return 1";

        await Task.WhenAll(Enumerable.Range(0, connections).Select(async _ =>
        {
            var settings = ConfigurationOptions.Parse(server.ConnectionString);
            settings.AsyncTimeout = 60_000;
            await using var client = await ConnectionMultiplexer.ConnectAsync(settings);
            for (var i = 0; i < each; i++)
                await client.GetDatabase().ScriptEvaluateAsync(increment, [new RedisKey("counter")], []);
        }));

        await using var reader = await ConnectionMultiplexer.ConnectAsync(server.ConnectionString);
        Assert.Equal(connections * each, (long)await reader.GetDatabase().HashGetAsync("counter", "n"));
    }

    [Fact]
    public async Task Are_refused_without_the_password()
    {
        using var folder = new TempFolder();
        using var server = EmbeddedRedis.Start(StateFolder.Open(folder.Path), NullLoggerFactory.Instance, NullLogger.Instance);
        var settings = ConfigurationOptions.Parse(server.ConnectionString.Split(',')[0]);
        (settings.AbortOnConnectFail, settings.ConnectTimeout) = (false, 1000);

        await using var stranger = await ConnectionMultiplexer.ConnectAsync(settings);

        await Assert.ThrowsAnyAsync<RedisException>(() => stranger.GetDatabase().StringSetAsync("a", "b"));
    }
}
