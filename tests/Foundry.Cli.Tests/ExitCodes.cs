namespace Foundry.Cli.Tests;

public sealed class ExitCodes
{
    [Theory]
    [InlineData("", 2)]
    [InlineData("token", 2)]
    [InlineData("nonsense", 2)]
    [InlineData("status --nonsense", 2)]
    [InlineData("status --output xml", 2)]
    [InlineData("status --gateway not-a-url", 2)]
    [InlineData("status --gateway http://user:pass@127.0.0.1", 2)]
    [InlineData("status --gateway ftp://127.0.0.1", 2)]
    [InlineData("status --token-file /nonexistent/token", 2)]
    [InlineData("tenant create acme-corp", 2)]
    [InlineData("tenant create acme-corp --display-name A --max-vms 100001 --storage-quota-gb 1 --api-rate-limit-rpm 1", 2)]
    [InlineData("tenant create acme-corp --display-name A --max-vms -1 --storage-quota-gb 1 --api-rate-limit-rpm 1", 2)]
    [InlineData("tenant create acme-corp --display-name A --max-vms 1.5 --storage-quota-gb 1 --api-rate-limit-rpm 1", 2)]
    [InlineData("tenant create acme-corp --display-name A --max-vms 1 --storage-quota-gb 1 --api-rate-limit-rpm 0", 2)]
    [InlineData("tenant show ..", 2)]
    [InlineData("tenant show a/b", 2)]
    [InlineData("tenant show a%2fb", 2)]
    [InlineData("token issue --scope read", 2)]
    [InlineData("token issue --pubkey 11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", 2)]
    [InlineData("token issue --scope admin --pubkey 11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", 2)]
    [InlineData("token issue --scope read --pubkey 11qY", 2)]
    [InlineData("token issue --scope read --pubkey 11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo --key-file k", 2)]
    [InlineData("token issue --scope read --pubkey 11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo --expires 59", 2)]
    [InlineData("token issue --scope read --pubkey 11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo --expires 91d", 2)]
    [InlineData("token issue --scope read --pubkey 11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo --expires soon", 2)]
    [InlineData("token issue --scope read --pubkey 11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo --out t --output json", 2)]
    [InlineData("token issue --scope read --from /nonexistent/list", 2)]
    [InlineData("token issue --scope read --from k --pubkey 11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", 2)]
    [InlineData("token issue --scope read --from k --out t", 2)]
    [InlineData("token issue --scope read --from k --user-id alice", 2)]
    [InlineData("token issue --scope read --from k --output json", 2)]
    [InlineData("token issue --scope read --from k --concurrency 33", 2)]
    [InlineData("token issue --scope read --pubkey 11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo --result r", 2)]
    [InlineData("token promote --scope input", 2)]
    [InlineData("token promote --scope service:fleet-node --yes --pubkey 11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", 2)]
    [InlineData("token promote --scope input --yes --pubkey 11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo --max-overlap 8d", 2)]
    [InlineData("token renew", 2)]
    [InlineData("token revoke", 2)]
    [InlineData("token revoke x --from y", 2)]
    [InlineData("token revoke a/b", 2)]
    [InlineData("request GET", 2)]
    [InlineData("request TRACE /v1/status", 2)]
    [InlineData("request GET v1/status", 2)]
    [InlineData("request GET http://127.0.0.1:1/v1/status", 2)]
    [InlineData("request GET /v1/status#x", 2)]
    [InlineData("request GET /v1/status --header X", 2)]
    [InlineData("request GET /v1/status --header authorization:x", 2)]
    [InlineData("request GET /v1/status --header DPoP:x", 2)]
    [InlineData("request POST /v1/vms --data {} --data-file x", 2)]
    [InlineData("request POST /v1/vms --data-file /nonexistent/body", 2)]
    [InlineData("vm create --type T --ram-mb 0 --vcpu-count 1", 2)]
    [InlineData("ledger read --limit 10001", 2)]
    [InlineData("ledger read --filter nothing", 2)]
    [InlineData("ledger read --filter =x", 2)]
    [InlineData("ledger read --filter limit=5", 2)]
    [InlineData("ledger read --filter a=1 --filter a=2", 2)]
    [InlineData("ledger read --filter event-type=A --event-type B", 2)]
    [InlineData("node run --node-id n --wg-ip nowhere", 2)]
    [InlineData("node run --node-id n --interval 61", 2)]
    [InlineData("node run", 2)]
    [InlineData("keys show /nonexistent/key", 2)]
    [InlineData("--help", 0)]
    [InlineData("token issue --help", 0)]
    [InlineData("--version", 0)]
    public async Task Without_a_call(string args, int exit)
    {
        await using var gateway = await StandInGateway.StartAsync();
        using var line = new CommandLine { Variables = { ["FOUNDRY_GATEWAY"] = gateway.Address } };
        var ran = await line.RunAsync(args.Split(' ', StringSplitOptions.RemoveEmptyEntries));
        Assert.Equal(exit, ran.Exit);
        Assert.Empty(gateway.Requests);
        // A wrong line says so, and where to look; nothing of it goes where results go.
        Assert.Equal(exit == ExitCode.Usage, ran.Error.StartsWith("foundry: ", StringComparison.Ordinal));
        Assert.Equal(exit == ExitCode.Usage, ran.Error.Contains("  next        ", StringComparison.Ordinal));
        Assert.Equal(exit == ExitCode.Usage, ran.Output.Length == 0);
        Assert.DoesNotContain("System.", ran.Error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(200, "application/json", "{}", 0)]
    [InlineData(204, null, "", 0)]
    [InlineData(200, "text/html", "<html>", 1)]
    [InlineData(200, "application/json", "{", 1)]
    [InlineData(200, "application/json", "{} {}", 1)]
    [InlineData(301, null, "", 1)]
    [InlineData(401, "application/problem+json", "{", 1)]
    [InlineData(502, "text/html", "<html>", 1)]
    public async Task With_a_call(int status, string? contentType, string body, int exit)
    {
        await using var gateway = await StandInGateway.StartAsync(new Said(status, contentType, System.Text.Encoding.UTF8.GetBytes(body)) { Headers = [("Location", "http://127.0.0.1:1/")] });
        using var line = new CommandLine();
        var ran = await line.RunAsync(gateway, "vm", "delete", "vm-1", "-o", "json");
        Assert.Equal(exit, ran.Exit);
        Assert.Equal(exit == 0 ? body : "", ran.Output);
        Assert.Single(gateway.Requests);
    }

    [Fact]
    public async Task Nobody_there_is_1_and_names_the_address()
    {
        using var line = new CommandLine();
        var ran = await line.RunAsync("status", "--gateway", "http://127.0.0.1:1");
        Assert.Equal(ExitCode.Failed, ran.Exit);
        Assert.Contains("http://127.0.0.1:1 cannot be reached", ran.Error, StringComparison.Ordinal);
        Assert.Contains("--gateway or FOUNDRY_GATEWAY", ran.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task An_answer_cut_short_is_1_and_shows_nothing_of_it()
    {
        await using var gateway = await StandInGateway.StartAsync(Said.Json("[]") with { BreaksOff = true });
        using var line = new CommandLine();
        var ran = await line.RunAsync(gateway, "vm", "list", "-o", "json");
        Assert.Equal((ExitCode.Failed, ""), (ran.Exit, ran.Output));
    }
}
