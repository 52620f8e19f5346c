// JWK Set: RFC 7517 section 5; OKP keys: RFC 8037 section 2.
using System.Collections.Frozen;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace Foundry.Tokens;

/// <summary>The public keys that may have signed something, by <c>kid</c>. Immutable.</summary>
public sealed class KeySet
{
    /// <summary>No keys: nothing verifies.</summary>
    public static readonly KeySet Empty = new([]);

    private readonly FrozenDictionary<string, VerifyingKey> _keys;

    /// <summary>Makes a set.</summary>
    /// <param name="keys">The keys.</param>
    public KeySet(IEnumerable<VerifyingKey> keys) =>
        _keys = keys.DistinctBy(key => key.Kid).ToFrozenDictionary(key => key.Kid, StringComparer.Ordinal);

    /// <summary>The keys.</summary>
    public IEnumerable<VerifyingKey> Keys => _keys.Values;

    /// <summary>The key that a <c>kid</c> names, or null.</summary>
    /// <param name="kid">Its thumbprint.</param>
    public VerifyingKey? Find(string kid) => _keys.GetValueOrDefault(kid);

    /// <summary>The set as a JWKS document that any JOSE library reads.</summary>
    public string ToJwks() => new JsonObject
    {
        ["keys"] = new JsonArray([.. _keys.Values.OrderBy(key => key.Kid, StringComparer.Ordinal).Select(key => (JsonNode)new JsonObject
        {
            ["kty"] = "OKP",
            ["crv"] = "Ed25519",
            ["use"] = "sig",
            ["alg"] = "EdDSA",
            ["kid"] = key.Kid,
            ["x"] = key.X,
        })]),
    }.ToJsonString(JsonSerializerOptions.Default);
}
