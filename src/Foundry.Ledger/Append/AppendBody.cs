using System.Diagnostics.CodeAnalysis;
using System.Runtime.InteropServices;
using System.Text.Json;
using System.Text.Unicode;
using Foundry.Contracts;
using Foundry.Proofs;
using Foundry.ServiceDefaults;

namespace Foundry.Ledger.Append;

/// <summary>The body of an append: the payload is kept as the bytes that were sent, which no serializer's round trip would give.</summary>
/// <param name="PayloadId">The writer's name for it.</param>
/// <param name="Payload">The bytes of the <c>payload</c> member's value.</param>
/// <param name="IsReserved">Whether its type of event is the platform's.</param>
internal sealed record AppendBody(string PayloadId, ReadOnlyMemory<byte> Payload, bool IsReserved)
{
    /// <summary>Bytes of the largest body: the largest entry, an ID all in escapes, and room for spaces.</summary>
    public const int BytesMax = EntryBundle.EntryBytesMax + 8 * 1024;

    private const string PayloadIdMember = "payload_id";
    private const string PayloadMember = "payload";

    private static readonly JsonDocumentOptions _strict = new() { AllowDuplicateProperties = false, MaxDepth = 32 };

    /// <summary>Reads a body: one object of exactly these two members, each once, nothing behind it.</summary>
    public static bool TryParse(ReadOnlyMemory<byte> body, [NotNullWhen(true)] out AppendBody? parsed, [NotNullWhen(false)] out Refused? refusal)
    {
        parsed = null;
        refusal = Malformed;
        if (!Utf8.IsValid(body.Span))
            return false;
        try
        {
            using var document = JsonDocument.Parse(body, _strict);
            var root = document.RootElement;
            if (root.ValueKind != JsonValueKind.Object || root.GetPropertyCount() != 2
                || !root.TryGetProperty(PayloadIdMember, out var id) || !root.TryGetProperty(PayloadMember, out var payload)
                || id.ValueKind != JsonValueKind.String || payload.ValueKind == JsonValueKind.Null)
                return false;
            if (!Entry.IsPayloadId(id.GetString()))
            {
                refusal = new Refused(ErrorCode.InvalidValue, $"payload_id is 1 to {Entry.PayloadIdLengthMax} characters, none of them a control character.");
                return false;
            }
            parsed = new AppendBody(id.GetString()!, JsonMarshal.GetRawUtf8Value(payload).ToArray(), ReservedEvents.Contains(payload));
            refusal = null;
            return true;
        }
        catch (Exception fault) when (fault is JsonException or InvalidOperationException)
        {
            // The second is half of a surrogate pair in a name or an ID: escaped in JSON, but no text.
            refusal = Malformed;
            return false;
        }
    }

    private static Refused Malformed { get; } = new(ErrorCode.InvalidBody,
        "Send {\"payload_id\": \"…\", \"payload\": …}: a JSON object of these two members, each once, in UTF-8.");
}
