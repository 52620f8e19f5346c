// docs/formats/ledger.md, "Leaf, version 1".

using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using System.Text;
using Foundry.Proofs;

namespace Foundry.Ledger.Append;

/// <summary>One entry of a log, and the bytes it is as a leaf of the tree.</summary>
/// <param name="Writer">Who appended it: <c>tenant:&lt;id&gt;</c>, or a part's name.</param>
/// <param name="PayloadId">The writer's name for it.</param>
/// <param name="Time">When the ledger took it, to the millisecond.</param>
/// <param name="Payload">Exactly what was sent.</param>
internal sealed record Entry(string Writer, string PayloadId, DateTimeOffset Time, ReadOnlyMemory<byte> Payload)
{
    /// <summary>The first line of a leaf.</summary>
    public const string Version = "foundry-ledger-entry/v1";

    /// <summary>Version of the leaf format, as the contract endpoint says it.</summary>
    public const int VersionNumber = 1;

    /// <summary>Characters in a payload ID.</summary>
    public const int PayloadIdLengthMax = 256;

    private const string TimeFormat = "yyyy-MM-dd'T'HH:mm:ss.fff'Z'";
    private const int TimeLength = 24;
    private const int HeaderLines = 4;

    /// <summary>Bytes of the leaf; known before the time is, because that has one width.</summary>
    public int LeafBytes => LeafBytesOf(Writer, PayloadId, Payload.Length);

    /// <summary>Bytes of the leaf that such an entry would be.</summary>
    public static int LeafBytesOf(string writer, string payloadId, int payloadBytes) =>
        Version.Length + Encoding.UTF8.GetByteCount(writer) + Encoding.UTF8.GetByteCount(payloadId) + TimeLength + HeaderLines + payloadBytes;

    /// <summary>Whether a payload ID can be a line of a leaf: 1 to 256 characters, none of them a control character.</summary>
    public static bool IsPayloadId([NotNullWhen(true)] string? id) =>
        id is { Length: > 0 and <= PayloadIdLengthMax } && !id.Any(char.IsControl);

    /// <summary>The leaf.</summary>
    public byte[] Encode()
    {
        var header = $"{Version}\n{Writer}\n{PayloadId}\n{Time.UtcDateTime.ToString(TimeFormat, CultureInfo.InvariantCulture)}\n";
        var leaf = new byte[LeafBytes];
        var length = Encoding.UTF8.GetBytes(header, leaf);
        Payload.Span.CopyTo(leaf.AsSpan(length));
        return leaf;
    }

    /// <summary>Reads a leaf. False where it is of no version that this part knows.</summary>
    public static bool TryParse(ReadOnlyMemory<byte> leaf, [NotNullWhen(true)] out Entry? entry)
    {
        entry = null;
        var rest = leaf;
        if (leaf.Length > EntryBundle.EntryBytesMax
            || !TryLine(ref rest, out var version) || version != Version
            || !TryLine(ref rest, out var writer) || !TryLine(ref rest, out var payloadId) || !TryLine(ref rest, out var time)
            || !DateTimeOffset.TryParseExact(time, TimeFormat, CultureInfo.InvariantCulture, DateTimeStyles.AssumeUniversal, out var at))
            return false;
        entry = new Entry(writer, payloadId, at, rest);
        return true;
    }

    private static bool TryLine(ref ReadOnlyMemory<byte> rest, out string line)
    {
        var end = rest.Span.IndexOf((byte)'\n');
        line = end < 0 ? "" : Encoding.UTF8.GetString(rest.Span[..end]);
        if (end >= 0)
            rest = rest[(end + 1)..];
        return end >= 0;
    }
}
