// CRC-32C (Castagnoli), RFC 3720 appendix B.4. It finds damage, not malice: that is what the signed root is for.

using System.Numerics;
using System.Runtime.InteropServices;

namespace Foundry.Ledger.Storage;

/// <summary>The checksum of the journal's frames and the index's files.</summary>
internal static class Crc32C
{
    /// <summary>The checksum of some bytes, behind others whose checksum is <paramref name="before"/>.</summary>
    public static uint Of(ReadOnlySpan<byte> bytes, uint before = 0)
    {
        var crc = ~before;
        var words = MemoryMarshal.Cast<byte, ulong>(bytes);
        foreach (var word in words)
            crc = BitOperations.Crc32C(crc, word);
        foreach (var one in bytes[(words.Length * sizeof(ulong))..])
            crc = BitOperations.Crc32C(crc, one);
        return ~crc;
    }
}
