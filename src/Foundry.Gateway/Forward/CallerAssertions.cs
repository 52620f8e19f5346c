using System.Collections.Concurrent;
using Foundry.Gateway.Authenticate;
using Foundry.ServiceDefaults.Trust;
using Foundry.Tokens;

namespace Foundry.Gateway.Forward;

/// <summary>
/// What the gateway asserts to a backend about a caller (CONTRACT section 4): for reads one assertion per token and cluster, used
/// again for at most 15 s; for changes a fresh one each, bound to method, target and body.
/// </summary>
internal sealed class CallerAssertions(ServiceIdentity identity, TimeProvider time)
{
    private const int ReadsMax = 50_000;
    private readonly ConcurrentDictionary<(string Token, bool Proved, string Cluster), (string Text, DateTimeOffset Until)> _reads = new();

    /// <summary>An assertion that GET and HEAD may carry.</summary>
    /// <param name="caller">For whom.</param>
    /// <param name="cluster">To whom.</param>
    public string Read(Caller caller, string cluster)
    {
        var now = time.GetUtcNow();
        // A read that proved nothing must not borrow the assertion of one that did.
        var key = (caller.Token?.Jti ?? "", caller.Proved, cluster);
        if (_reads.TryGetValue(key, out var known) && now < known.Until)
            return known.Text;
        if (_reads.Count >= ReadsMax)
            _reads.Clear();
        var text = New(caller, cluster, Assertion.ReadUse, now).Sign(identity.Key);
        _reads[key] = (text, now + Assertion.ReuseMax);
        return text;
    }

    /// <summary>An assertion for one change.</summary>
    /// <param name="exchange">The request.</param>
    /// <param name="cluster">To whom.</param>
    /// <param name="target">Path and query exactly as they are sent.</param>
    public string Write(Exchange exchange, string cluster, string target) => (New(exchange.Caller, cluster, Assertion.WriteUse, time.GetUtcNow()) with
    {
        Htm = exchange.Context.Request.Method,
        Htu = target,
        Bh = Assertion.BodyHash(exchange.Body),
        RequestId = exchange.RequestId,
    }).Sign(identity.Key);

    private Assertion New(Caller caller, string cluster, string use, DateTimeOffset now) => new()
    {
        Iss = identity.Name,
        Aud = cluster,
        Iat = now.ToUnixTimeSeconds(),
        Exp = (now + Assertion.Lifetime).ToUnixTimeSeconds(),
        Jti = Guid.CreateVersion7().ToString("N"),
        Use = use,
        TenantId = caller.TenantId,
        Scope = caller.Token is null ? null : caller.Scope.Text,
        Sub = caller.Token?.Sub,
        SubjectPubkey = caller.Token?.SubjectPubkey,
        TokenId = caller.Token?.Jti,
        TokenExp = caller.Token?.Exp,
        Proof = caller.Proved ? true : null,
    };
}
