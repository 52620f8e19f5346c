using System.Security.Cryptography;
using System.Text;
using Foundry.Ledger.Append;
using Foundry.Ledger.Keys;
using Foundry.Ledger.Storage;
using Foundry.Proofs;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Time.Testing;

namespace Foundry.Ledger.Tests;

/// <summary>A real folder, or database, with a ledger in it, which can be closed, looked at, damaged and opened again.</summary>
internal sealed class LedgerFolder : IDisposable
{
    private readonly string _schema = $"t{Guid.NewGuid():N}";
    private readonly string _store;
    private static readonly byte[] _seed = SHA256.HashData("the ledger's key in tests"u8);
    private readonly NoteKey _key = NoteKey.FromSeed(_seed);
    private LogShelf? _shelf;
    private ILogStore? _logs;

    public LedgerFolder(string store = Stores.Files, string? copyOf = null)
    {
        _store = store;
        Path = copyOf is null ? Directory.CreateTempSubdirectory("foundry-ledger-").FullName : NewMemoryFolder();
        foreach (var file in copyOf is null ? [] : Directory.EnumerateFiles(copyOf, "*", SearchOption.AllDirectories))
        {
            var to = System.IO.Path.Combine(Path, System.IO.Path.GetRelativePath(copyOf!, file));
            Directory.CreateDirectory(System.IO.Path.GetDirectoryName(to)!);
            File.Copy(file, to);
        }
        // Not by the first of many appends at once: connecting would wait for a thread that they hold.
        if (store == Stores.Postgres)
            _logs = NewStore();
    }

    /// <summary>How long a test waits for what should have come at once, before it fails.</summary>
    public static TimeSpan Patience { get; } = TimeSpan.FromSeconds(60);

    public string Path { get; }

    public FakeTimeProvider Time { get; } = new(new DateTimeOffset(2026, 1, 2, 3, 4, 5, TimeSpan.Zero));

    public LedgerOptions Options { get; } = new();

    public Disk Disk { get; set; } = new();

    public LogShelf Shelf
    {
        get
        {
            lock (_key)
                return _shelf ??= NewShelf(Logs);
        }
    }

    /// <summary>Where the logs are; the same until <see cref="Close"/>.</summary>
    public ILogStore Logs => _logs ??= NewStore();

    /// <summary>A folder that need not outlive the machine, in memory where there is such a place: for tests that make thousands of them.</summary>
    public static string NewMemoryFolder() => Directory.CreateDirectory(System.IO.Path.Combine(
        Directory.Exists("/dev/shm") ? "/dev/shm" : System.IO.Path.GetTempPath(), $"foundry-ledger-{Guid.NewGuid():N}")).FullName;

    /// <summary>Another process's view of the same logs.</summary>
    public ILogStore NewStore() => _store == Stores.Files
        ? new FileStore(Disk, Path, Options.JournalBytesMax, Options.IndexRowsInMemory, NullLogger.Instance)
        : PostgresStore.Open(Stores.Of(_schema));

    /// <summary>Another process's ledger over the same logs, and the same key.</summary>
    public LogShelf NewShelf(ILogStore store) => new(Options, Time, NullLoggerFactory.Instance, store, NewKeys());

    /// <summary>What the ledger signs with.</summary>
    public LedgerKeys NewKeys() => new(_key, Time);

    /// <summary>A checkpoint over a tree, signed as the ledger would.</summary>
    public byte[] Sign(string module, TreeFrontier tree) => new Checkpoint(Options.OriginOf(Module(module)), tree.Size, tree.Root).Sign(_key).Encode();

    /// <summary>The database, as a setting.</summary>
    public string Database => Stores.Of(_schema);

    /// <summary>What somebody else does to the database.</summary>
    public Task ExecuteAsync(string sql) => Stores.ExecuteAsync(_schema, sql);

    public static ModuleId Module(string name) => ModuleId.TryParse(name, out var module) ? module : throw new ArgumentException(name);

    public LogVerifier Verifier(string module) => new(_key.VerifierFor(Options.OriginOf(Module(module))));

    public LogFolder Log(string module) => new(Path, Module(module));

    /// <summary>Publishes and closes everything, as an orderly stop does.</summary>
    public void Close()
    {
        _shelf?.Dispose();
        _logs?.Dispose();
        (_shelf, _logs) = (null, null);
    }

    public async Task<AppendOutcome> AppendAsync(string module, string payloadId, string payload, string writer = "tenant:acme")
    {
        using var log = await Shelf.OpenOrCreateAsync(Module(module));
        return await log.AppendAsync(writer, payloadId, Encoding.UTF8.GetBytes(payload), TestContext.Current.CancellationToken);
    }

    public async Task AppendManyAsync(string module, int count, int start = 0, int payloadBytes = 60)
    {
        // Opened before, so that they arrive in their order.
        using var log = await Shelf.OpenOrCreateAsync(Module(module));
        var filler = new string('x', payloadBytes);
        var outcomes = await Task.WhenAll(Enumerable.Range(start, count).Select(i => AppendAsync(module, $"id-{i}", $$"""{"event_type":"T{{i % 7}}","n":"{{i}}","filler":"{{filler}}"}""")));
        Assert.All(outcomes, outcome => Assert.Equal(AppendStatus.Appended, outcome.Status));
    }

    public async Task<List<Entry>> EntriesAsync(string module)
    {
        if (await Shelf.TryOpenAsync(Module(module)) is not { } log)
            return [];
        using (log)
            return await log.ReadAsync(state => LogReader.Entries(state, 0, state.Size).ToList());
    }

    public IEnumerable<(ModuleId Module, ServiceDefaults.StateCorruptException Fault)> FindLosses() =>
        Logs.FindLosses(module => Verifier(module.Name), TestContext.Current.CancellationToken);

    public async Task<Checkpoint> CheckpointAsync(string module)
    {
        using var log = await Shelf.TryOpenAsync(Module(module));
        Assert.NotNull(log);
        return Open(log.State.Note, module);
    }

    public Checkpoint PublishedCheckpoint(string module) => Open(File.ReadAllBytes(Log(module).Checkpoint), module);

    /// <summary>Lets the interval pass until what was appended before is published, or a write has failed.</summary>
    public async Task PublishAsync(string module)
    {
        using var log = await Shelf.TryOpenAsync(Module(module));
        using var patience = new CancellationTokenSource(Patience);
        while (!log!.IsPublished && Shelf.FailedCount == 0)
        {
            patience.Token.ThrowIfCancellationRequested();
            Time.Advance(Options.PublishInterval);
            await Task.Yield();
        }
    }

    /// <summary>Checks a log as a stranger would: by its checkpoint, its tiles and its bundles alone; a closed one by its folder's files.</summary>
    public async Task VerifyAsStrangerAsync(string module)
    {
        var folder = Log(module);
        using var log = _store == Stores.Files ? null : await Shelf.TryOpenAsync(Module(module));
        var checkpoint = log is null ? PublishedCheckpoint(module) : Open(log.State.Note, module);
        Func<Tile, byte[]?> read = log is null ? tile => File.ReadAllBytes(folder.FileOf(tile)) : tile => LogReader.TileOf(log.State, tile);
        var tree = new TreeFrontier((tile, hashes) => Assert.Equal(TreeHash.ToTile(hashes).ToArray(), read(tile)));
        for (var bundle = 0L; bundle * Tile.WidthMax < checkpoint.Size; bundle++)
        {
            var tile = new Tile(Tile.EntriesLevel, bundle, Tile.WidthAt(Tile.EntriesLevel, bundle, checkpoint.Size));
            Assert.True(EntryBundle.TryRead(read(tile), tile.Width, out var leaves));
            foreach (var leaf in leaves)
                tree.Append(TreeHash.OfLeaf(leaf.Span));
        }
        Assert.Equal(checkpoint.Root, tree.Root);
        var edge = tree.Edge();
        foreach (var tile in Tile.PartialsOf(checkpoint.Size).Where(tile => !tile.IsEntries))
            Assert.Equal(TreeHash.ToTile(edge[tile.Level]).ToArray(), read(tile));
    }

    /// <summary>One hash over every file's name and bytes.</summary>
    public string HashOfFiles() => string.Join('\n', Directory.EnumerateFiles(Path, "*", SearchOption.AllDirectories)
        .Order(StringComparer.Ordinal).Select(file => $"{file} {Convert.ToHexString(SHA256.HashData(File.ReadAllBytes(file)))}"));

    public void Dispose()
    {
        Close();
        _key.Dispose();
        Directory.Delete(Path, recursive: true);
        if (_store == Stores.Postgres)
            Stores.Drop(_schema);
    }

    private Checkpoint Open(byte[] note, string module)
    {
        Assert.True(Proofs.Checkpoint.TryOpen(note, Verifier(module), out var checkpoint));
        return checkpoint;
    }
}
