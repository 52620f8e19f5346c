using Foundry.Proofs;
using Foundry.ServiceDefaults;
using Foundry.Tokens;

namespace Foundry.Ledger;

/// <summary>
/// The key that signs every log's checkpoints, one per deployment (docs/formats/ledger.md, Keys). Its public half lies beside
/// it, so that a damaged key file is told from a damaged log.
/// </summary>
internal static class LedgerKey
{
    /// <summary>The private key: one line of base64url, mode 0600.</summary>
    public const string KeyFile = "ledger.key";

    /// <summary>Its public half.</summary>
    public const string PublicFile = "ledger.pub";

    /// <summary>Reads the key, or makes one in a folder that holds no log yet.</summary>
    /// <exception cref="StateCorruptException">The files are damaged or do not belong together, or logs lie there without their key.</exception>
    public static NoteKey Open(StateFolder folder)
    {
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
