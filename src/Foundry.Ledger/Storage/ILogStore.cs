using Foundry.Ledger.Append;
using Foundry.Ledger.Recovery;
using Foundry.Proofs;
using Foundry.ServiceDefaults;

namespace Foundry.Ledger.Storage;

/// <summary>Where a deployment's logs are kept: in a folder (<see cref="FileStore"/>) or in PostgreSQL (<see cref="PostgresStore"/>).</summary>
internal interface ILogStore : IDisposable
{
    /// <summary>Every log there is, by name.</summary>
    IReadOnlyList<ModuleId> Modules();

    /// <summary>
    /// Opens a log, once at a time in this process, and finishes what its last owner left unfinished. Null where there is none
    /// and <paramref name="create"/>, which gives the checkpoint of an empty one, is null too. A log is never made over one that exists.
    /// </summary>
    /// <exception cref="StateCorruptException">Something of it is missing, damaged, or does not fit its signed checkpoint.</exception>
    IStoredLog? Open(ModuleId module, LogVerifier verifier, Func<byte[]>? create);

    /// <summary>Compares a log's newest entries and the edge of its tree with its signed checkpoint. Writes nothing.</summary>
    /// <exception cref="StateCorruptException">Something is missing, damaged, or does not fit.</exception>
    VerifiedTail VerifyTail(ModuleId module, LogVerifier verifier, CancellationToken cancellation);

    /// <summary>Recomputes the tree of a log from its first entries, at most so many, and compares with it what is kept. May run while the log is appended to.</summary>
    /// <exception cref="StateCorruptException">Something is missing, damaged, or does not fit.</exception>
    void Verify(ModuleId module, LogVerifier verifier, VerifiedTail tail, long entriesMax, CancellationToken cancellation);

    /// <summary>Looks whether what was stored of the logs that this process knows is still there; cheap enough to be done every few seconds.</summary>
    /// <param name="verifierOf">The keys that a log's checkpoints may be signed with.</param>
    /// <param name="cancellation">Ends it.</param>
    /// <returns>Each log of which something is gone, and what.</returns>
    IEnumerable<(ModuleId Module, StateCorruptException Fault)> FindLosses(Func<ModuleId, LogVerifier> verifierOf, CancellationToken cancellation);
}

/// <summary>One log in its store, in the hands of one sequencer.</summary>
internal interface IStoredLog : ILogSource, IDisposable
{
    /// <summary>The log as it was when it was opened.</summary>
    LogHead Opened { get; }

    /// <summary>
    /// Whether other processes may commit to it as well. If so its newest state is asked for and not remembered, and asking
    /// also settles what became of a commit that failed; if not, a failed write is final until the ledger starts again.
    /// </summary>
    bool IsShared { get; }

    /// <summary>Whether everything committed is published; a store in which a commit publishes always says so.</summary>
    bool IsPublished { get; }

    /// <summary>
    /// Makes one commit, all of it or nothing. <paramref name="prepare"/> is given the log as it is now, which nobody can change until
    /// the commit is over, and adds the entries to the head's tree; null says that there is nothing to commit. What this returns
    /// is durable and found by searches; when it throws, whether the commit is durable is not known, and the head is spoilt.
    /// </summary>
    /// <param name="known">The head that the last commit returned; null where that is not known any more.</param>
    /// <param name="prepare">Called once.</param>
    LogHead Commit(LogHead? known, Func<LogHead, LogCommit?> prepare);

    /// <summary>The log's newest state, or null where it is the known one.</summary>
    LogState? Newer(LogState known);

    /// <summary>For each of some payload IDs' terms the cursors of entries that may have it. Called by <c>prepare</c>, of the log as that was given it.</summary>
    IReadOnlyDictionary<long, List<long>> Find(IReadOnlyCollection<long> terms);

    /// <summary>The index, for one search. It never waits for an append.</summary>
    ITermLists OpenTerms();

    /// <summary>Brings the files of the tile layout up to what is committed. Appends go on meanwhile.</summary>
    void Publish();
}

/// <summary>Of each term (<see cref="EntryTerms.OfField"/>) the entries that may have it.</summary>
internal interface ITermLists : IDisposable
{
    /// <summary>The first cursors of a term, in order, from one on.</summary>
    List<long> Cursors(long term, long from, int limit);
}

/// <summary>What one commit adds to a log.</summary>
/// <param name="Entries">The entries.</param>
/// <param name="Terms">What each is found by (<see cref="EntryTerms.Of"/>).</param>
/// <param name="Leaves">Their bytes.</param>
/// <param name="Note">The signed checkpoint that covers them.</param>
/// <param name="Completed">The tiles that they filled.</param>
internal sealed record LogCommit(IReadOnlyList<Entry> Entries, IReadOnlyList<long[]> Terms, IReadOnlyList<ReadOnlyMemory<byte>> Leaves, byte[] Note, IReadOnlyDictionary<Tile, TreeHash[]> Completed);

/// <summary>A log as of its last commit, and what the next one goes on from.</summary>
/// <param name="State">What readers are shown.</param>
/// <param name="Tree">The right edge of its tree; in one owner's hands.</param>
internal sealed record LogHead(LogState State, TreeFrontier Tree);
