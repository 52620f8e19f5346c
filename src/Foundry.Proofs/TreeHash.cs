// RFC 6962, section 2.1 (Merkle hash trees over SHA-256); tiles hold these hashes back to back (c2sp.org/tlog-tiles).

using System.Buffers;
using System.Diagnostics.CodeAnalysis;
using System.Runtime.InteropServices;
using System.Security.Cryptography;

namespace Foundry.Proofs;

/// <summary>A SHA-256 value in a Merkle tree: a leaf's, an inner node's or a root's. 32 bytes, no more, so that a tile's bytes are its hashes.</summary>
[StructLayout(LayoutKind.Sequential)]
public readonly struct TreeHash : IEquatable<TreeHash>
{
    /// <summary>Bytes in a hash.</summary>
    public const int Length = SHA256.HashSizeInBytes;

    private const byte LeafPrefix = 0x00;
    private const byte NodePrefix = 0x01;
    private const int LeafStackBytesMax = 2048;

    private readonly ulong _a, _b, _c, _d;

    /// <summary>Takes exactly <see cref="Length"/> bytes.</summary>
    /// <exception cref="ArgumentException">There are more or fewer.</exception>
    public TreeHash(ReadOnlySpan<byte> bytes)
    {
        if (bytes.Length != Length)
            throw new ArgumentException($"A tree hash is {Length} bytes, not {bytes.Length}.", nameof(bytes));
        this = MemoryMarshal.Read<TreeHash>(bytes);
    }

    /// <summary>The root of the tree without leaves: SHA-256 of nothing.</summary>
    public static TreeHash EmptyRoot { get; } = new(SHA256.HashData([]));

    /// <summary>The 32 bytes, as hashed.</summary>
    [UnscopedRef]
    public ReadOnlySpan<byte> Bytes => MemoryMarshal.AsBytes(new ReadOnlySpan<TreeHash>(in this));

    /// <summary>SHA-256(0x00 || entry).</summary>
    public static TreeHash OfLeaf(ReadOnlySpan<byte> entry)
    {
        byte[]? rented = null;
        var length = entry.Length + 1;
        var input = length <= LeafStackBytesMax ? stackalloc byte[LeafStackBytesMax] : rented = ArrayPool<byte>.Shared.Rent(length);
        input[0] = LeafPrefix;
        entry.CopyTo(input[1..]);
        var hash = Hash(input[..length]);
        if (rented is not null)
            ArrayPool<byte>.Shared.Return(rented);
        return hash;
    }

    /// <summary>SHA-256(0x01 || left || right).</summary>
    public static TreeHash OfNode(in TreeHash left, in TreeHash right)
    {
        Span<byte> input = stackalloc byte[1 + 2 * Length];
        input[0] = NodePrefix;
        left.Bytes.CopyTo(input[1..]);
        right.Bytes.CopyTo(input[(1 + Length)..]);
        return Hash(input);
    }

    /// <summary>The hashes that a tile's bytes are.</summary>
    /// <exception cref="ArgumentException">The bytes are not a whole number of hashes.</exception>
    public static ReadOnlySpan<TreeHash> FromTile(ReadOnlySpan<byte> tile)
    {
        if (tile.Length % Length != 0)
            throw new ArgumentException("A tile is a whole number of hashes.", nameof(tile));
        return MemoryMarshal.Cast<byte, TreeHash>(tile);
    }

    /// <summary>The bytes of a tile of these hashes.</summary>
    public static ReadOnlySpan<byte> ToTile(ReadOnlySpan<TreeHash> hashes) => MemoryMarshal.AsBytes(hashes);

    /// <summary>The root of a perfect subtree whose lowest hashes are given: 1, 2, 4, … of them.</summary>
    internal static TreeHash OfPerfect(ReadOnlySpan<TreeHash> hashes)
    {
        Span<TreeHash> row = stackalloc TreeHash[hashes.Length];
        hashes.CopyTo(row);
        for (var width = hashes.Length; width > 1; width /= 2)
        {
            for (var i = 0; i < width / 2; i++)
                row[i] = OfNode(row[2 * i], row[2 * i + 1]);
        }
        return row[0];
    }

    private static TreeHash Hash(ReadOnlySpan<byte> input)
    {
        Span<byte> output = stackalloc byte[Length];
        SHA256.HashData(input, output);
        return MemoryMarshal.Read<TreeHash>(output);
    }

    /// <inheritdoc/>
    public bool Equals(TreeHash other) => _a == other._a && _b == other._b && _c == other._c && _d == other._d;

    /// <inheritdoc/>
    public override bool Equals(object? obj) => obj is TreeHash other && Equals(other);

    /// <inheritdoc/>
    public override int GetHashCode() => _a.GetHashCode();

    /// <summary>Lower-case hexadecimal.</summary>
    public override string ToString() => Convert.ToHexStringLower(Bytes);

    /// <summary>Whether both are the same hash.</summary>
    public static bool operator ==(TreeHash left, TreeHash right) => left.Equals(right);

    /// <summary>Whether the two hashes differ.</summary>
    public static bool operator !=(TreeHash left, TreeHash right) => !left.Equals(right);
}
