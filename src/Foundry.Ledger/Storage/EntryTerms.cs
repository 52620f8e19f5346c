using System.Buffers;
using System.Buffers.Binary;
using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;

namespace Foundry.Ledger.Storage;

/// <summary>
/// What an entry is found by: its writer's payload ID, and each string member at the top of its payload. A term is a hash of 64 bits; terms
/// collide now and then, so whatever is found by one is read from the log and compared.
/// </summary>
internal static class EntryTerms
{
    /// <summary>String members of one payload that are indexed one by one; an entry with more is looked at by every search.</summary>
    public const int FieldsMax = 24;

    private const int StackBytesMax = 1024;

    // The digits of a length, the colon behind them, and the sign in front of a field's value.
    private const int SeparatorBytesMax = 12;

    /// <summary>The term of entries that have more fields than are indexed.</summary>
    public static long ManyFields { get; } = Hash("many"u8, "", ""u8);

    /// <summary>The term of a writer's payload ID.</summary>
    public static long OfId(string writer, string payloadId) => Hash(Encoding.UTF8.GetBytes(writer), "", Encoding.UTF8.GetBytes(payloadId));

    /// <summary>The term of a field and its value.</summary>
    public static long OfField(KeyValuePair<string, string> field) => Hash(Encoding.UTF8.GetBytes(field.Key), "=", Encoding.UTF8.GetBytes(field.Value));

    /// <summary>All terms of an entry, the payload ID's first; some of the others may come twice.</summary>
    public static long[] Of(string writer, string payloadId, ReadOnlySpan<byte> payload)
    {
        Span<long> terms = stackalloc long[FieldsMax + 2];
        terms[0] = OfId(writer, payloadId);
        var count = 1;
        var json = new Utf8JsonReader(payload);
        if (!json.Read() || json.TokenType != JsonTokenType.StartObject)
            return [terms[0]];
        var fields = 0;
        while (json.Read() && json.TokenType == JsonTokenType.PropertyName)
        {
            var name = json;
            json.Read();
            if (json.TokenType != JsonTokenType.String)
            {
                json.Skip();
                continue;
            }
            if (++fields > FieldsMax)
            {
                terms[count++] = ManyFields;
                break;
            }
            if (TryTerm(name, json, out var term))
                terms[count++] = term;
        }
        return terms[..count].ToArray();
    }

    /// <summary>Whether a payload has all these string members at its top.</summary>
    public static bool Matches(ReadOnlyMemory<byte> payload, IReadOnlyList<KeyValuePair<string, string>> fields)
    {
        using var document = JsonDocument.Parse(payload);
        return document.RootElement.ValueKind == JsonValueKind.Object && fields.All(field =>
            document.RootElement.TryGetProperty(field.Key, out var value) && value.ValueKind == JsonValueKind.String && value.ValueEquals(field.Value));
    }

    private static bool TryTerm(Utf8JsonReader name, Utf8JsonReader value, out long term)
    {
        if (!name.ValueIsEscaped && !value.ValueIsEscaped)
        {
            term = Hash(name.ValueSpan, "=", value.ValueSpan);
            return true;
        }
        try
        {
            term = OfField(new(name.GetString()!, value.GetString()!));
            return true;
        }
        catch (InvalidOperationException)
        {
            // JSON can escape half of a surrogate pair, which no query can ask for.
            term = 0;
            return false;
        }
    }

    // The first part with its length, in UTF-16 units, in front, so that no two pairs are one text.
    private static long Hash(ReadOnlySpan<byte> first, string sign, ReadOnlySpan<byte> second)
    {
        byte[]? rented = null;
        var bytesMax = SeparatorBytesMax + first.Length + second.Length;
        Span<byte> text = bytesMax <= StackBytesMax ? stackalloc byte[StackBytesMax] : rented = ArrayPool<byte>.Shared.Rent(bytesMax);
        Encoding.UTF8.GetCharCount(first).TryFormat(text, out var length, provider: CultureInfo.InvariantCulture);
        text[length++] = (byte)':';
        first.CopyTo(text[length..]);
        length += first.Length;
        length += Encoding.UTF8.GetBytes(sign, text[length..]);
        second.CopyTo(text[length..]);
        length += second.Length;
        Span<byte> hash = stackalloc byte[SHA256.HashSizeInBytes];
        SHA256.HashData(text[..length], hash);
        if (rented is not null)
            ArrayPool<byte>.Shared.Return(rented);
        return BinaryPrimitives.ReadInt64BigEndian(hash);
    }
}
