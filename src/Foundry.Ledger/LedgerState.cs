using Foundry.Ledger.Storage;
using Foundry.Proofs;
using Foundry.ServiceDefaults;

namespace Foundry.Ledger;

/// <summary>The ledger's folder, held by this process alone: its key, and the shelf of logs, which lie there or in a database.</summary>
internal sealed class LedgerState : IDisposable
{
    // A tenant may be called "lock"; none has a dot in its name.
    private const string LockFile = "ledger.lock";

    private readonly IDisposable _lock;
    private readonly NoteKey _key;

    private LedgerState(IDisposable held, NoteKey key, LogShelf shelf, ILogStore store) =>
        (_lock, _key, Shelf, Store) = (held, key, shelf, store);

    /// <summary>The open logs.</summary>
    public LogShelf Shelf { get; }

    /// <summary>Where the logs are kept.</summary>
    public ILogStore Store { get; }

    /// <summary>Takes the folder.</summary>
    /// <exception cref="StartupException">Another process holds it, or its key is damaged.</exception>
    public static LedgerState Open(LedgerOptions options, StateFolder folder, TimeProvider time, ILoggerFactory logs, Disk disk)
    {
        var held = folder.Lock(LockFile);
        ILogStore? store = null;
        try
        {
            store = options.Database is { Length: > 0 } database
                ? PostgresStore.Open(database)
                : new FileStore(disk, folder.Path, options.JournalBytesMax, logs.CreateLogger<FileStore>());
            if (folder.Read(LedgerKey.KeyFile) is null && store.Modules().Count > 0)
                throw new StateCorruptException(folder.File(LedgerKey.KeyFile), "it is missing, and there are logs that are signed with it");
            var key = LedgerKey.Open(folder);
            return new LedgerState(held, key, new LogShelf(options, time, logs, store, key), store);
        }
        catch
        {
            store?.Dispose();
            held.Dispose();
            throw;
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        Shelf.Dispose();
        Store.Dispose();
        _key.Dispose();
        _lock.Dispose();
    }
}
