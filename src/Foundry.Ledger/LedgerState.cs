using Foundry.Ledger.Storage;
using Foundry.Proofs;
using Foundry.ServiceDefaults;

namespace Foundry.Ledger;

/// <summary>The ledger's folder, held by this process alone: its key, and the shelf of logs.</summary>
internal sealed class LedgerState : IDisposable
{
    // A tenant may be called "lock"; none has a dot in its name.
    private const string LockFile = "ledger.lock";

    private readonly IDisposable _lock;
    private readonly NoteKey _key;

    private LedgerState(IDisposable held, NoteKey key, LogShelf shelf, string root) =>
        (_lock, _key, Shelf, Root) = (held, key, shelf, root);

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
            var key = LedgerKey.Open(folder);
            return new LedgerState(held, key, new LogShelf(options, time, logs, disk, key, folder.Path), folder.Path);
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
        _key.Dispose();
        _lock.Dispose();
    }
}
