using System.Collections.Concurrent;
using System.Diagnostics.Metrics;
using System.Text.Json;
using System.Threading.Channels;
using Dapper;
using Foundry.Contracts;
using Foundry.ServiceDefaults;
using Foundry.Testing;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting.Internal;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Time.Testing;

namespace Foundry.Storage.Tests;

/// <summary>A ledger that keeps what it is sent and can be told to refuse or to be away.</summary>
internal sealed class FakeLedger : IAsyncDisposable
{
    private readonly Channel<(string Log, string PayloadId)> _seen = Channel.CreateUnbounded<(string, string)>();
    private LoopbackHost? _host;

    /// <summary>What to do with an event: 200, the status that it is refused with, or null to hang up without an answer.</summary>
    public Func<string, string, int?> Verdict { get; set; } = (_, _) => 200;

    public ConcurrentDictionary<string, ConcurrentQueue<string>> Logs { get; } = new(StringComparer.Ordinal);

    public ConcurrentQueue<JsonElement> Payloads { get; } = new();

    public static async Task<FakeLedger> StartAsync()
    {
        var ledger = new FakeLedger();
        ledger._host = await LoopbackHost.StartAsync(_ => { }, app => app.MapPost(OutboxLines.Path, (RequestDelegate)ledger.AppendAsync), TestContext.Current.CancellationToken);
        return ledger;
    }

    /// <summary>The next append that arrives, taken or not.</summary>
    public async Task<(string Log, string PayloadId)> NextAsync() => await _seen.Reader.ReadAsync(TestContext.Current.CancellationToken);

    public async Task NextAsync(string payloadId)
    {
        while ((await NextAsync()).PayloadId != payloadId)
        {
        }
    }

    public IHttpClientFactory Clients => new ServiceCollection().AddHttpClient(OutboxSender.LedgerClient, client => client.BaseAddress = _host!.BaseAddress)
        .Services.BuildServiceProvider().GetRequiredService<IHttpClientFactory>();

    private async Task AppendAsync(HttpContext context)
    {
        var log = context.Request.Headers[FoundryHeaders.ModuleId].ToString();
        using var body = new MemoryStream();
        await context.Request.Body.CopyToAsync(body, context.RequestAborted);
        var taken = 0;
        foreach (var append in OutboxLines.Read(body.ToArray()))
        {
            var verdict = Verdict(log, append.PayloadId!);
            if (verdict == 200)
            {
                taken++;
                Logs.GetOrAdd(log, _ => new()).Enqueue(append.PayloadId!);
                Payloads.Enqueue(append.Payload.Clone());
            }
            if (verdict is null)
                context.Abort();
            _seen.Writer.TryWrite((log, append.PayloadId!));
            if (verdict != 200)
            {
                await context.Response.Body.WriteAsync(OutboxLines.Answer(taken, verdict));
                return;
            }
        }
        await context.Response.Body.WriteAsync(OutboxLines.Answer(taken));
    }

    public async ValueTask DisposeAsync() => await _host!.DisposeAsync();
}

public sealed class OutboxDelivery
{
    private static PlatformEvent Event(string id) => new()
    {
        EventType = EventTypes.VmCreated,
        EventId = id,
        Time = new DateTimeOffset(2026, 6, 12, 9, 42, 0, TimeSpan.Zero),
        TenantId = "acme-corp",
        Actor = new EventActor(null, null, "service:fleet"),
        Others = new Dictionary<string, JsonElement> { ["vm_id"] = JsonSerializer.SerializeToElement(id, WireJson.Default.String) },
    };

    private static async Task AddAsync(Outbox outbox, string log, params IEnumerable<string> ids)
    {
        await outbox.Database.WriteAsync(async transaction =>
        {
            foreach (var id in ids)
                await Outbox.AddAsync(transaction, log, id, Event(id));
            return 0;
        }, TestContext.Current.CancellationToken);
        outbox.Wake();
    }

    private static readonly IMeterFactory _meters = new ServiceCollection().AddMetrics().BuildServiceProvider().GetRequiredService<IMeterFactory>();

    private static OutboxSender Sender(Outbox outbox, FakeLedger ledger, TimeProvider? time = null, Readiness? readiness = null) =>
        new(outbox, ledger.Clients, time ?? TimeProvider.System, readiness ?? new Readiness(TimeProvider.System), _meters, new HostingEnvironment { ApplicationName = "test" }, NullLogger<OutboxSender>.Instance);

    private static async Task<long> RowsAsync(Outbox outbox)
    {
        await using var connection = await outbox.Database.OpenConnectionAsync(TestContext.Current.CancellationToken);
        return await connection.ExecuteScalarAsync<long>("SELECT COUNT(*) FROM outbox");
    }

    [Theory]
    [MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task Keeps_the_order_within_each_log_and_sends_each_event_once(string kind)
    {
        await using var store = new Store(kind);
        await using var ledger = await FakeLedger.StartAsync();
        await using var database = await store.OpenAsync(Outbox.Migration);
        var outbox = new Outbox(database);
        var ids = Enumerable.Range(0, 600).Select(n => $"e{n:000}").ToList();
        foreach (var chunk in ids.Chunk(50))
        {
            await AddAsync(outbox, "acme-corp", chunk.Select(id => $"acme-{id}"));
            await AddAsync(outbox, "globex", chunk.Select(id => $"globex-{id}"));
        }
        using var sender = Sender(outbox, ledger);
        await sender.StartAsync(TestContext.Current.CancellationToken);
        for (var n = 0; n < 1200; n++)
            await ledger.NextAsync();
        // Another batch begins only when the one before has left the outbox: were a row sent again, it would come before these.
        await AddAsync(outbox, "acme-corp", "last");
        await ledger.NextAsync("last");
        await AddAsync(outbox, "acme-corp", "very last");
        await ledger.NextAsync("very last");
        await sender.StopAsync(TestContext.Current.CancellationToken);

        Assert.Equal([.. ids.Select(id => $"acme-{id}"), "last", "very last"], ledger.Logs["acme-corp"]);
        Assert.Equal(ids.Select(id => $"globex-{id}"), ledger.Logs["globex"]);
        Assert.InRange(await RowsAsync(outbox), 0, 1); // "very last" may have arrived and not been taken out yet
    }

    [Theory]
    [MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task Tries_again_while_the_ledger_is_away_and_catches_up_when_it_is_back(string kind)
    {
        await using var store = new Store(kind);
        await using var ledger = await FakeLedger.StartAsync();
        await using var database = await store.OpenAsync(Outbox.Migration);
        var outbox = new Outbox(database);
        var readiness = new Readiness(TimeProvider.System);
        var away = true;
        ledger.Verdict = (_, _) => Volatile.Read(ref away) ? null : 200;
        using var sender = Sender(outbox, ledger, readiness: readiness);
        await sender.StartAsync(TestContext.Current.CancellationToken);
        await AddAsync(outbox, "acme-corp", "one", "two");
        for (var attempt = 0; attempt < 3; attempt++)
            Assert.Equal("one", (await ledger.NextAsync()).PayloadId);
        Assert.True(readiness.IsReady); // an outbox with room is no reason to serve nothing
        Assert.Equal(2, await RowsAsync(outbox));
        Volatile.Write(ref away, false);
        await ledger.NextAsync("two");
        await sender.StopAsync(TestContext.Current.CancellationToken);
        Assert.Equal(["one", "two"], ledger.Logs["acme-corp"]);
    }

    [Fact]
    public async Task Goes_on_after_a_restart_with_what_was_not_acknowledged()
    {
        await using var store = new Store("SQLite");
        await using var ledger = await FakeLedger.StartAsync();
        await using (var database = await store.OpenAsync(Outbox.Migration))
            await AddAsync(new Outbox(database), "acme-corp", "one", "two");
        await using var again = await store.OpenAsync(Outbox.Migration);
        using var sender = Sender(new Outbox(again), ledger);
        await sender.StartAsync(TestContext.Current.CancellationToken);
        await ledger.NextAsync("two");
        await sender.StopAsync(TestContext.Current.CancellationToken);
        Assert.Equal(["one", "two"], ledger.Logs["acme-corp"]);
    }

    /// <summary>The ledger had it, the answer was lost: it comes again, under the same ID, which is what makes it once in the log.</summary>
    [Fact]
    public async Task Is_at_least_once_when_an_answer_is_lost()
    {
        await using var store = new Store("SQLite");
        await using var ledger = await FakeLedger.StartAsync();
        await using var database = await store.OpenAsync(Outbox.Migration);
        var outbox = new Outbox(database);
        var seen = 0;
        ledger.Verdict = (_, _) => Interlocked.Increment(ref seen) == 1 ? null : 200;
        using var sender = Sender(outbox, ledger);
        await sender.StartAsync(TestContext.Current.CancellationToken);
        await AddAsync(outbox, "acme-corp", "one");
        Assert.Equal("one", (await ledger.NextAsync()).PayloadId);
        Assert.Equal("one", (await ledger.NextAsync()).PayloadId);
        await sender.StopAsync(TestContext.Current.CancellationToken);
    }

    /// <summary>What the ledger has taken of a request is not sent again with what it refused.</summary>
    [Fact]
    public async Task Goes_on_behind_what_was_taken_of_a_request()
    {
        await using var store = new Store("SQLite");
        await using var ledger = await FakeLedger.StartAsync();
        await using var database = await store.OpenAsync(Outbox.Migration);
        var outbox = new Outbox(database);
        var refusals = 0;
        ledger.Verdict = (_, id) => id == "two" && Interlocked.Increment(ref refusals) < 3 ? 503 : 200;
        await AddAsync(outbox, "acme-corp", "one", "two", "three");
        using var sender = Sender(outbox, ledger);
        await sender.StartAsync(TestContext.Current.CancellationToken);
        await ledger.NextAsync("three");
        await sender.StopAsync(TestContext.Current.CancellationToken);
        Assert.Equal(["one", "two", "three"], ledger.Logs["acme-corp"]);
    }

    /// <summary>One log has a backlog of many batches, and its ledger does not answer: what is another's, and younger, arrives.</summary>
    [Fact]
    public async Task Of_a_log_with_a_long_backlog_does_not_hold_up_the_others()
    {
        await using var store = new Store("SQLite");
        await using var ledger = await FakeLedger.StartAsync();
        await using var database = await store.OpenAsync(Outbox.Migration);
        var outbox = new Outbox(database);
        using var go = new SemaphoreSlim(0);
        ledger.Verdict = (log, _) =>
        {
            if (log == "backlog")
                go.Wait(TestContext.Current.CancellationToken);
            return 200;
        };
        await AddAsync(outbox, "backlog", Enumerable.Range(0, 5000).Select(n => $"b{n:0000}"));
        await AddAsync(outbox, "acme-corp", "one");
        using var sender = Sender(outbox, ledger);
        await sender.StartAsync(TestContext.Current.CancellationToken);
        await ledger.NextAsync("one");
        go.Release(5000);
        await ledger.NextAsync("b4999");
        await sender.StopAsync(TestContext.Current.CancellationToken);
        Assert.Equal(5000, ledger.Logs["backlog"].Count);
    }

    /// <summary>More events of the refusing log than a batch holds, all older than the other's.</summary>
    [Theory]
    [MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task To_one_log_that_refuses_does_not_hold_up_the_others(string kind)
    {
        await using var store = new Store(kind);
        await using var ledger = await FakeLedger.StartAsync();
        await using var database = await store.OpenAsync(Outbox.Migration);
        var outbox = new Outbox(database);
        var refuses = true;
        ledger.Verdict = (log, _) => log == "refusing" && Volatile.Read(ref refuses) ? 503 : 200;
        await AddAsync(outbox, "refusing", Enumerable.Range(0, 600).Select(n => $"r{n:000}"));
        await AddAsync(outbox, "acme-corp", "one", "two");
        // With a clock that stands still nothing is due again: what arrives does so in spite of the log that refuses.
        using var sender = Sender(outbox, ledger, new FakeTimeProvider());
        await sender.StartAsync(TestContext.Current.CancellationToken);
        await ledger.NextAsync("two");
        await AddAsync(outbox, "acme-corp", "three");
        await ledger.NextAsync("three");
        await sender.StopAsync(TestContext.Current.CancellationToken);
        Assert.Equal(["one", "two", "three"], ledger.Logs["acme-corp"]);
        Assert.False(ledger.Logs.ContainsKey("refusing"));

        Volatile.Write(ref refuses, false);
        using var later = Sender(outbox, ledger);
        await later.StartAsync(TestContext.Current.CancellationToken);
        await ledger.NextAsync("r599");
        await later.StopAsync(TestContext.Current.CancellationToken);
        Assert.Equal(Enumerable.Range(0, 600).Select(n => $"r{n:000}"), ledger.Logs["refusing"]);
    }

    [Fact]
    public async Task To_a_log_that_refused_is_tried_again_later_without_its_asking()
    {
        await using var store = new Store("SQLite");
        await using var ledger = await FakeLedger.StartAsync();
        await using var database = await store.OpenAsync(Outbox.Migration);
        var outbox = new Outbox(database);
        var attempts = 0;
        ledger.Verdict = (_, _) => Interlocked.Increment(ref attempts) < 4 ? 500 : 200;
        await AddAsync(outbox, "acme-corp", "one");
        using var sender = Sender(outbox, ledger);
        await sender.StartAsync(TestContext.Current.CancellationToken);
        for (var attempt = 0; attempt < 4; attempt++)
            Assert.Equal("one", (await ledger.NextAsync()).PayloadId);
        await sender.StopAsync(TestContext.Current.CancellationToken);
        Assert.Equal(["one"], ledger.Logs["acme-corp"]);
    }

    [Fact]
    public async Task Carries_the_event_as_it_was_written()
    {
        await using var store = new Store("SQLite");
        await using var ledger = await FakeLedger.StartAsync();
        await using var database = await store.OpenAsync(Outbox.Migration);
        var outbox = new Outbox(database);
        await AddAsync(outbox, "acme-corp", "vm-1");
        using var sender = Sender(outbox, ledger);
        await sender.StartAsync(TestContext.Current.CancellationToken);
        await ledger.NextAsync();
        await sender.StopAsync(TestContext.Current.CancellationToken);
        Assert.Equal(
            """{"event_type":"VM_CREATED","event_id":"vm-1","time":"2026-06-12T09:42:00+00:00","tenant_id":"acme-corp","actor":{"scope":"service:fleet"},"vm_id":"vm-1"}""",
            Assert.Single(ledger.Payloads).ToString().Replace("\\u002B", "+", StringComparison.Ordinal));
    }
}

public sealed class OutboxRoom
{
    [Fact]
    public async Task Ends_at_its_bound_and_comes_back_when_the_rows_are_counted()
    {
        await using var store = new Store("SQLite");
        await using var ledger = await FakeLedger.StartAsync();
        await using var database = await store.OpenAsync(Outbox.Migration);
        var outbox = new Outbox(database);
        Assert.True(outbox.HasRoom);
        for (var n = 0; n < Outbox.EventsMax - 1; n++)
            outbox.Wake();
        Assert.True(outbox.HasRoom);
        outbox.Wake();
        Assert.False(outbox.HasRoom);
        await outbox.CountAsync(TestContext.Current.CancellationToken);
        Assert.True(outbox.HasRoom);
    }

    /// <summary>An event without its fact would be a lie, a fact without its event a gap.</summary>
    [Fact]
    public async Task Is_not_taken_by_an_event_whose_fact_was_not_committed()
    {
        await using var store = new Store("SQLite");
        await using var database = await store.OpenAsync(Outbox.Migration);
        await Assert.ThrowsAsync<InvalidOperationException>(() => database.WriteAsync<int>(async transaction =>
        {
            await Outbox.AddAsync(transaction, "acme-corp", "one", new PlatformEvent
            {
                EventType = EventTypes.VmCreated,
                EventId = "one",
                Time = DateTimeOffset.UnixEpoch,
                Actor = new EventActor(null, null, "service:fleet"),
            });
            throw new InvalidOperationException("the fact failed");
        }, TestContext.Current.CancellationToken));
        Assert.Empty(await new Outbox(database).OldestAsync(1, [], TestContext.Current.CancellationToken));
    }
}
