using System.Net;
using System.Text.Json;
using Dapper;
using Foundry.Contracts;
using Foundry.Fleet.Nodes;
using Foundry.ServiceDefaults;
using Foundry.ServiceDefaults.Trust;
using Foundry.Storage;
using Foundry.Testing;
using Foundry.Tokens;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Time.Testing;

namespace Foundry.Fleet.Tests;

/// <summary>What each test that goes through the store runs on: SQLite always, PostgreSQL where FOUNDRY_TEST_POSTGRES says one.</summary>
public static class Stores
{
    public const string Sqlite = "SQLite";
    public const string PostgreSql = "PostgreSQL";

    public static string? Postgres { get; } = Environment.GetEnvironmentVariable("FOUNDRY_TEST_POSTGRES") is { Length: > 0 } text ? text : null;

    public static TheoryData<string> All { get; } = Postgres is null ? new(Sqlite) : new(Sqlite, PostgreSql);
}

public sealed class ContinuousIntegration
{
    /// <summary>Without this, a runner that lost its PostgreSQL would go on being green.</summary>
    [Fact]
    public void Tests_on_PostgreSQL_too() =>
        Assert.True(Stores.Postgres is not null || Environment.GetEnvironmentVariable("CI") != "true", "CI=true, but FOUNDRY_TEST_POSTGRES is not set.");
}

/// <summary>A fleet on loopback with a store of its own, a clock that only the test moves, and a gateway that it believes.</summary>
internal sealed class FleetHost : IAsyncDisposable
{
    public const string Acme = "acme-corp";
    public const string Globex = "globex";

    private readonly TempFolder _folder = new();
    private readonly string _kind;
    private readonly string _schema = $"t{Guid.NewGuid():N}";
    private readonly SigningKey _gatewayKey = SigningKey.Generate();
    private readonly SigningKey _issuanceKey = SigningKey.Generate();
    private WebApplication? _app;

    private FleetHost(string kind) => _kind = kind;

    public FakeTimeProvider Time { get; } = new(new DateTimeOffset(2026, 6, 12, 9, 42, 0, TimeSpan.Zero));
    public string Folder => _folder.Path;
    public GatewayCaller Gateway { get; private set; } = null!;
    public GatewayCaller Issuance { get; private set; } = null!;
    public IServiceProvider Services => _app!.Services;
    public Registry Registry => Services.GetRequiredService<Registry>();
    public Caretaker Caretaker => Services.GetRequiredService<Caretaker>();

    public static async Task<FleetHost> StartAsync(string kind = Stores.Sqlite, params (string Setting, string Value)[] settings)
    {
        var host = new FleetHost(kind);
        await host.StartAgainAsync(settings);
        return host;
    }

    /// <summary>Starts the fleet on the same store; <see cref="StopAsync"/> it first.</summary>
    public async Task StartAgainAsync(params (string Setting, string Value)[] settings)
    {
        var configuration = new Dictionary<string, string?>
        {
            ["Fleet:Listen"] = "http://127.0.0.1:0",
            ["Fleet:Data"] = _folder.Path,
            ["Fleet:Database"] = _kind == Stores.PostgreSql ? $"{Stores.Postgres};Search Path={_schema}" : null,
            ["Trust:RootThumbprint"] = _gatewayKey.Kid,
            // Nobody is there: events stay in the outbox, where tests look for them.
            ["Issuance:Url"] = "http://127.0.0.1:9",
            ["Ledger:Url"] = "http://127.0.0.1:9",
            ["Log:Level"] = "Fatal",
        };
        foreach (var (setting, value) in settings)
            configuration[setting] = value;
        var builder = ServiceHost.CreateBuilder(Fleet.Name, configuration);
        builder.Services.AddSingleton<TimeProvider>(Time);
        await builder.AddFleetAsync();
        builder.Services.AddSingleton<ITrustSource>(new FixedTrust(
            FixedTrust.Entry(_gatewayKey, TrustedKey.Gateway, "gateway-1"), FixedTrust.Entry(_issuanceKey, TrustedKey.Service, "issuance")));
        _app = builder.Build();
        _app.MapFleet();
        await _app.StartAsync(TestContext.Current.CancellationToken);
        var address = new Uri(_app.Services.GetRequiredService<IServer>().Features.GetRequiredFeature<IServerAddressesFeature>().Addresses.First());
        Gateway = new GatewayCaller(_gatewayKey, "gateway-1", Fleet.Name, address, Time);
        Issuance = new GatewayCaller(_issuanceKey, "issuance", Fleet.Name, address, Time);
    }

    /// <summary>Opens the registry as a second process would that has no lock in its way.</summary>
    public Task<LoadedRegistry> LoadSecondAsync() =>
        LoadedRegistry.OpenAsync(_kind == Stores.PostgreSql ? $"{Stores.Postgres};Search Path={_schema}" : null, StateFolder.Open(_folder.Path), Time);

    public async Task StopAsync()
    {
        if (_app is null)
            return;
        Gateway.Dispose();
        Issuance.Dispose();
        await _app.StopAsync(CancellationToken.None);
        await _app.DisposeAsync();
        _app = null;
    }

    public CallerFacts Caller(string? tenantId, string scope) => CallerFacts.Of(tenantId, scope, Time.GetUtcNow() + TimeSpan.FromDays(30));

    public CallerFacts NodeOf(string? tenantId) => Caller(tenantId, "service:fleet-node");

    public async Task<Answer> SendAsync(CallerFacts? caller, HttpMethod method, string path, string? json = null, params (string Name, string Value)[] headers)
    {
        using var answer = await Gateway.SendAsync(caller, method, path, json, TestContext.Current.CancellationToken, request =>
        {
            foreach (var (name, value) in headers)
                request.Headers.TryAddWithoutValidation(name, value);
        });
        return await Answer.OfAsync(answer);
    }

    public async Task<Answer> SendAsItselfAsync(GatewayCaller part, HttpMethod method, string path, string? json = null)
    {
        using var answer = await part.SendAsItselfAsync(method, path, json, TestContext.Current.CancellationToken);
        return await Answer.OfAsync(answer);
    }

    public Task<Answer> GetAsync(CallerFacts? caller, string path) => SendAsync(caller, HttpMethod.Get, path);

    public Task<Answer> PostBeatAsync(CallerFacts node, string json) => SendAsync(node, HttpMethod.Post, "/v1/nodes/heartbeat", json);

    /// <summary>Enrols a node, or lets it report again.</summary>
    public async Task<HeartbeatAnswer> BeatAsync(CallerFacts node, string nodeId, long ramMb = 65536, bool kvm = true, bool reserved = false, params string[] vms)
    {
        var answer = await PostBeatAsync(node, Wire.Heartbeat(nodeId, ramMb, kvm, reserved, vms));
        Assert.Equal(HttpStatusCode.OK, answer.Status);
        return answer.Read(WireJson.Default.HeartbeatAnswer);
    }

    public Task<Answer> CreateAsync(CallerFacts caller, string? json = null, params (string Name, string Value)[] headers) =>
        SendAsync(caller, HttpMethod.Post, "/v1/vms", json ?? Wire.Create(), headers);

    public async Task<VmRecord> CreatedAsync(CallerFacts caller, string? json = null, params (string Name, string Value)[] headers)
    {
        var answer = await CreateAsync(caller, json, headers);
        Assert.Equal(HttpStatusCode.Created, answer.Status);
        return answer.Read(WireJson.Default.VmRecord);
    }

    public async Task<HeldVms> BeginEpochAsync(string tenantId)
    {
        var answer = await SendAsItselfAsync(Gateway, HttpMethod.Post, "/internal/v1/epochs", $$"""{"v":1,"tenant_id":"{{tenantId}}"}""");
        Assert.Equal(HttpStatusCode.OK, answer.Status);
        return answer.Read(WireJson.Default.HeldVms);
    }

    public string Reservation(string id, long epoch = 0, int goodForMs = 10_000) =>
        $"{id};epoch={epoch};deadline={Time.GetUtcNow().ToUnixTimeMilliseconds() + goodForMs}";

    /// <summary>The events that wait for the ledger, oldest first.</summary>
    public async Task<IReadOnlyList<(string Log, PlatformEvent Event)>> EventsAsync()
    {
        await using var connection = await Services.GetRequiredService<Database>().OpenConnectionAsync(TestContext.Current.CancellationToken);
        var rows = await connection.QueryAsync<(string Log, string Payload)>("SELECT module_id, payload FROM outbox ORDER BY id");
        return [.. rows.Select(row => (row.Log, JsonSerializer.Deserialize(row.Payload, WireJson.Default.PlatformEvent)!))];
    }

    public async ValueTask DisposeAsync()
    {
        await StopAsync();
        if (_kind == Stores.PostgreSql)
        {
            await using var database = await Database.OpenAsync(Stores.Postgres, StateFolder.Open(_folder.Path), "public.db", []);
            await using var connection = await database.OpenConnectionAsync(CancellationToken.None);
            await connection.ExecuteAsync($"DROP SCHEMA IF EXISTS \"{_schema}\" CASCADE");
        }
        _gatewayKey.Dispose();
        _issuanceKey.Dispose();
        _folder.Dispose();
    }
}

/// <summary>An answer, read to its end.</summary>
internal sealed record Answer(HttpStatusCode Status, string Body, IReadOnlyDictionary<string, string> Headers)
{
    public static async Task<Answer> OfAsync(HttpResponseMessage answer) => new(answer.StatusCode,
        await answer.Content.ReadAsStringAsync(TestContext.Current.CancellationToken),
        answer.Headers.ToDictionary(header => header.Key, header => string.Join(", ", header.Value), StringComparer.OrdinalIgnoreCase));

    public T Read<T>(System.Text.Json.Serialization.Metadata.JsonTypeInfo<T> type) => JsonSerializer.Deserialize(Body, type)!;

    public VmRecord[] Vms() => [.. Read(WireJson.Default.IReadOnlyListVmRecord)];

    public NodeRecord[] Nodes() => [.. Read(WireJson.Default.IReadOnlyListNodeRecord)];

    public void Refuses(ErrorCode error)
    {
        Assert.Equal(error.Code, Read(WireJson.Default.Problem).Code);
        Assert.Equal(error.Status, (int)Status);
    }
}

/// <summary>Bodies as nodes and gateways send them.</summary>
internal static class Wire
{
    public static string Sample(string name) => File.ReadAllText(Path.Combine(AppContext.BaseDirectory, "Samples", name)).TrimEnd('\n');

    public static string Heartbeat(string nodeId, long ramMb = 65536, bool kvm = true, bool reserved = false, params IEnumerable<string> vms) =>
        $$"""{"node_id":"{{nodeId}}","wg_ip":"10.8.0.9","hostname":"{{nodeId}}","ram_total_mb":{{ramMb}},"ram_used_mb":1024,"cpu_cores":16,"cpu_load_pct":12.5,"kvm_available":{{(kvm ? "true" : "false")}},"reserved":{{(reserved ? "true" : "false")}},"vms":[{{string.Join(',', vms)}}],"boot_id":"9b1c6f6e","timestamp_utc":"2026-06-12T09:42:00.000000001Z"}""";

    public static string Vm(string vmId, string? tenantId = null, string state = "Running", string? startedAt = "2026-06-12T09:41:07.123456789Z", string ports = "[]", string more = "") =>
        $$"""{"vm_id":"{{vmId}}","vm_type":"VmTotebox","state":"{{state}}","ram_alloc_mb":4096,"vcpu_count":2,"started_at":{{Text(startedAt)}},"tenant_id":{{Text(tenantId)}},"host_ports":{{ports}}{{more}}}""";

    public static string Create(long ramMb = 4096, string more = "") => $$"""{"vm_type":"VmTotebox","ram_mb":{{ramMb}},"vcpu_count":2{{more}}}""";

    private static string Text(string? value) => value is null ? "null" : $"\"{value}\"";
}
