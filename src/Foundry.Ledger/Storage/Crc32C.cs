// CRC-32C (Castagnoli), RFC 3720 appendix B.4. It finds damage, not malice: that is what the signed root is for.

using System.Numerics;
using System.Runtime.InteropServices;

namespace Foundry.Ledger.Storage;

/// <summary>The checksum of the journal's frames.</summary>
internal static class Crc32C
{
    /// <summary>The checksum of some bytes.</summary>
    public static uint Of(ReadOnlySpan<byte> bytes)
    {
        var crc = uint.MaxValue;
        var words = MemoryMarshal.Cast<byte, ulong>(bytes);
        foreach (var word in words)
            crc = BitOperations.Crc32C(crc, word);
        foreach (var one in bytes[(words.Length * sizeof(ulong))..])
            crc = BitOperations.Crc32C(crc, one);
        return ~crc;
    }
}
