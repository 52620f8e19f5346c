using System.Net;
using Foundry.Contracts;
using Foundry.Proofs;
using As = Foundry.Ledger.Tests.LedgerHost.As;

namespace Foundry.Ledger.Tests.Read;

public abstract class ReadEndpoints(string store) : IAsyncLifetime
{
    private readonly HostStore _store = new(store);
    private LedgerHost _ledger = null!;

    public async ValueTask InitializeAsync() => _ledger = await LedgerHost.StartAsync(_store.Folder, null, _store.Settings);

    public async ValueTask DisposeAsync()
    {
        await _ledger.DisposeAsync();
        _store.Dispose();
    }

    public static TheoryData<string> Paths => ["/v1/entries", "/v1/checkpoint", "/v1/contract", "/ledger/acme/checkpoint", "/ledger/acme/tile/0/000.p/1", "/ledger/acme/tile/entries/000.p/1"];

    [Theory, MemberData(nameof(Paths))]
    public async Task Open_to_the_tenant_the_administrator_and_the_parts_alone(string path)
    {
        await _ledger.CursorAsync(As.Acme, "acme", "a", "{}");
        foreach (var who in new[] { As.Acme, As.Admin, As.Fleet, As.Gateway })
        {
            using var answer = await _ledger.GetAsync(who, path, "acme");
            Assert.Equal(HttpStatusCode.OK, answer.StatusCode);
        }
        foreach (var who in new[] { As.Rival, As.Anonymous })
        {
            using var answer = await _ledger.GetAsync(who, path, "acme");
            await LedgerHost.AssertRefusedAsync(answer, ErrorCode.NotFound);
        }
        foreach (var who in new[] { As.Nobody, As.Stranger })
        {
            using var answer = await _ledger.GetAsync(who, path, "acme");
            await LedgerHost.AssertRefusedAsync(answer, ErrorCode.GatewayRequired);
            Assert.Contains("9221", (await LedgerHost.JsonAsync(answer)).GetProperty("detail").GetString(), StringComparison.Ordinal);
        }
        using var unnamed = await _ledger.GetAsync(As.Acme, path, null);
        await LedgerHost.AssertRefusedAsync(unnamed, ErrorCode.ModuleRequired);
        foreach (var module in new[] { "foundry.platform", "acme.audit", "Acme", "../acme", "acme/" })
        {
            using var answer = await _ledger.GetAsync(As.Acme, path, module);
            await LedgerHost.AssertRefusedAsync(answer, ErrorCode.NotFound);
        }
        using var foreign = await _ledger.GetAsync(As.Rival, path, "rival");
        if (path.StartsWith("/ledger/", StringComparison.Ordinal))
            await LedgerHost.AssertRefusedAsync(foreign, ErrorCode.NotFound);
    }

    [Fact]
    public async Task Page_through_the_entries_without_gap_or_repeat()
    {
        for (var i = 1; i <= 25; i++)
            await _ledger.CursorAsync(As.Acme, "acme", $"id-{i}", $$"""{"n":{{i}}}""");
        var seen = new List<long>();
        long since = 0;
        while (true)
        {
            var page = await _ledger.GetJsonAsync(As.Acme, $"/v1/entries?since={since}&limit=10", "acme");
            Assert.Equal("acme", page.GetProperty("module_id").GetString());
            since = page.GetProperty("next_cursor").GetInt64();
            if (page.GetProperty("entries").GetArrayLength() == 0)
                break;
            seen.AddRange(page.GetProperty("entries").EnumerateArray().Select(entry => entry.GetProperty("cursor").GetInt64()));
        }
        Assert.Equal(Enumerable.Range(1, 25).Select(i => (long)i), seen);
        Assert.Equal(25, since);
        var beyond = await _ledger.GetJsonAsync(As.Acme, "/v1/entries?since=99", "acme");
        Assert.Equal((99, 0), (beyond.GetProperty("next_cursor").GetInt64(), beyond.GetProperty("entries").GetArrayLength()));
    }

    [Fact]
    public async Task Give_payloads_as_they_were_sent()
    {
        const string payload = "{ \"b\":1.00, \"é\" : \"\\u0041\" }";
        await _ledger.CursorAsync(As.Acme, "acme", "a", payload);
        using var answer = await _ledger.GetAsync(As.Acme, "/v1/entries", "acme");
        Assert.Contains(payload, await answer.Content.ReadAsStringAsync(TestContext.Current.CancellationToken), StringComparison.Ordinal);
        Assert.Equal("no-store, private", answer.Headers.CacheControl?.ToString());
    }

    [Fact]
    public async Task Find_by_the_string_members_at_the_top_of_the_payload()
    {
        for (var i = 0; i < 30; i++)
            await _ledger.CursorAsync(As.Acme, "acme", $"id-{i}", $$"""{"event_type":"T{{i % 3}}","vm_id":"vm-{{i % 2}}","inner":{"vm_id":"vm-9"},"n":{{i}} }""");
        // More strings than are indexed one by one.
        var many = string.Join(',', Enumerable.Range(0, 40).Select(i => $"\"f{i}\":\"v\""));
        await _ledger.CursorAsync(As.Acme, "acme", "many", "{" + many + "}");

        Assert.Equal([1, 4, 7, 10, 13, 16, 19, 22, 25, 28], await FindAsync("event_type=T0"));
        Assert.Equal([1, 7, 13, 19, 25], await FindAsync("event_type=T0&vm_id=vm-0"));
        Assert.Equal([13, 19], await FindAsync("event_type=T0&vm_id=vm-0&since=7&limit=2"));
        Assert.Equal([31], await FindAsync("f39=v"));
        Assert.Equal([31], await FindAsync("f0=v"));
        Assert.Empty(await FindAsync("f39=w"));
        Assert.Empty(await FindAsync("event_type=T9"));
        Assert.Empty(await FindAsync("vm_id=vm-9"));
        Assert.Empty(await FindAsync("n=1"));
        Assert.Equal(31, (await FindAsync("tenant_id=acme&module_id=acme")).Count);

        async Task<List<long>> FindAsync(string query)
        {
            var page = await _ledger.GetJsonAsync(As.Acme, "/v1/entries?" + query, "acme");
            return [.. page.GetProperty("entries").EnumerateArray().Select(entry => entry.GetProperty("cursor").GetInt64())];
        }
    }

    public static TheoryData<string> BadQueries => ["since=-1", "since=x", "since=1&since=2", "limit=0", "limit=10001", "limit=1e3", "a=1&a=2", "a=1&b=1&c=1&d=1&e=1&f=1&g=1&h=1&i=1"];

    [Theory, MemberData(nameof(BadQueries))]
    public async Task Refuse_a_query_that_is_out_of_range_or_says_a_thing_twice(string query)
    {
        using var answer = await _ledger.GetAsync(As.Acme, "/v1/entries?" + query, "acme");
        await LedgerHost.AssertRefusedAsync(answer, ErrorCode.InvalidQuery);
    }

    [Fact]
    public async Task Let_a_client_verify_every_entry_by_checkpoint_tiles_and_bundles()
    {
        await Task.WhenAll(Enumerable.Range(0, 300).Select(i => _ledger.CursorAsync(As.Acme, "acme", $"id-{i}", $$"""{"n":{{i}}}""")));
        var contract = await _ledger.GetJsonAsync(As.Acme, "/v1/contract", "acme");
        Assert.Equal((1, "acme", "foundry.local/acme"), (contract.GetProperty("version").GetInt32(), contract.GetProperty("module_id").GetString(), contract.GetProperty("origin").GetString()));
        Assert.True(NoteVerifier.TryParse(contract.GetProperty("vkey").GetString(), out var verifier));
        var note = await BytesAsync("/v1/checkpoint");
        Assert.Equal(note, await BytesAsync("/ledger/acme/checkpoint"));
        Assert.True(Checkpoint.TryOpen(note, verifier, out var checkpoint));
        Assert.Equal(300, checkpoint.Size);

        var reader = new TreeReader(checkpoint.Size, async (tile, _) => await BytesAsync($"/ledger/acme/{tile.Path}"));
        Assert.Equal(checkpoint.Root, await reader.RootAsync(TestContext.Current.CancellationToken));
        var leaves = new List<ReadOnlyMemory<byte>>();
        foreach (var (path, width) in new[] { ("tile/entries/000", 256), ("tile/entries/001.p/44", 44) })
        {
            Assert.True(EntryBundle.TryRead(await BytesAsync($"/ledger/acme/{path}"), width, out var bundle));
            leaves.AddRange(bundle);
        }
        foreach (var index in new[] { 0, 255, 256, 299 })
        {
            var path = await TreeProof.InclusionAsync(reader, index, TestContext.Current.CancellationToken);
            Assert.True(TreeProof.VerifyInclusion(TreeHash.OfLeaf(leaves[index].Span), index, checkpoint.Size, checkpoint.Root, path));
        }
        // A client that holds an older checkpoint asks for the tiles of that size.
        var older = new TreeReader(100, async (tile, _) => await BytesAsync($"/ledger/acme/{tile.Path}"));
        var proof = await TreeProof.ConsistencyAsync(reader, 100, TestContext.Current.CancellationToken);
        Assert.True(TreeProof.VerifyConsistency(100, await older.RootAsync(TestContext.Current.CancellationToken), 300, checkpoint.Root, proof));
        Assert.True(EntryBundle.TryRead(await BytesAsync("/ledger/acme/tile/entries/000.p/7"), 7, out _));
    }

    public static TheoryData<string, string> Caching => new()
    {
        { "checkpoint", "no-store, private" },
        { "tile/0/000", "max-age=31536000, private, immutable" },
        { "tile/0/001.p/4", "no-cache, private" },
        { "tile/1/000.p/1", "no-cache, private" },
        { "tile/entries/000", "no-store, private" },
    };

    [Theory, MemberData(nameof(Caching))]
    public async Task Say_what_a_cache_may_keep(string path, string rule)
    {
        await Task.WhenAll(Enumerable.Range(0, 260).Select(i => _ledger.CursorAsync(As.Acme, "acme", $"id-{i}", "{}")));
        using var answer = await _ledger.GetAsync(As.Acme, $"/ledger/acme/{path}", "acme");
        Assert.Equal(HttpStatusCode.OK, answer.StatusCode);
        Assert.Equal(rule, answer.Headers.CacheControl?.ToString());
    }

    [Fact]
    public async Task Have_no_tiles_that_the_log_does_not_have()
    {
        await _ledger.CursorAsync(As.Acme, "acme", "a", "{}");
        foreach (var path in new[] { "tile/0/000", "tile/0/000.p/2", "tile/0/001.p/1", "tile/1/000.p/1", "tile/entries/000", "tile/entries/000.p/2", "tile/0/000.p/01", "tile/0/0", "tile/9/000.p/1", "tile/63/000.p/1" })
        {
            using var answer = await _ledger.GetAsync(As.Acme, $"/ledger/acme/{path}", "acme");
            await LedgerHost.AssertRefusedAsync(answer, ErrorCode.NotFound);
        }
    }

    [Fact]
    public async Task Of_a_log_without_entries_are_empty_and_make_none()
    {
        var page = await _ledger.GetJsonAsync(As.Acme, "/v1/entries?since=3", "acme");
        Assert.Equal((3, 0), (page.GetProperty("next_cursor").GetInt64(), page.GetProperty("entries").GetArrayLength()));
        using var checkpoint = await _ledger.GetAsync(As.Acme, "/v1/checkpoint", "acme");
        await LedgerHost.AssertRefusedAsync(checkpoint, ErrorCode.NotFound);
        Assert.Empty(Directory.EnumerateDirectories(_store.Folder));
    }

    [Fact]
    public async Task Record_each_read_of_entries_beside_the_log_and_no_read_of_that_record()
    {
        await _ledger.CursorAsync(As.Acme, "acme", "a", "{}");
        using var entries = await _ledger.GetAsync(As.Acme, "/v1/entries?since=0&event_type=X", "acme");
        using var bundle = await _ledger.GetAsync(As.Fleet, "/ledger/acme/tile/entries/000.p/1", "acme");
        using var hashes = await _ledger.GetAsync(As.Acme, "/ledger/acme/tile/0/000.p/1", "acme");
        for (var i = 0; i < 2; i++)
        {
            var audit = await _ledger.GetJsonAsync(As.Admin, "/v1/entries", "acme.audit");
            var reads = audit.GetProperty("entries").EnumerateArray().ToList();
            Assert.Equal(2, reads.Count);
            Assert.All(reads, read => Assert.Equal("ledger", read.GetProperty("writer").GetString()));
            var first = reads[0].GetProperty("payload");
            Assert.Equal("ENTRIES_READ", first.GetProperty("event_type").GetString());
            Assert.Equal("/v1/entries?since=0&event_type=X", first.GetProperty("read").GetString());
            Assert.Equal(("token-1", "input"), (first.GetProperty("actor").GetProperty("token_id").GetString(), first.GetProperty("actor").GetProperty("scope").GetString()));
            Assert.Equal("service:fleet", reads[1].GetProperty("payload").GetProperty("actor").GetProperty("scope").GetString());
        }
        Assert.False(Directory.Exists(Path.Combine(_store.Folder, "acme.audit.audit")));
    }

    [Fact]
    public async Task Say_that_the_ledger_lives_and_is_ready()
    {
        using var health = await _ledger.GetAsync(As.Nobody, "/healthz", null);
        Assert.Equal(HttpStatusCode.OK, health.StatusCode);
        using var ready = await _ledger.GetAsync(As.Nobody, "/readyz", null);
        Assert.True((await LedgerHost.JsonAsync(ready)).GetProperty("needs").GetProperty("logs").GetProperty("met").GetBoolean());
    }

    private async Task<byte[]> BytesAsync(string path)
    {
        using var answer = await _ledger.GetAsync(As.Acme, path, "acme");
        Assert.Equal(HttpStatusCode.OK, answer.StatusCode);
        return await answer.Content.ReadAsByteArrayAsync(TestContext.Current.CancellationToken);
    }
}

public sealed class ReadEndpointsOnFiles() : ReadEndpoints(Stores.Files);

public sealed class ReadEndpointsOnPostgreSQL() : ReadEndpoints(Stores.Postgres);
