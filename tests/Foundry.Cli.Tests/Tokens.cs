using System.Text.Json;
using Foundry.Tokens;

namespace Foundry.Cli.Tests;

public sealed class TokenIssue
{
    private const string Fresh = "eyJhbGciOiJFZERTQSJ9.eyJmcmVzaCI6dHJ1ZX0xMjM0NTY3.bmV3LXRva2VuLW5ldy10b2tlbg";
    private const string PublicKey = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
    private const string Issued = $$"""
        {"token":"{{Fresh}}","token_id":"id-1","tenant_id":"acme-corp","scope":"input","subject_pubkey":"{{PublicKey}}","issued_at":"2026-06-12T09:00:00Z","expires_at":"2026-06-13T09:00:00Z"}
        """;

    private static readonly string[] Args = ["token", "issue", "--scope", "input", "--pubkey", PublicKey];

    [Fact]
    public async Task Gives_standard_output_the_token_and_nothing_else()
    {
        await using var gateway = await StandInGateway.StartAsync(Said.Json(Issued, 201));
        using var line = new CommandLine();
        var ran = await line.RunAsync(gateway, Args);
        Assert.Equal((ExitCode.Done, Fresh + "\n"), (ran.Exit, ran.Output));
        Assert.Equal($"""
            foundry: token issued
              token id    id-1
              tenant      acme-corp
              scope       input
              subject     {PublicKey}
              issued at   2026-06-12T09:00:00.0000000+00:00
              expires at  2026-06-13T09:00:00.0000000+00:00

            """, ran.Error);
    }

    [Fact]
    public async Task Writes_it_to_a_file_that_only_its_owner_can_read()
    {
        await using var gateway = await StandInGateway.StartAsync(Said.Json(Issued, 201));
        using var line = new CommandLine();
        var path = line.File("alice.token");
        var ran = await line.RunAsync(gateway, [.. Args, "--out", path]);
        Assert.Equal((ExitCode.Done, ""), (ran.Exit, ran.Output));
        Assert.Equal(Fresh + "\n", await File.ReadAllTextAsync(path, TestContext.Current.CancellationToken));
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, CommandLine.ModeOf(path));
        Assert.DoesNotContain(Fresh, ran.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Issues_nothing_that_has_nowhere_to_go()
    {
        await using var gateway = await StandInGateway.StartAsync(Said.Json(Issued, 201));
        using var line = new CommandLine();
        var path = line.Write("alice.token", "what was there");
        var ran = await line.RunAsync(gateway, [.. Args, "--out", path]);
        Assert.Equal(ExitCode.Failed, ran.Exit);
        Assert.Empty(gateway.Requests);
        Assert.Equal("what was there", await File.ReadAllTextAsync(path, TestContext.Current.CancellationToken));
    }

    [Fact]
    public async Task Refused_leaves_no_file_behind()
    {
        await using var gateway = await StandInGateway.StartAsync(Said.Problem(403, "scope_not_grantable"));
        using var line = new CommandLine();
        var path = line.File("alice.token");
        Assert.Equal(ExitCode.Failed, (await line.RunAsync(gateway, [.. Args, "--out", path])).Exit);
        Assert.False(File.Exists(path));
    }

    [Theory]
    [InlineData("{}")]
    [InlineData("[]")]
    [InlineData("""{"token":7}""")]
    public async Task An_answer_without_a_token_is_a_failure(string json)
    {
        await using var gateway = await StandInGateway.StartAsync(Said.Json(json, 201));
        using var line = new CommandLine();
        var ran = await line.RunAsync(gateway, Args);
        Assert.Equal((ExitCode.Failed, ""), (ran.Exit, ran.Output));
    }

    [Fact]
    public async Task Takes_the_key_from_the_recipients_file()
    {
        await using var gateway = await StandInGateway.StartAsync(Said.Json(Issued, 201));
        using var line = new CommandLine();
        using var key = SigningKey.Generate();
        var path = line.Write("alice.key", key.ExportSeed());
        await line.RunAsync(gateway, "token", "issue", "--scope", "input", "--key-file", path);
        Assert.Equal(key.Public.X, JsonElement.Parse(gateway.Only.Body).GetProperty("subject_pubkey").GetString());
        Assert.DoesNotContain(key.ExportSeed(), gateway.Only.Body, StringComparison.Ordinal);
    }

    /// <summary>One key in 64 begins with '-', and one in 4,096 like one of our own options.</summary>
    [Theory]
    [InlineData('-', 'o')]
    [InlineData('-', 'h')]
    [InlineData('-', '-')]
    public async Task Takes_a_key_that_looks_like_an_option(char first, char second)
    {
        var key = KeyThatBeginsWith(first, second);
        await using var gateway = await StandInGateway.StartAsync(Said.Json(Issued, 201));
        using var line = new CommandLine();
        var ran = await line.RunAsync(gateway, "token", "issue", "--scope", "input", "--pubkey", key);
        Assert.Equal((ExitCode.Done, key), (ran.Exit, JsonElement.Parse(gateway.Only.Body).GetProperty("subject_pubkey").GetString()));
        var revoked = await line.RunAsync(gateway, "token", "revoke", key);
        Assert.Equal((ExitCode.Done, $"/v1/tokens/{key}"), (revoked.Exit, gateway.Requests.Last().Target));
    }

    // Of the points that begin like this, the first that is a valid key: about one encoding in sixteen is.
    private static string KeyThatBeginsWith(char first, char second)
    {
        for (var n = 0; n < 10_000; n++)
        {
            var text = $"{first}{second}{n:D4}{new string('A', 37)}";
            if (VerifyingKey.TryCreate(text, out var key))
                return key.X;
        }
        throw new InvalidOperationException("No such key.");
    }
}

public sealed class TokenVerify
{
    private const string Other = "eyJhbGciOiJFZERTQSJ9.eyJvdGhlciI6MX0xMjM0NTY3ODkw.b3RoZXItb3RoZXI";

    [Fact]
    public async Task Takes_what_is_piped_in_before_the_environment()
    {
        await using var gateway = await StandInGateway.StartAsync(Said.Json("""{"active":true,"scope":"read"}"""));
        using var line = new CommandLine { Input = Other + "\n", InputIsRedirected = true };
        var ran = await line.RunAsync(gateway, "token", "verify");
        Assert.Equal(ExitCode.Done, ran.Exit);
        Assert.Equal($$"""{"token":"{{Other}}"}""", gateway.Only.Body);
        Assert.Equal("", gateway.Only.Authorization);
        Assert.DoesNotContain(Other, ran.Output + ran.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Takes_the_environments_where_nothing_is_piped_in()
    {
        await using var gateway = await StandInGateway.StartAsync();
        using var line = new CommandLine { InputIsRedirected = true };
        await line.RunAsync(gateway, "token", "verify");
        Assert.Equal($$"""{"token":"{{CommandLine.Canary}}"}""", gateway.Only.Body);
    }

    [Fact]
    public async Task Takes_the_files_first_of_all()
    {
        await using var gateway = await StandInGateway.StartAsync();
        using var line = new CommandLine { Input = "not this", InputIsRedirected = true };
        await line.RunAsync(gateway, "token", "verify", "--token-file", line.Write("t", Other));
        Assert.Equal($$"""{"token":"{{Other}}"}""", gateway.Only.Body);
    }

    [Fact]
    public async Task Refused_is_1_with_the_reason()
    {
        await using var gateway = await StandInGateway.StartAsync(Said.Problem(401, "invalid_token", "revoked"));
        using var line = new CommandLine();
        var ran = await line.RunAsync(gateway, "token", "verify");
        Assert.Equal(ExitCode.Failed, ran.Exit);
        Assert.Contains("  reason      revoked\n", ran.Error, StringComparison.Ordinal);
    }
}

public sealed class CallersToken
{
    [Fact]
    public async Task Missing_is_2_and_says_where_it_goes()
    {
        await using var gateway = await StandInGateway.StartAsync();
        using var line = new CommandLine();
        line.Variables.Remove("PLATFORM_TOKEN");
        var ran = await line.RunAsync(gateway, "status");
        Assert.Equal(ExitCode.Usage, ran.Exit);
        Assert.Contains("PLATFORM_TOKEN", ran.Error, StringComparison.Ordinal);
        Assert.Contains("--token-file", ran.Error, StringComparison.Ordinal);
        Assert.Empty(gateway.Requests);
    }

    [Fact]
    public async Task In_a_file_goes_before_the_environments()
    {
        const string other = "eyJh.eyJi.c2ln";
        await using var gateway = await StandInGateway.StartAsync();
        using var line = new CommandLine();
        await line.RunAsync(gateway, "status", "--token-file", line.Write("t", other + "\n"));
        Assert.Equal($"Bearer {other}", gateway.Only.Authorization);
    }

    [Fact]
    public async Task Comes_from_standard_input_where_asked()
    {
        await using var gateway = await StandInGateway.StartAsync();
        using var line = new CommandLine { Input = "eyJh.eyJi.c2ln\n" };
        await line.RunAsync(gateway, "status", "--token-file", "-");
        Assert.Equal("Bearer eyJh.eyJi.c2ln", gateway.Only.Authorization);
    }

    [Theory]
    [InlineData("secret")]
    [InlineData("a.b\r\nX-Evil: 1.c")]
    [InlineData("a.b.c.d")]
    [InlineData("a b.c.d")]
    public async Task That_is_none_is_2_and_not_repeated(string text)
    {
        await using var gateway = await StandInGateway.StartAsync();
        using var line = new CommandLine { Variables = { ["PLATFORM_TOKEN"] = text } };
        var ran = await line.RunAsync(gateway, "status");
        Assert.Equal(ExitCode.Usage, ran.Exit);
        Assert.DoesNotContain(text, ran.Error, StringComparison.Ordinal);
        Assert.Empty(gateway.Requests);
    }

    [Fact]
    public async Task Longer_than_any_token_is_2()
    {
        using var line = new CommandLine();
        var ran = await line.RunAsync("status", "--token-file", line.Write("t", $"a.{new string('b', 10_000)}.c"));
        Assert.Equal(ExitCode.Usage, ran.Exit);
    }

    [Theory]
    [InlineData("token", "verify", CommandLine.Canary)]
    [InlineData("status", "--token", CommandLine.Canary)]
    [InlineData("status", "--token=" + CommandLine.Canary)]
    [InlineData("status", "--gateway", "http://127.0.0.1/?t=" + CommandLine.Canary)]
    public async Task On_the_command_line_is_refused_and_not_repeated(params string[] args)
    {
        using var line = new CommandLine();
        var ran = await line.RunAsync(args);
        Assert.Equal(ExitCode.Usage, ran.Exit);
        Assert.Contains("token on the command line", ran.Error, StringComparison.Ordinal);
        foreach (var part in CommandLine.Canary.Split('.'))
            Assert.DoesNotContain(part, ran.Error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("http://198.51.100.7:9221", false, false)]
    [InlineData("http://gateway.example", false, false)]
    [InlineData("http://127.0.0.1.example", false, false)]
    [InlineData("http://[::1]:1", false, true)]
    [InlineData("http://localhost:1", false, true)]
    [InlineData("http://0.0.0.0:1", true, true)]
    public async Task Does_not_travel_in_the_clear_unless_told_to(string address, bool allowed, bool tried)
    {
        using var line = new CommandLine();
        var ran = await line.RunAsync(["status", "--gateway", address, .. allowed ? new[] { "--allow-http" } : []]);
        Assert.Equal(tried ? ExitCode.Failed : ExitCode.Usage, ran.Exit);
        Assert.Equal(!tried, ran.Error.Contains("in the clear", StringComparison.Ordinal));
    }
}
