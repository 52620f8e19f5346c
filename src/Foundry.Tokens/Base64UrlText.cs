using System.Buffers;
using System.Buffers.Text;
using System.Diagnostics.CodeAnalysis;

namespace Foundry.Tokens;

/// <summary>
/// base64url without padding (RFC 4648 section 5), canonical only: of all texts that decode to the same bytes exactly one
/// is accepted, so that a token has one spelling.
/// </summary>
public static class Base64UrlText
{
    /// <summary>Encodes without padding.</summary>
    /// <param name="bytes">Any bytes.</param>
    public static string Encode(ReadOnlySpan<byte> bytes) => Base64Url.EncodeToString(bytes);

    /// <summary>Decodes canonical, unpadded base64url.</summary>
    /// <param name="text">The text.</param>
    /// <param name="bytes">The bytes.</param>
    public static bool TryDecode(ReadOnlySpan<char> text, [NotNullWhen(true)] out byte[]? bytes)
    {
        bytes = null;
        if (text.Length % 4 == 1 || text.ContainsAnyExcept(Alphabet))
            return false;
        var decoded = new byte[Base64Url.GetMaxDecodedLength(text.Length)];
        // Not TryDecodeFromChars: that one throws where the last character's unused bits are not zero.
        if (Base64Url.DecodeFromChars(text, decoded, out _, out var written) != OperationStatus.Done)
            return false;
        decoded = written == decoded.Length ? decoded : decoded[..written];
        // Those bits must be zero, or one token would have several spellings.
        if (text.Length % 4 != 0 && !text.SequenceEqual(Base64Url.EncodeToString(decoded)))
            return false;
        bytes = decoded;
        return true;
    }

    private static readonly SearchValues<char> Alphabet =
        SearchValues.Create("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_");
}
