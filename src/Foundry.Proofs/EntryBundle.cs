// c2sp.org/tlog-tiles, "Log entries": big-endian uint16 length, then the entry, at most 256 times.

using System.Buffers;
using System.Buffers.Binary;

namespace Foundry.Proofs;

/// <summary>Writes and reads the bytes of entry bundles.</summary>
public static class EntryBundle
{
    /// <summary>Largest entry that the length prefix can name.</summary>
    public const int EntryBytesMax = ushort.MaxValue;

    /// <summary>Bytes in front of each entry.</summary>
    public const int PrefixBytes = sizeof(ushort);

    /// <summary>Largest bundle: 256 of the largest entries.</summary>
    public const int BytesMax = Tile.WidthMax * (PrefixBytes + EntryBytesMax);

    /// <summary>Adds an entry, with its length in front.</summary>
    /// <exception cref="ArgumentException">The entry is larger than <see cref="EntryBytesMax"/>.</exception>
    public static void Append(IBufferWriter<byte> bundle, ReadOnlySpan<byte> entry)
    {
        ArgumentNullException.ThrowIfNull(bundle);
        bundle.Advance(Write(bundle.GetSpan(PrefixBytes + entry.Length), entry));
    }

    /// <summary>Writes an entry, with its length in front, at the beginning of some room.</summary>
    /// <returns>Bytes written.</returns>
    /// <exception cref="ArgumentException">The entry is larger than <see cref="EntryBytesMax"/>, or than the room.</exception>
    public static int Write(Span<byte> target, ReadOnlySpan<byte> entry)
    {
        if (entry.Length > EntryBytesMax || target.Length < PrefixBytes + entry.Length)
            throw new ArgumentException($"An entry is at most {EntryBytesMax} bytes, and must have room.", nameof(entry));
        BinaryPrimitives.WriteUInt16BigEndian(target, (ushort)entry.Length);
        entry.CopyTo(target[PrefixBytes..]);
        return PrefixBytes + entry.Length;
    }

    /// <summary>Takes the first entry off a bundle. False at its end and where it is cut off; the two differ by <paramref name="rest"/> being empty.</summary>
    public static bool TryNext(ref ReadOnlyMemory<byte> rest, out ReadOnlyMemory<byte> entry)
    {
        entry = default;
        if (rest.Length < PrefixBytes)
            return false;
        var length = BinaryPrimitives.ReadUInt16BigEndian(rest.Span);
        if (rest.Length < PrefixBytes + length)
            return false;
        entry = rest.Slice(PrefixBytes, length);
        rest = rest[(PrefixBytes + length)..];
        return true;
    }

    /// <summary>Reads a bundle that must hold exactly <paramref name="width"/> entries and nothing after them.</summary>
    public static bool TryRead(ReadOnlyMemory<byte> bundle, int width, out ReadOnlyMemory<byte>[] entries)
    {
        entries = new ReadOnlyMemory<byte>[width];
        for (var i = 0; i < width; i++)
        {
            if (!TryNext(ref bundle, out entries[i]))
                return false;
        }
        return bundle.IsEmpty;
    }
}
