using System.Diagnostics.CodeAnalysis;
using System.Security.Cryptography;
using System.Text;
using Foundry.Proofs;
using Foundry.ServiceDefaults;

namespace Foundry.Cli.Witness;

/// <summary>
/// What a witness remembers: of each log the latest checkpoint that it cosigned, in a file each. A cosignature is given once
/// its checkpoint is durable, checked and stored under one lock a log: of a log there is never a second history, nor a smaller
/// tree after a larger one. A witness that has lost this folder must not go on under its key.
/// </summary>
internal sealed class WitnessBook : IDisposable
{
    /// <summary>Logs that one witness follows.</summary>
    public const int LogsMax = 10_000;

    private const string VkeyFile = "witness.vkey";
    private const string CheckpointSuffix = ".checkpoint";
    private const string HistorySuffix = ".history";
    private const string EvidenceFolder = "evidence";
    private const int EvidenceOfLogMax = 16;
    private const long HistoryBytesMax = 16 * 1024 * 1024;

    private readonly StateFolder _folder;
    private readonly IDisposable _lock;
    private readonly NoteKey _key;
    private readonly string _name;
    private readonly TimeProvider _time;
    private readonly Dictionary<string, Page> _pages = new(StringComparer.Ordinal);

    private WitnessBook(StateFolder folder, IDisposable held, NoteKey key, string name, IReadOnlyDictionary<string, LogVerifier> logs, TimeProvider time) =>
        (_folder, _lock, _key, _name, Logs, _time) = (folder, held, key, name, logs, time);

    /// <summary>The logs that are followed, by origin.</summary>
    public IReadOnlyDictionary<string, LogVerifier> Logs { get; }

    /// <summary>The witness's own verifier key.</summary>
    public string VerifierKey => _key.CosignerFor(_name).VerifierKey;

    /// <summary>Where evidence lies.</summary>
    public string EvidencePath => Path.Combine(_folder.Path, EvidenceFolder);

    /// <summary>Opens the folder, and takes over the key.</summary>
    /// <param name="path">The folder.</param>
    /// <param name="begin">Whether to begin a memory where there is none. One that was lost must not begin anew unnoticed.</param>
    /// <param name="key">The witness's key.</param>
    /// <param name="name">The witness's name.</param>
    /// <param name="logs">The logs that it follows.</param>
    /// <param name="time">The clock.</param>
    /// <param name="book">What it remembers.</param>
    /// <param name="complaint">What is wrong.</param>
    public static bool TryOpen(string path, bool begin, NoteKey key, string name, IReadOnlyDictionary<string, LogVerifier> logs, TimeProvider time,
        [NotNullWhen(true)] out WitnessBook? book, [NotNullWhen(false)] out Complaint? complaint)
    {
        book = null;
        complaint = null;
        var hasMemory = File.Exists(Path.Combine(path, VkeyFile));
        if (!hasMemory && !begin)
            complaint = new Complaint($"{path} holds no witness's memory", "name its folder; for a new witness add --begin. One that lost its folder must not go on: make it a new key");
        else if (hasMemory && begin)
            complaint = new Complaint($"{path} holds a witness's memory already", "leave --begin away");
        if (complaint is not null)
            return false;
        IDisposable? held = null;
        try
        {
            var folder = StateFolder.Open(path);
            held = folder.Lock();
            book = new WitnessBook(folder, held, key, name, logs, time);
            if (!hasMemory)
                folder.Write(VkeyFile, book.VerifierKey + "\n");
            else if (folder.Read(VkeyFile) != book.VerifierKey + "\n")
                throw new StateCorruptException(folder.File(VkeyFile), "it is of another witness: another key, or another name");
            foreach (var origin in logs.Keys)
                book._pages[origin] = book.ReadPage(origin);
            return true;
        }
        catch (Exception fault) when (fault is StartupException or IOException or UnauthorizedAccessException)
        {
            held?.Dispose();
            book = null;
            complaint = new Complaint(fault.Message, "a witness that cannot trust its memory does not run");
            return false;
        }
    }

    /// <summary>The latest checkpoint cosigned of a log; null for none.</summary>
    public Checkpoint? Remembered(string origin)
    {
        var page = _pages[origin];
        lock (page)
            return page.Remembered;
    }

    /// <summary>Judges a request and, where it is right, remembers its checkpoint durably and cosigns it.</summary>
    /// <param name="request">The request.</param>
    /// <param name="cosignature">The cosignature, when cosigned.</param>
    /// <param name="remembered">The size now remembered of the log.</param>
    public WitnessVerdict Take(AddCheckpoint request, out NoteSignature? cosignature, out long remembered)
    {
        (cosignature, remembered) = (null, 0);
        var opened = request.Open(Logs, out var checkpoint);
        if (opened != WitnessVerdict.Cosign)
            return opened;
        var page = _pages[checkpoint!.Origin];
        lock (page)
        {
            remembered = page.Remembered?.Size ?? 0;
            var verdict = request.Judge(checkpoint, page.Remembered);
            if (verdict != WitnessVerdict.Cosign)
                return verdict;
            // The log's own signatures alone: what others have put on the note is not this witness's to remember.
            var log = Logs[checkpoint.Origin];
            var own = request.Checkpoint.Signatures.Where(line => log.Keys.Any(known => known.Name == line.KeyName && known.KeyId == line.KeyId));
            var made = _key.Cosign(_name, request.Checkpoint, _time.GetUtcNow());
            var note = request.Checkpoint.With([.. own, made]).Encode();
            // The commit point. A cosignature that nobody remembers is never given away.
            _folder.Write(FileOf(checkpoint.Origin) + CheckpointSuffix, note);
            (page.Remembered, page.Note, cosignature, remembered) = (checkpoint, note, made, checkpoint.Size);
            AddToHistory(checkpoint.Origin, note);
            return verdict;
        }
    }

    /// <summary>Keeps a checkpoint beside the one remembered, as evidence that its log changed its history or shows two.</summary>
    public void KeepEvidence(string origin, AddCheckpoint request)
    {
        var page = _pages[origin];
        var file = FileOf(origin);
        var evidence = _folder.Folder(EvidenceFolder);
        var asked = request.Encode();
        var name = $"{file}.{Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(request.Checkpoint.Text)))[..16]}";
        // The first accounts tell it all; whoever has the log's old checkpoints could fill a disk with more.
        lock (page)
        {
            if (evidence.Read(name) is null && Directory.EnumerateFiles(evidence.Path, file + ".*").Take(EvidenceOfLogMax).Count() < EvidenceOfLogMax)
                evidence.Write(name, [.. page.Note, .. "\n"u8, .. asked]);
        }
    }

    public void Dispose()
    {
        _lock.Dispose();
        _key.Dispose();
    }

    private void AddToHistory(string origin, byte[] note)
    {
        var path = _folder.File(FileOf(origin) + HistorySuffix);
        if (File.Exists(path) && new FileInfo(path).Length > HistoryBytesMax)
            File.Move(path, path + ".1", overwrite: true);
        File.AppendAllBytes(path, [.. note, .. "\n"u8]);
    }

    private Page ReadPage(string origin)
    {
        var path = _folder.File(FileOf(origin) + CheckpointSuffix);
        if (!File.Exists(path))
            return new Page();
        var bytes = File.ReadAllBytes(path);
        // Its own cosignature says that this is what was written; the log may have had another key then.
        if (SignedNote.TryParse(bytes, out var note) && _key.CosignerFor(_name).HasCosigned(note, out _)
            && Checkpoint.TryParse(note.Text, out var checkpoint) && checkpoint.Origin == origin)
            return new Page { Remembered = checkpoint, Note = bytes };
        throw new StateCorruptException(path, $"it is not a checkpoint of {origin} that this witness cosigned");
    }

    // An origin can hold any character that a file's name cannot.
    private static string FileOf(string origin) => Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(origin)))[..32];

    /// <summary>What is remembered of one log; the lock of that log too.</summary>
    private sealed class Page
    {
        public Checkpoint? Remembered { get; set; }

        public byte[] Note { get; set; } = [];
    }
}
