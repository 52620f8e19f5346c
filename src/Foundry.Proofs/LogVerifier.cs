using System.Diagnostics.CodeAnalysis;

namespace Foundry.Proofs;

/// <summary>The keys that sign one log's checkpoints: one or, while a new key takes an old one's place, several.</summary>
public sealed class LogVerifier
{
    /// <summary>Takes a log's keys.</summary>
    /// <exception cref="ArgumentException">There are none, or they have several names; a log's keys have its origin's.</exception>
    public LogVerifier(params IReadOnlyList<NoteVerifier> keys)
    {
        ArgumentNullException.ThrowIfNull(keys);
        if (keys.Count == 0 || keys.Any(key => key.Name != keys[0].Name))
            throw new ArgumentException("A log has at least one key, and all its keys have its origin's name.", nameof(keys));
        Keys = keys;
    }

    /// <summary>The log's origin.</summary>
    public string Name => Keys[0].Name;

    /// <summary>Its keys.</summary>
    public IReadOnlyList<NoteVerifier> Keys { get; }

    /// <summary>Reads verifier keys of any number of logs, by origin. False where one is not an Ed25519 verifier key.</summary>
    public static bool TryParse(IEnumerable<string> verifierKeys, out IReadOnlyDictionary<string, LogVerifier> logs, [NotNullWhen(false)] out string? unreadable)
    {
        ArgumentNullException.ThrowIfNull(verifierKeys);
        var keys = new List<NoteVerifier>();
        unreadable = null;
        foreach (var text in verifierKeys)
        {
            if (NoteVerifier.TryParse(text, out var key))
                keys.Add(key);
            else
                unreadable ??= text;
        }
        logs = keys.GroupBy(key => key.Name, StringComparer.Ordinal).ToDictionary(log => log.Key, log => new LogVerifier([.. log]), StringComparer.Ordinal);
        return unreadable is null;
    }

    /// <summary>Reads a note that must be a checkpoint of this log: at least one of its keys signed it, and no line that names one is false.</summary>
    public bool TryOpen(SignedNote note, [NotNullWhen(true)] out Checkpoint? checkpoint)
    {
        ArgumentNullException.ThrowIfNull(note);
        checkpoint = null;
        var known = Keys.Where(key => note.Signatures.Any(signature => signature.KeyId == key.KeyId && signature.KeyName == key.Name)).ToList();
        return known.Count > 0 && known.All(note.IsSignedBy) && Checkpoint.TryParse(note.Text, out checkpoint) && checkpoint.Origin == Name;
    }
}
