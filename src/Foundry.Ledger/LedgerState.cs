using Foundry.Ledger.Keys;
using Foundry.Ledger.Storage;
using Foundry.ServiceDefaults;

namespace Foundry.Ledger;

/// <summary>The ledger's folder, held by this process alone: its keys, and the shelf of logs.</summary>
internal sealed class LedgerState : IDisposable
{
    /// <summary>Held by the process. A tenant may be called "lock"; none has a dot in its name.</summary>
    public const string LockFile = "ledger.lock";

    private readonly IDisposable _lock;

    private LedgerState(IDisposable held, LedgerKeys keys, LogShelf shelf, string root) =>
        (_lock, Keys, Shelf, Root) = (held, keys, shelf, root);

    /// <summary>The keys that sign.</summary>
    public LedgerKeys Keys { get; }

    /// <summary>The open logs.</summary>
    public LogShelf Shelf { get; }

    /// <summary>The folder of all logs.</summary>
    public string Root { get; }

    /// <summary>Takes the folder.</summary>
    /// <exception cref="StartupException">Another process holds it, or its key is damaged.</exception>
    public static LedgerState Open(LedgerOptions options, StateFolder folder, TimeProvider time, ILoggerFactory logs, Disk disk)
    {
        var held = folder.Lock(LockFile);
        try
        {
            var keys = LedgerKeys.Open(folder, time);
            return new LedgerState(held, keys, new LogShelf(options, time, logs, disk, keys, folder.Path), folder.Path);
        }
        catch
        {
            held.Dispose();
            throw;
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        Shelf.Dispose();
        Keys.Dispose();
        _lock.Dispose();
    }
}
