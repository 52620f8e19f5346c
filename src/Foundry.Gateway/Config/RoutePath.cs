namespace Foundry.Gateway.Config;

/// <summary>
/// A route's path, compared byte for byte with what the client sent. ASP.NET Core's routing finds the candidate; it ignores
/// case and a trailing slash, and a policy found by such a match would be one for another path.
/// </summary>
internal sealed class RoutePath
{
    private readonly string[] _segments;
    private readonly bool _catchAll;

    private RoutePath(string text, string[] segments, bool catchAll) => (Text, _segments, _catchAll) = (text, segments, catchAll);

    /// <summary>The path as the route writes it: the <c>http.route</c> of metrics.</summary>
    public string Text { get; }

    /// <summary>Reads <c>/v1/vms/{id}</c>: literal segments, whole-segment parameters, at most one <c>{**rest}</c> at the end.</summary>
    /// <param name="text">The path.</param>
    /// <param name="error">What would be right, or null.</param>
    public static RoutePath? TryParse(string? text, out string? error)
    {
        error = "write the path as /segments, each a literal or {parameter}, with at most one {**rest} at the end";
        if (text is not ['/', ..])
            return null;
        var segments = text.Length == 1 ? [] : text[1..].Split('/');
        var catchAll = segments.Length > 0 && segments[^1].StartsWith("{**", StringComparison.Ordinal);
        for (var i = 0; i < segments.Length; i++)
        {
            var segment = segments[i];
            var inner = segment.Trim('{', '}', '*');
            var parameter = segment.Length > 2 && segment[0] == '{' && segment[^1] == '}';
            if (inner.Length == 0 || !inner.All(c => char.IsAsciiLetterOrDigit(c) || c is '-' or '_' or '.' or '~')
                || (!parameter && inner != segment) || (segment.Contains('*', StringComparison.Ordinal) && !(catchAll && i == segments.Length - 1)))
                return null;
        }
        error = null;
        return new RoutePath(text, segments, catchAll);
    }

    /// <summary>Whether the raw path is one of this route's, and what its parameters are, as sent.</summary>
    /// <param name="rawPath">The path as sent, known to be canonical.</param>
    /// <param name="parameters">The parameters' values, still encoded.</param>
    public bool Matches(string rawPath, out IReadOnlyDictionary<string, string> parameters)
    {
        parameters = None;
        Dictionary<string, string>? found = null;
        var rest = rawPath.AsSpan(1);
        for (var i = 0; i < _segments.Length; i++)
        {
            var segment = _segments[i];
            if (_catchAll && i == _segments.Length - 1)
            {
                (found ??= new(StringComparer.Ordinal))[segment.Trim('{', '}', '*')] = rest.ToString();
                parameters = found;
                return true;
            }
            var end = rest.IndexOf('/');
            var last = i == _segments.Length - 1;
            if (end < 0 != last)
                return false;
            var sent = last ? rest : rest[..end];
            if (sent.IsEmpty)
                return false;
            if (segment[0] == '{')
                (found ??= new(StringComparer.Ordinal))[segment.Trim('{', '}')] = sent.ToString();
            else if (!sent.SequenceEqual(segment))
                return false;
            rest = last ? [] : rest[(end + 1)..];
        }
        if (!rest.IsEmpty)
            return false;
        parameters = found ?? None;
        return true;
    }

    private static readonly IReadOnlyDictionary<string, string> None = new Dictionary<string, string>();
}
