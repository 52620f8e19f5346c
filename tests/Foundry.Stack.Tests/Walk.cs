using System.Globalization;
using Foundry.Testing;
using Foundry.Tokens;

[assembly: AssemblyFixture(typeof(Foundry.Stack.Tests.Walk))]

namespace Foundry.Stack.Tests;

/// <summary>
/// The walk of the README, done once against the real standalone process: two tenants, their tokens, two nodes, their VMs. Tests look
/// at what it left, and change nothing that another looks at.
/// </summary>
public sealed class Walk : IAsyncLifetime
{
    /// <summary>VMs that acme-corp may hold.</summary>
    public const int AcmeVmsMax = 10;
    private readonly TempFolder _folder = new();

    public StandaloneProcess Process { get; private set; } = null!;
    public HttpClient Client { get; private set; } = null!;
    public string Admin { get; private set; } = null!;
    public Team Acme { get; private set; } = null!;
    public Team Globex { get; private set; } = null!;
    public IReadOnlyList<string> AcmeVms { get; private set; } = [];
    public IReadOnlyList<string> GlobexVms { get; private set; } = [];
    public Answer EleventhVm { get; private set; } = null!;
    public string Data => _folder.File("data");

    /// <summary>A tenant's tokens.</summary>
    public sealed record Team(string TenantId, string Admin, string Read, string User, string Input, string Node);

    public async ValueTask InitializeAsync()
    {
        var cancellation = TestContext.Current.CancellationToken;
        Process = await StandaloneProcess.StartAsync(Data, cancellation);
        Client = Http.NewClient(Process.Gateway);
        Admin = (await File.ReadAllTextAsync(Path.Combine(Data, "admin.token"), cancellation)).Trim();
        Acme = await NewTeamAsync("acme-corp", AcmeVmsMax, cancellation);
        Globex = await NewTeamAsync("globex", 5, cancellation);
        await BeatAsync(Acme.Node, "compute-west-01", cancellation);
        await BeatAsync(Globex.Node, "compute-east-01", cancellation);
        AcmeVms = await CreateVmsAsync(Acme.Admin, AcmeVmsMax, cancellation);
        EleventhVm = await CreateVmAsync(Acme.Admin, cancellation);
        GlobexVms = await CreateVmsAsync(Globex.Input, 2, cancellation);
    }

    /// <summary>A tenant with an administrator, who gives out the other tokens.</summary>
    public async Task<Team> NewTeamAsync(string tenantId, int maxVms, CancellationToken cancellation, int rpm = 600)
    {
        var created = await Client.PostAsync(Admin, "/v1/tenants", string.Create(CultureInfo.InvariantCulture,
            $$"""{"tenant_id":"{{tenantId}}","display_name":"{{tenantId}}","max_vms":{{maxVms}},"storage_quota_gb":100,"api_rate_limit_rpm":{{rpm}}}"""), cancellation);
        Assert.Equal(201, created.Status);
        var admin = await IssueAsync(Admin, $"/v1/tenants/{tenantId}/tokens", "service:tenant-admin", cancellation);
        return new(tenantId, admin,
            await IssueAsync(admin, "/v1/tokens", "READ", cancellation),
            await IssueAsync(admin, "/v1/tokens", "user", cancellation),
            await IssueAsync(admin, "/v1/tokens", "input", cancellation),
            await IssueAsync(admin, "/v1/tokens", "service:fleet-node", cancellation));
    }

    /// <summary>A token for a new key.</summary>
    public async Task<string> IssueAsync(string issuer, string path, string scope, CancellationToken cancellation)
    {
        using var key = SigningKey.Generate();
        // A tenant that was made this moment reaches the gateway by the feed.
        Answer issued;
        do
            issued = await Client.PostAsync(issuer, path, $$"""{"subject_pubkey":"{{key.Public.X}}","scope":"{{scope}}","expires_in_seconds":86400}""", cancellation);
        while (issued.Status == 401 && issued.Text("reason") == "revoked");
        Assert.True(issued.Status == 201, $"{scope}: {issued.Status} {issued.Body}");
        return issued.Text("token")!;
    }

    /// <summary>A heartbeat of a machine with plenty of room.</summary>
    public async Task BeatAsync(string token, string nodeId, CancellationToken cancellation)
    {
        var beat = await Client.PostAsync(token, "/v1/nodes/heartbeat", $$"""
            {"node_id":"{{nodeId}}","wg_ip":"10.8.0.9","hostname":"{{nodeId}}","ram_total_mb":65536,"ram_used_mb":1024,"cpu_cores":16,"cpu_load_pct":12.5,"kvm_available":true,
             "reserved":false,"vms":[],"boot_id":"9b1c6f6e-7f0e-4a3c-9f58-0a5a6f6c2d11","timestamp_utc":"2026-06-12T09:42:00.000000001Z"}
            """, cancellation);
        Assert.True(beat.Status == 200, beat.Body);
    }

    public Task<Answer> CreateVmAsync(string token, CancellationToken cancellation) =>
        Client.PostAsync(token, "/v1/vms", """{"vm_type":"VmTotebox","ram_mb":4096,"vcpu_count":2,"prefer_kvm":true,"preferred_node":null,"tenant_id":null}""", cancellation);

    /// <summary>The IDs in a list of VMs.</summary>
    public async Task<IReadOnlyList<string>> ListVmsAsync(string token, CancellationToken cancellation)
    {
        var list = await Client.GetAsync(token, "/v1/vms", cancellation);
        Assert.True(list.Status == 200, list.Body);
        return [.. list.Json.EnumerateArray().Select(vm => vm.GetProperty("vm_id").GetString()!).Order(StringComparer.Ordinal)];
    }

    /// <summary>The payloads of a log's entries of one type, once there are as many as expected.</summary>
    public async Task<IReadOnlyList<System.Text.Json.JsonElement>> EntriesAsync(string token, string eventType, int atLeast, CancellationToken cancellation)
    {
        using var poll = new PeriodicTimer(TimeSpan.FromMilliseconds(200));
        for (var attempt = 0; ; attempt++)
        {
            var page = await Client.GetAsync(token, $"/v1/entries?event_type={eventType}&limit=100", cancellation);
            if (page.Status == 200 && page.Json.GetProperty("entries").GetArrayLength() >= atLeast)
                return [.. page.Json.GetProperty("entries").EnumerateArray().Select(entry => entry.GetProperty("payload"))];
            Assert.True(attempt < 100, $"not {atLeast} {eventType}: {page.Status} {page.Body}");
            await poll.WaitForNextTickAsync(cancellation);
        }
    }

    public async Task<IReadOnlyList<string>> CreateVmsAsync(string token, int count, CancellationToken cancellation)
    {
        var made = new List<string>();
        for (var i = 0; i < count; i++)
        {
            var created = await CreateVmAsync(token, cancellation);
            Assert.True(created.Status == 201, $"VM {i + 1}: {created.Status} {created.Body}");
            made.Add(created.Text("vm_id")!);
        }
        return [.. made.Order(StringComparer.Ordinal)];
    }

    public async ValueTask DisposeAsync()
    {
        Client?.Dispose();
        if (Process is not null)
            await Process.DisposeAsync();
        _folder.Dispose();
    }
}
