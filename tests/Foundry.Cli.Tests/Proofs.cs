using System.Text;
using Foundry.Tokens;

namespace Foundry.Cli.Tests;

/// <summary>Requests of whoever holds the token's key.</summary>
public sealed class Proofs : IAsyncLifetime
{
    private readonly CommandLine _line = new();
    private readonly SigningKey _key = SigningKey.Generate();
    private StandInGateway _gateway = null!;

    public async ValueTask InitializeAsync() => _gateway = await StandInGateway.StartAsync(Said.Json("""{"items":[]}"""));

    public async ValueTask DisposeAsync()
    {
        await _gateway.DisposeAsync();
        _line.Dispose();
        _key.Dispose();
    }

    [Theory]
    [InlineData("status --tenant acme-corp", "GET", "/v1/status")]
    [InlineData("vm delete vm-1", "DELETE", "/v1/vms/vm-1")]
    [InlineData("request PUT /v1/pairings.yaml?dry_run=true --data x", "PUT", "/v1/pairings.yaml")]
    [InlineData("token list --tenant acme-corp", "GET", "/v1/tenants/acme-corp/tokens")]
    public async Task Go_with_every_request_of_a_bound_token(string args, string method, string path)
    {
        var token = Token(_key, bound: true);
        _line.Variables["PLATFORM_TOKEN"] = token;
        _line.Variables["PLATFORM_KEY_FILE"] = _line.Write("alice.key", _key.ExportSeed());
        var ran = await _line.RunAsync(_gateway, args.Split(' '));
        Assert.Equal((ExitCode.Done, $"DPoP {token}"), (ran.Exit, _gateway.Only.Authorization));
        Assert.True(DpopProof.TryParse(_gateway.Only.Headers["DPoP"], out var proof));
        Assert.Equal(_key.Public, proof.Key);
        Assert.True(HttpTarget.TryParse(_gateway.Address + path, out var target));
        Assert.True(proof.Proves(method, [target], token, TimeProvider.System.GetUtcNow()));
    }

    [Fact]
    public async Task Are_each_another()
    {
        _gateway.Answers.Clear();
        _gateway.Answers.Enqueue(Said.Json("""{"items":[],"next_cursor":"x"}"""));
        _gateway.Answers.Enqueue(Said.Json("""{"items":[]}"""));
        _line.Variables["PLATFORM_TOKEN"] = Token(_key, bound: true);
        _line.Variables["PLATFORM_KEY_FILE"] = _line.Write("alice.key", _key.ExportSeed());
        await _line.RunAsync(_gateway, "tenant", "list");
        Assert.Equal(2, _gateway.Requests.Select(asked => asked.Headers["DPoP"]).Distinct().Count());
    }

    /// <summary>A tenant or a route may ask for a proof with any token.</summary>
    [Fact]
    public async Task Go_with_any_token_whose_key_is_at_hand()
    {
        _line.Variables["PLATFORM_TOKEN"] = Token(_key, bound: false);
        await _line.RunAsync(_gateway, "request", "GET", "/v1/status", "--key-file", _line.Write("alice.key", _key.ExportSeed()));
        Assert.StartsWith("DPoP ", _gateway.Only.Authorization, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Are_not_made_with_another_tokens_key()
    {
        using var other = SigningKey.Generate();
        _line.Variables["PLATFORM_TOKEN"] = Token(other, bound: false);
        _line.Variables["PLATFORM_KEY_FILE"] = _line.Write("alice.key", _key.ExportSeed());
        Assert.Equal(ExitCode.Done, (await _line.RunAsync(_gateway, "status")).Exit);
        Assert.StartsWith("Bearer ", _gateway.Only.Authorization, StringComparison.Ordinal);
        Assert.False(_gateway.Only.Headers.ContainsKey("DPoP"));
    }

    [Theory]
    [InlineData(null)]
    [InlineData("other")]
    [InlineData("no key")]
    public async Task That_cannot_be_made_send_nothing(string? keyFile)
    {
        using var other = SigningKey.Generate();
        _line.Variables["PLATFORM_TOKEN"] = Token(_key, bound: true);
        if (keyFile is not null)
            _line.Variables["PLATFORM_KEY_FILE"] = _line.Write("k", keyFile == "other" ? other.ExportSeed() : keyFile);
        var ran = await _line.RunAsync(_gateway, "status");
        Assert.Equal((ExitCode.Usage, 0), (ran.Exit, _gateway.Requests.Count));
        Assert.DoesNotContain(other.ExportSeed(), ran.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Renew_a_token()
    {
        var (old, renewed) = (Token(_key, bound: true), Token(_key, bound: true, policyVersion: 2));
        _gateway.Answers.Clear();
        _gateway.Answers.Enqueue(Said.Json($$"""{"token":"{{renewed}}","token_id":"id-2","tenant_id":"acme-corp","scope":"user","subject_pubkey":"{{_key.Public.X}}","issued_at":"2026-06-12T09:00:00Z","expires_at":"2026-06-13T09:00:00Z"}"""));
        _line.Variables["PLATFORM_TOKEN"] = old;
        var ran = await _line.RunAsync(_gateway, "token", "renew", "--key-file", _line.Write("alice.key", _key.ExportSeed()));
        Assert.Equal((ExitCode.Done, renewed + "\n", "POST", "/v1/tokens/renew"), (ran.Exit, ran.Output, _gateway.Only.Method, _gateway.Only.Target));
        Assert.Contains("foundry: token renewed\n", ran.Error, StringComparison.Ordinal);

        _line.Variables["PLATFORM_TOKEN"] = renewed;
        ran = await _line.RunAsync(_gateway, "token", "renew", "--key-file", _line.File("alice.key"));
        Assert.Contains("nothing has changed", ran.Error, StringComparison.Ordinal);
    }

    private static string Token(SigningKey key, bool bound, int policyVersion = 1)
    {
        var claims = $$"""{"tenant_id":"acme-corp","subject_pubkey":"{{key.Public.X}}","policy_version":{{policyVersion}}{{(bound ? $$""","cnf":{"jkt":"{{key.Kid}}"}""" : "")}}}""";
        return $"{Base64UrlText.Encode("{}"u8)}.{Base64UrlText.Encode(Encoding.UTF8.GetBytes(claims))}.c2ln";
    }
}

/// <summary><c>foundry request</c>.</summary>
public sealed class Request
{
    [Fact]
    public async Task Prints_the_answer_whatever_it_is()
    {
        byte[] bytes = [0, 1, 2, 255, 254, 10];
        await using var gateway = await StandInGateway.StartAsync(new Said(200, "application/octet-stream", bytes));
        using var line = new CommandLine();
        Assert.Equal(bytes, (await line.RunAsync(gateway, "request", "GET", "/ledger/acme-corp/tile/0/000")).Bytes);
    }

    [Fact]
    public async Task Cannot_move_the_cursor_of_a_terminal()
    {
        await using var gateway = await StandInGateway.StartAsync(new Said(200, "text/plain", "a\u001b[2J\nb\n"u8.ToArray()));
        using var line = new CommandLine { OutputIsTerminal = true };
        Assert.Equal("a\\u{1b}[2J\nb\n", (await line.RunAsync(gateway, "request", "GET", "/x")).Output);
    }

    [Fact]
    public async Task Sends_the_headers_and_the_body_it_is_given()
    {
        await using var gateway = await StandInGateway.StartAsync();
        using var line = new CommandLine { Input = "a: é" };
        await line.RunAsync(gateway, "request", "put", "/v1/pairings.yaml?dry_run=true", "--data-file", "-", "--header", "Content-Type: application/yaml", "--header", "If-Match: \"5\"", "--header", "Accept: text/plain");
        Assert.Equal(("PUT", "/v1/pairings.yaml?dry_run=true", "a: é"), (gateway.Only.Method, gateway.Only.Target, gateway.Only.Body));
        Assert.Equal(("application/yaml", "\"5\"", "text/plain"), (gateway.Only.Headers["Content-Type"], gateway.Only.Headers["If-Match"], gateway.Only.Headers["Accept"]));
    }

    [Fact]
    public async Task Sends_a_files_bytes()
    {
        await using var gateway = await StandInGateway.StartAsync();
        using var line = new CommandLine();
        await line.RunAsync(gateway, "request", "POST", "/v1/append", "--data-file", line.Write("entry.json", """{"a":1}"""));
        Assert.Equal(("""{"a":1}""", "application/json"), (gateway.Only.Body, gateway.Only.Headers["Content-Type"]));
    }

    [Fact]
    public async Task Takes_no_standard_input_twice()
    {
        await using var gateway = await StandInGateway.StartAsync();
        using var line = new CommandLine { Input = CommandLine.Canary };
        var ran = await line.RunAsync(gateway, "request", "POST", "/v1/vms", "--data-file", "-", "--token-file", "-");
        Assert.Equal((ExitCode.Usage, 0), (ran.Exit, gateway.Requests.Count));
    }

    [Fact]
    public async Task Answered_without_a_body_says_so()
    {
        await using var gateway = await StandInGateway.StartAsync(Said.Nothing());
        using var line = new CommandLine();
        var ran = await line.RunAsync(gateway, "request", "DELETE", "/v1/vms/vm-1");
        Assert.Equal((ExitCode.Done, "", "foundry: status 204, and no body\n"), (ran.Exit, ran.Output, ran.Error));
    }
}
