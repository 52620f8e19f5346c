// A log checked against its signed checkpoint by its entries and tiles alone (c2sp.org/tlog-tiles, RFC 6962 section 2.1).

using System.Runtime.CompilerServices;

namespace Foundry.Proofs;

/// <summary>What is wrong with a log.</summary>
/// <param name="What">What it is, in a sentence's words.</param>
/// <param name="GoodSize">Entries, from the first on, that are proved to be the ones that were signed. All of them where only tiles are damaged.</param>
/// <param name="IsCertain">Whether entry <paramref name="GoodSize"/> + 1 is proved to be another than was signed; else it is the first that nothing is proved of.</param>
public sealed record LogFault(string What, long GoodSize, bool IsCertain);

/// <summary>
/// Checks that a log is what its checkpoint says: every entry hashes into the signed root, and the tiles are those of the
/// entries. Where that fails it finds the first bad entry, as far as the tiles still lead to the root.
/// </summary>
/// <param name="signed">The checkpoint; its signature has been checked.</param>
/// <param name="fetch">
/// Gives tiles and bundles, also narrower ones than the log has now. It throws <see cref="InvalidDataException"/> for one that is
/// not there; what else it throws ends the check.
/// </param>
public sealed class LogCheck(Checkpoint signed, TileFetch fetch)
{
    private readonly TreeReader _tiles = new(signed.Size, fetch);

    /// <summary>An earlier checkpoint that this log must continue; its signature has been checked.</summary>
    public Checkpoint? Earlier { get; init; }

    /// <summary>
    /// Whether to take what <see cref="Earlier"/> covers as checked, and to begin behind it. The consistency of the two is
    /// proved all the same: the tree is grown from the earlier root to the later one.
    /// </summary>
    public bool BeginsBehindEarlier { get; init; }

    /// <summary>Whether the hash tiles are compared too. They are read in any case where the entries do not have the signed root, to say which one is to blame.</summary>
    public bool IncludesTiles { get; init; } = true;

    /// <summary>Bundles asked for at once while the entries are read in order: where each is a journey, the journeys are made side by side.</summary>
    public int ReadAhead { get; init; } = 1;

    /// <summary>Told of the entries checked so far, a bundle at a time.</summary>
    public Action<long>? Progress { get; init; }

    /// <summary>Checks; null is what one hopes for.</summary>
    public async Task<LogFault?> RunAsync(CancellationToken cancellation = default)
    {
        if (Earlier is { } earlier && earlier.Size > signed.Size)
            return new LogFault($"the log has {signed.Size} entries, and had {earlier.Size} when the earlier checkpoint was signed", 0, IsCertain: false);
        var rows = new List<(Tile Tile, TreeHash[] Hashes)>();
        if (await BeginAsync((tile, hashes) => rows.Add((tile, hashes.ToArray())), cancellation) is not { } tree)
            return new LogFault("the tiles do not have the root of the earlier checkpoint", 0, IsCertain: false);

        // Do the entries have the signed root, and are the tiles what the entries hash to?
        string? damaged = null;
        await foreach (var (bundle, leaves, isWhole) in BundlesAsync(tree.Size, cancellation))
        {
            if (leaves.Count < bundle.Width)
                return await LocateAsync($"{bundle.Path} is missing, or ends within an entry", cancellation);
            if (!isWhole)
                damaged ??= $"{bundle.Path} goes on behind its last entry";
            for (var i = (int)(tree.Size % Tile.WidthMax); i < bundle.Width; i++)
            {
                tree.Append(leaves[i]);
                if (Earlier is { } known && tree.Size == known.Size && tree.Root != known.Root)
                    return await BreakAsync(known, cancellation);
            }
            foreach (var (tile, hashes) in rows)
                damaged ??= await DifferenceAsync(tile, hashes, cancellation);
            rows.Clear();
            Progress?.Invoke(tree.Size);
        }
        var edge = tree.Edge();
        foreach (var tile in Tile.PartialsOf(signed.Size).Where(tile => !tile.IsEntries))
            damaged ??= await DifferenceAsync(tile, edge[tile.Level], cancellation);
        if (tree.Root != signed.Root)
            return await LocateAsync("the entries do not have the signed root", cancellation);
        return damaged is null ? null : new LogFault($"{damaged}; the entries are as signed", signed.Size, IsCertain: false);
    }

    /// <summary>The entries are not those of the earlier checkpoint: are they at least those of the later one? Then both were signed, and which is true nothing here can say.</summary>
    private async Task<LogFault> BreakAsync(Checkpoint earlier, CancellationToken cancellation)
    {
        var what = $"the first {earlier.Size} entries are not those of the earlier checkpoint";
        var fault = await LocateAsync(what, cancellation);
        return fault.GoodSize < earlier.Size ? fault : new LogFault($"{what}: the log was rewritten", 0, IsCertain: false);
    }

    /// <summary>
    /// How far can it be proved that the entries are the signed ones? Each prefix is held against the signed root with a
    /// consistency proof from the tiles. They may be damaged too, but what they prove is proved.
    /// </summary>
    private async Task<LogFault> LocateAsync(string what, CancellationToken cancellation)
    {
        if (await BeginAsync(null, cancellation) is not { } tree)
            return new LogFault(what, 0, IsCertain: false);
        var good = tree.Size;
        while (tree.Size < signed.Size)
        {
            var bundle = BundleAt(tree.Size);
            var start = bundle.Index * Tile.WidthMax;
            var (leaves, _) = await LeavesAsync(bundle, cancellation);
            var signedLeaves = await RowAsync(bundle with { Level = 0 }, cancellation);
            for (var i = (int)(tree.Size - start); i < bundle.Width; i++)
            {
                if (signedLeaves is not null && (i == leaves.Count || leaves[i] != signedLeaves[i])
                    && await IsPrefixAsync(tree, cancellation) && await IsSignedAsync(tree.Size, signedLeaves[i], cancellation))
                    return new LogFault(i == leaves.Count ? $"entry {tree.Size + 1} is missing or cannot be read" : $"entry {tree.Size + 1} is not the one that was signed", tree.Size, IsCertain: true);
                if (i == leaves.Count)
                    return new LogFault(what, good, IsCertain: false);
                tree.Append(leaves[i]);
            }
            if (!await IsPrefixAsync(tree, cancellation))
                return new LogFault(what, good, IsCertain: false);
            good = tree.Size;
        }
        return new LogFault(what, good, IsCertain: false);
    }

    private async Task<bool> IsPrefixAsync(TreeFrontier tree, CancellationToken cancellation)
    {
        try
        {
            return TreeProof.VerifyConsistency(tree.Size, tree.Root, signed.Size, signed.Root, await TreeProof.ConsistencyAsync(_tiles, tree.Size, cancellation));
        }
        catch (InvalidDataException)
        {
            return false;
        }
    }

    private async Task<bool> IsSignedAsync(long index, TreeHash leaf, CancellationToken cancellation)
    {
        try
        {
            return TreeProof.VerifyInclusion(leaf, index, signed.Size, signed.Root, await TreeProof.InclusionAsync(_tiles, index, cancellation));
        }
        catch (InvalidDataException)
        {
            return false;
        }
    }

    /// <summary>The tree to begin with; null where the tiles do not have the earlier checkpoint's root.</summary>
    private async Task<TreeFrontier?> BeginAsync(TileCompleted? completed, CancellationToken cancellation)
    {
        if (!BeginsBehindEarlier || Earlier is not { } earlier)
            return new TreeFrontier(completed);
        var rows = new Dictionary<Tile, TreeHash[]>();
        foreach (var tile in Tile.PartialsOf(earlier.Size).Where(tile => !tile.IsEntries))
        {
            if (await RowAsync(tile, cancellation) is not { } row)
                return null;
            rows[tile] = row;
        }
        var tree = TreeFrontier.FromTiles(earlier.Size, tile => rows[tile], completed);
        return tree.Root == earlier.Root ? tree : null;
    }

    private async Task<string?> DifferenceAsync(Tile tile, TreeHash[] right, CancellationToken cancellation)
    {
        if (!IncludesTiles)
            return null;
        if (await RowAsync(tile, cancellation) is not { } found)
            return $"{tile.Path} is missing, or has another length";
        var at = found.AsSpan().CommonPrefixLength(right);
        return at == right.Length ? null : $"hash {at} of {tile.Path} is not what the entries hash to";
    }

    private Tile BundleAt(long cursor) =>
        new(Tile.EntriesLevel, cursor / Tile.WidthMax, Tile.WidthAt(Tile.EntriesLevel, cursor / Tile.WidthMax, signed.Size));

    /// <summary>Every bundle from an entry on, in order; the next ones are asked for meanwhile.</summary>
    private async IAsyncEnumerable<(Tile Bundle, List<TreeHash> Leaves, bool IsWhole)> BundlesAsync(long from, [EnumeratorCancellation] CancellationToken cancellation)
    {
        using var ending = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        var asked = new Queue<(Tile Bundle, Task<(List<TreeHash> Leaves, bool IsWhole)> Leaves)>();
        try
        {
            while (from < signed.Size || asked.Count > 0)
            {
                for (; from < signed.Size && asked.Count < ReadAhead; from = (from / Tile.WidthMax + 1) * Tile.WidthMax)
                    asked.Enqueue((BundleAt(from), LeavesAsync(BundleAt(from), ending.Token)));
                var (bundle, reading) = asked.Peek();
                var (leaves, isWhole) = await reading;
                asked.Dequeue();
                yield return (bundle, leaves, isWhole);
            }
        }
        finally
        {
            // Nobody waits for the rest; what it says is nobody's concern, but it is over when this is.
            await ending.CancelAsync();
            await Task.WhenAll(asked.Select(rest => rest.Leaves)).ContinueWith(all => all.Exception, CancellationToken.None, TaskContinuationOptions.ExecuteSynchronously, TaskScheduler.Default);
        }
    }

    private async Task<(List<TreeHash> Leaves, bool IsWhole)> LeavesAsync(Tile bundle, CancellationToken cancellation)
    {
        var leaves = new List<TreeHash>(bundle.Width);
        try
        {
            var rest = await fetch(bundle, cancellation);
            while (leaves.Count < bundle.Width && EntryBundle.TryNext(ref rest, out var entry))
                leaves.Add(TreeHash.OfLeaf(entry.Span));
            return (leaves, rest.IsEmpty);
        }
        catch (InvalidDataException)
        {
            return (leaves, false);
        }
    }

    private async Task<TreeHash[]?> RowAsync(Tile tile, CancellationToken cancellation)
    {
        try
        {
            var bytes = await fetch(tile, cancellation);
            return bytes.Length == tile.Width * TreeHash.Length ? TreeHash.FromTile(bytes.Span).ToArray() : null;
        }
        catch (InvalidDataException)
        {
            return null;
        }
    }
}
