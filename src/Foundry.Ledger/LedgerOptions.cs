namespace Foundry.Ledger;

/// <summary>The <c>Ledger</c> section of the settings. Where it listens and keeps its state is read by the host (<c>Listen</c>, <c>Data</c>).</summary>
internal sealed class LedgerOptions
{
    /// <summary>What stands in <see cref="Origin"/> for the log's name.</summary>
    public const string ModulePlaceholder = "<module_id>";

    /// <summary>The origin of each log's checkpoints, a URL without a scheme. Fixed once a log exists: its signatures are under that name.</summary>
    public string Origin { get; set; } = $"foundry.local/{ModulePlaceholder}";

    /// <summary>Logs held open at once; beyond it the one used longest ago is closed.</summary>
    public int OpenLogsMax { get; set; } = 256;

    /// <summary>Threads that write and flush; as many logs can wait for the disk at once.</summary>
    public int DiskThreads { get; set; } = 8;

    /// <summary>Appends that may wait in one log; more are refused at once.</summary>
    public int QueueLengthMax { get; set; } = 8192;

    /// <summary>Entries in one commit.</summary>
    public int BatchEntriesMax { get; set; } = 1024;

    /// <summary>Bytes of entries in one commit, but for the last that went in.</summary>
    public int BatchBytesMax { get; set; } = 4 * 1024 * 1024;

    /// <summary>How long a committed entry may wait until the files of the tile layout show it. What is served over HTTP shows it at once.</summary>
    public TimeSpan PublishInterval { get; set; } = TimeSpan.FromSeconds(1);

    /// <summary>Journal size above which publishing starts a new journal.</summary>
    public int JournalBytesMax { get; set; } = 1024 * 1024;

    /// <summary>Entries recomputed before the ledger is ready; the rest is recomputed while it serves.</summary>
    public long EntriesVerifiedBeforeReady { get; set; } = 1_000_000;

    /// <summary>The origin of one log.</summary>
    public string OriginOf(ModuleId module) => Origin.Replace(ModulePlaceholder, module.Name, StringComparison.Ordinal);

    /// <summary>What is wrong with the settings, all at once.</summary>
    public IEnumerable<string> Errors()
    {
        if (!Origin.Contains(ModulePlaceholder, StringComparison.Ordinal) || Origin.Any(c => c is '+' or < '!' or > '~'))
            yield return $"Ledger:Origin is '{Origin}', but should be a URL without a scheme that has {ModulePlaceholder} in it, such as ledger.example/{ModulePlaceholder}.";
        foreach (var (name, value, least) in new (string, long, long)[]
        {
            (nameof(OpenLogsMax), OpenLogsMax, 1), (nameof(DiskThreads), DiskThreads, 1), (nameof(QueueLengthMax), QueueLengthMax, 1),
            (nameof(BatchEntriesMax), BatchEntriesMax, 1), (nameof(BatchBytesMax), BatchBytesMax, 1), (nameof(JournalBytesMax), JournalBytesMax, 1),
            (nameof(EntriesVerifiedBeforeReady), EntriesVerifiedBeforeReady, 0), (nameof(PublishInterval), PublishInterval.Ticks, TimeSpan.TicksPerMillisecond),
        })
        {
            if (value < least)
                yield return $"Ledger:{name} is too small.";
        }
        if (BatchBytesMax > Storage.JournalFrame.EntryBytesMax)
            yield return $"Ledger:{nameof(BatchBytesMax)} is over {Storage.JournalFrame.EntryBytesMax}.";
    }
}
