using System.Globalization;
using System.Text;

namespace Foundry.Cli;

/// <summary>Text from elsewhere, made safe to show: a display name must not be able to move the cursor or recolour a terminal.</summary>
internal static class Plain
{
    /// <summary>The text with control and formatting characters written out as <c>\u{…}</c>.</summary>
    public static string Text(string text)
    {
        StringBuilder? safe = null;
        var done = 0;
        for (var at = 0; at < text.Length; at += char.IsSurrogatePair(text, at) ? 2 : 1)
        {
            var category = CharUnicodeInfo.GetUnicodeCategory(text, at);
            if (category is not (UnicodeCategory.Control or UnicodeCategory.Format or UnicodeCategory.LineSeparator
                or UnicodeCategory.ParagraphSeparator or UnicodeCategory.Surrogate or UnicodeCategory.PrivateUse))
                continue;
            var length = char.IsSurrogatePair(text, at) ? 2 : 1;
            safe ??= new StringBuilder();
            safe.Append(text, done, at - done).Append($"\\u{{{(length == 2 ? char.ConvertToUtf32(text, at) : text[at]):x}}}");
            done = at + length;
        }
        return safe is null ? text : safe.Append(text, done, text.Length - done).ToString();
    }
}
