using System.Text;
using CsCheck;

namespace Foundry.Proofs.Tests;

public class PublishedCosignatures
{
    // A public log's checkpoint as a public witness cosigned it, and that witness's published key.
    private const string VerifierKey = "witness.navigli.sunlight.geomys.org+a3e00fe2+BNy/co4C1Hn1p+INwJrfUlgz7W55dSZReusH/GhUhJ/G";
    private const string Text = "coachandhorses2026h1.staging.certificate.transparency.goog\n185550722\nYXAM0VmnrfvLaBCOOYSJhCaE5F10oGBOo+hkbDa1kng=\n";
    private const string LogLine = "— coachandhorses2026h1.staging.certificate.transparency.goog MpXgsHy8ZwxXnO+WjtVrPxAzL49Rs1gWTkNVNeEa//5peAzaocRCB3qt3EaibjzY5GILLtGgBP7dBhgcSHy+JQh0OAc=\n";
    private const string WitnessLine = "— witness.navigli.sunlight.geomys.org o+AP4gAAAABqb7DzNrGFRJnQ9vrJ8xpnwZytnr/ZYczDIsvwvouiSjwOjn7a72ccxBk+lKnZ7dKqkYKER1s/KxLTaVwQD7lJZTC/CQ==\n";

    private static readonly CosignatureVerifier _witness = CosignatureVerifier.TryParse(VerifierKey, out var read) ? read : throw new InvalidOperationException("The key should be read.");

    private static SignedNote Note(string text) => SignedNote.TryParse(Encoding.UTF8.GetBytes(text), out var note) ? note : throw new ArgumentException(text);

    [Fact]
    public void Verify_and_tell_when_they_were_made()
    {
        Assert.True(_witness.HasCosigned(Note($"{Text}\n{LogLine}{WitnessLine}"), out var time));
        Assert.Equal(0x6a6fb0f3, time.ToUnixTimeSeconds());
        Assert.Equal(VerifierKey, _witness.VerifierKey);
    }

    [Fact]
    public void Are_of_no_other_text()
    {
        for (var i = 0; i < Text.Length - 1; i++)
        {
            var changed = Text.ToCharArray();
            changed[i] ^= '\x01';
            Assert.False(SignedNote.TryParse(Encoding.UTF8.GetBytes($"{new string(changed)}\n{WitnessLine}"), out var note) && _witness.HasCosigned(note, out _), $"character {i}");
        }
        Assert.False(_witness.HasCosigned(Note($"{Text}extension\n\n{WitnessLine}"), out _));
    }

    [Fact]
    public void Are_of_no_other_time_and_no_other_signature()
    {
        var line = Note($"{Text}\n{WitnessLine}").Signatures[0];
        for (var bit = 0; bit < line.Signature.Length * 8; bit++)
        {
            var changed = line.Signature.ToArray();
            changed[bit / 8] ^= (byte)(1 << (bit % 8));
            Assert.False(_witness.Verify(Text, changed, out _), $"bit {bit}");
        }
        Assert.False(_witness.Verify(Text, line.Signature.AsSpan(..^1), out _));
        Assert.False(_witness.Verify(Text, [.. line.Signature, 0], out _));
        Assert.True(_witness.Verify(Text, line.Signature, out _));
    }

    [Fact]
    public void Are_worth_nothing_beside_a_false_one_of_the_same_witness()
    {
        var falseLine = WitnessLine.Replace("AAABqb7Dz", "AAABqb7Dy", StringComparison.Ordinal);
        Assert.NotEqual(WitnessLine, falseLine);
        Assert.False(_witness.HasCosigned(Note($"{Text}\n{WitnessLine}{falseLine}"), out _));
    }

    [Fact]
    public void Have_keys_that_sign_no_notes_and_the_other_way_round()
    {
        Assert.False(NoteVerifier.TryParse(VerifierKey, out _));
        using var key = NoteKey.FromSeed(new byte[NoteKey.SeedBytes]);
        Assert.False(CosignatureVerifier.TryParse(key.VerifierFor("log").VerifierKey, out _));
        Assert.NotEqual(key.VerifierFor("log").KeyId, key.CosignerFor("log").KeyId);
    }
}

public class CosignatureTests
{
    private static readonly Gen<NoteKey> _keys = Gen.Byte.Array[NoteKey.SeedBytes].Select(seed => NoteKey.FromSeed(seed));

    [Fact]
    public void Made_verifies_with_its_key_beside_any_others_and_says_its_second() =>
        Gen.Select(_keys, _keys, Gen.Int[0, 4000], Gen.Long[0, 253402300799]).Sample((log, witness, size, seconds) =>
        {
            var root = ReferenceTree.Root(ReferenceTree.Leaves(size % 20));
            var note = new Checkpoint("example.com/log", size, root).Sign(log);
            var at = DateTimeOffset.FromUnixTimeSeconds(seconds);
            var cosigned = note.With([.. note.Signatures, witness.Cosign("w.example", note, at), log.Cosign("v.example", note, at)]);
            Assert.True(SignedNote.TryParse(cosigned.Encode(), out var read));
            Assert.True(witness.CosignerFor("w.example").HasCosigned(read, out var time));
            Assert.Equal(at, time);
            Assert.True(log.CosignerFor("v.example").HasCosigned(read, out _));
            Assert.True(Checkpoint.TryOpen(cosigned.Encode(), log.VerifierFor("example.com/log"), out _));
            Assert.False(witness.CosignerFor("other.example").HasCosigned(read, out _));
        }, iter: 200);

    [Fact]
    public void Lines_survive_without_their_note()
    {
        using var key = NoteKey.FromSeed(new byte[NoteKey.SeedBytes]);
        var note = new Checkpoint("o", 0, TreeHash.EmptyRoot).Sign(key);
        var line = key.Cosign("w", note, DateTimeOffset.UnixEpoch);
        var bytes = SignedNote.Encode([line]);
        Assert.True(SignedNote.TryParseSignatures(bytes, out var read));
        Assert.Equal((line.KeyName, line.KeyId, Convert.ToHexString(line.Signature)), (read[0].KeyName, read[0].KeyId, Convert.ToHexString(read[0].Signature)));
        foreach (var broken in (byte[][])[[], bytes[..^1], bytes[1..], [.. bytes, (byte)'\n'], [.. "text\n"u8, .. bytes]])
            Assert.False(SignedNote.TryParseSignatures(broken, out _), Encoding.UTF8.GetString(broken));
    }
}

public class LogOfSeveralKeys
{
    private static readonly Checkpoint _checkpoint = new("o", 3, ReferenceTree.Root(ReferenceTree.Leaves(3)));

    [Fact]
    public void Opens_with_either_key_alone_and_not_where_a_known_one_is_false()
    {
        using var old = NoteKey.FromSeed(new byte[NoteKey.SeedBytes]);
        using var next = NoteKey.FromSeed([1, .. new byte[NoteKey.SeedBytes - 1]]);
        var both = new LogVerifier(old.VerifierFor("o"), next.VerifierFor("o"));
        var (byOld, byNext) = (_checkpoint.Sign(old), _checkpoint.Sign(next));
        var byBoth = byOld.With([.. byNext.Signatures, .. byOld.Signatures]);
        foreach (var note in (SignedNote[])[byOld, byNext, byBoth])
            Assert.True(both.TryOpen(note, out _));
        foreach (var key in both.Keys)
            Assert.True(new LogVerifier(key).TryOpen(byBoth, out _));
        Assert.False(new LogVerifier(next.VerifierFor("o")).TryOpen(byOld, out _));

        var torn = byNext.Signatures[0] with { Signature = new byte[64] };
        Assert.False(both.TryOpen(byOld.With([.. byOld.Signatures, torn]), out _));
        Assert.True(new LogVerifier(old.VerifierFor("o")).TryOpen(byOld.With([.. byOld.Signatures, torn]), out _));
        Assert.Throws<ArgumentException>(() => new LogVerifier(old.VerifierFor("o"), next.VerifierFor("p")));
        Assert.Throws<ArgumentException>(() => new LogVerifier());
    }
}

public class WitnessRequest
{
    private static readonly NoteKey _log = NoteKey.FromSeed(new byte[NoteKey.SeedBytes]);
    private static readonly TreeHash[] _leaves = ReferenceTree.Leaves(300);

    private static Checkpoint At(int size) => new("o", size, ReferenceTree.Root(_leaves.AsSpan(0, size)));

    private static async Task<AddCheckpoint> RequestAsync(int from, int to) =>
        new(from, await TreeProof.ConsistencyAsync(ReferenceTree.Reader(_leaves.AsSpan(0, to)), from, TestContext.Current.CancellationToken), At(to).Sign(_log));

    [Fact]
    public async Task Survives_the_wire_and_is_cosigned_from_any_size_to_any()
    {
        for (var from = 0; from <= 300; from += 23)
        {
            for (var to = from; to <= 300; to += 31)
            {
                Assert.True(AddCheckpoint.TryParse((await RequestAsync(from, to)).Encode(), out var request));
                Assert.Equal(WitnessVerdict.Cosign, request.Judge(At(to), from == 0 ? null : At(from)));
            }
        }
    }

    [Fact]
    public async Task Is_judged_as_the_specification_says()
    {
        var request = await RequestAsync(100, 200);
        var forged = At(100) with { Root = At(99).Root };
        Assert.Equal(WitnessVerdict.Stale, request.Judge(At(200), null));
        Assert.Equal(WitnessVerdict.Stale, request.Judge(At(200), At(101)));
        Assert.Equal(WitnessVerdict.Inconsistent, request.Judge(At(200), forged));
        Assert.Equal(WitnessVerdict.Inconsistent, (request with { Proof = [] }).Judge(At(200), At(100)));
        Assert.Equal(WitnessVerdict.Malformed, request.Judge(At(99), At(100)));
        Assert.Equal(WitnessVerdict.Forked, (await RequestAsync(100, 100)).Judge(At(100), forged));
        Assert.Equal(WitnessVerdict.Forked, (await RequestAsync(0, 0)).Judge(forged with { Size = 0 }, null));
        Assert.Equal(WitnessVerdict.Inconsistent, (request with { OldSize = 0 }).Judge(At(200), null));
    }

    [Fact]
    public async Task Opens_with_a_known_key_of_a_known_log_alone()
    {
        var request = await RequestAsync(0, 5);
        using var other = NoteKey.FromSeed([1, .. new byte[NoteKey.SeedBytes - 1]]);
        Dictionary<string, LogVerifier> Of(NoteKey key, string name) => new() { [name] = new LogVerifier(key.VerifierFor(name)) };
        Assert.Equal(WitnessVerdict.Cosign, request.Open(Of(_log, "o"), out var checkpoint));
        Assert.Equal(At(5), checkpoint);
        Assert.Equal(WitnessVerdict.UnknownLog, request.Open(Of(_log, "p"), out _));
        Assert.Equal(WitnessVerdict.NotSigned, request.Open(Of(other, "o"), out _));
        Assert.Equal(WitnessVerdict.Malformed, (request with { Checkpoint = _log.Sign("o", "o\n05\nx\n") }).Open(Of(_log, "o"), out _));
    }

    [Fact]
    public async Task Is_read_only_in_its_one_form()
    {
        var text = Encoding.UTF8.GetString((await RequestAsync(100, 200)).Encode());
        var hash = Convert.ToBase64String(new byte[TreeHash.Length]) + "\n";
        foreach (var broken in new[]
        {
            "", text[1..], text.Replace("old 100", "old 0100", StringComparison.Ordinal), text.Replace("old 100", "old -1", StringComparison.Ordinal),
            text.Replace("old 100", "old +1", StringComparison.Ordinal), text.Replace("old 100\n", "old 100\n!\n", StringComparison.Ordinal),
            text.Replace("old 100\n", "old 100\n" + string.Concat(Enumerable.Repeat(hash, AddCheckpoint.ProofLinesMax)), StringComparison.Ordinal),
            text.Replace("old 100\n", "old 100\nAAAA\n", StringComparison.Ordinal), text.Replace("\n\no\n", "\no\n", StringComparison.Ordinal), text[..^1],
        })
            Assert.False(AddCheckpoint.TryParse(Encoding.UTF8.GetBytes(broken), out _), broken);
        Assert.False(AddCheckpoint.TryParse(new byte[AddCheckpoint.BytesMax + 1], out _));
        Gen.Byte.Array[0, 200].Sample(bytes => !AddCheckpoint.TryParse(bytes, out var read) || read.Encode().SequenceEqual(bytes));
    }
}
