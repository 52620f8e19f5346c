// c2sp.org/tlog-proof: a text of the entry's index, its audit path and the checkpoint that covers it.

using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using System.Text;

namespace Foundry.Proofs;

/// <summary>
/// What proves, to somebody with the log's verifier key and nothing else, that an entry is in the log. Believed by nobody
/// until <see cref="Proves"/> has said so.
/// </summary>
/// <param name="Index">The entry's index; its cursor is one more.</param>
/// <param name="Path">The audit path, from the leaf's sibling up.</param>
/// <param name="Note">The signed checkpoint, as the log gave it.</param>
/// <param name="Extra">What the maker added. Ours add the leaf, so that the proof holds what it proves; it is authenticated only by being that leaf.</param>
public sealed record EntryProof(long Index, IReadOnlyList<TreeHash> Path, ReadOnlyMemory<byte> Note, ReadOnlyMemory<byte>? Extra)
{
    /// <summary>What such a file's name ends in.</summary>
    public const string FileExtension = ".tlog-proof";

    /// <summary>Longest proof that is looked at: the largest entry in base64, the longest path, the longest note.</summary>
    public const int BytesMax = 256 * 1024;

    private const string Header = "c2sp.org/tlog-proof@v1";
    private const string ExtraPrefix = "extra ";
    private const string IndexPrefix = "index ";

    /// <summary>The proof's bytes.</summary>
    public byte[] Encode()
    {
        var text = new StringBuilder(Header).Append('\n');
        if (Extra is { } extra)
            text.Append(ExtraPrefix).Append(Convert.ToBase64String(extra.Span)).Append('\n');
        text.Append(IndexPrefix).Append(Index.ToString(CultureInfo.InvariantCulture)).Append('\n');
        foreach (var hash in Path)
            text.Append(Convert.ToBase64String(hash.Bytes)).Append('\n');
        return [.. Encoding.ASCII.GetBytes(text.Append('\n').ToString()), .. Note.Span];
    }

    /// <summary>Reads a proof. False where it departs from the format in any way; the checkpoint in it is looked at by <see cref="Proves"/> alone.</summary>
    public static bool TryParse(ReadOnlyMemory<byte> bytes, [NotNullWhen(true)] out EntryProof? proof)
    {
        proof = null;
        var end = bytes.Span.IndexOf("\n\n"u8);
        if (bytes.Length > BytesMax || end < 0 || !Ascii.IsValid(bytes.Span[..end]))
            return false;
        var lines = new Queue<string>(Encoding.ASCII.GetString(bytes.Span[..end]).Split('\n'));
        if (lines.Dequeue() != Header)
            return false;
        byte[]? extra = null;
        if (lines.TryPeek(out var line) && line.StartsWith(ExtraPrefix, StringComparison.Ordinal)
            && !SignedNote.TryBase64(lines.Dequeue()[ExtraPrefix.Length..], out extra))
            return false;
        if (!lines.TryDequeue(out line) || !TryIndex(line, out var index) || lines.Count > TreeProof.HashesMax)
            return false;
        var path = new List<TreeHash>(lines.Count);
        foreach (var text in lines)
        {
            if (!SignedNote.TryBase64(text, out var hash) || hash.Length != TreeHash.Length)
                return false;
            path.Add(new TreeHash(hash));
        }
        proof = new EntryProof(index, path, bytes[(end + 2)..], extra);
        return true;
    }

    /// <summary>Whether this is the log's own word, by one of <paramref name="log"/>'s keys, that <paramref name="entry"/> is its entry <see cref="Index"/>.</summary>
    public bool Proves(ReadOnlySpan<byte> entry, LogVerifier log, [NotNullWhen(true)] out Checkpoint? checkpoint) =>
        Checkpoint.TryOpen(Note.Span, log, out checkpoint)
        && TreeProof.VerifyInclusion(TreeHash.OfLeaf(entry), Index, checkpoint.Size, checkpoint.Root, [.. Path]);

    private static bool TryIndex(string line, out long index)
    {
        index = 0;
        return line.StartsWith(IndexPrefix, StringComparison.Ordinal)
            && long.TryParse(line.AsSpan(IndexPrefix.Length), NumberStyles.None, CultureInfo.InvariantCulture, out index)
            && line == IndexPrefix + index.ToString(CultureInfo.InvariantCulture);
    }
}
