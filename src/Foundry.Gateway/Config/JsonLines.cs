using System.Text.Json;

namespace Foundry.Gateway.Config;

/// <summary>Finds the line of a member in a JSON text, for messages.</summary>
internal static class JsonLines
{
    /// <summary>The line, from 1, of the deepest member on the path that is there.</summary>
    /// <param name="json">The text, known to be JSON.</param>
    /// <param name="path">Member names from the root; empty names are skipped.</param>
    public static int Of(byte[] json, string[] path)
    {
        var start = json.AsSpan() is [0xEF, 0xBB, 0xBF, ..] ? 3 : 0;
        var reader = new Utf8JsonReader(json.AsSpan(start), new JsonReaderOptions { CommentHandling = JsonCommentHandling.Skip, AllowTrailingCommas = true });
        var names = path.Where(name => name.Length > 0).ToArray();
        var matched = 0;
        long offset = 0;
        while (matched < names.Length && reader.Read())
        {
            if (reader.TokenType == JsonTokenType.PropertyName && reader.CurrentDepth == matched + 1)
            {
                if (string.Equals(reader.GetString(), names[matched], StringComparison.OrdinalIgnoreCase))
                {
                    matched++;
                    offset = reader.TokenStartIndex;
                }
                else
                    reader.Skip();
            }
            else if (reader.TokenType == JsonTokenType.EndObject && reader.CurrentDepth < matched)
                break;
        }
        return json.AsSpan(start, (int)offset).Count((byte)'\n') + 1;
    }
}
