using System.Diagnostics;
using Foundry.Ledger;
using Foundry.Ledger.Append;
using Foundry.Ledger.Storage;
using Foundry.ServiceDefaults;
using Microsoft.Extensions.Logging.Abstractions;

namespace Foundry.Benchmarks.Ledger;

/// <summary>
/// The engine alone: many writers in this process append to one log through shelf, sequencer and file store, as the endpoint does once it
/// has read its request. An append ends when its entry is durable.
/// </summary>
internal static class EngineLoad
{
    internal sealed record Row(int Writers, long Entries, double Seconds, double[] Milliseconds, double Flushes, double CpuMicroseconds, double BytesPerEntry);

    /// <summary>Measures for so many seconds, after some that do not count.</summary>
    public static async Task<Row> RunAsync(string folder, int writers, double warmUp, double seconds)
    {
        var disk = new CountingDisk();
        using var state = Open(folder, disk);
        using var log = await state.Shelf.OpenOrCreateAsync(Module);
        var number = log.State.Size;
        await LoadAsync(warmUp);
        GC.Collect();
        var (flushes, bytes, cpu) = (disk.Flushes, disk.Bytes, Environment.CpuUsage.TotalTime);
        var (times, elapsed) = await LoadAsync(seconds);
        return new Row(writers, times.Length, elapsed, times, (disk.Flushes - flushes) / elapsed,
            (Environment.CpuUsage.TotalTime - cpu).TotalMicroseconds / times.Length, (disk.Bytes - bytes) / (double)times.Length);

        async Task<(double[] Milliseconds, double Seconds)> LoadAsync(double length)
        {
            var watch = Stopwatch.StartNew();
            var all = await Task.WhenAll(Enumerable.Range(0, writers).Select(_ => Task.Run(async () =>
            {
                var own = new List<double>();
                while (watch.Elapsed.TotalSeconds < length)
                {
                    var mine = Interlocked.Increment(ref number);
                    var begun = Stopwatch.GetTimestamp();
                    await AppendAsync(log, mine);
                    own.Add(Stopwatch.GetElapsedTime(begun).TotalMilliseconds);
                }
                return own;
            })));
            return ([.. all.SelectMany(own => own).Order()], watch.Elapsed.TotalSeconds);
        }
    }

    /// <summary>Makes a log of so many entries, as fast as the engine takes them.</summary>
    public static async Task<TimeSpan> FillAsync(string folder, long entries)
    {
        const int writers = 4096;
        using var state = Open(folder, new Disk());
        using var log = await state.Shelf.OpenOrCreateAsync(Module);
        var watch = Stopwatch.StartNew();
        var number = log.State.Size;
        await Task.WhenAll(Enumerable.Range(0, writers).Select(_ => Task.Run(async () =>
        {
            for (var mine = Interlocked.Increment(ref number); mine <= entries; mine = Interlocked.Increment(ref number))
                await AppendAsync(log, mine);
        })));
        return watch.Elapsed;
    }

    public static ModuleId Module => ModuleId.TryParse("bench", out var module) ? module : throw new InvalidOperationException();

    public static LedgerState Open(string folder, Disk disk) =>
        LedgerState.Open(new LedgerOptions(), StateFolder.Open(folder), TimeProvider.System, NullLoggerFactory.Instance, disk);

    private static async Task AppendAsync(LogShelf.OpenLog log, long number)
    {
        var outcome = await log.AppendAsync("gateway", Events.IdOf(number), Events.PayloadOf(number), CancellationToken.None);
        if (outcome.Status != AppendStatus.Appended)
            throw new InvalidOperationException($"Entry {number}: {outcome.Status}");
    }
}
