using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using Foundry.Contracts;
using Foundry.Tokens;

namespace Foundry.Cli.Tests;

/// <summary><c>foundry node run</c> against a gateway that says what a test wants, on a machine and a clock of the test's.</summary>
public sealed class NodeRun : IAsyncLifetime
{
    private const string Nothing = """{"assigned_vms":[],"next_heartbeat_s":5}""";
    private const string Vm1 = """{"vm_id":"vm-1","vm_type":"VmTotebox","state":"Provisioning","ram_alloc_mb":4096,"vcpu_count":2,"started_at":null,"tenant_id":"acme-corp","host_ports":[{"host_port":10022,"guest_port":22,"protocol":"tcp","x":1.50}],"labels":{"é":"+<>"},"big":12345678901234567890}""";
    private const string Vm2 = """{"vm_id":"vm-2","vm_type":"VmTotebox","state":"Running","ram_alloc_mb":1024,"vcpu_count":1,"started_at":"2026-01-02T03:04:05.000000006Z","tenant_id":"acme-corp","host_ports":[]}""";

    private readonly CommandLine _line = new();
    private readonly WatchedTime _time = new();
    private readonly CancellationTokenSource _stop = CancellationTokenSource.CreateLinkedTokenSource(TestContext.Current.CancellationToken);
    private readonly StringWriter _error = new();
    private StandInGateway _gateway = null!;

    public async ValueTask InitializeAsync()
    {
        _gateway = await StandInGateway.StartAsync();
        _line.Time = _time;
        _line.Write("proc/meminfo", "MemTotal:       65536000 kB\nMemFree:         1000000 kB\nMemAvailable:   55536000 kB\nBuffers:  1 kB\n");
        _line.Write("proc/loadavg", "0.50 0.40 0.30 1/234 5678\n");
        _line.Write("proc/cpuinfo", "processor\t: 0\nmodel name\t: processor of some kind\n\nprocessor\t: 1\n\nprocessor\t: 2\n\nprocessor\t: 3\n");
        _line.Write("proc/sys/kernel/random/boot_id", "9b1c6f6e-7f0e-4a3c-9f58-0a5a6f6c2d11\n");
        _line.Write("kvm", "");
    }

    public async ValueTask DisposeAsync()
    {
        await _gateway.DisposeAsync();
        _line.Dispose();
        _stop.Dispose();
        await _error.DisposeAsync();
    }

    [Fact]
    public async Task Reports_the_machine_as_the_kernel_describes_it()
    {
        _gateway.Answers.Enqueue(Said.Json(Nothing));
        var ran = await OnceAsync("--wg-ip", "10.8.0.9");
        Assert.Equal(ExitCode.Done, ran.Exit);
        Assert.Equal(("POST", "/v1/nodes/heartbeat", $"Bearer {CommandLine.Canary}"), (_gateway.Only.Method, _gateway.Only.Target, _gateway.Only.Authorization));
        Assert.Equal(
            $$"""{"node_id":"n1","wg_ip":"10.8.0.9","hostname":"{{Environment.MachineName}}","ram_total_mb":64000,"ram_used_mb":9766,"cpu_cores":4,"cpu_load_pct":12.5,"kvm_available":true,"reserved":false,"vms":[],"boot_id":"9b1c6f6e-7f0e-4a3c-9f58-0a5a6f6c2d11","timestamp_utc":"2026-06-12T09:41:07.123456700Z"}""",
            _gateway.Only.Body);
        // And as everyone else reads it.
        Assert.NotNull(JsonSerializer.Deserialize(_gateway.Only.Body, WireJson.Default.Heartbeat));
    }

    [Fact]
    public async Task Reports_what_it_is_told_to_in_place_of_the_kernels()
    {
        File.Delete(_line.KvmDevice);
        var ran = await OnceAsync("--ram-total-mb", "4096", "--reserved");
        Assert.Equal(ExitCode.Done, ran.Exit);
        var beat = JsonElement.Parse(_gateway.Only.Body);
        // Used is never more than is offered.
        Assert.Equal((4096, 4096, true, false), (beat.GetProperty("ram_total_mb").GetInt32(), beat.GetProperty("ram_used_mb").GetInt32(),
            beat.GetProperty("reserved").GetBoolean(), beat.GetProperty("kvm_available").GetBoolean()));
        Assert.True(System.Net.IPAddress.TryParse(beat.GetProperty("wg_ip").GetString(), out _));
    }

    [Fact]
    public async Task Is_never_more_than_fully_loaded()
    {
        _line.Write("proc/loadavg", "812.50 400.40 300.30 900/2340 5678\n");
        await OnceAsync();
        Assert.Equal("100", JsonElement.Parse(_gateway.Only.Body).GetProperty("cpu_load_pct").GetRawText());
    }

    [Fact]
    public async Task Does_not_guess_at_ram()
    {
        Directory.Delete(_line.ProcRoot, recursive: true);
        var ran = await OnceAsync();
        Assert.Equal(ExitCode.Failed, ran.Exit);
        Assert.Contains("--ram-total-mb", ran.Error, StringComparison.Ordinal);
        Assert.Empty(_gateway.Requests);
        Assert.Equal(ExitCode.Done, (await OnceAsync("--ram-total-mb", "1024")).Exit);
        var beat = JsonElement.Parse(_gateway.Only.Body);
        Assert.Equal(Environment.ProcessorCount, beat.GetProperty("cpu_cores").GetInt32());
        Assert.True(Guid.TryParse(beat.GetProperty("boot_id").GetString(), out _));
    }

    [Fact]
    public async Task Goes_on_with_the_last_reading_when_the_kernel_stops_telling()
    {
        _gateway.Answers.Enqueue(Said.Json(Nothing));
        var run = StartAsync();
        await _gateway.NextAsync();
        await _time.PauseAsync();
        Directory.Delete(_line.ProcRoot, recursive: true);
        _time.Advance(TimeSpan.FromSeconds(5));
        Assert.Equal(64000, JsonElement.Parse((await _gateway.NextAsync()).Body).GetProperty("ram_total_mb").GetInt32());
        await StopAsync(run);
    }

    [Fact]
    public async Task Once_as_json_is_the_servers_answer()
    {
        _gateway.Answers.Enqueue(Said.Json($$"""{ "assigned_vms": [{{Vm1}}] }"""));
        var ran = await OnceAsync("-o", "json");
        Assert.Equal($$"""{ "assigned_vms": [{{Vm1}}] }""", ran.Output);
    }

    [Theory]
    [InlineData(503, "not_ready")]
    [InlineData(429, "rate_limited")]
    [InlineData(409, "node_conflict")]
    public async Task Once_does_not_try_again(int status, string code)
    {
        _gateway.Answers.Enqueue(Said.Problem(status, code));
        Assert.Equal(ExitCode.Failed, (await OnceAsync()).Exit);
        Assert.Single(_gateway.Requests);
    }

    [Fact]
    public async Task Takes_up_what_is_assigned_and_keeps_its_other_members()
    {
        _gateway.Answers.Enqueue(Said.Json($$"""{"assigned_vms":[{{Vm1}}],"next_heartbeat_s":5}"""));
        var run = StartAsync();
        Assert.Equal("[]", VmsOf(await _gateway.NextAsync()));
        await _time.PassPauseAsync();
        const string running = """[{"vm_id":"vm-1","vm_type":"VmTotebox","ram_alloc_mb":4096,"vcpu_count":2,"tenant_id":"acme-corp","host_ports":[{"host_port":10022,"guest_port":22,"protocol":"tcp","x":1.50}],"labels":{"é":"+<>"},"big":12345678901234567890,"state":"Running","started_at":"2026-06-12T09:41:07.123456700Z"}]""";
        Assert.Equal(running, VmsOf(await _gateway.NextAsync()));
        // It started once: the clock goes on, its start does not.
        await _time.PassPauseAsync();
        Assert.Equal(running, VmsOf(await _gateway.NextAsync()));
        await StopAsync(run);
        Assert.Contains("foundry: taken up: vm-1\n", _error.ToString(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Keeps_the_start_that_the_fleet_knows_byte_for_byte()
    {
        _gateway.Answers.Enqueue(Said.Json($$"""{"assigned_vms":[{{Vm2}}],"next_heartbeat_s":5}"""));
        var run = StartAsync();
        await _gateway.NextAsync();
        await _time.PassPauseAsync();
        Assert.Contains("\"started_at\":\"2026-01-02T03:04:05.000000006Z\"", VmsOf(await _gateway.NextAsync()), StringComparison.Ordinal);
        await StopAsync(run);
    }

    [Fact]
    public async Task Drops_what_is_no_longer_assigned()
    {
        _gateway.Answers.Enqueue(Said.Json($$"""{"assigned_vms":[{{Vm1}},{{Vm2}}]}"""));
        _gateway.Answers.Enqueue(Said.Json($$"""{"assigned_vms":[{{Vm2}}]}"""));
        _gateway.Answers.Enqueue(Said.Json("""{"assigned_vms":[]}"""));
        var run = StartAsync();
        var held = new List<string>();
        for (var beat = 0; beat < 4; beat++)
        {
            held.Add(IdsOf(await _gateway.NextAsync()));
            await _time.PassPauseAsync();
        }
        Assert.Equal(["", "vm-1 vm-2", "vm-2", ""], held);
        await StopAsync(run);
        Assert.Contains("foundry: dropped: vm-1\n", _error.ToString(), StringComparison.Ordinal);
    }

    /// <summary>Whatever is not the fleet's own plain list of this node's VMs takes none away.</summary>
    public static TheoryData<string, int, string?, string> NoList => new()
    {
        { "absent", 200, "application/json", """{"next_heartbeat_s":5}""" },
        { "null", 200, "application/json", """{"assigned_vms":null}""" },
        { "an object", 200, "application/json", """{"assigned_vms":{}}""" },
        { "twice there", 200, "application/json", """{"assigned_vms":[],"assigned_vms":[]}""" },
        { "a VM without an ID", 200, "application/json", """{"assigned_vms":[{"vm_type":"T"}]}""" },
        { "one ID twice", 200, "application/json", """{"assigned_vms":[{"vm_id":"a"},{"vm_id":"a"}]}""" },
        { "no object", 200, "application/json", "[]" },
        { "no JSON", 200, "application/json", "{" },
        { "a page", 200, "text/html", "<html>" },
        { "204", 204, null, "" },
        { "a redirect", 302, null, "" },
        { "400", 400, "application/problem+json", """{"title":"t","code":"invalid_body","status":400}""" },
        { "401", 401, "application/problem+json", """{"title":"t","code":"invalid_token","status":401,"reason":"unknown_key"}""" },
        { "401 of another", 401, "application/problem+json", """{"title":"t","code":"invalid_token","status":401,"reason":"bad_signature"}""" },
        { "403", 403, "application/problem+json", """{"title":"t","code":"insufficient_scope","status":403}""" },
        { "404", 404, "application/problem+json", """{"title":"t","code":"not_found","status":404}""" },
        { "408", 408, null, "" },
        { "409", 409, "application/problem+json", """{"title":"t","code":"node_conflict","status":409}""" },
        { "413", 413, "application/problem+json", """{"title":"t","code":"body_too_large","status":413}""" },
        { "429", 429, "application/problem+json", """{"title":"t","code":"rate_limited","status":429}""" },
        { "500", 500, null, "" },
        { "502", 502, "application/problem+json", """{"title":"t","code":"backend_unavailable","status":502}""" },
        { "503", 503, "application/problem+json", """{"title":"t","code":"not_ready","status":503}""" },
        { "504", 504, "application/problem+json", """{"title":"t","code":"backend_timeout","status":504}""" },
    };

    [Theory]
    [MemberData(nameof(NoList))]
    public async Task Keeps_its_vms_and_goes_on_when_the_list_is(string what, int status, string? contentType, string body)
    {
        Assert.NotEmpty(what);
        _gateway.Answers.Enqueue(Said.Json($$"""{"assigned_vms":[{{Vm1}},{{Vm2}}],"next_heartbeat_s":5}"""));
        _gateway.Answers.Enqueue(new Said(status, contentType, System.Text.Encoding.UTF8.GetBytes(body)) { Headers = status == 302 ? [("Location", "/elsewhere")] : [] });
        var run = StartAsync();
        for (var beat = 0; beat < 4; beat++)
        {
            Assert.Equal(beat == 0 ? "" : "vm-1 vm-2", IdsOf(await _gateway.NextAsync()));
            Assert.InRange(await _time.PassPauseAsync(), TimeSpan.FromSeconds(0.5), NodeAgent.IntervalMax);
        }
        Assert.All(_gateway.Requests, asked => Assert.Equal("/v1/nodes/heartbeat", asked.Target));
        await StopAsync(run);
    }

    [Fact]
    public async Task Keeps_its_vms_while_nobody_answers()
    {
        _gateway.Answers.Enqueue(Said.Json($$"""{"assigned_vms":[{{Vm1}}],"next_heartbeat_s":5}"""));
        _gateway.Answers.Enqueue(Said.Json("{}") with { BreaksOff = true });
        _gateway.Answers.Enqueue(Said.Json(Nothing));
        var run = StartAsync();
        await _gateway.NextAsync();
        await _time.PassPauseAsync();
        await _gateway.NextAsync();
        await _time.PassPauseAsync();
        Assert.Equal("vm-1", IdsOf(await _gateway.NextAsync()));
        await _time.PauseAsync();
        await StopAsync(run);
        Assert.Contains("keeping 1 VMs and trying again", _error.ToString(), StringComparison.Ordinal);
        Assert.Contains("accepted again after 1 failed heartbeats", _error.ToString(), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("4.25", 4.25)]
    [InlineData("0", 0.5)]
    [InlineData("-3", 0.5)]
    [InlineData("0.001", 0.5)]
    [InlineData("1e9", 60)]
    [InlineData("1e999", 20)]
    [InlineData("\"7\"", 20)]
    [InlineData("null", 20)]
    public async Task Comes_back_when_the_fleet_says_within_bounds(string said, double seconds)
    {
        _gateway.Answers.Enqueue(Said.Json($$"""{"assigned_vms":[],"next_heartbeat_s":{{said}}}"""));
        var run = StartAsync("--interval", "20");
        await _gateway.NextAsync();
        Assert.Equal(TimeSpan.FromSeconds(seconds), await _time.PauseAsync());
        await StopAsync(run);
    }

    [Fact]
    public async Task Backs_off_to_a_cap_and_never_in_step()
    {
        _gateway.Answers.Enqueue(Said.Problem(503, "not_ready"));
        var run = StartAsync();
        var pauses = new List<TimeSpan>();
        for (var attempt = 0; attempt < 20; attempt++)
        {
            await _gateway.NextAsync();
            pauses.Add(await _time.PassPauseAsync());
        }
        for (var attempt = 0; attempt < pauses.Count; attempt++)
        {
            var whole = Math.Min(10, Math.Pow(2, attempt));
            Assert.InRange(pauses[attempt].TotalSeconds, whole / 2, whole);
        }
        Assert.NotEqual(1, pauses.Skip(5).Distinct().Count());
        await StopAsync(run);
        // Told once, not twenty times.
        Assert.Equal(2, _error.ToString().Split("not_ready").Length);
    }

    [Theory]
    [InlineData(429, "rate_limited", "25", 25)]
    [InlineData(429, "rate_limited", "86400", 60)]
    [InlineData(503, "feed_stale", "15", 15)]
    [InlineData(429, "rate_limited", "Fri, 12 Jun 2026 09:41:40 GMT", 32)]
    public async Task Waits_as_long_as_it_is_asked_to_within_bounds(int status, string code, string retryAfter, double seconds)
    {
        _gateway.Answers.Enqueue(Said.Problem(status, code) with { Headers = [("Retry-After", retryAfter)] });
        var run = StartAsync();
        await _gateway.NextAsync();
        Assert.Equal(seconds, Math.Floor((await _time.PauseAsync()).TotalSeconds));
        await StopAsync(run);
    }

    [Theory]
    [InlineData("revoked")]
    [InlineData("expired")]
    [InlineData("malformed")]
    [InlineData("unsupported_algorithm")]
    public async Task Ends_with_1_when_its_token_is_at_its_end(string reason)
    {
        _gateway.Answers.Enqueue(Said.Json($$"""{"assigned_vms":[{{Vm1}}],"next_heartbeat_s":5}"""));
        _gateway.Answers.Enqueue(Said.Problem(401, "invalid_token", reason));
        var run = StartAsync();
        await _gateway.NextAsync();
        await _time.PassPauseAsync();
        Assert.Equal(ExitCode.Failed, (await run).Exit);
        Assert.Equal(2, _gateway.Requests.Count);
        Assert.Contains($"  reason      {reason}\n", _error.ToString(), StringComparison.Ordinal);
        Assert.Contains("  next        ", _error.ToString(), StringComparison.Ordinal);
        Assert.Contains("1 VMs are no longer reported", _error.ToString(), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(401, "invalid_token", "wrong_issuer")]
    [InlineData(403, "insufficient_scope", null)]
    [InlineData(403, "tenant_mismatch", null)]
    [InlineData(409, "node_conflict", null)]
    public async Task Ends_with_1_when_it_is_refused_at_the_door(int status, string code, string? reason)
    {
        _gateway.Answers.Enqueue(Said.Problem(status, code, reason));
        Assert.Equal(ExitCode.Failed, (await StartAsync()).Exit);
        Assert.Contains("the node was not accepted", _error.ToString(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Takes_a_renewed_token_from_its_file_without_a_restart()
    {
        var file = _line.Write("node.token", "eyJh.eyJi.b2xk");
        _gateway.Answers.Enqueue(Said.Json(Nothing));
        var run = StartAsync("--token-file", file);
        Assert.Equal("Bearer eyJh.eyJi.b2xk", (await _gateway.NextAsync()).Authorization);
        await _time.PauseAsync();
        _line.Write("node.token", "eyJh.eyJi.bmV3");
        _time.Advance(TimeSpan.FromSeconds(5));
        Assert.Equal("Bearer eyJh.eyJi.bmV3", (await _gateway.NextAsync()).Authorization);
        await _time.PauseAsync();
        // Half-written or gone: the last good one goes on.
        File.Delete(file);
        _time.Advance(TimeSpan.FromSeconds(5));
        Assert.Equal("Bearer eyJh.eyJi.bmV3", (await _gateway.NextAsync()).Authorization);
        await StopAsync(run);
    }

    [Fact]
    public async Task Stops_cleanly_when_told_to()
    {
        _gateway.Answers.Enqueue(Said.Json(Nothing));
        var run = StartAsync();
        await _gateway.NextAsync();
        await _time.PauseAsync();
        await StopAsync(run);
        Assert.EndsWith("foundry: stopped\n", _error.ToString(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Refuses_a_key_that_the_token_was_not_issued_to()
    {
        using var key = SigningKey.Generate();
        using var other = SigningKey.Generate();
        var claims = Base64UrlText.Encode(System.Text.Encoding.UTF8.GetBytes($$"""{"subject_pubkey":"{{key.Public.X}}"}"""));
        _line.Variables["PLATFORM_TOKEN"] = $"eyJh.{claims}.c2ln";
        var mixedUp = await OnceAsync("--key-file", _line.Write("other.key", other.ExportSeed()));
        Assert.Equal(ExitCode.Usage, mixedUp.Exit);
        Assert.Empty(_gateway.Requests);
        var right = await OnceAsync("--key-file", _line.Write("node.key", key.ExportSeed()));
        Assert.Equal(ExitCode.Done, right.Exit);
    }

    /// <summary>The real process, the real signal.</summary>
    [Fact]
    public async Task Sigterm_ends_the_process_with_0()
    {
        Assert.SkipWhen(OperatingSystem.IsWindows(), "Windows has no SIGTERM.");
        _gateway.Answers.Enqueue(Said.Json("""{"assigned_vms":[],"next_heartbeat_s":60}"""));
        var start = new ProcessStartInfo("dotnet", [typeof(FoundryCommand).Assembly.Location, "node", "run", "--node-id", "n1", "--gateway", _gateway.Address, "--ram-total-mb", "1024"])
        {
            RedirectStandardError = true,
            RedirectStandardOutput = true,
            Environment = { ["PLATFORM_TOKEN"] = CommandLine.Canary },
        };
        using var process = Process.Start(start)!;
        await _gateway.NextAsync();
        // The line on standard error comes after the answer was taken in.
        Assert.Equal("foundry: node n1 is known to the fleet", await process.StandardError.ReadLineAsync(TestContext.Current.CancellationToken));
        using var kill = Process.Start("kill", ["-TERM", process.Id.ToString(CultureInfo.InvariantCulture)]);
        await process.WaitForExitAsync(TestContext.Current.CancellationToken);
        Assert.Equal(ExitCode.Done, process.ExitCode);
        Assert.Equal("foundry: stopped", (await process.StandardError.ReadToEndAsync(TestContext.Current.CancellationToken)).Trim());
    }

    private Task<Ran> OnceAsync(params string[] args) => _line.RunAsync(_gateway, ["node", "run", "--node-id", "n1", "--once", .. args]);

    private Task<Ran> StartAsync(params string[] args) =>
        _line.RunAsync(TextWriter.Synchronized(_error), _stop.Token, ["node", "run", "--node-id", "n1", "--gateway", _gateway.Address, .. args])
            .WaitAsync(StandInGateway.Patience, TestContext.Current.CancellationToken);

    private async Task StopAsync(Task<Ran> run)
    {
        await _stop.CancelAsync();
        Assert.Equal(ExitCode.Done, (await run).Exit);
    }

    private static string VmsOf(Asked heartbeat) => JsonElement.Parse(heartbeat.Body).GetProperty("vms").GetRawText();

    private static string IdsOf(Asked heartbeat) =>
        string.Join(' ', JsonElement.Parse(heartbeat.Body).GetProperty("vms").EnumerateArray().Select(vm => vm.GetProperty("vm_id").GetString()));
}
