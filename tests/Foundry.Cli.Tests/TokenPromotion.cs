using System.Text.Json;
using Foundry.Cli.Tests.Bulk;

namespace Foundry.Cli.Tests;

/// <summary><c>foundry token promote</c>.</summary>
public sealed class TokenPromotion : IAsyncLifetime
{
    private const string PublicKey = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
    private const string Issued = $$"""
        {"token":"e30.e30.new","token_id":"new","tenant_id":"acme-corp","scope":"input","subject_pubkey":"{{PublicKey}}","issued_at":"2026-06-12T09:00:00Z","expires_at":"2026-06-13T09:00:00Z",
         "replaces":[{"token_id":"old-1","scope":"read","revokes_at":"2026-06-12T09:10:00Z"},{"token_id":"old-2","scope":"user","revokes_at":"2026-06-12T09:10:00Z"}]}
        """;
    private static readonly string[] Args = ["token", "promote", "--pubkey", PublicKey, "--scope", "input", "--tenant", "acme-corp"];

    private readonly CommandLine _line = new() { OutputIsTerminal = true };
    private StandInGateway _gateway = null!;

    public async ValueTask InitializeAsync()
    {
        _gateway = await StandInGateway.StartAsync();
        _gateway.Answering = asked => asked.Method == "DELETE" ? Said.Nothing() : Said.Json(Issued, 201);
    }

    public async ValueTask DisposeAsync()
    {
        await _gateway.DisposeAsync();
        _line.Dispose();
    }

    private IEnumerable<string> Calls => _gateway.Requests.Select(asked => $"{asked.Method} {asked.Target}");

    [Fact]
    public async Task Issues_the_new_one_with_the_end_of_the_old_ones_decided()
    {
        _line.Input = "y\n";
        var ran = await _line.RunAsync(_gateway, [.. Args, "--max-overlap", "15m", "--expires", "30d"]);
        Assert.Equal((ExitCode.Done, "e30.e30.new\n"), (ran.Exit, ran.Output));
        var body = JsonElement.Parse(_gateway.Requests.First().Body);
        Assert.Equal((PublicKey, "input", 900, 2_592_000), (body.GetProperty("subject_pubkey").GetString(), body.GetProperty("scope").GetString(), body.GetProperty("max_overlap_seconds").GetInt32(), body.GetProperty("expires_in_seconds").GetInt32()));
        Assert.Contains("it replaces old-1, scope read, which ends at 2026-06-12T09:10:00", ran.Error, StringComparison.Ordinal);
        Assert.Equal(["POST /v1/tokens", "DELETE /v1/tokens/old-1", "DELETE /v1/tokens/old-2"], Calls);
    }

    [Theory]
    [InlineData("n\n")]
    [InlineData("\n")]
    [InlineData("")]
    public async Task Revokes_nothing_before_somebody_says_that_the_new_one_works(string said)
    {
        _line.Input = said;
        var ran = await _line.RunAsync(_gateway, Args);
        Assert.Equal((ExitCode.Failed, "POST /v1/tokens"), (ran.Exit, Assert.Single(Calls)));
        Assert.Contains("end by themselves", ran.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Has_the_new_token_in_its_file_before_it_asks()
    {
        var path = _line.File("alice.token");
        var asking = new AskedReader(() => File.ReadAllText(path));
        _line.OutputIsTerminal = false;
        _line.Reader = asking;
        var ran = await _line.RunAsync(_gateway, [.. Args, "--out", path]);
        Assert.Equal((ExitCode.Done, "", "e30.e30.new\n"), (ran.Exit, ran.Output, asking.Seen));
    }

    [Fact]
    public async Task Does_not_ask_when_told_not_to()
    {
        (_line.InputIsRedirected, _line.OutputIsTerminal) = (true, false);
        var ran = await _line.RunAsync(_gateway, [.. Args, "--yes"]);
        Assert.Equal((ExitCode.Done, 3), (ran.Exit, _gateway.Requests.Count));
        Assert.DoesNotContain("[y/N]", ran.Error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(true, true)]
    [InlineData(false, false)]
    public async Task Issues_nothing_where_nobody_can_answer(bool inputIsRedirected, bool outputIsTerminal)
    {
        (_line.InputIsRedirected, _line.OutputIsTerminal, _line.Input) = (inputIsRedirected, outputIsTerminal, "y\n");
        var ran = await _line.RunAsync(_gateway, Args);
        Assert.Equal((ExitCode.Usage, 0), (ran.Exit, _gateway.Requests.Count));
        Assert.Contains("--yes", ran.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Replacing_nothing_asks_nothing()
    {
        _gateway.Answering = _ => Said.Json(Issued[..Issued.IndexOf("\"replaces\"", StringComparison.Ordinal)].TrimEnd(' ', '\n', ',') + "}", 201);
        var ran = await _line.RunAsync(_gateway, Args);
        Assert.Equal(ExitCode.Done, ran.Exit);
        Assert.DoesNotContain("[y/N]", ran.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Of_a_list_replaces_once_all_are_issued()
    {
        var issuance = new FakeIssuance { ReplacesEach = 1 };
        _gateway.Answering = issuance.Answer;
        _line.Input = "n\n";
        string[] args = ["token", "promote", "--scope", "input", "--tenant", "acme-corp", "--from", _line.Write("keys.txt", string.Join('\n', FakeIssuance.Keys(5)))];
        Assert.Equal(ExitCode.Failed, (await _line.RunAsync(_gateway, args)).Exit);
        Assert.DoesNotContain(_gateway.Requests, asked => asked.Method == "DELETE");
        // Asked again, and answered.
        _line.Input = "y\n";
        var ran = await _line.RunAsync(_gateway, args);
        Assert.Equal((ExitCode.Done, 5), (ran.Exit, issuance.Issued));
        Assert.Equal(["/v1/tokens/old-1-1", "/v1/tokens/old-2-1", "/v1/tokens/old-3-1", "/v1/tokens/old-4-1", "/v1/tokens/old-5-1"],
            _gateway.Requests.Where(asked => asked.Method == "DELETE").Select(asked => asked.Target).Order(StringComparer.Ordinal));
    }

    /// <summary>Answers yes, and looks around before it does.</summary>
    private sealed class AskedReader(Func<string> look) : TextReader
    {
        public string? Seen { get; private set; }

        public override string ReadLine()
        {
            Seen = look();
            return "yes";
        }
    }
}
