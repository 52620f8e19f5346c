using System.Collections.Concurrent;
using System.Diagnostics;
using Foundry.Testing;

namespace Foundry.Stack.Tests;

/// <summary>One of our programs, in a process of its own.</summary>
internal sealed class PartProcess(Process process) : IAsyncDisposable
{
    private static readonly TimeSpan UpWithin = TimeSpan.FromSeconds(60);

    /// <summary>Starts it and waits until it says at <paramref name="url"/> that it is up.</summary>
    public static async Task<PartProcess> StartAsync(string program, string url, Dictionary<string, string?> settings, CancellationToken cancellationToken, string path = "/readyz")
    {
        var start = new ProcessStartInfo("dotnet", [Path.Combine(AppContext.BaseDirectory, $"{program}.dll")]) { RedirectStandardOutput = true, RedirectStandardError = true };
        start.Environment["FOUNDRY_Log__Level"] = "Error";
        foreach (var (name, value) in settings)
            if (value is not null)
                start.Environment["FOUNDRY_" + name.Replace(":", "__", StringComparison.Ordinal)] = value;
        var part = new PartProcess(Process.Start(start)!);
        var said = new ConcurrentQueue<string?>();
        part.Inner.OutputDataReceived += (_, line) => said.Enqueue(line.Data);
        part.Inner.ErrorDataReceived += (_, line) => said.Enqueue(line.Data);
        part.Inner.BeginOutputReadLine();
        part.Inner.BeginErrorReadLine();
        using var client = Http.NewClient(new Uri(url));
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        limit.CancelAfter(UpWithin);
        using var poll = new PeriodicTimer(TimeSpan.FromMilliseconds(20));
        while (true)
        {
            if (part.Inner.HasExited)
                throw new InvalidOperationException($"{program} ended: {string.Join('\n', said)}");
            try
            {
                using var answer = await client.GetAsync(path, limit.Token);
                if (answer.IsSuccessStatusCode)
                    return part;
            }
            catch (HttpRequestException)
            {
                // Not listening yet.
            }
            await poll.WaitForNextTickAsync(limit.Token);
        }
    }

    private Process Inner => process;

    /// <summary>SIGKILL: nothing in the process has a say.</summary>
    public async Task KillAsync()
    {
        process.Kill();
        await process.WaitForExitAsync(CancellationToken.None);
    }

    public async ValueTask DisposeAsync()
    {
        if (!process.HasExited)
            process.Kill();
        await process.WaitForExitAsync(CancellationToken.None);
        process.Dispose();
    }
}
