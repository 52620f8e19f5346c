using System.Collections.Immutable;
using Foundry.Proofs;

namespace Foundry.Ledger.Storage;

/// <summary>
/// A log as of one commit: what readers are served from. Immutable, and only ever of what is durable; the sequencer replaces
/// it whole.
/// </summary>
/// <param name="Size">Entries committed.</param>
/// <param name="Note">The signed checkpoint over them.</param>
/// <param name="Edge">Hashes of each level's partial tile.</param>
/// <param name="Unpublished">Full tiles that are not files yet.</param>
/// <param name="Journal">Where the entries from its first on are read; those before it are in full bundles.</param>
internal sealed record LogState(long Size, byte[] Note, TreeHash[][] Edge, ImmutableDictionary<Tile, TreeHash[]> Unpublished, JournalFile Journal);
