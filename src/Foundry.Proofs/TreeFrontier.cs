// RFC 6962, section 2.1, kept incrementally; the rows it completes are those of c2sp.org/tlog-tiles.

using System.Runtime.InteropServices;

namespace Foundry.Proofs;

/// <summary>Takes the hashes of a tile that has just become full.</summary>
/// <param name="tile">Its place; always full.</param>
/// <param name="hashes">Its 256 hashes, valid during the call only.</param>
public delegate void TileCompleted(Tile tile, ReadOnlySpan<TreeHash> hashes);

/// <summary>
/// The right edge of a growing tree: all that is needed to append leaves and to know the root. It holds at most 255 hashes a
/// level, whatever the size of the tree. Not safe for concurrent use: a tree has one owner.
/// </summary>
public sealed class TreeFrontier
{
    private const int LevelsMax = 64 / Tile.Height;

    // Hashes of the partial tile at each level, left to right.
    private readonly List<TreeHash>[] _partials = new List<TreeHash>[LevelsMax];

    // Roots of the perfect subtrees that the size's binary digits name, largest first.
    private readonly List<TreeHash> _peaks = [];

    /// <summary>An empty tree.</summary>
    /// <param name="completed">Told of each tile that becomes full, lowest level first.</param>
    public TreeFrontier(TileCompleted? completed = null)
    {
        Completed = completed;
        for (var level = 0; level < LevelsMax; level++)
            _partials[level] = [];
    }

    /// <summary>Leaves in the tree.</summary>
    public long Size { get; private set; }

    /// <summary>Told of each tile that becomes full, lowest level first. Whoever takes a tree over takes this over too.</summary>
    public TileCompleted? Completed { get; set; }

    /// <summary>
    /// The edge of a tree that exists as tiles. Nothing is verified here: compare <see cref="Root"/> with a signed one.
    /// </summary>
    /// <param name="size">Leaves in the tree.</param>
    /// <param name="partial">Reads the hashes of one partial tile of a tree of that size; as many as the tile is wide.</param>
    /// <param name="completed">Told of each tile that becomes full later.</param>
    public static TreeFrontier FromTiles(long size, Func<Tile, TreeHash[]> partial, TileCompleted? completed = null)
    {
        ArgumentNullException.ThrowIfNull(partial);
        var tree = new TreeFrontier(completed) { Size = size };
        foreach (var tile in Tile.PartialsOf(size).Where(tile => !tile.IsEntries))
        {
            var hashes = partial(tile);
            if (hashes.Length != tile.Width)
                throw new ArgumentException($"{tile.Path} must hold {tile.Width} hashes, not {hashes.Length}.", nameof(partial));
            tree._partials[tile.Level].AddRange(hashes);
        }
        for (var level = LevelsMax - 1; level >= 0; level--)
        {
            var hashes = CollectionsMarshal.AsSpan(tree._partials[level]);
            var start = 0;
            for (var width = Tile.WidthMax / 2; width > 0; width /= 2)
            {
                if ((hashes.Length & width) == 0)
                    continue;
                tree._peaks.Add(TreeHash.OfPerfect(hashes.Slice(start, width)));
                start += width;
            }
        }
        return tree;
    }

    /// <summary>Adds a leaf on the right.</summary>
    public void Append(TreeHash leaf)
    {
        var node = leaf;
        var index = Size;
        var height = 0;
        Record(0, index, node);
        // Each one-bit of the old size is a peak that the new leaf completes to a larger one.
        for (; (index & 1) == 1; index >>= 1)
        {
            node = TreeHash.OfNode(_peaks[^1], node);
            _peaks.RemoveAt(_peaks.Count - 1);
            height++;
            if (height % Tile.Height == 0)
                Record(height / Tile.Height, index >> 1, node);
        }
        _peaks.Add(node);
        Size++;
    }

    /// <summary>The root of the tree as it is now.</summary>
    public TreeHash Root
    {
        get
        {
            if (_peaks.Count == 0)
                return TreeHash.EmptyRoot;
            var root = _peaks[^1];
            for (var i = _peaks.Count - 2; i >= 0; i--)
                root = TreeHash.OfNode(_peaks[i], root);
            return root;
        }
    }

    /// <summary>A copy of the hashes of each level's partial tile; level <c>l</c> at index <c>l</c>, empty where there is none.</summary>
    public TreeHash[][] Edge() => Array.ConvertAll(_partials, row => row.Count == 0 ? [] : row.ToArray());

    private void Record(int level, long index, TreeHash hash)
    {
        var row = _partials[level];
        row.Add(hash);
        if (row.Count < Tile.WidthMax)
            return;
        Completed?.Invoke(new Tile(level, index >> Tile.Height, Tile.WidthMax), CollectionsMarshal.AsSpan(row));
        row.Clear();
    }
}
