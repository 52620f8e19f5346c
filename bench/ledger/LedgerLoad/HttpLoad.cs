using System.Diagnostics;

namespace Foundry.Benchmarks.Ledger;

/// <summary>
/// The ledger over HTTP, a process of its own, asked as a gateway asks it: one append a request, or as many as an outbox sends in one, each with an assertion of
/// its own, which the ledger verifies and takes once. The requests are signed beforehand, since a gateway's signatures cost its own machine.
/// </summary>
internal static class HttpLoad
{
    internal sealed record Row(int Writers, int? Offered, long Entries, double Seconds, double[] Milliseconds, double CpuMicroseconds);

    /// <summary>
    /// Sends so many appends through so many connections, each of which waits for its answer, after some that do not count. Where a rate
    /// is offered, each append is due at its time, and its time counts from there, whether or not a connection was free.
    /// </summary>
    public static async Task<Row> RunAsync(LedgerProcess ledger, int writers, int? offered, int entries, long first, int lines = 1)
    {
        var clients = Enumerable.Range(0, writers).Select(_ => new Client(ledger.Port, ledger.Gateway)).ToList();
        try
        {
            await LoadAsync(clients, null, Requests(ledger, first, Math.Max(writers, entries / lines / 4), lines));
            var requests = Requests(ledger, first + (2L * entries), entries / lines, lines);
            GC.Collect();
            var cpu = ledger.Cpu;
            var watch = Stopwatch.StartNew();
            var times = await LoadAsync(clients, offered, requests);
            return new Row(writers, offered, entries, watch.Elapsed.TotalSeconds, times, (ledger.Cpu - cpu).TotalMicroseconds / entries);
        }
        finally
        {
            clients.ForEach(client => client.Dispose());
        }
    }

    private static byte[][] Requests(LedgerProcess ledger, long first, int count, int lines)
    {
        var now = TimeProvider.System.GetUtcNow();
        var requests = new byte[count][];
        Parallel.For(0, count, i => requests[i] = Client.AppendOf(ledger.Gateway, EngineLoad.Module.Name, first + ((long)i * lines), lines, now));
        return requests;
    }

    private static async Task<double[]> LoadAsync(List<Client> clients, int? offered, byte[][] requests)
    {
        var next = -1;
        var start = Stopwatch.GetTimestamp();
        var times = new double[requests.Length];
        await Task.WhenAll(clients.Select(client => Task.Run(async () =>
        {
            for (var i = Interlocked.Increment(ref next); i < requests.Length; i = Interlocked.Increment(ref next))
            {
                var begun = Stopwatch.GetTimestamp();
                if (offered is { } rate)
                {
                    var due = start + (long)(i * (double)Stopwatch.Frequency / rate);
                    if (due > begun)
                        await Task.Delay(Stopwatch.GetElapsedTime(begun, due));
                    begun = due;
                }
                // One answer but 200 voids the run.
                if (!await client.SendAsync(requests[i]))
                    throw new InvalidOperationException($"Append {i} was refused.");
                times[i] = Stopwatch.GetElapsedTime(begun).TotalMilliseconds;
            }
        })));
        Array.Sort(times);
        return times;
    }
}
