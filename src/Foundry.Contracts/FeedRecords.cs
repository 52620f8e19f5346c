using System.Text.Json.Serialization;

namespace Foundry.Contracts;

/// <summary>One signed line of the change feed (docs/architecture.md, The change feed).</summary>
/// <param name="V">1.</param>
/// <param name="Kind"><c>snapshot</c> or <c>changes</c>.</param>
/// <param name="From">The sequence number a follower must have reached for the line to apply; 0 for a snapshot.</param>
/// <param name="To">The sequence number it has reached afterwards.</param>
/// <param name="Time">Issuance's clock.</param>
/// <param name="Changes">In order; empty in a heartbeat.</param>
public sealed record FeedMessage(int V, string Kind, long From, long To, DateTimeOffset Time, IReadOnlyList<Change> Changes)
{
    /// <summary>JWS <c>typ</c> of a line.</summary>
    public const string Typ = "foundry-feed+jwt";
    /// <summary><see cref="Kind"/> of a line that holds everything.</summary>
    public const string Snapshot = "snapshot";
    /// <summary><see cref="Kind"/> of a line that holds what is new.</summary>
    public const string Delta = "changes";
}

/// <summary>One change; exactly one member beside <see cref="Type"/> is set.</summary>
/// <param name="Type"><c>tenant</c>, <c>tenant_deleted</c>, <c>revoked</c> or <c>trust</c>.</param>
/// <param name="Tenant">The whole record as it is now.</param>
/// <param name="TenantId">The tenant that is no more.</param>
/// <param name="Revoked">The token that is no longer accepted.</param>
/// <param name="Trust">The trust set: a <see cref="TrustAnswer"/> as JSON, so that whoever has only the feed can check it too.</param>
public sealed record Change(string Type, Tenant? Tenant = null, string? TenantId = null, RevokedToken? Revoked = null, string? Trust = null);

/// <summary>A revoked token.</summary>
/// <param name="Jti">Its ID.</param>
/// <param name="Exp">When it would have expired, Unix seconds; kept until then and 60 s more.</param>
public sealed record RevokedToken(string Jti, long Exp);

/// <summary>Body of <c>POST /internal/v1/join</c>: a part's key asks to be believed.</summary>
/// <param name="V">1.</param>
/// <param name="Kind"><c>gateway</c> or <c>service</c>.</param>
/// <param name="Name">The part's name, <c>^[a-z][a-z0-9-]{1,61}[a-z0-9]$</c>.</param>
/// <param name="X">Its Ed25519 public key, base64url.</param>
/// <param name="Code">The join code.</param>
[JsonUnmappedMemberHandling(JsonUnmappedMemberHandling.Disallow)]
public sealed record JoinRequest(int V, string? Kind, string? Name, string? X, string? Code);

/// <summary>Answer of <c>GET /internal/v1/trust</c>.</summary>
/// <param name="V">1.</param>
/// <param name="Root">The root's public key, base64url; the reader compares its thumbprint with the one it pins.</param>
/// <param name="Trust">The trust set's JWS.</param>
public sealed record TrustAnswer(int V, string Root, string Trust);
