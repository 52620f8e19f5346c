// docs/formats/ledger.md, "Journal, version 1".

using System.Buffers.Binary;
using Foundry.Proofs;

namespace Foundry.Ledger.Storage;

/// <summary>One commit: some entries, and the checkpoint that covers them, signed.</summary>
/// <param name="Start">Index of the first entry.</param>
/// <param name="Leaves">The entries, in order.</param>
/// <param name="Note">The checkpoint after them.</param>
internal sealed record JournalFrame(long Start, IReadOnlyList<ReadOnlyMemory<byte>> Leaves, byte[] Note)
{
    /// <summary>Bytes in front of a frame's body.</summary>
    public const int HeaderBytes = 32;

    /// <summary>Bytes of entries in a frame: a bundle's worth, which is what a new journal begins with at most.</summary>
    public const int EntryBytesMax = EntryBundle.BytesMax;

    private const int BodyBytesMax = EntryBytesMax + EntryBundle.EntryBytesMax + EntryBundle.PrefixBytes * 2 + SignedNote.BytesMax;
    private const uint Magic = 0x464E4446; // "FNDF"

    /// <summary>The frame's bytes, and where in them each entry begins.</summary>
    public (byte[] Bytes, int[] Places) Encode()
    {
        var bytes = new byte[HeaderBytes + Leaves.Sum(leaf => EntryBundle.PrefixBytes + leaf.Length) + EntryBundle.PrefixBytes + Note.Length];
        var rest = bytes.AsSpan(HeaderBytes);
        var places = new int[Leaves.Count];
        for (var i = 0; i < Leaves.Count; i++)
        {
            places[i] = bytes.Length - rest.Length + EntryBundle.PrefixBytes;
            rest = rest[EntryBundle.Write(rest, Leaves[i].Span)..];
        }
        EntryBundle.Write(rest, Note);
        var header = bytes.AsSpan(0, HeaderBytes);
        BinaryPrimitives.WriteUInt32BigEndian(header, Magic);
        BinaryPrimitives.WriteInt32BigEndian(header[4..], bytes.Length - HeaderBytes);
        BinaryPrimitives.WriteInt64BigEndian(header[8..], Start);
        BinaryPrimitives.WriteInt32BigEndian(header[16..], Leaves.Count);
        BinaryPrimitives.WriteUInt32BigEndian(header[20..], Crc32C.Of(bytes.AsSpan(HeaderBytes)));
        BinaryPrimitives.WriteUInt32BigEndian(header[28..], Crc32C.Of(header[..28]));
        return (bytes, places);
    }

    /// <summary>What a header says.</summary>
    internal readonly record struct Header(int BodyBytes, long Start, int Count, uint BodyChecksum);

    /// <summary>Reads a header. False where it is none that this part writes.</summary>
    public static bool TryReadHeader(ReadOnlySpan<byte> bytes, out Header header)
    {
        header = new Header(
            BinaryPrimitives.ReadInt32BigEndian(bytes[4..]),
            BinaryPrimitives.ReadInt64BigEndian(bytes[8..]),
            BinaryPrimitives.ReadInt32BigEndian(bytes[16..]),
            BinaryPrimitives.ReadUInt32BigEndian(bytes[20..]));
        return BinaryPrimitives.ReadUInt32BigEndian(bytes) == Magic
            && BinaryPrimitives.ReadUInt32BigEndian(bytes[28..]) == Crc32C.Of(bytes[..28])
            && header.BodyBytes is > 0 and <= BodyBytesMax
            && header.Count >= 0
            && header.Start >= 0;
    }

    /// <summary>Reads a body. False where it is not what the header says.</summary>
    public static bool TryReadBody(Header header, byte[] body, out JournalFrame? frame)
    {
        frame = null;
        if (Crc32C.Of(body) != header.BodyChecksum)
            return false;
        ReadOnlyMemory<byte> rest = body;
        var leaves = new List<ReadOnlyMemory<byte>>(Math.Min(header.Count, body.Length / EntryBundle.PrefixBytes));
        for (var i = 0; i < header.Count; i++)
        {
            if (!EntryBundle.TryNext(ref rest, out var leaf))
                return false;
            leaves.Add(leaf);
        }
        if (!EntryBundle.TryNext(ref rest, out var note) || !rest.IsEmpty)
            return false;
        frame = new JournalFrame(header.Start, leaves, note.ToArray());
        return true;
    }
}
