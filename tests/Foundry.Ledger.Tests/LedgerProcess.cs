using System.Diagnostics;
using Foundry.Testing;

namespace Foundry.Ledger.Tests;

/// <summary>The ledger as operators run it: a process of its own.</summary>
internal sealed class LedgerProcess : IDisposable
{
    private static readonly TimeSpan _startMax = TimeSpan.FromSeconds(60);
    private readonly Process _process;

    private LedgerProcess(Process process, Uri address)
    {
        _process = process;
        Address = address;
    }

    public Uri Address { get; }

    /// <summary>Starts one in a folder.</summary>
    public static LedgerProcess Start(string folder)
    {
        var port = LoopbackPort.Free();
        var start = new ProcessStartInfo("dotnet", [typeof(Ledger).Assembly.Location])
        {
            RedirectStandardError = true,
            RedirectStandardOutput = true,
        };
        foreach (var (key, value) in LedgerHost.Settings(folder, ("Ledger:Listen", $"http://127.0.0.1:{port}"), ("Log:Level", "Fatal")))
            start.Environment["FOUNDRY_" + key.Replace(":", "__", StringComparison.Ordinal)] = value;
        return new LedgerProcess(Process.Start(start)!, new Uri($"http://127.0.0.1:{port}"));
    }

    /// <summary>Waits until it answers.</summary>
    public async Task ReadyAsync(HttpClient client)
    {
        using var patience = new CancellationTokenSource(_startMax);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(patience.Token, TestContext.Current.CancellationToken);
        while (true)
        {
            try
            {
                using var answer = await client.GetAsync(new Uri(Address, "/healthz"), either.Token);
                return;
            }
            catch (HttpRequestException) when (!_process.HasExited)
            {
                await Task.Yield();
            }
        }
    }

    /// <summary>Asks so many times whether it answers, and does not mind.</summary>
    public async Task PollAsync(HttpClient client, int times)
    {
        for (var i = 0; i < times; i++)
        {
            try
            {
                using var answer = await client.GetAsync(new Uri(Address, "/healthz"), TestContext.Current.CancellationToken);
            }
            catch (HttpRequestException)
            {
            }
        }
    }

    /// <summary>SIGKILL: nothing in the process has a say.</summary>
    public async Task KillAsync()
    {
        _process.Kill();
        await _process.WaitForExitAsync(TestContext.Current.CancellationToken);
    }

    /// <summary>What it says and how it ends, when it ends by itself.</summary>
    public async Task<(int ExitCode, string Error)> EndAsync()
    {
        using var patience = new CancellationTokenSource(_startMax);
        var error = await _process.StandardError.ReadToEndAsync(patience.Token);
        await _process.WaitForExitAsync(patience.Token);
        return (_process.ExitCode, error);
    }

    public void Dispose()
    {
        if (!_process.HasExited)
            _process.Kill();
        _process.Dispose();
    }
}
