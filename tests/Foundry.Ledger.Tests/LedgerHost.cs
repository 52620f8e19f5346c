using System.Net.Http.Headers;
using System.Text;
using System.Text.Json;
using Foundry.Contracts;
using Foundry.ServiceDefaults;
using Foundry.ServiceDefaults.Trust;
using Foundry.Tokens;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.Extensions.DependencyInjection;

namespace Foundry.Ledger.Tests;

/// <summary>A ledger on a loopback port, in a folder where its last trust set lies: nobody else need run.</summary>
internal sealed class LedgerHost : IAsyncDisposable
{
    private static readonly SigningKey _root = SigningKey.Generate();
    private static readonly SigningKey _gateway = SigningKey.Generate();
    private static readonly SigningKey _fleet = SigningKey.Generate();
    private static readonly SigningKey _stranger = SigningKey.Generate();

    private readonly WebApplication _app;
    private readonly ServiceProvider _clients;

    private LedgerHost(WebApplication app)
    {
        _app = app;
        var address = app.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses.First();
        _clients = new ServiceCollection().AddHttpClient("", client => client.BaseAddress = new Uri(address)).Services.BuildServiceProvider();
    }

    public IServiceProvider Services => _app.Services;

    // Who calls has the ledger's clock, whatever that is.
    private TimeProvider Time => _app.Services.GetRequiredService<TimeProvider>();

    /// <summary>Starts a ledger in a folder.</summary>
    public static async Task<LedgerHost> StartAsync(string folder, Action<WebApplicationBuilder>? configure = null, params (string Key, string Value)[] settings)
    {
        var builder = ServiceHost.CreateBuilder("ledger", Settings(folder, settings));
        builder.AddLedger();
        configure?.Invoke(builder);
        var app = builder.Build();
        try
        {
            app.MapLedger();
            await app.StartAsync(TestContext.Current.CancellationToken);
            return new LedgerHost(app);
        }
        catch
        {
            await app.DisposeAsync();
            throw;
        }
    }

    /// <summary>The settings of a ledger in a folder, with the trust set it had when it last heard of one.</summary>
    public static Dictionary<string, string?> Settings(string folder, params (string Key, string Value)[] settings)
    {
        var state = StateFolder.Open(folder);
        using var own = state.SigningKey(ServiceIdentity.KeyFile);
        var trust = new TrustSet(1, 1, 0, "http://127.0.0.1:9221",
        [
            new TrustedKey(own.Kid, TrustedKey.Service, Ledger.Part, own.Public.X),
            new TrustedKey(_gateway.Kid, TrustedKey.Gateway, "gateway-7", _gateway.Public.X),
            new TrustedKey(_fleet.Kid, TrustedKey.Service, "fleet", _fleet.Public.X),
        ]);
        state.Write(TrustFollower.FileName, JsonSerializer.SerializeToUtf8Bytes(new TrustAnswer(1, _root.Public.X, trust.Sign(_root)), WireJson.Default.TrustAnswer));
        var all = new Dictionary<string, string?>
        {
            ["Ledger:Listen"] = "http://127.0.0.1:0",
            ["Ledger:Data"] = folder,
            ["Trust:RootThumbprint"] = _root.Kid,
            ["Issuance:Url"] = "http://127.0.0.1:1",
            ["Log:Level"] = "Error",
        };
        foreach (var (key, value) in settings)
            all[key] = value;
        return all;
    }

    /// <summary>Sends a request as somebody.</summary>
    public async Task<HttpResponseMessage> SendAsync(As who, HttpMethod method, string path, string? module, string? body = null, string mediaType = "application/json")
    {
        using var client = _clients.GetRequiredService<IHttpClientFactory>().CreateClient("");
        return await SendAsync(client, who, method, path, module, body, mediaType, Time);
    }

    /// <summary>Sends a request as somebody, to a ledger that may be another process.</summary>
    public static async Task<HttpResponseMessage> SendAsync(HttpClient client, As who, HttpMethod method, string path, string? module, string? body = null, string mediaType = "application/json", TimeProvider? time = null)
    {
        using var request = new HttpRequestMessage(method, path);
        var bytes = body is null ? [] : Encoding.UTF8.GetBytes(body);
        if (body is not null)
            request.Content = new ByteArrayContent(bytes) { Headers = { ContentType = new MediaTypeHeaderValue(mediaType) } };
        if (module is not null)
            request.Headers.TryAddWithoutValidation(FoundryHeaders.ModuleId, module);
        if (who.Assert(method, path, bytes, (time ?? TimeProvider.System).GetUtcNow()) is { } assertion)
            request.Headers.TryAddWithoutValidation(FoundryHeaders.Assertion, assertion);
        return await client.SendAsync(request, TestContext.Current.CancellationToken);
    }

    /// <summary>A client of this ledger, for what takes one of any.</summary>
    public HttpClient NewClient() => _clients.GetRequiredService<IHttpClientFactory>().CreateClient("");

    public Task<HttpResponseMessage> GetAsync(As who, string path, string? module) => SendAsync(who, HttpMethod.Get, path, module);

    /// <summary>Asks for a stream, and returns with its head.</summary>
    public async Task<HttpResponseMessage> OpenAsync(As who, string path, string? module, Action<HttpRequestMessage>? configure = null)
    {
        using var client = _clients.GetRequiredService<IHttpClientFactory>().CreateClient("");
        client.Timeout = Timeout.InfiniteTimeSpan;
        using var request = new HttpRequestMessage(HttpMethod.Get, path);
        if (module is not null)
            request.Headers.TryAddWithoutValidation(FoundryHeaders.ModuleId, module);
        if (who.Assert(HttpMethod.Get, path, [], Time.GetUtcNow()) is { } assertion)
            request.Headers.TryAddWithoutValidation(FoundryHeaders.Assertion, assertion);
        configure?.Invoke(request);
        return await client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, TestContext.Current.CancellationToken);
    }

    public async Task<JsonElement> GetJsonAsync(As who, string path, string module)
    {
        using var answer = await GetAsync(who, path, module);
        Assert.Equal(200, (int)answer.StatusCode);
        return await JsonAsync(answer);
    }

    public Task<HttpResponseMessage> AppendAsync(As who, string module, string payloadId, string payload) =>
        SendAsync(who, HttpMethod.Post, "/v1/append", module, $$"""{"payload_id":{{JsonSerializer.Serialize(payloadId)}},"payload":{{payload}}}""");

    public async Task<long> CursorAsync(As who, string module, string payloadId, string payload)
    {
        using var answer = await AppendAsync(who, module, payloadId, payload);
        Assert.Equal(200, (int)answer.StatusCode);
        return (await JsonAsync(answer)).GetProperty("cursor").GetInt64();
    }

    public static async Task<JsonElement> JsonAsync(HttpResponseMessage answer) =>
        JsonDocument.Parse(await answer.Content.ReadAsByteArrayAsync(TestContext.Current.CancellationToken)).RootElement;

    public static async Task AssertRefusedAsync(HttpResponseMessage answer, ErrorCode error)
    {
        Assert.Equal((error.Status, Problem.MediaType), ((int)answer.StatusCode, answer.Content.Headers.ContentType?.MediaType));
        Assert.Equal(error.Code, (await JsonAsync(answer)).GetProperty("code").GetString());
    }

    /// <summary>An orderly stop, while what was asked is still being answered.</summary>
    public Task StopAsync() => _app.StopAsync();

    public async ValueTask DisposeAsync()
    {
        await _clients.DisposeAsync();
        await _app.StopAsync();
        await _app.DisposeAsync();
    }

    /// <summary>Somebody who calls, as the assertion in their name says it.</summary>
    internal sealed record As(string Name, SigningKey? Key, string? Tenant, string? Scope, bool IsOwn)
    {
        public static readonly As Nobody = new("", null, null, null, false);
        public static readonly As Acme = new("gateway-7", _gateway, "acme", "input", false);
        public static readonly As Rival = new("gateway-7", _gateway, "rival", "input", false);
        public static readonly As Admin = new("gateway-7", _gateway, null, "service:platform-admin", false);
        public static readonly As Anonymous = new("gateway-7", _gateway, null, null, false);
        public static readonly As Gateway = new("gateway-7", _gateway, null, null, true);
        public static readonly As Fleet = new("fleet", _fleet, null, null, true);
        public static readonly As Stranger = new("fleet", _stranger, null, null, true);

        /// <summary>When the token ends, Unix seconds.</summary>
        public long? TokenExp { get; init; }

        public string? Assert(HttpMethod method, string path, byte[] body, DateTimeOffset now)
        {
            if (Key is null)
                return null;
            var isRead = method == HttpMethod.Get;
            return new Assertion
            {
                Iss = Name,
                Aud = Ledger.Part,
                Iat = now.ToUnixTimeSeconds(),
                Exp = now.ToUnixTimeSeconds() + 30,
                Jti = Guid.NewGuid().ToString("N"),
                Use = isRead ? Assertion.ReadUse : Assertion.WriteUse,
                Htm = isRead ? null : method.Method,
                Htu = isRead ? null : path,
                Bh = isRead ? null : Assertion.BodyHash(body),
                Own = IsOwn ? true : null,
                TenantId = Tenant,
                Scope = Scope,
                Sub = Tenant is null ? null : "user-1",
                SubjectPubkey = Scope is null ? null : "c3ViamVjdA",
                TokenId = Scope is null ? null : "token-1",
                TokenExp = TokenExp,
            }.Sign(Key);
        }

        public override string ToString() => IsOwn ? Name : $"{Tenant ?? "no tenant"}, {Scope ?? "anonymous"}";
    }
}
