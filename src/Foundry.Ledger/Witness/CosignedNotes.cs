using System.Collections.Concurrent;
using System.Text;
using Foundry.Ledger.Storage;
using Foundry.Proofs;
using Foundry.ServiceDefaults;

namespace Foundry.Ledger.Witness;

/// <summary>
/// The cosignatures that the logs' checkpoints have: added to the checkpoint that is served where they are of it, and kept for
/// the latest checkpoint that has enough of them. None is taken that does not verify. What is lost here, witnesses give again.
/// </summary>
internal sealed partial class CosignedNotes
{
    /// <summary>The folder, beside the logs: no log's name begins with a dot.</summary>
    public const string FolderName = ".witnesses";

    private const string LatestSuffix = ".latest";
    private const string WitnessedSuffix = ".witnessed";
    private const string ForkSuffix = ".fork";

    private readonly StateFolder _folder;
    private readonly string _path;
    private readonly LogShelf _shelf;
    private readonly ILogger _log;
    private readonly int _quorum;
    private readonly ConcurrentDictionary<ModuleId, Kept> _kept = [];

    public CosignedNotes(LedgerOptions options, StateFolder folder, LogShelf shelf, ILogger<CosignedNotes> log)
    {
        Witnesses = options.Witnesses.ConvertAll(KnownWitness.Of);
        _quorum = Math.Max(1, options.WitnessQuorum);
        (_shelf, _log) = (shelf, log);
        _path = folder.File(FolderName);
        _folder = Witnesses.Count == 0 ? folder : folder.Folder(FolderName);
    }

    /// <summary>The witnesses, in the settings' order.</summary>
    public IReadOnlyList<KnownWitness> Witnesses { get; }

    /// <summary>Forks that were reported, now or before the last start, by the name of their file.</summary>
    public IEnumerable<string> ForkFiles() =>
        Directory.Exists(_path) ? Directory.EnumerateFiles(_path, "*" + ForkSuffix).Select(file => Path.GetFileName(file)) : [];

    /// <summary>A served checkpoint with the cosignatures there are of it.</summary>
    public byte[] Decorate(ModuleId module, byte[] note)
    {
        if (Witnesses.Count == 0 || Of(module).Latest is not { } latest || !note.AsSpan().StartsWith(latest.Head))
            return note;
        return [.. note, .. latest.Lines];
    }

    /// <summary>The latest checkpoint that as many witnesses have cosigned as the settings ask for, at least one.</summary>
    public byte[]? Witnessed(ModuleId module) => Witnesses.Count == 0 ? null : Of(module).Witnessed?.Note.Encode();

    /// <summary>Whether a witness's cosignature of this text is there.</summary>
    public bool Has(ModuleId module, string text, KnownWitness witness) =>
        Of(module).Latest is { } latest && latest.Note.Text == text && latest.Note.Signatures.Any(witness.Verifier.IsNamedBy);

    /// <summary>The size of the latest checkpoint that a witness is known to have cosigned; 0 for none.</summary>
    public long SizeAt(ModuleId module, KnownWitness witness) =>
        new[] { Of(module).Latest, Of(module).Witnessed }
            .Where(note => note?.Note.Signatures.Any(witness.Verifier.IsNamedBy) == true)
            .Select(SizeOf).DefaultIfEmpty(0).Max();

    /// <summary>Adds a witness's answer to a checkpoint. False where there is no cosignature of this witness's in it, or a false one.</summary>
    /// <param name="module">The log.</param>
    /// <param name="note">Its checkpoint, with the log's own signatures alone.</param>
    /// <param name="witness">Who answered.</param>
    /// <param name="lines">The signature lines of the answer; those of others are ignored.</param>
    public bool TryAdd(ModuleId module, SignedNote note, KnownWitness witness, IReadOnlyList<NoteSignature> lines)
    {
        var own = lines.Where(witness.Verifier.IsNamedBy).ToList();
        if (!witness.Verifier.HasCosigned(note.With(own), out _))
            return false;
        var kept = Of(module);
        lock (kept)
        {
            var before = kept.Latest?.Note.Text == note.Text ? kept.Latest.Note.Signatures.Where(IsOfWitness).ToList() : [];
            var merged = new Cosigned(note.With([.. note.Signatures, .. before.Where(line => !witness.Verifier.IsNamedBy(line)), own[0]]), IsOfWitness);
            kept.Latest = merged;
            if (Count(merged.Note) >= _quorum)
                kept.Witnessed = merged;
        }
        return true;
    }

    /// <summary>Keeps a log's cosignatures for the next start: once a round, not once a witness.</summary>
    public void Keep(ModuleId module)
    {
        var kept = Of(module);
        lock (kept)
        {
            var (latest, witnessed) = (kept.Latest, kept.Witnessed);
            if (witnessed is not null && witnessed != kept.OnDisk.Witnessed)
                _folder.Write(module + WitnessedSuffix, witnessed.Note.Encode());
            if (latest is not null && latest != witnessed && latest != kept.OnDisk.Latest)
                _folder.Write(module + LatestSuffix, latest.Note.Encode());
            kept.OnDisk = (latest, witnessed);
        }
    }

    /// <summary>Keeps what shows that a witness has seen another history; the first such account of a witness and a log stays.</summary>
    public void KeepFork(ModuleId module, KnownWitness witness, string said, AddCheckpoint asked)
    {
        var name = $"{module}.{witness.Verifier.KeyId:x8}{ForkSuffix}";
        if (_folder.Read(name) is null)
            _folder.Write(name, [.. Encoding.UTF8.GetBytes($"{witness.Verifier.Name}: {said}\n\n"), .. asked.Encode()]);
    }

    private bool IsOfWitness(NoteSignature line) => Witnesses.Any(witness => witness.Verifier.IsNamedBy(line));

    private int Count(SignedNote note) => Witnesses.Count(witness => note.Signatures.Any(witness.Verifier.IsNamedBy));

    private Kept Of(ModuleId module) => _kept.GetOrAdd(module, _ =>
    {
        var (latest, witnessed) = (Read(module, LatestSuffix), Read(module, WitnessedSuffix));
        if (SizeOf(witnessed) >= SizeOf(latest))
            latest = witnessed;
        witnessed = witnessed is not null && Count(witnessed.Note) >= _quorum ? witnessed : null;
        return new Kept { Latest = latest, Witnessed = witnessed, OnDisk = (latest, witnessed) };
    });

    private static long SizeOf(Cosigned? cosigned) => cosigned is not null && Checkpoint.TryParse(cosigned.Note.Text, out var checkpoint) ? checkpoint.Size : 0;

    // Believed as little as a witness's answer: of a checkpoint that the log signed, the cosignatures that verify.
    private Cosigned? Read(ModuleId module, string suffix)
    {
        var path = _folder.File(module + suffix);
        if (!File.Exists(path))
            return null;
        if (new FileInfo(path).Length > SignedNote.BytesMax || !SignedNote.TryParse(File.ReadAllBytes(path), out var note) || !_shelf.VerifierOf(module).TryOpen(note, out _))
        {
            LogUnreadable(path);
            return null;
        }
        var lines = note.Signatures.Where(line => !IsOfWitness(line)).Concat(Witnesses
            .Where(witness => witness.Verifier.HasCosigned(note, out _))
            .Select(witness => note.Signatures.First(witness.Verifier.IsNamedBy)));
        return new Cosigned(note.With([.. lines]), IsOfWitness);
    }

    [LoggerMessage(3020, LogLevel.Warning, "{File} is not a checkpoint of its log; the witnesses are asked for their cosignatures again")]
    private partial void LogUnreadable(string file);

    private sealed class Kept
    {
        private volatile Cosigned? _latest;
        private volatile Cosigned? _witnessed;

        public Cosigned? Latest { get => _latest; set => _latest = value; }

        public Cosigned? Witnessed { get => _witnessed; set => _witnessed = value; }

        /// <summary>What of it has been written. Guarded by this object's lock.</summary>
        public (Cosigned? Latest, Cosigned? Witnessed) OnDisk { get; set; }
    }

    /// <summary>A checkpoint with cosignatures, and what of it a served one is compared with and gets.</summary>
    private sealed class Cosigned(SignedNote note, Func<NoteSignature, bool> isOfWitness)
    {
        public SignedNote Note { get; } = note;

        public byte[] Head { get; } = Encoding.UTF8.GetBytes(note.Text + "\n");

        public byte[] Lines { get; } = SignedNote.Encode(note.Signatures.Where(isOfWitness));
    }
}
