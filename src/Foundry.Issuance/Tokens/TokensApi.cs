using Foundry.Contracts;
using Foundry.Issuance.Changes;
using Foundry.ServiceDefaults;
using Foundry.ServiceDefaults.Trust;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;

namespace Foundry.Issuance.Tokens;

/// <summary>Capability tokens (CONTRACT section 3). A token is shown once, in the answer to its issue.</summary>
internal static class TokensApi
{
    private const string Issue = "/v1/tokens";
    private const string IssueInTenant = "/v1/tenants/{id}/tokens";
    private const int VerifyBytesMax = 8 * 1024;

    public static void MapTokens(this IEndpointRouteBuilder routes)
    {
        // Issue: 201; 403 scope_not_grantable or tenant_mismatch; 422 invalid_value, expiry_exceeds_issuer or tenant_required.
        // 409 tenant_deleting. With an Idempotency-Key: 422 idempotency_key_reused, 409 answer_gone once the signing key has changed.
        routes.MapPost(Issue, (HttpContext context, TokenBook tokens) => IssueAsync(context, tokens, null, Issue));
        routes.MapPost(IssueInTenant, (HttpContext context, TokenBook tokens, string id) => IssueAsync(context, tokens, id, IssueInTenant));
        // Metadata, never the token: the active ones, and with ?include=revoked,expired those too.
        routes.MapGet("/v1/tenants/{id}/tokens", ListAsync);
        routes.MapGet("/v1/tokens/{id}", FindAsync);
        // Revoke by token ID or subject key: 204, again 204; unknown or foreign 404. ?descendants=true: what was issued under it, too.
        routes.MapDelete("/v1/tokens/{id}", RevokeAsync);
        // Anyone: 200 what the token says, or 401 with the reason.
        routes.MapPost("/v1/tokens/verify", VerifyAsync);
    }

    private static async Task<IResult> IssueAsync(HttpContext context, TokenBook tokens, string? tenantId, string route)
    {
        var caller = Asserted.Of(context);
        if ((tenantId is null ? Callers.RefuseAdmin(caller) : Callers.RefuseTenant(caller, tenantId)) is { } refused)
            return refused;
        var (request, refusal) = await Problems.ReadBodyAsync(context, WireJson.Default.TokenRequest);
        if (request is null)
            return refusal!;
        var (key, malformed) = await IdempotencyKey.ReadAsync(context, route);
        if (malformed is not null)
            return malformed;
        var issued = await tokens.IssueAsync(caller, tenantId, request, key, RequestId.Of(context), context.RequestAborted);
        if (issued.Refusal is { } notIssued)
            return notIssued;
        var (token, isReplay) = issued.Value;
        if (isReplay)
            context.Response.Headers[IdempotencyKey.ReplayedHeader] = "true";
        context.Response.Headers.Location = $"/v1/tokens/{token.TokenId}";
        context.Response.Headers.CacheControl = "no-store";
        return Results.Json(token, WireJson.Default.IssuedToken, statusCode: StatusCodes.Status201Created);
    }

    private static async Task<IResult> ListAsync(HttpContext context, TokenBook tokens, string id)
    {
        if (Callers.RefuseTenant(Asserted.Of(context), id) is { } refused)
            return refused;
        var list = $"tokens {id}";
        if (!Queries.TryPage(context, list, out var after, out var limit, out var refusal) || !Queries.TryOne(context, "include", out var include, out refusal))
            return refusal!;
        var included = include?.Split(',') ?? [];
        if (included.Any(item => item is not ("revoked" or "expired")))
            return new Refused(ErrorCode.InvalidQuery, "include: revoked, expired, or both with a comma.");
        return await tokens.ListAsync(id, included.Contains("revoked"), included.Contains("expired"), after, limit, context.RequestAborted) is { } items
            ? Results.Json(Queries.Page(list, items, limit, item => item.TokenId), WireJson.Default.PageTokenMetadata)
            : Callers.NotFound;
    }

    private static async Task<IResult> FindAsync(HttpContext context, TokenBook tokens, string id)
    {
        var caller = Asserted.Of(context);
        return Callers.RefuseAdmin(caller)
            ?? (await tokens.FindAsync(caller, id, context.RequestAborted) is { } found ? Results.Json(found, WireJson.Default.TokenMetadata) : Callers.NotFound);
    }

    private static async Task<IResult> RevokeAsync(HttpContext context, TokenBook tokens, string id)
    {
        var caller = Asserted.Of(context);
        if (Callers.RefuseAdmin(caller) is { } refused)
            return refused;
        if (!Queries.TryFlag(context, "descendants", out var descendants, out var refusal))
            return refusal!;
        var revoked = await tokens.RevokeAsync(caller, id, descendants, RequestId.Of(context), context.RequestAborted);
        return revoked.Refusal ?? Results.NoContent();
    }

    private static async Task<IResult> VerifyAsync(HttpContext context, TokenBook tokens)
    {
        if (context.Request.Body.Length > VerifyBytesMax)
            return new Refused(ErrorCode.BodyTooLarge, "A token to be verified comes in a body of at most 8 KB.");
        var (request, refusal) = await Problems.ReadBodyAsync(context, WireJson.Default.VerifyRequest);
        if (request is null)
            return refusal!;
        context.Response.Headers.CacheControl = "no-store";
        var (token, reason) = await tokens.VerifyAsync(request.Token, context.RequestAborted);
        return token is null ? new InvalidTokenResult(reason) : Results.Json(token, WireJson.Default.VerifiedToken);
    }
}
