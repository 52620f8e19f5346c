using System.Collections.Concurrent;
using System.Text;
using Foundry.Ledger.Recovery;
using Foundry.Proofs;
using Foundry.ServiceDefaults;

namespace Foundry.Ledger.Storage;

/// <summary>The logs as folders in one folder, which this process alone holds.</summary>
internal sealed class FileStore(Disk disk, string root, int journalBytesMax, int indexRowsInMemory, ILogger log) : ILogStore
{
    /// <summary>Full tiles and bundles that one look for losses is about; those of 19 million entries. Of more, the next look goes on.</summary>
    private const int TilesLookedAtMax = 150_000;

    private readonly ConcurrentDictionary<ModuleId, ExpectedFiles> _expected = new();
    private readonly Lock _listing = new();
    private int _lookFrom;

    /// <inheritdoc/>
    /// <remarks>Also those whose folders are gone: what asks for such a log's files says so.</remarks>
    public IReadOnlyList<ModuleId> Modules() => [.. LogFolder.All(root).Select(folder => folder.Module).Union(LogFolder.Listed(root)).OrderBy(module => module.Name, StringComparer.Ordinal)];

    /// <inheritdoc/>
    public IStoredLog? Open(ModuleId module, LogVerifier verifier, Func<byte[]>? create)
    {
        var folder = new LogFolder(root, module);
        if (!folder.Exists && create is null && !_expected.ContainsKey(module))
            return null;
        var expected = Expected(folder);
        lock (expected.Turn)
        {
            if (!folder.Exists)
            {
                if (expected.IsKnown)
                    throw new StateCorruptException(folder.Path, "the folder of a log that was there is gone");
                if (create is null)
                    return null;
                Create(folder, create());
            }
            var recovered = LogRecovery.Open(disk, folder, verifier);
            try
            {
                return new LogFiles(disk, folder, recovered, expected, journalBytesMax, indexRowsInMemory, log);
            }
            catch
            {
                recovered.Dispose();
                throw;
            }
        }
    }

    /// <inheritdoc/>
    public VerifiedTail VerifyTail(ModuleId module, LogVerifier verifier, CancellationToken cancellation)
    {
        var folder = new LogFolder(root, module);
        return LogRecovery.VerifyTail(disk, folder, verifier, seen =>
        {
            lock (Expected(folder).Turn)
                Expected(folder).Seen(seen.PublishedSize, seen.Journal.Length);
        }, cancellation);
    }

    /// <inheritdoc/>
    public void Verify(ModuleId module, LogVerifier verifier, VerifiedTail tail, long entriesMax, CancellationToken cancellation)
    {
        var folder = new LogFolder(root, module);
        LogRecovery.VerifyPrefix(disk, folder, verifier, tail, entriesMax, cancellation);
        // The index with the last of the entries.
        if (entriesMax < tail.Size || EntryIndex.Damaged(folder, cancellation) is not [var one, ..] damaged)
            return;
        lock (Expected(folder).Turn)
        {
            foreach (var file in damaged)
                File.Delete(file);
            Expected(folder).IndexDiscarded();
            if (Expected(folder).IsOpen)
                throw new StateCorruptException(one, "rows of it were lost, and it is in use; it is made again when the ledger starts again");
        }
    }

    /// <inheritdoc/>
    public IEnumerable<(ModuleId Module, StateCorruptException Fault)> FindLosses(Func<ModuleId, LogVerifier> verifierOf, CancellationToken cancellation)
    {
        var tilesMax = TilesLookedAtMax;
        var all = _expected.ToArray();
        var from = _lookFrom;
        for (var i = 0; i < all.Length; i++)
        {
            var (module, expected) = all[(from + i) % all.Length];
            // So that a large log's tiles do not hide another's for ever.
            if (tilesMax > 0)
                _lookFrom = (from + i) % all.Length;
            if (expected.Loss(ref tilesMax) is { } fault)
                yield return (module, fault);
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
    }

    private ExpectedFiles Expected(LogFolder folder) => _expected.GetOrAdd(folder.Module, (_, of) => new ExpectedFiles(of), folder);

    // A log exists from the moment that its folder has its name, with everything in it that recovery asks for. It is put
    // together under another name, so that no crash leaves half a log and no existing one is ever created over.
    private void Create(LogFolder folder, byte[] checkpoint)
    {
        disk.CreateFolder(folder.Unfinished);
        disk.WriteFile(Path.Combine(folder.Unfinished, LogFolder.JournalName), JournalFile.Compose(0, null));
        disk.WriteFile(Path.Combine(folder.Unfinished, LogFolder.CheckpointName), checkpoint);
        disk.FlushFolder(folder.Unfinished);
        disk.Rename(folder.Unfinished, folder.Path);
        disk.FlushFolder(folder.Root);
        // Once it exists, so that a crash leaves no name without a log; one that was left out is listed with the next.
        lock (_listing)
        {
            disk.WriteFile(LogFolder.ListOf(root), Encoding.UTF8.GetBytes(string.Concat(Modules().Select(module => module.Name + "\n"))));
            disk.FlushFolder(root);
        }
    }
}
