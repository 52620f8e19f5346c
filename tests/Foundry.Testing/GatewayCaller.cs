using System.Net.Http.Headers;
using System.Text;
using Foundry.Contracts;
using Foundry.Tokens;
using Microsoft.Extensions.DependencyInjection;

namespace Foundry.Testing;

/// <summary>For whom a gateway calls: the facts of a verified token.</summary>
public sealed record CallerFacts(string? TenantId, string Scope, string SubjectPubkey, string TokenId, long TokenExp, bool Proved = false)
{
    /// <summary>A caller with a key of its own and a token that nobody has heard of.</summary>
    public static CallerFacts Of(string? tenantId, string scope, DateTimeOffset expires)
    {
        using var key = SigningKey.Generate();
        return new(tenantId, scope, key.Public.X, Guid.CreateVersion7().ToString(), expires.ToUnixTimeSeconds());
    }
}

/// <summary>
/// Speaks to a backend of ours as a gateway does: each request carries an assertion by the gateway's own key, for a
/// caller, for nobody (an anonymous route), or for the gateway itself.
/// </summary>
public sealed class GatewayCaller : IDisposable
{
    private readonly SigningKey _key;
    private readonly string _name;
    private readonly string _audience;
    private readonly Uri _backend;
    private readonly TimeProvider _time;
    private readonly ServiceProvider _services = new ServiceCollection().AddHttpClient().BuildServiceProvider();

    /// <param name="key">The gateway's own key.</param>
    /// <param name="name">Its name in the trust set.</param>
    /// <param name="audience">The backend's cluster ID.</param>
    /// <param name="backend">Where the backend listens.</param>
    /// <param name="time">The clock both go by.</param>
    public GatewayCaller(SigningKey key, string name, string audience, Uri backend, TimeProvider time)
    {
        (_key, _name, _audience, _backend, _time) = (key, name, audience, backend, time);
        Client = _services.GetRequiredService<IHttpClientFactory>().CreateClient();
        Client.BaseAddress = backend;
        Client.Timeout = TimeSpan.FromSeconds(30);
    }

    /// <summary>The bare client: what it sends carries no assertion.</summary>
    public HttpClient Client { get; }

    /// <summary>Sends for a caller; null is nobody, as on an anonymous route.</summary>
    public Task<HttpResponseMessage> SendAsync(CallerFacts? caller, HttpMethod method, string path, string? json = null,
        CancellationToken cancellationToken = default, Action<HttpRequestMessage>? change = null) =>
        SendAsync(New(caller, own: false), method, path, json, HttpCompletionOption.ResponseContentRead, cancellationToken, change);

    /// <summary>Sends for the gateway itself; the answer's body is left to be read as it comes.</summary>
    public Task<HttpResponseMessage> SendAsItselfAsync(HttpMethod method, string path, string? json = null, CancellationToken cancellationToken = default) =>
        SendAsync(New(null, own: true), method, path, json, HttpCompletionOption.ResponseHeadersRead, cancellationToken, null);

    /// <summary>Sends with exactly this assertion, bound to the request where it is a write.</summary>
    public async Task<HttpResponseMessage> SendAsync(Assertion assertion, HttpMethod method, string path, string? json,
        HttpCompletionOption completion, CancellationToken cancellationToken, Action<HttpRequestMessage>? change = null)
    {
        var body = Encoding.UTF8.GetBytes(json ?? "");
        if (method != HttpMethod.Get && method != HttpMethod.Head)
            assertion = assertion with { Use = Assertion.WriteUse, Htm = method.Method, Htu = path, Bh = Assertion.BodyHash(body) };
        using var request = new HttpRequestMessage(method, new Uri(_backend, path));
        request.Headers.TryAddWithoutValidation(FoundryHeaders.Assertion, assertion.Sign(_key));
        if (json is not null)
            request.Content = new ByteArrayContent(body) { Headers = { ContentType = new MediaTypeHeaderValue("application/json") } };
        change?.Invoke(request);
        return await Client.SendAsync(request, completion, cancellationToken);
    }

    /// <summary>An assertion by this gateway, good for reads.</summary>
    public Assertion New(CallerFacts? caller, bool own)
    {
        var now = _time.GetUtcNow();
        return new()
        {
            Iss = _name,
            Aud = _audience,
            Iat = now.ToUnixTimeSeconds(),
            Exp = (now + Assertion.Lifetime).ToUnixTimeSeconds(),
            Jti = Guid.CreateVersion7().ToString("N"),
            Use = Assertion.ReadUse,
            Own = own ? true : null,
            TenantId = caller?.TenantId,
            Scope = caller?.Scope,
            Sub = caller?.SubjectPubkey,
            SubjectPubkey = caller?.SubjectPubkey,
            TokenId = caller?.TokenId,
            TokenExp = caller?.TokenExp,
            Proof = caller is { Proved: true } ? true : null,
        };
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        Client.Dispose();
        _services.Dispose();
    }
}
