// What the ledger can take: see ../../README.md. bench/ledger/run calls it.
using System.Globalization;
using Foundry.Benchmarks.Ledger;

switch (args)
{
    case ["fsync", var folder, var seconds]:
        Console.WriteLine($"{DiskRate.Measure(folder, double.Parse(seconds, CultureInfo.InvariantCulture)):N0} fsyncs a second");
        return 0;
    case ["engine", var folder, var seconds, .. var writers]:
        foreach (var count in writers)
        {
            var row = await EngineLoad.RunAsync(folder, int.Parse(count, CultureInfo.InvariantCulture), 2, double.Parse(seconds, CultureInfo.InvariantCulture));
            Console.WriteLine($"{row.Writers} writers: {row.Entries / row.Seconds:N0}/s p50 {row.Milliseconds[row.Milliseconds.Length / 2]:0.00} p99 {row.Milliseconds[row.Milliseconds.Length * 99L / 100]:0.00} max {row.Milliseconds[^1]:0.0} flushes/s {row.Flushes:N0} cpu {row.CpuMicroseconds:0.0} us bytes {row.BytesPerEntry:N0}");
        }
        return 0;
    case ["fill", var folder, var entries]:
        Console.WriteLine(await EngineLoad.FillAsync(folder, long.Parse(entries, CultureInfo.InvariantCulture)));
        return 0;
    case ["http", var folder, var entries, .. var writers]:
        using (var ledger = await LedgerProcess.StartAsync(folder))
        {
            var first = 1_000_000_000L;
            foreach (var count in writers)
            {
                var row = await HttpLoad.RunAsync(ledger, int.Parse(count, CultureInfo.InvariantCulture), int.Parse(entries, CultureInfo.InvariantCulture), first);
                first += 10_000_000;
                Console.WriteLine($"{row.Writers} writers: {row.Entries / row.Seconds:N0}/s p50 {row.Milliseconds[row.Milliseconds.Length / 2]:0.00} p99 {row.Milliseconds[row.Milliseconds.Length * 99L / 100]:0.00} max {row.Milliseconds[^1]:0.0} cpu {row.CpuMicroseconds:0.0} us");
            }
        }
        return 0;
    default:
        return 2;
}
