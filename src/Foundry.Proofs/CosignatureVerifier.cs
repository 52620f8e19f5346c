// c2sp.org/tlog-cosignature, "Ed25519 signed message".

using System.Buffers.Binary;
using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using System.Text;
using NSec.Cryptography;

namespace Foundry.Proofs;

/// <summary>A witness's name and public key: what a client must know to believe that this witness has seen a checkpoint.</summary>
public sealed class CosignatureVerifier
{
    private const string Header = "cosignature/v1";
    private const int TimeBytes = sizeof(ulong);
    private const int Ed25519Bytes = 64;
    private readonly PublicKey _key;

    private CosignatureVerifier(string name, PublicKey key) =>
        (Name, KeyId, _key) = (name, VerifierKeyText.KeyIdOf(name, VerifierKeyText.Cosignature, key), key);

    /// <summary>The witness's name.</summary>
    public string Name { get; }

    /// <summary>The short identifier that its signature lines carry.</summary>
    public uint KeyId { get; }

    /// <summary>The verifier key as text, of type 0x04.</summary>
    public string VerifierKey => VerifierKeyText.Of(Name, VerifierKeyText.Cosignature, _key);

    /// <summary>Reads a verifier key. False where it is not one of cosignatures, or its ID is not that of its name and key.</summary>
    public static bool TryParse(string? verifierKey, [NotNullWhen(true)] out CosignatureVerifier? verifier)
    {
        verifier = VerifierKeyText.TryParse(verifierKey, VerifierKeyText.Cosignature, out var name, out var key) ? new CosignatureVerifier(name, key) : null;
        return verifier is not null;
    }

    /// <summary>Whether a signature line is under this witness's name and key ID; whether it is true, <see cref="Verify"/> says.</summary>
    public bool IsNamedBy(NoteSignature signature)
    {
        ArgumentNullException.ThrowIfNull(signature);
        return signature.KeyId == KeyId && signature.KeyName == Name;
    }

    /// <summary>Whether this witness made that signature of a checkpoint's text.</summary>
    /// <param name="text">The whole text, extension lines included.</param>
    /// <param name="signature">What the signature line holds: time and signature.</param>
    /// <param name="time">When it was made, by the witness's clock.</param>
    public bool Verify(string text, ReadOnlySpan<byte> signature, out DateTimeOffset time)
    {
        time = default;
        if (signature.Length != TimeBytes + Ed25519Bytes)
            return false;
        var seconds = BinaryPrimitives.ReadUInt64BigEndian(signature);
        // What the calendar cannot hold is no time; the specification's own bound is beyond it.
        if (seconds > (ulong)DateTimeOffset.MaxValue.ToUnixTimeSeconds() || !SignatureAlgorithm.Ed25519.Verify(_key, Message((long)seconds, text), signature[TimeBytes..]))
            return false;
        time = DateTimeOffset.FromUnixTimeSeconds((long)seconds);
        return true;
    }

    /// <summary>
    /// Whether the witness cosigned this note: at least one line is its own, and none that names it is false. The note's other
    /// signatures are not looked at: open it with the log's keys as well.
    /// </summary>
    /// <param name="note">A checkpoint.</param>
    /// <param name="time">When, by the witness's clock; the latest where there are several.</param>
    public bool HasCosigned(SignedNote note, out DateTimeOffset time)
    {
        ArgumentNullException.ThrowIfNull(note);
        time = default;
        var isCosigned = false;
        foreach (var signature in note.Signatures.Where(IsNamedBy))
        {
            if (!Verify(note.Text, signature.Signature, out var made))
                return false;
            time = made > time ? made : time;
            isCosigned = true;
        }
        return isCosigned;
    }

    internal static CosignatureVerifier Of(string name, PublicKey key) => new(name, key);

    internal static byte[] Message(long time, string text) =>
        Encoding.UTF8.GetBytes($"{Header}\ntime {time.ToString(CultureInfo.InvariantCulture)}\n{text}");

    internal static byte[] Pack(long time, ReadOnlySpan<byte> signature)
    {
        var packed = new byte[TimeBytes + Ed25519Bytes];
        BinaryPrimitives.WriteUInt64BigEndian(packed, (ulong)time);
        signature.CopyTo(packed.AsSpan(TimeBytes));
        return packed;
    }
}
