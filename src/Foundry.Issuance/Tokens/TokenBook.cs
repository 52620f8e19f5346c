using Foundry.Contracts;
using Foundry.Issuance.Changes;
using Foundry.Issuance.Trust;
using Foundry.ServiceDefaults.Trust;
using Foundry.Tokens;

namespace Foundry.Issuance.Tokens;

/// <summary>The tokens that were issued: their metadata, and whether they are still good.</summary>
internal sealed class TokenBook
{
    private readonly Journal _journal;
    private readonly TokenMint _mint;
    private readonly PlatformTrust _trust;
    private readonly TimeProvider _time;
    private readonly string? _defaultTenant;

    /// <summary>Makes one.</summary>
    public TokenBook(Journal journal, TokenMint mint, PlatformTrust trust, TimeProvider time, IssuanceOptions options) =>
        (_journal, _mint, _trust, _time, _defaultTenant) = (journal, mint, trust, time, options.DefaultTenant);

    /// <summary>Issues a token; durable, with its record, when this returns.</summary>
    /// <param name="caller">An administrator of either kind.</param>
    /// <param name="pathTenant">The tenant of the path, or null.</param>
    /// <param name="request">What is asked for.</param>
    /// <param name="requestId">The request.</param>
    /// <param name="cancellationToken">Ends the wait for a turn.</param>
    public async Task<Outcome<IssuedToken>> IssueAsync(Asserted caller, string? pathTenant, TokenRequest request, string requestId, CancellationToken cancellationToken)
    {
        var decided = Delegation.Decide(caller, pathTenant, request, _defaultTenant, _time.GetUtcNow());
        if (decided.Value is not { } grant)
            return Outcome<IssuedToken>.Refused(decided.Refusal!);
        return await _journal.WriteForAsync(caller, async entry =>
        {
            if (grant.TenantId is { } tenantId && await RefuseTenantAsync(entry, caller, tenantId, inPath: pathTenant is not null) is { } refused)
                return Outcome<IssuedToken>.Refused(refused);
            return await _mint.MintAsync(entry, grant, Doer.Of(caller, requestId));
        }, cancellationToken);
    }

    /// <summary>One token's metadata; null where the caller may not know of it.</summary>
    public async Task<TokenMetadata?> FindAsync(Asserted caller, string tokenId, CancellationToken cancellationToken) =>
        await _journal.Database.ReadOneAsync<TokenRow>($"SELECT {TokenRow.Columns} FROM tokens WHERE token_id = @tokenId", new { tokenId }, cancellationToken) is { } row && MayReach(caller, row)
            ? row.Shown(_time.GetUtcNow().ToUnixTimeSeconds())
            : null;

    /// <summary>A page of a tenant's tokens, oldest first.</summary>
    /// <returns>The page, one longer than asked where there is more; null where there is no such tenant.</returns>
    public async Task<IReadOnlyList<TokenMetadata>?> ListAsync(string tenantId, bool revoked, bool expired, string after, int limit, CancellationToken cancellationToken)
    {
        if (await _journal.Database.ReadOneAsync<string>("SELECT status FROM tenants WHERE tenant_id = @tenantId AND status <> 'deleted'", new { tenantId }, cancellationToken) is null)
            return null;
        var now = _time.GetUtcNow().ToUnixTimeSeconds();
        var rows = await _journal.Database.ReadAllAsync<TokenRow>($"""
            SELECT {TokenRow.Columns} FROM tokens
            WHERE tenant_id = @tenantId AND token_id > @after
                AND ((revoked_at IS NULL AND expires_at > @now) OR (@revoked = 1 AND revoked_at IS NOT NULL) OR (@expired = 1 AND revoked_at IS NULL AND expires_at <= @now))
            ORDER BY token_id LIMIT @limit
            """, new { tenantId, after, now, revoked = revoked ? 1 : 0, expired = expired ? 1 : 0, limit = limit + 1 }, cancellationToken);
        return [.. rows.Select(row => row.Shown(now))];
    }

    /// <summary>Revokes a token by its ID, or every token of a key that the caller may reach. Again is the same.</summary>
    /// <param name="caller">An administrator of either kind.</param>
    /// <param name="tokenIdOrKey">A token ID, or a subject key in any of its spellings.</param>
    /// <param name="requestId">The request.</param>
    /// <param name="cancellationToken">Ends the wait for a turn.</param>
    public async Task<Outcome<bool>> RevokeAsync(Asserted caller, string tokenIdOrKey, string requestId, CancellationToken cancellationToken)
    {
        var subject = VerifyingKey.TryParse(tokenIdOrKey, out var key) ? key.X : null;
        return await _journal.WriteForAsync<bool>(caller, async entry =>
        {
            var found = subject is not null
                ? await entry.QueryAsync<TokenRow>($"SELECT {TokenRow.Columns} FROM tokens WHERE subject_pubkey = @subject ORDER BY token_id", new { subject })
                : await entry.QueryAsync<TokenRow>($"SELECT {TokenRow.Columns} FROM tokens WHERE token_id = @tokenIdOrKey", new { tokenIdOrKey });
            var reachable = found.Where(row => MayReach(caller, row)).ToList();
            if (reachable.Count == 0)
                return Callers.NotFound;
            foreach (var row in reachable.Where(row => row.IsGood(entry.NowSeconds)))
                await TokenMint.RevokeAsync(entry, row, Doer.Of(caller, requestId));
            return true;
        }, cancellationToken);
    }

    /// <summary>Whether a token would be accepted now, by the same verdict as a gateway's.</summary>
    public async Task<(VerifiedToken? Token, TokenRefusal Refusal)> VerifyAsync(string? text, CancellationToken cancellationToken)
    {
        if (string.IsNullOrEmpty(text))
            return (null, TokenRefusal.Missing);
        if (!CapabilityToken.TryVerify(text, _trust.TokenKeys, out var token, out var refusal))
            return (null, refusal);
        if (token.Check(_trust.Current.Issuer, _time.GetUtcNow()) is { } untimely)
            return (null, untimely);
        var revokedAt = await _journal.Database.ReadOneAsync<long?>("SELECT revoked_at FROM tokens WHERE token_id = @Jti", new { token.Jti }, cancellationToken);
        var tenant = token.TenantId is null ? Tenant.Active
            : await _journal.Database.ReadOneAsync<string>("SELECT status FROM tenants WHERE tenant_id = @TenantId", new { token.TenantId }, cancellationToken);
        // A deleted tenant's tokens died with it.
        if (revokedAt is not null || tenant is null or "deleted")
            return (null, TokenRefusal.Revoked);
        if (tenant != Tenant.Active)
            return (null, TokenRefusal.TenantSuspended);
        return (new VerifiedToken(true, token.Scope, token.TenantId, token.SubjectPubkey, DateTimeOffset.FromUnixTimeSeconds(token.Exp), token.Jti), default);
    }

    private static async Task<Microsoft.AspNetCore.Http.IResult?> RefuseTenantAsync(JournalEntry entry, Asserted caller, string tenantId, bool inPath)
    {
        var status = await entry.SingleAsync<string>("SELECT status FROM tenants WHERE tenant_id = @tenantId", new { tenantId });
        if (status == Tenant.Active)
            return null;
        if (status is null or "deleted")
            return inPath || !caller.IsPlatformAdmin ? Callers.NotFound : Callers.Invalid("tenant_id: there is no such tenant.");
        // Its own administrator's token is no longer accepted either; the gateway has not heard of it yet.
        return caller.IsPlatformAdmin
            ? Callers.Invalid($"tenant_id: the tenant is {status} and is issued no tokens; make it active first.")
            : new InvalidTokenResult(TokenRefusal.TenantSuspended);
    }

    private static bool MayReach(Asserted caller, TokenRow token) => caller.IsPlatformAdmin || (token.TenantId is not null && token.TenantId == caller.TenantId);
}
