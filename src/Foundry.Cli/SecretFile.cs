using System.Diagnostics.CodeAnalysis;
using System.Text;
using Foundry.Tokens;

namespace Foundry.Cli;

/// <summary>
/// A new file that only its owner can read (0600) and that replaces none. It is made before the secret is, so that a token
/// is not issued that then has nowhere to go; what is not written is taken away again.
/// </summary>
internal sealed class SecretFile : IDisposable
{
    private const UnixFileMode OwnerOnly = UnixFileMode.UserRead | UnixFileMode.UserWrite;
    private const UnixFileMode OfOthers = UnixFileMode.GroupRead | UnixFileMode.GroupWrite | UnixFileMode.OtherRead | UnixFileMode.OtherWrite;

    private const int KeyCharsMax = 256;

    private readonly FileStream _file;
    private bool _written;

    private SecretFile(FileStream file) => _file = file;

    /// <summary>Takes the name; refuses one that is taken.</summary>
    public static bool TryReserve(string path, [NotNullWhen(true)] out SecretFile? secret, [NotNullWhen(false)] out Complaint? complaint)
    {
        secret = null;
        try
        {
            secret = new SecretFile(Open(path, FileMode.CreateNew, FileAccess.Write));
            complaint = null;
            return true;
        }
        catch (Exception fault) when (fault is IOException or UnauthorizedAccessException or ArgumentException or NotSupportedException)
        {
            complaint = File.Exists(path)
                ? new Complaint($"{path} exists, and nothing is overwritten", "name another file, or move that one away")
                : new Complaint($"{path} cannot be made: {fault.Message}", "name a file in a folder that you may write to");
            return false;
        }
    }

    /// <summary>Opens a file for this process alone; a new one is its owner's alone.</summary>
    public static FileStream Open(string path, FileMode mode, FileAccess access)
    {
        var options = new FileStreamOptions { Mode = mode, Access = access, Share = FileShare.None };
        if (!OperatingSystem.IsWindows())
            options.UnixCreateMode = OwnerOnly;
        return new FileStream(path, options);
    }

    /// <summary>Whether others than the owner can do anything with an open file.</summary>
    public static bool IsOpenToOthers(FileStream file) =>
        !OperatingSystem.IsWindows() && (File.GetUnixFileMode(file.SafeFileHandle) & OfOthers) != 0;

    /// <summary>Writes the secret as one line; durable once it returns.</summary>
    public void Write(string line)
    {
        _file.Write(Encoding.ASCII.GetBytes(line + "\n"));
        _file.Flush(flushToDisk: true);
        _written = true;
    }

    public void Dispose()
    {
        _file.Dispose();
        if (!_written)
            File.Delete(_file.Name);
    }

    /// <summary>Reads a file of one line.</summary>
    /// <param name="path">Which.</param>
    /// <param name="charsMax">Characters the line may have.</param>
    /// <param name="secret">What is in it.</param>
    /// <param name="complaint">What is wrong.</param>
    public static bool TryRead(string path, int charsMax, [NotNullWhen(true)] out SecretLine? secret, [NotNullWhen(false)] out Complaint? complaint)
    {
        secret = null;
        try
        {
            using var file = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
            using var reader = new StreamReader(file);
            // One more than may be, so that a longer one shows itself.
            var characters = new char[charsMax + 2];
            var text = new string(characters, 0, reader.ReadBlock(characters)).Trim();
            // A pipe (`<(…)`) can be read once, and its mode says nothing.
            var warning = file.CanSeek && IsOpenToOthers(file)
                ? $"{path} can be read by others: chmod 600 {path}"
                : null;
            secret = new SecretLine(text, file.CanSeek, warning);
            complaint = null;
            return true;
        }
        catch (Exception fault) when (fault is IOException or UnauthorizedAccessException or ArgumentException or NotSupportedException)
        {
            complaint = new Complaint($"{path} cannot be read: {fault.Message}", "name a file that holds it");
            return false;
        }
    }

    /// <summary>Reads a private key.</summary>
    public static bool TryReadKey(string path, [NotNullWhen(true)] out SigningKey? key, out string? warning, [NotNullWhen(false)] out Complaint? complaint)
    {
        key = null;
        warning = null;
        if (!TryRead(path, KeyCharsMax, out var secret, out complaint))
            return false;
        warning = secret.Warning;
        if (SigningKey.TryImport(secret.Text, out key))
            return true;
        complaint = new Complaint($"{path} does not hold a key", "a key is one line of 43 base64url characters, as 'foundry keys new' writes it");
        return false;
    }
}

/// <summary>What a file of one secret line holds.</summary>
/// <param name="Text">The line.</param>
/// <param name="CanBeReadAgain">False for a pipe.</param>
/// <param name="Warning">Set where others may read the file too.</param>
internal sealed record SecretLine(string Text, bool CanBeReadAgain, string? Warning)
{
    // A record would print it.
    public override string ToString() => nameof(SecretLine);
}
