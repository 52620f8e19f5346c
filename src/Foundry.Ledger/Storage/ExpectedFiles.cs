using Foundry.Proofs;
using Foundry.ServiceDefaults;

namespace Foundry.Ledger.Storage;

/// <summary>
/// Which files of a log there must be, and how long, so that one that is deleted or cut under a running ledger is noticed before somebody
/// needs it. Kept while the log is closed as well.
/// </summary>
internal sealed class ExpectedFiles(LogFolder folder)
{
    private readonly List<long> _bundles = [];
    private long _size;
    private long _journal;
    private long _checkpoint;
    private long _partialBundle;
    private IReadOnlyList<(string Path, long Bytes)> _index = [];
    private long _looked;

    /// <summary>Held by whoever opens, publishes or closes the log: nothing else makes, replaces or removes files of it.</summary>
    public Lock Turn { get; } = new();

    /// <summary>Whether the log has been seen, so that there is something to expect.</summary>
    public bool IsKnown { get; private set; }

    /// <summary>Whether the log is open, and its index with it.</summary>
    public bool IsOpen { get; private set; }

    /// <summary>Whether its folder's names were made durable since this process began: what a killed one renamed last may be only in memory.</summary>
    public bool AreNamesDurable { get; set; }

    /// <summary>What is there was looked at and found right: it is what there must be from now on.</summary>
    public void Seen(long publishedSize, long journalBytes)
    {
        IsKnown = true;
        Journal(journalBytes);
        Published(publishedSize);
    }

    /// <summary>The log is open, and its index is as it should be.</summary>
    public void Opened(EntryIndex index)
    {
        IsOpen = true;
        Index(index);
    }

    /// <summary>The index has other files than before.</summary>
    public void Index(EntryIndex index) => _index = [.. index.Files];

    /// <summary>The log is closed; its files stay.</summary>
    public void Closed() => IsOpen = false;

    /// <summary>The index was thrown away, to be made anew.</summary>
    public void IndexDiscarded() => _index = [];

    /// <summary>The journal has so many bytes, or more a moment later. The one thing that changes without the turn.</summary>
    public void Journal(long bytes) => Volatile.Write(ref _journal, bytes);

    /// <summary>The files of the tile layout are those of so many entries.</summary>
    public void Published(long size)
    {
        for (var bundle = (long)_bundles.Count; bundle < size / Tile.WidthMax; bundle++)
            _bundles.Add(Required(folder.FileOf(new Tile(Tile.EntriesLevel, bundle, Tile.WidthMax))));
        _partialBundle = Tile.PartialsOf(size).Where(tile => tile.IsEntries).Select(tile => Required(folder.FileOf(tile))).FirstOrDefault();
        _checkpoint = Required(folder.Checkpoint);
        _size = size;
    }

    /// <summary>
    /// Looks at the files that change, and at so many of the full tiles and bundles, those after the last time's. Null where all is as
    /// it must be, or where somebody has the turn, which is another look's time.
    /// </summary>
    /// <param name="tilesMax">How many full tiles and bundles may be looked at; what is left of it.</param>
    public StateCorruptException? Loss(ref int tilesMax)
    {
        if (!Turn.TryEnter())
            return null;
        try
        {
            if (!IsKnown)
                return null;
            return Shorter(folder.Journal, Volatile.Read(ref _journal), "and entries were acknowledged in it")
                ?? Shorter(folder.Checkpoint, _checkpoint, "and it was published")
                ?? IndexLoss()
                ?? Tile.PartialsOf(_size).Select(PartialTileLoss).FirstOrDefault(loss => loss is not null)
                ?? FullTileLoss(ref tilesMax);
        }
        finally
        {
            Turn.Exit();
        }
    }

    private StateCorruptException? IndexLoss() => _index
        .Select(file => Shorter(file.Path, file.Bytes, "and searches need it; it is made again when the ledger starts again"))
        .FirstOrDefault(loss => loss is not null);

    private StateCorruptException? PartialTileLoss(Tile tile) =>
        Shorter(folder.FileOf(tile), tile.IsEntries ? _partialBundle : tile.Width * TreeHash.Length, $"and the checkpoint covers {_size} entries");

    private StateCorruptException? FullTileLoss(ref int tilesMax)
    {
        var all = FullTiles();
        for (var left = Math.Min(all, tilesMax); left > 0; left--, tilesMax--)
        {
            var at = _looked++ % all;
            var tile = FullTile(at);
            if (Shorter(folder.FileOf(tile), tile.IsEntries ? _bundles[(int)at] : Tile.BytesMax, $"and holds what entry {(tile.Index << (Tile.Height * (Math.Max(0, tile.Level) + 1))) + 1} needs") is { } loss)
                return loss;
        }
        return null;
    }

    private long FullTiles()
    {
        var all = (long)_bundles.Count;
        for (var level = 0; Tile.CountAt(level, _size) >= Tile.WidthMax; level++)
            all += Tile.CountAt(level, _size) / Tile.WidthMax;
        return all;
    }

    private Tile FullTile(long at)
    {
        if (at < _bundles.Count)
            return new Tile(Tile.EntriesLevel, at, Tile.WidthMax);
        at -= _bundles.Count;
        var level = 0;
        for (; at >= Tile.CountAt(level, _size) / Tile.WidthMax; level++)
            at -= Tile.CountAt(level, _size) / Tile.WidthMax;
        return new Tile(level, at, Tile.WidthMax);
    }

    private static StateCorruptException? Shorter(string path, long bytes, string reason) => LengthOf(path) switch
    {
        null when bytes > 0 => new StateCorruptException(path, $"it is gone, {reason}"),
        { } length when length < bytes => new StateCorruptException(path, $"it is {length} bytes, not the {bytes} that were written, {reason}"),
        _ => null,
    };

    private static long Required(string path) => LengthOf(path) ?? throw new StateCorruptException(path, "it is missing");

    private static long? LengthOf(string path) => new FileInfo(path) is { Exists: true } file ? file.Length : null;
}
