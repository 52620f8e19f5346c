using System.Buffers;

namespace Foundry.Proofs.Tests;

/// <summary>A log of files in memory, checked whole, continued, damaged and rewritten.</summary>
public sealed class CheckedLog
{
    private const int Size = 600;
    private readonly byte[][] _entries = [.. Enumerable.Range(0, 70_000).Select(i => BitConverter.GetBytes(i))];

    public static TheoryData<int> Sizes => [0, 1, 2, 255, 256, 257, 511, 512, 513, 65_535, 65_536, 65_537, 70_000];

    [Theory, MemberData(nameof(Sizes))]
    public async Task Is_accepted_at_every_shape_of_its_edge(int size)
    {
        var (files, signed) = Log(size);
        var seen = 0L;
        Assert.Null(await new LogCheck(signed, Fetch(files)) { Progress = checkedSize => seen = checkedSize }.RunAsync(TestContext.Current.CancellationToken));
        Assert.Equal(size, seen);
    }

    [Theory, MemberData(nameof(Sizes))]
    public async Task Continues_an_earlier_checkpoint(int size)
    {
        var (files, signed) = Log(70_000);
        var (_, earlier) = Log(size);
        foreach (var behind in new[] { true, false })
            Assert.Null(await new LogCheck(signed, Fetch(files)) { Earlier = earlier, BeginsBehindEarlier = behind }.RunAsync(TestContext.Current.CancellationToken));
        var other = earlier with { Root = TreeHash.OfLeaf([1]) };
        foreach (var behind in new[] { true, false }.Where(behind => behind || size > 0))
            Assert.NotNull(await new LogCheck(signed, Fetch(files)) { Earlier = other, BeginsBehindEarlier = behind }.RunAsync(TestContext.Current.CancellationToken));
    }

    [Theory]
    [InlineData(1), InlineData(3), InlineData(8)]
    public async Task Is_read_so_many_bundles_at_once_and_no_more(int atOnce)
    {
        var (files, signed) = Log(2000);
        var (asked, most) = (0, 0);
        var full = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        async ValueTask<ReadOnlyMemory<byte>> FetchAsync(Tile tile, CancellationToken cancellation)
        {
            most = Math.Max(most, ++asked);
            if (asked == atOnce)
                full.TrySetResult();
            // The first ones come when as many as may be are under way.
            await full.Task.WaitAsync(cancellation);
            asked--;
            return files[tile];
        }
        Assert.Null(await new LogCheck(signed, FetchAsync) { ReadAhead = atOnce, IncludesTiles = false }.RunAsync(TestContext.Current.CancellationToken));
        Assert.Equal(atOnce, most);
    }

    [Fact]
    public async Task That_is_found_bad_is_not_read_any_further()
    {
        var (files, signed) = Log(2000);
        Flip(files, Bundle(300), 44 * 6 + 2);
        var (began, ended) = (0, 0);
        async ValueTask<ReadOnlyMemory<byte>> FetchAsync(Tile tile, CancellationToken cancellation)
        {
            Interlocked.Increment(ref began);
            try
            {
                // The last bundle never comes by itself.
                if (tile.IsEntries && tile.Index == 7)
                    await Task.Delay(Timeout.Infinite, cancellation);
                return files[tile];
            }
            finally
            {
                Interlocked.Increment(ref ended);
            }
        }
        var fault = await new LogCheck(signed, FetchAsync) { Earlier = Log(500).Signed, ReadAhead = 8, IncludesTiles = false }.RunAsync(TestContext.Current.CancellationToken);
        Assert.Equal(300, fault?.GoodSize);
        Assert.Equal(began, ended);
    }

    [Fact]
    public async Task May_not_become_shorter()
    {
        var (files, signed) = Log(100);
        var fault = await new LogCheck(signed, Fetch(files)) { Earlier = Log(101).Signed }.RunAsync(TestContext.Current.CancellationToken);
        Assert.Equal("the log has 100 entries, and had 101 when the earlier checkpoint was signed", fault?.What);
    }

    [Theory]
    [InlineData(0), InlineData(1), InlineData(255), InlineData(256), InlineData(300), InlineData(511), InlineData(512), InlineData(599)]
    public async Task Names_the_first_entry_that_is_another(int index)
    {
        var (files, signed) = Log(Size);
        // The length of the entry behind it too: that one is not the first.
        Flip(files, Bundle(index), index % 256 * 6 + 2);
        if (index + 1 < Size)
            Flip(files, Bundle(index + 1), (index + 1) % 256 * 6);
        await AssertAsync(files, signed, new LogFault($"entry {index + 1} is not the one that was signed", index, IsCertain: true));
    }

    [Theory]
    [InlineData(0), InlineData(300), InlineData(599)]
    public async Task Names_the_first_entry_that_cannot_be_read(int index)
    {
        var (files, signed) = Log(Size);
        files[Bundle(index)] = files[Bundle(index)][..(index % 256 * 6)];
        await AssertAsync(files, signed, new LogFault($"entry {index + 1} is missing or cannot be read", index, IsCertain: true));
        files.Remove(Bundle(index));
        var first = index / 256 * 256;
        await AssertAsync(files, signed, new LogFault($"entry {first + 1} is missing or cannot be read", first, IsCertain: true));
    }

    [Fact]
    public async Task With_a_damaged_tile_has_its_entries_and_is_refused()
    {
        var (_, signed) = Log(Size);
        foreach (var tile in Log(Size).Files.Keys.Where(tile => !tile.IsEntries))
        {
            for (var i = 0; i < tile.Width; i += 50)
            {
                var (files, _) = Log(Size);
                Flip(files, tile, i * 32);
                var fault = await new LogCheck(signed, Fetch(files)).RunAsync(TestContext.Current.CancellationToken);
                Assert.Equal(new LogFault($"hash {i} of {tile.Path} is not what the entries hash to; the entries are as signed", Size, IsCertain: false), fault);
            }
            var (without, _) = Log(Size);
            without.Remove(tile);
            Assert.Contains(tile.Path, (await new LogCheck(signed, Fetch(without)).RunAsync(TestContext.Current.CancellationToken))?.What, StringComparison.Ordinal);
        }
    }

    [Fact]
    public async Task With_more_than_its_entries_is_refused()
    {
        var (files, signed) = Log(Size);
        files[Bundle(256)] = [.. files[Bundle(256)], 0];
        await AssertAsync(files, signed, new LogFault("tile/entries/001 goes on behind its last entry; the entries are as signed", Size, IsCertain: false));
    }

    /// <summary>An entry and its leaf tile changed to fit each other: the tiles above tell, and nothing wrong is claimed of what they cover.</summary>
    [Fact]
    public async Task Rewritten_with_its_leaf_tile_is_proved_up_to_that_tile()
    {
        var (files, signed) = Log(Size);
        Flip(files, Bundle(300), (300 - 256) * 6 + 2);
        EntryBundle.TryRead(files[Bundle(300)], 256, out var entries);
        files[new Tile(0, 1, 256)] = [.. entries.SelectMany(entry => TreeHash.OfLeaf(entry.Span).Bytes.ToArray())];
        Flip(files, Bundle(599), (599 - 512) * 6 + 2);
        await AssertAsync(files, signed, new LogFault("the entries do not have the signed root", 256, IsCertain: false));
    }

    [Fact]
    public async Task Rewritten_whole_is_proved_up_to_the_earlier_checkpoint()
    {
        var (_, signed) = Log(Size);
        var (_, earlier) = Log(400);
        _entries[500] = [1, 2, 3, 4];
        var (rewritten, _) = Log(Size);
        var fault = await new LogCheck(signed, Fetch(rewritten)) { Earlier = earlier, BeginsBehindEarlier = true }.RunAsync(TestContext.Current.CancellationToken);
        Assert.Equal(new LogFault("the entries do not have the signed root", 400, IsCertain: false), fault);
    }

    [Fact]
    public async Task Signed_twice_over_different_entries_proves_none_of_them()
    {
        var (_, earlier) = Log(400);
        _entries[17] = [1, 2, 3, 4];
        var (rewritten, signed) = Log(Size);
        var fault = await new LogCheck(signed, Fetch(rewritten)) { Earlier = earlier }.RunAsync(TestContext.Current.CancellationToken);
        Assert.Equal(new LogFault("the first 400 entries are not those of the earlier checkpoint: the log was rewritten", 0, IsCertain: false), fault);
    }

    private static async Task AssertAsync(Dictionary<Tile, byte[]> files, Checkpoint signed, LogFault expected)
    {
        Assert.Equal(expected, await new LogCheck(signed, Fetch(files)).RunAsync(TestContext.Current.CancellationToken));
        if (expected.GoodSize < signed.Size)
            Assert.Equal(expected, await new LogCheck(signed, Fetch(files)) { IncludesTiles = false }.RunAsync(TestContext.Current.CancellationToken));
    }

    private static Tile Bundle(int index) => new(Tile.EntriesLevel, index / 256, Tile.WidthAt(Tile.EntriesLevel, index / 256, Size));

    private static void Flip(Dictionary<Tile, byte[]> files, Tile tile, int at) => files[tile][at] ^= 1;

    private static TileFetch Fetch(Dictionary<Tile, byte[]> files) => (tile, _) =>
    {
        if (files.TryGetValue(tile, out var file))
            return ValueTask.FromResult<ReadOnlyMemory<byte>>(file);
        // A narrower one than the log has now is the beginning of the one that it has.
        var wider = files.Keys.Where(have => have.Level == tile.Level && have.Index == tile.Index && have.Width > tile.Width).ToList();
        return wider.Count == 0 ? throw new InvalidDataException(tile.Path) : ValueTask.FromResult<ReadOnlyMemory<byte>>(files[wider[0]].AsMemory(0, tile.Width * TreeHash.Length));
    };

    private (Dictionary<Tile, byte[]> Files, Checkpoint Signed) Log(int size)
    {
        var leaves = _entries[..size].Select(entry => TreeHash.OfLeaf(entry)).ToArray();
        var files = ReferenceTree.Tiles(leaves);
        for (var start = 0; start < size; start += Tile.WidthMax)
        {
            var bundle = new ArrayBufferWriter<byte>();
            var width = Math.Min(Tile.WidthMax, size - start);
            foreach (var entry in _entries[start..(start + width)])
                EntryBundle.Append(bundle, entry);
            files[new Tile(Tile.EntriesLevel, start / Tile.WidthMax, width)] = bundle.WrittenSpan.ToArray();
        }
        return (files, new Checkpoint("example.com/log", size, ReferenceTree.Root(leaves)));
    }
}
