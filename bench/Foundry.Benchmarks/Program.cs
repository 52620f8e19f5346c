// What tokens and admission cost: see ../README.md. Two arguments, what is measured and the file that the tables go to; bench/tokens/run and
// bench/admission/run name them.
using System.Globalization;
using System.Text;
using BenchmarkDotNet.Configs;
using BenchmarkDotNet.Jobs;
using BenchmarkDotNet.Loggers;
using BenchmarkDotNet.Running;
using BenchmarkDotNet.Toolchains.InProcess.Emit;
using Foundry.Benchmarks;

if (args is not ["tokens" or "admission", var file])
{
    Console.Error.WriteLine("usage: Foundry.Benchmarks tokens|admission FILE");
    return 2;
}
var isAdmission = args[0] == "admission";
var loadAtStart = LoadAverage();

// In this process: no project is generated, built and restored beside the repository's.
var config = ManualConfig.CreateEmpty()
    .AddJob(Job.Default.WithToolchain(InProcessEmitToolchain.Instance).WithWarmupCount(3).WithIterationCount(15))
    .AddColumnProvider(BenchmarkDotNet.Columns.DefaultColumnProviders.Instance)
    .AddLogger(ConsoleLogger.Default)
    .WithArtifactsPath(Path.Combine(Path.GetTempPath(), $"foundry-benchmarks-{Environment.ProcessId}"));
var summary = isAdmission ? BenchmarkRunner.Run<AdmissionBenchmarks>(config) : BenchmarkRunner.Run<TokenBenchmarks>(config);
Directory.Delete(config.ArtifactsPath, recursive: true);
if (summary.HasCriticalValidationErrors || summary.Reports.Any(report => !report.Success))
    return 1;

var text = new StringBuilder();
text.AppendLine($"- Load average: {loadAtStart} before, {{0}} after; {Environment.ProcessorCount} cores.");
text.AppendLine().AppendLine("## In the library, one thread").AppendLine();
text.AppendLine(isAdmission ? "| what | µs | ± | bytes |" : "| what | µs | ± | a second and core |").AppendLine("|---|---:|---:|---:|");
foreach (var report in summary.Reports)
{
    var (mean, error) = (report.ResultStatistics!.Mean, report.ResultStatistics.ConfidenceInterval.Margin);
    var last = isAdmission ? report.GcStats.GetBytesAllocatedPerOperation(report.BenchmarkCase) ?? -1 : 1e9 / mean;
    text.AppendLine(CultureInfo.InvariantCulture, $"| {report.BenchmarkCase.Descriptor.WorkloadMethodDisplayInfo.Trim('\'')} | {mean / 1e3:0.000} | {error / 1e3:0.000} | {last:N0} |");
}
if (isAdmission)
{
    await File.AppendAllTextAsync(file, string.Format(CultureInfo.InvariantCulture, text.ToString(), LoadAverage()));
    return 0;
}
text.AppendLine().AppendLine("## Issued over HTTP, durable before the answer").AppendLine();
text.AppendLine("| store | clients | tokens a second | p50 ms | p99 ms |").AppendLine("|---|---:|---:|---:|---:|");
foreach (var row in await IssueLoad.RunAsync())
    text.AppendLine(CultureInfo.InvariantCulture, $"| {row.Store} | {row.Clients} | {row.PerSecond:N0} | {row.P50:0.0} | {row.P99:0.0} |");
await File.AppendAllTextAsync(file, string.Format(CultureInfo.InvariantCulture, text.ToString(), LoadAverage()));
return 0;

static string LoadAverage() => File.Exists("/proc/loadavg") ? File.ReadAllText("/proc/loadavg").Split(' ')[0] : "unknown";
