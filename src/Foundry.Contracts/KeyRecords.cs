using System.Text.Json.Serialization;

namespace Foundry.Contracts;

/// <summary>Body of <c>POST /v1/keys/rotate</c>; <c>{}</c> or none at all is an ordinary rotation (CONTRACT section 3).</summary>
/// <param name="Compromised">True cuts off every earlier key at once, and every token that one of them signed.</param>
[JsonUnmappedMemberHandling(JsonUnmappedMemberHandling.Disallow)]
public sealed record RotateRequest(bool? Compromised = null);

/// <summary>Answer of <c>GET /v1/keys</c> and <c>POST /v1/keys/rotate</c>.</summary>
/// <param name="Keys">Every key that signed or will sign tokens, newest first.</param>
public sealed record SigningKeyList(IReadOnlyList<SigningKeyRecord> Keys);

/// <summary>A key that signs capability tokens; its private half is never shown.</summary>
/// <param name="Kid">RFC 7638 thumbprint.</param>
/// <param name="X">The public key, base64url.</param>
/// <param name="Status"><c>next</c>, <c>active</c>, <c>retired</c> (verifies what it signed), <c>expired</c> (its last token has) or <c>withdrawn</c>.</param>
/// <param name="CreatedAt">When it was made and published.</param>
/// <param name="SignsFrom">From when it signs.</param>
/// <param name="RetiredAt">When it ceased to sign.</param>
/// <param name="VerifiesUntil">When its last token expires; absent while it signs.</param>
public sealed record SigningKeyRecord(
    string Kid,
    string X,
    string Status,
    DateTimeOffset CreatedAt,
    DateTimeOffset SignsFrom,
    DateTimeOffset? RetiredAt = null,
    DateTimeOffset? VerifiesUntil = null);
