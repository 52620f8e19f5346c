using Foundry.Ledger.Witness;
using Foundry.ServiceDefaults;

namespace Foundry.Ledger;

/// <summary>The <c>Ledger</c> section of the settings.</summary>
internal sealed class LedgerOptions
{
    /// <summary>What stands in <see cref="Origin"/> for the log's name.</summary>
    public const string ModulePlaceholder = "<module_id>";

    /// <summary>Where it listens.</summary>
    public string Listen { get; set; } = "http://127.0.0.1:9100";

    /// <summary>Whether an address that others can reach is meant.</summary>
    public bool AllowPublicListen { get; set; }

    /// <summary>Where others find it; read by them.</summary>
    public string? Url { get; set; }

    /// <summary>Its state folder; read with the other parts' by the host.</summary>
    public string? Data { get; set; }

    /// <summary>PostgreSQL's connection string, for several ledgers over one set of logs; without it the logs are folders in <see cref="Data"/>.</summary>
    public string? Database { get; set; }

    /// <summary>The origin of each log's checkpoints, a URL without a scheme. Fixed once a log exists: its signatures are under that name.</summary>
    public string Origin { get; set; } = $"foundry.local/{ModulePlaceholder}";

    /// <summary>Logs held open at once; beyond it the one used longest ago is closed.</summary>
    public int OpenLogsMax { get; set; } = 256;

    /// <summary>Threads that write and flush; as many logs can wait for the disk at once.</summary>
    public int DiskThreads { get; set; } = 8;

    /// <summary>Appends that may wait in one log; more are refused at once.</summary>
    public int QueueLengthMax { get; set; } = 8192;

    /// <summary>Entries in one commit.</summary>
    public int BatchEntriesMax { get; set; } = 4096;

    /// <summary>Bytes of entries in one commit, but for the last that went in.</summary>
    public int BatchBytesMax { get; set; } = 4 * 1024 * 1024;

    /// <summary>How long a committed entry may wait until the files of the tile layout show it. What is served over HTTP shows it at once.</summary>
    public TimeSpan PublishInterval { get; set; } = TimeSpan.FromSeconds(1);

    /// <summary>Journal size above which publishing starts a new journal.</summary>
    public int JournalBytesMax { get; set; } = 1024 * 1024;

    /// <summary>
    /// Rows of a log's index (one for each entry and each string field of it) that are in memory alone, above which publishing makes a
    /// file of them. So many are made again from the entries when the log is opened.
    /// </summary>
    public int IndexRowsInMemory { get; set; } = 64 * 1024;

    /// <summary>Entries recomputed before the ledger is ready; the rest is recomputed while it serves.</summary>
    public long EntriesVerifiedBeforeReady { get; set; } = 1_000_000;

    /// <summary>Most witnesses: each cosignature makes every checkpoint longer.</summary>
    public const int WitnessesMax = 16;

    /// <summary>Who is asked to cosign checkpoints (c2sp.org/tlog-witness), to <see cref="WitnessesMax"/>.</summary>
    public List<WitnessOptions> Witnesses { get; set; } = [];

    /// <summary>As many of them as make a checkpoint one that <c>?witnessed=true</c> answers with; at least one is needed anyway.</summary>
    public int WitnessQuorum { get; set; }

    /// <summary>How long, after a rotation, the old key signs beside the new one: so long those who pinned it can take up the new one.</summary>
    public TimeSpan KeyOverlap { get; set; } = TimeSpan.FromDays(90);

    /// <summary>Followers (<c>GET /v1/tail</c>) at once.</summary>
    public int TailsMax { get; set; } = 256;

    /// <summary>Followers of one log at once.</summary>
    public int TailsPerLogMax { get; set; } = 16;

    /// <summary>
    /// How long a follower is served before it has to ask again: its right to read is looked at, and recorded, when it asks.
    /// Its token's end comes first.
    /// </summary>
    public TimeSpan TailTimeMax { get; set; } = TimeSpan.FromMinutes(1);

    /// <summary>How long a follower hears nothing at most.</summary>
    public TimeSpan TailHeartbeat { get; set; } = TimeSpan.FromSeconds(10);

    /// <summary>The origin of one log.</summary>
    public string OriginOf(ModuleId module) => Origin.Replace(ModulePlaceholder, module.Name, StringComparison.Ordinal);

    /// <summary>Reads the section; a key it does not know is an error, like a value it cannot take.</summary>
    /// <exception cref="StartupException">Something is wrong; all of it is said.</exception>
    public static LedgerOptions From(IConfiguration section)
    {
        var options = new LedgerOptions();
        try
        {
            section.Bind(options, binder => binder.ErrorOnUnknownConfiguration = true);
        }
        catch (InvalidOperationException fault)
        {
            throw new StartupException($"The settings of the ledger cannot be read: {fault.Message}", fault);
        }
        var errors = options.Errors().ToList();
        return errors.Count == 0 ? options : throw new StartupException(string.Join(Environment.NewLine, errors));
    }

    private IEnumerable<string> Errors()
    {
        if (!Origin.Contains(ModulePlaceholder, StringComparison.Ordinal) || Origin.Any(c => c is '+' or < '!' or > '~'))
            yield return $"Ledger:Origin is '{Origin}', but should be a URL without a scheme that has {ModulePlaceholder} in it, such as ledger.example/{ModulePlaceholder}.";
        foreach (var (name, value, least) in new (string, long, long)[]
        {
            (nameof(OpenLogsMax), OpenLogsMax, 1), (nameof(DiskThreads), DiskThreads, 1), (nameof(QueueLengthMax), QueueLengthMax, 1),
            (nameof(BatchEntriesMax), BatchEntriesMax, 1), (nameof(BatchBytesMax), BatchBytesMax, 1), (nameof(JournalBytesMax), JournalBytesMax, 1), (nameof(IndexRowsInMemory), IndexRowsInMemory, 1),
            (nameof(EntriesVerifiedBeforeReady), EntriesVerifiedBeforeReady, 0), (nameof(PublishInterval), PublishInterval.Ticks, TimeSpan.TicksPerMillisecond),
            (nameof(KeyOverlap), KeyOverlap.Ticks, 0),
            (nameof(TailsMax), TailsMax, 1), (nameof(TailsPerLogMax), TailsPerLogMax, 1),
            (nameof(TailTimeMax), TailTimeMax.Ticks, TimeSpan.TicksPerSecond), (nameof(TailHeartbeat), TailHeartbeat.Ticks, TimeSpan.TicksPerSecond),
        })
        {
            if (value < least)
                yield return $"Ledger:{name} is too small.";
        }
        if (Witnesses.Count > WitnessesMax)
            yield return $"Ledger:{nameof(Witnesses)} are more than {WitnessesMax}.";
        foreach (var error in Witnesses.SelectMany((witness, i) => witness.Errors($"Ledger:{nameof(Witnesses)}:{i}")))
            yield return error;
        if (Witnesses.Select(witness => witness.Vkey).Distinct(StringComparer.Ordinal).Count() < Witnesses.Count)
            yield return $"Ledger:{nameof(Witnesses)} name a witness twice; it would count twice.";
        if (WitnessQuorum < 0 || WitnessQuorum > Witnesses.Count)
            yield return $"Ledger:{nameof(WitnessQuorum)} is {WitnessQuorum}, but there are {Witnesses.Count} witnesses.";
        if (BatchBytesMax > Storage.JournalFrame.EntryBytesMax)
            yield return $"Ledger:{nameof(BatchBytesMax)} is over {Storage.JournalFrame.EntryBytesMax}.";
    }
}
