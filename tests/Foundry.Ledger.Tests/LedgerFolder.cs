using System.Security.Cryptography;
using System.Text;
using Foundry.Ledger.Append;
using Foundry.Ledger.Keys;
using Foundry.Ledger.Storage;
using Foundry.Proofs;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Time.Testing;

namespace Foundry.Ledger.Tests;

/// <summary>A real folder with a ledger in it, which can be closed, looked at, damaged and opened again.</summary>
internal sealed class LedgerFolder : IDisposable
{
    private static readonly byte[] _seed = SHA256.HashData("the ledger's key in tests"u8);
    private readonly NoteKey _key = NoteKey.FromSeed(_seed);
    private LogShelf? _shelf;

    public LedgerFolder()
    {
        Path = Directory.CreateTempSubdirectory("foundry-ledger-").FullName;
    }

    public string Path { get; }

    public FakeTimeProvider Time { get; } = new(new DateTimeOffset(2026, 1, 2, 3, 4, 5, TimeSpan.Zero));

    public LedgerOptions Options { get; } = new();

    public Disk Disk { get; set; } = new();

    public LogShelf Shelf
    {
        get
        {
            lock (_key)
                return _shelf ??= new LogShelf(Options, Time, NullLoggerFactory.Instance, Disk, new LedgerKeys(_key, Time), Path);
        }
    }

    public static ModuleId Module(string name) => ModuleId.TryParse(name, out var module) ? module : throw new ArgumentException(name);

    public LogVerifier Verifier(string module) => new(_key.VerifierFor(Options.OriginOf(Module(module))));

    public LogFolder Log(string module) => new(Path, Module(module));

    /// <summary>Publishes and closes everything, as an orderly stop does.</summary>
    public void Close()
    {
        _shelf?.Dispose();
        _shelf = null;
    }

    public async Task<AppendOutcome> AppendAsync(string module, string payloadId, string payload, string writer = "tenant:acme")
    {
        using var log = Shelf.OpenOrCreate(Module(module));
        return await log.AppendAsync(writer, payloadId, Encoding.UTF8.GetBytes(payload), TestContext.Current.CancellationToken);
    }

    public async Task AppendManyAsync(string module, int count, int start = 0, int payloadBytes = 60)
    {
        var filler = new string('x', payloadBytes);
        var outcomes = await Task.WhenAll(Enumerable.Range(start, count).Select(i => AppendAsync(module, $"id-{i}", $$"""{"event_type":"T{{i % 7}}","n":"{{i}}","filler":"{{filler}}"}""")));
        Assert.All(outcomes, outcome => Assert.Equal(AppendStatus.Appended, outcome.Status));
    }

    public List<Entry> Entries(string module)
    {
        if (!Shelf.TryOpen(Module(module), out var log))
            return [];
        using (log)
            return log.Read(state => LogReader.Entries(log.Folder, state, 0, state.Size).ToList());
    }

    public Checkpoint Checkpoint(string module)
    {
        Assert.True(Shelf.TryOpen(Module(module), out var log));
        using (log)
            return Open(log.State.Note, module);
    }

    public Checkpoint PublishedCheckpoint(string module) => Open(File.ReadAllBytes(Log(module).Checkpoint), module);

    /// <summary>Lets the interval pass, and returns when what was appended before is published.</summary>
    public async Task PublishAsync(string module)
    {
        Time.Advance(Options.PublishInterval);
        // A run of the sequencer answers first and publishes then; the second append is answered by a later run.
        await AppendAsync(module, $"first behind {Checkpoint(module).Size}", "{}");
        await AppendAsync(module, $"second behind {Checkpoint(module).Size}", "{}");
    }

    /// <summary>Checks a copied folder as a stranger would: by its checkpoint, its tiles and its bundles alone.</summary>
    public void VerifyAsStranger(string module)
    {
        var folder = Log(module);
        var checkpoint = PublishedCheckpoint(module);
        var tree = new TreeFrontier((tile, hashes) => Assert.Equal(TreeHash.ToTile(hashes).ToArray(), File.ReadAllBytes(folder.FileOf(tile))));
        for (var bundle = 0L; bundle * Tile.WidthMax < checkpoint.Size; bundle++)
        {
            var tile = new Tile(Tile.EntriesLevel, bundle, Tile.WidthAt(Tile.EntriesLevel, bundle, checkpoint.Size));
            Assert.True(EntryBundle.TryRead(File.ReadAllBytes(folder.FileOf(tile)), tile.Width, out var leaves));
            foreach (var leaf in leaves)
                tree.Append(TreeHash.OfLeaf(leaf.Span));
        }
        Assert.Equal(checkpoint.Root, tree.Root);
        var edge = tree.Edge();
        foreach (var tile in Tile.PartialsOf(checkpoint.Size).Where(tile => !tile.IsEntries))
            Assert.Equal(TreeHash.ToTile(edge[tile.Level]).ToArray(), File.ReadAllBytes(folder.FileOf(tile)));
    }

    /// <summary>One hash over every file's name and bytes.</summary>
    public string HashOfFiles() => string.Join('\n', Directory.EnumerateFiles(Path, "*", SearchOption.AllDirectories)
        .Order(StringComparer.Ordinal).Select(file => $"{file} {Convert.ToHexString(SHA256.HashData(File.ReadAllBytes(file)))}"));

    public void Dispose()
    {
        Close();
        _key.Dispose();
        Directory.Delete(Path, recursive: true);
    }

    private Checkpoint Open(byte[] note, string module)
    {
        Assert.True(Proofs.Checkpoint.TryOpen(note, Verifier(module), out var checkpoint));
        return checkpoint;
    }
}
