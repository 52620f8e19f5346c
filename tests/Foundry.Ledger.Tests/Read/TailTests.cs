using System.IO.Pipelines;
using System.Net;
using System.Text;
using System.Text.Json;
using Foundry.Contracts;
using Foundry.Ledger.Read;
using Foundry.Ledger.Storage;
using Microsoft.AspNetCore.Builder;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Time.Testing;
using As = Foundry.Ledger.Tests.LedgerHost.As;

namespace Foundry.Ledger.Tests.Read;

/// <summary>Followers of a log: <c>GET /v1/tail</c>.</summary>
public abstract class Followers(string store) : IAsyncLifetime
{
    /// <summary>After so long what a test waits for will not come any more.</summary>
    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(1);

    private const string OwnClock = "The clock is moved on between looks, and a database looks at its own pace.";

    private readonly HostStore _store = new(store);
    private readonly FakeTimeProvider _time = new(TimeProvider.System.GetUtcNow());
    private readonly List<IDisposable> _open = [];
    private LedgerHost? _host;

    private LedgerHost Ledger => _host ?? throw new InvalidOperationException("Not started.");

    public async ValueTask InitializeAsync() => await StartAsync();

    public async ValueTask DisposeAsync()
    {
        _open.ForEach(one => one.Dispose());
        await Ledger.DisposeAsync();
        _store.Dispose();
    }

    [Fact]
    public async Task Hear_every_entry_once_and_in_order_those_there_and_those_to_come()
    {
        await AppendAsync(1, 600);
        using var follower = await FollowAsync("/v1/tail?since=100");
        Assert.Equal("""{"next_cursor":100}""", await follower.LineAsync());
        var heard = Enumerable.Range(0, 900).Select(_ => 0L).ToArray();
        var appending = AppendAsync(601, 400);
        for (var i = 0; i < heard.Length; i++)
            heard[i] = JsonDocument.Parse(await follower.LineAsync()).RootElement.GetProperty("cursor").GetInt64();
        await appending;
        Assert.Equal(Enumerable.Range(101, 900).Select(i => (long)i), heard);
    }

    [Fact]
    public async Task Without_a_cursor_hear_what_is_to_come()
    {
        await AppendAsync(1, 3);
        using var follower = await FollowAsync("/v1/tail");
        Assert.Equal("""{"next_cursor":3}""", await follower.LineAsync());
        await Ledger.CursorAsync(As.Acme, "acme", "x", """{"n" : 1}""");
        var line = await follower.LineAsync();
        Assert.StartsWith("""{"cursor":4,"payload_id":"x","writer":"tenant:acme","time":""", line, StringComparison.Ordinal);
        Assert.EndsWith(""","payload":{"n" : 1}}""", line, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Hear_only_what_they_asked_for()
    {
        await AppendAsync(1, 30);
        using var follower = await FollowAsync("/v1/tail?since=0&event_type=T1&kind=odd");
        await follower.LineAsync();
        await AppendAsync(31, 30);
        foreach (var expected in Enumerable.Range(1, 60).Where(i => i % 3 == 1 && i % 2 == 1))
            Assert.Equal($"id-{expected}", JsonDocument.Parse(await follower.LineAsync()).RootElement.GetProperty("payload_id").GetString());
    }

    [Fact]
    public async Task Who_accept_events_get_events_and_go_on_where_they_were()
    {
        await AppendAsync(1, 3);
        using var first = await FollowAsync("/v1/tail?since=0", request => request.Headers.Accept.ParseAdd("text/event-stream"));
        Assert.Equal("text/event-stream", first.MediaType);
        Assert.Equal([":", "id: 0", ""], await first.LinesAsync(3));
        Assert.Equal("id: 1", await first.LineAsync());
        Assert.StartsWith("""data: {"cursor":1,""", await first.LineAsync(), StringComparison.Ordinal);
        Assert.Equal("", await first.LineAsync());

        using var second = await FollowAsync("/v1/tail?since=0", request =>
        {
            request.Headers.Accept.ParseAdd("text/event-stream");
            request.Headers.Add("Last-Event-ID", "2");
        });
        Assert.Equal([":", "id: 2", "", "id: 3"], await second.LinesAsync(4));
    }

    [Fact]
    public async Task Get_a_payload_of_many_lines_on_one()
    {
        await Ledger.CursorAsync(As.Acme, "acme", "a", "{\r\n  \"a\": \"\\n\"\n}");
        using var follower = await FollowAsync("/v1/tail?since=0");
        await follower.LineAsync();
        Assert.EndsWith(""","payload":{    "a": "\n" }}""", await follower.LineAsync(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Of_a_log_that_does_not_exist_yet_hear_its_first_entry()
    {
        Assert.SkipUnless(_store.IsFiles, OwnClock);
        using var follower = await FollowAsync("/v1/tail");
        Assert.Equal("""{"next_cursor":0}""", await follower.LineAsync());
        Assert.False(Directory.Exists(Path.Combine(_store.Folder, "acme")));
        await AppendAsync(1, 1);
        var line = await AdvanceUntilAsync(LineWithEntryAsync(follower), TimeSpan.FromMilliseconds(50));
        Assert.Equal(1, JsonDocument.Parse(line).RootElement.GetProperty("cursor").GetInt64());
    }

    [Fact]
    public async Task In_quiet_times_hear_where_they_are()
    {
        Assert.SkipUnless(_store.IsFiles, OwnClock);
        await StartAsync(("Ledger:TailTimeMax", "1.00:00:00"));
        await AppendAsync(1, 5);
        using var follower = await FollowAsync("/v1/tail?since=0&event_type=none");
        Assert.Equal("""{"next_cursor":0}""", await follower.LineAsync());
        Assert.Equal("""{"next_cursor":5}""", await AdvanceUntilAsync(follower.LineAsync(), TimeSpan.FromSeconds(1)));
        Assert.Equal("""{"next_cursor":5}""", await AdvanceUntilAsync(follower.LineAsync(), TimeSpan.FromSeconds(1)));
    }

    [Fact]
    public async Task Ask_again_when_their_time_is_up()
    {
        await StartAsync(("Ledger:TailHeartbeat", "1.00:00:00"));
        await AppendAsync(1, 1);
        using var follower = await FollowAsync("/v1/tail?since=1");
        await follower.LineAsync();
        Assert.Equal("", await AdvanceUntilAsync(follower.RestAsync(), TimeSpan.FromSeconds(1)));
    }

    [Fact]
    public async Task Are_served_no_longer_than_their_token_lasts()
    {
        await StartAsync(("Ledger:TailHeartbeat", "1.00:00:00"), ("Ledger:TailTimeMax", "1.00:00:00"));
        await AppendAsync(1, 1);
        using var follower = await FollowAsync("/v1/tail?since=1", who: As.Acme with { TokenExp = _time.GetUtcNow().AddSeconds(20).ToUnixTimeSeconds() });
        await follower.LineAsync();
        Assert.Equal("", await AdvanceUntilAsync(follower.RestAsync(), TimeSpan.FromSeconds(1)));
    }

    [Fact]
    public async Task Are_let_go_in_order_when_the_ledger_stops()
    {
        await AppendAsync(1, 1);
        using var follower = await FollowAsync("/v1/tail?since=0");
        await follower.LinesAsync(2);
        var stopping = Ledger.StopAsync();
        Assert.Equal("", await follower.RestAsync());
        await stopping.WaitAsync(Patience, TestContext.Current.CancellationToken);
    }

    [Fact]
    public async Task Are_so_many_of_one_log_and_so_many_in_all()
    {
        await StartAsync(("Ledger:TailsPerLogMax", "2"), ("Ledger:TailsMax", "3"));
        var first = await FollowAsync("/v1/tail");
        using var second = await FollowAsync("/v1/tail");
        await AssertFullAsync("acme", As.Acme);
        using var third = await FollowAsync("/v1/tail", who: As.Rival, module: "rival");
        await AssertFullAsync("rival", As.Rival);

        // Who leaves makes room.
        first.Dispose();
        while (true)
        {
            using var answer = await Ledger.OpenAsync(As.Rival, "/v1/tail", "rival");
            if (answer.StatusCode == HttpStatusCode.OK)
                break;
            TestContext.Current.CancellationToken.ThrowIfCancellationRequested();
        }

        async Task AssertFullAsync(string module, As who)
        {
            using var refused = await Ledger.OpenAsync(who, "/v1/tail", module);
            Assert.True(refused.Headers.RetryAfter!.Delta >= TimeSpan.FromSeconds(60));
            await LedgerHost.AssertRefusedAsync(refused, ErrorCode.RateLimited);
        }
    }

    [Fact]
    public async Task Are_recorded_once_a_stream_before_the_first_byte()
    {
        await AppendAsync(1, 300);
        using var follower = await FollowAsync("/v1/tail?since=0&kind=odd");
        await follower.LinesAsync(151);
        var audit = await Ledger.GetJsonAsync(As.Admin, "/v1/entries", "acme.audit");
        var read = Assert.Single(audit.GetProperty("entries").EnumerateArray()).GetProperty("payload");
        Assert.Equal(("ENTRIES_READ", "/v1/tail?since=0&kind=odd"), (read.GetProperty("event_type").GetString(), read.GetProperty("read").GetString()));
    }

    [Fact]
    public async Task Who_cannot_be_recorded_hear_nothing()
    {
        Assert.SkipUnless(_store.IsFiles, "It is a disk that fails.");
        await StartAsync(configure: builder => builder.Services.AddSingleton<Disk>(new NoAuditDisk()));
        await AppendAsync(1, 1);
        using var refused = await Ledger.OpenAsync(As.Acme, "/v1/tail?since=0", "acme");
        await LedgerHost.AssertRefusedAsync(refused, ErrorCode.RecordUnavailable);
    }

    [Fact]
    public async Task Are_the_tenant_the_administrator_and_the_parts_alone()
    {
        await AppendAsync(1, 1);
        foreach (var who in new[] { As.Acme, As.Admin, As.Fleet, As.Gateway })
        {
            using var answer = await Ledger.OpenAsync(who, "/v1/tail", "acme");
            Assert.Equal(HttpStatusCode.OK, answer.StatusCode);
        }
        foreach (var (who, module, error) in new[]
        {
            (As.Rival, "acme", ErrorCode.NotFound), (As.Anonymous, "acme", ErrorCode.NotFound), (As.Acme, "acme.audit", ErrorCode.NotFound), (As.Acme, "foundry.platform", ErrorCode.NotFound),
            (As.Nobody, "acme", ErrorCode.GatewayRequired), (As.Stranger, "acme", ErrorCode.GatewayRequired), (As.Acme, null, ErrorCode.ModuleRequired),
        })
        {
            using var answer = await Ledger.OpenAsync(who, "/v1/tail", module);
            await LedgerHost.AssertRefusedAsync(answer, error);
        }
    }

    [Theory]
    [InlineData("since=-1", null), InlineData("since=x", null), InlineData("limit=10", null), InlineData("a=1&a=2", null), InlineData("", "x"), InlineData("since=1", "-1")]
    public async Task Ask_for_what_there_is(string query, string? lastEventId)
    {
        using var answer = await Ledger.OpenAsync(As.Acme, "/v1/tail?" + query, "acme", request =>
        {
            if (lastEventId is not null)
                request.Headers.Add("Last-Event-ID", lastEventId);
        });
        await LedgerHost.AssertRefusedAsync(answer, lastEventId is null ? ErrorCode.InvalidQuery : ErrorCode.InvalidHeader);
    }

    /// <summary>The follower's own loop, on a connection that takes nothing: it stops at a page, with 100 MB to go.</summary>
    [Fact]
    public async Task Who_read_slowly_hold_a_page_and_no_more()
    {
        using var folder = new LedgerFolder();
        await folder.AppendManyAsync("acme", 2_000, payloadBytes: 50_000);
        var pipe = new Pipe(new PipeOptions(pauseWriterThreshold: 1, resumeWriterThreshold: 1, useSynchronizationContext: false));
        using var ending = new CancellationTokenSource();
        var tail = new Tail(pipe.Writer, folder.Shelf, LedgerFolder.Module("acme"), new EntryQuery(0, 1, []), asEvents: false, folder.Options, folder.Time);
        var following = tail.RunAsync(0, ending.Token);
        var held = 0L;
        for (var i = 0; i < 3; i++)
        {
            var read = await pipe.Reader.ReadAsync(TestContext.Current.CancellationToken);
            held = Math.Max(held, read.Buffer.Length);
            pipe.Reader.AdvanceTo(read.Buffer.End);
        }
        Assert.InRange(held, 50_000, 200_000);
        await ending.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => following);
    }

    private async Task StartAsync(params (string Key, string Value)[] settings) => await StartAsync(null, settings);

    private async Task StartAsync(Action<WebApplicationBuilder>? configure, params (string Key, string Value)[] settings)
    {
        if (_host is not null)
            await _host.DisposeAsync();
        _host = await LedgerHost.StartAsync(_store.Folder, builder =>
        {
            builder.Services.AddSingleton<TimeProvider>(_time);
            configure?.Invoke(builder);
        }, [.. _store.Settings, .. settings]);
    }

    private async Task AppendAsync(int first, int count)
    {
        // One after the other, so that cursors are as the names say.
        for (var i = first; i < first + count; i++)
            await Ledger.CursorAsync(As.Acme, "acme", $"id-{i}", $$"""{"event_type":"T{{i % 3}}","kind":"{{(i % 2 == 1 ? "odd" : "even")}}"}""");
    }

    private async Task<Stream> FollowAsync(string path, Action<HttpRequestMessage>? configure = null, As? who = null, string module = "acme")
    {
        var answer = await Ledger.OpenAsync(who ?? As.Acme, path, module, configure);
        Assert.Equal(HttpStatusCode.OK, answer.StatusCode);
        Assert.Equal("no-store, private", answer.Headers.CacheControl?.ToString());
        var stream = new Stream(answer, new StreamReader(await answer.Content.ReadAsStreamAsync(TestContext.Current.CancellationToken), Encoding.UTF8));
        _open.Add(stream);
        return stream;
    }

    private static async Task<string> LineWithEntryAsync(Stream follower)
    {
        while (true)
        {
            var line = await follower.LineAsync();
            if (line.Contains("payload", StringComparison.Ordinal))
                return line;
        }
    }

    /// <summary>Lets time pass until something happens; real time bounds it.</summary>
    private async Task<T> AdvanceUntilAsync<T>(Task<T> happens, TimeSpan step)
    {
        while (!happens.IsCompleted)
        {
            _time.Advance(step);
            await Task.Yield();
            TestContext.Current.CancellationToken.ThrowIfCancellationRequested();
        }
        return await happens;
    }

    private sealed class Stream(HttpResponseMessage answer, StreamReader reader) : IDisposable
    {
        public string? MediaType => answer.Content.Headers.ContentType?.MediaType;

        public async Task<string> LineAsync() =>
            await reader.ReadLineAsync(TestContext.Current.CancellationToken).AsTask().WaitAsync(Patience, TestContext.Current.CancellationToken) ?? throw new EndOfStreamException();

        public async Task<List<string>> LinesAsync(int count)
        {
            var lines = new List<string>();
            while (lines.Count < count)
                lines.Add(await LineAsync());
            return lines;
        }

        public Task<string> RestAsync() => reader.ReadToEndAsync(TestContext.Current.CancellationToken).WaitAsync(Patience, TestContext.Current.CancellationToken);

        public void Dispose() => answer.Dispose();
    }

    private sealed class NoAuditDisk : Disk
    {
        private readonly HashSet<Microsoft.Win32.SafeHandles.SafeFileHandle> _audit = [];

        public override Microsoft.Win32.SafeHandles.SafeFileHandle Open(string path)
        {
            var file = base.Open(path);
            if (path.Contains(".audit", StringComparison.Ordinal))
                _audit.Add(file);
            return file;
        }

        public override void Flush(Microsoft.Win32.SafeHandles.SafeFileHandle file)
        {
            if (_audit.Contains(file))
                throw new IOException("The disk is gone.");
            base.Flush(file);
        }
    }
}

public sealed class FollowersOnFiles() : Followers(Stores.Files);

public sealed class FollowersOnPostgreSQL() : Followers(Stores.Postgres);
