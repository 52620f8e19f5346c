// Ed25519: RFC 8032. JWK form and thumbprint: RFC 8037 section 2, RFC 7638 section 3.
// The arithmetic is libsodium's, through NSec and, for the point check that NSec does not offer, directly.
using System.Diagnostics.CodeAnalysis;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Text;
using NSec.Cryptography;

namespace Foundry.Tokens;

/// <summary>An Ed25519 public key: 32 bytes that encode a point of the prime-order group, canonically.</summary>
public sealed partial class VerifyingKey : IEquatable<VerifyingKey>
{
    /// <summary>Bytes of an Ed25519 public key.</summary>
    public const int KeyBytes = 32;
    /// <summary>Bytes of an Ed25519 signature.</summary>
    public const int SignatureBytes = 64;

    private readonly PublicKey _key;

    private VerifyingKey(byte[] bytes, PublicKey key)
    {
        _key = key;
        X = Base64UrlText.Encode(bytes);
        // RFC 7638 section 3.2: the required members in lexicographic order, no white space.
        Kid = Base64UrlText.Encode(SHA256.HashData(Encoding.ASCII.GetBytes($$"""{"crv":"Ed25519","kty":"OKP","x":"{{X}}"}""")));
    }

    /// <summary>The key, base64url without padding: the JWK's <c>x</c> and our <c>subject_pubkey</c>.</summary>
    public string X { get; }

    /// <summary>The key's RFC 7638 thumbprint, base64url: our <c>kid</c> and <c>jkt</c>.</summary>
    public string Kid { get; }

    /// <summary>
    /// Takes 32 bytes for a key. Refused: points not on the curve, non-canonical encodings, and points of small or mixed
    /// order, for which signatures that verify say nothing about who made them.
    /// </summary>
    /// <param name="bytes">The key.</param>
    /// <param name="key">The key, where it is one.</param>
    public static bool TryCreate(ReadOnlySpan<byte> bytes, [NotNullWhen(true)] out VerifyingKey? key)
    {
        key = null;
        // NSec first: it initialises libsodium and loads the library that the import below names.
        if (bytes.Length != KeyBytes || !PublicKey.TryImport(SignatureAlgorithm.Ed25519, bytes, KeyBlobFormat.RawPublicKey, out var imported) || imported is null)
            return false;
        if (IsValidPoint(bytes) != 1)
            return false;
        key = new VerifyingKey(bytes.ToArray(), imported);
        return true;
    }

    /// <summary>Takes canonical base64url, as we store it.</summary>
    /// <param name="x">The JWK's <c>x</c>.</param>
    /// <param name="key">The key, where it is one.</param>
    public static bool TryCreate(string? x, [NotNullWhen(true)] out VerifyingKey? key)
    {
        key = null;
        return x is { Length: 43 } && Base64UrlText.TryDecode(x, out var bytes) && TryCreate(bytes, out key);
    }

    /// <summary>Takes what people have: base64 (padded or not), base64url or hex (CONTRACT section 2).</summary>
    /// <param name="text">The key's text.</param>
    /// <param name="key">The key, where it is one.</param>
    public static bool TryParse(string? text, [NotNullWhen(true)] out VerifyingKey? key)
    {
        key = null;
        if (text is null)
            return false;
        if (text.Length == KeyBytes * 2)
            return text.All(char.IsAsciiHexDigit) && TryCreate(Convert.FromHexString(text), out key);
        if (text.Length == 44 && text[^1] == '=')
            text = text[..^1];
        return text.Length == 43 && TryCreate(text.Replace('+', '-').Replace('/', '_'), out key);
    }

    /// <summary>Whether the signature is this key's over the data (RFC 8032, libsodium's strict rules).</summary>
    /// <param name="data">What was signed.</param>
    /// <param name="signature">64 bytes.</param>
    public bool Verify(ReadOnlySpan<byte> data, ReadOnlySpan<byte> signature) =>
        signature.Length == SignatureBytes && SignatureAlgorithm.Ed25519.Verify(_key, data, signature);

    /// <inheritdoc/>
    public bool Equals(VerifyingKey? other) => other is not null && X == other.X;
    /// <inheritdoc/>
    public override bool Equals(object? obj) => Equals(obj as VerifyingKey);
    /// <inheritdoc/>
    public override int GetHashCode() => X.GetHashCode(StringComparison.Ordinal);
    /// <inheritdoc/>
    public override string ToString() => X;

    [LibraryImport("libsodium", EntryPoint = "crypto_core_ed25519_is_valid_point")]
    [DefaultDllImportSearchPaths(DllImportSearchPath.AssemblyDirectory)]
    private static partial int IsValidPoint(ReadOnlySpan<byte> point);
}

/// <summary>An Ed25519 private key that can sign. Its seed leaves it only through <see cref="ExportSeed"/>.</summary>
public sealed class SigningKey : IDisposable
{
    /// <summary>Bytes of the seed that a private key is made of (RFC 8032 section 5.1.5).</summary>
    public const int SeedBytes = 32;

    private readonly Key _key;

    private SigningKey(Key key)
    {
        _key = key;
        if (!VerifyingKey.TryCreate(key.PublicKey.Export(KeyBlobFormat.RawPublicKey), out var verifying))
            throw new CryptographicException("A generated key is not a valid point.");
        Public = verifying;
    }

    /// <summary>The public half.</summary>
    public VerifyingKey Public { get; }

    /// <summary>The public half's thumbprint.</summary>
    public string Kid => Public.Kid;

    /// <summary>Makes a new key from the system's random source.</summary>
    public static SigningKey Generate() =>
        new(Key.Create(SignatureAlgorithm.Ed25519, new KeyCreationParameters { ExportPolicy = KeyExportPolicies.AllowPlaintextExport }));

    /// <summary>Takes a stored seed.</summary>
    /// <param name="text">32 bytes, base64url.</param>
    /// <param name="key">The key, where it is one.</param>
    public static bool TryImport(string? text, [NotNullWhen(true)] out SigningKey? key)
    {
        key = null;
        if (text is not { Length: 43 } || !Base64UrlText.TryDecode(text, out var seed))
            return false;
        try
        {
            if (!Key.TryImport(SignatureAlgorithm.Ed25519, seed, KeyBlobFormat.RawPrivateKey, out var imported,
                new KeyCreationParameters { ExportPolicy = KeyExportPolicies.AllowPlaintextExport }) || imported is null)
                return false;
            key = new SigningKey(imported);
            return true;
        }
        finally
        {
            CryptographicOperations.ZeroMemory(seed);
        }
    }

    /// <summary>The seed as base64url, to be stored where only its owner can read it.</summary>
    public string ExportSeed()
    {
        var seed = _key.Export(KeyBlobFormat.RawPrivateKey);
        try
        {
            return Base64UrlText.Encode(seed);
        }
        finally
        {
            CryptographicOperations.ZeroMemory(seed);
        }
    }

    /// <summary>Signs (RFC 8032).</summary>
    /// <param name="data">What to sign.</param>
    public byte[] Sign(ReadOnlySpan<byte> data) => SignatureAlgorithm.Ed25519.Sign(_key, data);

    /// <inheritdoc/>
    public void Dispose() => _key.Dispose();
}
