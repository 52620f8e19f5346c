using System.Diagnostics;
using System.Text;
using Foundry.Testing;

namespace Foundry.Stack.Tests;

/// <summary>The README's walk, its commands as they stand there, so that it cannot rot.</summary>
public sealed class ReadmeTests
{
    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    [Fact]
    public async Task Its_commands_do_what_it_says()
    {
        using var folder = new TempFolder();
        await using var process = await StandaloneProcess.StartAsync(folder.File("data"), Cancellation);
        var output = await RunAsync(folder, process);

        var lines = output.Split('\n');
        Assert.Contains(lines, line => line.Contains("\"tenant_id\":\"acme-corp\"", StringComparison.Ordinal) && line.Contains("created_at", StringComparison.Ordinal));
        Assert.Contains(lines, line => line.Contains("\"node_id\":\"compute-west-01\"", StringComparison.Ordinal));
        Assert.Contains(lines, line => line.Contains("\"vm_id\":\"vm-", StringComparison.Ordinal));
        Assert.Contains("[]", output, StringComparison.Ordinal);
        foreach (var code in new[] { "not_found", "insufficient_scope", "quota_exceeded" })
            Assert.Contains($"\"code\":\"{code}\"", output, StringComparison.Ordinal);
        Assert.Equal(9, lines.Count(line => line == "201"));
        Assert.Contains(lines, line => line.TrimStart().EndsWith(" 429", StringComparison.Ordinal));
        Assert.Contains("\"reason\":\"revoked\"", output, StringComparison.Ordinal);
        Assert.Contains("TENANT_CREATED", output, StringComparison.Ordinal);
        Assert.Contains("VM_CREATED", output, StringComparison.Ordinal);
        Assert.Contains("acme-corp", output, StringComparison.Ordinal);
        // The witness's look: origin, entries, root.
        Assert.Contains(lines, line => line.StartsWith("foundry.local/acme-corp ", StringComparison.Ordinal) && line.Split(' ') is [_, _, { Length: 44 }]);
    }

    private static async Task<string> RunAsync(TempFolder folder, StandaloneProcess process)
    {
        var script = Script()
            .Replace("http://127.0.0.1:9221", process.Gateway.ToString().TrimEnd('/'), StringComparison.Ordinal)
            .Replace("dotnet run --project src/Foundry.Cli --", $"FOUNDRY_GATEWAY={process.Gateway} dotnet {Path.Combine(AppContext.BaseDirectory, "foundry.dll")}", StringComparison.Ordinal);
        var start = new ProcessStartInfo("bash") { RedirectStandardInput = true, RedirectStandardOutput = true, RedirectStandardError = true, WorkingDirectory = folder.Path };
        using var shell = Process.Start(start)!;
        await shell.StandardInput.WriteAsync(script);
        shell.StandardInput.Close();
        var output = shell.StandardOutput.ReadToEndAsync(Cancellation);
        var errors = shell.StandardError.ReadToEndAsync(Cancellation);
        await shell.WaitForExitAsync(Cancellation);
        Assert.True(shell.ExitCode == 0, $"{await output}\n{await errors}");
        return await output;
    }

    private static string Script()
    {
        var script = new StringBuilder("set -u\n");
        var inside = false;
        foreach (var line in File.ReadLines(Path.Combine(Repository.Root, "README.md")))
        {
            if (line.StartsWith("```", StringComparison.Ordinal))
                inside = line == "```sh";
            else if (inside)
                script.Append(line).Append('\n');
        }
        return script.ToString();
    }
}
