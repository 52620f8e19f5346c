using Foundry.Ledger.Append;
using Foundry.Ledger.Storage;
using Foundry.Proofs;
using Microsoft.Extensions.Logging.Abstractions;

namespace Foundry.Ledger.Tests.Append;

public sealed class AnAppend
{
    [Theory, MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task Gets_cursors_from_one_on(string store)
    {
        using var ledger = new LedgerFolder(store);
        Assert.Equal(new AppendOutcome(AppendStatus.Appended, 1), await ledger.AppendAsync("acme", "a", """{"x":1}"""));
        Assert.Equal(new AppendOutcome(AppendStatus.Appended, 2), await ledger.AppendAsync("acme", "b", """{"x":1}"""));
        Assert.Equal(new AppendOutcome(AppendStatus.Appended, 1), await ledger.AppendAsync("other", "a", """{"x":1}"""));
    }

    [Theory, MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task Keeps_writer_time_and_the_payloads_very_bytes(string store)
    {
        using var ledger = new LedgerFolder(store);
        const string payload = "{ \"b\" : 1.00,\n \"a\":\"\\u00e9é\" }";
        await ledger.AppendAsync("acme", "a", payload, "issuance");
        var entry = Assert.Single(await ledger.EntriesAsync("acme"));
        Assert.Equal(("issuance", "a", ledger.Time.GetUtcNow()), (entry.Writer, entry.PayloadId, entry.Time));
        Assert.Equal(payload, System.Text.Encoding.UTF8.GetString(entry.Payload.Span));
    }

    [Theory, MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task Of_the_same_bytes_again_gets_the_same_cursor_and_of_others_a_conflict(string store)
    {
        using var ledger = new LedgerFolder(store);
        await ledger.AppendAsync("acme", "before", "{}");
        await ledger.AppendAsync("acme", "a", """{"x":1}""");
        Assert.Equal(new AppendOutcome(AppendStatus.Appended, 2), await ledger.AppendAsync("acme", "a", """{"x":1}"""));
        Assert.Equal(AppendStatus.Conflict, (await ledger.AppendAsync("acme", "a", """{"x":2}""")).Status);
        Assert.Equal(AppendStatus.Conflict, (await ledger.AppendAsync("acme", "a", """{"x": 1}""")).Status);
        ledger.Close();
        Assert.Equal(new AppendOutcome(AppendStatus.Appended, 2), await ledger.AppendAsync("acme", "a", """{"x":1}"""));
        Assert.Equal(AppendStatus.Conflict, (await ledger.AppendAsync("acme", "a", """{"x":2}""")).Status);
        Assert.Equal(2, (await ledger.EntriesAsync("acme")).Count);
    }

    [Theory, MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task Of_another_writer_has_payload_ids_of_its_own(string store)
    {
        using var ledger = new LedgerFolder(store);
        Assert.Equal(1, (await ledger.AppendAsync("acme", "a", "{}", "tenant:acme")).Cursor);
        Assert.Equal(2, (await ledger.AppendAsync("acme", "a", "{}", "fleet")).Cursor);
        Assert.Equal(3, (await ledger.AppendAsync("acme", "a", """{"x":2}""", "gateway")).Cursor);
        Assert.Equal(2, (await ledger.AppendAsync("acme", "a", "{}", "fleet")).Cursor);
    }

    /// <summary>A user's request and the end of the whole tenant may both have destroyed it.</summary>
    [Theory, MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task Of_a_vms_end_is_there_once_whichever_part_tells_it_first(string store)
    {
        using var ledger = new LedgerFolder(store);
        Assert.Equal(1, (await ledger.AppendAsync("acme", "VM_DESTROYED:vm-1", """{"by":"a user"}""", "gateway")).Cursor);
        Assert.Equal(AppendStatus.Conflict, (await ledger.AppendAsync("acme", "VM_DESTROYED:vm-1", """{"by":"issuance"}""", "issuance")).Status);
        Assert.Equal(2, (await ledger.AppendAsync("acme", "VM_DESTROYED:vm-2", """{"by":"issuance"}""", "issuance")).Cursor);
        ledger.Close();
        Assert.Equal(AppendStatus.Conflict, (await ledger.AppendAsync("acme", "VM_DESTROYED:vm-2", """{"by":"a user"}""", "gateway")).Status);
        // Both at once, in one batch.
        var outcomes = await Task.WhenAll(ledger.AppendAsync("acme", "VM_DESTROYED:vm-3", """{"by":"a user"}""", "gateway"), ledger.AppendAsync("acme", "VM_DESTROYED:vm-3", """{"by":"issuance"}""", "issuance"));
        Assert.Equal((1, 1), (outcomes.Count(outcome => outcome.Status == AppendStatus.Appended), outcomes.Count(outcome => outcome.Status == AppendStatus.Conflict)));
        // Nobody else's word counts, and no other fact is shared.
        Assert.Equal(4, (await ledger.AppendAsync("acme", "VM_DESTROYED:vm-1", "{}", "tenant:acme")).Cursor);
        Assert.Equal(5, (await ledger.AppendAsync("acme", "VM_DESTROYED:vm-1", "{}", "fleet")).Cursor);
        Assert.Equal(6, (await ledger.AppendAsync("acme", "TOKEN_REVOKED:1", "{}", "issuance")).Cursor);
        Assert.Equal(7, (await ledger.AppendAsync("acme", "TOKEN_REVOKED:1", "{}", "gateway")).Cursor);
        Assert.Equal(1, (await ledger.AppendAsync("acme", "VM_DESTROYED:vm-1", """{"by":"a user"}""", "gateway")).Cursor);
    }

    [Theory, MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task May_fill_a_leaf_to_its_last_byte_and_no_further(string store)
    {
        using var ledger = new LedgerFolder(store);
        var room = EntryBundle.EntryBytesMax - Entry.LeafBytesOf("tenant:acme", "a", 0);
        Assert.Equal(AppendStatus.TooLarge, (await ledger.AppendAsync("acme", "a", Text(room + 1))).Status);
        Assert.Equal(AppendStatus.Appended, (await ledger.AppendAsync("acme", "a", Text(room))).Status);
        ledger.Close();
        Assert.Equal(room, Assert.Single(await ledger.EntriesAsync("acme")).Payload.Length);

        static string Text(int bytes) => $"\"{new string('x', bytes - 2)}\"";
    }

    [Theory, MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task Is_covered_by_the_checkpoint_that_is_served_once_it_is_answered(string store)
    {
        using var ledger = new LedgerFolder(store);
        for (var i = 1; i <= 3; i++)
        {
            await ledger.AppendAsync("acme", $"id-{i}", "{}");
            Assert.Equal(i, (await ledger.CheckpointAsync("acme")).Size);
        }
        if (store == Stores.Files)
            Assert.Equal(0, ledger.PublishedCheckpoint("acme").Size);
    }

    [Fact]
    public async Task Shows_in_the_files_once_the_interval_has_passed()
    {
        using var ledger = new LedgerFolder();
        await ledger.AppendManyAsync("acme", 300);
        await ledger.PublishAsync("acme");
        Assert.Equal(300, ledger.PublishedCheckpoint("acme").Size);
        await ledger.AppendAsync("acme", "later", "{}");
        ledger.Close();
        Assert.Equal(301, ledger.PublishedCheckpoint("acme").Size);
        await ledger.VerifyAsStrangerAsync("acme");
    }
}

public sealed class ManyWritersAtOnce
{
    [Theory, MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task Get_distinct_cursors_without_a_gap_in_a_tree_that_verifies(string store)
    {
        using var ledger = new LedgerFolder(store);
        const int writers = 64, each = 40;
        var cursors = await Task.WhenAll(Enumerable.Range(0, writers).Select(writer => Task.Run(async () =>
        {
            var mine = new List<long>();
            for (var i = 0; i < each; i++)
                mine.Add((await ledger.AppendAsync("acme", $"id-{i}", $$"""{"w":"{{writer}}","i":{{i}}}""", $"writer-{writer}")).Cursor);
            return mine;
        })));
        Assert.All(cursors, mine => Assert.Equal(mine.Order(), mine));
        Assert.Equal(Enumerable.Range(1, writers * each).Select(i => (long)i), cursors.SelectMany(mine => mine).Order());

        ledger.Close();
        await ledger.VerifyAsStrangerAsync("acme");
        var entries = await ledger.EntriesAsync("acme");
        for (var writer = 0; writer < writers; writer++)
            for (var i = 0; i < each; i++)
                Assert.Equal(($"writer-{writer}", $"id-{i}"), (entries[(int)cursors[writer][i] - 1].Writer, entries[(int)cursors[writer][i] - 1].PayloadId));
    }

    [Theory, MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task With_the_same_payload_id_append_it_once(string store)
    {
        using var ledger = new LedgerFolder(store);
        var outcomes = await Task.WhenAll(Enumerable.Range(0, 200).Select(i => Task.Run(() => ledger.AppendAsync("acme", "same", $$"""{"x":{{i % 2}}}"""))));
        Assert.Equal(100, outcomes.Count(outcome => outcome == new AppendOutcome(AppendStatus.Appended, 1)));
        Assert.Equal(100, outcomes.Count(outcome => outcome.Status == AppendStatus.Conflict));
        Assert.Single(await ledger.EntriesAsync("acme"));
    }
}

public sealed class ALogWhoseThreadsHaveEnded : IDisposable
{
    private readonly LedgerFolder _ledger = new();

    public void Dispose() => _ledger.Dispose();

    [Fact]
    public async Task Refuses_entries_and_is_published_when_it_is_closed()
    {
        var cancellation = TestContext.Current.CancellationToken;
        var module = LedgerFolder.Module("acme");
        var threads = new DiskThreads(1);
        var stored = _ledger.Logs.Open(module, _ledger.Verifier("acme"), () => _ledger.Sign("acme", new TreeFrontier()))!;
        using (var log = new Sequencer(_ledger.Options, _ledger.Time, NullLogger.Instance, threads, stored, _ledger.Options.OriginOf(module), _ledger.NewKeys(), _ => { }, () => { }))
        {
            Assert.Equal(AppendStatus.Appended, (await log.AppendAsync("gateway", "a", "{}"u8.ToArray(), cancellation)).Status);
            threads.Dispose();
            // Publishing falls due, as it may between the threads' end and the log's.
            _ledger.Time.Advance(_ledger.Options.PublishInterval);
            Assert.Equal(AppendStatus.Failed, (await log.AppendAsync("gateway", "b", "{}"u8.ToArray(), cancellation)).Status);
            Assert.Equal(0, _ledger.PublishedCheckpoint("acme").Size);
        }
        Assert.Equal(1, _ledger.PublishedCheckpoint("acme").Size);
    }
}

/// <summary>On a store that others commit to as well a commit may fail and the next one not.</summary>
public sealed class AppendsInOrder : IDisposable
{
    private readonly LedgerFolder _ledger = new() { Options = { BatchEntriesMax = 2 } };

    public void Dispose() => _ledger.Dispose();

    [Fact]
    public async Task Are_none_behind_one_whose_commit_failed()
    {
        var cancellation = TestContext.Current.CancellationToken;
        var module = LedgerFolder.Module("acme");
        using var threads = new DiskThreads(1);
        using var stored = new FailsOnce(_ledger.Logs.Open(module, _ledger.Verifier("acme"), () => _ledger.Sign("acme", new TreeFrontier()))!);
        using var log = new Sequencer(_ledger.Options, _ledger.Time, NullLogger.Instance, threads, stored, _ledger.Options.OriginOf(module), _ledger.NewKeys(), _ => { }, () => { });
        var bodies = Enumerable.Range(0, 8).Select(n => new AppendBody($"id-{n}", "{}"u8.ToArray(), false)).ToList();
        // Batches of two: the second fails, and the third and fourth could be committed.
        stored.FailsAt = 2;
        Assert.Equal([AppendStatus.Appended, AppendStatus.Appended, AppendStatus.Failed], (await log.AppendInOrderAsync("issuance", bodies, cancellation)).Select(outcome => outcome.Status));
        Assert.Equal(Enumerable.Range(1, 8), (await log.AppendInOrderAsync("issuance", bodies, cancellation)).Select(outcome => (int)outcome.Cursor));
        Assert.Equal(8, log.State.Size);
    }

    private sealed class FailsOnce(IStoredLog stored) : IStoredLog
    {
        private int _commits;

        public int FailsAt { get; set; }
        public string Where => stored.Where;
        public LogHead Opened => stored.Opened;
        public bool IsShared => true;
        public bool IsPublished => stored.IsPublished;

        // The head that the sequencer forgets after a failure; here nobody else has another.
        private LogHead? Last { get; set; }

        public LogHead Commit(LogHead? known, Func<LogHead, LogCommit?> prepare)
        {
            if (++_commits == FailsAt)
                throw new AwayException();
            return Last = stored.Commit(known ?? Last, prepare);
        }

        public LogState? Newer(LogState known) => null;
        public IReadOnlyDictionary<long, List<long>> Find(IReadOnlyCollection<long> terms) => stored.Find(terms);
        public ITermLists OpenTerms() => stored.OpenTerms();
        public void Publish() => stored.Publish();
        public IEnumerable<ReadOnlyMemory<byte>> Leaves(long start, long end) => stored.Leaves(start, end);
        public byte[] FullTile(Tile tile) => stored.FullTile(tile);
        public void Dispose() => stored.Dispose();

        private sealed class AwayException : System.Data.Common.DbException;
    }
}
