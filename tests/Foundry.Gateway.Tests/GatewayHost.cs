using System.Net;
using System.Net.Http.Headers;
using System.Net.Sockets;
using System.Text;
using System.Text.Json;
using Foundry.Contracts;
using Foundry.Gateway.Authenticate;
using Foundry.ServiceDefaults;
using Foundry.Testing;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Time.Testing;

namespace Foundry.Gateway.Tests;

/// <summary>How a test's gateway differs from the usual one.</summary>
internal sealed record GatewaySetup
{
    /// <summary>The clock of everything; a <see cref="FakeTimeProvider"/> is moved on while <see cref="GatewayHost"/> waits for something.</summary>
    public TimeProvider Time { get; init; } = TimeProvider.System;

    /// <summary>Route files; the shipped ones where null.</summary>
    public string? Routes { get; init; }

    public IReadOnlyDictionary<string, string?> Settings { get; init; } = new Dictionary<string, string?>();

    /// <summary>Whether to wait until it is ready.</summary>
    public bool AwaitReady { get; init; } = true;
}

/// <summary>
/// The real gateway on loopback ports, with issuance, fleet and ledger that do what the test says, and the embedded Redis.
/// It has two tenants, the second one's name beginning with the first one's.
/// </summary>
internal sealed class GatewayHost : IAsyncDisposable
{
    // Far beyond what anything here takes: it ends a test that waits for what will not come.
    private static readonly TimeSpan WaitMax = TimeSpan.FromSeconds(60);

    private readonly GatewaySetup _setup;
    private readonly ServiceProvider _clients = new ServiceCollection().AddHttpClient("").ConfigurePrimaryHttpMessageHandler(() => new SocketsHttpHandler
    {
        UseCookies = false,
        AllowAutoRedirect = false,
        AutomaticDecompression = DecompressionMethods.None,
        ActivityHeadersPropagator = null,
    }).Services.BuildServiceProvider();
    private WebApplication? _app;

    private GatewayHost(GatewaySetup setup, FakeIssuance issuance)
    {
        (_setup, Issuance) = (setup, issuance);
        Fleet = new FakeFleet(setup.Time);
        Client = _clients.GetRequiredService<IHttpClientFactory>().CreateClient();
        Client.Timeout = TimeSpan.FromSeconds(100);
        Acme = $"acme-{Guid.NewGuid():N}"[..20];
        AcmeTwin = Acme + "-x";
        issuance.CreateTenant(Acme);
        issuance.CreateTenant(AcmeTwin);
    }

    public TempFolder Data { get; } = new();

    public FakeIssuance Issuance { get; }

    public FakeFleet Fleet { get; }

    public FakeLedger Ledger { get; } = new();

    public HttpClient Client { get; }

    public Uri Url { get; private set; } = null!;

    public Uri OpsUrl { get; private set; } = null!;

    public IServiceProvider Services => _app!.Services;

    /// <summary>A tenant.</summary>
    public string Acme { get; private init; }

    /// <summary>Another tenant, whose name begins with the first one's.</summary>
    public string AcmeTwin { get; private init; }

    public static async Task<GatewayHost> StartAsync(GatewaySetup? setup = null)
    {
        setup ??= new GatewaySetup();
        var host = new GatewayHost(setup, await FakeIssuance.StartAsync(setup.Time, Cancelled));
        try
        {
            await host.StartGatewayAsync();
            host.Forget();
            return host;
        }
        catch
        {
            await host.DisposeAsync();
            throw;
        }
    }

    /// <summary>Another gateway of the same platform, with a fleet and a ledger of its own.</summary>
    public async Task<GatewayHost> StartAnotherAsync()
    {
        var settings = new Dictionary<string, string?>(_setup.Settings) { ["Gateway:Name"] = $"gateway-{Guid.NewGuid():N}"[..20] };
        var host = new GatewayHost(_setup with { Settings = settings }, Issuance) { Acme = Acme, AcmeTwin = AcmeTwin };
        try
        {
            await host.StartGatewayAsync();
            return host;
        }
        catch
        {
            await host.DisposeAsync();
            throw;
        }
    }

    /// <summary>Starts the gateway over what is in its folder.</summary>
    public async Task StartGatewayAsync()
    {
        var settings = new Dictionary<string, string?>
        {
            ["DATA"] = Data.Path,
            ["Gateway:Listen"] = "http://127.0.0.1:0",
            ["Gateway:OpsListen"] = "http://127.0.0.1:0",
            ["Gateway:Redis"] = SharedRedis.ConnectionString,
            ["Gateway:AnonymousPerSecond"] = "100000",
            ["Gateway:Routes"] = _setup.Routes,
            ["Issuance:Url"] = Issuance.Url.ToString(),
            ["Fleet:Url"] = Fleet.Backend.Url.ToString(),
            ["Ledger:Url"] = Ledger.Backend.Url.ToString(),
            ["Trust:RootThumbprint"] = Issuance.RootThumbprint,
            ["Trust:JoinCode"] = FakeIssuance.JoinCode,
            ["Log:Level"] = "Fatal",
        };
        foreach (var (key, value) in _setup.Settings)
            settings[key] = value;
        var builder = ServiceHost.CreateBuilder("gateway", settings.Where(setting => setting.Value is not null));
        await builder.AddGatewayAsync();
        builder.Services.AddSingleton(_setup.Time);
        _app = builder.Build();
        await _app.MapGatewayAsync();
        await _app.StartAsync(Cancelled);
        var addresses = Services.GetRequiredService<IServer>().Features.GetRequiredFeature<IServerAddressesFeature>().Addresses.ToArray();
        (Url, OpsUrl) = (new Uri(addresses[0]), new Uri(addresses[1]));
        if (_setup.AwaitReady)
            await UntilAsync(async () => (await Client.GetAsync(new Uri(OpsUrl, "/readyz"), Cancelled)).StatusCode == HttpStatusCode.OK);
        if (_setup.AwaitReady)
            foreach (var tenant in new[] { Acme, AcmeTwin })
                await HasRateAsync(tenant);
    }

    /// <summary>A tenant that is made while the gateway runs.</summary>
    public async Task<string> NewTenantAsync(Func<Tenant, Tenant>? change = null)
    {
        var tenant = Issuance.CreateTenant($"new-{Guid.NewGuid():N}"[..20], change);
        await CaughtUpAsync();
        await HasRateAsync(tenant.TenantId);
        return tenant.TenantId;
    }

    /// <summary>Stops the gateway, leaving everything else as it is.</summary>
    public async Task StopGatewayAsync()
    {
        if (_app is not { } app)
            return;
        _app = null;
        await app.StopAsync(CancellationToken.None);
        await app.DisposeAsync();
    }

    /// <summary>Everything as it was at the start, but for tenants' history.</summary>
    public void Forget()
    {
        Fleet.Override = _ => null;
        Ledger.Override = _ => null;
        Fleet.Vms.Clear();
        Fleet.Nodes.Clear();
        Fleet.Backend.Requests.Clear();
        Ledger.Backend.Requests.Clear();
        Ledger.Events.Clear();
        Issuance.Forwarded.Clear();
    }

    public string Token(string? tenantId, string scope) => Issuance.Mint(tenantId, scope).Text;

    /// <summary>A token of the first tenant.</summary>
    public string Token(string scope) => Token(Acme, scope);

    public string PlatformToken() => Token(null, "service:platform-admin");

    public Task<Answer> SendAsync(string method, string target, string? token, string? json = null, params (string Name, string Value)[] headers) =>
        SendAsync(Request(method, target, token, json, headers), Cancelled);

    /// <summary>Sends, until the caller has had enough.</summary>
    public Task<Answer> SendAsync(string method, string target, string? token, string? json, CancellationToken cancellationToken) =>
        SendAsync(Request(method, target, token, json), cancellationToken);

    public Task<Answer> GetAsync(string target, string? token, params (string Name, string Value)[] headers) => SendAsync("GET", target, token, null, headers);

    /// <summary>Sends and leaves the answer's body to be read as it comes.</summary>
    public Task<HttpResponseMessage> OpenAsync(string method, string target, string? token, CancellationToken cancellationToken) =>
        Client.SendAsync(Request(method, target, token, null), HttpCompletionOption.ResponseHeadersRead, cancellationToken);

    /// <summary>Sends bytes as they are on a connection of their own, and takes what comes until it ends.</summary>
    public Task<Answer> SendRawAsync(string request) => SendRawAsync(Encoding.Latin1.GetBytes(request));

    public async Task<Answer> SendRawAsync(byte[] request)
    {
        using var client = new TcpClient();
        await client.ConnectAsync(IPAddress.Loopback, Url.Port, Cancelled);
        await using var stream = client.GetStream();
        await stream.WriteAsync(request, Cancelled);
        var bytes = new MemoryStream();
        try
        {
            await stream.CopyToAsync(bytes, Cancelled);
        }
        catch (IOException) when (bytes.Length > 0)
        {
            // The gateway closed with bytes of ours unread.
        }
        return Answer.OfRaw(bytes.ToArray());
    }

    /// <summary>A GET by raw socket.</summary>
    public Task<Answer> GetRawAsync(string target, string token, string headers = "") =>
        SendRawAsync($"GET {target} HTTP/1.1\r\nHost: foundry\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n{headers}\r\n");

    public async Task<JsonElement> OpsAsync(string path) => JsonDocument.Parse(await Client.GetStringAsync(new Uri(OpsUrl, path), Cancelled)).RootElement;

    /// <summary>Waits until the gateway has heard everything that issuance said.</summary>
    public Task CaughtUpAsync() => UntilAsync(() => Services.GetRequiredService<TenantDirectory>().Seq >= Issuance.Seq);

    /// <summary>Waits for something that can be seen; a clock that stands still is moved on meanwhile.</summary>
    public async Task UntilAsync(Func<Task<bool>> isSo)
    {
        var since = TimeProvider.System.GetTimestamp();
        while (!await isSo())
        {
            if (TimeProvider.System.GetElapsedTime(since) > WaitMax)
                throw new TimeoutException($"It did not come about within {WaitMax}.");
            (_setup.Time as FakeTimeProvider)?.Advance(TimeSpan.FromMilliseconds(100));
            await Task.Delay(10, Cancelled);
        }
    }

    public Task UntilAsync(Func<bool> isSo) => UntilAsync(() => Task.FromResult(isSo()));

    /// <summary>The events of a type that the ledger has, waited for.</summary>
    public async Task<Recorded[]> RecordedAsync(string type, int atLeast = 1)
    {
        await UntilAsync(() => Ledger.Events.Count(recorded => recorded.Type == type) >= atLeast);
        return [.. Ledger.Events.Where(recorded => recorded.Type == type)];
    }

    /// <summary>A bucket without a history begins empty: the first request would be one too many.</summary>
    private Task HasRateAsync(string tenantId)
    {
        var token = Token(tenantId, "read");
        return UntilAsync(async () => (await GetAsync("/v1/status", token)).Status != 429);
    }

    public async ValueTask DisposeAsync()
    {
        await StopGatewayAsync();
        Client.Dispose();
        await _clients.DisposeAsync();
        await Issuance.DisposeAsync();
        await Fleet.DisposeAsync();
        await Ledger.DisposeAsync();
        Data.Dispose();
    }

    private async Task<Answer> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken)
    {
        using (request)
        {
            using var response = await Client.SendAsync(request, cancellationToken);
            return await Answer.OfAsync(response, cancellationToken);
        }
    }

    private HttpRequestMessage Request(string method, string target, string? token, string? json, params (string Name, string Value)[] headers)
    {
        var request = new HttpRequestMessage(new HttpMethod(method), new Uri(Url.GetLeftPart(UriPartial.Authority) + target, new UriCreationOptions { DangerousDisablePathAndQueryCanonicalization = true }));
        if (token is not null)
            request.Headers.TryAddWithoutValidation("Authorization", $"Bearer {token}");
        if (json is not null)
            request.Content = new ByteArrayContent(Encoding.UTF8.GetBytes(json)) { Headers = { ContentType = new MediaTypeHeaderValue("application/json") } };
        foreach (var (name, value) in headers)
            if (!request.Headers.TryAddWithoutValidation(name, value))
            {
                request.Content!.Headers.Remove(name);
                request.Content.Headers.TryAddWithoutValidation(name, value);
            }
        return request;
    }

    private static CancellationToken Cancelled => TestContext.Current.CancellationToken;
}

/// <summary>A gateway that the tests of a class share; each begins with <see cref="GatewayHost.Forget"/>.</summary>
public sealed class OrdinaryGateway : IAsyncLifetime
{
    private GatewayHost? _host;

    internal GatewayHost Host => _host!;

    public async ValueTask InitializeAsync() => _host = await GatewayHost.StartAsync();

    public ValueTask DisposeAsync() => _host?.DisposeAsync() ?? ValueTask.CompletedTask;
}
