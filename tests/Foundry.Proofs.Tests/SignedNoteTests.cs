using System.Text;

namespace Foundry.Proofs.Tests;

public class PublishedNotes
{
    // golang.org/x/mod/sumdb/note's example keys; the seed is what its PRIVATE+KEY string holds.
    private const string PeterVerifierKey = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    private const string PeterPrivate = "AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
    private const string EnochVerifierKey = "EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop";
    private const string Text = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n";
    private const string PeterLine = "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
    private const string EnochLine = "— EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ=\n";

    private static SignedNote? Read(string note) => SignedNote.TryParse(Encoding.UTF8.GetBytes(note), out var read) ? read : null;

    private static NoteVerifier Verifier(string key) =>
        NoteVerifier.TryParse(key, out var verifier) ? verifier : throw new InvalidOperationException("The key should be read.");

    [Theory]
    [InlineData(PeterVerifierKey)]
    [InlineData(EnochVerifierKey)]
    [InlineData("example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k")]
    public void Have_verifier_keys_that_survive_the_round_trip(string key) => Assert.Equal(key, Verifier(key).VerifierKey);

    [Fact]
    public void Of_the_specification_verify()
    {
        var note = Read("This is an example message.\n\n— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n");
        Assert.True(note?.IsSignedBy(Verifier("example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k")));
    }

    [Fact]
    public void Are_what_we_sign_byte_for_byte()
    {
        using var key = NoteKey.FromSeed(Convert.FromBase64String(PeterPrivate).AsSpan(1));
        Assert.Equal(Text + "\n" + PeterLine, Encoding.UTF8.GetString(key.Sign("PeterNeumann", Text).Encode()));
        Assert.Equal(PeterVerifierKey, key.VerifierFor("PeterNeumann").VerifierKey);
    }

    [Fact]
    public void Signed_by_two_verify_with_either_key_and_no_third()
    {
        var note = Read(Text + "\n" + PeterLine + EnochLine);
        Assert.True(note?.IsSignedBy(Verifier(PeterVerifierKey)));
        Assert.True(note?.IsSignedBy(Verifier(EnochVerifierKey)));
        Assert.False(note?.IsSignedBy(Verifier("example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k")));
    }

    [Fact]
    public void With_one_true_and_one_false_line_of_the_same_key_are_not_signed()
    {
        var falseLine = PeterLine.Replace("x08go/ZJ", "x08go/ZK", StringComparison.Ordinal);
        Assert.False(Read(Text + "\n" + PeterLine + falseLine)?.IsSignedBy(Verifier(PeterVerifierKey)));
    }

    [Fact]
    public void With_any_byte_of_the_text_changed_are_not_signed()
    {
        var verifier = Verifier(PeterVerifierKey);
        var bytes = Encoding.UTF8.GetBytes(Text + "\n" + PeterLine);
        for (var i = 0; i < Text.Length; i++)
        {
            bytes[i] ^= 1;
            Assert.False(SignedNote.TryParse(bytes, out var note) && note.IsSignedBy(verifier), $"byte {i}");
            bytes[i] ^= 1;
        }
    }

    public static TheoryData<string> Malformed => new()
    {
        Text,
        Text + "\n",
        Text + "\n" + PeterLine[..^1],
        "\u0001" + Text + "\n" + PeterLine,
        Text + "\n— Bad Name x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=",
        Text + "\n" + PeterLine + "Unexpected line.\n",
        Text + "\n" + PeterLine.Replace("— ", "- ", StringComparison.Ordinal),
        Text + "\n— PeterNeumann x08gow==\n",
        Text + "\n" + PeterLine.Replace("x08go/", "x08g o/", StringComparison.Ordinal),
        Text + "\n" + string.Concat(Enumerable.Repeat(PeterLine, SignedNote.SignaturesMax + 1)),
        "",
    };

    [Theory, MemberData(nameof(Malformed))]
    public void That_depart_from_the_format_are_not_read(string note) => Assert.Null(Read(note));

    [Fact]
    public void That_are_not_UTF8_are_not_read() =>
        Assert.False(SignedNote.TryParse([0xff, .. Encoding.UTF8.GetBytes(Text + "\n" + PeterLine)], out _));

    [Fact]
    public void Have_verifier_keys_that_no_mangling_survives()
    {
        for (var i = 0; i < PeterVerifierKey.Length; i++)
        {
            var mangled = PeterVerifierKey.ToCharArray();
            mangled[i]++;
            Assert.False(NoteVerifier.TryParse(new string(mangled), out _), $"character {i}");
            Assert.False(NoteVerifier.TryParse(PeterVerifierKey[..i], out _), $"the first {i}");
            if (i > 0)
                Assert.False(NoteVerifier.TryParse(PeterVerifierKey[i..], out _), $"from {i}");
        }
        // Both have a key ID that fits, by the package's own tests: one a key too long, one of an unknown type.
        Assert.False(NoteVerifier.TryParse("PeterNeumann+cc469956+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TWBADKEY==", out _));
        Assert.False(NoteVerifier.TryParse("PeterNeumann+173116ae+ZRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", out _));
    }
}

public class CheckpointTests
{
    private static readonly byte[] _seed = new byte[NoteKey.SeedBytes];
    private static readonly Checkpoint _checkpoint = new("example.com/log42", 20, ReferenceTree.Root(ReferenceTree.Leaves(20)));

    [Fact]
    public void Opens_with_the_key_of_its_origin_and_no_other()
    {
        using var key = NoteKey.FromSeed(_seed);
        var note = _checkpoint.Sign(key).Encode();
        Assert.True(Checkpoint.TryOpen(note, key.VerifierFor("example.com/log42"), out var opened));
        Assert.Equal(_checkpoint, opened);
        Assert.False(Checkpoint.TryOpen(note, key.VerifierFor("example.com/log43"), out _));
        using var other = NoteKey.FromSeed([1, .. _seed[1..]]);
        Assert.False(Checkpoint.TryOpen(note, other.VerifierFor("example.com/log42"), out _));
    }

    [Fact]
    public void Signed_under_its_name_but_of_another_origin_does_not_open()
    {
        using var key = NoteKey.FromSeed(_seed);
        var note = key.Sign("example.com/log42", (_checkpoint with { Origin = "example.com/log43" }).Text).Encode();
        Assert.False(Checkpoint.TryOpen(note, key.VerifierFor("example.com/log42"), out _));
    }

    [Theory]
    [InlineData("o\n20\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n", true)]
    [InlineData("o\n20\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\nextension\n", true)]
    [InlineData("o\n020\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n", false)]
    [InlineData("o\n-1\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n", false)]
    [InlineData("o\n20\nAAAA\n", false)]
    [InlineData("\n20\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n", false)]
    [InlineData("o\n20\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\n", false)]
    [InlineData("o\n20\n", false)]
    [InlineData("", false)]
    public void Text_is_read_only_in_its_one_form(string text, bool isRead) =>
        Assert.Equal(isRead, Checkpoint.TryParse(text, out _));
}
