using Foundry.ServiceDefaults;
using Microsoft.Win32.SafeHandles;

namespace Foundry.Ledger.Storage;

/// <summary>
/// Every write that the ledger makes goes through here, so that each can be made to fail in a test. What returns from
/// <see cref="Flush"/>, <see cref="WriteFile"/> and <see cref="FlushFolder"/> is durable; what throws may or may not be.
/// </summary>
internal class Disk
{
    private const UnixFileMode OwnerOnlyFile = UnixFileMode.UserRead | UnixFileMode.UserWrite;
    private const UnixFileMode OwnerOnlyFolder = OwnerOnlyFile | UnixFileMode.UserExecute;
    private const string TemporarySuffix = ".tmp";

    /// <summary>Opens a file that exists, for appending and reading.</summary>
    public virtual SafeFileHandle Open(string path) =>
        File.OpenHandle(path, FileMode.Open, FileAccess.ReadWrite, FileShare.Read);

    /// <summary>Writes at the end of an open file.</summary>
    public virtual void Append(SafeFileHandle file, ReadOnlySpan<byte> bytes, long offset) => RandomAccess.Write(file, bytes, offset);

    /// <summary>Makes what was appended durable. A failure is final: what the kernel has dropped, a second fsync would call clean.</summary>
    public virtual void Flush(SafeFileHandle file) => RandomAccess.FlushToDisk(file);

    /// <summary>Puts a whole file in place: it is durable under a temporary name before it takes the real one.</summary>
    public virtual void WriteFile(string path, ReadOnlySpan<byte> bytes)
    {
        var temporary = path + TemporarySuffix;
        var options = new FileStreamOptions { Mode = FileMode.Create, Access = FileAccess.Write, BufferSize = 0 };
        if (!OperatingSystem.IsWindows())
            options.UnixCreateMode = OwnerOnlyFile;
        using (var file = new FileStream(temporary, options))
        {
            file.Write(bytes);
            Flush(file.SafeFileHandle);
        }
        File.Move(temporary, path, overwrite: true);
    }

    /// <summary>Makes a folder, 0700; durable once its parent is flushed.</summary>
    public virtual void CreateFolder(string path)
    {
        if (OperatingSystem.IsWindows())
            Directory.CreateDirectory(path);
        else
            Directory.CreateDirectory(path, OwnerOnlyFolder);
    }

    /// <summary>Gives a folder its real name.</summary>
    public virtual void MoveFolder(string from, string to) => Directory.Move(from, to);

    /// <summary>Makes the names in a folder durable.</summary>
    public virtual void FlushFolder(string path) => StateFolder.FlushFolder(path);

    /// <summary>Removes a file that nothing needs any more.</summary>
    public virtual void Delete(string path) => File.Delete(path);

    /// <summary>Removes a folder with all that is in it.</summary>
    public virtual void DeleteFolder(string path) => Directory.Delete(path, recursive: true);
}
