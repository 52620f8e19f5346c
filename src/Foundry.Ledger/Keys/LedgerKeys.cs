using Foundry.Proofs;
using Foundry.ServiceDefaults;
using Foundry.Tokens;

namespace Foundry.Ledger.Keys;

/// <summary>
/// The keys that sign every log's checkpoints: one per deployment and, while a new one takes its place, the one before it as
/// well (docs/formats/ledger.md, Keys). The public half lies beside the key, so that a damaged key file is told from a damaged log.
/// </summary>
internal sealed class LedgerKeys : IDisposable
{
    /// <summary>The private key: one line of base64url, mode 0600. While a rotation lasts, the one that is being replaced.</summary>
    public const string KeyFile = "ledger.key";

    /// <summary>Its public half.</summary>
    public const string PublicFile = "ledger.pub";

    private readonly TimeProvider _time;
    private readonly NoteKey _key;
    private readonly NoteKey? _previous;

    /// <summary>Takes over a key and, with its rotation, the one that it replaces.</summary>
    public LedgerKeys(NoteKey key, TimeProvider time, KeyRotation? rotation = null, NoteKey? previous = null) =>
        (_key, _time, Rotation, _previous) = (key, time, rotation, previous);

    /// <summary>The rotation that is going on.</summary>
    public KeyRotation? Rotation { get; private set; }

    // However short the overlap, the announcement itself is the old key's to sign.
    private bool IsOverlap => Rotation is { } rotation && (!rotation.IsAnnounced || _time.GetUtcNow() < rotation.Until);

    /// <summary>Reads the keys, or makes one in a folder that holds no log yet.</summary>
    /// <exception cref="StateCorruptException">The files are damaged or do not belong together, or logs lie there without their key.</exception>
    public static LedgerKeys Open(StateFolder folder, TimeProvider time)
    {
        KeyRotation.FinishRetirement(folder);
        var stored = folder.Read(PublicFile);
        if (folder.Read(KeyFile) is null && (stored is not null || Storage.LogFolder.All(folder.Path).Any()))
            throw new StateCorruptException(folder.File(KeyFile), "it is missing, and the logs beside it are signed with it");
        using var key = folder.SigningKey(KeyFile);
        if (stored is null)
        {
            if (Storage.LogFolder.All(folder.Path).Any())
                throw new StateCorruptException(folder.File(PublicFile), "it is missing, and logs lie beside it");
            folder.Write(PublicFile, key.Public.X + "\n");
        }
        else if (stored != key.Public.X + "\n")
        {
            throw new StateCorruptException(folder.File(KeyFile), $"it is not the private half of {PublicFile}");
        }
        if (KeyRotation.Read(folder) is not { } rotation)
            return new LedgerKeys(Signing(key), time);
        using var next = KeyRotation.NextKey(folder, rotation, key);
        return new LedgerKeys(Signing(next), time, rotation, Signing(key));
    }

    /// <summary>Signs a checkpoint: with the key and, while the overlap lasts, with the one before it.</summary>
    public SignedNote Sign(Checkpoint checkpoint)
    {
        var note = checkpoint.Sign(_key);
        return IsOverlap ? note.With([.. checkpoint.Sign(_previous!).Signatures, .. note.Signatures]) : note;
    }

    /// <summary>The keys that a log's checkpoints on disk may be signed with.</summary>
    public LogVerifier VerifierOf(string origin) =>
        _previous is null ? new LogVerifier(_key.VerifierFor(origin)) : new LogVerifier(_key.VerifierFor(origin), _previous.VerifierFor(origin));

    /// <summary>The verifier of the key that signs from now on.</summary>
    public NoteVerifier CurrentOf(string origin) => _key.VerifierFor(origin);

    /// <summary>The verifier of the key before it, while that one signs too.</summary>
    public NoteVerifier? PreviousOf(string origin) => IsOverlap ? _previous!.VerifierFor(origin) : null;

    /// <summary>Notes durably that every log has the announcement. Nothing may be signed meanwhile.</summary>
    public void Announced(StateFolder folder) => Rotation = Rotation!.Announced(folder);

    /// <inheritdoc/>
    public void Dispose()
    {
        _key.Dispose();
        _previous?.Dispose();
    }

    private static NoteKey Signing(SigningKey key)
    {
        if (!Base64UrlText.TryDecode(key.ExportSeed(), out var seed))
            throw new InvalidOperationException("A key's own seed could not be read back.");
        try
        {
            return NoteKey.FromSeed(seed);
        }
        finally
        {
            System.Security.Cryptography.CryptographicOperations.ZeroMemory(seed);
        }
    }
}
