using Foundry.ServiceDefaults;
using Microsoft.Win32.SafeHandles;

namespace Foundry.Ledger.Storage;

/// <summary>
/// Every call by which the ledger changes a file system, one method each, so that each can be made to fail in a test. What was
/// written is durable once <see cref="Flush"/> of its file returns, and a name once <see cref="FlushFolder"/> of its folder
/// does; what throws may or may not have happened.
/// </summary>
internal class Disk
{
    private const UnixFileMode OwnerOnlyFile = UnixFileMode.UserRead | UnixFileMode.UserWrite;
    private const UnixFileMode OwnerOnlyFolder = OwnerOnlyFile | UnixFileMode.UserExecute;

    /// <summary>What a file is called while it is written, behind its name.</summary>
    public const string TemporarySuffix = ".tmp";

    /// <summary>Opens a file that exists, for appending and reading.</summary>
    public virtual SafeFileHandle Open(string path) =>
        File.OpenHandle(path, FileMode.Open, FileAccess.ReadWrite, FileShare.Read);

    /// <summary>Makes an empty file, 0600.</summary>
    public virtual SafeFileHandle Create(string path)
    {
        var file = File.OpenHandle(path, FileMode.Create, FileAccess.Write, FileShare.None);
        if (!OperatingSystem.IsWindows())
            File.SetUnixFileMode(file, OwnerOnlyFile);
        return file;
    }

    /// <summary>Writes to an open file.</summary>
    public virtual void Write(SafeFileHandle file, ReadOnlySpan<byte> bytes, long offset) => RandomAccess.Write(file, bytes, offset);

    /// <summary>Makes what was written durable. A failure is final: what the kernel has dropped, a second fsync would call clean.</summary>
    public virtual void Flush(SafeFileHandle file) => RandomAccess.FlushToDisk(file);

    /// <summary>Gives a file another name, in place of whatever has that name; or a folder, where nothing has.</summary>
    public virtual void Rename(string from, string to)
    {
        if (Directory.Exists(from))
            Directory.Move(from, to);
        else
            File.Move(from, to, overwrite: true);
    }

    /// <summary>Makes a folder, 0700; durable once its parent is flushed.</summary>
    public virtual void CreateFolder(string path)
    {
        if (OperatingSystem.IsWindows())
            Directory.CreateDirectory(path);
        else
            Directory.CreateDirectory(path, OwnerOnlyFolder);
    }

    /// <summary>Makes the names in a folder durable.</summary>
    public virtual void FlushFolder(string path) => StateFolder.FlushFolder(path);

    /// <summary>Removes a file that nothing needs any more.</summary>
    public virtual void Delete(string path) => File.Delete(path);

    /// <summary>Reads as many bytes as there is room for; false where the file ends before.</summary>
    public static bool TryReadAll(SafeFileHandle file, Span<byte> target, long offset)
    {
        while (!target.IsEmpty)
        {
            var read = RandomAccess.Read(file, target, offset);
            if (read == 0)
                return false;
            target = target[read..];
            offset += read;
        }
        return true;
    }

    /// <summary>Puts a whole file in place: it is durable under a temporary name before it takes the real one, which is durable once the folder is flushed.</summary>
    public void WriteFile(string path, ReadOnlySpan<byte> bytes)
    {
        var temporary = path + TemporarySuffix;
        using (var file = Create(temporary))
        {
            Write(file, bytes, 0);
            Flush(file);
        }
        Rename(temporary, path);
    }
}
