using Foundry.Ledger.Append;
using Foundry.Ledger.Recovery;
using Foundry.Ledger.Storage;
using Foundry.Proofs;
using Foundry.ServiceDefaults;

namespace Foundry.Ledger.Tests.Storage;

public sealed class AStoreThatIsSlow : IDisposable
{
    private readonly LedgerFolder _ledger = new() { Options = { JournalBytesMax = 1 } };

    public void Dispose() => _ledger.Dispose();

    [Fact]
    public async Task To_open_a_log_holds_no_caller_and_no_other_log()
    {
        using var store = new SlowStore(_ledger.NewStore());
        using var shelf = _ledger.NewShelf(store);
        // More callers than there are threads that wait for the store: one opening is enough for all of them.
        var opening = Enumerable.Range(0, _ledger.Options.DiskThreads * 2).Select(_ => shelf.OpenOrCreateAsync(LedgerFolder.Module("slow"))).ToList();
        using (var other = await shelf.OpenOrCreateAsync(LedgerFolder.Module("other")))
            Assert.Equal(AppendStatus.Appended, (await other.AppendAsync("gateway", "a", "{}"u8.ToArray(), TestContext.Current.CancellationToken)).Status);
        Assert.All(opening, one => Assert.False(one.IsCompleted));
        store.Go.Set();
        foreach (var one in await Task.WhenAll(opening))
            one.Dispose();
        Assert.Equal(1, store.SlowOpened);
    }

    [Fact]
    public async Task To_publish_holds_up_no_append_and_loses_none_that_came_meanwhile()
    {
        var disk = new SlowDisk();
        _ledger.Disk = disk;
        await _ledger.AppendManyAsync("acme", 300);
        disk.IsSlow = true;
        using (var log = await _ledger.Shelf.OpenOrCreateAsync(LedgerFolder.Module("acme")))
        {
            using var patience = new CancellationTokenSource(LedgerFolder.Patience);
            while (!disk.IsWaiting.IsSet)
            {
                patience.Token.ThrowIfCancellationRequested();
                _ledger.Time.Advance(_ledger.Options.PublishInterval);
                await Task.Yield();
            }
            await _ledger.AppendManyAsync("acme", 300, start: 300);
            Assert.Equal((600, 0), ((await _ledger.CheckpointAsync("acme")).Size, _ledger.PublishedCheckpoint("acme").Size));
            disk.IsSlow = false;
            disk.Go.Set();
        }
        await _ledger.PublishAsync("acme");
        Assert.Equal(600, _ledger.PublishedCheckpoint("acme").Size);
        using var killed = new LedgerFolder(Stores.Files, _ledger.Path);
        Assert.Equal(600, LogRecovery.Verify(new Disk(), killed.Log("acme"), killed.Verifier("acme"), TestContext.Current.CancellationToken));
        _ledger.Close();
        await _ledger.VerifyAsStrangerAsync("acme");
        Assert.Equal(Enumerable.Range(0, 600).Select(i => $"id-{i}").Order(), (await _ledger.EntriesAsync("acme")).Select(entry => entry.PayloadId).Order());
    }

    private sealed class SlowDisk : Disk
    {
        public ManualResetEventSlim Go { get; } = new();

        public ManualResetEventSlim IsWaiting { get; } = new();

        public volatile bool IsSlow;

        public override void Rename(string from, string to)
        {
            if (IsSlow && Path.GetFileName(to) == LogFolder.CheckpointName)
            {
                IsWaiting.Set();
                Go.Wait(TestContext.Current.CancellationToken);
            }
            base.Rename(from, to);
        }
    }

    private sealed class SlowStore(ILogStore store) : ILogStore
    {
        public ManualResetEventSlim Go { get; } = new();

        public int SlowOpened { get; private set; }

        public IReadOnlyList<ModuleId> Modules() => store.Modules();

        public IStoredLog? Open(ModuleId module, LogVerifier verifier, Func<byte[]>? create)
        {
            if (module.Name == "slow")
            {
                SlowOpened++;
                Go.Wait();
            }
            return store.Open(module, verifier, create);
        }

        public VerifiedTail VerifyTail(ModuleId module, LogVerifier verifier, CancellationToken cancellation) => store.VerifyTail(module, verifier, cancellation);

        public void Verify(ModuleId module, LogVerifier verifier, VerifiedTail tail, long entriesMax, CancellationToken cancellation) => store.Verify(module, verifier, tail, entriesMax, cancellation);

        public IEnumerable<(ModuleId Module, StateCorruptException Fault)> FindLosses(Func<ModuleId, LogVerifier> verifierOf, CancellationToken cancellation) => store.FindLosses(verifierOf, cancellation);

        public void Dispose()
        {
            store.Dispose();
            Go.Dispose();
        }
    }
}
