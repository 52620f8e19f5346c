using System.Diagnostics;
using System.Net.Http.Headers;
using System.Text;
using System.Text.Json;
using Foundry.Testing;

namespace Foundry.Stack.Tests;

/// <summary>The ledger as its readers meet it: through the gateway, with the command line and with a stream.</summary>
public sealed class LedgerTests(Walk walk) : IDisposable
{
    private const int Rpm = 60_000;
    private static readonly TimeSpan _patience = TimeSpan.FromMinutes(1);
    private readonly TempFolder _folder = new();

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task A_tenant_and_the_administrator_verify_a_log_and_nobody_else_learns_of_it()
    {
        var team = await walk.NewTeamAsync("verifiers", 1, Cancellation, Rpm);
        var cursor = 0L;
        for (var i = 0; i < 5; i++)
            cursor = await AppendAsync(team.Input, $"id-{i}");
        var key = (await walk.Client.GetAsync(team.Read, "/v1/contract", Cancellation)).Text("vkey")!;
        var kept = _folder.File("checkpoint");
        var proof = _folder.File("p.tlog-proof");

        Assert.Contains("every entry", await DoneAsync(team.Read, "ledger", "verify", "--vkey", key, "--since-checkpoint", kept), StringComparison.Ordinal);
        await AppendAsync(team.Input, "later");
        Assert.Contains("continues", await DoneAsync(team.Read, "ledger", "verify", "--vkey", key, "--since-checkpoint", kept), StringComparison.Ordinal);
        Assert.Contains("every entry", await DoneAsync(walk.Admin, "ledger", "verify", "--module-id", "verifiers"), StringComparison.Ordinal);
        Assert.Contains("every entry", await DoneAsync(walk.Admin, "ledger", "verify", "--module-id", "foundry.platform"), StringComparison.Ordinal);
        Assert.Contains("every entry", await DoneAsync("", "ledger", "verify", "--folder", Path.Combine(walk.Data, "ledger", "verifiers"), "--vkey", key), StringComparison.Ordinal);

        await DoneAsync(team.Read, "ledger", "prove", $"{cursor}", "--out", proof);
        Assert.Contains("id-4", await DoneAsync("", "ledger", "verify", "--proof", proof, "--vkey", key), StringComparison.Ordinal);
        Assert.Equal(1, (await RunAsync(walk.Globex.Read, "ledger", "verify", "--module-id", "verifiers")).Exit);
        Assert.Equal(1, (await RunAsync(walk.Globex.Read, "ledger", "prove", "1", "--module-id", "verifiers")).Exit);

        var lines = (await DoneAsync(team.Read, "ledger", "export", "--filter", "kind=note")).Split('\n', StringSplitOptions.RemoveEmptyEntries);
        Assert.Equal(6, lines.Length);
        Assert.Equal(lines[^2..], (await DoneAsync(team.Read, "ledger", "tail", "--lines", "2", "-o", "json")).Split('\n', StringSplitOptions.RemoveEmptyEntries));
    }

    /// <summary>Each entry is read before the next is written, so nothing on the way holds anything back.</summary>
    [Theory]
    [InlineData("application/x-ndjson", "followers")]
    [InlineData("text/event-stream", "listeners")]
    public async Task A_follower_hears_each_entry_as_it_is_written(string accepts, string tenant)
    {
        var team = await walk.NewTeamAsync(tenant, 1, Cancellation, Rpm);
        await AppendAsync(team.Input, "first");
        using var request = new HttpRequestMessage(HttpMethod.Get, "/v1/tail?since=0&kind=note");
        request.Headers.Authorization = new AuthenticationHeaderValue("Bearer", team.Read);
        request.Headers.Accept.ParseAdd(accepts);
        using var answer = await walk.Client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, Cancellation);
        Assert.Equal((200, accepts), ((int)answer.StatusCode, answer.Content.Headers.ContentType?.MediaType));
        using var lines = new StreamReader(await answer.Content.ReadAsStreamAsync(Cancellation), Encoding.UTF8);
        Assert.Contains("\"first\"", await HearAsync(lines), StringComparison.Ordinal);
        for (var i = 0; i < 3; i++)
        {
            await AppendAsync(team.Input, $"next-{i}");
            Assert.Contains($"\"next-{i}\"", await HearAsync(lines), StringComparison.Ordinal);
        }
        // Nobody else's, by whatever name.
        Assert.Equal(403, (await walk.Client.GetAsync(walk.Globex.Read, $"/v1/tail?module_id={tenant}", Cancellation)).Status);
    }

    private static async Task<string> HearAsync(StreamReader lines)
    {
        while (true)
        {
            var line = await lines.ReadLineAsync(Cancellation).AsTask().WaitAsync(_patience, Cancellation);
            Assert.NotNull(line);
            if (line.Contains("payload_id", StringComparison.Ordinal))
                return line;
        }
    }

    private async Task<long> AppendAsync(string token, string id)
    {
        var answer = await walk.Client.PostAsync(token, "/v1/append", $$$"""{"payload_id":"{{{id}}}","payload":{"kind":"note"}}""", Cancellation);
        Assert.Equal(200, answer.Status);
        return JsonDocument.Parse(answer.Body).RootElement.GetProperty("cursor").GetInt64();
    }

    private async Task<string> DoneAsync(string token, params string[] args)
    {
        var (exit, output, error) = await RunAsync(token, args);
        Assert.True(exit == 0, $"{string.Join(' ', args)}: {error}");
        return output;
    }

    private async Task<(int Exit, string Output, string Error)> RunAsync(string token, params string[] args)
    {
        var start = new ProcessStartInfo("dotnet", [Path.Combine(AppContext.BaseDirectory, "foundry.dll"), .. args]) { RedirectStandardOutput = true, RedirectStandardError = true };
        start.Environment["PLATFORM_TOKEN"] = token;
        start.Environment["FOUNDRY_GATEWAY"] = walk.Process.Gateway.ToString();
        using var process = Process.Start(start)!;
        var output = process.StandardOutput.ReadToEndAsync(Cancellation);
        var error = process.StandardError.ReadToEndAsync(Cancellation);
        await process.WaitForExitAsync(Cancellation);
        return (process.ExitCode, await output, await error);
    }
}
