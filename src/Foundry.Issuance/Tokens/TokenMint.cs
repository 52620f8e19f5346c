using Foundry.Contracts;
using Foundry.Issuance.Changes;
using Foundry.Issuance.Keys;
using Foundry.ServiceDefaults;
using Foundry.Storage;
using Foundry.Tokens;

namespace Foundry.Issuance.Tokens;

/// <summary>A token to be made; whoever makes this has decided that it may be.</summary>
/// <param name="TenantId">Null only on platform tokens.</param>
/// <param name="Scope">What it is good for.</param>
/// <param name="Subject">Whose key it names.</param>
/// <param name="UserId">Whom it names, where somebody is named.</param>
/// <param name="Seconds">How long it is good for.</param>
/// <param name="InAdminFile">Whether it is the one in admin.token.</param>
/// <param name="Proof">Whether it is bound to that key (<c>cnf.jkt</c>), even where its tenant does not require it.</param>
internal sealed record TokenGrant(string? TenantId, Scope Scope, VerifyingKey Subject, string? UserId, long Seconds, bool InAdminFile = false, bool Proof = false);

/// <summary>Makes and revokes tokens, within the transaction that also tells the gateways and the ledger. Tokens themselves are not stored.</summary>
internal sealed class TokenMint
{
    /// <summary>The refusal where nothing can be signed.</summary>
    public static readonly Refused NoKey = new(ErrorCode.NotReady, "This process does not hold the key that signs at the moment.");

    private readonly SigningKeys _keys;
    private readonly string _issuer;

    /// <summary>Makes one.</summary>
    /// <param name="keys">What signs.</param>
    /// <param name="issuer">The <c>iss</c> of every token.</param>
    public TokenMint(SigningKeys keys, string issuer) => (_keys, _issuer) = (keys, issuer);

    /// <summary>Makes a token.</summary>
    public async Task<Outcome<IssuedToken>> MintAsync(JournalEntry entry, TokenGrant grant, Doer doer) => await MintAsync(entry, new TokenRow
    {
        TenantId = grant.TenantId,
        Scope = grant.Scope.Text,
        SubjectPubkey = grant.Subject.X,
        UserId = grant.UserId,
        ExpiresAt = entry.NowSeconds + grant.Seconds,
        // By the grant, whichever of its tokens was used: who revokes it finds all that was issued under it.
        IssuedBy = await entry.SingleAsync<string>("SELECT renews FROM tokens WHERE token_id = @TokenId", new { TokenId = doer.Actor.TokenId ?? "" }) ?? doer.Actor.TokenId,
        Bound = grant.Proof ? 1 : 0,
    }, grant.InAdminFile, doer);

    /// <summary>Makes a token anew: the same grant, which ends when it would have ended, also where that is decided before its time.</summary>
    public Task<Outcome<IssuedToken>> RenewAsync(JournalEntry entry, TokenRow token, Doer doer) => MintAsync(entry, token with { Renews = token.Renews ?? token.TokenId }, inAdminFile: false, doer);

    /// <summary>Signs the claims of a token that is stored: with the key that signed them first, the same text.</summary>
    public IssuedToken Sign(TokenRow token, SigningKey key)
    {
        var claims = new CapabilityToken
        {
            Iss = _issuer,
            Aud = CapabilityToken.Audience,
            Jti = token.TokenId,
            Iat = token.IssuedAt,
            Nbf = token.IssuedAt,
            Exp = token.ExpiresAt,
            TenantId = token.TenantId,
            Sub = token.UserId ?? token.SubjectPubkey,
            Scope = token.Scope,
            SubjectPubkey = token.SubjectPubkey,
            Cnf = token.Bound == 0 ? null : VerifyingKey.TryCreate(token.SubjectPubkey, out var subject) ? new Confirmation(subject.Kid) : throw new InvalidOperationException("A stored subject key is a key."),
        };
        return new IssuedToken(claims.Sign(key), claims.Jti, claims.TenantId, claims.Scope, claims.SubjectPubkey, DateTimeOffset.FromUnixTimeSeconds(claims.Iat), DateTimeOffset.FromUnixTimeSeconds(claims.Exp));
    }

    /// <summary>Whether a tenant's tokens are bound to their keys, whoever asks for them.</summary>
    public static async Task<bool> RequiresProofAsync(JournalEntry entry, string? tenantId) =>
        tenantId is not null && await entry.SingleAsync<long>("SELECT require_proof FROM tenants WHERE tenant_id = @tenantId", new { tenantId }) != 0;

    private async Task<Outcome<IssuedToken>> MintAsync(JournalEntry entry, TokenRow token, bool inAdminFile, Doer doer)
    {
        if (await _keys.CurrentAsync(entry) is not { } key)
            return NoKey;
        var bound = token.Bound != 0 || await RequiresProofAsync(entry, token.TenantId);
        token = token with { TokenId = Guid.CreateVersion7(entry.Now).ToString(), IssuedAt = entry.NowSeconds, Bound = bound ? 1 : 0, Kid = key.Kid };
        await entry.ExecuteAsync("""
            INSERT INTO tokens (token_id, tenant_id, scope, subject_pubkey, user_id, issued_at, expires_at, issued_by, kid, in_admin_file, revoke_at, bound, renews)
            VALUES (@TokenId, @TenantId, @Scope, @SubjectPubkey, @UserId, @IssuedAt, @ExpiresAt, @IssuedBy, @Kid, @InAdminFile, @RevokeAt, @Bound, @Renews)
            """,
            new { token.TokenId, token.TenantId, token.Scope, token.SubjectPubkey, token.UserId, token.IssuedAt, token.ExpiresAt, token.IssuedBy, token.Kid, InAdminFile = inAdminFile ? 1 : 0, token.RevokeAt, token.Bound, token.Renews });
        await entry.RecordAsync([token.TenantId ?? Logs.Platform], EventTypes.TokenIssued, token.TenantId, doer,
            ("token_id", token.TokenId), ("scope", token.Scope), ("subject_pubkey", token.SubjectPubkey), ("user_id", token.UserId),
            ("expires_at", DateTimeOffset.FromUnixTimeSeconds(token.ExpiresAt)), ("kid", key.Kid), ("proof", bound ? true : null), ("renews", token.Renews));
        return Sign(token, key);
    }

    /// <summary>
    /// Revokes tokens that are good, in this order, and with each its whole grant: what it renews, and what renews that. What has expired
    /// needs no revocation.
    /// </summary>
    public static async Task RevokeAsync(JournalEntry entry, IReadOnlyList<TokenRow> tokens, Doer doer)
    {
        tokens = await Renewal.WithRenewalsAsync(entry, tokens);
        await entry.ExecuteForEachAsync("UPDATE tokens SET revoked_at = @NowSeconds, revoke_at = NULL WHERE token_id IN ({some})", tokens.Select(token => token.TokenId), new { entry.NowSeconds });
        await entry.ChangeAsync([.. tokens.Select(token => new Change("revoked", Revoked: new RevokedToken(token.TokenId, token.ExpiresAt)))]);
        await entry.RecordAsync([.. tokens.Select(token => entry.EventOf(EventTypes.TokenRevoked, token.TenantId, doer,
            ("token_id", token.TokenId), ("scope", token.Scope), ("subject_pubkey", token.SubjectPubkey), ("expires_at", DateTimeOffset.FromUnixTimeSeconds(token.ExpiresAt)), ("replaced_by", token.ReplacedBy)))
            .Select(payload => (payload.TenantId ?? Logs.Platform, Outbox.IdOf(payload), payload))]);
    }
}

/// <summary>What is kept of a token.</summary>
internal sealed record TokenRow
{
    /// <summary>The columns, for SELECT.</summary>
    public const string Columns = """
        token_id AS TokenId, tenant_id AS TenantId, scope AS Scope, subject_pubkey AS SubjectPubkey, issued_at AS IssuedAt, expires_at AS ExpiresAt,
        issued_by AS IssuedBy, revoked_at AS RevokedAt, revoke_at AS RevokeAt, replaced_by AS ReplacedBy,
        user_id AS UserId, bound AS Bound, renews AS Renews, kid AS Kid
        """;

    public string TokenId { get; init; } = "";
    public string? TenantId { get; init; }
    public string Scope { get; init; } = "";
    public string SubjectPubkey { get; init; } = "";
    public long IssuedAt { get; init; }
    public long ExpiresAt { get; init; }
    public string? IssuedBy { get; init; }
    public long? RevokedAt { get; init; }
    /// <summary>When it is to be revoked, where that is decided.</summary>
    public long? RevokeAt { get; init; }
    /// <summary>The token that decided it.</summary>
    public string? ReplacedBy { get; init; }
    public string? UserId { get; init; }
    /// <summary>1 where it is bound to its key (<c>cnf.jkt</c>).</summary>
    public long Bound { get; init; }
    /// <summary>The token that was issued for this grant first, where this is not it.</summary>
    public string? Renews { get; init; }

    /// <summary>The key that signed it.</summary>
    public string Kid { get; init; } = "";

    /// <summary>Whether it is neither revoked nor expired.</summary>
    public bool IsGood(long nowSeconds) => RevokedAt is null && nowSeconds < ExpiresAt;

    /// <summary>As callers are shown it.</summary>
    public TokenMetadata Shown(long nowSeconds) => new(TokenId, TenantId, Scope, SubjectPubkey,
        DateTimeOffset.FromUnixTimeSeconds(IssuedAt), DateTimeOffset.FromUnixTimeSeconds(ExpiresAt), IssuedBy,
        RevokedAt is not null ? "revoked" : nowSeconds >= ExpiresAt ? "expired" : "active",
        RevokedAt is { } revoked ? DateTimeOffset.FromUnixTimeSeconds(revoked) : null,
        RevokedAt is null && RevokeAt is { } due ? DateTimeOffset.FromUnixTimeSeconds(due) : null);
}
