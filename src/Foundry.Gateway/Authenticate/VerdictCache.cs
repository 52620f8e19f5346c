using System.Collections.Concurrent;
using System.Security.Cryptography;
using System.Text;
using Foundry.Tokens;

namespace Foundry.Gateway.Authenticate;

/// <summary>
/// Signature verdicts, and nothing else: keyed by a hash of the whole token, valid for one key set. Scope, time, audience and
/// revocation are checked every time, by others. Only good verdicts are kept, so a flood of forgeries fills nothing.
/// </summary>
internal sealed class VerdictCache
{
    private const int TokensMax = 100_000;

    private readonly ConcurrentDictionary<UInt128, CapabilityToken> _verdicts = new();
    private volatile KeySet _keys = KeySet.Empty;

    /// <summary>The claims of a token that this key set is known to have signed, or null.</summary>
    /// <param name="token">The token.</param>
    /// <param name="keys">The keys in force.</param>
    public CapabilityToken? Find(string token, KeySet keys)
    {
        if (!ReferenceEquals(keys, _keys))
        {
            // Another key set: a verdict of the old one may rest on a key that was withdrawn. In this order, so that one added meanwhile
            // is seen either by Clear or by the second look that Add takes.
            _keys = keys;
            _verdicts.Clear();
            return null;
        }
        return _verdicts.GetValueOrDefault(Hash(token));
    }

    /// <summary>Keeps a good verdict.</summary>
    /// <param name="token">The token.</param>
    /// <param name="keys">The keys it was verified with.</param>
    /// <param name="claims">What it says.</param>
    public void Add(string token, KeySet keys, CapabilityToken claims)
    {
        if (!ReferenceEquals(keys, _keys))
            return;
        if (_verdicts.Count >= TokensMax)
            _verdicts.Clear(); // Costs one verify per live token; the alternative is bookkeeping on every hit.
        _verdicts[Hash(token)] = claims;
        if (!ReferenceEquals(keys, _keys))
            _verdicts.TryRemove(Hash(token), out _); // The key set changed meanwhile.
    }

    private static UInt128 Hash(string token)
    {
        // 128 bits of SHA-256: finding another token with the same value is a second-preimage search.
        Span<byte> utf8 = stackalloc byte[Jws.CharsMax];
        Span<byte> hash = stackalloc byte[SHA256.HashSizeInBytes];
        SHA256.HashData(utf8[..Encoding.UTF8.GetBytes(token, utf8)], hash);
        return System.Buffers.Binary.BinaryPrimitives.ReadUInt128BigEndian(hash);
    }
}
