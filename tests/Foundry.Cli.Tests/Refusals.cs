using Foundry.Contracts;
using Foundry.Tokens;

namespace Foundry.Cli.Tests;

public sealed class Refusals
{
    [Fact]
    public void Each_code_there_is_has_advice() =>
        Assert.Equal(ErrorCode.All.Keys.Order(StringComparer.Ordinal), Advice.Codes.Order(StringComparer.Ordinal));

    [Fact]
    public void Each_reason_there_is_has_advice() =>
        Assert.Equal(Enum.GetValues<TokenRefusal>().Select(refusal => refusal.WireName()).Order(StringComparer.Ordinal), Advice.Reasons.Order(StringComparer.Ordinal));

    [Fact]
    public async Task Of_a_token_says_the_reason_and_what_to_do()
    {
        await using var gateway = await StandInGateway.StartAsync(Said.Problem(401, "invalid_token", "tenant_suspended", "The capability token was not accepted", "The tenant is suspended."));
        using var line = new CommandLine();
        Assert.Equal("""
            foundry: The capability token was not accepted
              detail      The tenant is suspended.
              code        invalid_token
              reason      tenant_suspended
              request id  req-1
              next        ask the platform's administrator: the tenant is suspended

            """, (await line.RunAsync(gateway, "status")).Error);
    }

    [Fact]
    public async Task Of_a_quota_says_the_numbers()
    {
        const string problem = """{"type":"/problems/quota_exceeded","title":"The quota does not cover this","status":429,"detail":"10 of 10 VMs are held.","code":"quota_exceeded","request_id":"r","quota":"max_vms","limit":10,"used":10,"requested":1}""";
        await using var gateway = await StandInGateway.StartAsync(Said.Json(problem, 429) with { ContentType = "application/problem+json", Headers = [("Retry-After", "7")] });
        using var line = new CommandLine();
        var ran = await line.RunAsync(gateway, "vm", "create", "--type", "T", "--ram-mb", "1", "--vcpu-count", "1");
        Assert.Contains("  quota       max_vms: limit 10, used 10, requested 1\n", ran.Error, StringComparison.Ordinal);
        Assert.Contains("  next        delete what is not needed", ran.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Of_the_rate_says_how_long_to_wait()
    {
        await using var gateway = await StandInGateway.StartAsync(Said.Problem(429, "rate_limited") with { Headers = [("Retry-After", "7")] });
        using var line = new CommandLine();
        Assert.Contains("  next        try again in 7 s\n", (await line.RunAsync(gateway, "status")).Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task As_json_are_the_servers_own()
    {
        var said = Said.Problem(404, "not_found");
        await using var gateway = await StandInGateway.StartAsync(said);
        using var line = new CommandLine();
        var ran = await line.RunAsync(gateway, "tenant", "show", "acme-corp", "-o", "json");
        Assert.Equal((ExitCode.Failed, "", System.Text.Encoding.UTF8.GetString(said.Body) + "\n"), (ran.Exit, ran.Output, ran.Error));
    }

    [Fact]
    public async Task Without_a_problem_document_name_the_address_and_the_request()
    {
        await using var gateway = await StandInGateway.StartAsync(new Said(502, "text/html", "<h1>\u001b[31mred</h1>"u8.ToArray()));
        using var line = new CommandLine();
        var ran = await line.RunAsync(gateway, "status");
        Assert.Equal($"""
            foundry: {gateway.Address} answered with status 502 and no explanation
              request id  req-from-header
              next        check --gateway (or FOUNDRY_GATEWAY)

            """, ran.Error);
    }

    [Fact]
    public async Task Cannot_move_the_cursor_of_a_terminal()
    {
        await using var gateway = await StandInGateway.StartAsync(Said.Problem(403, "tenant_mismatch", detail: "\\u001b[2J\\u202etxt"));
        using var line = new CommandLine();
        var ran = await line.RunAsync(gateway, "status");
        Assert.Contains(@"\u{1b}[2J\u{202e}txt", ran.Error, StringComparison.Ordinal);
        Assert.DoesNotContain('\u001b', ran.Error);
    }
}

public sealed class CreateWhoseAnswerIsLost
{
    private static readonly string[] Args = ["vm", "create", "--type", "T", "--ram-mb", "1", "--vcpu-count", "1"];

    [Fact]
    public async Task Says_how_to_ask_again_without_a_second_vm()
    {
        await using var gateway = await StandInGateway.StartAsync(Said.Json("{}") with { BreaksOff = true });
        using var line = new CommandLine();
        var ran = await line.RunAsync(gateway, Args);
        Assert.Equal(ExitCode.Failed, ran.Exit);
        Assert.NotEqual("", gateway.Only.IdempotencyKey);
        Assert.Contains($"--idempotency-key {gateway.Only.IdempotencyKey}", ran.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Never_sent_says_nothing_of_the_kind()
    {
        using var line = new CommandLine();
        var ran = await line.RunAsync([.. Args, "--gateway", "http://127.0.0.1:1"]);
        Assert.DoesNotContain("--idempotency-key", ran.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Each_create_has_a_key_of_its_own()
    {
        await using var gateway = await StandInGateway.StartAsync(Said.Json("{}", 201));
        using var line = new CommandLine();
        await line.RunAsync(gateway, Args);
        await line.RunAsync(gateway, Args);
        Assert.Equal(2, gateway.Requests.Select(asked => asked.IdempotencyKey).Distinct().Count());
    }
}
