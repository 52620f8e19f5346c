// c2sp.org/tlog-witness, "add-checkpoint".

using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using System.Text;

namespace Foundry.Proofs;

/// <summary>What a witness does with a checkpoint.</summary>
public enum WitnessVerdict
{
    /// <summary>Remember it durably, then cosign it (<c>200</c>).</summary>
    Cosign,

    /// <summary>The request makes no sense (<c>400</c>).</summary>
    Malformed,

    /// <summary>The witness does not follow this log (<c>404</c>).</summary>
    UnknownLog,

    /// <summary>No key that the witness knows of the log signed it (<c>403</c>).</summary>
    NotSigned,

    /// <summary>The witness remembers another size than the request starts from (<c>409</c>, and the size).</summary>
    Stale,

    /// <summary>The log signed two roots for one size (<c>409</c>). Both checkpoints together prove it to anyone.</summary>
    Forked,

    /// <summary>The proof does not show that the tree continues the one the witness remembers (<c>422</c>).</summary>
    Inconsistent,
}

/// <summary>A log's request to a witness: cosign this checkpoint, which continues the one that you remember.</summary>
/// <param name="OldSize">Size of the checkpoint that the witness is believed to remember; 0 for none.</param>
/// <param name="Proof">Consistency proof from there.</param>
/// <param name="Checkpoint">The checkpoint as a note, signed by its log.</param>
public sealed record AddCheckpoint(long OldSize, IReadOnlyList<TreeHash> Proof, SignedNote Checkpoint)
{
    /// <summary>The path below a witness's submission prefix.</summary>
    public const string Path = "add-checkpoint";

    /// <summary>The media type of a <c>409</c> that tells the size remembered.</summary>
    public const string SizeType = "text/x.tlog.size";

    /// <summary>Lines a proof may have.</summary>
    public const int ProofLinesMax = 63;

    /// <summary>Longest request that is read.</summary>
    public const int BytesMax = SignedNote.BytesMax + 4096;

    private const string OldPrefix = "old ";

    /// <summary>The request's bytes.</summary>
    public byte[] Encode()
    {
        var head = new StringBuilder(OldPrefix).Append(OldSize.ToString(CultureInfo.InvariantCulture)).Append('\n');
        foreach (var hash in Proof)
            head.Append(Convert.ToBase64String(hash.Bytes)).Append('\n');
        return [.. Encoding.UTF8.GetBytes(head.Append('\n').ToString()), .. Checkpoint.Encode()];
    }

    /// <summary>Reads a request. False where it departs from the format in any way.</summary>
    public static bool TryParse(ReadOnlySpan<byte> bytes, [NotNullWhen(true)] out AddCheckpoint? request)
    {
        request = null;
        var split = bytes.IndexOf("\n\n"u8);
        if (bytes.Length > BytesMax || split < 0 || !SignedNote.TryParse(bytes[(split + 2)..], out var note))
            return false;
        var lines = Encoding.UTF8.GetString(bytes[..split]).Split('\n');
        if (lines.Length > 1 + ProofLinesMax || !lines[0].StartsWith(OldPrefix, StringComparison.Ordinal) || !TryParseSize(lines[0][OldPrefix.Length..], out var oldSize))
            return false;
        var proof = new TreeHash[lines.Length - 1];
        for (var i = 0; i < proof.Length; i++)
        {
            if (!SignedNote.TryBase64(lines[i + 1], out var hash) || hash.Length != TreeHash.Length)
                return false;
            proof[i] = new TreeHash(hash);
        }
        request = new AddCheckpoint(oldSize, proof, note);
        return true;
    }

    /// <summary>Reads a size in its one decimal spelling.</summary>
    public static bool TryParseSize(string text, out long size) =>
        long.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out size) && size.ToString(CultureInfo.InvariantCulture) == text;

    /// <summary>Opens the checkpoint with the keys that the witness has of its log; <see cref="WitnessVerdict.Cosign"/> when that much is right.</summary>
    public WitnessVerdict Open(IReadOnlyDictionary<string, LogVerifier> logs, out Checkpoint? checkpoint)
    {
        ArgumentNullException.ThrowIfNull(logs);
        if (!Proofs.Checkpoint.TryParse(Checkpoint.Text, out checkpoint))
            return WitnessVerdict.Malformed;
        if (!logs.TryGetValue(checkpoint.Origin, out var log))
            return WitnessVerdict.UnknownLog;
        return log.TryOpen(Checkpoint, out checkpoint) ? WitnessVerdict.Cosign : WitnessVerdict.NotSigned;
    }

    /// <summary>Whether an opened checkpoint continues what the witness remembers of the log; null for nothing yet.</summary>
    public WitnessVerdict Judge(Checkpoint checkpoint, Checkpoint? remembered)
    {
        ArgumentNullException.ThrowIfNull(checkpoint);
        if (OldSize > checkpoint.Size)
            return WitnessVerdict.Malformed;
        if (OldSize != (remembered?.Size ?? 0))
            return WitnessVerdict.Stale;
        var oldRoot = remembered?.Root ?? TreeHash.EmptyRoot;
        if (OldSize == checkpoint.Size && oldRoot != checkpoint.Root)
            return WitnessVerdict.Forked;
        return TreeProof.VerifyConsistency(OldSize, oldRoot, checkpoint.Size, checkpoint.Root, Proof.ToArray()) ? WitnessVerdict.Cosign : WitnessVerdict.Inconsistent;
    }
}
