using System.Buffers.Binary;
using System.Text.Json.Serialization;

namespace Foundry.Contracts;

/// <summary>One signed line of the change feed (docs/architecture.md, The change feed).</summary>
/// <param name="V">1.</param>
/// <param name="Kind"><c>snapshot</c> or <c>changes</c>.</param>
/// <param name="From">The sequence number a follower must have reached for the line to apply; 0 for a snapshot.</param>
/// <param name="To">The sequence number it has reached afterwards; in a snapshot the same in every part.</param>
/// <param name="Time">Issuance's clock.</param>
/// <param name="Changes">In order; empty in a heartbeat.</param>
/// <param name="After">The hash of the change that <paramref name="From"/> numbers; a follower that has another one followed another history.</param>
/// <param name="Hash">The hash of the change that <paramref name="To"/> numbers.</param>
/// <param name="Part">Which part of a snapshot it is, from 1.</param>
/// <param name="More">Whether another part follows; a snapshot is all of its parts or nothing.</param>
/// <param name="Revoked">A snapshot's revoked tokens, <see cref="RevokedToken.PackedBytes"/> each.</param>
public sealed record FeedMessage(
    int V, string Kind, long From, long To, DateTimeOffset Time, IReadOnlyList<Change> Changes,
    string After = "", string Hash = "", int Part = 1, bool More = false, ReadOnlyMemory<byte>? Revoked = null)
{
    /// <summary>JWS <c>typ</c> of a line.</summary>
    public const string Typ = "foundry-feed+jwt";
    /// <summary><see cref="Kind"/> of a line that holds everything, or a part of it.</summary>
    public const string Snapshot = "snapshot";
    /// <summary><see cref="Kind"/> of a line that holds what is new.</summary>
    public const string Delta = "changes";
    /// <summary>Characters of the longest line.</summary>
    public const int LineCharsMax = 4 * 1024 * 1024;
    /// <summary>Tenants in a part of a snapshot.</summary>
    public const int TenantsPerPart = 128;
    /// <summary>Revoked tokens in a part of a snapshot: a line's text stays below 85,000 bytes, from which on .NET keeps what is dropped for longer.</summary>
    public const int RevokedPerPart = 1_024;
    /// <summary>Parts of the largest snapshot: a million tenants and eight million revoked tokens that have not expired.</summary>
    public const int PartsMax = 16_000;
}

/// <summary>One change; exactly one member beside <see cref="Type"/> is set.</summary>
/// <param name="Type"><c>tenant</c>, <c>tenant_deleted</c>, <c>revoked</c> or <c>trust</c>.</param>
/// <param name="Tenant">The whole record as it is now.</param>
/// <param name="TenantId">The tenant that is no more.</param>
/// <param name="Revoked">The token that is no longer accepted.</param>
/// <param name="Trust">The trust set: a <see cref="TrustAnswer"/> as JSON, so that whoever has only the feed can check it too.</param>
public sealed record Change(string Type, Tenant? Tenant = null, string? TenantId = null, RevokedToken? Revoked = null, string? Trust = null);

/// <summary>A revoked token.</summary>
/// <param name="Jti">Its ID, a UUID.</param>
/// <param name="Exp">When it would have expired, Unix seconds; kept until then and 60 s more.</param>
public sealed record RevokedToken(string Jti, long Exp)
{
    /// <summary>Bytes of one in a snapshot: the UUID's 16 as they are written, then <see cref="Exp"/>, 4, the greatest first.</summary>
    public const int PackedBytes = 20;

    /// <summary>Packs one.</summary>
    /// <param name="jti">Its ID.</param>
    /// <param name="exp">When it expires.</param>
    /// <param name="packed">Where to.</param>
    public static void Pack(Guid jti, long exp, Span<byte> packed)
    {
        if (!jti.TryWriteBytes(packed, bigEndian: true, out var written))
            throw new ArgumentException("There is no room.", nameof(packed));
        BinaryPrimitives.WriteUInt32BigEndian(packed[written..], (uint)Math.Clamp(exp, 0, uint.MaxValue));
    }

    /// <summary>Unpacks one.</summary>
    /// <param name="packed">Its <see cref="PackedBytes"/>.</param>
    public static (Guid Jti, long Exp) Unpack(ReadOnlySpan<byte> packed) =>
        (new Guid(packed[..16], bigEndian: true), BinaryPrimitives.ReadUInt32BigEndian(packed[16..]));
}

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
