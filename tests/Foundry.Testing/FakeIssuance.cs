using System.Collections.Concurrent;
using System.Text.Json;
using Foundry.Contracts;
using Foundry.Tokens;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;

namespace Foundry.Testing;

/// <summary>A capability token and what it says.</summary>
public sealed record MintedToken(string Text, CapabilityToken Claims);

/// <summary>
/// Issuance as its followers see it: trust set, join, snapshot and change feed, all really signed. A test makes tenants and
/// tokens, suspends, revokes and rotates at will; whatever a gateway forwards is written down and answered with <c>{}</c>.
/// </summary>
public sealed class FakeIssuance : IAsyncDisposable
{
    public const string Issuer = "http://127.0.0.1:9221";
    public const string JoinCode = "the-code-of-this-test";
    private static readonly TimeSpan Heartbeat = TimeSpan.FromMilliseconds(250);

    private readonly Lock _lock = new();
    private readonly TimeProvider _time;
    private readonly SigningKey _root = SigningKey.Generate();
    private readonly SigningKey _service = SigningKey.Generate();
    private readonly CancellationTokenSource _stopping = new();
    private readonly List<TrustedKey> _keys = [];
    private readonly Dictionary<string, Tenant> _tenants = new(StringComparer.Ordinal);
    private readonly List<RevokedToken> _revoked = [];
    private readonly List<Change> _changes = [];
    private TaskCompletionSource _changed = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private long _trustSeq = 1;
    private int _trustFetches;
    private int _snapshots;
    private int _history;
    private LoopbackHost? _host;

    private FakeIssuance(TimeProvider time)
    {
        _time = time;
        SigningKey = SigningKey.Generate();
        _keys.Add(FixedTrust.Entry(_service, TrustedKey.Service, "issuance"));
        _keys.Add(FixedTrust.Entry(SigningKey, TrustedKey.Token, "tokens"));
    }

    public Uri Url => _host!.BaseAddress;

    public string RootThumbprint => _root.Kid;

    /// <summary>The key that signs tokens now.</summary>
    public SigningKey SigningKey { get; private set; }

    /// <summary>How often somebody asked for the trust set.</summary>
    public int TrustFetches => Volatile.Read(ref _trustFetches);

    /// <summary>While true, the feed's connections stay open and nothing comes over them.</summary>
    public bool IsSilent { get; set; }

    /// <summary>How often somebody took a snapshot.</summary>
    public int Snapshots => Volatile.Read(ref _snapshots);

    /// <summary>What a snapshot's second part waits for, if anything.</summary>
    public TaskCompletionSource? SecondPart { get; set; }

    /// <summary>How far issuance's clock is behind everybody else's.</summary>
    public TimeSpan ClockBehind { get; set; }

    /// <summary>The change number reached.</summary>
    public long Seq
    {
        get
        {
            lock (_lock)
                return _changes.Count;
        }
    }

    /// <summary>What gateways forwarded: method and target.</summary>
    public ConcurrentQueue<(string Method, string Target, IReadOnlyDictionary<string, string> Headers)> Forwarded { get; } = [];

    public static async Task<FakeIssuance> StartAsync(TimeProvider time, CancellationToken cancellationToken)
    {
        var issuance = new FakeIssuance(time);
        issuance._host = await LoopbackHost.StartAsync(_ => { }, app => app.Run(issuance.AnswerAsync), cancellationToken);
        return issuance;
    }

    /// <summary>A tenant that could hardly be too fast or too large.</summary>
    public Tenant CreateTenant(string tenantId, Func<Tenant, Tenant>? change = null)
    {
        var tenant = new Tenant(tenantId, tenantId, 1000, 1_000_000, 6_000_000, null, false, Tenant.Active, _time.GetUtcNow());
        return Put(change?.Invoke(tenant) ?? tenant);
    }

    public Tenant Change(string tenantId, Func<Tenant, Tenant> change)
    {
        lock (_lock)
            return Put(change(_tenants[tenantId]));
    }

    public void Delete(string tenantId) => Publish(new Change("tenant_deleted", TenantId: tenantId), () => _tenants.Remove(tenantId));

    public void Revoke(CapabilityToken token)
    {
        var revoked = new RevokedToken(token.Jti, token.Exp);
        Publish(new Change("revoked", Revoked: revoked), () => _revoked.Add(revoked));
    }

    /// <summary>As if its store had been restored from an older copy and gone on: the same numbers, another history.</summary>
    public void Restore(int changesLost)
    {
        lock (_lock)
        {
            foreach (var revoked in _changes.TakeLast(changesLost).Select(change => change.Revoked).OfType<RevokedToken>())
                _revoked.Remove(revoked);
            _changes.RemoveRange(_changes.Count - changesLost, changesLost);
            _history++;
        }
    }

    /// <summary>A new key signs from now on; the old one goes on verifying.</summary>
    /// <param name="announce">Whether the feed tells of it; otherwise only who asks for the trust set hears.</param>
    public void Rotate(bool announce = true)
    {
        SigningKey = SigningKey.Generate();
        var entry = FixedTrust.Entry(SigningKey, TrustedKey.Token, "tokens");
        ChangeTrust(keys => keys.Add(entry), announce);
    }

    /// <summary>A key is believed no longer.</summary>
    public void Withdraw(string kid) => ChangeTrust(keys => keys.RemoveAll(key => key.Kid == kid), announce: true);

    public MintedToken Mint(string? tenantId, string scope, Func<CapabilityToken, CapabilityToken>? change = null, SigningKey? key = null)
    {
        using var subject = SigningKey.Generate();
        var now = _time.GetUtcNow().ToUnixTimeSeconds();
        var token = new CapabilityToken
        {
            Iss = Issuer,
            Aud = CapabilityToken.Audience,
            Jti = Guid.CreateVersion7().ToString(),
            Iat = now,
            Nbf = now,
            Exp = now + 3600,
            TenantId = tenantId,
            Sub = subject.Public.X,
            Scope = scope,
            SubjectPubkey = subject.Public.X,
        };
        token = change?.Invoke(token) ?? token;
        return new MintedToken(token.Sign(key ?? SigningKey), token);
    }

    /// <summary>The public key that a gateway of this name joined with.</summary>
    public TrustedKey KeyOf(string name)
    {
        lock (_lock)
            return _keys.Single(key => key.Name == name);
    }

    /// <summary>Issuance is gone, with every connection to it.</summary>
    public async ValueTask DisposeAsync()
    {
        if (_stopping.IsCancellationRequested)
            return;
        await _stopping.CancelAsync();
        await _host!.DisposeAsync();
    }

    private Tenant Put(Tenant tenant)
    {
        Publish(new Change("tenant", Tenant: tenant), () => _tenants[tenant.TenantId] = tenant);
        return tenant;
    }

    private void ChangeTrust(Action<List<TrustedKey>> change, bool announce)
    {
        lock (_lock)
        {
            change(_keys);
            _trustSeq++;
            if (announce)
                Publish(TrustChange(), () => { });
        }
    }

    private void Publish(Change change, Action apply)
    {
        TaskCompletionSource changed;
        lock (_lock)
        {
            apply();
            _changes.Add(change);
            (changed, _changed) = (_changed, new(TaskCreationOptions.RunContinuationsAsynchronously));
        }
        changed.SetResult();
    }

    private async Task AnswerAsync(HttpContext context)
    {
        switch (context.Request.Path.Value)
        {
            case "/internal/v1/trust":
                Interlocked.Increment(ref _trustFetches);
                string trust;
                lock (_lock)
                    trust = JsonSerializer.Serialize(Trust(), WireJson.Default.TrustAnswer);
                context.Response.ContentType = "application/json";
                await context.Response.WriteAsync(trust, context.RequestAborted);
                return;
            case "/internal/v1/join":
                await JoinAsync(context);
                return;
            case "/internal/v1/snapshot":
                Interlocked.Increment(ref _snapshots);
                string snapshot;
                lock (_lock)
                    snapshot = SnapshotLines();
                var parts = snapshot.Split('\n');
                await context.Response.WriteAsync(parts[0] + "\n", context.RequestAborted);
                await context.Response.Body.FlushAsync(context.RequestAborted);
                if (SecondPart is { } wait)
                    await wait.Task.WaitAsync(context.RequestAborted);
                await context.Response.WriteAsync(parts[1] + "\n", context.RequestAborted);
                return;
            case "/internal/v1/changes":
                await StreamAsync(context);
                return;
            default:
                Forwarded.Enqueue((context.Request.Method, context.Features.GetRequiredFeature<IHttpRequestFeature>().RawTarget, context.Request.Headers.ToDictionary(header => header.Key, header => header.Value.ToString(), StringComparer.OrdinalIgnoreCase)));
                context.Response.ContentType = "application/json";
                await context.Response.WriteAsync("{}", context.RequestAborted);
                return;
        }
    }

    private async Task JoinAsync(HttpContext context)
    {
        var request = await JsonSerializer.DeserializeAsync(context.Request.Body, WireJson.Default.JoinRequest, context.RequestAborted);
        if (request is not { Kind: { } kind, Name: { } name, X: { } x, Code: JoinCode } || !VerifyingKey.TryCreate(x, out var key))
        {
            context.Response.StatusCode = 401;
            return;
        }
        ChangeTrust(keys => keys.Add(new TrustedKey(key.Kid, kind, name, x)), announce: true);
    }

    private async Task StreamAsync(HttpContext context)
    {
        using var end = CancellationTokenSource.CreateLinkedTokenSource(context.RequestAborted, _stopping.Token);
        var since = long.Parse(context.Request.Query["since"].ToString());
        bool isOurs;
        lock (_lock)
            isOurs = since <= _changes.Count && context.Request.Query["hash"] == HashOf(since);
        if (!isOurs)
        {
            context.Response.StatusCode = 410;
            return;
        }
        await context.Response.StartAsync(end.Token);
        try
        {
            while (true)
            {
                Task changed;
                string? line;
                lock (_lock)
                {
                    if (since > _changes.Count)
                        return;
                    changed = _changed.Task;
                    line = IsSilent ? null : Line(new(1, FeedMessage.Delta, since, _changes.Count, _time.GetUtcNow() - ClockBehind, _changes.GetRange((int)since, _changes.Count - (int)since), HashOf(since), HashOf(_changes.Count)));
                    since = line is null ? since : _changes.Count;
                }
                if (line is not null)
                {
                    await context.Response.WriteAsync(line, end.Token);
                    await context.Response.Body.FlushAsync(end.Token);
                }
                await Task.WhenAny(changed, Task.Delay(Heartbeat, end.Token));
                end.Token.ThrowIfCancellationRequested();
            }
        }
        catch (OperationCanceledException)
        {
            context.Abort();
        }
    }

    private Change TrustChange() => new("trust", Trust: JsonSerializer.Serialize(Trust(), WireJson.Default.TrustAnswer));

    private TrustAnswer Trust() => new(1, _root.Public.X, new TrustSet(1, _trustSeq, _time.GetUtcNow().ToUnixTimeSeconds(), Issuer, [.. _keys]).Sign(_root));

    /// <summary>Two parts: the tenants, and the revoked tokens.</summary>
    private string SnapshotLines()
    {
        var whole = new FeedMessage(1, FeedMessage.Snapshot, 0, _changes.Count, _time.GetUtcNow(), [], "", HashOf(_changes.Count));
        var revoked = new byte[_revoked.Count * RevokedToken.PackedBytes];
        for (var number = 0; number < _revoked.Count; number++)
            RevokedToken.Pack(Guid.Parse(_revoked[number].Jti), _revoked[number].Exp, revoked.AsSpan(number * RevokedToken.PackedBytes));
        return Line(whole with { Changes = [TrustChange(), .. _tenants.Values.Select(tenant => new Change("tenant", Tenant: tenant))], More = true })
            + Line(whole with { Part = 2, Revoked = revoked });
    }

    private string HashOf(long seq) => $"{_history}-{seq}";

    private string Line(FeedMessage message) => Jws.Sign(_service, FeedMessage.Typ, JsonSerializer.SerializeToUtf8Bytes(message, WireJson.Default.FeedMessage)) + "\n";
}
