using Foundry.Ledger.Storage;
using Microsoft.Win32.SafeHandles;

namespace Foundry.Benchmarks.Ledger;

/// <summary>The disk as it is, with a count of how often it was waited for.</summary>
internal sealed class CountingDisk : Disk
{
    private long _flushes;
    private long _bytes;

    /// <summary>Calls of fsync, of files and folders.</summary>
    public long Flushes => Interlocked.Read(ref _flushes);

    /// <summary>Bytes written.</summary>
    public long Bytes => Interlocked.Read(ref _bytes);

    public override void Write(SafeFileHandle file, ReadOnlySpan<byte> bytes, long offset)
    {
        Interlocked.Add(ref _bytes, bytes.Length);
        base.Write(file, bytes, offset);
    }

    public override void Flush(SafeFileHandle file)
    {
        Interlocked.Increment(ref _flushes);
        base.Flush(file);
    }

    public override void FlushFolder(string path)
    {
        Interlocked.Increment(ref _flushes);
        base.FlushFolder(path);
    }
}
