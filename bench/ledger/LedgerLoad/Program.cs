// What the ledger can take: see ../../README.md. bench/ledger/run calls it with the file that the tables go to.
using System.CommandLine;
using System.Globalization;
using System.Text;
using Foundry.Benchmarks.Ledger;
using Foundry.Testing;

const int httpWritersMax = 1024;
const int offered = 10_000;
const int outboxes = 4;
const int outboxLines = 256;

var report = new Argument<FileInfo>("FILE") { Description = "Where the tables go" };
var entries = new Option<long>("--entries") { Description = "Entries of the log that is opened, searched and verified", DefaultValueFactory = _ => 1_000_000 };
var seconds = new Option<double>("--seconds") { Description = "Length of each measurement of appends", DefaultValueFactory = _ => 5 };
var log = new Option<DirectoryInfo?>("--log") { Description = "A ledger's folder with such a log already in it, made by --keep; it is only read" };
var only = new Option<string[]>("--only") { Description = "engine, http or log", AllowMultipleArgumentsPerToken = true, DefaultValueFactory = _ => ["engine", "http", "log"] };
var writers = new Option<int[]>("--writers") { Description = "Writers at once, one measurement each; over HTTP those to 1,024", AllowMultipleArgumentsPerToken = true, DefaultValueFactory = _ => [1, 64, 1024, 4096] };
var keep = new Option<DirectoryInfo?>("--keep") { Description = "Make the log in this folder, and leave it there" };
var command = new RootCommand("What the ledger can take") { report, entries, seconds, writers, log, only, keep };
command.SetAction(async parse =>
{
    var parts = parse.GetValue(only)!;
    var text = new StringBuilder();
    using var folder = new TempFolder();
    var load = LoadAverage();
    var before = DiskRate.Measure(folder.Path, 2);
    if (parts.Contains("engine"))
        await EngineAsync(text, folder, parse.GetValue(seconds), parse.GetValue(writers)!);
    if (parts.Contains("http"))
        await HttpAsync(text, folder, parse.GetValue(seconds), parse.GetValue(writers)!.Where(count => count <= httpWritersMax));
    if (parts.Contains("log"))
        await LogAsync(text, folder, parse.GetValue(log)?.FullName, parse.GetValue(keep)?.FullName, parse.GetValue(entries));
    await File.AppendAllTextAsync(parse.GetValue(report)!.FullName, string.Create(CultureInfo.InvariantCulture,
        $"- Load average: {load} before, {LoadAverage()} after; {Environment.ProcessorCount} cores, which load and ledger share.\n- The disk by itself (4 KiB appended, fsync, one after the other): {before:N0} a second before, {DiskRate.Measure(folder.Path, 2):N0} after.\n{text}"));
});
return await command.Parse(args).InvokeAsync();

async Task EngineAsync(StringBuilder text, TempFolder folder, double length, IEnumerable<int> counts)
{
    text.AppendLine().AppendLine("## The engine alone, in process").AppendLine();
    text.AppendLine("| writers | entries a second | p50 ms | p99 ms | max ms | fsyncs a second | CPU µs an entry | bytes written an entry |").AppendLine("|---:|---:|---:|---:|---:|---:|---:|---:|");
    foreach (var count in counts)
    {
        var row = await EngineLoad.RunAsync(Directory.CreateDirectory(folder.File($"engine-{count}")).FullName, count, warmUp: 2, length);
        text.AppendLine(CultureInfo.InvariantCulture, $"| {row.Writers:N0} | {row.Entries / row.Seconds:N0} | {Times(row.Milliseconds)} | {row.Flushes:N0} | {row.CpuMicroseconds:0.0} | {row.BytesPerEntry:N0} |");
    }
}

async Task HttpAsync(StringBuilder text, TempFolder folder, double length, IEnumerable<int> counts)
{
    text.AppendLine().AppendLine("## Over HTTP, a process of its own").AppendLine();
    text.AppendLine("| writers | offered a second | entries a second | p50 ms | p99 ms | max ms | CPU µs an entry (ledger) |").AppendLine("|---|---:|---:|---:|---:|---:|---:|");
    using var ledger = await LedgerProcess.StartAsync(folder.File("http"));
    var first = 1_000_000_000L;
    foreach (var (count, rate) in counts.Select(count => (count, (int?)null)).Append((httpWritersMax, offered)))
    {
        // As many as it may take in that time; they are signed beforehand, and good for 30 seconds.
        var row = await HttpLoad.RunAsync(ledger, count, rate, (int)(length * (rate ?? (count == 1 ? 1_000 : offered))), first);
        first += 100_000_000;
        Row($"{row.Writers:N0}", rate is null ? "as many as it takes" : $"{rate:N0}", row);
    }
    var sent = await HttpLoad.RunAsync(ledger, outboxes, null, (int)(length * 4 * offered) / outboxLines * outboxLines, first, outboxLines);
    Row($"{outboxes} outboxes, {outboxLines} lines a request", "as many as it takes", sent);

    void Row(string who, string rate, HttpLoad.Row row) =>
        text.AppendLine(CultureInfo.InvariantCulture, $"| {who} | {rate} | {row.Entries / row.Seconds:N0} | {Times(row.Milliseconds)} | {row.CpuMicroseconds:0.0} |");
}

async Task LogAsync(StringBuilder text, TempFolder folder, string? made, string? kept, long size)
{
    var path = made ?? kept ?? folder.File("log/ledger");
    text.AppendLine().AppendLine(CultureInfo.InvariantCulture, $"## A log of {size:N0} entries").AppendLine();
    text.AppendLine("| what | s | entries a second |").AppendLine("|---|---:|---:|");
    if (made is null)
        Row("made by 4,096 writers in process", await EngineLoad.FillAsync(path, size), isRate: true);
    Row("opened, with its index, after an orderly stop", await Reading.OpenAsync(path), isRate: false);
    Row("recomputed, as a start does: entries, tiles, index", Reading.Recompute(path), isRate: true);
    Row("`foundry ledger verify --folder`, process start and all", await Reading.CliAsync(["ledger", "verify", "--folder", Path.Combine(path, EngineLoad.Module.Name), "--vkey", Reading.VerifierKeyOf(path)]), isRate: true);
    IReadOnlyList<Reading.Search> searches;
    long resident;
    using (var ledger = await LedgerProcess.StartAsync(path))
    {
        Row("a ledger's start until it is ready (the first million recomputed)", ledger.Start, isRate: false);
        searches = await Reading.SearchAsync(ledger, size);
        resident = ledger.ResidentBytes;
    }
    if (made is null && kept is null)
        Row("`foundry ledger verify`, through the gateway", await OnlineAsync(folder), isRate: true);
    var files = Directory.EnumerateFiles(Path.Combine(path, EngineLoad.Module.Name), "*", SearchOption.AllDirectories).Select(file => new FileInfo(file)).ToList();
    var index = files.Where(file => file.Name.StartsWith("index.", StringComparison.Ordinal)).Sum(file => file.Length);
    text.AppendLine().AppendLine(CultureInfo.InvariantCulture,
        $"{(files.Sum(file => file.Length) - index) / (double)size:N0} bytes of disk an entry, and {index / (double)size:N0} for the index; the ledger held {resident / 1e6:N0} MB after the searches.");
    text.AppendLine().AppendLine("Pages of `GET /v1/entries` over HTTP, each recorded durably before it was answered; the first page of each, then 20 times the same:").AppendLine();
    text.AppendLine("| filter | entries in the page | first ms | p50 ms | max ms |").AppendLine("|---|---:|---:|---:|---:|");
    foreach (var search in searches)
        text.AppendLine(CultureInfo.InvariantCulture, $"| {search.What} | {search.Found} | {search.FirstMilliseconds:0.0} | {search.Milliseconds[search.Milliseconds.Length / 2]:0.0} | {search.Milliseconds[^1]:0.0} |");

    void Row(string what, TimeSpan time, bool isRate) =>
        text.AppendLine(CultureInfo.InvariantCulture, $"| {what} | {time.TotalSeconds:0.00} | {(isRate ? $"{size / time.TotalSeconds:N0}" : "")} |");
}

// The log as part of the standalone program, which has its own keys but for the ledger's.
static async Task<TimeSpan> OnlineAsync(TempFolder folder)
{
    File.Delete(folder.File("log/ledger/service.key"));
    File.Delete(folder.File("log/ledger/trust.json"));
    await using var platform = await StandaloneProcess.StartAsync(folder.File("log"), CancellationToken.None, environment: new Dictionary<string, string> { ["FOUNDRY_Log__Level"] = "Warning" });
    return await Reading.CliAsync(["ledger", "verify", "--module-id", EngineLoad.Module.Name, "--gateway", platform.Gateway.ToString(), "--token-file", folder.File("log/admin.token")]);
}

static string Times(double[] sorted) => string.Create(CultureInfo.InvariantCulture, $"{sorted[sorted.Length / 2]:0.00} | {sorted[sorted.Length * 99L / 100]:0.00} | {sorted[^1]:0.0}");

static string LoadAverage() => File.Exists("/proc/loadavg") ? File.ReadAllText("/proc/loadavg").Split(' ')[0] : "unknown";
