// c2sp.org/signed-note: a text, an empty line, and signature lines.

using System.Buffers.Binary;
using System.Diagnostics.CodeAnalysis;
using System.Text;

namespace Foundry.Proofs;

/// <summary>One signature line.</summary>
/// <param name="KeyName">The signer's name.</param>
/// <param name="KeyId">The first four bytes of the hash of name, type and public key.</param>
/// <param name="Signature">What the key made of the text; for Ed25519, 64 bytes.</param>
public sealed record NoteSignature(string KeyName, uint KeyId, byte[] Signature);

/// <summary>A note as it was written: its text and its signatures, verified by nobody yet.</summary>
public sealed class SignedNote
{
    /// <summary>Longest note that is looked at.</summary>
    public const int BytesMax = 64 * 1024;

    /// <summary>Most signatures in a note; the specification asks for at least 16.</summary>
    public const int SignaturesMax = 100;

    private const string LinePrefix = "\u2014 ";
    private const int KeyIdBytes = sizeof(uint);
    private static readonly UTF8Encoding _strictUtf8 = new(encoderShouldEmitUTF8Identifier: false, throwOnInvalidBytes: true);

    internal SignedNote(string text, IReadOnlyList<NoteSignature> signatures)
    {
        Text = text;
        Signatures = signatures;
    }

    /// <summary>The signed text, ending in a newline.</summary>
    public string Text { get; }

    /// <summary>The signature lines, in order.</summary>
    public IReadOnlyList<NoteSignature> Signatures { get; }

    /// <summary>Reads a note. False where it departs from the format in any way.</summary>
    public static bool TryParse(ReadOnlySpan<byte> bytes, [NotNullWhen(true)] out SignedNote? note)
    {
        note = null;
        if (bytes.Length > BytesMax || !TryDecode(bytes, out var whole))
            return false;
        var split = whole.LastIndexOf("\n\n", StringComparison.Ordinal);
        if (split < 0 || whole[^1] != '\n' || split + 2 == whole.Length)
            return false;

        if (!TryLines(whole[(split + 2)..], out var signatures))
            return false;
        note = new SignedNote(whole[..(split + 1)], signatures);
        return true;
    }

    /// <summary>Reads signature lines that come without their note, as a witness answers. False where they depart from the format in any way.</summary>
    public static bool TryParseSignatures(ReadOnlySpan<byte> bytes, [NotNullWhen(true)] out IReadOnlyList<NoteSignature>? signatures)
    {
        signatures = null;
        return bytes.Length <= BytesMax && TryDecode(bytes, out var lines) && lines[^1] == '\n' && TryLines(lines, out signatures);
    }

    /// <summary>The note with other signatures in place of its own.</summary>
    public SignedNote With(IReadOnlyList<NoteSignature> signatures) => new(Text, signatures);

    /// <summary>The note's bytes.</summary>
    public byte[] Encode() => [.. _strictUtf8.GetBytes(Text + "\n"), .. Encode(Signatures)];

    /// <summary>Signature lines without their note.</summary>
    public static byte[] Encode(IEnumerable<NoteSignature> signatures)
    {
        ArgumentNullException.ThrowIfNull(signatures);
        var note = new StringBuilder();
        foreach (var signature in signatures)
        {
            var blob = new byte[KeyIdBytes + signature.Signature.Length];
            BinaryPrimitives.WriteUInt32BigEndian(blob, signature.KeyId);
            signature.Signature.CopyTo(blob, KeyIdBytes);
            note.Append(LinePrefix).Append(signature.KeyName).Append(' ').Append(Convert.ToBase64String(blob)).Append('\n');
        }
        return _strictUtf8.GetBytes(note.ToString());
    }

    /// <summary>
    /// Whether the key signed this text: at least one line names it, and no line that names it is false. Lines of other keys
    /// (witnesses, an older key) are ignored, as the specification asks.
    /// </summary>
    public bool IsSignedBy(NoteVerifier verifier)
    {
        ArgumentNullException.ThrowIfNull(verifier);
        var text = _strictUtf8.GetBytes(Text);
        var isSigned = false;
        foreach (var signature in Signatures)
        {
            if (signature.KeyId != verifier.KeyId || signature.KeyName != verifier.Name)
                continue;
            if (!verifier.Verify(text, signature.Signature))
                return false;
            isSigned = true;
        }
        return isSigned;
    }

    /// <summary>Whether a text can be signed: valid, ends in a newline, and holds no other control character.</summary>
    internal static bool IsText(string text) =>
        text.EndsWith('\n') && !text.Any(c => c is < ' ' and not '\n') && IsUnicode(text);

    /// <summary>Whether a name can be a key's: not empty, no spaces, no plus.</summary>
    internal static bool IsName(string name) =>
        name.Length > 0 && IsUnicode(name) && !name.Any(c => c == '+' || c < ' ' || char.IsWhiteSpace(c));

    /// <summary>Base64 in its one canonical spelling; the framework's reader also takes spaces and stray bits.</summary>
    internal static bool TryBase64(string text, out byte[] bytes)
    {
        bytes = new byte[text.Length / 4 * 3];
        if (text.Length == 0 || !Convert.TryFromBase64String(text, bytes, out var length))
            return false;
        bytes = bytes[..length];
        return Convert.ToBase64String(bytes) == text;
    }

    private static bool TryLines(string text, [NotNullWhen(true)] out IReadOnlyList<NoteSignature>? signatures)
    {
        signatures = null;
        var lines = text[..^1].Split('\n');
        if (lines.Length > SignaturesMax)
            return false;
        var read = new List<NoteSignature>(lines.Length);
        foreach (var line in lines)
        {
            if (!TrySignature(line, out var signature))
                return false;
            read.Add(signature);
        }
        signatures = read;
        return true;
    }

    private static bool TrySignature(string line, [NotNullWhen(true)] out NoteSignature? signature)
    {
        signature = null;
        if (!line.StartsWith(LinePrefix, StringComparison.Ordinal))
            return false;
        var space = line.IndexOf(' ', LinePrefix.Length);
        if (space < 0)
            return false;
        var name = line[LinePrefix.Length..space];
        if (!IsName(name) || !TryBase64(line[(space + 1)..], out var blob) || blob.Length <= KeyIdBytes)
            return false;
        signature = new NoteSignature(name, BinaryPrimitives.ReadUInt32BigEndian(blob), blob[KeyIdBytes..]);
        return true;
    }

    private static bool TryDecode(ReadOnlySpan<byte> bytes, out string text)
    {
        text = "";
        if (!System.Text.Unicode.Utf8.IsValid(bytes))
            return false;
        text = _strictUtf8.GetString(bytes);
        return text.Length > 0 && !text.Any(c => c is < ' ' and not '\n');
    }

    private static bool IsUnicode(string text)
    {
        for (var i = 0; i < text.Length; i++)
        {
            if (!char.IsSurrogate(text[i]))
                continue;
            if (i + 1 == text.Length || !char.IsSurrogatePair(text[i], text[i + 1]))
                return false;
            i++;
        }
        return true;
    }
}
