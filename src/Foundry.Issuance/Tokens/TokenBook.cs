using Foundry.Contracts;
using Foundry.Issuance.Changes;
using Foundry.Issuance.Keys;
using Foundry.Issuance.Tenants;
using Foundry.Issuance.Trust;
using Foundry.ServiceDefaults.Trust;
using Foundry.Tokens;

namespace Foundry.Issuance.Tokens;

/// <summary>The tokens that were issued: their metadata, and whether they are still good.</summary>
internal sealed class TokenBook
{
    /// <summary>Tokens that one request revokes at most; a key's rotation and a tenant's deletion know no bound.</summary>
    public const int RevokedMax = 200_000;
    /// <summary>Tokens that one replaces at most, so that its answer and its record stay small.</summary>
    public const int ReplacedMax = 500;

    private readonly Journal _journal;
    private readonly TokenMint _mint;
    private readonly SigningKeys _keys;
    private readonly PlatformTrust _trust;
    private readonly TimeProvider _time;
    private readonly string? _defaultTenant;

    /// <summary>Makes one.</summary>
    public TokenBook(Journal journal, TokenMint mint, SigningKeys keys, PlatformTrust trust, TimeProvider time, IssuanceOptions options) =>
        (_journal, _mint, _keys, _trust, _time, _defaultTenant) = (journal, mint, keys, trust, time, options.DefaultTenant);

    /// <summary>Issues a token; durable, with its record, when this returns.</summary>
    /// <param name="caller">An administrator of either kind.</param>
    /// <param name="pathTenant">The tenant of the path, or null.</param>
    /// <param name="request">What is asked for.</param>
    /// <param name="key">What makes a repeat the same request, or null.</param>
    /// <param name="requestId">The request.</param>
    /// <param name="cancellationToken">Ends the wait for a turn.</param>
    public Task<Outcome<Answered<IssuedToken>>> IssueAsync(Asserted caller, string? pathTenant, TokenRequest request, IdempotencyKey? key, string requestId, CancellationToken cancellationToken) =>
        _journal.WriteForAsync(caller, entry => IdempotencyKey.OnceAsync(key, entry, caller,
            () => IssueAsync(entry, caller, pathTenant, request, Doer.Of(caller, requestId)), KeptToken.Of, kept => KeptToken.AgainAsync(entry, _keys, kept)), cancellationToken);

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
    /// <param name="descendants">Whether everything that was issued under it goes too, however far down, as far as the caller may reach.</param>
    /// <param name="requestId">The request.</param>
    /// <param name="cancellationToken">Ends the wait for a turn.</param>
    public async Task<Outcome<bool>> RevokeAsync(Asserted caller, string tokenIdOrKey, bool descendants, string requestId, CancellationToken cancellationToken)
    {
        var values = new
        {
            tokenIdOrKey,
            subject = VerifyingKey.TryParse(tokenIdOrKey, out var key) ? key.X : null,
            // A platform's administrator reaches every token, a tenant's its own tenant's.
            tenant = caller.IsPlatformAdmin ? "" : caller.TenantId,
            limit = RevokedMax + 1,
        };
        var named = $"{(values.subject is null ? "token_id = COALESCE((SELECT renews FROM tokens WHERE token_id = @tokenIdOrKey), @tokenIdOrKey)" : "subject_pubkey = @subject")} AND (@tenant = '' OR tenant_id = @tenant)";
        return await _journal.EndForAsync<bool>(caller, async entry =>
        {
            if (await entry.SingleAsync<long>($"SELECT COUNT(*) FROM tokens WHERE {named}", values) == 0)
                return Callers.NotFound;
            // UNION drops what was found already, so this ends. Through revoked and expired ones too: what they issued may be good.
            var good = await entry.QueryAsync<TokenRow>($"""
                WITH RECURSIVE doomed (doomed_id) AS (
                    SELECT token_id FROM tokens WHERE {named}
                    {(descendants ? "UNION SELECT token_id FROM tokens JOIN doomed ON issued_by = doomed_id WHERE @tenant = '' OR tenant_id = @tenant" : "")}
                )
                SELECT {TokenRow.Columns} FROM tokens JOIN doomed ON token_id = doomed_id
                WHERE revoked_at IS NULL AND expires_at > @now ORDER BY token_id LIMIT @limit
                """, new { values.tokenIdOrKey, values.subject, values.tenant, values.limit, now = entry.NowSeconds });
            if (good.Count > RevokedMax)
                return Callers.Invalid($"descendants: this is more than {RevokedMax} tokens; revoke its branches one by one.");
            if (_journal.RefuseMany(good.Count) is { } noRoom)
                return noRoom;
            await TokenMint.RevokeAsync(entry, good, Doer.Of(caller, requestId));
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
        if (tenant == Tenant.Suspended)
            return (null, TokenRefusal.TenantSuspended);
        return (new VerifiedToken(true, token.Scope, token.TenantId, token.SubjectPubkey, DateTimeOffset.FromUnixTimeSeconds(token.Exp), token.Jti), default);
    }

    private async Task<Outcome<IssuedToken>> IssueAsync(JournalEntry entry, Asserted caller, string? pathTenant, TokenRequest request, Doer doer)
    {
        var decided = Delegation.Decide(caller, pathTenant, request, _defaultTenant, entry.Now);
        if (decided.Value is not { } grant)
            return Outcome<IssuedToken>.Refused(decided.Refusal!);
        if (grant.TenantId is { } tenantId && await RefuseTenantAsync(entry, caller, tenantId, inPath: pathTenant is not null) is { } refused)
            return Outcome<IssuedToken>.Refused(refused);
        // Asked before the new one is among them.
        IReadOnlyList<TokenRow> replaced = request.MaxOverlapSeconds is null ? [] : await TiersOfAsync(entry, grant);
        if (replaced.Count > ReplacedMax)
            return Callers.Invalid($"max_overlap_seconds: the key has more than {ReplacedMax} live tokens of read, user and input; revoke them by the key first.");
        var minted = await _mint.MintAsync(entry, grant, doer);
        return minted.Value is { } token && replaced.Count > 0
            ? token with { Replaces = await ReplaceAsync(entry, token, replaced, request.MaxOverlapSeconds!.Value, doer) }
            : minted;
    }

    private static Task<IReadOnlyList<TokenRow>> TiersOfAsync(JournalEntry entry, TokenGrant grant) => entry.QueryAsync<TokenRow>($"""
        SELECT {TokenRow.Columns} FROM tokens
        WHERE subject_pubkey = @X AND tenant_id = @TenantId AND scope IN ('read', 'user', 'input') AND revoked_at IS NULL AND expires_at > @NowSeconds
        ORDER BY token_id LIMIT {ReplacedMax + 1}
        """, new { grant.Subject.X, grant.TenantId, entry.NowSeconds });

    private static async Task<IReadOnlyList<ReplacedToken>> ReplaceAsync(JournalEntry entry, IssuedToken by, IReadOnlyList<TokenRow> replaced, long overlapSeconds, Doer doer)
    {
        var at = entry.NowSeconds + overlapSeconds;
        if (overlapSeconds == 0)
            await TokenMint.RevokeAsync(entry, [.. replaced.Select(row => row with { ReplacedBy = by.TokenId })], doer);
        else
            // What ends earlier anyway, by an earlier replacement or by itself, is left to.
            await entry.ExecuteForEachAsync("UPDATE tokens SET revoke_at = @at, replaced_by = @TokenId WHERE token_id IN ({some}) AND expires_at > @at AND (revoke_at IS NULL OR revoke_at > @at)",
                replaced.Select(row => row.TokenId), new { at, by.TokenId });
        return [.. replaced.Select(row => new ReplacedToken(row.TokenId, row.Scope, DateTimeOffset.FromUnixTimeSeconds(Math.Min(at, Math.Min(row.ExpiresAt, row.RevokeAt ?? long.MaxValue)))))];
    }

    private static async Task<Microsoft.AspNetCore.Http.IResult?> RefuseTenantAsync(JournalEntry entry, Asserted caller, string tenantId, bool inPath)
    {
        var status = await entry.SingleAsync<string>("SELECT status FROM tenants WHERE tenant_id = @tenantId", new { tenantId });
        if (status == Tenant.Active)
            return null;
        if (status == Tenant.Deleting)
            return TenantBook.BeingDeleted;
        if (status is null or "deleted")
            return inPath || !caller.IsPlatformAdmin ? Callers.NotFound : Callers.Invalid("tenant_id: there is no such tenant.");
        // Its own administrator's token is no longer accepted either; the gateway has not heard of it yet.
        return caller.IsPlatformAdmin
            ? Callers.Invalid($"tenant_id: the tenant is {status} and is issued no tokens; make it active first.")
            : new InvalidTokenResult(TokenRefusal.TenantSuspended);
    }

    private static bool MayReach(Asserted caller, TokenRow token) => caller.IsPlatformAdmin || (token.TenantId is not null && token.TenantId == caller.TenantId);
}
