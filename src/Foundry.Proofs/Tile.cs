// c2sp.org/tlog-tiles: coordinates and paths of hash tiles and entry bundles.

using System.Globalization;
using System.Text;

namespace Foundry.Proofs;

/// <summary>
/// One file of a tiled log: a row of at most 256 hashes, or (at <see cref="EntriesLevel"/>) a bundle of at most 256 entries.
/// </summary>
/// <param name="Level">0 for leaf hashes; hash <c>i</c> of level <c>l+1</c> is the root of full tile <c>i</c> of level <c>l</c>.</param>
/// <param name="Index">The tile's place in its level.</param>
/// <param name="Width">Hashes or entries in it: 256 when full, else 1 to 255.</param>
public readonly record struct Tile(int Level, long Index, int Width)
{
    /// <summary>Levels of the Merkle tree that a tile spans.</summary>
    public const int Height = 8;

    /// <summary>Hashes in a full tile, entries in a full bundle.</summary>
    public const int WidthMax = 1 << Height;

    /// <summary>Bytes of a full hash tile.</summary>
    public const int BytesMax = WidthMax * TreeHash.Length;

    /// <summary>The level that stands for entry bundles.</summary>
    public const int EntriesLevel = -1;

    /// <summary>The highest level a path may name; no tree of ours reaches level 8.</summary>
    public const int LevelMax = 63;

    /// <summary>Longest path that <see cref="TryParse"/> looks at: a level, seven index elements and a width.</summary>
    public const int PathLengthMax = 64;

    private const string Prefix = "tile/";
    private const string EntriesName = "entries";
    private const int IndexElementDigits = 3;
    private const int IndexElementBase = 1000;
    private const int LevelsOfLong = 64 / Height;

    /// <summary>Whether the tile can still grow.</summary>
    public bool IsPartial => Width < WidthMax;

    /// <summary>Whether this is an entry bundle.</summary>
    public bool IsEntries => Level == EntriesLevel;

    /// <summary>The full tile in the same place.</summary>
    public Tile Full => this with { Width = WidthMax };

    /// <summary>Hashes (or entries) at a level of a tree of <paramref name="treeSize"/> leaves.</summary>
    public static long CountAt(int level, long treeSize)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(treeSize);
        if (level is EntriesLevel or 0)
            return treeSize;
        return level >= LevelsOfLong ? 0 : treeSize >> (Height * level);
    }

    /// <summary>How wide the tile at a place is in a tree of <paramref name="treeSize"/> leaves; 0 where there is none.</summary>
    public static int WidthAt(int level, long index, long treeSize)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(index);
        var count = CountAt(level, treeSize);
        var full = count >> Height;
        return index < full ? WidthMax : index == full ? (int)(count & (WidthMax - 1)) : 0;
    }

    /// <summary>The partial tiles on the right edge of a tree, the entry bundle first, then level by level.</summary>
    public static IEnumerable<Tile> PartialsOf(long treeSize)
    {
        for (var level = EntriesLevel; level < LevelsOfLong; level++)
        {
            var count = CountAt(level, treeSize);
            var width = (int)(count & (WidthMax - 1));
            if (width != 0)
                yield return new Tile(level, count >> Height, width);
        }
    }

    /// <summary><c>tile/&lt;L&gt;/&lt;N&gt;[.p/&lt;W&gt;]</c>, with <c>entries</c> for L at <see cref="EntriesLevel"/> and N as <c>x001/x234/067</c>.</summary>
    public string Path
    {
        get
        {
            var path = new StringBuilder(Prefix, PathLengthMax);
            path.Append(IsEntries ? EntriesName : Level.ToString(CultureInfo.InvariantCulture)).Append('/');
            var rest = (Index % IndexElementBase).ToString("D3", CultureInfo.InvariantCulture);
            for (var high = Index / IndexElementBase; high > 0; high /= IndexElementBase)
                rest = $"x{(high % IndexElementBase).ToString("D3", CultureInfo.InvariantCulture)}/{rest}";
            path.Append(rest);
            if (IsPartial)
                path.Append(".p/").Append(Width.ToString(CultureInfo.InvariantCulture));
            return path.ToString();
        }
    }

    /// <summary>Reads a path. Only the one spelling that <see cref="Path"/> writes is accepted.</summary>
    public static bool TryParse(string? path, out Tile tile)
    {
        tile = default;
        if (path is null || path.Length > PathLengthMax || !path.StartsWith(Prefix, StringComparison.Ordinal))
            return false;
        var rest = path.AsSpan(Prefix.Length);
        var slash = rest.IndexOf('/');
        if (slash < 0 || !TryLevel(rest[..slash], out var level))
            return false;
        rest = rest[(slash + 1)..];

        var width = WidthMax;
        var partial = rest.IndexOf(".p/");
        if (partial >= 0)
        {
            if (!TryNumber(rest[(partial + 3)..], out width) || width is 0 or >= WidthMax)
                return false;
            rest = rest[..partial];
        }
        if (!TryIndex(rest, out var index))
            return false;
        tile = new Tile(level, index, width);
        // Leading x000 elements and the like parse to an index whose one right spelling is another.
        return tile.Path == path;
    }

    private static bool TryLevel(ReadOnlySpan<char> text, out int level)
    {
        level = EntriesLevel;
        return text.SequenceEqual(EntriesName) || (TryNumber(text, out level) && level <= LevelMax);
    }

    private static bool TryNumber(ReadOnlySpan<char> text, out int value) =>
        int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out value);

    private static bool TryIndex(ReadOnlySpan<char> text, out long index)
    {
        index = 0;
        while (true)
        {
            var isLast = text.IndexOf('/') < 0;
            if (!isLast && (text.IsEmpty || text[0] != 'x'))
                return false;
            var digits = isLast ? text : text[1..text.IndexOf('/')];
            if (digits.Length != IndexElementDigits || !TryNumber(digits, out var element))
                return false;
            if (index > (long.MaxValue - element) / IndexElementBase)
                return false;
            index = index * IndexElementBase + element;
            if (isLast)
                return true;
            text = text[(text.IndexOf('/') + 1)..];
        }
    }
}
