using Foundry.Contracts;
using Foundry.Gateway.Admit;
using Foundry.Gateway.Config;
using Foundry.Tokens;

namespace Foundry.Gateway.Authenticate;

/// <summary>
/// Is the sender of a token its holder? A proof of possession (RFC 9449 section 4.3) is for this request, at one of the gateway's
/// public origins and never at whatever <c>Host</c> says, with this token, by the key that the token names, and once.
/// </summary>
internal sealed class ProofChecker(SeenProofs seen, GatewayOptions options, GatewayMetrics metrics, TimeProvider time)
{
    /// <summary>The scheme of a token that comes with a proof.</summary>
    public const string Scheme = "DPoP";
    private const string Header = "DPoP";

    private static readonly Refusal Invalid = Refusal.InvalidToken(TokenRefusal.InvalidProof);
    private static readonly Refusal Away = new(ErrorCode.NotReady, "Whether a proof of possession was used before cannot be asked at the moment; nothing was done.") { RetryAfter = TimeSpan.FromSeconds(2) };
    private static readonly Refusal TooMany = new(ErrorCode.RateLimited, "More proofs of possession than the tenant's rate has requests.") { RetryAfter = TimeSpan.FromSeconds(10) };

    private HttpTarget[]? _origins;

    /// <summary>Looks for a proof where one was sent or is needed.</summary>
    /// <param name="exchange">The request.</param>
    /// <param name="text">The token as sent.</param>
    /// <param name="token">What it says; everything else about it has been checked.</param>
    /// <param name="scheme">The scheme it was sent with.</param>
    /// <param name="tenant">The token's tenant; null for a platform token.</param>
    /// <returns>Whether the sender has proved to be the holder, or why the request is refused.</returns>
    public async ValueTask<(bool Proved, Refusal? Refusal)> CheckAsync(Exchange exchange, string text, CapabilityToken token, string scheme, Tenant? tenant)
    {
        var needed = token.Cnf is not null || tenant is { RequireProof: true } || exchange.Route!.RequiresProof;
        // Sent as Bearer, a token proves nothing about its sender, whatever comes with it.
        if (scheme != Scheme)
            return (false, needed ? Invalid : null);
        var header = exchange.Context.Request.Headers[Header];
        if (header.Count != 1 || !DpopProof.TryParse(header[0], out var proof)
            || proof.Key.X != token.SubjectPubkey || token.Cnf is { } bound && bound.Jkt != proof.Key.Kid
            || !proof.Proves(exchange.Context.Request.Method, TargetsOf(exchange), text, time.GetUtcNow()))
            return (false, Invalid);

        // Last of all, so that only a holder with a good proof of a good token adds to what is remembered.
        switch (await seen.NoteAsync(token.TenantId ?? Logs.Platform, tenant?.ApiRateLimitRpm ?? RateLimiter.PlatformRpm, proof))
        {
            case Sighting.First:
                return (true, null);
            case Sighting.FirstHere:
                metrics.ProofCheckedLocally();
                // Another gateway could be shown the same proof: harmless for what only reads, and for a node's report, which is to go
                // on without the store; not for anything else.
                if (exchange.IsSafe || exchange.Route!.HeartbeatLane)
                    return (true, null);
                return (false, needed ? Away : null);
            case Sighting.TooMany:
                return (false, TooMany);
            default:
                return (false, Invalid);
        }
    }

    private IEnumerable<HttpTarget> TargetsOf(Exchange exchange)
    {
        // The port that clients come in by is the one port that is listened on.
        _origins ??= [.. options.Origins(exchange.Context.Connection.LocalPort).Select(origin => HttpTarget.TryParse(origin, out var parsed) ? parsed : throw new InvalidOperationException("Origins were validated at the start."))];
        foreach (var origin in _origins)
            if (HttpTarget.TryJoin(origin, exchange.RawPath, out var target))
                yield return target;
    }
}
