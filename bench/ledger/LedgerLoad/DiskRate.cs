using System.Diagnostics;

namespace Foundry.Benchmarks.Ledger;

/// <summary>What the disk does by itself: 4 KiB appended to one file and made durable, again and again.</summary>
internal static class DiskRate
{
    private const int BlockBytes = 4096;

    /// <summary>fsyncs a second.</summary>
    public static double Measure(string folder, double seconds)
    {
        var path = Path.Combine(folder, "fsync.probe");
        var block = new byte[BlockBytes];
        System.Security.Cryptography.RandomNumberGenerator.Fill(block);
        var count = 0L;
        using var file = File.OpenHandle(path, FileMode.Create, FileAccess.Write, FileShare.None, FileOptions.DeleteOnClose);
        var watch = Stopwatch.StartNew();
        for (; watch.Elapsed.TotalSeconds < seconds; count++)
        {
            RandomAccess.Write(file, block, count * BlockBytes);
            RandomAccess.FlushToDisk(file);
        }
        return count / watch.Elapsed.TotalSeconds;
    }
}
