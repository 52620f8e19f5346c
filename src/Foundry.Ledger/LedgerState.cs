using Foundry.Ledger.Keys;
using Foundry.Ledger.Storage;
using Foundry.ServiceDefaults;

namespace Foundry.Ledger;

/// <summary>The ledger's folder, held by this process alone: its keys, and the shelf of logs, which lie there or in a database.</summary>
internal sealed class LedgerState : IDisposable
{
    /// <summary>Held by the process. A tenant may be called "lock"; none has a dot in its name.</summary>
    public const string LockFile = "ledger.lock";

    private readonly IDisposable _lock;

    private LedgerState(IDisposable held, LedgerKeys keys, LogShelf shelf, ILogStore store) =>
        (_lock, Keys, Shelf, Store) = (held, keys, shelf, store);

    /// <summary>The keys that sign.</summary>
    public LedgerKeys Keys { get; }

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
                : new FileStore(disk, folder.Path, options.JournalBytesMax, options.IndexRowsInMemory, logs.CreateLogger<FileStore>());
            if (folder.Read(LedgerKeys.KeyFile) is null && store.Modules().Count > 0)
                throw new StateCorruptException(folder.File(LedgerKeys.KeyFile), "it is missing, and there are logs that are signed with it");
            var keys = LedgerKeys.Open(folder, time);
            return new LedgerState(held, keys, new LogShelf(options, time, logs, store, keys), store);
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
        Keys.Dispose();
        _lock.Dispose();
    }
}
