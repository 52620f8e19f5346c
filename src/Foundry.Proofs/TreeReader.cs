// c2sp.org/tlog-tiles, "Merkle Tree": any node is the root of a few consecutive hashes of one tile.

using System.Numerics;

namespace Foundry.Proofs;

/// <summary>Fetches a tile's bytes: <see cref="Tile.Width"/> hashes. It may fail by throwing; nothing is retried here.</summary>
public delegate ValueTask<ReadOnlyMemory<byte>> TileFetch(Tile tile, CancellationToken cancellation);

/// <summary>
/// Computes the hashes of a tree from its tiles. What it returns is only as good as the tiles: call
/// <see cref="RootAsync"/> and compare with a signed root before relying on anything else.
/// </summary>
public sealed class TreeReader(long size, TileFetch fetch)
{
    /// <summary>Leaves in the tree.</summary>
    public long Size { get; } = size >= 0 ? size : throw new ArgumentOutOfRangeException(nameof(size));

    /// <summary>The root of the whole tree.</summary>
    public ValueTask<TreeHash> RootAsync(CancellationToken cancellation = default) =>
        Size == 0 ? ValueTask.FromResult(TreeHash.EmptyRoot) : RangeAsync(0, Size, cancellation);

    /// <summary>MTH(D[start:end]) for a range that RFC 6962's splitting can reach: <paramref name="start"/> is a multiple of the next power of two of its length.</summary>
    internal async ValueTask<TreeHash> RangeAsync(long start, long end, CancellationToken cancellation)
    {
        var peaks = new List<TreeHash>();
        for (var at = start; at < end;)
        {
            var height = BitOperations.Log2((ulong)(end - at));
            peaks.Add(await NodeAsync(height, at >> height, cancellation));
            at += 1L << height;
        }
        var root = peaks[^1];
        for (var i = peaks.Count - 2; i >= 0; i--)
            root = TreeHash.OfNode(peaks[i], root);
        return root;
    }

    private async ValueTask<TreeHash> NodeAsync(int height, long index, CancellationToken cancellation)
    {
        var (level, above) = Math.DivRem(height, Tile.Height);
        var first = index << above;
        var tileIndex = first >> Tile.Height;
        var tile = new Tile(level, tileIndex, Tile.WidthAt(level, tileIndex, Size));
        var bytes = await fetch(tile, cancellation);
        if (bytes.Length != tile.Width * TreeHash.Length)
            throw new InvalidDataException($"{tile.Path} must be {tile.Width * TreeHash.Length} bytes, not {bytes.Length}.");
        var offset = (int)(first & (Tile.WidthMax - 1));
        return TreeHash.OfPerfect(TreeHash.FromTile(bytes.Span).Slice(offset, 1 << above));
    }
}
