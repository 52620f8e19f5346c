// c2sp.org/tlog-checkpoint: the text of a signed note that says how large a log is, and its root.

using System.Diagnostics.CodeAnalysis;
using System.Globalization;

namespace Foundry.Proofs;

/// <summary>What a log commits to: everything in its first <paramref name="Size"/> entries, by one root.</summary>
/// <param name="Origin">The log's name.</param>
/// <param name="Size">Entries covered.</param>
/// <param name="Root">Root of the tree over them.</param>
public sealed record Checkpoint(string Origin, long Size, TreeHash Root)
{
    private const int LinesMin = 3;

    /// <summary>The note text: origin, size in decimal, root in base64, a line each.</summary>
    public string Text => $"{Origin}\n{Size.ToString(CultureInfo.InvariantCulture)}\n{Convert.ToBase64String(Root.Bytes)}\n";

    /// <summary>Reads a checkpoint's text. Extension lines are allowed and ignored, empty ones are not.</summary>
    public static bool TryParse(string? text, [NotNullWhen(true)] out Checkpoint? checkpoint)
    {
        checkpoint = null;
        if (text is null || !text.EndsWith('\n'))
            return false;
        var lines = text[..^1].Split('\n');
        if (lines.Length < LinesMin || lines.Any(line => line.Length == 0))
            return false;
        if (!long.TryParse(lines[1], NumberStyles.None, CultureInfo.InvariantCulture, out var size)
            || size.ToString(CultureInfo.InvariantCulture) != lines[1])
            return false;
        if (!SignedNote.TryBase64(lines[2], out var root) || root.Length != TreeHash.Length)
            return false;
        checkpoint = new Checkpoint(lines[0], size, new TreeHash(root));
        return true;
    }

    /// <summary>Signs the checkpoint under its origin's name.</summary>
    public SignedNote Sign(NoteKey key)
    {
        ArgumentNullException.ThrowIfNull(key);
        return key.Sign(Origin, Text);
    }

    /// <summary>Reads a note that must be a checkpoint signed by <paramref name="verifier"/> and of the log it names.</summary>
    public static bool TryOpen(ReadOnlySpan<byte> note, NoteVerifier verifier, [NotNullWhen(true)] out Checkpoint? checkpoint) =>
        TryOpen(note, new LogVerifier(verifier), out checkpoint);

    /// <summary>Reads a note that must be a checkpoint of the log, signed by one of its keys.</summary>
    public static bool TryOpen(ReadOnlySpan<byte> note, LogVerifier verifier, [NotNullWhen(true)] out Checkpoint? checkpoint)
    {
        ArgumentNullException.ThrowIfNull(verifier);
        checkpoint = null;
        return SignedNote.TryParse(note, out var signed) && verifier.TryOpen(signed, out checkpoint);
    }
}
