using Foundry.Contracts;
using Foundry.Issuance.Changes;
using Foundry.Issuance.Keys;
using Foundry.Issuance.Tenants;
using Foundry.ServiceDefaults;
using Foundry.ServiceDefaults.Trust;
using Foundry.Tokens;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;

namespace Foundry.Issuance.Tokens;

/// <summary>
/// Gives a holder, who proves to be it, its token as it would be issued today: same rights or fewer, same end
/// (docs/decisions/0009-proof-of-possession.md). Where nothing has changed that is the same token, character by character; else a new
/// one, which every later renewal finds again. So renewing makes no chain, and extends nothing.
/// </summary>
internal sealed class Renewal
{
    private readonly Journal _journal;
    private readonly TokenMint _mint;
    private readonly SigningKeys _keys;

    /// <summary>Makes one.</summary>
    public Renewal(Journal journal, TokenMint mint, SigningKeys keys) => (_journal, _mint, _keys) = (journal, mint, keys);

    /// <summary>Renews the token that the caller called with.</summary>
    /// <param name="caller">Whoever holds a token; the gateway has checked everything about it.</param>
    /// <param name="requestId">The request.</param>
    /// <param name="cancellationToken">Ends the wait for a turn.</param>
    public async Task<Outcome<IssuedToken>> RenewAsync(Asserted caller, string requestId, CancellationToken cancellationToken)
    {
        if (caller.IsOwn || caller.TokenId is null || !caller.Proved)
            return Refuse(TokenRefusal.InvalidProof);
        return await _journal.WriteForAsync(caller, async entry =>
        {
            var held = await entry.SingleAsync<TokenRow>($"SELECT {TokenRow.Columns} FROM tokens WHERE token_id = @TokenId", new { caller.TokenId });
            // What is renewed is what was issued, never what the token says: a key that leaked could have signed anything.
            if (held is null || held.SubjectPubkey != caller.SubjectPubkey || held.TenantId != caller.TenantId || held.Scope != caller.Scope?.Text)
                return Refuse(TokenRefusal.Revoked);
            if (!held.IsGood(entry.NowSeconds))
                return Refuse(TokenRefusal.Expired);
            if (held.TenantId is { } tenantId && await entry.SingleAsync<string>("SELECT status FROM tenants WHERE tenant_id = @tenantId", new { tenantId }) is var status and not Tenant.Active)
                return status == Tenant.Deleting ? TenantBook.BeingDeleted : Refuse(TokenRefusal.TenantSuspended);
            if (await _keys.CurrentAsync(entry) is not { } key)
                return TokenMint.NoKey;

            var bound = held.Bound != 0 || await TokenMint.RequiresProofAsync(entry, held.TenantId);
            var grant = held.Renews ?? held.TokenId;
            var current = await entry.SingleAsync<TokenRow>(
                $"SELECT {TokenRow.Columns} FROM tokens WHERE (token_id = @grant OR renews = @grant) AND kid = @Kid AND bound = @bound AND revoked_at IS NULL", new { grant, key.Kid, bound = bound ? 1 : 0 });
            return current is not null ? _mint.Sign(current, key) : await _mint.RenewAsync(entry, held, Doer.Of(caller, requestId));
        }, cancellationToken);

        static Outcome<IssuedToken> Refuse(TokenRefusal reason) => Outcome<IssuedToken>.Refused(new InvalidTokenResult(reason));
    }

    /// <summary>Tokens, and what is good of the same grants: a token, the one it renews and that one's other renewals.</summary>
    /// <param name="entry">The transaction.</param>
    /// <param name="tokens">The tokens.</param>
    public static async Task<IReadOnlyList<TokenRow>> WithRenewalsAsync(JournalEntry entry, IReadOnlyList<TokenRow> tokens)
    {
        var family = await entry.QueryForEachAsync<TokenRow>(
            $"SELECT {TokenRow.Columns} FROM tokens WHERE (token_id IN ({{some}}) OR renews IN ({{some}})) AND revoked_at IS NULL AND expires_at > @NowSeconds ORDER BY token_id",
            tokens.Select(token => token.Renews ?? token.TokenId).Distinct(), new { entry.NowSeconds });
        return [.. tokens.Concat(family).DistinctBy(token => token.TokenId)];
    }
}

/// <summary>Renewal's endpoint.</summary>
internal static class RenewalApi
{
    public static void MapRenewal(this IEndpointRouteBuilder routes) =>
        // Any holder, with proof of possession: 200 the token as it is now; 401 invalid_proof, revoked, expired or tenant_suspended; 409 tenant_deleting.
        routes.MapPost("/v1/tokens/renew", RenewAsync);

    private static async Task<IResult> RenewAsync(HttpContext context, Renewal renewal)
    {
        context.Response.Headers.CacheControl = "no-store";
        var renewed = await renewal.RenewAsync(Asserted.Of(context), RequestId.Of(context), context.RequestAborted);
        return renewed.Refusal ?? Results.Json(renewed.Value, WireJson.Default.IssuedToken);
    }
}
