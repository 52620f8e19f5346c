using CsCheck;

namespace Foundry.Proofs.Tests;

public class TilePath
{
    [Theory]
    [InlineData("tile/0/000", 0, 0, 256)]
    [InlineData("tile/0/x001/x234/067", 0, 1_234_067, 256)]
    [InlineData("tile/2/x001/000.p/17", 2, 1000, 17)]
    [InlineData("tile/entries/x001/x234/067.p/255", Tile.EntriesLevel, 1_234_067, 255)]
    [InlineData("tile/63/999", 63, 999, 256)]
    public void Is_written_and_read_as_specified(string path, int level, long index, int width)
    {
        var tile = new Tile(level, index, width);
        Assert.Equal(path, tile.Path);
        Assert.True(Tile.TryParse(path, out var read));
        Assert.Equal(tile, read);
    }

    [Theory]
    [InlineData(null)]
    [InlineData("")]
    [InlineData("tile/0")]
    [InlineData("tile/0/")]
    [InlineData("tile/00/000")]
    [InlineData("tile/64/000")]
    [InlineData("tile/-1/000")]
    [InlineData("tile/+1/000")]
    [InlineData("tile/0/0")]
    [InlineData("tile/0/0000")]
    [InlineData("tile/0/x000/001")]
    [InlineData("tile/0/001/002")]
    [InlineData("tile/0/x001")]
    [InlineData("tile/0/x001/")]
    [InlineData("tile/0/000.p/0")]
    [InlineData("tile/0/000.p/256")]
    [InlineData("tile/0/000.p/01")]
    [InlineData("tile/0/000.p/")]
    [InlineData("tile/0/000.p/1.p/1")]
    [InlineData("tile/0/ 00")]
    [InlineData("tile/Entries/000")]
    [InlineData("tile/0/../000")]
    [InlineData("/tile/0/000")]
    [InlineData("tile/0/x999/x999/x999/x999/x999/x999/999")]
    public void In_any_other_spelling_is_refused(string? path) => Assert.False(Tile.TryParse(path, out _));

    [Fact]
    public void Survives_the_round_trip_for_every_tile() =>
        Gen.Select(Gen.Int[-1, 63], Gen.Long[0, long.MaxValue], Gen.Int[1, 256]).Sample((level, index, width) =>
        {
            var tile = new Tile(level, index, width);
            return Tile.TryParse(tile.Path, out var read) && read == tile;
        });

    [Fact]
    public void Of_arbitrary_text_is_read_only_if_it_is_the_path_of_what_was_read() =>
        Gen.String[Gen.Char["tile/enrsx0129.p"], 0, 40].Select(tail => "tile/" + tail)
            .Sample(path => !Tile.TryParse(path, out var tile) || tile.Path == path);
}

public class EntryBundleTests
{
    [Fact]
    public void Gives_back_the_entries_it_was_written_from() =>
        Gen.Byte.Array[0, 300].Array[0, 256].Sample(entries =>
        {
            var bundle = new System.Buffers.ArrayBufferWriter<byte>();
            foreach (var entry in entries)
                EntryBundle.Append(bundle, entry);
            return EntryBundle.TryRead(bundle.WrittenMemory, entries.Length, out var read)
                && read.Zip(entries).All(pair => pair.First.Span.SequenceEqual(pair.Second));
        }, iter: 200);

    [Fact]
    public void Cut_off_or_continued_is_refused()
    {
        var bundle = new System.Buffers.ArrayBufferWriter<byte>();
        EntryBundle.Append(bundle, [1, 2, 3]);
        EntryBundle.Append(bundle, []);
        var bytes = bundle.WrittenSpan.ToArray();
        Assert.Equal([0, 3, 1, 2, 3, 0, 0], bytes);
        Assert.True(EntryBundle.TryRead(bytes, 2, out _));
        Assert.False(EntryBundle.TryRead(bytes, 1, out _));
        Assert.False(EntryBundle.TryRead(bytes, 3, out _));
        for (var length = 0; length < bytes.Length; length++)
            Assert.False(EntryBundle.TryRead(bytes.AsMemory(0, length), 2, out _));
    }
}
