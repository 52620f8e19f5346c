// c2sp.org/signed-note, "Ed25519 signatures" and "Verifier keys"; c2sp.org/tlog-cosignature; RFC 8032 by libsodium.

using System.Diagnostics.CodeAnalysis;
using System.Text;
using NSec.Cryptography;

namespace Foundry.Proofs;

/// <summary>An Ed25519 private key that signs notes, under as many names as needed (one a log).</summary>
public sealed class NoteKey : IDisposable
{
    /// <summary>Bytes of the seed that is the key.</summary>
    public const int SeedBytes = 32;

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
        return new SignedNote(text, [new NoteSignature(name, VerifierFor(name).KeyId, signature)]);
    }

    /// <summary>The verifier of what this key cosigns under <paramref name="name"/>.</summary>
    public CosignatureVerifier CosignerFor(string name) => CosignatureVerifier.Of(name, _key.PublicKey);

    /// <summary>
    /// Cosigns a checkpoint (c2sp.org/tlog-cosignature, <c>cosignature/v1</c>): as of now, this is the largest tree that this
    /// key's owner has seen of the log, and it continues all those seen before. The caller has made sure of that.
    /// </summary>
    /// <exception cref="ArgumentException">The name cannot be a key's, or the time is before 1970.</exception>
    public NoteSignature Cosign(string name, SignedNote checkpoint, DateTimeOffset now)
    {
        ArgumentNullException.ThrowIfNull(checkpoint);
        var time = now.ToUnixTimeSeconds();
        ArgumentOutOfRangeException.ThrowIfNegative(time, nameof(now));
        var signature = SignatureAlgorithm.Ed25519.Sign(_key, CosignatureVerifier.Message(time, checkpoint.Text));
        return new NoteSignature(name, CosignerFor(name).KeyId, CosignatureVerifier.Pack(time, signature));
    }

    /// <inheritdoc/>
    public void Dispose() => _key.Dispose();
}

/// <summary>A name and an Ed25519 public key: what a client must know of a log to believe its notes.</summary>
public sealed class NoteVerifier
{
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
    public string VerifierKey => VerifierKeyText.Of(Name, VerifierKeyText.Ed25519, _key);

    /// <summary>Reads a verifier key. False where it is not an Ed25519 one, or its ID is not that of its name and key.</summary>
    public static bool TryParse(string? verifierKey, [NotNullWhen(true)] out NoteVerifier? verifier)
    {
        verifier = VerifierKeyText.TryParse(verifierKey, VerifierKeyText.Ed25519, out var name, out var key) ? Of(name, key) : null;
        return verifier is not null;
    }

    /// <summary>Whether this key made that signature of those bytes.</summary>
    public bool Verify(ReadOnlySpan<byte> text, ReadOnlySpan<byte> signature) =>
        SignatureAlgorithm.Ed25519.Verify(_key, text, signature);

    internal static NoteVerifier Of(string name, PublicKey key) => new(name, VerifierKeyText.KeyIdOf(name, VerifierKeyText.Ed25519, key), key);
}
