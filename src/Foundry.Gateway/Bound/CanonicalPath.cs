namespace Foundry.Gateway.Bound;

/// <summary>
/// Whether a path has only one reading (CONTRACT section 4). Proxies and backends disagree about every other kind, and where
/// they disagree, a decision about the one is no decision about the other.
/// </summary>
internal static class CanonicalPath
{
    private static readonly System.Buffers.SearchValues<char> Allowed =
        System.Buffers.SearchValues.Create("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~!$&'()*+,=:@%/");
    private static readonly System.Buffers.SearchValues<char> AllowedInQuery =
        System.Buffers.SearchValues.Create("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~!$&'()*+,;=:@%/?[]|{}^`\"<>");

    /// <summary>What is wrong with a path, or null.</summary>
    /// <param name="path">The path as sent, without its query.</param>
    public static string? Fault(ReadOnlySpan<char> path)
    {
        if (path is not ['/', ..])
            return "The request target is not a path.";
        if (path.ContainsAnyExcept(Allowed))
            return "The path has a character that must be percent-encoded, or one of ';', '\\' and '#'.";
        if (path.IndexOf("//") >= 0)
            return "The path has an empty segment.";
        foreach (var segment in path[1..].Split('/'))
            if (path[1..][segment] is "." or "..")
                return "The path has a dot segment.";
        return PercentFault(path);
    }

    /// <summary>What is wrong with a query, or null. Its meaning is the backend's; its bytes must be plain.</summary>
    /// <param name="query">The query as sent, without '?'.</param>
    public static string? QueryFault(ReadOnlySpan<char> query) =>
        query.ContainsAnyExcept(AllowedInQuery) ? "The query has a character that must be percent-encoded." : null;

    private static string? PercentFault(ReadOnlySpan<char> path)
    {
        var run = new List<byte>();
        for (var i = 0; i < path.Length; i++)
        {
            if (path[i] != '%')
            {
                if (!IsUtf8(run))
                    return NotUtf8;
                continue;
            }
            if (i + 2 >= path.Length || !char.IsAsciiHexDigit(path[i + 1]) || !char.IsAsciiHexDigit(path[i + 2]))
                return "The path has a '%' that no two hexadecimal digits follow.";
            var value = Convert.ToByte(path.Slice(i + 1, 2).ToString(), 16);
            if (value is (byte)'/' or (byte)'\\' or < 0x20 or 0x7F)
                return "The path has an encoded slash, backslash or control character.";
            if (char.IsAsciiLetterOrDigit((char)value) || value is (byte)'-' or (byte)'.' or (byte)'_' or (byte)'~')
                return "The path encodes a character that needs no encoding.";
            if (value is (byte)'%' && i + 4 < path.Length && char.IsAsciiHexDigit(path[i + 3]) && char.IsAsciiHexDigit(path[i + 4]))
                return "The path is encoded twice.";
            if (value is (byte)';' or (byte)'#')
                return "The path has an encoded ';' or '#'.";
            run.Add(value);
            i += 2;
        }
        return IsUtf8(run) ? null : NotUtf8;
    }

    private const string NotUtf8 = "The path's encoded bytes are not UTF-8.";

    private static bool IsUtf8(List<byte> run)
    {
        var valid = run.Count == 0 || System.Text.Unicode.Utf8.IsValid(System.Runtime.InteropServices.CollectionsMarshal.AsSpan(run));
        run.Clear();
        return valid;
    }
}
