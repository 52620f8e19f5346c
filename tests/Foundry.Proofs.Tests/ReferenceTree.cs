using System.Numerics;

namespace Foundry.Proofs.Tests;

/// <summary>RFC 6962, 2.1, word for word and as slow as it reads: what the incremental and the tiled code are compared with.</summary>
internal static class ReferenceTree
{
    /// <summary>The inputs published with the Certificate Transparency reference implementation.</summary>
    public static readonly string[] PublishedLeaves =
        ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];

    public static TreeHash[] PublishedLeafHashes { get; } =
        [.. PublishedLeaves.Select(hex => TreeHash.OfLeaf(Convert.FromHexString(hex)))];

    public static TreeHash[] Leaves(int count) =>
        [.. Enumerable.Range(0, count).Select(i => TreeHash.OfLeaf(BitConverter.GetBytes(i)))];

    public static TreeHash Root(ReadOnlySpan<TreeHash> leaves)
    {
        if (leaves.Length == 0)
            return TreeHash.EmptyRoot;
        if (leaves.Length == 1)
            return leaves[0];
        var k = 1 << BitOperations.Log2((uint)(leaves.Length - 1));
        return TreeHash.OfNode(Root(leaves[..k]), Root(leaves[k..]));
    }

    /// <summary>Every tile of a tree, by path, as an owner that appended leaf by leaf would hold them.</summary>
    public static Dictionary<Tile, byte[]> Tiles(ReadOnlySpan<TreeHash> leaves)
    {
        var tiles = new Dictionary<Tile, byte[]>();
        var frontier = new TreeFrontier((tile, hashes) => tiles[tile] = TreeHash.ToTile(hashes).ToArray());
        foreach (var leaf in leaves)
            frontier.Append(leaf);
        var edge = frontier.Edge();
        foreach (var tile in Tile.PartialsOf(leaves.Length).Where(tile => !tile.IsEntries))
            tiles[tile] = TreeHash.ToTile(edge[tile.Level]).ToArray();
        return tiles;
    }

    public static TreeReader Reader(ReadOnlySpan<TreeHash> leaves)
    {
        var tiles = Tiles(leaves);
        return new TreeReader(leaves.Length, (tile, _) => ValueTask.FromResult<ReadOnlyMemory<byte>>(tiles[tile]));
    }
}
