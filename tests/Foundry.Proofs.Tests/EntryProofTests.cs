using System.Text;

namespace Foundry.Proofs.Tests;

/// <summary>Proof files as c2sp.org/tlog-proof has them.</summary>
public sealed class EntryProofs : IDisposable
{
    private const string Origin = "example.com/log";
    private readonly NoteKey _key = NoteKey.FromSeed(new byte[NoteKey.SeedBytes]);

    public void Dispose() => _key.Dispose();

    [Theory]
    [InlineData(1, 0), InlineData(2, 1), InlineData(3, 2), InlineData(255, 7), InlineData(256, 255), InlineData(257, 256), InlineData(70_000, 43_210)]
    public async Task Prove_an_entry_by_the_verifier_key_alone(int size, int index)
    {
        var (proof, entry) = await MakeAsync(size, index);
        Assert.True(EntryProof.TryParse(proof.Encode(), out var read));
        Assert.Equal(proof.Encode(), read.Encode());
        Assert.True(read.Proves(entry, new LogVerifier(_key.VerifierFor(Origin)), out var checkpoint));
        Assert.Equal((Origin, (long)size), (checkpoint.Origin, checkpoint.Size));
        Assert.Equal(entry, read.Extra!.Value.ToArray());
    }

    [Fact]
    public async Task Prove_nothing_else()
    {
        var (proof, entry) = await MakeAsync(1000, 300);
        var verifier = new LogVerifier(_key.VerifierFor(Origin));
        using var other = NoteKey.FromSeed([.. Enumerable.Repeat((byte)1, NoteKey.SeedBytes)]);
        Assert.True(proof.Proves(entry, verifier, out _));
        Assert.True(proof.Proves(entry, new LogVerifier(other.VerifierFor(Origin), _key.VerifierFor(Origin)), out _));
        Assert.False(proof.Proves([.. entry, 0], verifier, out _));
        Assert.False(proof.Proves(entry, new LogVerifier(other.VerifierFor(Origin)), out _));
        Assert.False(proof.Proves(entry, new LogVerifier(_key.VerifierFor("example.com/other")), out _));
        Assert.False((proof with { Index = 301 }).Proves(entry, verifier, out _));
        Assert.False((proof with { Path = [.. proof.Path.SkipLast(1)] }).Proves(entry, verifier, out _));
    }

    /// <summary>Every byte matters: whatever is changed, the file is no proof any more, or proves the same entry in the same words.</summary>
    [Fact]
    public async Task With_a_flipped_byte_prove_nothing()
    {
        var (proof, _) = await MakeAsync(300, 299);
        var bytes = proof.Encode();
        for (var i = 0; i < bytes.Length; i++)
        {
            var damaged = bytes.ToArray();
            damaged[i] ^= 1;
            Assert.False(EntryProof.TryParse(damaged, out var read) && read.Extra is { } entry && read.Proves(entry.Span, new LogVerifier(_key.VerifierFor(Origin)), out _), $"byte {i}");
        }
    }

    [Fact]
    public async Task Are_written_as_the_specification_says()
    {
        var (proof, entry) = await MakeAsync(2, 1);
        var text = Encoding.UTF8.GetString(proof.Encode());
        Assert.Equal($"c2sp.org/tlog-proof@v1\nextra {Convert.ToBase64String(entry)}\nindex 1\n{Convert.ToBase64String(proof.Path[0].Bytes)}\n\n{Encoding.UTF8.GetString(proof.Note.Span)}", text);
        Assert.StartsWith("c2sp.org/tlog-proof@v1\nindex 1\n", Encoding.UTF8.GetString((proof with { Extra = null }).Encode()), StringComparison.Ordinal);
    }

    private const string Hash = "gSKyXoYZUgZ6jduWYrkDOARinOMGJveXjgMkBTcdPlQ=";

    public static TheoryData<string, bool> Texts => new()
    {
        { "c2sp.org/tlog-proof@v1\nindex 0\n\nnote", true },
        { $"c2sp.org/tlog-proof@v1\nindex 73894\n{Hash}\n{Hash}\n\nnote", true },
        { $"c2sp.org/tlog-proof@v1\nextra YQ==\nindex 1\n{Hash}\n\nnote", true },
        { "c2sp.org/tlog-proof@v2\nindex 0\n\nnote", false },
        { "c2sp.org/tlog-proof@v1\nindex 0\nnote", false },
        { "c2sp.org/tlog-proof@v1\nindex 00\n\nnote", false },
        { "c2sp.org/tlog-proof@v1\nindex -1\n\nnote", false },
        { "c2sp.org/tlog-proof@v1\nindex +1\n\nnote", false },
        { "c2sp.org/tlog-proof@v1\nindex 9223372036854775808\n\nnote", false },
        { "c2sp.org/tlog-proof@v1\nindex\n\nnote", false },
        { "c2sp.org/tlog-proof@v1\n\nnote", false },
        { "c2sp.org/tlog-proof@v1\nextra YQ==\n\nnote", false },
        { "c2sp.org/tlog-proof@v1\nextra YQ=\nindex 0\n\nnote", false },
        { "c2sp.org/tlog-proof@v1\nextra \nindex 0\n\nnote", false },
        { "c2sp.org/tlog-proof@v1\nindex 0\nextra YQ==\n\nnote", false },
        { "c2sp.org/tlog-proof@v1\nindex 0\nYQ==\n\nnote", false },
        { "c2sp.org/tlog-proof@v1\r\nindex 0\r\n\r\nnote", false },
        { $"c2sp.org/tlog-proof@v1\nindex 0\n{string.Concat(Enumerable.Repeat(Hash + "\n", 65))}\nnote", false },
        { "", false },
    };

    [Theory, MemberData(nameof(Texts))]
    public void Are_read_in_their_one_spelling(string text, bool isProof) =>
        Assert.Equal(isProof, EntryProof.TryParse(Encoding.UTF8.GetBytes(text), out _));

    private async Task<(EntryProof Proof, byte[] Entry)> MakeAsync(int size, int index)
    {
        var leaves = ReferenceTree.Leaves(size);
        var note = new Checkpoint(Origin, size, ReferenceTree.Root(leaves)).Sign(_key).Encode();
        var path = await TreeProof.InclusionAsync(ReferenceTree.Reader(leaves), index, TestContext.Current.CancellationToken);
        var entry = BitConverter.GetBytes(index);
        return (new EntryProof(index, path, note, entry), entry);
    }
}
