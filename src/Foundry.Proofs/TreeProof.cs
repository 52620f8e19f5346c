// RFC 6962, sections 2.1.1 (audit paths) and 2.1.2 (consistency proofs); verification as in RFC 9162, 2.1.3.2 and 2.1.4.2.

using System.Numerics;

namespace Foundry.Proofs;

/// <summary>Makes and checks proofs that a leaf is in a tree and that one tree continues another.</summary>
public static class TreeProof
{
    /// <summary>Hashes in the longest proof that a tree of 2^63 leaves can need.</summary>
    public const int HashesMax = 64;

    /// <summary>The audit path of leaf <paramref name="index"/> in the tree that <paramref name="reader"/> reads.</summary>
    public static async ValueTask<TreeHash[]> InclusionAsync(TreeReader reader, long index, CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(reader);
        ArgumentOutOfRangeException.ThrowIfNegative(index);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(index, reader.Size);
        var path = new List<TreeHash>();
        var (start, end) = (0L, reader.Size);
        while (end - start > 1)
        {
            var split = start + LargestPowerBelow(end - start);
            if (index < split)
            {
                path.Add(await reader.RangeAsync(split, end, cancellation));
                end = split;
            }
            else
            {
                path.Add(await reader.RangeAsync(start, split, cancellation));
                start = split;
            }
        }
        path.Reverse();
        return [.. path];
    }

    /// <summary>The proof that the first <paramref name="oldSize"/> leaves of the reader's tree are the whole of an older tree.</summary>
    public static async ValueTask<TreeHash[]> ConsistencyAsync(TreeReader reader, long oldSize, CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(reader);
        ArgumentOutOfRangeException.ThrowIfNegative(oldSize);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(oldSize, reader.Size);
        if (oldSize == 0 || oldSize == reader.Size)
            return [];
        var proof = new List<TreeHash>();
        var (start, end) = (0L, reader.Size);
        while (end != oldSize)
        {
            var split = start + LargestPowerBelow(end - start);
            if (oldSize <= split)
            {
                proof.Add(await reader.RangeAsync(split, end, cancellation));
                end = split;
            }
            else
            {
                proof.Add(await reader.RangeAsync(start, split, cancellation));
                start = split;
            }
        }
        // SUBPROOF's last flag: when the walk never went right, the verifier has this subtree's root already.
        if (start != 0)
            proof.Add(await reader.RangeAsync(start, end, cancellation));
        proof.Reverse();
        return [.. proof];
    }

    /// <summary>Whether <paramref name="path"/> proves that <paramref name="leaf"/> is leaf <paramref name="index"/> of the tree with that root.</summary>
    public static bool VerifyInclusion(TreeHash leaf, long index, long size, TreeHash root, ReadOnlySpan<TreeHash> path)
    {
        if (index < 0 || size < 0 || index >= size || path.Length > HashesMax)
            return false;
        var (fn, sn) = (index, size - 1);
        var hash = leaf;
        foreach (ref readonly var sibling in path)
        {
            if (sn == 0)
                return false;
            if ((fn & 1) == 1 || fn == sn)
            {
                hash = TreeHash.OfNode(sibling, hash);
                for (; (fn & 1) == 0 && fn != 0; fn >>= 1)
                    sn >>= 1;
            }
            else
            {
                hash = TreeHash.OfNode(hash, sibling);
            }
            fn >>= 1;
            sn >>= 1;
        }
        return sn == 0 && hash == root;
    }

    /// <summary>Whether <paramref name="proof"/> proves that the tree of <paramref name="newSize"/> leaves continues the one of <paramref name="oldSize"/>.</summary>
    public static bool VerifyConsistency(long oldSize, TreeHash oldRoot, long newSize, TreeHash newRoot, ReadOnlySpan<TreeHash> proof)
    {
        if (oldSize < 0 || newSize < oldSize || proof.Length > HashesMax)
            return false;
        if (oldSize == newSize)
            return proof.IsEmpty && oldRoot == newRoot;
        if (oldSize == 0)
            return proof.IsEmpty && oldRoot == TreeHash.EmptyRoot;

        // A power of two is one subtree of the new tree, so its root stands in for the proof's first hash.
        var isPerfect = BitOperations.IsPow2(oldSize);
        if (!isPerfect && proof.IsEmpty)
            return false;
        var first = isPerfect ? oldRoot : proof[0];
        var rest = isPerfect ? proof : proof[1..];

        var (fn, sn) = (oldSize - 1, newSize - 1);
        for (; (fn & 1) == 1; fn >>= 1)
            sn >>= 1;
        var (oldHash, newHash) = (first, first);
        foreach (ref readonly var hash in rest)
        {
            if (sn == 0)
                return false;
            if ((fn & 1) == 1 || fn == sn)
            {
                oldHash = TreeHash.OfNode(hash, oldHash);
                newHash = TreeHash.OfNode(hash, newHash);
                for (; (fn & 1) == 0 && fn != 0; fn >>= 1)
                    sn >>= 1;
            }
            else
            {
                newHash = TreeHash.OfNode(newHash, hash);
            }
            fn >>= 1;
            sn >>= 1;
        }
        return sn == 0 && oldHash == oldRoot && newHash == newRoot;
    }

    /// <summary>RFC 6962's <c>k</c>: the largest power of two smaller than <paramref name="count"/>, which is at least 2.</summary>
    internal static long LargestPowerBelow(long count) => 1L << BitOperations.Log2((ulong)(count - 1));
}
