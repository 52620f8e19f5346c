using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using Foundry.Ledger.Storage;

namespace Foundry.Benchmarks.Ledger;

/// <summary>What a large log costs to open, to search and to verify.</summary>
internal static class Reading
{
    private const int Repeats = 20;

    internal sealed record Search(string What, int Found, double FirstMilliseconds, double[] Milliseconds);

    /// <summary>
    /// Pages over HTTP, each recorded durably in the audit log before it is answered, as every read is. The first time of each is shown apart: it
    /// reads what nothing has read since the start.
    /// </summary>
    public static async Task<IReadOnlyList<Search>> SearchAsync(LedgerProcess ledger, long entries)
    {
        var rows = new List<Search>();
        var rare = $"event_type={Events.RareType}";
        var frequent = $"event_type={Events.FrequentType}";
        using var client = new Client(ledger.Port, ledger.Gateway);
        // What reading an entry costs without any search.
        await client.GetAsync("/v1/entries?limit=1", EngineLoad.Module.Name);
        foreach (var (what, query) in new (string, string)[]
        {
            ("no filter", "limit=100"),
            ($"a frequent type (999 of 1,000)", $"{frequent}&limit=100"),
            ("the same, from the middle on", $"{frequent}&limit=100&since={entries / 2}"),
            ("a rare type (1 of 1,000)", $"{rare}&limit=100"),
            ("the same, from nine tenths on", $"{rare}&limit=100&since={entries * 9 / 10}"),
            ("a field that one entry has", $"vm_id={Events.VmOf(entries / 3)}"),
            ("a field that no entry has", "vm_id=nobody"),
            ("a rare type and a frequent field", $"{rare}&region=eu-1&limit=100"),
        })
        {
            var times = new double[Repeats];
            var found = 0;
            var first = 0.0;
            for (var i = -1; i < Repeats; i++)
            {
                var begun = Stopwatch.GetTimestamp();
                var page = await client.GetAsync($"/v1/entries?{query}", EngineLoad.Module.Name) ?? throw new InvalidOperationException($"{query} was refused.");
                var time = Stopwatch.GetElapsedTime(begun).TotalMilliseconds;
                if (i < 0)
                    (first, found) = (time, JsonElement.Parse(page).GetProperty("entries").GetArrayLength());
                else
                    times[i] = time;
            }
            Array.Sort(times);
            rows.Add(new Search(what, found, first, times));
        }
        return rows;
    }

    /// <summary>Opens the log in this process, as its first request does; what the start verifies is not in it.</summary>
    public static async Task<TimeSpan> OpenAsync(string folder)
    {
        using var state = EngineLoad.Open(folder, new Disk());
        var watch = Stopwatch.StartNew();
        using var log = await state.Shelf.TryOpenAsync(EngineLoad.Module);
        return log is null ? throw new InvalidOperationException("There is no log.") : watch.Elapsed;
    }

    /// <summary>Recomputes the whole log, as a start does: every entry, tile and byte of the index.</summary>
    public static TimeSpan Recompute(string folder)
    {
        using var state = EngineLoad.Open(folder, new Disk());
        var watch = Stopwatch.StartNew();
        var verifier = state.Shelf.VerifierOf(EngineLoad.Module);
        var tail = state.Store.VerifyTail(EngineLoad.Module, verifier, CancellationToken.None);
        state.Store.Verify(EngineLoad.Module, verifier, tail, long.MaxValue, CancellationToken.None);
        return watch.Elapsed;
    }

    /// <summary>The program that operators and strangers run; the verifier key of the log is the folder's own.</summary>
    public static async Task<TimeSpan> CliAsync(IEnumerable<string> arguments, params (string Name, string Value)[] environment)
    {
        var start = new ProcessStartInfo("dotnet", [Path.Combine(AppContext.BaseDirectory, "foundry.dll"), .. arguments]) { RedirectStandardOutput = true };
        foreach (var (name, value) in environment)
            start.Environment[name] = value;
        var watch = Stopwatch.StartNew();
        using var process = Process.Start(start)!;
        var output = await process.StandardOutput.ReadToEndAsync();
        await process.WaitForExitAsync();
        return process.ExitCode == 0 ? watch.Elapsed : throw new InvalidOperationException(string.Create(CultureInfo.InvariantCulture, $"foundry ended with {process.ExitCode}: {output}"));
    }

    /// <summary>The key that the log's checkpoints are verified with.</summary>
    public static string VerifierKeyOf(string folder)
    {
        using var state = EngineLoad.Open(folder, new Disk());
        return state.Keys.CurrentOf(new Foundry.Ledger.LedgerOptions().OriginOf(EngineLoad.Module)).VerifierKey;
    }
}
