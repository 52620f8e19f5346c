using System.Security.Cryptography;
using System.Text;
using Foundry.ServiceDefaults;
using Foundry.Storage;
using Foundry.Tokens;

namespace Foundry.Issuance.Keys;

/// <summary>A key that may begin to sign.</summary>
/// <param name="Key">The key.</param>
/// <param name="Stored">What the database keeps of its private half; null where it keeps none.</param>
internal sealed record NewKey(SigningKey Key, string? Stored);

/// <summary>Where the private halves of the keys that sign tokens are (docs/decisions/0012).</summary>
internal interface IPrivateHalves
{
    /// <summary>A key that has not signed before, durable already, so that the database never knows a key that is nowhere.</summary>
    /// <param name="known">The thumbprints of every key there ever was.</param>
    /// <returns>Null where there is none.</returns>
    NewKey? New(IReadOnlySet<string> known);

    /// <summary>The private half of a key, or null where this process does not hold it.</summary>
    /// <param name="kid">The key.</param>
    /// <param name="stored">What the database keeps of it.</param>
    /// <exception cref="StateCorruptException">What is there is not that key.</exception>
    SigningKey? Open(string kid, string? stored);

    /// <summary>Where the private half of a key should be, for messages.</summary>
    string Where(string kid);

    /// <summary>Does away with the private half of a key that signs no more.</summary>
    void Forget(string kid);
}

/// <summary>Chooses between the three.</summary>
internal static class PrivateHalves
{
    /// <summary>Mounted files where a folder is named; the database where several processes may share one and there is a passphrase; else files.</summary>
    public static IPrivateHalves Of(IssuanceOptions options, StateFolder folder, Database database, KeyPassphrase? passphrase)
    {
        if (options.KeysFolder is { Length: > 0 } mounted)
            return new MountedHalves(mounted, passphrase);
        var files = new FiledHalves(folder.Folder(SigningKeys.FolderName), database.Where);
        return database.IsPostgres && passphrase is not null ? new SharedHalves(files, passphrase, database.Where) : files;
    }
}

/// <summary>Files in the state folder, each named after its key.</summary>
internal sealed class FiledHalves(StateFolder folder, string database) : IPrivateHalves
{
    public NewKey? New(IReadOnlySet<string> known)
    {
        var key = SigningKey.Generate();
        folder.WriteKey(FileOf(key.Kid), key);
        return new NewKey(key, null);
    }

    public SigningKey? Open(string kid, string? stored)
    {
        if (stored is not null)
            throw new StateCorruptException(database, $"the private half of the key {kid} in it is encrypted: set {KeyPassphrase.Setting} ({ListenAddress.EnvironmentName(KeyPassphrase.Setting)}) to the file with its passphrase");
        if (folder.ReadKey(FileOf(kid)) is not { } key)
            return null;
        return key.Kid == kid ? key : throw new StateCorruptException(Where(kid), "this is not the private key that its name says");
    }

    public string Where(string kid) => folder.File(FileOf(kid));

    public void Forget(string kid)
    {
        try
        {
            File.Delete(Where(kid));
        }
        catch (Exception fault) when (fault is IOException or UnauthorizedAccessException)
        {
            // The next start tries again.
        }
    }

    private static string FileOf(string kid) => $"{kid}.key";
}

/// <summary>Encrypted in the database, where every process of this part finds them; one in a file is from before there was a passphrase.</summary>
internal sealed class SharedHalves(FiledHalves files, KeyPassphrase passphrase, string database) : IPrivateHalves
{
    public NewKey? New(IReadOnlySet<string> known)
    {
        var key = SigningKey.Generate();
        return new NewKey(key, passphrase.Encrypt(key));
    }

    public SigningKey? Open(string kid, string? stored)
    {
        if (stored is null)
            return files.Open(kid, null);
        if (!KeyPassphrase.TryOpen(stored, passphrase, out var key, out var why))
            throw new StateCorruptException(database, $"the private half of the key {kid} in it: {why}");
        return key.Kid == kid ? key : throw new StateCorruptException(database, $"the private half of the key {kid} in it is another key's");
    }

    public string Where(string kid) => files.Where(kid);

    public void Forget(string kid) => files.Forget(kid);

    /// <summary>What the database should keep of a key that a file held until now.</summary>
    public string Encrypt(SigningKey key) => passphrase.Encrypt(key);
}

/// <summary>Files that somebody else puts into a folder and takes out again, by whatever names: known by what is in them.</summary>
internal sealed class MountedHalves(string folder, KeyPassphrase? passphrase) : IPrivateHalves
{
    /// <summary>Files that are looked at.</summary>
    public const int FilesMax = 100;

    // By what is in a file, because opening an encrypted one is slow on purpose.
    private readonly Dictionary<string, SigningKey> _opened = new(StringComparer.Ordinal);

    /// <summary>In the order of their names, so that whoever names them decides which is next.</summary>
    public NewKey? New(IReadOnlySet<string> known) => All().FirstOrDefault(key => !known.Contains(key.Kid)) is { } key ? new NewKey(key, null) : null;

    public SigningKey? Open(string kid, string? stored) => All().FirstOrDefault(key => key.Kid == kid);

    public string Where(string kid) => folder;

    /// <summary>Nothing: the folder is not ours to write to.</summary>
    public void Forget(string kid)
    {
    }

    private List<SigningKey> All()
    {
        lock (_opened)
        {
            try
            {
                // A mounted secret has entries of its own that begin with a dot.
                var files = Directory.GetFiles(folder).Where(file => !Path.GetFileName(file).StartsWith('.')).Order(StringComparer.Ordinal).Take(FilesMax + 1).ToList();
                return files.Count <= FilesMax ? [.. files.Select(Open)] : throw new StateCorruptException(folder, $"it holds more than {FilesMax} files");
            }
            catch (Exception fault) when (fault is IOException or UnauthorizedAccessException)
            {
                throw new StateCorruptException(folder, $"the folder that Issuance:KeysFolder names cannot be read ({fault.Message})", fault);
            }
        }
    }

    private SigningKey Open(string file)
    {
        var text = new FileInfo(file).Length <= KeyPassphrase.KeyCharsMax ? File.ReadAllText(file) : throw new StateCorruptException(file, "it is too long for a key");
        var hash = Convert.ToHexString(SHA256.HashData(Encoding.UTF8.GetBytes(text)));
        if (_opened.TryGetValue(hash, out var known))
            return known;
        return KeyPassphrase.TryOpen(text, passphrase, out var key, out var why) ? _opened[hash] = key : throw new StateCorruptException(file, why);
    }
}
