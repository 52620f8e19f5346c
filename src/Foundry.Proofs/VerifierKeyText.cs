// c2sp.org/signed-note, "Verifier keys" and "Signature types".

using System.Buffers.Binary;
using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using NSec.Cryptography;

namespace Foundry.Proofs;

/// <summary>A verifier key as text: <c>name+hex(key ID)+base64(type || public key)</c>. The key ID binds all three.</summary>
internal static class VerifierKeyText
{
    /// <summary>Signs a note's text.</summary>
    public const byte Ed25519 = 0x01;

    /// <summary>Signs a time and a checkpoint's text (c2sp.org/tlog-cosignature).</summary>
    public const byte Cosignature = 0x04;

    private const int PublicKeyBytes = 32;
    private const int KeyIdDigits = 8;

    public static string Of(string name, byte type, PublicKey key) =>
        $"{name}+{KeyIdOf(name, type, key).ToString("x8", CultureInfo.InvariantCulture)}+{Convert.ToBase64String([type, .. key.Export(KeyBlobFormat.RawPublicKey)])}";

    public static bool TryParse(string? text, byte type, out string name, [NotNullWhen(true)] out PublicKey? key)
    {
        (name, key) = ("", null);
        // Base64 has a plus of its own, so only the first two separate.
        if (text?.Split('+', 3) is not [var named, var id, var blob])
            return false;
        if (!SignedNote.IsName(named) || id.Length != KeyIdDigits || id.Any(c => !char.IsAsciiHexDigitLower(c) && !char.IsAsciiDigit(c)))
            return false;
        if (!SignedNote.TryBase64(blob, out var bytes) || bytes.Length != 1 + PublicKeyBytes || bytes[0] != type)
            return false;
        if (!PublicKey.TryImport(SignatureAlgorithm.Ed25519, bytes.AsSpan(1), KeyBlobFormat.RawPublicKey, out var read) || read is null)
            return false;
        (name, key) = (named, read);
        return uint.Parse(id, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture) == KeyIdOf(named, type, read);
    }

    public static uint KeyIdOf(string name, byte type, PublicKey key)
    {
        if (!SignedNote.IsName(name))
            throw new ArgumentException("A key name is not empty and has no space or plus in it.", nameof(name));
        byte[] input = [.. Encoding.UTF8.GetBytes(name), (byte)'\n', type, .. key.Export(KeyBlobFormat.RawPublicKey)];
        return BinaryPrimitives.ReadUInt32BigEndian(SHA256.HashData(input));
    }
}
