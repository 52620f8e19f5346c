using System.Text;
using Foundry.Cli.Witness;
using Foundry.Proofs;

namespace Foundry.Cli.Tests.Witness;

/// <summary><c>foundry witness run</c>, as a ledger meets it.</summary>
public sealed class WitnessRun : IAsyncLifetime
{
    private const string Name = "witness.example/w1";
    private readonly CommandLine _line = new();
    private readonly HttpMessageInvoker _http = new(new SocketsHttpHandler());
    private readonly NoteKey _key = NoteKey.FromSeed([9, .. new byte[NoteKey.SeedBytes - 1]]);
    private StandInLog _log = null!;
    private string _keyFile = "";

    public async ValueTask InitializeAsync()
    {
        _keyFile = _line.Write("witness.key", Convert.ToBase64String([9, .. new byte[NoteKey.SeedBytes - 1]]).Replace('+', '-').Replace('/', '_').TrimEnd('=') + "\n");
        _log = await StandInLog.StartAsync(300);
    }

    public async ValueTask DisposeAsync()
    {
        await _log.DisposeAsync();
        _http.Dispose();
        _key.Dispose();
        _line.Dispose();
    }

    [Fact]
    public async Task Cosigns_what_continues_what_it_remembers_also_after_a_restart()
    {
        await using (var witness = await StartAsync("--begin"))
        {
            Assert.Equal(_log.Checkpoint, await CosignedAsync(witness, await _log.RequestAsync(0)));
            _log.Become(700);
            Assert.Equal(_log.Checkpoint, await CosignedAsync(witness, await _log.RequestAsync(300)));
            Assert.Equal(_log.Checkpoint, await CosignedAsync(witness, await _log.RequestAsync(700)));
        }
        _log.Become(701);
        await using (var witness = await StartAsync())
        {
            Assert.Equal((409, "700\n", AddCheckpoint.SizeType), await AskAsync(witness, await _log.RequestAsync(0)));
            Assert.Equal(_log.Checkpoint, await CosignedAsync(witness, await _log.RequestAsync(700)));
        }
    }

    [Fact]
    public async Task Never_cosigns_a_second_history_and_keeps_what_shows_it()
    {
        await using var witness = await StartAsync("--begin");
        await CosignedAsync(witness, await _log.RequestAsync(0));
        var seen = _log.Checkpoint;

        _log.Become(300, changed: 7);
        Assert.Equal((409, "300\n", AddCheckpoint.SizeType), await AskAsync(witness, await _log.RequestAsync(300)));
        _log.Become(400, changed: 7);
        Assert.Equal(422, (await AskAsync(witness, await _log.RequestAsync(300))).Status);
        Assert.Equal(409, (await AskAsync(witness, await _log.RequestAsync(0))).Status);
        _log.Become(200);
        Assert.Equal(409, (await AskAsync(witness, await _log.RequestAsync(0))).Status);
        Assert.Equal(409, (await AskAsync(witness, await _log.RequestAsync(200))).Status);
        Assert.Equal(400, (await AskAsync(witness, (await _log.RequestAsync(0)) with { OldSize = 300 })).Status);

        var evidence = Directory.GetFiles(_line.File("state/evidence"));
        Assert.Equal(2, evidence.Length);
        foreach (var file in evidence)
        {
            var text = await File.ReadAllTextAsync(file, TestContext.Current.CancellationToken);
            Assert.StartsWith(seen.Text, text, StringComparison.Ordinal);
            Assert.True(AddCheckpoint.TryParse(Encoding.UTF8.GetBytes(text[text.IndexOf("\nold ", StringComparison.Ordinal)..].TrimStart('\n')), out var asked));
            Assert.Equal(WitnessVerdict.Cosign, asked.Open(new Dictionary<string, LogVerifier> { [StandInLog.Origin] = new(_log.Key.VerifierFor(StandInLog.Origin)) }, out _));
        }
        _log.Become(301);
        Assert.Equal(_log.Checkpoint, await CosignedAsync(witness, await _log.RequestAsync(300)));
    }

    [Fact]
    public async Task Cosigns_one_of_two_histories_that_come_at_once_and_never_goes_back()
    {
        await using var witness = await StartAsync("--begin");
        await CosignedAsync(witness, await _log.RequestAsync(0));
        var requests = new List<AddCheckpoint>();
        for (var i = 0; i < 24; i++)
        {
            _log.Become(301 + (i / 2), changed: i % 2 == 0 ? -1 : 300);
            requests.Add(await _log.RequestAsync(300));
        }
        var answers = await Task.WhenAll(requests.Select(request => AskAsync(witness, request)));
        Assert.Single(answers, answer => answer.Status == 200);
        Assert.All(answers, answer => Assert.True(answer.Status is 200 or 409));
    }

    [Fact]
    public async Task Says_no_as_the_specification_says_it()
    {
        await using var witness = await StartAsync("--begin");
        var request = await _log.RequestAsync(0);
        using var stranger = NoteKey.FromSeed([8, .. new byte[NoteKey.SeedBytes - 1]]);
        Assert.Equal(403, (await AskAsync(witness, request with { Checkpoint = _log.Checkpoint.Sign(stranger) })).Status);
        Assert.Equal(404, (await AskAsync(witness, request with { Checkpoint = (_log.Checkpoint with { Origin = "ledger.example/other" }).Sign(_log.Key) })).Status);
        Assert.Equal(422, (await AskAsync(witness, request with { Proof = [TreeHash.EmptyRoot] })).Status);
        Assert.Equal(400, (await SendAsync(witness, HttpMethod.Post, "/add-checkpoint", "nonsense"u8.ToArray())).Status);
        Assert.Equal(413, (await SendAsync(witness, HttpMethod.Post, "/add-checkpoint", new byte[AddCheckpoint.BytesMax + 1])).Status);
        Assert.Equal(405, (await SendAsync(witness, HttpMethod.Get, "/add-checkpoint", [])).Status);
        Assert.Equal(404, (await SendAsync(witness, HttpMethod.Post, "/other", [])).Status);
        // And none of it was remembered.
        await CosignedAsync(witness, request);
    }

    [Fact]
    public async Task Follows_a_log_to_its_new_key_when_told_both()
    {
        var old = _log.Vkey;
        await using (var witness = await StartAsync("--begin"))
            await CosignedAsync(witness, await _log.RequestAsync(0));
        _log.Key = NoteKey.FromSeed([7, .. new byte[NoteKey.SeedBytes - 1]]);
        _log.Become(310);
        var trust = _line.Write("logs.txt", $"# before\n{old}\n\n{_log.Vkey}\n");
        await using (var witness = await StartWithAsync("--trust", trust))
            Assert.Equal(_log.Checkpoint, await CosignedAsync(witness, await _log.RequestAsync(300)));
    }

    [Theory]
    [InlineData("", "holds no witness's memory")]
    [InlineData("begun --begin", "holds a witness's memory already")]
    [InlineData("begun --name other", "of another witness")]
    [InlineData("damaged", "not a checkpoint of")]
    public async Task Does_not_start_with_a_memory_that_it_cannot_trust(string how, string says)
    {
        if (how is not "")
        {
            await using var witness = await StartAsync("--begin");
            await CosignedAsync(witness, await _log.RequestAsync(0));
        }
        if (how is "damaged")
        {
            var file = Directory.GetFiles(_line.File("state"), "*.checkpoint").Single();
            await File.WriteAllTextAsync(file, (await File.ReadAllTextAsync(file, TestContext.Current.CancellationToken)).Replace("\n300\n", "\n299\n", StringComparison.Ordinal), TestContext.Current.CancellationToken);
        }
        var ran = await _line.RunAsync(["witness", "run", "--key", _keyFile, "--name", how.EndsWith("other", StringComparison.Ordinal) ? "other" : Name, "--log", _log.Vkey, "--state", _line.File("state"),
            "--listen", "127.0.0.1:0", .. how.EndsWith("--begin", StringComparison.Ordinal) ? new[] { "--begin" } : []]);
        Assert.Equal(ExitCode.Usage, ran.Exit);
        Assert.Contains(says, ran.Error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("--log nonsense", "is not a log's verifier key")]
    [InlineData("", "no log is named")]
    [InlineData("--trust nowhere.txt", "cannot be read")]
    [InlineData("--name a+b --log x", "is not a witness's name")]
    [InlineData("--listen nowhere --log x", "not an address and a port")]
    public async Task Says_what_is_wrong_with_its_command_line(string args, string says)
    {
        var ran = await _line.RunAsync(["witness", "run", "--key", _keyFile, "--state", _line.File("state"), .. args.Split(' ', StringSplitOptions.RemoveEmptyEntries)]);
        Assert.Equal(ExitCode.Usage, ran.Exit);
        Assert.Contains(says, ran.Error, StringComparison.Ordinal);
        Assert.False(Directory.Exists(_line.File("state")));
    }

    [Fact]
    public async Task Key_is_what_its_cosignatures_verify_with()
    {
        var ran = await _line.RunAsync("witness", "key", "--key", _keyFile, "--name", Name);
        Assert.Equal((ExitCode.Done, _key.CosignerFor(Name).VerifierKey + "\n"), (ran.Exit, ran.Output));
    }

    private Task<Running> StartAsync(params string[] args) => StartWithAsync([.. args, "--log", _log.Vkey]);

    private async Task<Running> StartWithAsync(params string[] args)
    {
        var said = new Said();
        var stop = new CancellationTokenSource();
        var run = _line.RunAsync(said, stop.Token, ["witness", "run", "--key", _keyFile, "--name", Name, "--state", _line.File("state"), "--listen", "127.0.0.1:0", .. args]);
        var first = await Task.WhenAny(said.Address, run).WaitAsync(StandInGateway.Patience, TestContext.Current.CancellationToken);
        Assert.True(first == said.Address, said.ToString());
        return new Running(await said.Address, stop, run);
    }

    private async Task<(int Status, string Body, string? Type)> AskAsync(Running witness, AddCheckpoint request) =>
        await SendAsync(witness, HttpMethod.Post, "/add-checkpoint", request.Encode());

    private async Task<(int Status, string Body, string? Type)> SendAsync(Running witness, HttpMethod method, string path, byte[] body)
    {
        using var request = new HttpRequestMessage(method, witness.Address + path);
        if (method == HttpMethod.Post)
            request.Content = new ByteArrayContent(body);
        using var answer = await _http.SendAsync(request, TestContext.Current.CancellationToken);
        return ((int)answer.StatusCode, await answer.Content.ReadAsStringAsync(TestContext.Current.CancellationToken), answer.Content.Headers.ContentType?.MediaType);
    }

    private async Task<Checkpoint> CosignedAsync(Running witness, AddCheckpoint request)
    {
        var (status, body, _) = await AskAsync(witness, request);
        Assert.Equal(200, status);
        Assert.True(SignedNote.TryParseSignatures(Encoding.UTF8.GetBytes(body), out var lines));
        Assert.True(_key.CosignerFor(Name).HasCosigned(request.Checkpoint.With(lines), out _));
        Assert.True(Checkpoint.TryParse(request.Checkpoint.Text, out var checkpoint));
        return checkpoint;
    }

    private sealed record Running(string Address, CancellationTokenSource Stop, Task<Ran> Run) : IAsyncDisposable
    {
        public async ValueTask DisposeAsync()
        {
            await Stop.CancelAsync();
            Assert.Equal(ExitCode.Done, (await Run).Exit);
            Stop.Dispose();
        }
    }

    /// <summary>Standard error that tells the address as soon as it is said.</summary>
    private sealed class Said : StringWriter
    {
        private readonly TaskCompletionSource<string> _address = new(TaskCreationOptions.RunContinuationsAsynchronously);

        public Task<string> Address => _address.Task;

        public override void WriteLine(string? value)
        {
            lock (_address)
                base.WriteLine(value);
            if (value?.IndexOf("http://", StringComparison.Ordinal) is >= 0 and var at)
                _address.TrySetResult(value[at..].Trim());
        }
    }
}

/// <summary><c>foundry witness follow</c> against a log that its operator can change.</summary>
public sealed class WitnessFollow : IAsyncLifetime
{
    private readonly CommandLine _line = new();
    private readonly List<string> _begin = ["--begin"];
    private StandInLog _log = null!;
    private string _keyFile = "";

    public async ValueTask InitializeAsync()
    {
        _keyFile = _line.Write("witness.key", Convert.ToBase64String(new byte[NoteKey.SeedBytes]).TrimEnd('=') + "\n");
        _log = await StandInLog.StartAsync();
    }

    public async ValueTask DisposeAsync()
    {
        await _log.DisposeAsync();
        _line.Dispose();
    }

    private async Task<Ran> OnceAsync(params string[] args)
    {
        var ran = await _line.RunAsync(["witness", "follow", "--key", _keyFile, "--log", _log.Vkey, "--state", _line.File("state"), "--once", "--gateway", _log.Address, .. _begin, .. args]);
        _begin.Clear();
        return ran;
    }

    [Fact]
    public async Task Checks_each_growth_with_the_log_s_own_tiles_and_remembers_it()
    {
        foreach (var size in new[] { 0, 1, 255, 256, 257, 1000, 66_000, 66_001 })
        {
            _log.Become(size);
            var ran = await OnceAsync();
            Assert.Equal((ExitCode.Done, $"{StandInLog.Origin} {size} {Convert.ToBase64String(_log.Checkpoint.Root.Bytes)}\n", ""), (ran.Exit, ran.Output, ran.Error));
        }
        _log.Asked.Clear();
        Assert.Equal((ExitCode.Done, ""), ((await OnceAsync()).Exit, (await OnceAsync()).Output));
        Assert.All(_log.Asked, path => Assert.Equal($"/ledger/{StandInLog.Module}/checkpoint", path));
        using var key = NoteKey.FromSeed(new byte[NoteKey.SeedBytes]);
        var note = await File.ReadAllBytesAsync(Directory.GetFiles(_line.File("state"), "*.checkpoint").Single(), TestContext.Current.CancellationToken);
        Assert.True(SignedNote.TryParse(note, out var kept) && key.CosignerFor("witness.local").HasCosigned(kept, out _));
        Assert.True(Checkpoint.TryOpen(note, _log.Key.VerifierFor(StandInLog.Origin), out var checkpoint));
        Assert.Equal(66_001, checkpoint.Size);
    }

    [Theory]
    [InlineData(1000, 17, "its 1000 entries do not continue the 1000")]
    [InlineData(1200, 17, "its 1200 entries do not continue the 1000")]
    [InlineData(1200, 999, "its 1200 entries do not continue the 1000")]
    [InlineData(999, -1, "it had 1000 entries and shows 999")]
    [InlineData(0, -1, "it had 1000 entries and shows 0")]
    public async Task Ends_with_1_and_both_checkpoints_when_the_history_was_changed(int size, int changed, string says)
    {
        _log.Become(1000);
        await OnceAsync();
        var before = _log.Checkpoint;
        _log.Become(size, changed);
        var ran = await OnceAsync();
        Assert.Equal((ExitCode.Failed, ""), (ran.Exit, ran.Output));
        Assert.Contains($"THE HISTORY OF {StandInLog.Module} WAS CHANGED: {says}", ran.Error, StringComparison.Ordinal);
        var evidence = await File.ReadAllTextAsync(Directory.GetFiles(_line.File("state/evidence")).Single(), TestContext.Current.CancellationToken);
        Assert.StartsWith(before.Text, evidence, StringComparison.Ordinal);
        Assert.Contains(_log.Checkpoint.Text, evidence, StringComparison.Ordinal);

        // And it does not forget: a log that goes back to what it was is followed again, one that does not is not.
        Assert.Equal(ExitCode.Failed, (await OnceAsync()).Exit);
        _log.Become(1300);
        Assert.Equal(ExitCode.Done, (await OnceAsync()).Exit);
    }

    [Fact]
    public async Task Makes_no_charge_of_what_was_only_fetched_badly()
    {
        _log.Become(1000);
        await OnceAsync();
        _log.Become(1200);
        var bad = 0;
        _log.Misbehaves = path => Tile.TryParse(path[$"/ledger/{StandInLog.Module}/".Length..], out var tile) && Interlocked.Increment(ref bad) == 1 ? (200, new byte[tile.Width * TreeHash.Length]) : null;
        Assert.Equal(ExitCode.Done, (await OnceAsync()).Exit);
        Assert.True(bad > 1);

        _log.Become(1300);
        _log.Misbehaves = path => path.Contains("/tile/", StringComparison.Ordinal) ? (404, []) : null;
        var ran = await OnceAsync();
        Assert.Equal(ExitCode.Failed, ran.Exit);
        Assert.Contains("cannot be checked", ran.Error, StringComparison.Ordinal);
        _log.Misbehaves = _ => (200, new byte[SignedNote.BytesMax + 1]);
        Assert.Contains("longer than", (await OnceAsync()).Error, StringComparison.Ordinal);
        Assert.False(Directory.Exists(_line.File("state/evidence")));
    }

    [Fact]
    public async Task Believes_no_other_key()
    {
        _log.Become(10);
        var vkey = _log.Vkey;
        _log.Key = NoteKey.FromSeed([5, .. new byte[NoteKey.SeedBytes - 1]]);
        var ran = await _line.RunAsync(["witness", "follow", "--key", _keyFile, "--log", vkey, "--state", _line.File("state"), "--begin", "--once", "--gateway", _log.Address]);
        Assert.Equal(ExitCode.Failed, ran.Exit);
        Assert.Contains("KEY_ANNOUNCED", ran.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Looks_again_at_each_interval_until_the_history_was_changed()
    {
        var time = new WatchedTime();
        _line.Time = time;
        _log.Become(5);
        var run = OnceLessAsync();
        for (var size = 6; size < 9; size++)
        {
            Assert.Equal(WitnessFollower.IntervalDefault, await time.PauseAsync());
            _log.Become(size);
            time.Advance(WitnessFollower.IntervalDefault);
        }
        await time.PauseAsync();
        _log.Become(9, changed: 0);
        time.Advance(WitnessFollower.IntervalDefault);
        var ran = await run.WaitAsync(StandInGateway.Patience, TestContext.Current.CancellationToken);
        Assert.Equal((ExitCode.Failed, 4), (ran.Exit, ran.Output.Count(c => c == '\n')));

        Task<Ran> OnceLessAsync() => _line.RunAsync(["witness", "follow", "--key", _keyFile, "--log", _log.Vkey, "--state", _line.File("state"), "--begin", "--gateway", _log.Address]);
    }
}
