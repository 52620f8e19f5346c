using System.Collections.Concurrent;
using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;

namespace Foundry.Testing;

/// <summary>The real standalone program, as a process of its own on ports of its own: what a newcomer runs.</summary>
public sealed partial class StandaloneProcess : IAsyncDisposable
{
    private static readonly TimeSpan ReadyWithin = TimeSpan.FromSeconds(60);

    private readonly Process _process;
    private readonly ConcurrentQueue<string> _output = new();
    private readonly ConcurrentQueue<string> _errors = new();

    private StandaloneProcess(string data, Ports ports, IReadOnlyDictionary<string, string> environment)
    {
        (Data, PortsInUse) = (data, ports);
        var start = new ProcessStartInfo("dotnet") { RedirectStandardOutput = true, RedirectStandardError = true };
        start.ArgumentList.Add(Path.Combine(AppContext.BaseDirectory, "Foundry.Standalone.dll"));
        start.Environment["FOUNDRY_DATA"] = data;
        start.Environment["FOUNDRY_Gateway__Listen"] = Url(ports.Gateway);
        start.Environment["FOUNDRY_Gateway__OpsListen"] = Url(ports.Ops);
        start.Environment["FOUNDRY_Issuance__Listen"] = Url(ports.Issuance);
        start.Environment["FOUNDRY_Ledger__Listen"] = Url(ports.Ledger);
        start.Environment["FOUNDRY_Fleet__Listen"] = Url(ports.Fleet);
        foreach (var (name, value) in environment)
            start.Environment[name] = value;
        _process = Process.Start(start)!;
        _process.OutputDataReceived += (_, line) => Keep(_output, line.Data);
        _process.ErrorDataReceived += (_, line) => Keep(_errors, line.Data);
        _process.BeginOutputReadLine();
        _process.BeginErrorReadLine();
    }

    /// <summary>Ports that were free a moment ago, one for each listener.</summary>
    public sealed record Ports(int Gateway, int Ops, int Issuance, int Ledger, int Fleet)
    {
        /// <summary>Finds five.</summary>
        public static Ports Free() => new(LoopbackPort.Free(), LoopbackPort.Free(), LoopbackPort.Free(), LoopbackPort.Free(), LoopbackPort.Free());
    }

    public string Data { get; }
    public Ports PortsInUse { get; }
    public Uri Gateway => new(Url(PortsInUse.Gateway));
    public Uri Ops => new(Url(PortsInUse.Ops));
    public int Id => _process.Id;

    /// <summary>What it said on standard output, a line each.</summary>
    public IReadOnlyList<string> Output => [.. _output];

    /// <summary>What it said on standard error, a line each: its log.</summary>
    public IReadOnlyList<string> Errors => [.. _errors];

    /// <summary>Starts it and waits until it is ready.</summary>
    public static async Task<StandaloneProcess> StartAsync(string data, CancellationToken cancellationToken, Ports? ports = null, IReadOnlyDictionary<string, string>? environment = null)
    {
        var process = new StandaloneProcess(data, ports ?? Ports.Free(), environment ?? new Dictionary<string, string>());
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        limit.CancelAfter(ReadyWithin);
        using var client = Http.NewClient(process.Ops);
        using var poll = new PeriodicTimer(TimeSpan.FromMilliseconds(20));
        while (true)
        {
            if (process._process.HasExited)
                throw new InvalidOperationException($"It ended with {process._process.ExitCode}: {string.Join('\n', process.Errors)}");
            try
            {
                using var answer = await client.GetAsync("/readyz", limit.Token);
                if (answer.IsSuccessStatusCode)
                    return process;
            }
            catch (HttpRequestException)
            {
                // Not listening yet.
            }
            catch (OperationCanceledException)
            {
                await process.DisposeAsync();
                throw new TimeoutException($"It was not ready within {ReadyWithin}: {string.Join('\n', process.Errors)}");
            }
            await poll.WaitForNextTickAsync(CancellationToken.None);
        }
    }

    /// <summary>Starts it, expecting it to end by itself.</summary>
    /// <returns>Its exit code and what it said on standard error.</returns>
    public static async Task<(int ExitCode, string Errors)> RunToEndAsync(string data, CancellationToken cancellationToken, Ports? ports = null)
    {
        await using var process = new StandaloneProcess(data, ports ?? Ports.Free(), new Dictionary<string, string>());
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        limit.CancelAfter(ReadyWithin);
        await process._process.WaitForExitAsync(limit.Token);
        return (process._process.ExitCode, string.Join('\n', process.Errors));
    }

    /// <summary>SIGTERM, and its exit code.</summary>
    public async Task<int> StopAsync(CancellationToken cancellationToken)
    {
        const int terminate = 15;
        if (Kill(_process.Id, terminate) != 0)
            throw new InvalidOperationException("It is not running.");
        await _process.WaitForExitAsync(cancellationToken);
        return _process.ExitCode;
    }

    /// <summary>SIGKILL.</summary>
    public async Task KillAsync()
    {
        _process.Kill();
        await _process.WaitForExitAsync();
    }

    public async ValueTask DisposeAsync()
    {
        if (!_process.HasExited)
            await KillAsync();
        _process.Dispose();
    }

    private static void Keep(ConcurrentQueue<string> lines, string? line)
    {
        if (line is not null)
            lines.Enqueue(line);
    }

    private static string Url(int port) => string.Create(CultureInfo.InvariantCulture, $"http://127.0.0.1:{port}");

    [LibraryImport("libc", EntryPoint = "kill", SetLastError = true)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static partial int Kill(int process, int signal);
}
