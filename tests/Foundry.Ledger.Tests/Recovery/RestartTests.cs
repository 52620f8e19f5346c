using Foundry.Ledger.Append;
using Foundry.Ledger.Recovery;
using Foundry.Ledger.Storage;
using Foundry.ServiceDefaults;

namespace Foundry.Ledger.Tests.Recovery;

public sealed class ARestart : IDisposable
{
    private readonly LedgerFolder _ledger = new();

    public void Dispose() => _ledger.Dispose();

    // Around a bundle's and a tile's end, with journals of every length in between.
    public static TheoryData<int> Sizes => [1, 2, 255, 256, 257, 511, 512, 700, 1500];

    [Theory, MemberData(nameof(Sizes))]
    public async Task Finds_every_entry_and_the_same_root(int size)
    {
        await _ledger.AppendManyAsync("acme", size);
        var (before, entries) = (await _ledger.CheckpointAsync("acme"), await _ledger.EntriesAsync("acme"));
        _ledger.Close();
        Assert.Equal(size, LogRecovery.Verify(new Disk(), _ledger.Log("acme"), _ledger.Verifier("acme"), TestContext.Current.CancellationToken));
        Assert.Equal(before, await _ledger.CheckpointAsync("acme"));
        Assert.Equal(entries.Select(entry => entry.PayloadId), (await _ledger.EntriesAsync("acme")).Select(entry => entry.PayloadId));
        await _ledger.AppendManyAsync("acme", 300, start: size);
        _ledger.Close();
        await _ledger.VerifyAsStrangerAsync("acme");
    }

    [Fact]
    public async Task After_new_journals_continues_the_same_tree()
    {
        _ledger.Options.JournalBytesMax = 4096;
        for (var round = 0; round < 12; round++)
        {
            await _ledger.AppendManyAsync("acme", 150, start: round * 150);
            await _ledger.PublishAsync("acme");
            if (round % 3 == 2)
                _ledger.Close();
        }
        var size = 12 * 150;
        Assert.Equal(size, (await _ledger.EntriesAsync("acme")).Count);
        var journal = await File.ReadAllBytesAsync(_ledger.Log("acme").Journal, TestContext.Current.CancellationToken);
        Assert.InRange(System.Buffers.Binary.BinaryPrimitives.ReadInt64BigEndian(journal.AsSpan(16)), 256, size);
        _ledger.Close();
        await _ledger.VerifyAsStrangerAsync("acme");
        Assert.Equal(size, LogRecovery.Verify(new Disk(), _ledger.Log("acme"), _ledger.Verifier("acme"), TestContext.Current.CancellationToken));
    }

    [Fact]
    public async Task With_a_commit_cut_off_at_any_byte_drops_that_commit_and_nothing_else()
    {
        await _ledger.AppendManyAsync("acme", 300);
        _ledger.Close();
        var whole = new FileInfo(_ledger.Log("acme").Journal).Length;
        await _ledger.AppendAsync("acme", "torn", "{}");
        // The folder as it is before the publishing that follows a commit: copied, since closing publishes.
        var journal = await File.ReadAllBytesAsync(_ledger.Log("acme").Journal, TestContext.Current.CancellationToken);
        var copy = Copy();
        try
        {
            for (var length = whole + 1; length < journal.Length; length += 7)
            {
                await File.WriteAllBytesAsync(Path.Combine(copy, "acme", "journal"), journal[..(int)length], TestContext.Current.CancellationToken);
                using var recovered = LogRecovery.Open(new Disk(), new LogFolder(copy, LedgerFolder.Module("acme")), _ledger.Verifier("acme"), TestContext.Current.CancellationToken);
                Assert.Equal((300, length - whole), (recovered.Tree.Size, recovered.Journal.TornBytes));
            }
        }
        finally
        {
            Directory.Delete(copy, recursive: true);
        }
    }

    [Fact]
    public async Task After_a_torn_commit_takes_appends_again_and_verifies()
    {
        await _ledger.AppendManyAsync("acme", 300);
        _ledger.Close();
        await using (var file = new FileStream(_ledger.Log("acme").Journal, FileMode.Append))
            await file.WriteAsync("FNDF and then nothing"u8.ToArray(), TestContext.Current.CancellationToken);
        await _ledger.AppendManyAsync("acme", 10, start: 300);
        Assert.Equal(310, (await _ledger.EntriesAsync("acme")).Count);
        _ledger.Close();
        await _ledger.VerifyAsStrangerAsync("acme");
        Assert.Equal(310, LogRecovery.Verify(new Disk(), _ledger.Log("acme"), _ledger.Verifier("acme"), TestContext.Current.CancellationToken));
    }

    private string Copy()
    {
        var target = Directory.CreateTempSubdirectory("foundry-ledger-copy-").FullName;
        // Without the index, which is written after a commit and so knows better than a journal that is cut.
        foreach (var file in Directory.EnumerateFiles(_ledger.Path, "*", SearchOption.AllDirectories).Where(file => !Path.GetFileName(file).StartsWith("index.", StringComparison.Ordinal)))
        {
            var to = Path.Combine(target, Path.GetRelativePath(_ledger.Path, file));
            Directory.CreateDirectory(Path.GetDirectoryName(to)!);
            File.Copy(file, to);
        }
        return target;
    }
}

public sealed class DamageOnDisk : IDisposable
{
    private const string Index = "index.0-800";

    private readonly LedgerFolder _ledger = new();

    public void Dispose() => _ledger.Dispose();

    public static TheoryData<string> Files =>
    [
        "checkpoint", "journal", "tile/0/000", "tile/0/003.p/32", "tile/1/000.p/3", "tile/entries/000", "tile/entries/002", "tile/entries/003.p/32",
    ];

    [Theory, MemberData(nameof(Files))]
    public async Task Of_one_bit_anywhere_in_a_file_is_refused_with_the_file_named(string name)
    {
        await FillAsync();
        var path = Path.Combine(_ledger.Log("acme").Path, name);
        var bytes = await File.ReadAllBytesAsync(path, TestContext.Current.CancellationToken);
        foreach (var at in Positions(bytes.Length))
        {
            bytes[at] ^= 0x10;
            await File.WriteAllBytesAsync(path, bytes, TestContext.Current.CancellationToken);
            var before = _ledger.HashOfFiles();
            var refusal = Assert.Throws<StateCorruptException>(Verify);
            Assert.Equal(path, refusal.File);
            Assert.Equal(before, _ledger.HashOfFiles());
            bytes[at] ^= 0x10;
        }
        await File.WriteAllBytesAsync(path, bytes, TestContext.Current.CancellationToken);
        Verify();
    }

    [Theory, MemberData(nameof(Files))]
    public async Task Such_as_a_file_cut_short_or_gone_is_refused_with_the_file_named(string name)
    {
        await FillAsync();
        var path = Path.Combine(_ledger.Log("acme").Path, name);
        var bytes = await File.ReadAllBytesAsync(path, TestContext.Current.CancellationToken);
        foreach (var length in Positions(bytes.Length))
        {
            await File.WriteAllBytesAsync(path, bytes[..length], TestContext.Current.CancellationToken);
            var before = _ledger.HashOfFiles();
            Assert.Equal(path, Assert.Throws<StateCorruptException>(Verify).File);
            Assert.Equal(before, _ledger.HashOfFiles());
        }
        File.Delete(path);
        Assert.Equal(path, Assert.Throws<StateCorruptException>(Verify).File);
    }

    [Fact]
    public async Task Says_which_entry_it_is_in()
    {
        await FillAsync();
        var bundle = _ledger.Log("acme").FileOf(new Proofs.Tile(Proofs.Tile.EntriesLevel, 1, 256));
        var bytes = await File.ReadAllBytesAsync(bundle, TestContext.Current.CancellationToken);
        var at = bytes.AsSpan().IndexOf("\"n\":\"300\""u8);
        bytes[at + 5] ^= 1;
        await File.WriteAllBytesAsync(bundle, bytes, TestContext.Current.CancellationToken);
        var entries = (await _ledger.EntriesAsync("acme")).FindIndex(entry => entry.PayloadId == "id-300") + 1;
        _ledger.Close();
        Assert.Contains($"entry {entries} ", Assert.Throws<StateCorruptException>(Verify).Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task That_takes_an_acknowledged_commit_off_the_journal_is_refused_though_it_looks_like_a_torn_one()
    {
        await _ledger.AppendManyAsync("acme", 300);
        await _ledger.PublishAsync("acme");
        var before = new FileInfo(_ledger.Log("acme").Journal).Length;
        Assert.Equal(301, (await _ledger.AppendAsync("acme", "acknowledged", "{}")).Cursor);
        // As after kill -9: nothing is closed, so nothing is published.
        using var killed = new LedgerFolder(Stores.Files, _ledger.Path);
        await using (var journal = new FileStream(killed.Log("acme").Journal, FileMode.Open))
            journal.SetLength(before + 10);
        var refusal = Assert.Throws<StateCorruptException>(() => LogRecovery.Verify(new Disk(), killed.Log("acme"), killed.Verifier("acme"), TestContext.Current.CancellationToken));
        Assert.Equal(killed.Log("acme").Journal, refusal.File);
        Assert.Contains("entry 300", refusal.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(0.3)]
    [InlineData(0.6)]
    [InlineData(0.9)]
    [InlineData(1)]
    public async Task Of_one_bit_of_the_index_is_found_by_the_start_and_mended(double place)
    {
        await FillAsync();
        var path = Path.Combine(_ledger.Log("acme").Path, Index);
        var bytes = await File.ReadAllBytesAsync(path, TestContext.Current.CancellationToken);
        bytes[(int)(place * (bytes.Length - 1))] ^= 4;
        await File.WriteAllBytesAsync(path, bytes, TestContext.Current.CancellationToken);
        var module = LedgerFolder.Module("acme");
        var tail = _ledger.Logs.VerifyTail(module, _ledger.Verifier("acme"), TestContext.Current.CancellationToken);
        _ledger.Logs.Verify(module, _ledger.Verifier("acme"), tail, long.MaxValue, TestContext.Current.CancellationToken);
        using var log = await _ledger.Shelf.OpenOrCreateAsync(module);
        for (var cursor = 299; cursor <= 301; cursor++)
        {
            using var terms = log.OpenTerms();
            Assert.Equal([cursor], terms.Cursors(EntryTerms.OfField(new("n", await log.ReadAsync(state => NumberOf(LogReader.Entry(state, cursor - 1))))), 0, 10));
        }
    }

    private static string NumberOf(Entry entry) =>
        System.Text.Json.JsonDocument.Parse(entry.Payload).RootElement.GetProperty("n").GetString()!;

    [Fact]
    public async Task Of_the_index_is_mended_from_the_entries()
    {
        await FillAsync();
        var path = Path.Combine(_ledger.Log("acme").Path, Index);
        await File.WriteAllTextAsync(path, "this is no index, and never was", TestContext.Current.CancellationToken);
        Assert.Equal(new AppendOutcome(AppendStatus.Conflict), await _ledger.AppendAsync("acme", "id-500", "{}"));
        _ledger.Close();
        File.Delete(path);
        Assert.Equal(new AppendOutcome(AppendStatus.Conflict), await _ledger.AppendAsync("acme", "id-1", "{}"));
    }

    // 800 entries: three full bundles, of which the journal holds none any more, and 32 entries behind them.
    private async Task FillAsync()
    {
        _ledger.Options.JournalBytesMax = 1;
        _ledger.Options.IndexRowsInMemory = 1;
        await _ledger.AppendManyAsync("acme", 800);
        await _ledger.PublishAsync("acme");
        _ledger.Close();
    }

    private void Verify() => LogRecovery.Verify(new Disk(), _ledger.Log("acme"), _ledger.Verifier("acme"), TestContext.Current.CancellationToken);

    private static IEnumerable<int> Positions(int length)
    {
        for (var i = 0; i < length; i += Math.Max(1, length / 40))
            yield return i;
    }
}

public sealed class ALogWhoseFolderIsGone : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("foundry-ledger-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public async Task Stops_the_start_until_somebody_says_that_it_need_not_be_there()
    {
        await FillAsync("acme", "globex");
        Directory.Delete(Path.Combine(_folder, "acme"), recursive: true);
        var fault = await Assert.ThrowsAsync<StateCorruptException>(() => LedgerHost.StartAsync(_folder));
        Assert.StartsWith(Path.Combine(_folder, "acme"), fault.File, StringComparison.Ordinal);
        Assert.False(Directory.Exists(Path.Combine(_folder, "acme")));
        File.Delete(Path.Combine(_folder, ".logs"));
        await FillAsync("initech");
        Assert.Equal(["globex", "initech"], File.ReadAllLines(Path.Combine(_folder, ".logs")));
    }

    [Fact]
    public async Task Is_missed_though_only_later_ones_were_listed_when_they_were_made()
    {
        await FillAsync("acme");
        File.Delete(Path.Combine(_folder, ".logs"));
        await FillAsync("globex");
        Directory.Delete(Path.Combine(_folder, "acme"), recursive: true);
        await Assert.ThrowsAsync<StateCorruptException>(() => LedgerHost.StartAsync(_folder));
    }

    private async Task FillAsync(params string[] logs)
    {
        await using var ledger = await LedgerHost.StartAsync(_folder);
        foreach (var log in logs)
            await ledger.CursorAsync(LedgerHost.As.Gateway, log, "a", "{}");
    }
}
