using Foundry.Contracts;
using As = Foundry.Ledger.Tests.LedgerHost.As;

namespace Foundry.Ledger.Tests.Append;

public abstract class AppendEndpoint(string store) : IAsyncLifetime
{
    private readonly HostStore _store = new(store);
    private LedgerHost _ledger = null!;

    public async ValueTask InitializeAsync() => _ledger = await LedgerHost.StartAsync(_store.Folder, null, _store.Settings);

    public async ValueTask DisposeAsync()
    {
        await _ledger.DisposeAsync();
        _store.Dispose();
    }

    [Fact]
    public async Task Answers_cursor_and_payload_id_and_the_same_again()
    {
        for (var i = 0; i < 2; i++)
        {
            using var answer = await _ledger.AppendAsync(As.Acme, "acme", "a", """{"event_type":"DEPLOYED","x":1}""");
            Assert.Equal(200, (int)answer.StatusCode);
            Assert.Equal("""{"cursor":1,"payload_id":"a"}""", await answer.Content.ReadAsStringAsync(TestContext.Current.CancellationToken));
        }
        using var other = await _ledger.AppendAsync(As.Acme, "acme", "a", """{"event_type":"DEPLOYED","x":2}""");
        await LedgerHost.AssertRefusedAsync(other, ErrorCode.PayloadConflict);
    }

    [Fact]
    public async Task Stamps_the_writer_by_who_sent_it()
    {
        await _ledger.CursorAsync(As.Acme, "acme", "a", "{}");
        await _ledger.CursorAsync(As.Gateway, "acme", "a", "{}");
        await _ledger.CursorAsync(As.Fleet, "acme", "a", "{}");
        await _ledger.CursorAsync(As.Admin, "acme", "a", "{}");
        var page = await _ledger.GetJsonAsync(As.Acme, "/v1/entries", "acme");
        Assert.Equal(["tenant:acme", "gateway", "fleet", "platform-admin"], page.GetProperty("entries").EnumerateArray().Select(entry => entry.GetProperty("writer").GetString()));
    }

    public static TheoryData<string, bool> EventTypes => new()
    {
        { "TENANT_X", true }, { "TOKEN_ISSUED", true }, { "KEY_ROTATED", true }, { "NODE_LOST", true }, { "VM_CREATED", true }, { "PAIRING_CREATED", true },
        { "ROLE_CHANGED", true }, { "ASSIGNMENT_CHANGED", true }, { "QUOTA_CHANGED", true }, { "QUOTA_EXCEEDED", true }, { "ACCESS_DENIED", true },
        { "ISOLATION_LEAK_BLOCKED", true }, { "CROSS_TENANT_READ", true }, { "CONFIG_RELOADED", true }, { "ENTRIES_READ", true },
        { "vm_created", true }, { " VM_CREATED", true }, { "\\u0056M_CREATED", true },
        { "VMS_COUNTED", false }, { "DEPLOYED", false }, { "QUOTA_ASKED", false }, { "", false },
    };

    [Theory, MemberData(nameof(EventTypes))]
    public async Task Takes_the_platforms_types_from_the_platform_alone(string type, bool isReserved)
    {
        var payload = $$"""{"event_type":"{{type}}"}""";
        using var answer = await _ledger.AppendAsync(As.Acme, "acme", "a", payload);
        if (isReserved)
            await LedgerHost.AssertRefusedAsync(answer, ErrorCode.EventTypeReserved);
        else
            Assert.Equal(200, (int)answer.StatusCode);
        await _ledger.CursorAsync(As.Fleet, "acme", "b", payload);
    }

    [Fact]
    public async Task Knows_every_type_that_the_contracts_list()
    {
        foreach (var type in typeof(EventTypes).GetFields().Select(field => (string)field.GetValue(null)!))
        {
            using var answer = await _ledger.AppendAsync(As.Acme, "acme", type, $$"""{"Event_Type":"{{type}}"}""");
            await LedgerHost.AssertRefusedAsync(answer, ErrorCode.EventTypeReserved);
        }
    }

    public static TheoryData<string, string> Malformed => new()
    {
        { "invalid_body", "" }, { "invalid_body", "[]" }, { "invalid_body", "null" }, { "invalid_body", "{}" },
        { "invalid_body", """{"payload_id":"a"}""" },
        { "invalid_body", """{"payload":{}}""" },
        { "invalid_body", """{"payload_id":"a","payload":null}""" },
        { "invalid_body", """{"payload_id":1,"payload":{}}""" },
        { "invalid_body", """{"payload_id":"a","payload":{},"more":1}""" },
        { "invalid_body", """{"payload_id":"a","payload":{},"payload":{}}""" },
        { "invalid_body", """{"payload_id":"a","payload":{"event_type":"X","event_type":"VM_CREATED"}}""" },
        { "invalid_body", """{"payload_id":"a","payload":{"x":{"y":1,"y":2}}}""" },
        { "invalid_body", """{"payload_id":"a","Payload":{}}""" },
        { "invalid_body", """{"payload_id":"a","payload":{}} {}""" },
        { "invalid_body", """{"payload_id":"\ud800","payload":{}}""" },
        { "invalid_body", """{"payload_id":"a","payload":{"\ud800":1}}""" },
        { "invalid_value", """{"payload_id":"","payload":{}}""" },
        { "invalid_value", """{"payload_id":"a\nb","payload":{}}""" },
    };

    [Theory, MemberData(nameof(Malformed))]
    public async Task Refuses_what_is_not_exactly_its_body(string code, string body)
    {
        using var answer = await _ledger.SendAsync(As.Acme, HttpMethod.Post, "/v1/append", "acme", body);
        await LedgerHost.AssertRefusedAsync(answer, ErrorCode.All[code]);
        Assert.False(Directory.Exists(Path.Combine(_store.Folder, "acme")));
    }

    [Fact]
    public async Task Refuses_what_is_over_the_largest_entry()
    {
        using var long1 = await _ledger.AppendAsync(As.Acme, "acme", "a", $"\"{new string('x', 65_535)}\"");
        await LedgerHost.AssertRefusedAsync(long1, ErrorCode.EntryTooLarge);
        using var long2 = await _ledger.AppendAsync(As.Acme, "acme", "a", $"\"{new string('x', 1_000_000)}\"");
        await LedgerHost.AssertRefusedAsync(long2, ErrorCode.EntryTooLarge);
        using var id = await _ledger.AppendAsync(As.Acme, "acme", new string('x', 257), "{}");
        await LedgerHost.AssertRefusedAsync(id, ErrorCode.InvalidValue);
        using var text = await _ledger.SendAsync(As.Acme, HttpMethod.Post, "/v1/append", "acme", "{}", "text/plain");
        await LedgerHost.AssertRefusedAsync(text, ErrorCode.UnsupportedMediaType);
    }

    [Fact]
    public async Task Is_answered_503_for_good_once_an_fsync_has_failed()
    {
        Assert.SkipUnless(_store.IsFiles, "It is a disk that fails.");
        await _ledger.DisposeAsync();
        var disk = new FailingDisk();
        _ledger = await LedgerHost.StartAsync(_store.Folder, builder => Microsoft.Extensions.DependencyInjection.ServiceCollectionServiceExtensions.AddSingleton<Foundry.Ledger.Storage.Disk>(builder.Services, disk));
        await _ledger.CursorAsync(As.Acme, "acme", "a", "{}");
        disk.IsFailing = true;
        using var failed = await _ledger.AppendAsync(As.Acme, "acme", "b", "{}");
        await LedgerHost.AssertRefusedAsync(failed, ErrorCode.RecordUnavailable);
        disk.IsFailing = false;
        var flushes = disk.Flushes;
        using var again = await _ledger.AppendAsync(As.Acme, "acme", "b", "{}");
        await LedgerHost.AssertRefusedAsync(again, ErrorCode.RecordUnavailable);
        Assert.Equal(flushes, disk.Flushes);
        await _ledger.CursorAsync(As.Rival, "rival", "a", "{}");
        var page = await _ledger.GetJsonAsync(As.Acme, "/v1/entries", "acme");
        Assert.Equal(1, page.GetProperty("entries").GetArrayLength());
    }

    private sealed class FailingDisk : Foundry.Ledger.Storage.Disk
    {
        public bool IsFailing { get; set; }

        public int Flushes { get; private set; }

        public override void Flush(Microsoft.Win32.SafeHandles.SafeFileHandle file)
        {
            Flushes++;
            if (IsFailing)
                throw new IOException("The disk said no.");
            base.Flush(file);
        }
    }
}

public sealed class AppendEndpointOnFiles() : AppendEndpoint(Stores.Files);

public sealed class AppendEndpointOnPostgreSQL() : AppendEndpoint(Stores.Postgres);

public sealed class LinesOfAnOutbox : IAsyncLifetime
{
    private readonly string _folder = Directory.CreateTempSubdirectory("foundry-ledger-").FullName;
    private LedgerHost _ledger = null!;

    public async ValueTask InitializeAsync() => _ledger = await LedgerHost.StartAsync(_folder);

    public async ValueTask DisposeAsync()
    {
        await _ledger.DisposeAsync();
        Directory.Delete(_folder, recursive: true);
    }

    [Fact]
    public async Task Are_all_taken_in_their_order_and_again_once()
    {
        var lines = string.Join('\n', Enumerable.Range(0, 300).Select(n => Line($"id-{n}"))) + "\n";
        Assert.Equal((300, null), await SendAsync(lines));
        Assert.Equal((300, null), await SendAsync(lines));
        Assert.Equal(Enumerable.Range(0, 300).Select(n => $"id-{n}"), await IdsAsync());
    }

    [Fact]
    public async Task Count_what_another_told_first_as_taken()
    {
        await _ledger.CursorAsync(As.Gateway, "acme", "b", """{"who":"first"}""");
        Assert.Equal((3, null), await SendAsync($"{Line("a")}\n{Line("b")}\n{Line("c")}"));
        Assert.Equal(["b", "a", "c"], await IdsAsync());
    }

    [Theory]
    [InlineData("{}", "invalid_body")]
    [InlineData("", "invalid_body")]
    [InlineData("""{"payload_id":"","payload":{}}""", "invalid_value")]
    [InlineData("too large", "entry_too_large")]
    public async Task Are_taken_up_to_the_first_that_is_none(string bad, string code)
    {
        bad = bad == "too large" ? Line("x", new string('a', 65_536)) : bad;
        Assert.Equal((1, code), await SendAsync($"{Line("a")}\n{bad}\n{Line("c")}\n"));
        Assert.Equal(["a"], await IdsAsync());
    }

    [Fact]
    public async Task Are_bounded()
    {
        Assert.Equal((1024, "invalid_body"), await SendAsync(string.Join('\n', Enumerable.Range(0, 1025).Select(n => Line($"id-{n}")))));
        Assert.Equal(1024, (await IdsAsync()).Count);
    }

    [Fact]
    public async Task Are_for_parts_alone()
    {
        foreach (var who in (As[])[As.Acme, As.Admin])
        {
            using var answer = await _ledger.SendAsync(who, HttpMethod.Post, "/internal/v1/append", "acme", Line("a"), "application/x-ndjson");
            await LedgerHost.AssertRefusedAsync(answer, ErrorCode.InsufficientScope);
        }
    }

    private static string Line(string id, string note = "") => $$$"""{"payload_id":"{{{id}}}","payload":{"event_type":"TOKEN_ISSUED","note":"{{{note}}}"}}""";

    private async Task<(int Taken, string? Code)> SendAsync(string lines)
    {
        using var answer = await _ledger.SendAsync(As.Gateway, HttpMethod.Post, "/internal/v1/append", "acme", lines, "application/x-ndjson");
        Assert.Equal(200, (int)answer.StatusCode);
        var json = await LedgerHost.JsonAsync(answer);
        return (json.GetProperty("taken").GetInt32(), json.TryGetProperty("refused", out var refused) && refused.ValueKind == System.Text.Json.JsonValueKind.Object ? refused.GetProperty("code").GetString() : null);
    }

    private async Task<List<string?>> IdsAsync() =>
        [.. (await _ledger.GetJsonAsync(As.Gateway, "/v1/entries?limit=2000", "acme")).GetProperty("entries").EnumerateArray().Select(entry => entry.GetProperty("payload_id").GetString())];
}
