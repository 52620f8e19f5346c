namespace Foundry.Cli.Tests.Bulk;

/// <summary><c>foundry token revoke --from</c>.</summary>
public sealed class BulkRevoke
{
    [Fact]
    public async Task Takes_ids_and_keys_from_a_list()
    {
        var key = FakeIssuance.Keys(1)[0];
        await using var gateway = await StandInGateway.StartAsync(Said.Nothing());
        using var line = new CommandLine();
        var ran = await line.RunAsync(gateway, "token", "revoke", "--from", line.Write("old-ids.txt", $"id-1 # alice\nid-2\n{key}=\n"));
        Assert.Equal((ExitCode.Done, ""), (ran.Exit, ran.Output));
        Assert.Equal(new[] { "DELETE /v1/tokens/id-1", "DELETE /v1/tokens/id-2", $"DELETE /v1/tokens/{key}" }.Order(StringComparer.Ordinal),
            gateway.Requests.Select(asked => $"{asked.Method} {asked.Target}").Order(StringComparer.Ordinal));
    }

    [Fact]
    public async Task Takes_a_bulk_issues_result_file_as_it_is()
    {
        var issuance = new FakeIssuance();
        await using var gateway = await StandInGateway.StartAsync();
        gateway.Answering = issuance.Answer;
        using var line = new CommandLine();
        var results = line.File("issued.jsonl");
        await line.RunAsync(gateway, "token", "issue", "--scope", "user", "--from", line.Write("keys.txt", string.Join('\n', FakeIssuance.Keys(3))), "--result", results);
        gateway.Requests.Clear();
        var ran = await line.RunAsync(gateway, "token", "revoke", "--from", results, "--descendants");
        Assert.Equal(ExitCode.Done, ran.Exit);
        Assert.Equal(["/v1/tokens/id-1?descendants=true", "/v1/tokens/id-2?descendants=true", "/v1/tokens/id-3?descendants=true"], gateway.Requests.Select(asked => asked.Target).Order(StringComparer.Ordinal));
    }

    [Fact]
    public async Task Passes_over_what_is_not_there_and_does_the_rest_once()
    {
        await using var gateway = await StandInGateway.StartAsync();
        gateway.Answering = asked => asked.Target.EndsWith("id-2", StringComparison.Ordinal) ? Said.Problem(404, "not_found") : Said.Nothing();
        using var line = new CommandLine();
        string[] args = ["token", "revoke", "--from", line.Write("old-ids.txt", "id-1\nid-2\nid-3\n")];
        Assert.Equal(ExitCode.Failed, (await line.RunAsync(gateway, args)).Exit);
        var again = await line.RunAsync(gateway, args);
        Assert.Equal((ExitCode.Failed, 4), (again.Exit, gateway.Requests.Count));
        Assert.Contains("line 2 refused", again.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Names_every_wrong_line_and_sends_nothing()
    {
        await using var gateway = await StandInGateway.StartAsync();
        using var line = new CommandLine();
        var ran = await line.RunAsync(gateway, "token", "revoke", "--from", line.Write("old-ids.txt", "id-1\na/b\nid-1\nid-2 id-3\n"));
        Assert.Equal((ExitCode.Usage, 0), (ran.Exit, gateway.Requests.Count));
        Assert.Contains("3 lines are wrong", ran.Error, StringComparison.Ordinal);
    }
}
