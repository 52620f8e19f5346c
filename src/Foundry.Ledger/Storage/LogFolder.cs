using Foundry.Proofs;
using Foundry.ServiceDefaults;

namespace Foundry.Ledger.Storage;

/// <summary>Where the files of one log are (docs/formats/ledger.md, Files).</summary>
internal sealed class LogFolder(string root, ModuleId module)
{
    /// <summary>How a folder is called while its log is being created; no log's name begins with a dot.</summary>
    private const string UnfinishedPrefix = ".new-";

    /// <summary>The log.</summary>
    public ModuleId Module { get; } = module;

    /// <summary>The folder of all logs.</summary>
    public string Root { get; } = root;

    /// <summary>The log's own folder.</summary>
    public string Path { get; } = System.IO.Path.Combine(root, module.Name);

    /// <summary>The folder in which the log is put together before it exists.</summary>
    public string Unfinished => System.IO.Path.Combine(Root, UnfinishedPrefix + Module.Name);

    /// <summary>Whether the log exists.</summary>
    public bool Exists => Directory.Exists(Path);

    /// <summary>The latest published checkpoint.</summary>
    public string Checkpoint => System.IO.Path.Combine(Path, "checkpoint");

    /// <summary>The commit point of appends.</summary>
    public string Journal => System.IO.Path.Combine(Path, JournalName);

    /// <summary>How many entries the index has seen (<see cref="EntryIndex"/>); its files are beside it.</summary>
    public string IndexSeen => System.IO.Path.Combine(Path, "index.seen");

    /// <summary>The journal's name in its folder.</summary>
    public const string JournalName = "journal";

    /// <summary>The checkpoint's name in its folder.</summary>
    public const string CheckpointName = "checkpoint";

    /// <summary>The file of a tile or bundle.</summary>
    public string FileOf(Tile tile) => System.IO.Path.Combine(Path, tile.Path);

    /// <summary>Every log in a folder.</summary>
    public static IEnumerable<LogFolder> All(string root) =>
        Directory.EnumerateDirectories(root)
            .Select(path => System.IO.Path.GetFileName(path))
            .Order(StringComparer.Ordinal)
            .Where(name => ModuleId.TryParse(name, out _))
            .Select(name => ModuleId.TryParse(name, out var module) ? new LogFolder(root, module) : throw new InvalidOperationException());

    /// <summary>The names of all logs that were ever made in a folder, so that one whose folder is gone is missed.</summary>
    public static string ListOf(string root) => System.IO.Path.Combine(root, ".logs");

    /// <summary>Every log that <see cref="ListOf"/> names.</summary>
    public static IEnumerable<ModuleId> Listed(string root)
    {
        foreach (var name in File.Exists(ListOf(root)) ? File.ReadAllLines(ListOf(root)) : [])
            yield return ModuleId.TryParse(name, out var module) ? module : throw new StateCorruptException(ListOf(root), "a line of it is no log's name");
    }
}
