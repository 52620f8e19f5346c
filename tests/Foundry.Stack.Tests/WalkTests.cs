using System.Text.RegularExpressions;
using Foundry.Testing;

namespace Foundry.Stack.Tests;

public sealed partial class WalkTests(Walk walk)
{
    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    [Fact]
    public void Eleventh_vm_is_refused_and_the_answer_says_which_quota()
    {
        Assert.Equal(429, walk.EleventhVm.Status);
        Assert.Equal("application/problem+json", walk.EleventhVm.Headers["Content-Type"]);
        Assert.Equal("quota_exceeded", walk.EleventhVm.Code);
        Assert.Equal("max_vms", walk.EleventhVm.Text("quota"));
        Assert.Equal(Walk.AcmeVmsMax, walk.EleventhVm.Json.GetProperty("limit").GetInt64());
        Assert.Equal(Walk.AcmeVmsMax, walk.EleventhVm.Json.GetProperty("used").GetInt64());
        Assert.Equal(1, walk.EleventhVm.Json.GetProperty("requested").GetInt64());
    }

    [Fact]
    public async Task Each_list_shows_only_its_own()
    {
        Assert.Equal(walk.AcmeVms, await walk.ListVmsAsync(walk.Acme.Read, Cancellation));
        Assert.Equal(walk.GlobexVms, await walk.ListVmsAsync(walk.Globex.Read, Cancellation));
        Assert.Equal(["compute-west-01"], (await walk.Client.GetAsync(walk.Acme.Read, "/v1/nodes", Cancellation)).Json.EnumerateArray().Select(node => node.GetProperty("node_id").GetString()));
        Assert.Equal(["compute-east-01"], (await walk.Client.GetAsync(walk.Globex.Read, "/v1/fleet", Cancellation)).Json.GetProperty("nodes").EnumerateArray().Select(node => node.GetProperty("node_id").GetString()));
    }

    [Theory]
    [InlineData("GET")]
    [InlineData("DELETE")]
    public async Task A_foreign_vm_is_answered_byte_for_byte_as_one_that_never_existed(string method)
    {
        var foreign = await walk.Client.SendAsync(walk.Globex.Input, new HttpMethod(method), $"/v1/vms/{walk.AcmeVms[0]}", null, Cancellation);
        var absent = await walk.Client.SendAsync(walk.Globex.Input, new HttpMethod(method), $"/v1/vms/vm-{new string('0', 32)}", null, Cancellation);
        Assert.Equal(404, foreign.Status);
        Assert.Equal("not_found", foreign.Code);
        Assert.Equal(404, absent.Status);
        Assert.Equal(WithoutRequestId(absent.Body), WithoutRequestId(foreign.Body));
        string[] own = ["Date", "RateLimit", "X-Foundry-Request-ID"];
        Assert.Equal(absent.Headers.Where(header => !own.Contains(header.Key)).OrderBy(header => header.Key, StringComparer.Ordinal), foreign.Headers.Where(header => !own.Contains(header.Key)).OrderBy(header => header.Key, StringComparer.Ordinal));
        Assert.Contains(walk.AcmeVms[0], await walk.ListVmsAsync(walk.Acme.Read, Cancellation));
    }

    [Fact]
    public async Task A_tenant_is_taken_down_by_force_with_its_vms_and_its_tokens()
    {
        var team = await walk.NewTeamAsync("doomed-corp", 3, Cancellation);
        await walk.BeatAsync(team.Node, "compute-north-01", Cancellation);
        var vms = await walk.CreateVmsAsync(team.Input, 3, Cancellation);
        Assert.Equal("tenant_not_empty", (await walk.Client.SendAsync(walk.Admin, HttpMethod.Delete, "/v1/tenants/doomed-corp", null, Cancellation)).Code);
        var begun = await walk.Client.SendAsync(walk.Admin, HttpMethod.Delete, "/v1/tenants/doomed-corp?force=true", null, Cancellation);
        Assert.Equal((202, "deleting"), (begun.Status, begun.Text("status")));

        using var poll = new PeriodicTimer(TimeSpan.FromMilliseconds(100));
        for (var polls = 0; (await walk.Client.GetAsync(walk.Admin, "/v1/tenants/doomed-corp", Cancellation)).Status != 404; polls++)
        {
            Assert.True(polls < 600, "The tenant is still there.");
            await poll.WaitForNextTickAsync(Cancellation);
        }

        for (var polls = 0; (await walk.Client.GetAsync(team.Read, "/v1/vms", Cancellation)) is { Status: not 401 }; polls++)
        {
            Assert.True(polls < 600, "The gateway still lets its tokens in.");
            await poll.WaitForNextTickAsync(Cancellation);
        }
        Assert.Equal([], vms.Intersect((await walk.Client.GetAsync(walk.Admin, "/v1/vms", Cancellation)).Json.EnumerateArray().Select(vm => vm.GetProperty("vm_id").GetString()!)));
        IReadOnlyList<string?> destroyed = [];
        for (var polls = 0; destroyed.Count < vms.Count; polls++)
        {
            Assert.True(polls < 600, $"{destroyed.Count} are recorded.");
            destroyed = [.. (await walk.Client.GetAsync(walk.Admin, "/v1/entries?module_id=doomed-corp&event_type=VM_DESTROYED", Cancellation)).Json.GetProperty("entries").EnumerateArray()
                .Select(entry => entry.GetProperty("payload").GetProperty("vm_id").GetString())];
            await poll.WaitForNextTickAsync(Cancellation);
        }
        Assert.Equal(vms.Order(StringComparer.Ordinal), destroyed.Order(StringComparer.Ordinal));
    }

    [Fact]
    public async Task A_reader_may_not_create()
    {
        var refused = await walk.CreateVmAsync(walk.Acme.Read, Cancellation);
        Assert.Equal(403, refused.Status);
        Assert.Equal("insufficient_scope", refused.Code);
        Assert.Contains("input", refused.Text("required_scope"), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("X-Foundry-Tenant")]
    [InlineData("X_Foundry_Tenant")]
    [InlineData("x-foundry.tenant")]
    [InlineData("X-Foundry-Module-ID")]
    [InlineData("X-Foundry-Scope")]
    public async Task A_spoofed_header_changes_nothing(string name)
    {
        var list = await walk.Client.SendAsync(walk.Globex.Read, HttpMethod.Get, "/v1/vms", null, Cancellation, (name, "acme-corp"));
        Assert.Equal(walk.GlobexVms, list.Json.EnumerateArray().Select(vm => vm.GetProperty("vm_id").GetString()!).Order(StringComparer.Ordinal));
    }

    [Theory]
    [InlineData("acme-corp")]
    [InlineData("nobody-at-all")]
    public async Task Another_tenant_in_the_query_is_a_mismatch_whether_or_not_it_exists(string tenant)
    {
        var refused = await walk.Client.GetAsync(walk.Globex.Read, $"/v1/vms?tenant_id={tenant}", Cancellation);
        Assert.Equal(403, refused.Status);
        Assert.Equal("tenant_mismatch", refused.Code);
    }

    [Fact]
    public async Task A_burst_passes_the_bucket_and_the_rest_is_told_when_to_come_back()
    {
        const int atOnce = 200, bucket = 60, perSecond = 10;
        var team = await walk.NewTeamAsync("burst", 0, Cancellation);
        // The tokens above have cost some; wait until the bucket says that it is full.
        using var poll = new PeriodicTimer(TimeSpan.FromMilliseconds(200));
        while (!(await walk.Client.GetAsync(team.Read, "/v1/status", Cancellation)).Headers["RateLimit"].Contains($"r={bucket - 1};", StringComparison.Ordinal))
            await poll.WaitForNextTickAsync(Cancellation);
        var began = TimeProvider.System.GetTimestamp();
        var answers = await Task.WhenAll(Enumerable.Range(0, atOnce).Select(_ => walk.Client.GetAsync(team.Read, "/v1/status", Cancellation)));
        var refill = (int)Math.Ceiling(TimeProvider.System.GetElapsedTime(began).TotalSeconds * perSecond) + 1;

        var passed = answers.Count(answer => answer.Status == 200);
        Assert.InRange(passed, bucket - 1, bucket + refill);
        Assert.All(answers.Where(answer => answer.Status != 200), refused =>
        {
            Assert.Equal(429, refused.Status);
            Assert.Equal("rate_limited", refused.Code);
            Assert.True(int.Parse(refused.Headers["Retry-After"], System.Globalization.CultureInfo.InvariantCulture) >= 1);
        });
    }

    [Fact]
    public async Task A_revoked_token_is_refused_within_a_second()
    {
        var token = await walk.IssueAsync(walk.Globex.Admin, "/v1/tokens", "read", Cancellation);
        Assert.Equal(200, (await walk.Client.GetAsync(token, "/v1/nodes", Cancellation)).Status);
        var id = (await walk.Client.PostAsync(null, "/v1/tokens/verify", $$"""{"token":"{{token}}"}""", Cancellation)).Text("token_id");
        Assert.Equal(204, (await walk.Client.SendAsync(walk.Globex.Admin, HttpMethod.Delete, $"/v1/tokens/{id}", null, Cancellation)).Status);

        var revokedAt = TimeProvider.System.GetTimestamp();
        Answer answer;
        do
            answer = await walk.Client.GetAsync(token, "/v1/nodes", Cancellation);
        while (answer.Status is 200 or 429 && TimeProvider.System.GetElapsedTime(revokedAt) < TimeSpan.FromSeconds(1));
        Assert.Equal(401, answer.Status);
        Assert.Equal("revoked", answer.Text("reason"));
    }

    [Theory]
    [InlineData("TENANT_CREATED", 1)]
    [InlineData("TOKEN_ISSUED", 5)]
    [InlineData("NODE_ENROLLED", 1)]
    [InlineData("VM_CREATED", Walk.AcmeVmsMax)]
    [InlineData("QUOTA_EXCEEDED", 1)]
    public async Task The_ledger_tells_the_tenant_what_happened(string eventType, int times)
    {
        var entries = await walk.EntriesAsync(walk.Acme.Read, eventType, times, Cancellation);
        Assert.Equal(times, entries.Count);
        Assert.All(entries, entry => Assert.Equal("acme-corp", entry.GetProperty("tenant_id").GetString()));
    }

    [Fact]
    public async Task Every_vm_is_in_the_record_once()
    {
        var entries = await walk.EntriesAsync(walk.Acme.Read, "VM_CREATED", Walk.AcmeVmsMax, Cancellation);
        Assert.Equal(walk.AcmeVms, entries.Select(entry => entry.GetProperty("vm_id").GetString()!).Order(StringComparer.Ordinal));
    }

    [Fact]
    public async Task One_scrape_shows_what_every_part_counts()
    {
        using var ops = Http.NewClient(walk.Process.Ops);
        var metrics = await ops.GetStringAsync("/metrics", Cancellation);
        Assert.All((string[])["gateway", "issuance", "ledger", "fleet"], part => Assert.Matches($"foundry_need_met{{[^}}]*part=\"{part}\"", metrics));
        Assert.All((string[])["gateway", "issuance", "fleet"], part => Assert.Matches($"foundry_outbox_waiting{{[^}}]*part=\"{part}\"", metrics));
        Assert.Contains("foundry_ledger_logs_open", metrics, StringComparison.Ordinal);
        Assert.DoesNotContain("acme", metrics, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_direct_call_to_a_backend_is_refused_and_told_where_the_door_is()
    {
        foreach (var port in new[] { walk.Process.PortsInUse.Issuance, walk.Process.PortsInUse.Ledger, walk.Process.PortsInUse.Fleet })
        {
            using var client = Http.NewClient(new Uri($"http://127.0.0.1:{port}"));
            var refused = await client.SendAsync(walk.Acme.Read, HttpMethod.Get, "/v1/vms", null, Cancellation, ("X-Foundry-Tenant", "acme-corp"), ("X-Foundry-Module-ID", "acme-corp"));
            Assert.Contains(refused.Status, new[] { 401, 404 });
            if (refused.Status == 401)
                Assert.Contains("9221", refused.Text("detail"), StringComparison.Ordinal);
        }
    }

    [Fact]
    public void The_banner_says_in_five_lines_what_runs_where_and_what_to_type_next()
    {
        Assert.Equal(5, walk.Process.Output.Count);
        var banner = string.Join('\n', walk.Process.Output);
        foreach (var port in new[] { walk.Process.PortsInUse.Gateway, walk.Process.PortsInUse.Ops, walk.Process.PortsInUse.Issuance, walk.Process.PortsInUse.Ledger, walk.Process.PortsInUse.Fleet })
            Assert.Contains($"127.0.0.1:{port}", banner, StringComparison.Ordinal);
        Assert.Contains("admin.token", banner, StringComparison.Ordinal);
        Assert.DoesNotContain(walk.Admin, banner, StringComparison.Ordinal);
    }

    [Fact]
    public void No_token_is_in_anything_that_was_written()
    {
        var tokens = new[] { walk.Acme, walk.Globex }.SelectMany(team => new[] { team.Admin, team.Read, team.User, team.Input, team.Node }).ToArray();
        var said = string.Join('\n', walk.Process.Output.Concat(walk.Process.Errors));
        Assert.NotEmpty(said);
        Assert.All(tokens, token => Assert.DoesNotContain(token.Split('.')[2], said, StringComparison.Ordinal));
        foreach (var file in Directory.GetFiles(walk.Data, "*", SearchOption.AllDirectories).Where(file => Path.GetFileName(file) is not ("admin.token" or "lock" or "redis.sock") && !file.EndsWith(".lock", StringComparison.Ordinal) && File.Exists(file)))
        {
            using var stream = new FileStream(file, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
            var text = new StreamReader(stream, System.Text.Encoding.Latin1).ReadToEnd();
            Assert.All(tokens, token => Assert.DoesNotContain(token.Split('.')[2], text, StringComparison.Ordinal));
        }
    }

    private static string WithoutRequestId(string body) => RequestId().Replace(body, "\"request_id\":\"\"");

    [GeneratedRegex("\"request_id\":\"[0-9a-f-]{36}\"")]
    private static partial Regex RequestId();
}
