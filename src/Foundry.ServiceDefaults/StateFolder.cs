using System.Reflection;
using System.Runtime.InteropServices;
using System.Text;
using Foundry.Tokens;
using Microsoft.Win32.SafeHandles;

namespace Foundry.ServiceDefaults;

/// <summary>A folder that holds a part's state: only its owner may look in, and its files are replaced whole or not at all.</summary>
public sealed partial class StateFolder
{
    private const UnixFileMode OwnerOnlyFolder = UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute;
    private const UnixFileMode OwnerOnlyFile = UnixFileMode.UserRead | UnixFileMode.UserWrite;

    private const int ReadOnlyCloseOnExec = 0x80000; // O_RDONLY | O_CLOEXEC

    /// <summary>What .NET says of a file that somebody else holds: EAGAIN of Linux and of macOS, ERROR_SHARING_VIOLATION of Windows.</summary>
    private static readonly int[] _held = [11, 35, unchecked((int)0x80070020)];

    private readonly KeyPassphrase? _passphrase;

    private StateFolder(string path, KeyPassphrase? passphrase) => (Path, _passphrase) = (path, passphrase);

    /// <summary>Where it is.</summary>
    public string Path { get; }

    /// <summary>Opens the folder, made with mode 0700 where it is not there.</summary>
    /// <param name="path">Where.</param>
    /// <param name="passphrase">What keys in it are encrypted with; without, they are written in the clear.</param>
    /// <exception cref="StartupException">It cannot be made.</exception>
    public static StateFolder Open(string path, KeyPassphrase? passphrase = null)
    {
        var full = System.IO.Path.GetFullPath(path);
        try
        {
            if (OperatingSystem.IsWindows())
                Directory.CreateDirectory(full);
            else
                Directory.CreateDirectory(full, OwnerOnlyFolder);
        }
        catch (Exception fault) when (fault is IOException or UnauthorizedAccessException)
        {
            throw new StartupException($"The state folder {full} cannot be made: {fault.Message}", fault);
        }
        return new StateFolder(full, passphrase);
    }

    /// <summary>A folder inside this one.</summary>
    /// <param name="name">Its name.</param>
    public StateFolder Folder(string name) => Open(System.IO.Path.Combine(Path, name), _passphrase);

    /// <summary>The path of a file in it.</summary>
    /// <param name="name">Its name.</param>
    public string File(string name) => System.IO.Path.Combine(Path, name);

    /// <summary>Keeps a second process out for as long as the handle is open.</summary>
    /// <param name="name">The name of the file that is held.</param>
    /// <exception cref="StartupException">Another process holds it.</exception>
    /// <exception cref="StateUnwritableException">The folder takes no new file.</exception>
    public IDisposable Lock(string name = "lock")
    {
        FileStream held;
        try
        {
            held = new FileStream(File(name), OwnerOnly(FileMode.OpenOrCreate));
        }
        catch (Exception fault) when (fault is UnauthorizedAccessException || (fault is IOException && !_held.Contains(fault.HResult)))
        {
            throw new StateUnwritableException(Path, fault);
        }
        catch (IOException fault)
        {
            throw new StartupException($"The state folder {Path} is in use by {HolderOf(name) ?? "another process"}. Stop that one, or set FOUNDRY_DATA to another folder.", fault);
        }
        held.SetLength(0);
        held.Write(Encoding.UTF8.GetBytes($"process {Environment.ProcessId} ({Assembly.GetEntryAssembly()?.GetName().Name})"));
        held.Flush();
        return held;
    }

    /// <summary>Who says in the lock's file that it holds it; null where nothing is said.</summary>
    private string? HolderOf(string name)
    {
        if (OperatingSystem.IsWindows())
            return null; // The lock keeps readers out too.
        var descriptor = Open(File(name), ReadOnlyCloseOnExec);
        if (descriptor < 0)
            return null;
        // Past the FileStream that would ask for the lock.
        using var handle = new SafeFileHandle(descriptor, ownsHandle: true);
        var content = new byte[256];
        var holder = Encoding.UTF8.GetString(content, 0, RandomAccess.Read(handle, content, 0));
        return holder.StartsWith("process ", StringComparison.Ordinal) && !holder.Any(char.IsControl) ? holder : null;
    }

    /// <summary>Replaces a file whole and durably: readers see the old or the new one, also after a power cut.</summary>
    /// <param name="name">Its name.</param>
    /// <param name="content">Its new content.</param>
    /// <exception cref="StateUnwritableException">The folder takes no new file.</exception>
    public void Write(string name, ReadOnlySpan<byte> content)
    {
        var target = File(name);
        var temporary = $"{target}.{Guid.NewGuid():N}.tmp";
        try
        {
            using (var file = new FileStream(temporary, OwnerOnly(FileMode.CreateNew)))
            {
                file.Write(content);
                file.Flush(flushToDisk: true);
            }
            System.IO.File.Move(temporary, target, overwrite: true);
        }
        catch (Exception fault) when (fault is IOException or UnauthorizedAccessException)
        {
            throw new StateUnwritableException(Path, fault);
        }
        // The commit point: the new name is durable once the folder is.
        FlushFolder(Path);
    }

    /// <summary>Replaces a file of text.</summary>
    /// <param name="name">Its name.</param>
    /// <param name="content">Its new content.</param>
    public void Write(string name, string content) => Write(name, Encoding.UTF8.GetBytes(content));

    /// <summary>Reads a file of text, or null where there is none.</summary>
    /// <param name="name">Its name.</param>
    public string? Read(string name)
    {
        try
        {
            return System.IO.File.ReadAllText(File(name));
        }
        catch (FileNotFoundException)
        {
            return null;
        }
    }

    /// <summary>Reads the signing key in a file, or makes one where there is none.</summary>
    /// <param name="name">The file's name.</param>
    /// <exception cref="StateCorruptException">The file does not hold a key, or none that the passphrase opens.</exception>
    public SigningKey SigningKey(string name)
    {
        if (ReadKey(name) is { } key)
            return key;
        var made = Tokens.SigningKey.Generate();
        WriteKey(name, made);
        return made;
    }

    /// <summary>Reads the signing key in a file, or null where there is no file.</summary>
    /// <param name="name">The file's name.</param>
    /// <exception cref="StateCorruptException">The file does not hold a key, or none that the passphrase opens.</exception>
    public SigningKey? ReadKey(string name)
    {
        if (Read(name) is not { } text)
            return null;
        return KeyPassphrase.TryOpen(text, _passphrase, out var key, out var why) ? key : throw new StateCorruptException(File(name), why);
    }

    /// <summary>Writes a signing key, encrypted where there is a passphrase.</summary>
    /// <param name="name">The file's name.</param>
    /// <param name="key">The key.</param>
    public void WriteKey(string name, SigningKey key)
    {
        ArgumentNullException.ThrowIfNull(key);
        Write(name, _passphrase?.Encrypt(key) ?? key.ExportSeed() + "\n");
    }

    /// <summary>Encrypts, where there is a passphrase, the keys that are still in the clear. The way back does not exist.</summary>
    /// <param name="except">Keys that stay as they are.</param>
    /// <returns>The files that were encrypted.</returns>
    public IReadOnlyList<string> EncryptKeys(params string[] except)
    {
        var encrypted = new List<string>();
        if (_passphrase is null)
            return encrypted;
        foreach (var name in Directory.GetFiles(Path, "*.key").Select(file => System.IO.Path.GetFileName(file)).Except(except).Order(StringComparer.Ordinal))
        {
            if (Read(name) is not { } text || !KeyPassphrase.IsPlain(text))
                continue;
            using var key = ReadKey(name);
            if (key is null)
                continue;
            WriteKey(name, key);
            encrypted.Add(File(name));
        }
        return encrypted;
    }

    /// <summary>Makes a folder's names durable (fsync of the folder itself).</summary>
    /// <param name="path">The folder.</param>
    public static void FlushFolder(string path)
    {
        if (OperatingSystem.IsWindows())
            return; // NTFS journals names itself and has no such call.
        using var handle = OpenFolder(path);
        if (Fsync(handle) != 0)
            throw new IOException($"fsync of the folder {path} failed (errno {Marshal.GetLastPInvokeError()}).");
    }

    private static FileStreamOptions OwnerOnly(FileMode mode)
    {
        var options = new FileStreamOptions { Mode = mode, Access = FileAccess.ReadWrite, Share = FileShare.None };
        if (!OperatingSystem.IsWindows())
            options.UnixCreateMode = OwnerOnlyFile;
        return options;
    }

    private static SafeFileHandle OpenFolder(string path)
    {
        var descriptor = Open(path, ReadOnlyCloseOnExec);
        return descriptor >= 0
            ? new SafeFileHandle(descriptor, ownsHandle: true)
            : throw new IOException($"The folder {path} cannot be opened (errno {Marshal.GetLastPInvokeError()}).");
    }

    // .NET opens no folders and so cannot fsync one.
    [LibraryImport("libc", EntryPoint = "open", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static partial int Open(string path, int flags);

    [LibraryImport("libc", EntryPoint = "fsync", SetLastError = true)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static partial int Fsync(SafeFileHandle handle);
}
