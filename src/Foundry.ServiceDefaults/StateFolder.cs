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

    private StateFolder(string path) => Path = path;

    /// <summary>Where it is.</summary>
    public string Path { get; }

    /// <summary>Opens the folder, made with mode 0700 where it is not there.</summary>
    /// <param name="path">Where.</param>
    /// <exception cref="StartupException">It cannot be made.</exception>
    public static StateFolder Open(string path)
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
        return new StateFolder(full);
    }

    /// <summary>A folder inside this one.</summary>
    /// <param name="name">Its name.</param>
    public StateFolder Folder(string name) => Open(System.IO.Path.Combine(Path, name));

    /// <summary>The path of a file in it.</summary>
    /// <param name="name">Its name.</param>
    public string File(string name) => System.IO.Path.Combine(Path, name);

    /// <summary>Keeps a second process out for as long as the handle is open.</summary>
    /// <param name="name">The name of the file that is held.</param>
    /// <exception cref="StartupException">Another process holds it.</exception>
    public IDisposable Lock(string name = "lock")
    {
        try
        {
            return new FileStream(File(name), OwnerOnly(FileMode.OpenOrCreate));
        }
        catch (IOException fault)
        {
            throw new StartupException($"The state folder {Path} is in use by another process. Stop that one, or set FOUNDRY_DATA to another folder.", fault);
        }
    }

    /// <summary>Replaces a file whole and durably: readers see the old or the new one, also after a power cut.</summary>
    /// <param name="name">Its name.</param>
    /// <param name="content">Its new content.</param>
    public void Write(string name, ReadOnlySpan<byte> content)
    {
        var target = File(name);
        var temporary = $"{target}.{Guid.NewGuid():N}.tmp";
        using (var file = new FileStream(temporary, OwnerOnly(FileMode.CreateNew)))
        {
            file.Write(content);
            file.Flush(flushToDisk: true);
        }
        System.IO.File.Move(temporary, target, overwrite: true);
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
    /// <exception cref="StateCorruptException">The file does not hold a key.</exception>
    public SigningKey SigningKey(string name)
    {
        if (Read(name) is not { } text)
        {
            var made = Tokens.SigningKey.Generate();
            Write(name, made.ExportSeed() + "\n");
            return made;
        }
        return Tokens.SigningKey.TryImport(text.TrimEnd('\n'), out var key)
            ? key
            : throw new StateCorruptException(File(name), "this is not an Ed25519 key (one line of 43 base64url characters)");
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
        const int readOnlyCloseOnExec = 0x80000; // O_RDONLY | O_CLOEXEC
        var descriptor = Open(path, readOnlyCloseOnExec);
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
