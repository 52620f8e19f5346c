using CsCheck;

namespace Foundry.Proofs.Tests;

public class PublishedProofs
{
    // Certificate Transparency's reference vectors over ReferenceTree.PublishedLeaves.
    public static TheoryData<int, int, string[]> Inclusion => new()
    {
        { 0, 1, [] },
        { 0, 2, ["96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7"] },
        { 1, 2, ["6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"] },
        { 2, 3, ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"] },
        { 0, 8, ["96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7", "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e", "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"] },
        { 5, 8, ["bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b", "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0", "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7"] },
    };

    public static TheoryData<int, int, string[]> Consistency => new()
    {
        { 1, 1, [] },
        { 1, 8, ["96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7", "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e", "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"] },
        { 6, 8, ["0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a", "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0", "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7"] },
        { 2, 5, ["5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e", "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b"] },
    };

    [Theory, MemberData(nameof(Inclusion))]
    public async Task Of_inclusion_are_what_we_make_and_accept(int index, int size, string[] path)
    {
        var leaves = ReferenceTree.PublishedLeafHashes[..size];
        var made = await TreeProof.InclusionAsync(ReferenceTree.Reader(leaves), index, TestContext.Current.CancellationToken);
        Assert.Equal(path, made.Select(hash => hash.ToString()));
        Assert.True(TreeProof.VerifyInclusion(leaves[index], index, size, ReferenceTree.Root(leaves), made));
    }

    [Theory, MemberData(nameof(Consistency))]
    public async Task Of_consistency_are_what_we_make_and_accept(int oldSize, int newSize, string[] proof)
    {
        var leaves = ReferenceTree.PublishedLeafHashes[..newSize];
        var made = await TreeProof.ConsistencyAsync(ReferenceTree.Reader(leaves), oldSize, TestContext.Current.CancellationToken);
        Assert.Equal(proof, made.Select(hash => hash.ToString()));
        Assert.True(TreeProof.VerifyConsistency(oldSize, ReferenceTree.Root(leaves.AsSpan(0, oldSize)), newSize, ReferenceTree.Root(leaves), made));
    }
}

public class EveryProofOfSmallTrees
{
    private const int SizeMax = 40;

    [Fact]
    public async Task Of_inclusion_holds_for_its_leaf_and_no_other()
    {
        for (var size = 1; size <= SizeMax; size++)
        {
            var leaves = ReferenceTree.Leaves(size);
            var (root, reader) = (ReferenceTree.Root(leaves), ReferenceTree.Reader(leaves));
            for (var index = 0; index < size; index++)
            {
                var path = await TreeProof.InclusionAsync(reader, index, TestContext.Current.CancellationToken);
                for (var other = -1; other <= size; other++)
                    Assert.Equal(other == index, TreeProof.VerifyInclusion(leaves[index], other, size, root, path));
                Assert.False(TreeProof.VerifyInclusion(root, index, size, TreeHash.EmptyRoot, path));
                Assert.False(TreeProof.VerifyInclusion(leaves[index], index, size, root, [.. path, root]));
                if (path.Length > 0)
                    Assert.False(TreeProof.VerifyInclusion(leaves[index], index, size, root, path.AsSpan(1)));
            }
        }
    }

    [Fact]
    public async Task Of_consistency_holds_for_its_sizes_and_no_others()
    {
        for (var size = 1; size <= SizeMax; size++)
        {
            var leaves = ReferenceTree.Leaves(size);
            var (root, reader) = (ReferenceTree.Root(leaves), ReferenceTree.Reader(leaves));
            for (var old = 1; old <= size; old++)
            {
                var proof = await TreeProof.ConsistencyAsync(reader, old, TestContext.Current.CancellationToken);
                var oldRoot = ReferenceTree.Root(leaves.AsSpan(0, old));
                Assert.True(TreeProof.VerifyConsistency(old, oldRoot, size, root, proof));
                Assert.False(TreeProof.VerifyConsistency(old, TreeHash.EmptyRoot, size, root, proof));
                Assert.False(TreeProof.VerifyConsistency(old, oldRoot, size, TreeHash.EmptyRoot, proof));
                Assert.False(TreeProof.VerifyConsistency(old, oldRoot, size, root, [.. proof, root]));
                Assert.False(TreeProof.VerifyConsistency(size + 1, oldRoot, size, root, proof));
            }
        }
    }
}

public class ProofsOfLargerTrees
{
    [Fact]
    public async Task Hold_across_tile_boundaries()
    {
        const int size = 66_000;
        var leaves = ReferenceTree.Leaves(size);
        var (root, reader) = (ReferenceTree.Root(leaves), ReferenceTree.Reader(leaves));
        foreach (var at in new[] { 1, 255, 256, 257, 32_768, 65_535, 65_536, 65_537, 65_792, size - 1 })
        {
            var path = await TreeProof.InclusionAsync(reader, at, TestContext.Current.CancellationToken);
            Assert.True(TreeProof.VerifyInclusion(leaves[at], at, size, root, path));
            var proof = await TreeProof.ConsistencyAsync(reader, at, TestContext.Current.CancellationToken);
            Assert.True(TreeProof.VerifyConsistency(at, ReferenceTree.Root(leaves.AsSpan(0, at)), size, root, proof));
        }
    }

    [Fact]
    public void With_one_bit_changed_are_refused() =>
        Gen.Select(Gen.Int[2, 600], Gen.Int[0, int.MaxValue], Gen.Int[0, int.MaxValue]).Sample(async (size, pick, bit) =>
        {
            var leaves = ReferenceTree.Leaves(size);
            var index = pick % size;
            var path = await TreeProof.InclusionAsync(ReferenceTree.Reader(leaves), index);
            var bytes = TreeHash.ToTile(path).ToArray();
            bytes[bit / 8 % bytes.Length] ^= (byte)(1 << bit % 8);
            Assert.False(TreeProof.VerifyInclusion(leaves[index], index, size, ReferenceTree.Root(leaves), TreeHash.FromTile(bytes)));
        }, iter: 100);
}
