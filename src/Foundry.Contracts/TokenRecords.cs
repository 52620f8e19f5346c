using System.Text.Json.Serialization;

namespace Foundry.Contracts;

/// <summary>Body of <c>POST /v1/tenants/{id}/tokens</c> and <c>POST /v1/tokens</c> (CONTRACT section 3).</summary>
/// <param name="SubjectPubkey">Ed25519 public key, base64, base64url or hex.</param>
/// <param name="Scope"><c>read</c>, <c>user</c>, <c>input</c> or <c>service:&lt;name&gt;</c>, in any case.</param>
/// <param name="ExpiresInSeconds">60 to 7,776,000.</param>
/// <param name="TenantId">Only on <c>POST /v1/tokens</c>; a tenant-admin's own tenant is the default.</param>
/// <param name="UserId">Becomes <c>sub</c> where one is named.</param>
/// <param name="WorkspaceId">The workspace whose roles the token carries.</param>
/// <param name="Proof">Whether the token is bound to its key (<c>cnf.jkt</c>).</param>
/// <param name="Alg"><c>EdDSA</c> (default) or <c>RS256</c>.</param>
/// <param name="Service">The audience of an RS256 twin.</param>
/// <param name="MaxOverlapSeconds">
/// 0 to 604,800: after so many seconds the key's other live <c>read</c>, <c>user</c> and <c>input</c> tokens of this tenant are
/// revoked. Absent, they stay. Only with one of these scopes.
/// </param>
[JsonUnmappedMemberHandling(JsonUnmappedMemberHandling.Disallow)]
public sealed record TokenRequest(
    string? SubjectPubkey,
    string? Scope,
    long? ExpiresInSeconds,
    string? TenantId = null,
    string? UserId = null,
    string? WorkspaceId = null,
    bool? Proof = null,
    string? Alg = null,
    string? Service = null,
    long? MaxOverlapSeconds = null);

/// <summary>Answer to an issue: the only time that the token itself is shown.</summary>
/// <param name="Token">The JWS.</param>
/// <param name="TokenId">Its <c>jti</c>.</param>
/// <param name="TenantId">Absent on platform tokens.</param>
/// <param name="Scope">In lower case.</param>
/// <param name="SubjectPubkey">base64url without padding.</param>
/// <param name="IssuedAt">When.</param>
/// <param name="ExpiresAt">Until when.</param>
public sealed record IssuedToken(
    string Token,
    string TokenId,
    string? TenantId,
    string Scope,
    string SubjectPubkey,
    DateTimeOffset IssuedAt,
    DateTimeOffset ExpiresAt)
{
    /// <summary>What it replaces, asked for by <c>max_overlap_seconds</c>; absent where it replaces nothing.</summary>
    public IReadOnlyList<ReplacedToken>? Replaces { get; init; }
}

/// <summary>A token that another one replaces.</summary>
/// <param name="TokenId">Its <c>jti</c>.</param>
/// <param name="Scope">In lower case.</param>
/// <param name="RevokesAt">Until when it is still good: revoked then, or expired.</param>
public sealed record ReplacedToken(string TokenId, string Scope, DateTimeOffset RevokesAt);

/// <summary>A token's metadata; the token itself is never stored.</summary>
/// <param name="TokenId">Its <c>jti</c>.</param>
/// <param name="TenantId">Absent on platform tokens.</param>
/// <param name="Scope">In lower case.</param>
/// <param name="SubjectPubkey">base64url without padding.</param>
/// <param name="IssuedAt">When.</param>
/// <param name="ExpiresAt">Until when.</param>
/// <param name="IssuedBy">Token ID of the issuer; absent for the platform's first.</param>
/// <param name="Status"><c>active</c>, <c>revoked</c> or <c>expired</c>.</param>
/// <param name="RevokedAt">When it was revoked, if it was.</param>
/// <param name="RevokesAt">When it will be revoked, where that is decided already.</param>
public sealed record TokenMetadata(
    string TokenId,
    string? TenantId,
    string Scope,
    string SubjectPubkey,
    DateTimeOffset IssuedAt,
    DateTimeOffset ExpiresAt,
    string? IssuedBy,
    string Status,
    DateTimeOffset? RevokedAt = null,
    DateTimeOffset? RevokesAt = null);

/// <summary>Body of <c>POST /v1/tokens/verify</c>, to 8 KB.</summary>
/// <param name="Token">The JWS.</param>
[JsonUnmappedMemberHandling(JsonUnmappedMemberHandling.Disallow)]
public sealed record VerifyRequest(string? Token);

/// <summary>Answer of <c>POST /v1/tokens/verify</c> for a token that would be accepted.</summary>
/// <param name="Active">Always true; a refused token is a <c>401</c> with the reason.</param>
/// <param name="Scope">In lower case.</param>
/// <param name="TenantId">Absent on platform tokens.</param>
/// <param name="SubjectPubkey">base64url without padding.</param>
/// <param name="ExpiresAt">Until when.</param>
/// <param name="TokenId">Its <c>jti</c>.</param>
public sealed record VerifiedToken(
    bool Active,
    string Scope,
    string? TenantId,
    string SubjectPubkey,
    DateTimeOffset ExpiresAt,
    string TokenId);
