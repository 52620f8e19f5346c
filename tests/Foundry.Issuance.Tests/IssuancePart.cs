using System.Text.Json;
using Foundry.Contracts;
using Foundry.Issuance.Changes;
using Foundry.ServiceDefaults;
using Foundry.Testing;
using Foundry.Tokens;
using Microsoft.AspNetCore.Builder;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.DependencyInjection.Extensions;
using Microsoft.Extensions.Time.Testing;

namespace Foundry.Issuance.Tests;

/// <summary>Issuance on a real port with its own folder and store, a gateway that has joined it, a ledger and a fleet.</summary>
internal sealed class IssuancePart : IAsyncDisposable
{
    public const string JoinCode = "a-join-code-of-thirty-two-characters-and-more";
    public static readonly DateTimeOffset Start = new(2026, 3, 1, 12, 0, 0, TimeSpan.Zero);

    private readonly TempFolder _temp = new();
    private readonly string _schema = $"t{Guid.NewGuid():N}";
    private readonly string _store;
    private readonly SigningKey _gatewayKey = SigningKey.Generate();
    private WebApplication? _app;
    private GatewayCaller? _gateway;

    private IssuancePart(string store, TimeProvider time, FakeLedger ledger, FakeFleet fleet) => (_store, Clock, Ledger, Fleet) = (store, time, ledger, fleet);

    public TimeProvider Clock { get; }
    public FakeTimeProvider Time => (FakeTimeProvider)Clock;
    public FakeLedger Ledger { get; }
    public FakeFleet Fleet { get; }
    public string Folder => Path.Combine(_temp.Path, "issuance");
    public WebApplication App => _app!;
    public GatewayCaller Gateway => _gateway!;
    public IssuanceSetup Setup { get; private set; } = null!;
    public Dictionary<string, string?> Settings { get; } = [];

    /// <summary>The platform's administrator, by the token in admin.token.</summary>
    public CallerFacts Admin
    {
        get
        {
            var token = ReadAdminToken();
            return new(null, token.Scope, token.SubjectPubkey, token.Jti, token.Exp);
        }
    }

    public static async Task<IssuancePart> StartAsync(string store = Stores.Sqlite, TimeProvider? time = null, Dictionary<string, string?>? settings = null)
    {
        var cancellation = TestContext.Current.CancellationToken;
        var part = new IssuancePart(store, time ?? new FakeTimeProvider(Start), await FakeLedger.StartAsync(cancellation), await FakeFleet.StartAsync(cancellation));
        foreach (var (key, value) in settings ?? [])
            part.Settings[key] = value;
        await part.OpenAsync();
        return part;
    }

    /// <summary>Starts what was stopped, on what it left behind.</summary>
    public async Task OpenAsync()
    {
        (_app, Setup) = await BuildAsync(Folder);
        await _app.StartAsync(Setup.Listens, TestContext.Current.CancellationToken);
        _gateway = new GatewayCaller(_gatewayKey, "gateway-one", Issuance.Name, new Uri(_app.Urls.First()), Clock);
        using var joined = await JoinAsync("gateway", "gateway-one", _gatewayKey.Public.X, JoinCode);
        joined.EnsureSuccessStatusCode();
    }

    public async Task StopAsync()
    {
        _gateway?.Dispose();
        if (_app is not null)
        {
            await _app.StopAsync(CancellationToken.None);
            await _app.DisposeAsync();
        }
        _app = null;
    }

    public async Task RestartAsync()
    {
        await StopAsync();
        await OpenAsync();
    }

    /// <summary>A second process on the same PostgreSQL, with its own copy of the keys; not started.</summary>
    public async Task<(WebApplication App, IssuanceSetup Setup, SigningKey GatewayKey)> SecondAsync()
    {
        var folder = Path.Combine(_temp.Path, "second");
        Directory.CreateDirectory(Path.Combine(folder, "tokens.keys"));
        File.Copy(Path.Combine(Folder, "root.key"), Path.Combine(folder, "root.key"));
        foreach (var file in Directory.GetFiles(Path.Combine(Folder, "tokens.keys")))
            File.Copy(file, Path.Combine(folder, "tokens.keys", Path.GetFileName(file)));
        var (app, setup) = await BuildAsync(folder);
        return (app, setup, _gatewayKey);
    }

    /// <summary>Waits for something that a worker does, and moves the clock on meanwhile.</summary>
    public async Task UntilAsync(Func<Task<bool>> isSo)
    {
        using var poll = new PeriodicTimer(TimeSpan.FromMilliseconds(20));
        for (var polls = 0; !await isSo(); polls++)
        {
            Assert.True(polls < 3000, "It did not come about.");
            (Clock as FakeTimeProvider)?.Advance(TimeSpan.FromMilliseconds(250));
            await poll.WaitForNextTickAsync(TestContext.Current.CancellationToken);
        }
    }

    public async Task<HttpResponseMessage> JoinAsync(string? kind, string? name, string? x, string? code) =>
        await Gateway.Client.PostAsync("/internal/v1/join",
            new StringContent(JsonSerializer.Serialize(new JoinRequest(1, kind, name, x, code), WireJson.Default.JoinRequest), System.Text.Encoding.UTF8, "application/json"), TestContext.Current.CancellationToken);

    /// <summary>Calls for a caller through the gateway.</summary>
    public async Task<Answer> CallAsync(CallerFacts? caller, HttpMethod method, string path, object? body = null, Action<HttpRequestMessage>? change = null)
    {
        var json = body switch { null => null, string text => text, _ => JsonSerializer.Serialize(body) };
        using var answer = await Gateway.SendAsync(caller, method, path, json, TestContext.Current.CancellationToken, change);
        return new Answer((int)answer.StatusCode, await answer.Content.ReadAsStringAsync(TestContext.Current.CancellationToken), answer.Headers);
    }

    /// <summary>Calls for a caller with a body that is no text.</summary>
    public Task<Answer> CallBytesAsync(CallerFacts caller, HttpMethod method, string path, byte[] body) => CallAsync(caller, method, path, "", request =>
    {
        var assertion = Gateway.New(caller, own: false) with { Use = Assertion.WriteUse, Htm = method.Method, Htu = path, Bh = Assertion.BodyHash(body) };
        request.Headers.Remove(FoundryHeaders.Assertion);
        request.Headers.Add(FoundryHeaders.Assertion, assertion.Sign(_gatewayKey));
        request.Content = new ByteArrayContent(body) { Headers = { ContentType = new("application/json") } };
    });

    public async Task<Answer> MakeTenantAsync(string tenantId = "acme-corp", int maxVms = 10)
    {
        var answer = await CallAsync(Admin, HttpMethod.Post, "/v1/tenants", new { tenant_id = tenantId, display_name = "Acme", max_vms = maxVms, storage_quota_gb = 100, api_rate_limit_rpm = 600 });
        Assert.Equal(201, answer.Status);
        return answer;
    }

    /// <summary>Issues a token for a new key.</summary>
    public async Task<IssuedToken> IssueAsync(CallerFacts caller, string? tenantId, string scope, long seconds = 3600)
    {
        using var subject = SigningKey.Generate();
        var answer = await CallAsync(caller, HttpMethod.Post, "/v1/tokens", new { subject_pubkey = subject.Public.X, scope, expires_in_seconds = seconds, tenant_id = tenantId });
        Assert.True(answer.Status == 201, answer.Text);
        return JsonSerializer.Deserialize(answer.Text, WireJson.Default.IssuedToken)!;
    }

    /// <summary>The tenant's administrator, by a token of their own.</summary>
    public async Task<CallerFacts> TenantAdminAsync(string tenantId = "acme-corp", long seconds = 86_400) => FactsOf(await IssueAsync(Admin, tenantId, "service:tenant-admin", seconds));

    public static CallerFacts FactsOf(IssuedToken token) => new(token.TenantId, token.Scope, token.SubjectPubkey, token.TokenId, token.ExpiresAt.ToUnixTimeSeconds());

    public async Task<KeySet> JwksAsync()
    {
        using var document = JsonDocument.Parse(await Gateway.Client.GetStringAsync("/.well-known/jwks.json", TestContext.Current.CancellationToken));
        return new KeySet([.. document.RootElement.GetProperty("keys").EnumerateArray().Select(key => VerifyingKey.TryCreate(key.GetProperty("x").GetString(), out var parsed) ? parsed : throw new InvalidOperationException())]);
    }

    public async Task<string?> ReasonAsync(string token)
    {
        var answer = await CallAsync(null, HttpMethod.Post, "/v1/tokens/verify", new { token });
        return answer.Status == 200 ? null : answer.Json.GetProperty("reason").GetString();
    }

    /// <summary>The trust set in force, checked against the root that issuance announced.</summary>
    public async Task<TrustSet> TrustAsync()
    {
        var answer = JsonSerializer.Deserialize(await Gateway.Client.GetStringAsync("/internal/v1/trust", TestContext.Current.CancellationToken), WireJson.Default.TrustAnswer)!;
        Assert.True(VerifyingKey.TryCreate(answer.Root, out var root));
        Assert.Equal(Setup.RootThumbprint, root.Kid);
        Assert.True(TrustSet.TryVerify(answer.Trust, root, out var set));
        return set;
    }

    /// <summary>A snapshot's parts, in order and of one moment, put together.</summary>
    public async Task<FeedMessage> SnapshotAsync()
    {
        var parts = await SnapshotPartsAsync();
        return parts[0] with
        {
            Changes = [.. parts.SelectMany(part => part.Changes), .. parts.SelectMany(part => RevokedOf(part)).Select(revoked => new Change("revoked", Revoked: revoked))],
            Revoked = null,
            More = false,
        };
    }

    public async Task<IReadOnlyList<FeedMessage>> SnapshotPartsAsync()
    {
        using var answer = await Gateway.SendAsItselfAsync(HttpMethod.Get, "/internal/v1/snapshot", null, TestContext.Current.CancellationToken);
        answer.EnsureSuccessStatusCode();
        var parts = new List<FeedMessage>();
        foreach (var line in (await answer.Content.ReadAsStringAsync(TestContext.Current.CancellationToken)).TrimEnd('\n').Split('\n'))
            parts.Add(await ReadLineAsync(line));
        for (var number = 0; number < parts.Count; number++)
            Assert.Equal((number + 1, number < parts.Count - 1, parts[0].To, parts[0].Hash, parts[0].Time), (parts[number].Part, parts[number].More, parts[number].To, parts[number].Hash, parts[number].Time));
        return parts;
    }

    private static IEnumerable<RevokedToken> RevokedOf(FeedMessage part)
    {
        var packed = part.Revoked.GetValueOrDefault();
        for (var at = 0; at < packed.Length; at += RevokedToken.PackedBytes)
        {
            var (jti, exp) = RevokedToken.Unpack(packed.Span[at..]);
            yield return new(jti.ToString("D"), exp);
        }
    }

    public Task<Following> FollowAsync(FeedMessage reached) => FollowAsync(reached.To, reached.Hash);

    public async Task<Following> FollowAsync(long since, string hash)
    {
        var answer = await Gateway.SendAsItselfAsync(HttpMethod.Get, $"/internal/v1/changes?since={since}&hash={hash}", null, TestContext.Current.CancellationToken);
        return new Following(this, answer, answer.IsSuccessStatusCode ? new StreamReader(await answer.Content.ReadAsStreamAsync(TestContext.Current.CancellationToken)) : null);
    }

    /// <summary>The hash at each number that can be followed from.</summary>
    public async Task<Dictionary<long, string>> HashesAsync()
    {
        var database = App.Services.GetRequiredService<Journal>().Database;
        var rows = await database.ReadAllAsync<(long Seq, string Hash)>("SELECT seq - 1, hash_before FROM changes UNION ALL SELECT feed_seq, feed_hash FROM platform", null, TestContext.Current.CancellationToken);
        return rows.ToDictionary(row => row.Seq, row => row.Hash);
    }

    /// <summary>Tells the gateways of so many tokens that were never issued.</summary>
    public Task RevokeUnissuedAsync(int count) =>
        App.Services.GetRequiredService<Journal>().WriteAsync(async entry =>
        {
            for (var number = 0; number < count; number++)
                await entry.ChangeAsync(new Change("revoked", Revoked: new RevokedToken(Guid.NewGuid().ToString(), 1)));
            return 0;
        }, TestContext.Current.CancellationToken);

    /// <summary>A line of the feed, believed only with issuance's signature.</summary>
    public async Task<FeedMessage> ReadLineAsync(string line)
    {
        Assert.True(Jws.TryParse(line, FeedMessage.Typ, out var jws, out _, FeedMessage.LineCharsMax));
        var trust = await TrustAsync();
        using var poll = new PeriodicTimer(TimeSpan.FromMilliseconds(50));
        // Another process's key reaches this one when it next looks at the database they share.
        for (var attempt = 0; attempt < 200 && trust.Keys.All(key => key.Kid != jws.Kid); attempt++)
        {
            await poll.WaitForNextTickAsync(TestContext.Current.CancellationToken);
            trust = await TrustAsync();
        }
        Assert.Contains(trust.KeysOf(TrustedKey.Service).Keys, key => key.Kid == jws.Kid && jws.IsSignedBy(key));
        Assert.Equal("issuance", trust.Keys.Single(key => key.Kid == jws.Kid).Name);
        return JsonSerializer.Deserialize(jws.Payload, WireJson.Default.FeedMessage)!;
    }

    public string ReadAdminTokenText() => File.ReadAllText(Path.Combine(Folder, "admin.token")).TrimEnd('\n');

    public CapabilityToken ReadAdminToken()
    {
        Assert.True(Jws.TryParse(ReadAdminTokenText(), CapabilityToken.Typ, out _, out _));
        var payload = Convert.FromBase64String(Pad(ReadAdminTokenText().Split('.')[1]));
        using var claims = JsonDocument.Parse(payload);
        var root = claims.RootElement;
        return new()
        {
            Iss = root.GetProperty("iss").GetString()!,
            Aud = root.GetProperty("aud").GetString()!,
            Jti = root.GetProperty("jti").GetString()!,
            Iat = root.GetProperty("iat").GetInt64(),
            Nbf = root.GetProperty("nbf").GetInt64(),
            Exp = root.GetProperty("exp").GetInt64(),
            Sub = root.GetProperty("sub").GetString()!,
            Scope = root.GetProperty("scope").GetString()!,
            SubjectPubkey = root.GetProperty("subject_pubkey").GetString()!,
        };
    }

    public async ValueTask DisposeAsync()
    {
        await StopAsync();
        await Ledger.DisposeAsync();
        await Fleet.DisposeAsync();
        _gatewayKey.Dispose();
        if (_store == Stores.Postgres)
            await Stores.DropAsync(_schema, StateFolder.Open(_temp.Path));
        _temp.Dispose();
    }

    /// <summary>The settings of a process of this part over a folder.</summary>
    public Dictionary<string, string?> SettingsOf(string folder)
    {
        var settings = new Dictionary<string, string?>
        {
            ["Issuance:Listen"] = "http://127.0.0.1:0",
            ["Issuance:Data"] = folder,
            ["Issuance:Database"] = Stores.Of(_store, _schema),
            ["Trust:JoinCode"] = JoinCode,
            ["Ledger:Url"] = Ledger.Url,
            ["Fleet:Url"] = Fleet.Url,
            ["Log:Level"] = "Fatal",
        };
        foreach (var (key, value) in Settings)
            settings[key] = value;
        return settings;
    }

    public IConfiguration Configuration(string folder) => new ConfigurationBuilder().AddInMemoryCollection(SettingsOf(folder)).Build();

    public async Task<(WebApplication App, IssuanceSetup Setup)> BuildAsync(string folder)
    {
        var builder = ServiceHost.CreateBuilder("issuance", SettingsOf(folder));
        builder.Services.Replace(ServiceDescriptor.Singleton(Clock));
        var setup = await builder.AddIssuanceAsync();
        var app = builder.Build();
        app.MapIssuance();
        return (app, setup);
    }

    private static string Pad(string base64Url) => base64Url.Replace('-', '+').Replace('_', '/').PadRight((base64Url.Length + 3) / 4 * 4, '=');
}

/// <summary>What a call was answered.</summary>
internal sealed record Answer(int Status, string Text, System.Net.Http.Headers.HttpResponseHeaders Headers)
{
    public JsonElement Json => JsonDocument.Parse(Text).RootElement;

    public string? Code => Status < 400 ? null : Json.GetProperty("code").GetString();

    public string? Detail => Status < 400 ? null : Json.GetProperty("detail").GetString();
}

/// <summary>A gateway's connection to the change feed.</summary>
internal sealed class Following(IssuancePart part, HttpResponseMessage answer, StreamReader? lines) : IDisposable
{
    public int Status => (int)answer.StatusCode;

    /// <summary>The next line, also a heartbeat; null where the connection ended.</summary>
    public async Task<FeedMessage?> NextAsync()
    {
        var line = await lines!.ReadLineAsync(TestContext.Current.CancellationToken).AsTask().WaitAsync(TimeSpan.FromSeconds(30), TestContext.Current.CancellationToken);
        return line is null ? null : await part.ReadLineAsync(line);
    }

    /// <summary>The next line that says something.</summary>
    public async Task<FeedMessage> NewsAsync()
    {
        FeedMessage? message;
        do
            message = await NextAsync() ?? throw new IOException("The feed ended.");
        while (message.Changes.Count == 0);
        return message;
    }

    public void Dispose()
    {
        lines?.Dispose();
        answer.Dispose();
    }
}
