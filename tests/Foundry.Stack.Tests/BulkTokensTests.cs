using System.Diagnostics;
using System.Text.Json;
using Foundry.Testing;
using Foundry.Tokens;

namespace Foundry.Stack.Tests;

/// <summary>The command line's bulk commands against the real platform: what they say is done is done, and once.</summary>
public sealed class BulkTokensTests(Walk walk)
{
    private const int Keys = 12;

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    [Fact]
    public async Task A_list_is_issued_promoted_and_revoked_and_nothing_twice()
    {
        using var folder = new TempFolder();
        var team = await walk.NewTeamAsync("bulk-corp", 1, Cancellation, rpm: 6_000);
        var keys = Enumerable.Range(0, Keys).Select(_ => NewKey()).ToArray();
        await File.WriteAllLinesAsync(folder.File("keys"), keys.Select((key, at) => $"{key} user{at}"), Cancellation);

        await RunAsync(team.Admin, "token", "issue", "--from", folder.File("keys"), "--scope", "read", "--result", folder.File("issued"));
        var issued = Results(folder.File("issued"));
        Assert.Equal(keys.Order(), issued.Select(line => Text(line, "subject_pubkey")).Order());
        Assert.Equal(issued.Select(line => Text(line, "token_id")).Order(), (await LiveAsync(team, "read", keys)).Order());

        // As a crash leaves it that came between the answers and their lines: the last three were issued, and nobody knows of them.
        var lines = await File.ReadAllLinesAsync(folder.File("issued"), Cancellation);
        await File.WriteAllTextAsync(folder.File("issued"), string.Join('\n', lines[..^3]) + "\n" + lines[^3][..20], Cancellation);
        await RunAsync(team.Admin, "token", "issue", "--from", folder.File("keys"), "--scope", "read", "--result", folder.File("issued"));
        Assert.Equal(lines.Skip(1).Order(), (await File.ReadAllLinesAsync(folder.File("issued"), Cancellation)).Skip(1).Order());
        Assert.Equal(Keys, (await LiveAsync(team, "read", keys)).Count);

        await RunAsync(team.Admin, "token", "promote", "--from", folder.File("keys"), "--scope", "input", "--yes", "--result", folder.File("promoted"));
        Assert.Empty(await LiveAsync(team, "read", keys));
        Assert.Equal(Keys, (await LiveAsync(team, "input", keys)).Count);

        await RunAsync(team.Admin, "token", "revoke", "--from", folder.File("promoted"));
        Assert.Empty(await LiveAsync(team, "input", keys));
    }

    private static string NewKey()
    {
        using var key = SigningKey.Generate();
        return key.Public.X;
    }

    private static string Text(JsonElement element, string member) => element.GetProperty(member).GetString()!;

    private static List<JsonElement> Results(string file) => [.. File.ReadLines(file).Skip(1).Select(line => JsonElement.Parse(line))];

    /// <summary>IDs of the live tokens of these keys.</summary>
    private async Task<List<string>> LiveAsync(Walk.Team team, string scope, string[] keys)
    {
        var live = new List<string>();
        for (string? cursor = ""; cursor is not null;)
        {
            var page = await walk.Client.GetAsync(walk.Admin, $"/v1/tenants/{team.TenantId}/tokens{cursor}", Cancellation);
            Assert.True(page.Status == 200, page.Body);
            live.AddRange(page.Json.GetProperty("items").EnumerateArray().Where(token => Text(token, "scope") == scope && keys.Contains(Text(token, "subject_pubkey"))).Select(token => Text(token, "token_id")));
            cursor = page.Text("next_cursor") is { } next ? $"?cursor={Uri.EscapeDataString(next)}" : null;
        }
        return live;
    }

    private async Task RunAsync(string token, params string[] args)
    {
        var start = new ProcessStartInfo("dotnet", [Path.Combine(AppContext.BaseDirectory, "foundry.dll"), .. args, "--gateway", walk.Process.Gateway.ToString()])
        { RedirectStandardInput = true, RedirectStandardOutput = true, RedirectStandardError = true };
        start.Environment["PLATFORM_TOKEN"] = token;
        using var process = Process.Start(start)!;
        process.StandardInput.Close();
        var output = process.StandardOutput.ReadToEndAsync(Cancellation);
        var errors = process.StandardError.ReadToEndAsync(Cancellation);
        await process.WaitForExitAsync(Cancellation);
        Assert.True(process.ExitCode == 0, $"{string.Join(' ', args)}\n{await output}{await errors}");
    }
}
