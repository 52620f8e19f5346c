// Normal form of http and https URIs: RFC 3986 section 6.2.2 (syntax) and 6.2.3 (scheme), which RFC 9449 section 4.3 asks for.
using System.Buffers;
using System.Diagnostics.CodeAnalysis;
using System.Text;

namespace Foundry.Tokens;

/// <summary>
/// Where a request goes, in the one spelling by which two such places are compared: an http or https URI, absolute, without query
/// and fragment. Not <see cref="Uri"/>, which repairs what is not one (backslashes, white space, control characters).
/// </summary>
public sealed record HttpTarget
{
    /// <summary>Characters of the longest target that is looked at.</summary>
    public const int CharsMax = 4 * 1024;

    private static readonly SearchValues<char> HostCharacters = SearchValues.Create("abcdefghijklmnopqrstuvwxyz0123456789-._");
    private static readonly SearchValues<char> Ipv6Characters = SearchValues.Create("abcdef0123456789:.");
    private static readonly SearchValues<char> UnreservedCharacters = SearchValues.Create("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~");
    private static readonly SearchValues<char> PathCharacters = SearchValues.Create("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~!$&'()*+,;=:@/%");

    private HttpTarget(string origin, string path) => (Origin, Path) = (origin, path);

    /// <summary>Scheme, host and port where it is not the scheme's own, such as <c>https://gateway.example</c>.</summary>
    public string Origin { get; }

    /// <summary>The path; at least <c>/</c>.</summary>
    public string Path { get; }

    /// <summary>Reads a target.</summary>
    /// <param name="text">An absolute http or https URI; query and fragment are ignored.</param>
    /// <param name="target">Its normal form.</param>
    public static bool TryParse(string? text, [NotNullWhen(true)] out HttpTarget? target)
    {
        target = null;
        if (text is not { Length: <= CharsMax })
            return false;
        var rest = text.AsSpan();
        if (rest.IndexOfAny('?', '#') is var end and >= 0)
            rest = rest[..end];
        var scheme = rest.StartsWith("http://", StringComparison.OrdinalIgnoreCase) ? "http" : rest.StartsWith("https://", StringComparison.OrdinalIgnoreCase) ? "https" : null;
        if (scheme is null)
            return false;
        rest = rest[(scheme.Length + 3)..];
        var slash = rest.IndexOf('/');
        if (NormalAuthority(scheme, slash < 0 ? rest : rest[..slash]) is not { } authority || NormalPath(slash < 0 ? "/" : rest[slash..]) is not { } path)
            return false;
        target = new HttpTarget($"{scheme}://{authority}", path);
        return true;
    }

    /// <summary>Reads the path of a request as the client sent it.</summary>
    /// <param name="origin">A target that stands for its origin alone.</param>
    /// <param name="path">The path; a query is no part of it.</param>
    /// <param name="target">The path's normal form under that origin.</param>
    public static bool TryJoin(HttpTarget origin, string path, [NotNullWhen(true)] out HttpTarget? target)
    {
        ArgumentNullException.ThrowIfNull(origin);
        target = NormalPath(path) is { } normal && normal.StartsWith('/') ? new HttpTarget(origin.Origin, normal) : null;
        return target is not null;
    }

    /// <inheritdoc/>
    public override string ToString() => Origin + Path;

    /// <summary>Host in lower case, the scheme's own port left out; null where user information or anything unusual is in it.</summary>
    private static string? NormalAuthority(string scheme, ReadOnlySpan<char> authority)
    {
        var hostEnd = authority.StartsWith("[") ? authority.IndexOf(']') + 1 : authority.IndexOf(':');
        if (hostEnd < 0)
            hostEnd = authority.Length;
        var host = authority[..hostEnd].ToString().ToLowerInvariant();
        var isHost = host.StartsWith('[')
            ? host.Length > 4 && !host.AsSpan(1, host.Length - 2).ContainsAnyExcept(Ipv6Characters)
            : host.Length > 0 && !host.AsSpan().ContainsAnyExcept(HostCharacters);
        if (!isHost)
            return null;
        var port = authority[hostEnd..];
        if (port is "" or ":")
            return host;
        if (port[0] != ':' || port.Length > 6 || port[1..].ContainsAnyExceptInRange('0', '9'))
            return null;
        var number = int.Parse(port[1..], System.Globalization.CultureInfo.InvariantCulture);
        return number == (scheme == "http" ? 80 : 443) ? host : number is > 0 and <= 65_535 ? $"{host}:{number}" : null;
    }

    /// <summary>Encoded unreserved characters as themselves, hex in capitals, no dot segments (RFC 3986 section 6.2.2).</summary>
    private static string? NormalPath(ReadOnlySpan<char> path)
    {
        if (path.ContainsAnyExcept(PathCharacters))
            return null;
        var text = new StringBuilder(path.Length);
        for (var i = 0; i < path.Length; i++)
        {
            if (path[i] != '%')
            {
                text.Append(path[i]);
                continue;
            }
            if (i + 2 >= path.Length || !char.IsAsciiHexDigit(path[i + 1]) || !char.IsAsciiHexDigit(path[i + 2]))
                return null;
            var octet = (char)Convert.FromHexString(path.Slice(i + 1, 2))[0];
            if (UnreservedCharacters.Contains(octet))
                text.Append(octet);
            else
                text.Append('%').Append(char.ToUpperInvariant(path[i + 1])).Append(char.ToUpperInvariant(path[i + 2]));
            i += 2;
        }
        var normal = text.ToString();
        return normal.Contains("/.", StringComparison.Ordinal) ? WithoutDots(normal) : normal;
    }

    private static string WithoutDots(string path)
    {
        var kept = new List<string>();
        var segments = path.Split('/');
        for (var i = 1; i < segments.Length; i++)
        {
            var last = i == segments.Length - 1;
            if (segments[i] == ".." && kept.Count > 0)
                kept.RemoveAt(kept.Count - 1);
            if (segments[i] is not ("." or ".."))
                kept.Add(segments[i]);
            else if (last)
                kept.Add("");
        }
        return "/" + string.Join('/', kept);
    }
}
