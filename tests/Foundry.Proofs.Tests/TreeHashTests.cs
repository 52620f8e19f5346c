using CsCheck;

namespace Foundry.Proofs.Tests;

public class PublishedTreeHashes
{
    public static TheoryData<int, string> Roots => new()
    {
        { 0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" },
        { 1, "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d" },
        { 2, "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125" },
        { 3, "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77" },
        { 4, "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7" },
        { 5, "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4" },
        { 6, "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef" },
        { 7, "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c" },
        { 8, "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328" },
    };

    [Theory, MemberData(nameof(Roots))]
    public void Are_the_roots_of_the_frontier(int size, string root)
    {
        var frontier = new TreeFrontier();
        foreach (var leaf in ReferenceTree.PublishedLeafHashes[..size])
            frontier.Append(leaf);
        Assert.Equal(root, frontier.Root.ToString());
        Assert.Equal(root, ReferenceTree.Root(ReferenceTree.PublishedLeafHashes.AsSpan(0, size)).ToString());
    }
}

public class TreeFrontierTests
{
    // Around each place where a row, a tile or a level of tiles begins.
    public static TheoryData<int> Sizes => [0, 1, 2, 3, 7, 255, 256, 257, 511, 512, 513, 65_535, 65_536, 65_537, 65_793, 70_000];

    [Theory, MemberData(nameof(Sizes))]
    public async Task Root_is_the_same_from_leaves_and_from_tiles(int size)
    {
        var leaves = ReferenceTree.Leaves(size);
        var expected = ReferenceTree.Root(leaves);
        var frontier = new TreeFrontier();
        foreach (var leaf in leaves)
            frontier.Append(leaf);
        Assert.Equal(expected, frontier.Root);
        Assert.Equal(expected, await ReferenceTree.Reader(leaves).RootAsync(TestContext.Current.CancellationToken));
    }

    [Theory, MemberData(nameof(Sizes))]
    public void Continues_from_its_tiles_as_if_it_had_never_stopped(int size)
    {
        var leaves = ReferenceTree.Leaves(size + 600);
        var whole = ReferenceTree.Tiles(leaves);
        var tiles = ReferenceTree.Tiles(leaves.AsSpan(0, size));
        var resumed = TreeFrontier.FromTiles(size, tile => TreeHash.FromTile(tiles[tile]).ToArray(),
            (tile, hashes) => tiles[tile] = TreeHash.ToTile(hashes).ToArray());
        foreach (var leaf in leaves.AsSpan(size))
            resumed.Append(leaf);

        Assert.Equal(ReferenceTree.Root(leaves), resumed.Root);
        foreach (var (tile, bytes) in whole.Where(pair => !pair.Key.IsPartial))
            Assert.Equal(bytes, tiles[tile]);
    }

    [Fact]
    public void A_tree_of_70000_has_the_tiles_that_the_specification_counts()
    {
        var tiles = ReferenceTree.Tiles(ReferenceTree.Leaves(70_000)).Keys;
        Assert.Equal(273, tiles.Count(tile => tile is { Level: 0, IsPartial: false }));
        Assert.Contains(new Tile(0, 273, 112), tiles);
        Assert.Equal(1, tiles.Count(tile => tile is { Level: 1, IsPartial: false }));
        Assert.Contains(new Tile(1, 1, 17), tiles);
        Assert.Contains(new Tile(2, 0, 1), tiles);
        Assert.Equal(273 + 1 + 1 + 1 + 1, tiles.Count);
    }

    [Fact]
    public void Appending_in_two_parts_is_appending_in_one() =>
        Gen.Select(Gen.Int[0, 1200], Gen.Int[0, 1200]).Sample((first, more) =>
        {
            var leaves = ReferenceTree.Leaves(first + more);
            var frontier = new TreeFrontier();
            foreach (var leaf in leaves.AsSpan(0, first))
                frontier.Append(leaf);
            var root = frontier.Root;
            foreach (var leaf in leaves.AsSpan(first))
                frontier.Append(leaf);
            return root == ReferenceTree.Root(leaves.AsSpan(0, first)) && frontier.Root == ReferenceTree.Root(leaves);
        }, iter: 100);
}
