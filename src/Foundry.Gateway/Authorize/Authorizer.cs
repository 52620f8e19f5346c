using Foundry.Contracts;
using Foundry.Gateway.Authenticate;
using Foundry.Gateway.Bound;
using Foundry.Gateway.Config;
using Foundry.Tokens;

namespace Foundry.Gateway.Authorize;

/// <summary>May they do this? Local facts first, then whose the object is (CONTRACT section 4, step 5).</summary>
internal sealed class Authorizer(OwnerLookup owners, FeedFollower feed, GatewayOptions options)
{
    /// <summary>Decides, and fills in which tenant is served.</summary>
    /// <param name="exchange">The request, its caller known.</param>
    /// <returns>Why not, or null.</returns>
    public async ValueTask<Refusal?> AuthorizeAsync(Exchange exchange)
    {
        var route = exchange.Route!;
        var caller = exchange.Caller;
        if (!route.Scope.AllowsAnonymous)
        {
            if (!route.Scope.Allows(caller.Scope))
                return new Refusal(ErrorCode.InsufficientScope, $"This needs a token of scope {route.Scope.Text}; yours is {caller.Scope}.") { RequiredScope = route.Scope.Text };
            if (Recheck(exchange) is { } stale)
                return stale;
        }
        if (TenantClaims.ReadQuery(exchange) is { } query)
            return query;
        if (await RequestBounds.ReadBodyAsync(exchange) is { } body)
            return body;
        if (TenantClaims.ReadBody(exchange) is { } claims)
            return claims;
        return await OwnsAsync(exchange);
    }

    /// <summary>Whether what is allowed may begin, or go on, though issuance has not been heard for a while.</summary>
    /// <param name="exchange">The request, its caller known.</param>
    /// <returns>Why not, or null.</returns>
    public Refusal? Recheck(Exchange exchange) => IsTooStaleFor(exchange)
        ? new Refusal(ErrorCode.FeedStale, "What the gateway knows of revocations is too old for this scope.") { RetryAfter = TimeSpan.FromSeconds(5) } : null;

    private async ValueTask<Refusal?> OwnsAsync(Exchange exchange)
    {
        var caller = exchange.Caller;
        if (exchange.Route!.Own is not { } rule || caller.TenantId is not { } own)
            return await ChargedTenantAsync(exchange);
        var id = exchange.Parameters[rule.Parameter];
        if (rule.At is null)
            return id == own ? null : Refusal.NotFound;
        var (owner, refusal) = await owners.FindAsync(exchange.Route.ClusterId, rule, id, own, exchange.Context.RequestAborted);
        return refusal ?? (owner == own ? null : Refusal.NotFound);
    }

    /// <summary>A platform token that changes a quota is charged to the tenant it names, or to the object's owner.</summary>
    private async ValueTask<Refusal?> ChargedTenantAsync(Exchange exchange)
    {
        if (!exchange.Caller.IsPlatform || exchange.Route!.Quota == QuotaEffect.None)
            return null;
        if (exchange.Route.Own is { At: not null } rule)
        {
            var (owner, refusal) = await owners.FindAsync(exchange.Route.ClusterId, rule, exchange.Parameters[rule.Parameter], exchange.TenantId, exchange.Context.RequestAborted);
            if (refusal is not null || owner is null)
                return refusal ?? Refusal.NotFound;
            exchange.TenantId = owner;
        }
        return exchange.TenantId is not null ? null : new Refusal(ErrorCode.TenantRequired, "Name the tenant that this is for: tenant_id in the body.");
    }

    /// <summary>Reading, deleting and reporting go on when issuance has long been silent; making and administering do not.</summary>
    private bool IsTooStaleFor(Exchange exchange) =>
        feed.Silence > options.StalenessLimit && (exchange.Caller.Scope == Scope.Input || exchange.Caller.Scope.IsService)
        && !exchange.Route!.HeartbeatLane && !HttpMethods.IsDelete(exchange.Method);
}
