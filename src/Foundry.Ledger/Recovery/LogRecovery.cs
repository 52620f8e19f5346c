using Foundry.Ledger.Storage;
using Foundry.Proofs;
using Foundry.ServiceDefaults;

namespace Foundry.Ledger.Recovery;

/// <summary>
/// Reads a log from its folder: the signed checkpoint, the tree as its files have it, and the journal behind that. Nothing is
/// written here. What was committed but not yet published comes back as it was, and goes on through the
/// <see cref="Append.Sequencer"/>'s own publishing; there is no second way to the same files.
/// </summary>
internal sealed class LogRecovery
{
    private readonly Disk _disk;
    private readonly LogFolder _folder;
    private readonly LogVerifier _verifier;
    private readonly bool _readsBundles;
    private readonly bool _comparesFiles;
    private readonly Dictionary<Tile, TreeHash[]> _unpublished = [];

    private TreeFrontier _tree = new();
    private Checkpoint _published = null!;
    private byte[] _publishedNote = [];
    private byte[] _note = [];
    private TreeHash _firstRoot;
    private bool _isMatched;

    // Of the bundle that was read last; the next one takes its place.
    private byte[] _read = [];

    // The bundle that the journal's entries are filling, to be compared with its file once the checkpoint covers it.
    private readonly List<ReadOnlyMemory<byte>> _bundle = [];

    private LogRecovery(Disk disk, LogFolder folder, LogVerifier verifier, bool readsBundles, bool comparesFiles)
    {
        _disk = disk;
        _folder = folder;
        _verifier = verifier;
        _readsBundles = readsBundles;
        _comparesFiles = comparesFiles;
    }

    /// <summary>
    /// Opens a log to be used. The right edge of the tree is taken from its tiles, the rest from the journal, and the root
    /// that results is compared with every checkpoint there is.
    /// </summary>
    /// <exception cref="StateCorruptException">A file is missing, damaged, or does not fit the signed checkpoint.</exception>
    public static RecoveredLog Open(Disk disk, LogFolder folder, LogVerifier verifier, CancellationToken cancellation = default) =>
        new LogRecovery(disk, folder, verifier, readsBundles: false, comparesFiles: false).Run(cancellation);

    /// <summary>Recomputes a log's whole tree from its entries and compares every file with it.</summary>
    /// <returns>Entries in the log.</returns>
    /// <exception cref="StateCorruptException">A file is missing, damaged, or does not fit the signed checkpoint.</exception>
    public static long Verify(Disk disk, LogFolder folder, LogVerifier verifier, CancellationToken cancellation)
    {
        using var log = new LogRecovery(disk, folder, verifier, readsBundles: true, comparesFiles: true).Run(cancellation);
        return log.Tree.Size;
    }

    /// <summary>
    /// Compares a log's journal, the edge of its tree, and every file over entries in the journal with its signed checkpoint, and
    /// tells <paramref name="seen"/> what is there if it fits.
    /// </summary>
    /// <exception cref="StateCorruptException">A file is missing, damaged, or does not fit the signed checkpoint.</exception>
    public static VerifiedTail VerifyTail(Disk disk, LogFolder folder, LogVerifier verifier, Action<RecoveredLog> seen, CancellationToken cancellation)
    {
        var recovery = new LogRecovery(disk, folder, verifier, readsBundles: false, comparesFiles: true);
        try
        {
            using var log = recovery.Run(cancellation);
            seen(log);
            return new VerifiedTail(log.Tree.Size, log.Journal.First, recovery._firstRoot);
        }
        catch (StateCorruptException)
        {
            // A wrong root says that something is damaged; only the entries say what.
            Verify(disk, folder, verifier, cancellation);
            throw;
        }
    }

    /// <summary>
    /// Recomputes the full bundles of a log whose tail is known to fit, or the first of them. Looks only at files that are
    /// never written again, so it may run while the log is appended to.
    /// </summary>
    /// <exception cref="StateCorruptException">A file is missing, damaged, or does not fit the root.</exception>
    public static void VerifyPrefix(Disk disk, LogFolder folder, LogVerifier verifier, VerifiedTail tail, long entriesMax, CancellationToken cancellation)
    {
        var end = Math.Min(tail.First, entriesMax / Tile.WidthMax * Tile.WidthMax);
        var recovery = new LogRecovery(disk, folder, verifier, readsBundles: true, comparesFiles: true)
        {
            _published = new Checkpoint(verifier.Name, end, tail.FirstRoot),
        };
        recovery.Recompute(end, cancellation);
        if (end == tail.First && recovery._tree.Root != tail.FirstRoot)
            throw new StateCorruptException(folder.Path, $"the root of its first {end} entries is not the one that its checkpoint signs");
    }

    private RecoveredLog Run(CancellationToken cancellation)
    {
        ReadCheckpoint();
        var journal = JournalFile.Open(_disk, _folder.Journal, opened => Start(opened.First, cancellation), frame => Replay(frame, cancellation));
        try
        {
            if (!_isMatched)
                throw new StateCorruptException(_folder.Journal, $"it ends at entry {_tree.Size}, but the checkpoint covers {_published.Size}");
            if (!Checkpoint.TryOpen(_note, _verifier, out _))
                throw new StateCorruptException(_folder.Journal, $"the checkpoint of its last frame, which ends at entry {_tree.Size}, is not signed by this ledger's key");
            // The index is written after the commit. Entries that it has seen were in the journal, and they were acknowledged.
            if (EntryIndex.SizeOf(_folder) is var indexed && indexed > _tree.Size)
                throw new StateCorruptException(_folder.Journal, $"it ends at entry {_tree.Size}, but {_folder.IndexSeen} knows {indexed}: something was cut off");
            return new RecoveredLog(_tree, journal, _published.Size, _note, _unpublished);
        }
        catch
        {
            journal.Dispose();
            throw;
        }
    }

    private void ReadCheckpoint()
    {
        try
        {
            _publishedNote = File.ReadAllBytes(_folder.Checkpoint);
        }
        catch (Exception fault) when (fault is FileNotFoundException or DirectoryNotFoundException)
        {
            throw new StateCorruptException(_folder.Checkpoint, "the checkpoint of a log that exists is missing", fault);
        }
        if (!Checkpoint.TryOpen(_publishedNote, _verifier, out var published))
            throw new StateCorruptException(_folder.Checkpoint, $"it is not a checkpoint of {_verifier.Name} signed by this ledger's key");
        _published = published;
        _note = _publishedNote;
    }

    // Everything in front of the journal is in full bundles and full tiles.
    private void Start(long first, CancellationToken cancellation)
    {
        if (first > _published.Size)
            throw new StateCorruptException(_folder.Journal, $"it begins at entry {first}, behind the {_published.Size} that the checkpoint covers");
        if (_readsBundles)
            Recompute(first, cancellation);
        else
            _tree = TreeFrontier.FromTiles(first, tile => ReadPublished(tile)[..tile.Width], Completed);
        _firstRoot = _tree.Root;
        CompareWithCheckpoint();
    }

    private void Recompute(long end, CancellationToken cancellation)
    {
        _tree = new TreeFrontier(Completed);
        for (var bundle = 0L; bundle < end / Tile.WidthMax; bundle++)
        {
            cancellation.ThrowIfCancellationRequested();
            foreach (var leaf in ReadBundle(new Tile(Tile.EntriesLevel, bundle, Tile.WidthMax)))
                _tree.Append(TreeHash.OfLeaf(leaf.Span));
        }
    }

    private void Replay(JournalFrame frame, CancellationToken cancellation)
    {
        cancellation.ThrowIfCancellationRequested();
        foreach (var leaf in frame.Leaves)
        {
            _bundle.Add(leaf);
            _tree.Append(TreeHash.OfLeaf(leaf.Span));
            if (_bundle.Count == Tile.WidthMax)
            {
                CompareBundle(new Tile(Tile.EntriesLevel, (_tree.Size - 1) / Tile.WidthMax, Tile.WidthMax));
                _bundle.Clear();
            }
        }
        if (!SignedNote.TryParse(frame.Note, out var note) || !Checkpoint.TryParse(note.Text, out var checkpoint)
            || checkpoint.Size != _tree.Size || checkpoint.Root != _tree.Root)
            throw new StateCorruptException(_folder.Journal, $"the root after entry {_tree.Size} is not the one in its checkpoint there");
        _note = frame.Note;
        CompareWithCheckpoint();
    }

    private void CompareWithCheckpoint()
    {
        if (_tree.Size != _published.Size || _isMatched)
            return;
        if (_tree.Root != _published.Root)
            throw new StateCorruptException(_folder.Checkpoint, $"the root of the {_published.Size} entries is {_tree.Root}, not the {_published.Root} that it signs");
        _isMatched = true;
        if (!_comparesFiles)
            return;
        var edge = _tree.Edge();
        foreach (var tile in Tile.PartialsOf(_published.Size))
        {
            if (tile.IsEntries)
                CompareBundle(tile);
            else
                Compare(tile, edge[tile.Level]);
        }
    }

    private void Completed(Tile tile, ReadOnlySpan<TreeHash> hashes)
    {
        if (Tile.WidthAt(tile.Level, tile.Index, _published.Size) < Tile.WidthMax)
            _unpublished[tile] = hashes.ToArray();
        else if (_comparesFiles)
            Compare(tile, hashes);
    }

    // Of a tile that differs from what the entries give, the tile above says which of the two is damaged.
    private void Compare(Tile tile, ReadOnlySpan<TreeHash> computed)
    {
        var stored = ReadTile(tile);
        if (computed.SequenceEqual(stored))
            return;
        var at = 0;
        while (stored[at] == computed[at])
            at++;
        var entry = ((tile.Index * Tile.WidthMax + at) << (Tile.Height * tile.Level)) + 1;
        if (!tile.IsPartial && tile.Level == 0 && (entry - 1) < _published.Size)
        {
            var above = new Tile(1, tile.Index / Tile.WidthMax, Tile.WidthAt(1, tile.Index / Tile.WidthMax, _published.Size));
            if (File.Exists(_folder.FileOf(above)) && ReadTile(above)[(int)(tile.Index % Tile.WidthMax)] == RootOf(stored))
                throw new StateCorruptException(_folder.FileOf(new Tile(Tile.EntriesLevel, tile.Index, Tile.WidthMax)), $"entry {entry} is not the one that the tree was made of");
        }
        throw new StateCorruptException(_folder.FileOf(tile), $"its hash {at}, which covers entry {entry}, is not that of the entries");
    }

    private void CompareBundle(Tile tile)
    {
        if (!_comparesFiles || Tile.WidthAt(Tile.EntriesLevel, tile.Index, _published.Size) < tile.Width)
            return;
        var stored = ReadBundle(tile);
        for (var i = 0; i < stored.Length; i++)
        {
            if (!stored[i].Span.SequenceEqual(_bundle[i].Span))
                throw new StateCorruptException(_folder.FileOf(tile), $"entry {tile.Index * Tile.WidthMax + i + 1} is not the one in the journal");
        }
    }

    /// <summary>The entries of a bundle, until the next is read.</summary>
    private ReadOnlyMemory<byte>[] ReadBundle(Tile tile) =>
        EntryBundle.TryRead(ReadFile(tile), tile.Width, out var entries)
            ? entries
            : throw new StateCorruptException(_folder.FileOf(tile), $"it is not a bundle of {tile.Width} entries; it holds entry {tile.Index * Tile.WidthMax + 1}");

    private TreeHash[] ReadTile(Tile tile)
    {
        var bytes = ReadFile(tile).Span;
        if (bytes.Length != tile.Width * TreeHash.Length)
            throw new StateCorruptException(_folder.FileOf(tile), $"it is {bytes.Length} bytes, not the {tile.Width * TreeHash.Length} of {tile.Width} hashes");
        return TreeHash.FromTile(bytes).ToArray();
    }

    // The file may be wider than an older tree's tile: it is as wide as the published checkpoint needs.
    private TreeHash[] ReadPublished(Tile tile) =>
        ReadTile(tile with { Width = Tile.WidthAt(tile.Level, tile.Index, _published.Size) });

    private ReadOnlyMemory<byte> ReadFile(Tile tile)
    {
        var path = _folder.FileOf(tile);
        try
        {
            if (!tile.IsEntries)
                return File.ReadAllBytes(path);
            using var file = File.OpenHandle(path);
            var length = RandomAccess.GetLength(file);
            if (length > EntryBundle.BytesMax)
                throw new StateCorruptException(path, $"it is {length} bytes, more than a bundle can have");
            if (_read.Length < length)
                _read = new byte[length];
            return Disk.TryReadAll(file, _read.AsSpan(0, (int)length), 0) ? _read.AsMemory(0, (int)length) : throw new StateCorruptException(path, "it was cut while it was read");
        }
        catch (Exception fault) when (fault is FileNotFoundException or DirectoryNotFoundException)
        {
            throw new StateCorruptException(path, $"it is missing, but the checkpoint covers {_published.Size} entries", fault);
        }
    }

    /// <summary>The hash that stands for a full tile one level up.</summary>
    public static TreeHash RootOf(TreeHash[] hashes)
    {
        var tree = new TreeFrontier();
        foreach (var hash in hashes)
            tree.Append(hash);
        return tree.Root;
    }
}

/// <summary>A log as its files have it, not yet in anyone's hands.</summary>
/// <param name="Tree">The right edge of the tree over everything committed.</param>
/// <param name="Journal">Open for appending.</param>
/// <param name="PublishedSize">Entries that the published checkpoint covers.</param>
/// <param name="Note">The latest signed checkpoint: it covers everything committed.</param>
/// <param name="Unpublished">Full tiles that are not files yet.</param>
internal sealed record RecoveredLog(TreeFrontier Tree, JournalFile Journal, long PublishedSize, byte[] Note, Dictionary<Tile, TreeHash[]> Unpublished) : IDisposable
{
    /// <inheritdoc/>
    public void Dispose() => Journal.Dispose();
}
