using System.Buffers;
using System.Text;
using Foundry.Proofs;

namespace Foundry.Cli.Tests;

/// <summary>A log of any size, made without a ledger: as a folder that was copied, and as the gateway shows it.</summary>
internal sealed class LogCopy : IDisposable
{
    public const string Module = "acme";
    public const string Origin = "foundry.local/acme";

    private readonly NoteKey _key = NoteKey.FromSeed(Encoding.ASCII.GetBytes("the key of the logs in CLI tests"));
    private readonly Func<int, string> _payload;

    public LogCopy(int size, Func<int, string>? payload = null)
    {
        _payload = payload ?? (cursor => $$"""{"event_type":"T","n":{{cursor}}}""");
        Grow(size);
    }

    public Dictionary<string, byte[]> Files { get; } = [];

    public string Key => _key.VerifierFor(Origin).VerifierKey;

    public static string OtherKey
    {
        get
        {
            using var other = NoteKey.FromSeed(new byte[NoteKey.SeedBytes]);
            return other.VerifierFor(Origin).VerifierKey;
        }
    }

    /// <summary>A witness's verifier key.</summary>
    public static string WitnessKey(string name)
    {
        using var key = WitnessOf(name);
        return key.CosignerFor(name).VerifierKey;
    }

    /// <summary>Makes it so large, with the files of that size and no others.</summary>
    public void Grow(int size)
    {
        Files.Clear();
        var tree = new TreeFrontier((tile, hashes) => Files[tile.Path] = TreeHash.ToTile(hashes).ToArray());
        for (var start = 0; start < size; start += Tile.WidthMax)
        {
            var bundle = new ArrayBufferWriter<byte>();
            var width = Math.Min(Tile.WidthMax, size - start);
            for (var cursor = start + 1; cursor <= start + width; cursor++)
            {
                var leaf = Leaf(cursor);
                EntryBundle.Append(bundle, leaf);
                tree.Append(TreeHash.OfLeaf(leaf));
            }
            Files[new Tile(Tile.EntriesLevel, start / Tile.WidthMax, width).Path] = bundle.WrittenSpan.ToArray();
        }
        var edge = tree.Edge();
        foreach (var tile in Tile.PartialsOf(size).Where(tile => !tile.IsEntries))
            Files[tile.Path] = TreeHash.ToTile(edge[tile.Level]).ToArray();
        Files["checkpoint"] = new Checkpoint(Origin, size, tree.Root).Sign(_key).Encode();
    }

    /// <summary>Changes one byte of an entry's payload.</summary>
    public void Falsify(int cursor)
    {
        var bundle = Files.Keys.Single(path => path.StartsWith($"tile/entries/{(cursor - 1) / Tile.WidthMax:D3}", StringComparison.Ordinal));
        ReadOnlyMemory<byte> rest = Files[bundle];
        for (var skip = (cursor - 1) % Tile.WidthMax; skip > 0; skip--)
            EntryBundle.TryNext(ref rest, out _);
        EntryBundle.TryNext(ref rest, out _);
        Files[bundle][Files[bundle].Length - rest.Length - 2] ^= 1;
    }

    public byte[] Leaf(int cursor) => Encoding.UTF8.GetBytes($"foundry-ledger-entry/v1\ntenant:acme\nid-{cursor}\n2026-01-02T03:04:05.678Z\n{_payload(cursor)}");

    /// <summary>The checkpoint, with these witnesses' cosignatures.</summary>
    public byte[] Cosigned(params string[] witnesses)
    {
        Assert.True(SignedNote.TryParse(Files["checkpoint"], out var note));
        return note.With([.. note.Signatures, .. witnesses.Select(name =>
        {
            using var key = WitnessOf(name);
            return key.Cosign(name, note, DateTimeOffset.UnixEpoch.AddDays(20_000));
        })]).Encode();
    }

    private static NoteKey WitnessOf(string name) => NoteKey.FromSeed(Encoding.ASCII.GetBytes(name.PadRight(NoteKey.SeedBytes)));

    public string CopyTo(string folder)
    {
        foreach (var (path, bytes) in Files)
        {
            Directory.CreateDirectory(Path.GetDirectoryName(Path.Combine(folder, path))!);
            File.WriteAllBytes(Path.Combine(folder, path), bytes);
        }
        return folder;
    }

    /// <summary>What the gateway answers about this log.</summary>
    public Said Answer(Asked asked)
    {
        var path = asked.Target.Split('?')[0];
        if (path == "/v1/contract")
            return Said.Json($$"""{"version":1,"module_id":"{{Module}}","origin":"{{Origin}}","vkey":"{{Key}}"}""");
        if (path == "/v1/checkpoint")
            return new Said(200, "text/plain; charset=utf-8", Files["checkpoint"]);
        // As the ledger: of the latest checkpoint that a quorum has cosigned, which may be older.
        if (path == $"/ledger/{Module}/checkpoint" && asked.Target.Contains("witnessed=true", StringComparison.Ordinal))
            return Files.TryGetValue("witnessed", out var witnessed) ? new Said(200, "text/plain; charset=utf-8", witnessed) : Said.Problem(404, "not_found");
        return path.StartsWith($"/ledger/{Module}/", StringComparison.Ordinal) && Files.TryGetValue(path[$"/ledger/{Module}/".Length..], out var file)
            ? new Said(200, "application/octet-stream", file)
            : Said.Problem(404, "not_found");
    }

    public void Dispose() => _key.Dispose();
}
