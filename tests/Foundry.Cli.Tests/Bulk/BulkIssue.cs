using System.Diagnostics;
using System.Text;
using System.Text.Json;
using Foundry.Cli.Bulk;
using Foundry.Tokens;

namespace Foundry.Cli.Tests.Bulk;

/// <summary><c>foundry token issue --from</c>.</summary>
public sealed class BulkIssue : IAsyncLifetime
{
    private static readonly string[] Args = ["token", "issue", "--scope", "user", "--tenant", "acme-corp", "--expires", "30d", "--from"];

    private readonly CommandLine _line = new();
    private readonly FakeIssuance _issuance = new();
    private StandInGateway _gateway = null!;

    private string Results => _line.File("keys.txt.results.jsonl");

    public async ValueTask InitializeAsync()
    {
        _gateway = await StandInGateway.StartAsync();
        _gateway.Answering = _issuance.Answer;
    }

    public async ValueTask DisposeAsync()
    {
        await _gateway.DisposeAsync();
        _line.Dispose();
    }

    [Fact]
    public async Task Makes_a_token_for_each_key_and_writes_each_down_for_its_owner_alone()
    {
        var keys = FakeIssuance.Keys(20);
        var ran = await RunAsync(string.Join('\n', keys.Select((key, at) => $"{key}\tuser{at}  # number {at}")) + "\n\n# the end\n");
        Assert.Equal((ExitCode.Done, ""), (ran.Exit, ran.Output));
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, CommandLine.ModeOf(Results));
        var lines = Lines();
        Assert.Equal("token-issue", lines[0].GetProperty("foundry").GetString());
        Assert.Equal(
            keys.Select((key, at) => (key, (string?)$"user{at}")).Order(),
            lines.Skip(1).Select(line => (line.GetProperty("subject_pubkey").GetString()!, line.GetProperty("user_id").GetString())).Order());
        Assert.Equal(20, lines.Skip(1).Select(line => line.GetProperty("token").GetString()).Distinct().Count());
        Assert.All(_gateway.Requests, asked => Assert.Equal("user", JsonElement.Parse(asked.Body).GetProperty("scope").GetString()));
        Assert.All(_gateway.Requests, asked => Assert.Matches("^[!-~]{1,128}$", asked.IdempotencyKey));
        Assert.Contains("20 of 20 issued", ran.Error, StringComparison.Ordinal);
        Assert.DoesNotContain("e30.e30.", ran.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Names_every_wrong_line_and_sends_nothing()
    {
        var keys = FakeIssuance.Keys(3);
        var ran = await RunAsync($"{keys[0]}\n11qY\n# {keys[0]}\n{keys[0].Replace('-', '+').Replace('_', '/')}=\n{keys[1]} 7up\n{keys[2]} alice bob\n{keys[1]}\n");
        Assert.Equal(ExitCode.Usage, ran.Exit);
        Assert.Equal(["line 2", "line 4", "line 5", "line 6"], ran.Error.Split('\n').Where(text => text.Contains(", line ", StringComparison.Ordinal)).Select(text => text.Split(", ")[1].Split(':')[0]));
        Assert.Contains("the same as line 1", ran.Error, StringComparison.Ordinal);
        Assert.Contains("4 lines are wrong, and nothing was sent", ran.Error, StringComparison.Ordinal);
        Assert.Empty(_gateway.Requests);
        Assert.False(File.Exists(Results));
    }

    [Theory]
    [InlineData("")]
    [InlineData("# nobody\n\n")]
    public async Task Of_an_empty_list_is_a_mistake(string list)
    {
        Assert.Equal(ExitCode.Usage, (await RunAsync(list)).Exit);
        Assert.Empty(_gateway.Requests);
    }

    /// <summary>Beyond what issuance remembers of a day's requests, a run that is taken up again could issue twice.</summary>
    [Fact]
    public async Task Takes_no_more_keys_than_issuance_remembers()
    {
        var ran = await RunAsync(List(KeysInARow(BulkList.KeysMax + 1)));
        Assert.Equal((ExitCode.Usage, 0), (ran.Exit, _gateway.Requests.Count));
        Assert.Contains("10001 entries", ran.Error, StringComparison.Ordinal);
    }

    // About one encoding in sixteen is a valid key, and finding it is cheaper than making one.
    private static IEnumerable<string> KeysInARow(int count)
    {
        for (var n = 0; count > 0; n++)
        {
            var bytes = new byte[VerifyingKey.KeyBytes];
            BitConverter.TryWriteBytes(bytes, n + 2);
            if (VerifyingKey.TryCreate(bytes, out var key))
            {
                count--;
                yield return key.X;
            }
        }
    }

    [Fact]
    public async Task Done_is_not_done_again()
    {
        var list = List(FakeIssuance.Keys(5));
        await RunAsync(list);
        var before = await File.ReadAllTextAsync(Results, TestContext.Current.CancellationToken);
        var ran = await RunAsync(list);
        Assert.Equal((ExitCode.Done, 5, before), (ran.Exit, _gateway.Requests.Count, await File.ReadAllTextAsync(Results, TestContext.Current.CancellationToken)));
    }

    [Fact]
    public async Task Stops_at_what_would_refuse_the_rest_too_and_goes_on_from_there()
    {
        var keys = FakeIssuance.Keys(30);
        var asking = 0;
        _gateway.Answering = asked => Interlocked.Increment(ref asking) <= 7 ? _issuance.Answer(asked) : Said.Problem(401, "invalid_token", "expired");
        var stopped = await RunAsync(List(keys), "--concurrency", "4");
        Assert.Equal(ExitCode.Failed, stopped.Exit);
        Assert.InRange(_gateway.Requests.Count, 8, 7 + 4);
        Assert.Equal(1, stopped.Error.Split("  reason      expired\n").Length - 1);
        Assert.Contains("7 of 30 issued", stopped.Error, StringComparison.Ordinal);
        Assert.Contains("run the same command again", stopped.Error, StringComparison.Ordinal);

        _gateway.Answering = _issuance.Answer;
        var ran = await RunAsync(List(keys), "--concurrency", "4");
        Assert.Equal((ExitCode.Done, 30, 31), (ran.Exit, _issuance.Issued, Lines().Count));
    }

    [Fact]
    public async Task Passes_over_a_line_that_is_refused_for_itself()
    {
        var keys = FakeIssuance.Keys(5);
        _gateway.Answering = asked => asked.Body.Contains(keys[2], StringComparison.Ordinal) ? Said.Problem(422, "invalid_value", detail: "No.") : _issuance.Answer(asked);
        var ran = await RunAsync(List(keys));
        Assert.Equal((ExitCode.Failed, 4), (ran.Exit, _issuance.Issued));
        Assert.Contains("foundry: line 3 refused: Refused: No. (invalid_value, request req-1)\n", ran.Error, StringComparison.Ordinal);
        Assert.Contains("4 of 5 issued, 1 refused", ran.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Ends_where_all_are_refused()
    {
        _gateway.Answering = _ => Said.Problem(422, "expiry_exceeds_issuer");
        var ran = await RunAsync(List(FakeIssuance.Keys(100)), "--concurrency", "1");
        Assert.Equal((ExitCode.Failed, BulkRunner.RefusalsMax), (ran.Exit, _gateway.Requests.Count));
    }

    [Fact]
    public async Task Waits_as_long_as_the_gateway_asks_and_asks_again_under_the_same_key()
    {
        var time = new WatchedTime();
        _line.Time = time;
        var limited = 2;
        _gateway.Answering = asked => Interlocked.Decrement(ref limited) >= 0 ? Said.Problem(429, "rate_limited") with { Headers = [("Retry-After", "17")] } : _issuance.Answer(asked);
        var running = RunAsync(List(FakeIssuance.Keys(2)), "--concurrency", "1");
        Assert.Equal(TimeSpan.FromSeconds(17), await time.PassPauseAsync());
        Assert.Equal(TimeSpan.FromSeconds(17), await time.PassPauseAsync());
        var ran = await running;
        Assert.Equal((ExitCode.Done, 2, 4), (ran.Exit, _issuance.Issued, _gateway.Requests.Count));
        Assert.Single(_gateway.Requests.Take(3).Select(asked => asked.IdempotencyKey).Distinct());
    }

    [Fact]
    public async Task Tries_again_what_time_can_mend_and_gives_up_in_the_end()
    {
        var time = new WatchedTime();
        _line.Time = time;
        _gateway.Answering = _ => Said.Json("{}") with { BreaksOff = true };
        var running = RunAsync(List(FakeIssuance.Keys(1)));
        var pauses = new List<double>();
        for (var attempt = 1; attempt < BulkRunner.AttemptsMax; attempt++)
            pauses.Add((await time.PassPauseAsync()).TotalSeconds);
        var ran = await running;
        Assert.Equal([1, 2, 4, 8, 16], pauses);
        Assert.Equal((ExitCode.Failed, BulkRunner.AttemptsMax), (ran.Exit, _gateway.Requests.Count));
        Assert.Contains("run the same command again", ran.Error, StringComparison.Ordinal);
    }

    /// <summary>What a crash leaves: the line half written. The token was issued, so nothing but the same request may be made.</summary>
    [Fact]
    public async Task A_torn_line_is_asked_for_again_and_issues_nothing_twice()
    {
        var keys = FakeIssuance.Keys(3);
        await RunAsync(List(keys), "--concurrency", "1");
        var text = await File.ReadAllTextAsync(Results, TestContext.Current.CancellationToken);
        await using (var file = new FileStream(Results, FileMode.Open))
            file.SetLength(text.Length - 40);
        var ran = await RunAsync(List(keys));
        Assert.Equal((ExitCode.Done, 3, 4), (ran.Exit, _issuance.Issued, _gateway.Requests.Count));
        Assert.Equal(text, await File.ReadAllTextAsync(Results, TestContext.Current.CancellationToken));
    }

    [Theory]
    [InlineData("--scope read --tenant acme-corp --expires 30d")]
    [InlineData("--scope user --tenant globex --expires 30d")]
    [InlineData("--scope user --tenant acme-corp --expires 1h")]
    [InlineData("--scope user --tenant acme-corp --expires 30d --proof")]
    public async Task Goes_on_only_with_the_options_it_began_with(string others)
    {
        var list = List(FakeIssuance.Keys(2));
        await RunAsync(list);
        var ran = await _line.RunAsync(_gateway, ["token", "issue", .. others.Split(' '), "--from", _line.File("keys.txt")]);
        Assert.Equal((ExitCode.Usage, 2), (ran.Exit, _gateway.Requests.Count));
        Assert.Contains("begun with other options", ran.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Goes_on_only_for_the_caller_who_began_it()
    {
        var list = List(FakeIssuance.Keys(2));
        await RunAsync(list);
        _line.Variables["PLATFORM_TOKEN"] = $"eyJh.{Convert.ToBase64String("""{"subject_pubkey":"x","iss":"y"}"""u8).TrimEnd('=')}.c2ln";
        var ran = await RunAsync(list);
        Assert.Equal((ExitCode.Usage, 2), (ran.Exit, _gateway.Requests.Count));
        Assert.Contains("another caller", ran.Error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("what was there")]
    [InlineData("what was there\n")]
    [InlineData("{}\n")]
    [InlineData("{\"foundry\":\"token-issue\",\"v\":2,\"run_id\":\"x\"}\n")]
    [InlineData("{\"foundry\":\"token-issue\",\"v\":1,\"run_id\":\"x\",\"request\":{\"scope\":\"user\",\"expires_in_seconds\":2592000,\"tenant_id\":\"acme-corp\"}}\n{\"x\":1}\n")]
    public async Task Writes_into_no_file_that_is_not_its_own(string text)
    {
        _line.Write("keys.txt.results.jsonl", text);
        var ran = await RunAsync(List(FakeIssuance.Keys(1)));
        Assert.Equal((ExitCode.Usage, 0, text), (ran.Exit, _gateway.Requests.Count, await File.ReadAllTextAsync(Results, TestContext.Current.CancellationToken)));
    }

    [Fact]
    public async Task Puts_no_token_where_others_can_read_it()
    {
        Assert.SkipWhen(OperatingSystem.IsWindows(), "Windows has no modes.");
        var list = List(FakeIssuance.Keys(1));
        await RunAsync(list);
        _line.Write("keys.txt.results.jsonl", await File.ReadAllTextAsync(Results, TestContext.Current.CancellationToken), UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.OtherRead);
        var ran = await RunAsync(list);
        Assert.Equal(ExitCode.Usage, ran.Exit);
        Assert.Contains("chmod 600", ran.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Interrupted_ends_with_130_and_says_how_to_go_on()
    {
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(TestContext.Current.CancellationToken);
        var keys = FakeIssuance.Keys(6);
        _gateway.Answering = asked => _issuance.Issued < 3 ? _issuance.Answer(asked) : _issuance.Answer(asked) with { NotBefore = Task.Delay(Timeout.Infinite, stop.Token) };
        var running = _line.RunAsync(new StringWriter(), stop.Token, [.. Args, _line.Write("keys.txt", List(keys)), "--concurrency", "1", "--gateway", _gateway.Address]);
        for (var request = 0; request < 4; request++)
            await _gateway.NextAsync();
        await stop.CancelAsync();
        var ran = await running;
        Assert.Equal(ExitCode.Interrupted, ran.Exit);
        Assert.Contains("3 of 6 issued", ran.Error, StringComparison.Ordinal);
        Assert.Contains("run the same command again", ran.Error, StringComparison.Ordinal);
        _gateway.Answering = _issuance.Answer;
        Assert.Equal((ExitCode.Done, 6), ((await RunAsync(List(keys))).Exit, _issuance.Issued));
    }

    /// <summary>The program itself, killed after the gateway has issued a token and before the program can have written it down.</summary>
    [Theory]
    [InlineData("-KILL", 137)]
    [InlineData("-TERM", ExitCode.Interrupted)]
    public async Task Killed_between_the_issue_and_its_line_it_issues_nothing_twice(string signal, int exit)
    {
        Assert.SkipWhen(OperatingSystem.IsWindows(), "Windows has no signals.");
        var cancellation = TestContext.Current.CancellationToken;
        var keys = FakeIssuance.Keys(8);
        var list = _line.Write("keys.txt", List(keys));
        var forever = new TaskCompletionSource();
        _gateway.Answering = asked => _issuance.Issued < 4 ? _issuance.Answer(asked) : _issuance.Answer(asked) with { NotBefore = forever.Task };

        var start = new ProcessStartInfo("dotnet", [Path.Combine(AppContext.BaseDirectory, "foundry.dll"), .. Args, list, "--concurrency", "2", "--gateway", _gateway.Address]) { RedirectStandardError = true };
        start.Environment["PLATFORM_TOKEN"] = CommandLine.Canary;
        using (var process = Process.Start(start)!)
        {
            var errors = process.StandardError.ReadToEndAsync(cancellation);
            // The fifth and the sixth are issued, and their answers on the way.
            for (var request = 0; request < 6; request++)
                await _gateway.NextAsync();
            using var kill = Process.Start("kill", [signal, $"{process.Id}"]);
            await process.WaitForExitAsync(cancellation);
            Assert.True(exit == process.ExitCode, $"{process.ExitCode}: {await errors}");
        }
        Assert.Equal(6, _issuance.Issued);

        _gateway.Answering = _issuance.Answer;
        var ran = await _line.RunAsync(_gateway, [.. Args, list]);
        Assert.Equal((ExitCode.Done, 8), (ran.Exit, _issuance.Issued));
        Assert.Equal(keys.Order(), Lines().Skip(1).Select(line => line.GetProperty("subject_pubkey").GetString()).Order());
    }

    [Fact]
    public async Task Is_run_by_one_process_at_a_time()
    {
        var list = List(FakeIssuance.Keys(1));
        await RunAsync(list);
        await using var other = new FileStream(Results, FileMode.Open, FileAccess.ReadWrite, FileShare.None);
        Assert.Equal(ExitCode.Usage, (await RunAsync(list)).Exit);
    }

    [Fact]
    public async Task Draws_a_bar_for_a_person_and_wipes_it()
    {
        var time = new WatchedTime { AutoAdvanceAmount = TimeSpan.FromMilliseconds(70) };
        (_line.Time, _line.ErrorIsTerminal) = (time, true);
        var ran = await RunAsync(List(FakeIssuance.Keys(20)), "--concurrency", "1");
        Assert.Contains("] 10/20 issued, ", ran.Error, StringComparison.Ordinal);
        Assert.Matches(@"\r +\rfoundry: 20 of 20 issued", ran.Error);
    }

    [Fact]
    public async Task Says_a_line_now_and_then_where_nobody_looks()
    {
        _line.Time = new WatchedTime { AutoAdvanceAmount = TimeSpan.FromSeconds(1) };
        var ran = await RunAsync(List(FakeIssuance.Keys(20)), "--concurrency", "1");
        Assert.DoesNotContain('\r', ran.Error);
        Assert.InRange(ran.Error.Split(" of 20 issued\n").Length - 1, 1, 15);
    }

    private static string List(IEnumerable<string> keys) => string.Join('\n', keys);

    private Task<Ran> RunAsync(string list, params string[] more) => _line.RunAsync(_gateway, [.. Args, _line.Write("keys.txt", list), .. more]);

    private List<JsonElement> Lines() => [.. File.ReadAllText(Results, Encoding.UTF8).Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(line => JsonElement.Parse(line))];
}
