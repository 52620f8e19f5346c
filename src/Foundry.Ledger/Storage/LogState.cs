using Foundry.Proofs;

namespace Foundry.Ledger.Storage;

/// <summary>
/// A log as of one commit: what readers are served from. Immutable, and only ever of what is durable; the sequencer replaces
/// it whole.
/// </summary>
/// <param name="Size">Entries committed.</param>
/// <param name="Note">The signed checkpoint over them.</param>
/// <param name="Edge">Hashes of each level's partial tile.</param>
/// <param name="Source">Where its entries and full tiles are read.</param>
internal sealed record LogState(long Size, byte[] Note, TreeHash[][] Edge, ILogSource Source);

/// <summary>Where a log's entries and full tiles are read. What is in it never changes; a log only grows.</summary>
internal interface ILogSource
{
    /// <summary>The log's name and place, for messages.</summary>
    string Where { get; }

    /// <summary>The bytes of the entries from one index to another.</summary>
    /// <exception cref="InvalidDataException">What is kept cannot be read.</exception>
    IEnumerable<ReadOnlyMemory<byte>> Leaves(long start, long end);

    /// <summary>The bytes of a full hash tile.</summary>
    byte[] FullTile(Tile tile);
}
