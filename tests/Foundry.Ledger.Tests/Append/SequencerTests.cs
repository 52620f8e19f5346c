using Foundry.Ledger.Append;
using Foundry.Proofs;

namespace Foundry.Ledger.Tests.Append;

public sealed class AnAppend : IDisposable
{
    private readonly LedgerFolder _ledger = new();

    public void Dispose() => _ledger.Dispose();

    [Fact]
    public async Task Gets_cursors_from_one_on()
    {
        Assert.Equal(new AppendOutcome(AppendStatus.Appended, 1), await _ledger.AppendAsync("acme", "a", """{"x":1}"""));
        Assert.Equal(new AppendOutcome(AppendStatus.Appended, 2), await _ledger.AppendAsync("acme", "b", """{"x":1}"""));
        Assert.Equal(new AppendOutcome(AppendStatus.Appended, 1), await _ledger.AppendAsync("other", "a", """{"x":1}"""));
    }

    [Fact]
    public async Task Keeps_writer_time_and_the_payloads_very_bytes()
    {
        const string payload = "{ \"b\" : 1.00,\n \"a\":\"\\u00e9é\" }";
        await _ledger.AppendAsync("acme", "a", payload, "issuance");
        var entry = Assert.Single(_ledger.Entries("acme"));
        Assert.Equal(("issuance", "a", _ledger.Time.GetUtcNow()), (entry.Writer, entry.PayloadId, entry.Time));
        Assert.Equal(payload, System.Text.Encoding.UTF8.GetString(entry.Payload.Span));
    }

    [Fact]
    public async Task Of_the_same_bytes_again_gets_the_same_cursor_and_of_others_a_conflict()
    {
        await _ledger.AppendAsync("acme", "before", "{}");
        await _ledger.AppendAsync("acme", "a", """{"x":1}""");
        Assert.Equal(new AppendOutcome(AppendStatus.Appended, 2), await _ledger.AppendAsync("acme", "a", """{"x":1}"""));
        Assert.Equal(AppendStatus.Conflict, (await _ledger.AppendAsync("acme", "a", """{"x":2}""")).Status);
        Assert.Equal(AppendStatus.Conflict, (await _ledger.AppendAsync("acme", "a", """{"x": 1}""")).Status);
        _ledger.Close();
        Assert.Equal(new AppendOutcome(AppendStatus.Appended, 2), await _ledger.AppendAsync("acme", "a", """{"x":1}"""));
        Assert.Equal(AppendStatus.Conflict, (await _ledger.AppendAsync("acme", "a", """{"x":2}""")).Status);
        Assert.Equal(2, _ledger.Entries("acme").Count);
    }

    [Fact]
    public async Task Of_another_writer_has_payload_ids_of_its_own()
    {
        Assert.Equal(1, (await _ledger.AppendAsync("acme", "a", "{}", "tenant:acme")).Cursor);
        Assert.Equal(2, (await _ledger.AppendAsync("acme", "a", "{}", "fleet")).Cursor);
        Assert.Equal(3, (await _ledger.AppendAsync("acme", "a", """{"x":2}""", "gateway")).Cursor);
        Assert.Equal(2, (await _ledger.AppendAsync("acme", "a", "{}", "fleet")).Cursor);
    }

    [Fact]
    public async Task May_fill_a_leaf_to_its_last_byte_and_no_further()
    {
        var room = EntryBundle.EntryBytesMax - Entry.LeafBytesOf("tenant:acme", "a", 0);
        Assert.Equal(AppendStatus.TooLarge, (await _ledger.AppendAsync("acme", "a", Text(room + 1))).Status);
        Assert.Equal(AppendStatus.Appended, (await _ledger.AppendAsync("acme", "a", Text(room))).Status);
        _ledger.Close();
        Assert.Equal(room, Assert.Single(_ledger.Entries("acme")).Payload.Length);

        static string Text(int bytes) => $"\"{new string('x', bytes - 2)}\"";
    }

    [Fact]
    public async Task Is_covered_by_the_checkpoint_that_is_served_once_it_is_answered()
    {
        for (var i = 1; i <= 3; i++)
        {
            await _ledger.AppendAsync("acme", $"id-{i}", "{}");
            Assert.Equal(i, _ledger.Checkpoint("acme").Size);
        }
        Assert.Equal(0, _ledger.PublishedCheckpoint("acme").Size);
    }

    [Fact]
    public async Task Shows_in_the_files_once_the_interval_has_passed()
    {
        await _ledger.AppendManyAsync("acme", 300);
        await _ledger.PublishAsync("acme");
        Assert.InRange(_ledger.PublishedCheckpoint("acme").Size, 300, 301);
        _ledger.Close();
        Assert.Equal(302, _ledger.PublishedCheckpoint("acme").Size);
        _ledger.VerifyAsStranger("acme");
    }
}

public sealed class ManyWritersAtOnce : IDisposable
{
    private readonly LedgerFolder _ledger = new();

    public void Dispose() => _ledger.Dispose();

    [Fact]
    public async Task Get_distinct_cursors_without_a_gap_in_a_tree_that_verifies()
    {
        const int writers = 64, each = 40;
        var cursors = await Task.WhenAll(Enumerable.Range(0, writers).Select(writer => Task.Run(async () =>
        {
            var mine = new List<long>();
            for (var i = 0; i < each; i++)
                mine.Add((await _ledger.AppendAsync("acme", $"id-{i}", $$"""{"w":"{{writer}}","i":{{i}}}""", $"writer-{writer}")).Cursor);
            return mine;
        })));
        Assert.All(cursors, mine => Assert.Equal(mine.Order(), mine));
        Assert.Equal(Enumerable.Range(1, writers * each).Select(i => (long)i), cursors.SelectMany(mine => mine).Order());

        _ledger.Close();
        _ledger.VerifyAsStranger("acme");
        var entries = _ledger.Entries("acme");
        for (var writer = 0; writer < writers; writer++)
            for (var i = 0; i < each; i++)
                Assert.Equal(($"writer-{writer}", $"id-{i}"), (entries[(int)cursors[writer][i] - 1].Writer, entries[(int)cursors[writer][i] - 1].PayloadId));
    }

    [Fact]
    public async Task With_the_same_payload_id_append_it_once()
    {
        var outcomes = await Task.WhenAll(Enumerable.Range(0, 200).Select(i => Task.Run(() => _ledger.AppendAsync("acme", "same", $$"""{"x":{{i % 2}}}"""))));
        Assert.Equal(100, outcomes.Count(outcome => outcome == new AppendOutcome(AppendStatus.Appended, 1)));
        Assert.Equal(100, outcomes.Count(outcome => outcome.Status == AppendStatus.Conflict));
        Assert.Single(_ledger.Entries("acme"));
    }
}
