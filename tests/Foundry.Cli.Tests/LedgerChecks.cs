using System.Text;
using System.Text.Json;
using Foundry.Proofs;

namespace Foundry.Cli.Tests;

/// <summary><c>foundry ledger verify</c> and <c>prove</c>.</summary>
public sealed class LedgerChecks
{
    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    [Theory]
    [InlineData(1), InlineData(256), InlineData(600)]
    public async Task Of_a_copied_folder_need_nothing_but_the_key(int size)
    {
        using var log = new LogCopy(size);
        using var line = new CommandLine();
        line.Variables.Clear();
        var ran = await line.RunAsync("ledger", "verify", "--folder", log.CopyTo(line.File("copy")), "--vkey", log.Key, "-o", "json");
        Assert.Equal((ExitCode.Done, ""), (ran.Exit, ran.Error));
        var result = JsonDocument.Parse(ran.Output).RootElement;
        Assert.Equal((LogCopy.Origin, size), (result.GetProperty("origin").GetString(), result.GetProperty("entries").GetInt32()));
    }

    [Fact]
    public async Task Name_the_first_bad_entry_and_the_last_good_checkpoint()
    {
        using var log = new LogCopy(400);
        using var line = new CommandLine();
        var kept = line.File("acme.checkpoint");
        await line.RunAsync("ledger", "verify", "--folder", log.CopyTo(line.File("early")), "--vkey", log.Key, "--since-checkpoint", kept);
        Assert.Equal(log.Files["checkpoint"], await File.ReadAllBytesAsync(kept, Cancellation));
        Assert.True(SignedNote.TryParse(log.Files["checkpoint"], out var note) && Checkpoint.TryParse(note.Text, out _));

        log.Grow(1000);
        log.Falsify(700);
        log.Falsify(900);
        var copy = log.CopyTo(line.File("copy"));
        var ran = await line.RunAsync("ledger", "verify", "--folder", copy, "--vkey", log.Key, "--since-checkpoint", kept);
        Assert.Equal($"""
            foundry: {copy}: entry 700 is not the one that was signed
              entry       700 is the first bad one
              good        entries 1 to 699
              checkpoint  the last good one is of 400 entries, root {note.Text.Split('\n')[2]}
              next        leave the log as it is, and compare with another copy of it

            """, ran.Error);
        Assert.Equal((ExitCode.Failed, ""), (ran.Exit, ran.Output));
        // What is bad is not kept.
        Assert.Contains("\n400\n", await File.ReadAllTextAsync(kept, Cancellation), StringComparison.Ordinal);
    }

    [Fact]
    public async Task With_a_kept_checkpoint_read_what_is_new_and_keep_the_new_one()
    {
        using var log = new LogCopy(300);
        using var line = new CommandLine();
        await using var gateway = await StandInGateway.StartAsync();
        gateway.Answering = log.Answer;
        string[] verify = ["ledger", "verify", "--vkey", log.Key, "--since-checkpoint", line.File("kept"), "-o", "json"];
        Assert.Equal(ExitCode.Done, (await line.RunAsync(gateway, verify)).Exit);
        Assert.Contains(gateway.Requests, asked => asked.Target.StartsWith("/ledger/acme/tile/entries/000", StringComparison.Ordinal));

        // The ledger still gives the tiles of the older size.
        var partials = log.Files.Where(file => file.Key.Contains(".p/", StringComparison.Ordinal)).ToList();
        log.Grow(900);
        partials.ForEach(file => log.Files[file.Key] = file.Value);
        gateway.Requests.Clear();
        var ran = await line.RunAsync(gateway, verify);
        Assert.Equal((ExitCode.Done, 300), (ran.Exit, JsonDocument.Parse(ran.Output).RootElement.GetProperty("continues").GetInt32()));
        Assert.DoesNotContain(gateway.Requests, asked => asked.Target.StartsWith("/ledger/acme/tile/entries/000", StringComparison.Ordinal));
        Assert.Equal(log.Files["checkpoint"], await File.ReadAllBytesAsync(line.File("kept"), Cancellation));
    }

    /// <summary>Whole in itself and signed by the right key: only who kept a checkpoint sees it.</summary>
    [Theory]
    [InlineData(true), InlineData(false)]
    public async Task See_a_rewritten_log_by_the_kept_checkpoint(bool all)
    {
        using var log = new LogCopy(300);
        using var rewritten = new LogCopy(500, cursor => $$"""{"n":{{(cursor == 17 ? "\"another\"" : $"{cursor}")}}}""");
        using var line = new CommandLine();
        await line.RunAsync("ledger", "verify", "--folder", log.CopyTo(line.File("copy")), "--vkey", log.Key, "--since-checkpoint", line.File("kept"));
        var folder = rewritten.CopyTo(line.File("rewritten"));
        Assert.Equal(ExitCode.Done, (await line.RunAsync("ledger", "verify", "--folder", folder, "--vkey", log.Key)).Exit);
        string[] verify = ["ledger", "verify", "--folder", folder, "--vkey", log.Key, "--since-checkpoint", line.File("kept")];
        var ran = await line.RunAsync(all ? [.. verify, "--all"] : verify);
        Assert.Equal(ExitCode.Failed, ran.Exit);
        Assert.Contains("earlier checkpoint", ran.Error, StringComparison.Ordinal);
        Assert.Contains("no entry", ran.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task See_a_log_that_became_shorter()
    {
        using var log = new LogCopy(300);
        using var line = new CommandLine();
        await line.RunAsync("ledger", "verify", "--folder", log.CopyTo(line.File("copy")), "--vkey", log.Key, "--since-checkpoint", line.File("kept"));
        log.Grow(299);
        var ran = await line.RunAsync("ledger", "verify", "--folder", log.CopyTo(line.File("cut")), "--vkey", log.Key, "--since-checkpoint", line.File("kept"));
        Assert.Equal(ExitCode.Failed, ran.Exit);
        Assert.Contains("the log has 299 entries, and had 300", ran.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Through_the_gateway_find_a_bad_entry_by_the_tiles()
    {
        using var log = new LogCopy(600);
        log.Falsify(300);
        using var line = new CommandLine();
        await using var gateway = await StandInGateway.StartAsync();
        gateway.Answering = log.Answer;
        var ran = await line.RunAsync(gateway, "ledger", "verify");
        Assert.Equal(ExitCode.Failed, ran.Exit);
        Assert.Contains($"the gateway says that this log's key is {log.Key}", ran.Error, StringComparison.Ordinal);
        Assert.Contains("acme: entry 300 is not the one that was signed", ran.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Wait_where_the_rate_is_used_up_and_stop_where_they_are_refused()
    {
        using var log = new LogCopy(600);
        var time = new WatchedTime();
        using var line = new CommandLine { Time = time };
        await using var gateway = await StandInGateway.StartAsync();
        var (asks, isLate) = (0, 0);
        gateway.Answering = asked =>
        {
            if (!asked.Target.Contains("/tile/", StringComparison.Ordinal))
                return log.Answer(asked);
            Interlocked.Increment(ref asks);
            if (asked.Target.Contains("/001", StringComparison.Ordinal) && Interlocked.Exchange(ref isLate, 1) == 0)
                return Said.Problem(429, "rate_limited") with { Headers = [("Retry-After", "3")] };
            return asked.Target.Contains("/002", StringComparison.Ordinal) ? Said.Problem(403, "insufficient_scope") : log.Answer(asked);
        };
        var running = line.RunAsync(gateway, "ledger", "verify", "--vkey", log.Key);
        Assert.Equal(TimeSpan.FromSeconds(3), await time.PassPauseAsync());
        var ran = await running;
        Assert.Equal((ExitCode.Failed, 4), (ran.Exit, asks));
        Assert.Contains("insufficient_scope", ran.Error, StringComparison.Ordinal);
        Assert.DoesNotContain("rate_limited", ran.Error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("a key of another", true), InlineData("the right key and a damaged checkpoint", false)]
    public async Task Believe_nobody_else(string what, bool isOtherKey)
    {
        Assert.NotEmpty(what);
        using var log = new LogCopy(3);
        if (!isOtherKey)
            log.Files["checkpoint"][^3] ^= 4;
        using var line = new CommandLine();
        var ran = await line.RunAsync("ledger", "verify", "--folder", log.CopyTo(line.File("copy")), "--vkey", isOtherKey ? LogCopy.OtherKey : log.Key);
        Assert.Equal(ExitCode.Failed, ran.Exit);
        Assert.Contains("is not signed by that key", ran.Error, StringComparison.Ordinal);
    }

    /// <summary>Whoever pinned the old key and has read the new one's announcement checks across the change.</summary>
    [Fact]
    public async Task Across_a_change_of_the_key_need_both_keys()
    {
        using var log = new LogCopy(300);
        using var line = new CommandLine();
        await using var gateway = await StandInGateway.StartAsync();
        gateway.Answering = log.Answer;
        string[] keys = ["--vkey", LogCopy.OtherKey, "--vkey", log.Key];
        using var rival = NoteKey.FromSeed(new byte[NoteKey.SeedBytes]);
        Assert.Equal((ExitCode.Done, ""), (await line.RunAsync(gateway, ["ledger", "verify", .. keys])) is var ran ? (ran.Exit, ran.Error) : default);
        Assert.Equal(ExitCode.Done, (await line.RunAsync(gateway, ["ledger", "prove", "7", "--out", line.File("7.tlog-proof"), .. keys])).Exit);
        Assert.Equal(ExitCode.Done, (await line.RunAsync(["ledger", "verify", "--proof", line.File("7.tlog-proof"), .. keys])).Exit);
        Assert.Contains("keys of 2 logs", (await line.RunAsync(gateway, "ledger", "verify", "--vkey", log.Key, "--vkey", rival.VerifierFor("foundry.local/rival").VerifierKey)).Error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("the latest"), InlineData("an older one")]
    public async Task With_a_witness_check_what_it_has_cosigned(string what)
    {
        using var log = new LogCopy(300);
        using var line = new CommandLine();
        await using var gateway = await StandInGateway.StartAsync();
        gateway.Answering = log.Answer;
        if (what == "the latest")
            log.Files["checkpoint"] = log.Cosigned("w1", "w2");
        else
        {
            var partials = log.Files.Where(file => file.Key.Contains(".p/", StringComparison.Ordinal)).ToList();
            log.Files["witnessed"] = log.Cosigned("w1", "w2");
            var witnessed = log.Files["witnessed"];
            log.Grow(400);
            partials.ForEach(file => log.Files[file.Key] = file.Value);
            log.Files["witnessed"] = witnessed;
        }
        string[] both = ["--vkey", log.Key, "--witness", LogCopy.WitnessKey("w1"), "--witness", LogCopy.WitnessKey("w2")];

        var ran = await line.RunAsync(gateway, ["ledger", "verify", "-o", "json", .. both]);
        Assert.Equal((ExitCode.Done, ""), (ran.Exit, ran.Error));
        var result = JsonDocument.Parse(ran.Output).RootElement;
        Assert.Equal((300, "w1, w2"), (result.GetProperty("entries").GetInt32(), result.GetProperty("witnessed_by").GetString()));
        Assert.Equal(ExitCode.Done, (await line.RunAsync(gateway, ["ledger", "prove", "7", "--out", line.File("7.tlog-proof"), .. both])).Exit);
        Assert.Equal(ExitCode.Done, (await line.RunAsync(["ledger", "verify", "--proof", line.File("7.tlog-proof"), .. both])).Exit);

        // One of those named has not: that is told, of the log and of the proof.
        string[] third = ["--vkey", log.Key, "--witness", LogCopy.WitnessKey("w1"), "--witness", LogCopy.WitnessKey("w3")];
        foreach (var args in new string[][] { ["ledger", "verify", .. third], ["ledger", "prove", "7", "--out", line.File("none"), .. third], ["ledger", "verify", "--proof", line.File("7.tlog-proof"), .. third] })
        {
            var refused = await line.RunAsync(gateway, args);
            Assert.Equal((ExitCode.Failed, ""), (refused.Exit, refused.Output));
            Assert.Contains("w3 has not cosigned", refused.Error, StringComparison.Ordinal);
        }
        Assert.False(File.Exists(line.File("none")));
    }

    [Fact]
    public async Task With_a_witness_believe_no_cosignature_that_is_false_and_no_name_without_its_key()
    {
        using var log = new LogCopy(3);
        using var line = new CommandLine();
        Assert.True(SignedNote.TryParse(log.Files["checkpoint"], out var note));
        Assert.True(SignedNote.TryParse(log.Cosigned("w1"), out var cosigned));
        var line1 = cosigned.Signatures[^1];
        var damaged = line1 with { Signature = [.. line1.Signature.SkipLast(1), (byte)(line1.Signature[^1] ^ 1)] };
        log.Files["checkpoint"] = note.With([.. note.Signatures, damaged]).Encode();
        string[] args = ["ledger", "verify", "--folder", log.CopyTo(line.File("copy")), "--vkey", log.Key, "--witness", LogCopy.WitnessKey("w1")];
        Assert.Contains("w1 has not cosigned", (await line.RunAsync(args)).Error, StringComparison.Ordinal);
        log.Files["checkpoint"] = cosigned.Encode();
        log.CopyTo(line.File("copy"));
        Assert.Equal(ExitCode.Done, (await line.RunAsync(args)).Exit);
    }

    [Fact]
    public async Task With_a_witness_that_is_behind_what_was_checked_before_do_not_say_that_the_log_shrank()
    {
        using var log = new LogCopy(300);
        using var line = new CommandLine();
        await using var gateway = await StandInGateway.StartAsync();
        gateway.Answering = log.Answer;
        var witnessed = log.Cosigned("w1");
        log.Grow(400);
        await line.RunAsync(gateway, "ledger", "verify", "--vkey", log.Key, "--since-checkpoint", line.File("kept"));
        log.Files["witnessed"] = witnessed;
        var ran = await line.RunAsync(gateway, "ledger", "verify", "--vkey", log.Key, "--since-checkpoint", line.File("kept"), "--witness", LogCopy.WitnessKey("w1"));
        Assert.Equal(ExitCode.Failed, ran.Exit);
        Assert.Contains("of the 400 entries that you checked before, the witnesses have cosigned 300", ran.Error, StringComparison.Ordinal);
    }

    public static TheoryData<string[], string> Misuses => new()
    {
        { ["--folder", "x"], "--vkey is needed" },
        { ["--proof", "x"], "--vkey is needed" },
        { ["--folder", "x", "--proof", "y", "--vkey", "k"], "--folder and --proof name different things" },
        { ["--folder", "x", "--module-id", "acme", "--vkey", "k"], "name different things" },
        { ["--folder", "x", "--vkey", "k"], "no log's folder" },
        { ["--proof", "no-such-file", "--vkey", LogCopy.OtherKey], "cannot be read" },
        { ["--proof", "no-such-file", "--vkey", "k"], "this is no verifier key" },
        { ["--proof", "no-such-file", "--vkey", LogCopy.OtherKey, "--witness", LogCopy.OtherKey], "this is no witness's verifier key" },
    };

    [Theory, MemberData(nameof(Misuses))]
    public async Task Are_not_begun_where_the_line_makes_no_sense(string[] args, string says)
    {
        using var line = new CommandLine();
        var ran = await line.RunAsync(["ledger", "verify", .. args]);
        Assert.Equal(ExitCode.Usage, ran.Exit);
        Assert.Contains(says, ran.Error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(1), InlineData(256), InlineData(257), InlineData(600)]
    public async Task Of_a_proof_need_the_file_and_the_key_alone(int cursor)
    {
        using var log = new LogCopy(600);
        using var line = new CommandLine();
        await using (var gateway = await StandInGateway.StartAsync())
        {
            gateway.Answering = log.Answer;
            Assert.Equal(ExitCode.Done, (await line.RunAsync(gateway, "ledger", "prove", $"{cursor}", "--out", line.File("p.tlog-proof"))).Exit);
            // The same on standard output.
            var shown = await line.RunAsync(gateway, "ledger", "prove", $"{cursor}", "--vkey", log.Key);
            Assert.Equal(await File.ReadAllBytesAsync(line.File("p.tlog-proof"), Cancellation), shown.Bytes);
        }
        line.Variables.Clear();
        var ran = await line.RunAsync("ledger", "verify", "--proof", line.File("p.tlog-proof"), "--vkey", log.Key, "-o", "json");
        Assert.Equal((ExitCode.Done, ""), (ran.Exit, ran.Error));
        Assert.Equal($$$"""{"origin":"foundry.local/acme","entries":600,"cursor":{{{cursor}}},"payload_id":"id-{{{cursor}}}","writer":"tenant:acme","time":"2026-01-02T03:04:05.678Z","payload":{"event_type":"T","n":{{{cursor}}}}}""", ran.Output);

        Assert.Equal(ExitCode.Failed, (await line.RunAsync("ledger", "verify", "--proof", line.File("p.tlog-proof"), "--vkey", LogCopy.OtherKey)).Exit);
        var damaged = (await File.ReadAllTextAsync(line.File("p.tlog-proof"), Cancellation)).Replace($"index {cursor - 1}\n", $"index {cursor}\n", StringComparison.Ordinal);
        Assert.Equal(ExitCode.Failed, (await line.RunAsync("ledger", "verify", "--proof", line.Write("damaged", damaged), "--vkey", log.Key)).Exit);
        Assert.Equal(ExitCode.Failed, (await line.RunAsync("ledger", "verify", "--proof", line.Write("none", "nothing"), "--vkey", log.Key)).Exit);
    }

    [Fact]
    public async Task Give_no_proof_of_what_is_not_there_or_not_signed()
    {
        using var log = new LogCopy(10);
        using var line = new CommandLine();
        await using var gateway = await StandInGateway.StartAsync();
        gateway.Answering = log.Answer;
        Assert.Contains("the log has 10 entries, and no 11", (await line.RunAsync(gateway, "ledger", "prove", "11")).Error, StringComparison.Ordinal);
        log.Falsify(3);
        var ran = await line.RunAsync(gateway, "ledger", "prove", "3", "--out", line.File("p"));
        Assert.Equal((ExitCode.Failed, false), (ran.Exit, File.Exists(line.File("p"))));
        Assert.Equal(ExitCode.Usage, (await line.RunAsync(gateway, "ledger", "prove", "0")).Exit);
        line.Write("taken", "");
        var taken = await line.RunAsync(gateway, "ledger", "prove", "4", "--out", line.File("taken"));
        Assert.Equal((ExitCode.Failed, ""), (taken.Exit, Encoding.UTF8.GetString(await File.ReadAllBytesAsync(line.File("taken"), Cancellation))));
    }
}
