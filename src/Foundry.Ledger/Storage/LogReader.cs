using System.Buffers;
using Foundry.Ledger.Append;
using Foundry.Proofs;

namespace Foundry.Ledger.Storage;

/// <summary>Reads what a <see cref="LogState"/> has, wherever it is kept.</summary>
internal static class LogReader
{
    /// <summary>One entry.</summary>
    public static Entry Entry(LogState state, long index) => Entries(state, index, index + 1).First();

    /// <summary>The entries from one index to another.</summary>
    public static IEnumerable<Entry> Entries(LogState state, long start, long end) =>
        state.Source.Leaves(start, end).Select((leaf, i) => Parse(state, leaf, start + i));

    /// <summary>The bytes of a tile or bundle that a tree of the state's size has; null where it has none.</summary>
    public static byte[]? TileOf(LogState state, Tile tile)
    {
        if (tile.Width > Tile.WidthAt(tile.Level, tile.Index, state.Size))
            return null;
        if (tile.IsEntries)
            return BundleOf(state.Source, tile);
        var bytes = tile.Width * TreeHash.Length;
        // A narrower tile than there is now is the beginning of it, for as long as there is a log.
        return Tile.WidthAt(tile.Level, tile.Index, state.Size) < Tile.WidthMax
            ? TreeHash.ToTile(state.Edge[tile.Level])[..bytes].ToArray()
            : state.Source.FullTile(tile.Full)[..bytes];
    }

    /// <summary>The bytes of a bundle, put together from its entries.</summary>
    public static byte[] BundleOf(ILogSource source, Tile tile)
    {
        var bundle = new ArrayBufferWriter<byte>();
        var start = tile.Index * Tile.WidthMax;
        foreach (var leaf in source.Leaves(start, start + tile.Width))
            EntryBundle.Append(bundle, leaf.Span);
        return bundle.WrittenSpan.ToArray();
    }

    private static Entry Parse(LogState state, ReadOnlyMemory<byte> leaf, long index) =>
        Append.Entry.TryParse(leaf, out var entry) ? entry : throw new InvalidDataException($"Entry {index + 1} of {state.Source.Where} is of no known version.");
}
