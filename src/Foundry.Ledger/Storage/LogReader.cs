using System.Buffers;
using Foundry.Ledger.Append;
using Foundry.Proofs;

namespace Foundry.Ledger.Storage;

/// <summary>Reads what a <see cref="LogState"/> has: from full bundles, from the journal, and hashes from tiles or memory.</summary>
internal static class LogReader
{
    /// <summary>One entry.</summary>
    public static Entry Entry(LogFolder folder, LogState state, long index) => Entries(folder, state, index, index + 1).First();

    /// <summary>The entries from one index to another, a bundle read at a time.</summary>
    public static IEnumerable<Entry> Entries(LogFolder folder, LogState state, long start, long end)
    {
        for (var index = start; index < end;)
        {
            if (index >= state.Journal.First)
            {
                yield return Parse(folder, state.Journal.Entry(index), index);
                index++;
                continue;
            }
            var tile = new Tile(Tile.EntriesLevel, index / Tile.WidthMax, Tile.WidthMax);
            if (!EntryBundle.TryRead(File.ReadAllBytes(folder.FileOf(tile)), tile.Width, out var leaves))
                throw new InvalidDataException($"{folder.FileOf(tile)} is damaged.");
            var bundleEnd = Math.Min(end, (tile.Index + 1) * Tile.WidthMax);
            for (; index < bundleEnd; index++)
                yield return Parse(folder, leaves[(int)(index % Tile.WidthMax)], index);
        }
    }

    /// <summary>The bytes of a tile or bundle that a tree of the state's size has; null where it has none.</summary>
    public static byte[]? TileOf(LogFolder folder, LogState state, Tile tile)
    {
        if (tile.Width > Tile.WidthAt(tile.Level, tile.Index, state.Size))
            return null;
        if (tile.IsEntries)
            return tile.Index * Tile.WidthMax >= state.Journal.First ? BundleOf(state, tile) : FirstEntries(File.ReadAllBytes(folder.FileOf(tile.Full)), tile.Width);
        var bytes = tile.Width * TreeHash.Length;
        if (state.Unpublished.TryGetValue(tile.Full, out var hashes))
            return TreeHash.ToTile(hashes)[..bytes].ToArray();
        if (Tile.WidthAt(tile.Level, tile.Index, state.Size) < Tile.WidthMax)
            return TreeHash.ToTile(state.Edge[tile.Level])[..bytes].ToArray();
        // A narrower tile than there is now is the beginning of it, for as long as there is a log.
        return File.ReadAllBytes(folder.FileOf(tile.Full))[..bytes];
    }

    /// <summary>The bytes of a bundle whose entries are in the journal.</summary>
    public static byte[] BundleOf(LogState state, Tile tile)
    {
        var bundle = new ArrayBufferWriter<byte>();
        var start = tile.Index * Tile.WidthMax;
        for (var index = start; index < start + tile.Width; index++)
            EntryBundle.Append(bundle, state.Journal.Entry(index));
        return bundle.WrittenSpan.ToArray();
    }

    private static byte[] FirstEntries(byte[] bundle, int width)
    {
        ReadOnlyMemory<byte> rest = bundle;
        for (var i = 0; i < width; i++)
        {
            if (!EntryBundle.TryNext(ref rest, out _))
                throw new InvalidDataException("A bundle is shorter than its log.");
        }
        return bundle[..(bundle.Length - rest.Length)];
    }

    private static Entry Parse(LogFolder folder, ReadOnlyMemory<byte> leaf, long index) =>
        Append.Entry.TryParse(leaf, out var entry) ? entry : throw new InvalidDataException($"Entry {index + 1} of {folder.Path} is of no known version.");
}
