using System.Globalization;
using Foundry.Contracts;
using Foundry.Gateway.Authenticate;

namespace Foundry.Gateway.Admit;

/// <summary>Is it their turn? (CONTRACT section 4, step 4.) Nodes have their own lane; everybody else the tenant's rate.</summary>
internal sealed class RateGate(RateLimiter limiter, HeartbeatLane heartbeats, TenantDirectory directory)
{
    // draft-ietf-httpapi-ratelimit-headers-10.
    private const string PolicyHeader = "RateLimit-Policy";
    private const string RateHeader = "RateLimit";
    private const string ModeHeader = "X-Foundry-Limiter";

    /// <summary>Spends the request's cost.</summary>
    /// <param name="exchange">The request, its caller known.</param>
    /// <returns>Why not, or null.</returns>
    public async ValueTask<Refusal?> AdmitAsync(Exchange exchange)
    {
        var (route, caller) = (exchange.Route!, exchange.Caller);
        if (caller.Token is not { } token)
            return null; // Anonymous: the address's lane was asked when nobody was found to be calling.
        if (route.HeartbeatLane)
            return heartbeats.TrySpend(caller);
        if (route.RateCost == 0)
            return null;
        var verdict = (caller.TenantId ?? NamedTenant(exchange)) is { } tenantId && directory.Find(tenantId) is { } tenant
            ? await limiter.SpendAsync(tenant, route.RateCost)
            : limiter.SpendPlatform(token.Jti);
        var headers = exchange.AnswerHeaders;
        headers[PolicyHeader] = string.Create(CultureInfo.InvariantCulture, $"\"tenant\";q={verdict.Limit};w=60");
        headers[RateHeader] = string.Create(CultureInfo.InvariantCulture, $"\"tenant\";r={verdict.Remaining};t={(long)Math.Ceiling(verdict.FullIn.TotalSeconds)}");
        if (verdict.Local)
            headers[ModeHeader] = "local";
        exchange.PutAnswerHeaders();
        return verdict.RetryAfter is not { } wait ? null
            : new Refusal(ErrorCode.RateLimited, $"The tenant's rate is {verdict.Limit} requests a minute, with {RateLimiter.Burst(verdict.Limit)} at once.") { RetryAfter = wait };
    }

    /// <summary>A platform token is charged to the tenant that its query names; one that only its body names comes too late for this step.</summary>
    private static string? NamedTenant(Exchange exchange) => exchange.Context.Request.Query["tenant_id"] is [{ } named] ? named : null;
}
