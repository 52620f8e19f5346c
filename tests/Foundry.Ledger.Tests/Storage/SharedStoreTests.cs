using System.Text;
using Foundry.Ledger.Append;
using Foundry.Ledger.Keys;
using Foundry.Ledger.Recovery;
using Foundry.Ledger.Storage;
using Foundry.Proofs;
using Foundry.ServiceDefaults;
using Microsoft.Extensions.DependencyInjection;
using Npgsql;
using As = Foundry.Ledger.Tests.LedgerHost.As;

namespace Foundry.Ledger.Tests.Storage;

/// <summary>What several ledgers over one database do to one log. Without a database there is nothing to share.</summary>
public sealed class TwoLedgersOverOneLog
{
    [Fact]
    public async Task That_append_at_once_make_one_tree_of_which_every_checkpoint_shown_is_a_part()
    {
        using var ledger = Shared();
        using var secondStore = ledger.NewStore();
        using var second = ledger.NewShelf(secondStore);
        const int writers = 8, each = 40;
        var shown = new System.Collections.Concurrent.ConcurrentBag<byte[]>();
        var cursors = await Task.WhenAll(((LogShelf[])[ledger.Shelf, second]).SelectMany((shelf, which) => Enumerable.Range(0, writers).Select(async writer =>
        {
            var mine = new List<long>();
            for (var i = 0; i < each; i++)
            {
                // Half of the payload IDs are told by both, as two gateways tell of one fact.
                var id = i % 2 == 0 ? $"both-{writer}-{i}" : $"{which}-{writer}-{i}";
                using var log = await shelf.OpenOrCreateAsync(LedgerFolder.Module("acme"));
                var outcome = await log.AppendAsync("gateway", id, Encoding.UTF8.GetBytes($"\"{id}\""), TestContext.Current.CancellationToken);
                Assert.Equal(AppendStatus.Appended, outcome.Status);
                mine.Add(outcome.Cursor);
                // What was acknowledged by one is covered by what the other serves.
                using var other = await (which == 0 ? second : ledger.Shelf).TryOpenAsync(LedgerFolder.Module("acme"));
                Assert.True(other!.State.Size >= outcome.Cursor);
                Assert.Equal(id, LogReader.Entry(other.State, outcome.Cursor - 1).PayloadId);
                shown.Add(other.State.Note);
            }
            return mine;
        })));
        var size = 2 * writers * each - writers * each / 2;
        Assert.Equal(Enumerable.Range(1, size).Select(i => (long)i), cursors.SelectMany(mine => mine).Distinct().Order());
        await ledger.VerifyAsStrangerAsync("acme");

        var entries = await ledger.EntriesAsync("acme");
        Assert.Equal(size, entries.Count);
        var tree = new TreeFrontier();
        var roots = new List<TreeHash> { tree.Root };
        foreach (var entry in entries)
        {
            tree.Append(TreeHash.OfLeaf(entry.Encode()));
            roots.Add(tree.Root);
        }
        foreach (var note in shown)
        {
            Assert.True(Checkpoint.TryOpen(note, ledger.Verifier("acme"), out var checkpoint));
            Assert.Equal(roots[(int)checkpoint.Size], checkpoint.Root);
        }
        var tail = ledger.Logs.VerifyTail(LedgerFolder.Module("acme"), ledger.Verifier("acme"), TestContext.Current.CancellationToken);
        ledger.Logs.Verify(LedgerFolder.Module("acme"), ledger.Verifier("acme"), tail, long.MaxValue, TestContext.Current.CancellationToken);
    }

    [Fact]
    public async Task Of_which_one_slept_inside_its_commit_go_on_and_the_sleeper_commits_nothing()
    {
        using var ledger = Shared();
        Assert.Equal(1, (await ledger.AppendAsync("acme", "before", "{}")).Cursor);
        using var sleepersStore = ledger.NewStore();
        using var sleepers = sleepersStore.Open(LedgerFolder.Module("acme"), ledger.Verifier("acme"), null)!;
        // The row is locked while it prepares. It sleeps until the other one has committed, which the server lets happen by ending the sleeper's session.
        var fault = await Record.ExceptionAsync(() => Task.Factory.StartNew(() => sleepers.Commit(sleepers.Opened, head =>
        {
            Assert.True(((IAsyncResult)AppendPatientlyAsync(ledger)).AsyncWaitHandle.WaitOne(TimeSpan.FromSeconds(60)));
            return CommitOf(ledger, head, "too late");
        }), TestContext.Current.CancellationToken, TaskCreationOptions.LongRunning, TaskScheduler.Default));
        // The driver sometimes trips over the session that was ended under it, rather than saying so.
        Assert.True(fault is NpgsqlException or NullReferenceException, fault?.ToString());
        Assert.Equal(["before", "meanwhile"], (await ledger.EntriesAsync("acme")).Select(entry => entry.PayloadId));
        await ledger.VerifyAsStrangerAsync("acme");
        // Awake, it asks what there is, and goes on from there.
        var head = sleepers.Commit(null, head => CommitOf(ledger, head, "after"));
        Assert.Equal(3, head.State.Size);
        Assert.Equal(4, (await ledger.AppendAsync("acme", "last", "{}")).Cursor);
        await ledger.VerifyAsStrangerAsync("acme");
    }

    [Fact]
    public async Task Of_which_one_knows_an_old_tree_never_commit_to_that()
    {
        using var ledger = Shared();
        Assert.Equal(1, (await ledger.AppendAsync("acme", "before", "{}")).Cursor);
        using var other = ledger.NewStore();
        using var late = other.Open(LedgerFolder.Module("acme"), ledger.Verifier("acme"), null)!;
        await ledger.AppendManyAsync("acme", 300);
        // It woke up with a head of one entry, and is given the head of 301 to prepare for.
        var head = late.Commit(late.Opened, head =>
        {
            Assert.Equal(301, head.State.Size);
            return CommitOf(ledger, head, "late");
        });
        Assert.Equal(302, head.State.Size);
        await ledger.VerifyAsStrangerAsync("acme");
        Assert.Equal("late", (await ledger.EntriesAsync("acme"))[^1].PayloadId);
    }

    [Fact]
    public async Task Answer_when_the_database_is_back_and_have_what_was_acknowledged()
    {
        using var ledger = Shared();
        Assert.Equal(1, (await ledger.AppendAsync("acme", "before", "{}")).Cursor);
        await ledger.ExecuteAsync("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND application_name = current_setting('application_name')");
        var outcome = await ledger.AppendAsync("acme", "doubtful", "{}");
        Assert.Contains(outcome.Status, (AppendStatus[])[AppendStatus.Failed, AppendStatus.Appended]);
        Assert.Equal(2, (await AppendPatientlyAsync(ledger, "doubtful")).Cursor);
        await ledger.VerifyAsStrangerAsync("acme");
    }

    public static TheoryData<string, string, string> Damages => new()
    {
        { "DELETE FROM entries WHERE place = 299", "entry 300 is gone", "tail" },
        { "DELETE FROM entries WHERE place = 9", "entry 10 is gone", "whole" },
        { "UPDATE entries SET leaf = decode(replace(encode(leaf, 'hex'), '6e2d', '6e2e'), 'hex') || '\\x20' WHERE place = 9", "covers entry 10", "whole" },
        { "UPDATE entries SET leaf = leaf || '\\x20' WHERE place = 299", "not the", "tail" },
        { "UPDATE tiles SET hashes = overlay(hashes PLACING '\\x00000000'::bytea FROM 65) WHERE place = 0", "its hash 2", "whole" },
        { "UPDATE tiles SET root = overlay(root PLACING '\\x00000000'::bytea FROM 1) WHERE place = 0", "not the", "tail" },
        { "DELETE FROM tiles", "gone", "tail" },
        { "UPDATE logs SET size = size - 1", "not one of", "tail" },
        { "UPDATE logs SET note = note || '\\x20'", "not one of", "tail" },
    };

    [Theory, MemberData(nameof(Damages))]
    public async Task Are_refused_a_start_over_damaged_rows(string damage, string words, string where)
    {
        using var ledger = Shared();
        await ledger.AppendManyAsync("acme", 300);
        ledger.Close();
        await ledger.ExecuteAsync(damage);
        var (module, verifier) = (LedgerFolder.Module("acme"), ledger.Verifier("acme"));
        var refusal = Assert.Throws<StateCorruptException>(() =>
        {
            var tail = ledger.Logs.VerifyTail(module, verifier, TestContext.Current.CancellationToken);
            Assert.Equal("whole", where);
            ledger.Logs.Verify(module, verifier, tail, long.MaxValue, TestContext.Current.CancellationToken);
        });
        Assert.Contains(words, refusal.Message, StringComparison.Ordinal);
    }

    [Theory, MemberData(nameof(Damages))]
    public async Task Notice_under_way_that_rows_were_changed(string damage, string words, string where)
    {
        Assert.NotEmpty(words + where);
        using var ledger = Shared();
        await using var running = await LedgerHost.StartAsync(Path.Combine(ledger.Path, "one"), null, ("Ledger:Database", ledger.Database));
        var watch = running.Services.GetRequiredService<LogWatch>();
        await running.CursorAsync(As.Rival, "rival", "a", "{}");
        for (var i = 1; i <= 300; i++)
            await running.CursorAsync(As.Acme, "acme", $"id-{i}", $$"""{"n":"id-{{i}}"}""");
        // Growing is not changing.
        watch.Look(TestContext.Current.CancellationToken);
        Assert.Equal(0, running.Services.GetRequiredService<LogShelf>().FailedCount);

        await ledger.ExecuteAsync($"{damage}{(damage.Contains("WHERE", StringComparison.Ordinal) ? " AND" : " WHERE")} {(damage.Contains(" logs ", StringComparison.Ordinal) ? "id" : "log")} = (SELECT id FROM logs WHERE module = 'acme')");

        // PostgreSQL's own counts come a moment later.
        await UntilAsync(() =>
        {
            watch.Look(TestContext.Current.CancellationToken);
            return running.Services.GetRequiredService<LogShelf>().FailedCount > 0;
        });
        using var append = await running.AppendAsync(As.Acme, "acme", "next", "{}");
        await LedgerHost.AssertRefusedAsync(append, Contracts.ErrorCode.RecordUnavailable);
        Assert.Equal(2, await running.CursorAsync(As.Rival, "rival", "b", "{}"));
    }

    [Theory]
    [InlineData("TRUNCATE entries"), InlineData("DELETE FROM entries; DELETE FROM tiles; DELETE FROM terms; DELETE FROM logs WHERE module = 'acme'")]
    public async Task Notice_under_way_that_tables_were_emptied(string damage)
    {
        using var ledger = Shared();
        await ledger.AppendManyAsync("acme", 3);
        Assert.Empty(ledger.FindLosses());
        await ledger.ExecuteAsync(damage);
        (ModuleId Module, StateCorruptException Fault)[] losses = [];
        await UntilAsync(() => (losses = [.. ledger.FindLosses()]).Length > 0);
        Assert.Contains("gone", Assert.Single(losses).Fault.Message, StringComparison.Ordinal);
    }

    /// <summary>However many read, and however long the database takes: who asks is not held.</summary>
    [Fact]
    public async Task Are_read_by_threads_of_their_own_while_appends_go_on()
    {
        using var ledger = Shared();
        Assert.Equal(1, (await ledger.AppendAsync("acme", "one", "{}")).Cursor);
        using var log = await ledger.Shelf.TryOpenAsync(LedgerFolder.Module("acme"));
        using var go = new ManualResetEventSlim();
        var asking = Task.Factory.StartNew(() => Enumerable.Range(0, 3 * ledger.Options.DiskThreads).Select(_ => log!.ReadAsync(state =>
        {
            go.Wait(LedgerFolder.Patience);
            return LogReader.Entry(state, 0).PayloadId;
        })).ToList(), TestContext.Current.CancellationToken, TaskCreationOptions.LongRunning, TaskScheduler.Default);
        var reads = await asking.WaitAsync(LedgerFolder.Patience / 2, TestContext.Current.CancellationToken);
        Assert.All(reads, read => Assert.False(read.IsCompleted));
        Assert.Equal(2, (await ledger.AppendAsync("acme", "two", "{}")).Cursor);
        go.Set();
        Assert.All(await Task.WhenAll(reads), id => Assert.Equal("one", id));
    }

    [Fact]
    public async Task Over_HTTP_serve_one_log_and_survive_each_others_restart()
    {
        using var ledger = Shared();
        var folders = (string[])[Path.Combine(ledger.Path, "one"), Path.Combine(ledger.Path, "two")];
        await using var one = await LedgerHost.StartAsync(folders[0], null, ("Ledger:Database", ledger.Database));
        Assert.Equal(1, await one.CursorAsync(As.Acme, "acme", "first", """{"event_type":"T"}"""));

        // A second one without the key is not let near the logs, and makes no key of its own.
        await Assert.ThrowsAsync<StateCorruptException>(() => LedgerHost.StartAsync(folders[1], null, ("Ledger:Database", ledger.Database)));
        Assert.False(File.Exists(Path.Combine(folders[1], LedgerKeys.KeyFile)));
        foreach (var file in (string[])[LedgerKeys.KeyFile, LedgerKeys.PublicFile])
            File.Copy(Path.Combine(folders[0], file), Path.Combine(folders[1], file));
        var two = await LedgerHost.StartAsync(folders[1], null, ("Ledger:Database", ledger.Database));
        var cursors = await Task.WhenAll(Enumerable.Range(0, 300).Select(i => (i % 2 == 0 ? one : two).CursorAsync(As.Acme, "acme", $"id-{i}", $$"""{"event_type":"T{{i % 3}}"}""")));
        Assert.Equal(Enumerable.Range(2, 300).Select(i => (long)i), cursors.Order());
        await two.DisposeAsync();
        await using var again = await LedgerHost.StartAsync(folders[1], null, ("Ledger:Database", ledger.Database));

        var pages = new List<string>();
        foreach (var host in (LedgerHost[])[one, again])
        {
            var page = await host.GetJsonAsync(As.Acme, "/v1/entries?limit=1000&event_type=T1", "acme");
            Assert.Equal(100, page.GetProperty("entries").GetArrayLength());
            pages.Add(page.GetRawText());
            using var checkpoint = await host.GetAsync(As.Acme, "/v1/checkpoint", "acme");
            pages.Add(await checkpoint.Content.ReadAsStringAsync(TestContext.Current.CancellationToken));
            using var bundle = await host.GetAsync(As.Acme, "/ledger/acme/tile/entries/000", "acme");
            pages.Add(Convert.ToBase64String(await bundle.Content.ReadAsByteArrayAsync(TestContext.Current.CancellationToken)));
            using var tile = await host.GetAsync(As.Acme, "/ledger/acme/tile/0/001.p/45", "acme");
            pages.Add(Convert.ToBase64String(await tile.Content.ReadAsByteArrayAsync(TestContext.Current.CancellationToken)));
        }
        Assert.Equal(pages[..4], pages[4..]);
        using var conflict = await again.AppendAsync(As.Acme, "acme", "first", "{}");
        await LedgerHost.AssertRefusedAsync(conflict, Contracts.ErrorCode.PayloadConflict);
        Assert.Empty(Directory.EnumerateDirectories(folders[0]));
    }

    private static async Task UntilAsync(Func<bool> isSo)
    {
        using var patience = new CancellationTokenSource(LedgerFolder.Patience);
        using var poll = new PeriodicTimer(TimeSpan.FromMilliseconds(50));
        while (!isSo())
            await poll.WaitForNextTickAsync(patience.Token);
    }

    private static LedgerFolder Shared()
    {
        Assert.SkipWhen(Stores.ConnectionString is null, "FOUNDRY_TEST_POSTGRES is not set.");
        return new LedgerFolder(Stores.Postgres);
    }

    private static LogCommit CommitOf(LedgerFolder ledger, LogHead head, string id)
    {
        var entry = new Entry("gateway", id, ledger.Time.GetUtcNow(), "{}"u8.ToArray());
        head.Tree.Append(TreeHash.OfLeaf(entry.Encode()));
        return new LogCommit([entry], [EntryTerms.Of(entry.Writer, entry.PayloadId, entry.Payload.Span)], [entry.Encode()], ledger.Sign("acme", head.Tree), new Dictionary<Tile, TreeHash[]>());
    }

    private static async Task<AppendOutcome> AppendPatientlyAsync(LedgerFolder ledger, string id = "meanwhile")
    {
        using var patience = new CancellationTokenSource(LedgerFolder.Patience);
        while (true)
        {
            var outcome = await ledger.AppendAsync("acme", id, "{}");
            if (outcome.Status == AppendStatus.Appended)
                return outcome;
            patience.Token.ThrowIfCancellationRequested();
        }
    }
}
