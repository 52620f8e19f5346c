using System.Diagnostics.CodeAnalysis;
using System.Text;
using Foundry.Tokens;

namespace Foundry.Cli.Bulk;

/// <summary>One line's work.</summary>
/// <param name="Line">Where it stands in the list, from 1.</param>
/// <param name="Id">What it is about: a public key in its stored form, or a token's ID.</param>
/// <param name="UserId">The person the key is of, where the line says.</param>
internal sealed record BulkItem(int Line, string Id, string? UserId = null);

/// <summary>
/// Lists of what to do, a line each; what follows <c>#</c> is a comment. A list is read and checked whole before anything is sent:
/// a mistake in line 900 must not show after 899 tokens.
/// </summary>
internal static class BulkList
{
    /// <summary>Keys of the longest list: so many requests of a tenant issuance remembers, and nothing is to be issued twice.</summary>
    public const int KeysMax = 10_000;
    /// <summary>IDs of the longest list.</summary>
    public const int IdsMax = 100_000;
    /// <summary>Wrong lines that are named one by one.</summary>
    public const int WrongShownMax = 50;
    private const int FileBytesMax = 32 * 1024 * 1024;
    private const int UserIdCharsMax = 40;

    private static readonly char[] Blanks = [' ', '\t'];

    /// <summary>Reads public keys, each with the ID of the person it is of, or without.</summary>
    public static bool TryReadKeys(string path, Output output, [NotNullWhen(true)] out List<BulkItem>? items, [NotNullWhen(false)] out Complaint? complaint) =>
        TryRead(path, output, KeyOf, KeysMax, out items, out complaint);

    /// <summary>Reads IDs of tokens, or public keys.</summary>
    public static bool TryReadIds(string path, Output output, [NotNullWhen(true)] out List<BulkItem>? items, [NotNullWhen(false)] out Complaint? complaint) =>
        TryRead(path, output, IdOf, IdsMax, out items, out complaint);

    private static bool TryRead(string path, Output output, Func<string[], int, (BulkItem? Item, string Wrong)> read, int itemsMax,
        [NotNullWhen(true)] out List<BulkItem>? items, [NotNullWhen(false)] out Complaint? complaint)
    {
        items = null;
        if (!BoundedFile.TryRead(path, FileBytesMax, out var bytes, out complaint))
            return false;
        var good = new List<BulkItem>();
        var lineOf = new Dictionary<string, int>(StringComparer.Ordinal);
        var (line, wrong) = (0, 0);
        foreach (var whole in Encoding.UTF8.GetString(bytes).TrimStart('\uFEFF').EnumerateLines())
        {
            line++;
            var comment = whole.IndexOf('#');
            var words = (comment < 0 ? whole : whole[..comment]).ToString().Split(Blanks, StringSplitOptions.RemoveEmptyEntries);
            if (words.Length == 0)
                continue;
            var (item, why) = read(words, line);
            if (item is not null && lineOf.TryGetValue(item.Id, out var first))
                (item, why) = (null, $"the same as line {first}");
            if (item is not null)
            {
                lineOf.Add(item.Id, line);
                good.Add(item);
            }
            else if (++wrong <= WrongShownMax)
                output.Note($"{path}, line {line}: {why}");
        }
        if (wrong > 0)
            complaint = new Complaint($"{path}: {(wrong == 1 ? "1 line is" : $"{wrong} lines are")} wrong, and nothing was sent", "correct them, and run the command again");
        else if (good.Count == 0)
            complaint = new Complaint($"{path} is empty", "a list has one entry a line");
        else if (good.Count > itemsMax)
            complaint = new Complaint($"{path} has {good.Count} entries, and a list at most {itemsMax}", "split it; of what is issued, one such list a day");
        else
            items = good;
        return items is not null;
    }

    private static (BulkItem? Item, string Wrong) KeyOf(string[] words, int line)
    {
        if (!VerifyingKey.TryParse(words[0], out var key))
            return (null, "not an Ed25519 public key: 32 bytes in base64, base64url or hex");
        if (words.Length > 2)
            return (null, "there is more than a key and a user ID");
        // Issuance's own grammar: what it would refuse in line 900 is told before line 1 is sent.
        if (words.Length == 2 && !IsUserId(words[1]))
            return (null, $"the user ID has 1 to {UserIdCharsMax} of letters, digits and . _ @ -, beginning with a letter or _");
        return (new BulkItem(line, key.X, words.ElementAtOrDefault(1)), "");
    }

    private static (BulkItem? Item, string Wrong) IdOf(string[] words, int line)
    {
        if (words.Length > 1)
            return (null, "there is more than an ID");
        var id = VerifyingKey.TryParse(words[0], out var key) ? key.X : words[0];
        return Take.IsId(id) ? (new BulkItem(line, id), "") : (null, "neither a token's ID nor a public key");
    }

    private static bool IsUserId(string text) =>
        text.Length <= UserIdCharsMax && (char.IsAsciiLetter(text[0]) || text[0] == '_') && text.All(c => char.IsAsciiLetterOrDigit(c) || c is '.' or '_' or '@' or '-');
}
