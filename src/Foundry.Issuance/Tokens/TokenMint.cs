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
internal sealed record TokenGrant(string? TenantId, Scope Scope, VerifyingKey Subject, string? UserId, long Seconds, bool InAdminFile = false);

/// <summary>Makes and revokes tokens, within the transaction that also tells the gateways and the ledger. Tokens themselves are not stored.</summary>
internal sealed class TokenMint
{
    public static readonly Refused NoKey = new(ErrorCode.NotReady, "This process does not hold the key that signs at the moment.");

    private readonly SigningKeys _keys;
    private readonly string _issuer;

    /// <summary>Makes one.</summary>
    /// <param name="keys">What signs.</param>
    /// <param name="issuer">The <c>iss</c> of every token.</param>
    public TokenMint(SigningKeys keys, string issuer) => (_keys, _issuer) = (keys, issuer);

    /// <summary>Makes a token.</summary>
    public async Task<Outcome<IssuedToken>> MintAsync(JournalEntry entry, TokenGrant grant, Doer doer)
    {
        if (await _keys.CurrentAsync(entry) is not { } key)
            return NoKey;
        var now = entry.NowSeconds;
        var token = new CapabilityToken
        {
            Iss = _issuer,
            Aud = CapabilityToken.Audience,
            Jti = Guid.CreateVersion7(entry.Now).ToString(),
            Iat = now,
            Nbf = now,
            Exp = now + grant.Seconds,
            TenantId = grant.TenantId,
            Sub = grant.UserId ?? grant.Subject.X,
            Scope = grant.Scope.Text,
            SubjectPubkey = grant.Subject.X,
        };
        await entry.ExecuteAsync("""
            INSERT INTO tokens (token_id, tenant_id, scope, subject_pubkey, user_id, issued_at, expires_at, issued_by, kid, in_admin_file)
            VALUES (@Jti, @TenantId, @Scope, @SubjectPubkey, @UserId, @Iat, @Exp, @IssuedBy, @Kid, @InAdminFile)
            """,
            new { token.Jti, token.TenantId, token.Scope, token.SubjectPubkey, grant.UserId, token.Iat, token.Exp, IssuedBy = doer.Actor.TokenId, key.Kid, InAdminFile = grant.InAdminFile ? 1 : 0 });
        var expiresAt = DateTimeOffset.FromUnixTimeSeconds(token.Exp);
        await entry.RecordAsync([token.TenantId ?? Logs.Platform], EventTypes.TokenIssued, token.TenantId, doer,
            ("token_id", token.Jti), ("scope", token.Scope), ("subject_pubkey", token.SubjectPubkey), ("user_id", grant.UserId), ("expires_at", expiresAt), ("kid", key.Kid));
        return new IssuedToken(token.Sign(key), token.Jti, token.TenantId, token.Scope, token.SubjectPubkey, DateTimeOffset.FromUnixTimeSeconds(now), expiresAt);
    }

    /// <summary>Revokes tokens that are good, in this order; what has expired needs no revocation.</summary>
    public static async Task RevokeAsync(JournalEntry entry, IReadOnlyList<TokenRow> tokens, Doer doer)
    {
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
        issued_by AS IssuedBy, revoked_at AS RevokedAt, revoke_at AS RevokeAt, replaced_by AS ReplacedBy
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

    /// <summary>Whether it is neither revoked nor expired.</summary>
    public bool IsGood(long nowSeconds) => RevokedAt is null && nowSeconds < ExpiresAt;

    /// <summary>As callers are shown it.</summary>
    public TokenMetadata Shown(long nowSeconds) => new(TokenId, TenantId, Scope, SubjectPubkey,
        DateTimeOffset.FromUnixTimeSeconds(IssuedAt), DateTimeOffset.FromUnixTimeSeconds(ExpiresAt), IssuedBy,
        RevokedAt is not null ? "revoked" : nowSeconds >= ExpiresAt ? "expired" : "active",
        RevokedAt is { } revoked ? DateTimeOffset.FromUnixTimeSeconds(revoked) : null,
        RevokedAt is null && RevokeAt is { } due ? DateTimeOffset.FromUnixTimeSeconds(due) : null);
}
