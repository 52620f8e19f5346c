using System.Text;

namespace Foundry.Cli.Tests;

/// <summary><c>foundry ledger read --all</c>, <c>tail</c> and <c>export</c>.</summary>
public sealed class LedgerReads
{
    private static string Entry(int cursor, string payloadId, string payload) =>
        $$"""{"cursor":{{cursor}},"payload_id":"{{payloadId}}","writer":"tenant:acme","time":"2026-01-02T03:04:05.678Z","payload":{{payload}}}""";

    private static Said Page(int next, params string[] entries) => Said.Json($$"""{"module_id":"acme","next_cursor":{{next}},"entries":[{{string.Join(',', entries)}}]}""");

    private static Said Lines(params string[] lines) => new(200, "application/x-ndjson", Encoding.UTF8.GetBytes(string.Concat(lines.Select(line => line + "\n"))));

    /// <summary>An empty page is not the last one: the search may have had to leave off.</summary>
    [Fact]
    public async Task To_the_end_go_on_until_the_cursor_stands_still()
    {
        await using var gateway = await StandInGateway.StartAsync(Page(5, Entry(3, "a", "{}")), Page(9), Page(12, Entry(12, "b", "{}")), Page(12));
        using var line = new CommandLine();
        var ran = await line.RunAsync(gateway, "ledger", "read", "--all", "--event-type", "T", "--output", "json");
        Assert.Equal(ExitCode.Done, ran.Exit);
        Assert.Equal(["", "&since=5", "&since=9", "&since=12"], gateway.Requests.Select(asked => asked.Target.Replace("/v1/entries?event_type=T&limit=10000", "", StringComparison.Ordinal)));
        Assert.Equal(2, ran.Output.Split("\"payload_id\"").Length - 1);
    }

    [Fact]
    public async Task Exported_as_lines_are_exact_and_one_a_line()
    {
        await using var gateway = await StandInGateway.StartAsync(Page(2, Entry(1, "a", "{\n \"x\" : 1.10 }"), Entry(2, "b", "{}")), Page(2));
        using var line = new CommandLine();
        var ran = await line.RunAsync(gateway, "ledger", "export");
        Assert.Equal(Entry(1, "a", "{  \"x\" : 1.10 }") + "\n" + Entry(2, "b", "{}") + "\n", ran.Output);
        Assert.Equal("foundry: 2 entries; those to come are after --since 2\n", ran.Error);
    }

    [Fact]
    public async Task Exported_as_a_table_are_quoted_and_run_nothing()
    {
        await using var gateway = await StandInGateway.StartAsync(
            Page(2, Entry(1, "=cmd()", """{"event_type":"a,\"b\"","tenant_id":"acme"}"""), Entry(2, "-1", """{"event_type":"@x\ny"}""")), Page(2));
        using var line = new CommandLine();
        var ran = await line.RunAsync(gateway, "ledger", "export", "--format", "csv", "--out", line.File("e.csv"));
        Assert.Equal((ExitCode.Done, ""), (ran.Exit, ran.Output));
        const string time = "2026-01-02T03:04:05.678Z";
        Assert.Equal(
            "cursor,time,writer,payload_id,event_type,tenant_id,payload\r\n"
            + $"1,{time},tenant:acme,'=cmd(),\"a,\"\"b\"\"\",acme,\"{{\"\"event_type\"\":\"\"a,\\\"\"b\\\"\"\"\",\"\"tenant_id\"\":\"\"acme\"\"}}\"\r\n"
            + $"2,{time},tenant:acme,'-1,\"'@x\ny\",,\"{{\"\"event_type\"\":\"\"@x\\ny\"\"}}\"\r\n",
            await File.ReadAllTextAsync(line.File("e.csv"), TestContext.Current.CancellationToken));
        Assert.Equal(ExitCode.Usage, (await line.RunAsync(gateway, "ledger", "export", "--out", line.File("e.csv"))).Exit);
    }

    [Fact]
    public async Task Refused_in_the_middle_say_where_to_go_on()
    {
        await using var gateway = await StandInGateway.StartAsync(Page(7, Entry(7, "a", "{}")), Said.Problem(401, "invalid_token", "expired"));
        using var line = new CommandLine();
        var ran = await line.RunAsync(gateway, "ledger", "export");
        Assert.Equal(ExitCode.Failed, ran.Exit);
        Assert.Contains("1 entries; the rest is after --since 7", ran.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Of_the_end_are_the_last_ones_a_line_each()
    {
        using var log = new LogCopy(600);
        await using var gateway = await StandInGateway.StartAsync();
        gateway.Answering = asked => asked.Target.StartsWith("/v1/entries", StringComparison.Ordinal)
            ? asked.Target.Contains("since=598", StringComparison.Ordinal) ? Page(600, Entry(599, "a", """{"event_type":"T","tenant_id":"acme"}"""), Entry(600, "b", "{}")) : Page(600)
            : log.Answer(asked);
        using var line = new CommandLine();
        var ran = await line.RunAsync(gateway, "ledger", "tail", "--lines", "2");
        Assert.Equal("599  2026-01-02T03:04:05.678Z  T  acme  a\n600  2026-01-02T03:04:05.678Z  -  -  b\n", ran.Output);
    }

    [Fact]
    public async Task Followed_go_on_where_they_were_and_end_when_the_token_is_refused()
    {
        await using var gateway = await StandInGateway.StartAsync(
            Lines("""{"next_cursor":4}""", Entry(5, "a", "{}"), """{"next_cursor":8}"""),
            // Cut off in the middle of a line.
            new Said(200, "application/x-ndjson", Encoding.UTF8.GetBytes(Entry(9, "b", "{}") + "\n" + Entry(10, "c", "{}")[..30])),
            Said.Problem(503, "record_unavailable"),
            Said.Problem(401, "invalid_token", "revoked"));
        var time = new WatchedTime();
        using var line = new CommandLine { Time = time };
        var running = line.RunAsync(gateway, "ledger", "tail", "--follow", "--since", "4", "--filter", "kind=x", "--output", "json");
        Assert.Equal(TimeSpan.FromSeconds(1), await time.PassPauseAsync());
        var ran = await running;
        Assert.Equal(["since=4", "since=8", "since=9", "since=9"], gateway.Requests.Select(asked => asked.Target.Replace("/v1/tail?kind=x&", "", StringComparison.Ordinal)));
        Assert.Equal(Entry(5, "a", "{}") + "\n" + Entry(9, "b", "{}") + "\n", ran.Output);
        Assert.Equal(ExitCode.Failed, ran.Exit);
        Assert.Contains("revoked", ran.Error, StringComparison.Ordinal);
    }
}
