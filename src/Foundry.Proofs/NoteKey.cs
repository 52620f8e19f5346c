// c2sp.org/signed-note, "Ed25519 signatures" and "Verifier keys"; RFC 8032 by libsodium.

using System.Buffers.Binary;
using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using NSec.Cryptography;

namespace Foundry.Proofs;

/// <summary>An Ed25519 private key that signs notes, under as many names as needed (one a log).</summary>
public sealed class NoteKey : IDisposable
{
    /// <summary>Bytes of the seed that is the key.</summary>
    public const int SeedBytes = 32;

    /// <summary>The type byte of Ed25519 in key IDs and verifier keys.</summary>
    internal const byte TypeEd25519 = 0x01;

    internal const int PublicKeyBytes = 32;

    private readonly Key _key;

    private NoteKey(Key key) => _key = key;

    /// <summary>Takes the 32-byte seed (RFC 8032's private key). It is copied to guarded memory; the caller clears its own.</summary>
    /// <exception cref="ArgumentException">It is not <see cref="SeedBytes"/> long.</exception>
    public static NoteKey FromSeed(ReadOnlySpan<byte> seed)
    {
        if (seed.Length != SeedBytes)
            throw new ArgumentException($"A seed is {SeedBytes} bytes.", nameof(seed));
        return new NoteKey(Key.Import(SignatureAlgorithm.Ed25519, seed, KeyBlobFormat.RawPrivateKey));
    }

    /// <summary>The verifier of what this key signs under <paramref name="name"/>.</summary>
    public NoteVerifier VerifierFor(string name) => NoteVerifier.Of(name, _key.PublicKey);

    /// <summary>Signs a text under a name.</summary>
    /// <exception cref="ArgumentException">The name or the text cannot be in a note.</exception>
    public SignedNote Sign(string name, string text)
    {
        ArgumentNullException.ThrowIfNull(name);
        ArgumentNullException.ThrowIfNull(text);
        if (!SignedNote.IsName(name))
            throw new ArgumentException("A key name is not empty and has no space or plus in it.", nameof(name));
        if (!SignedNote.IsText(text))
            throw new ArgumentException("A note's text ends in a newline and has no other control character.", nameof(text));
        var signature = SignatureAlgorithm.Ed25519.Sign(_key, Encoding.UTF8.GetBytes(text));
        var keyId = NoteVerifier.KeyIdOf(name, _key.PublicKey.Export(KeyBlobFormat.RawPublicKey));
        return new SignedNote(text, [new NoteSignature(name, keyId, signature)]);
    }

    /// <inheritdoc/>
    public void Dispose() => _key.Dispose();
}

/// <summary>A name and an Ed25519 public key: what a client must know of a log to believe its notes.</summary>
public sealed class NoteVerifier
{
    private const int KeyIdDigits = 8;
    private readonly PublicKey _key;

    private NoteVerifier(string name, uint keyId, PublicKey key)
    {
        Name = name;
        KeyId = keyId;
        _key = key;
    }

    /// <summary>The key's name; for a log, its origin.</summary>
    public string Name { get; }

    /// <summary>The short identifier that signature lines carry.</summary>
    public uint KeyId { get; }

    /// <summary>The verifier key as text: <c>name+hex(key ID)+base64(type || public key)</c>.</summary>
    public string VerifierKey =>
        $"{Name}+{KeyId.ToString("x8", CultureInfo.InvariantCulture)}+{Convert.ToBase64String([NoteKey.TypeEd25519, .. _key.Export(KeyBlobFormat.RawPublicKey)])}";

    /// <summary>Reads a verifier key. False where it is not an Ed25519 one, or its ID is not that of its name and key.</summary>
    public static bool TryParse(string? verifierKey, [NotNullWhen(true)] out NoteVerifier? verifier)
    {
        verifier = null;
        // Base64 has a plus of its own, so only the first two separate.
        if (verifierKey?.Split('+', 3) is not [var name, var id, var blob])
            return false;
        if (!SignedNote.IsName(name) || id.Length != KeyIdDigits || id.Any(c => !char.IsAsciiHexDigitLower(c) && !char.IsAsciiDigit(c)))
            return false;
        if (!SignedNote.TryBase64(blob, out var bytes) || bytes.Length != 1 + NoteKey.PublicKeyBytes || bytes[0] != NoteKey.TypeEd25519)
            return false;
        var publicKey = bytes.AsSpan(1);
        var keyId = uint.Parse(id, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture);
        if (keyId != KeyIdOf(name, publicKey) || !PublicKey.TryImport(SignatureAlgorithm.Ed25519, publicKey, KeyBlobFormat.RawPublicKey, out var key) || key is null)
            return false;
        verifier = new NoteVerifier(name, keyId, key);
        return true;
    }

    /// <summary>Whether this key made that signature of those bytes.</summary>
    public bool Verify(ReadOnlySpan<byte> text, ReadOnlySpan<byte> signature) =>
        SignatureAlgorithm.Ed25519.Verify(_key, text, signature);

    internal static NoteVerifier Of(string name, PublicKey key)
    {
        if (!SignedNote.IsName(name))
            throw new ArgumentException("A key name is not empty and has no space or plus in it.", nameof(name));
        return new NoteVerifier(name, KeyIdOf(name, key.Export(KeyBlobFormat.RawPublicKey)), key);
    }

    internal static uint KeyIdOf(string name, ReadOnlySpan<byte> publicKey)
    {
        byte[] input = [.. Encoding.UTF8.GetBytes(name), (byte)'\n', NoteKey.TypeEd25519, .. publicKey];
        return BinaryPrimitives.ReadUInt32BigEndian(SHA256.HashData(input));
    }
}
