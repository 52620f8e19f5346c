using System.Text;
using Foundry.Ledger.Append;
using Foundry.Ledger.Storage;
using Foundry.Proofs;

namespace Foundry.Ledger.Tests.Recovery;

/// <summary>
/// The fault table: every call that changes the file system, in appending, publishing, starting a journal and making a log,
/// goes wrong in every way; then the ledger starts again as it always does.
/// </summary>
public sealed class EveryWrite : StoryOfFaults
{
    public static TheoryData<Fault> Faults => [.. Enum.GetValues<Fault>()];

    [Theory, MemberData(nameof(Faults))]
    public async Task That_goes_wrong_loses_nothing_acknowledged_and_shows_nothing_false(Fault fault)
    {
        for (int at = 0, calls = int.MaxValue; at < calls; at++)
        {
            using var ledger = NewLedger();
            var disk = new FaultyDisk(fault, at);
            ledger.Disk = disk;
            var story = new Story(ledger);
            await story.TellAsync();
            calls = disk.Calls;
            Assert.True(story.HasFailed || disk.Calls <= at || fault == Fault.DiskFull, $"Call {at} of {disk.Calls} failed and nobody minded.");
            ledger.Disk = new FaultyDisk(Fault.Failed, int.MaxValue);
            await story.AssertTrueAsync(ledger, $"{fault} at call {at}");
        }
    }
}

/// <summary>What was flushed, and when: after a power cut at any call, nothing else need be there.</summary>
public sealed class EveryFlush : StoryOfFaults
{
    public static TheoryData<Kept> PowerCuts => [.. Enum.GetValues<Kept>()];

    [Theory, MemberData(nameof(PowerCuts))]
    public async Task Before_a_power_cut_was_flushed_if_it_was_acknowledged_or_shown(Kept kept)
    {
        for (int at = 0, calls = int.MaxValue; at < calls; at++)
        {
            using var ledger = NewLedger();
            var disk = new PowerCutDisk(ledger.Path, at);
            ledger.Disk = disk;
            var story = new Story(ledger);
            await story.TellAsync();
            calls = disk.Calls;
            await AssertAfterPowerCutAsync(story, disk, kept, $"power cut at call {at}");
        }
    }

    [Theory, MemberData(nameof(PowerCuts))]
    public async Task Of_a_process_that_was_killed_is_durable_before_the_next_one_shows_it(Kept kept)
    {
        for (int at = 0, calls = int.MaxValue; at < calls; at++)
        {
            using var ledger = NewLedger();
            var disk = new PowerCutDisk(ledger.Path, at);
            ledger.Disk = disk;
            var story = new Story(ledger);
            await story.TellAsync();
            calls = disk.Calls;
            disk.Revive();
            await story.AppendAsync("acme", "after the kill");
            await story.LookAsync();
            // Not closed: closing would publish, which is one way more to be durable.
            await AssertAfterPowerCutAsync(story, disk, kept, $"killed at call {at}, and a power cut after the next start");
        }
    }

    private static async Task AssertAfterPowerCutAsync(Story story, PowerCutDisk disk, Kept kept, string circumstance)
    {
        var folder = LedgerFolder.NewMemoryFolder();
        try
        {
            disk.CopyTo(folder, kept);
            using var after = new LedgerFolder(Stores.Files, folder) { Disk = new FaultyDisk(Fault.Failed, int.MaxValue), Options = { JournalBytesMax = 1, IndexRowsInMemory = 1 } };
            await story.AssertTrueAsync(after, circumstance);
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }
}

/// <summary>A ledger's short life, which each test lets go wrong at another call.</summary>
public abstract class StoryOfFaults : IAsyncLifetime
{
    private readonly LedgerFolder _before = new() { Options = { JournalBytesMax = 1, IndexRowsInMemory = 1 } };

    // 250 entries, so that the next few fill a bundle and begin another.
    public async ValueTask InitializeAsync()
    {
        await _before.AppendManyAsync("acme", 250);
        _before.Close();
    }

    public ValueTask DisposeAsync()
    {
        GC.SuppressFinalize(this);
        _before.Dispose();
        return ValueTask.CompletedTask;
    }

    private protected LedgerFolder NewLedger() => new(Stores.Files, _before.Path) { Options = { JournalBytesMax = 1, IndexRowsInMemory = 1 } };

    /// <summary>What a client saw of a ledger: which entries were acknowledged, and which checkpoints it was shown.</summary>
    private protected sealed class Story(LedgerFolder ledger)
    {
        private readonly Dictionary<(string Log, string Id), long> _acknowledged = Enumerable.Range(0, 250).ToDictionary(i => ("acme", $"id-{i}"), _ => 0L);
        private readonly HashSet<(string Log, long Size, TreeHash Root)> _shown = [];

        public bool HasFailed { get; private set; }

        public async Task TellAsync()
        {
            await AppendAsync("acme", "one");
            await PublishAsync();
            for (var i = 0; i < 7; i++)
                await AppendAsync("acme", $"more-{i}");
            await PublishAsync();
            await AppendAsync("beta", "of a new log");
            await AppendAsync("acme", "last");
            await LookAsync();
            var shelf = ledger.Shelf;
            ledger.Close();
            HasFailed |= shelf.FailedCount > 0;
            await Task.WhenAll(((string[])["acme", "beta"]).Select(async log =>
            {
                if (File.Exists(ledger.Log(log).Checkpoint))
                    await ShowAsync(log, await File.ReadAllBytesAsync(ledger.Log(log).Checkpoint));
            }));
        }

        public async Task AppendAsync(string log, string id)
        {
            try
            {
                var outcome = await ledger.AppendAsync(log, id, Payload(id));
                if (outcome.Status == AppendStatus.Appended)
                    _acknowledged.Add((log, id), outcome.Cursor);
                else
                    HasFailed = true;
            }
            catch (LogUnavailableException)
            {
                HasFailed = true;
            }
        }

        public async Task LookAsync()
        {
            foreach (var log in (string[])["acme", "beta"])
            {
                try
                {
                    using var open = await ledger.Shelf.TryOpenAsync(LedgerFolder.Module(log));
                    if (open is not null)
                        await ShowAsync(log, open.State.Note);
                }
                catch (LogUnavailableException)
                {
                    HasFailed = true;
                }
            }
            HasFailed |= ledger.Shelf.FailedCount > 0;
        }

        public async Task AssertTrueAsync(LedgerFolder after, string circumstance)
        {
            foreach (var module in after.Logs.Modules())
            {
                var tail = after.Logs.VerifyTail(module, after.Verifier(module.Name), CancellationToken.None);
                after.Logs.Verify(module, after.Verifier(module.Name), tail, long.MaxValue, CancellationToken.None);
                var entries = await after.EntriesAsync(module.Name);
                Assert.True(entries.Count == tail.Size, circumstance);
                Assert.True(entries.Select(entry => entry.PayloadId).Distinct().Count() == entries.Count, $"{circumstance}: an entry is there twice");
                foreach (var entry in entries.Where(entry => !entry.PayloadId.StartsWith("id-", StringComparison.Ordinal)))
                    Assert.True(Encoding.UTF8.GetString(entry.Payload.Span) == Payload(entry.PayloadId), $"{circumstance}: {entry.PayloadId} is not whole");
                foreach (var ((_, id), cursor) in _acknowledged.Where(one => one.Key.Log == module.Name))
                    Assert.True(cursor == 0 ? entries.Any(entry => entry.PayloadId == id) : entries.Count >= cursor && entries[(int)cursor - 1].PayloadId == id, $"{circumstance}: {id} was acknowledged and is lost");
                var tree = new TreeFrontier();
                var roots = new List<TreeHash> { tree.Root };
                foreach (var entry in entries)
                {
                    tree.Append(TreeHash.OfLeaf(entry.Encode()));
                    roots.Add(tree.Root);
                }
                foreach (var (_, size, root) in _shown.Where(shown => shown.Log == module.Name))
                    Assert.True(size < roots.Count && roots[(int)size] == root, $"{circumstance}: the checkpoint of {size} entries that was shown is not of this log");
                // And it goes on, with the index too.
                Assert.True((await after.AppendAsync(module.Name, "goes on", "{}")).Cursor == entries.Count + 1, circumstance);
                Assert.True(entries.Count == 0 || (await after.AppendAsync(module.Name, entries[^1].PayloadId, "0")).Status == AppendStatus.Conflict, circumstance);
            }
            Assert.All(_acknowledged.Keys.Concat(_shown.Select(shown => (shown.Log, ""))), one => Assert.True(after.Log(one.Item1).Exists, $"{circumstance}: {one.Item1} is lost"));
            after.Close();
            foreach (var module in after.Logs.Modules())
                await after.VerifyAsStrangerAsync(module.Name);
        }

        private async Task PublishAsync()
        {
            await LookAsync();
            if (ledger.Shelf.FailedCount == 0)
                await ledger.PublishAsync("acme");
            await LookAsync();
        }

        private Task ShowAsync(string log, byte[] note)
        {
            Assert.True(Checkpoint.TryOpen(note, ledger.Verifier(log), out var checkpoint));
            // That a log exists is shown by its first entry.
            if (checkpoint.Size > 0)
                _shown.Add((log, checkpoint.Size, checkpoint.Root));
            return Task.CompletedTask;
        }

        private static string Payload(string id) => $$"""{"event_type":"STORY","of":"{{id}}"}""";
    }
}
