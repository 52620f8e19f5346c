using System.Net;
using Microsoft.AspNetCore.Server.Kestrel.Core;

namespace Foundry.ServiceDefaults;

/// <summary>Where a part listens, read from its configuration.</summary>
/// <param name="EndPoint">Address and port.</param>
/// <param name="Setting">The configuration key it came from, for messages.</param>
public sealed record ListenAddress(IPEndPoint EndPoint, string Setting)
{
    /// <summary>Reads <c>http://ADDRESS:PORT</c>.</summary>
    /// <param name="url">The setting's value.</param>
    /// <param name="setting">The setting's name, as <c>Section:Key</c>.</param>
    /// <param name="allowPublic">Whether the operator has said that a non-loopback address is meant.</param>
    /// <param name="allowSetting">The setting that says so.</param>
    /// <exception cref="StartupException">The value is not such an address, or is public without being meant to be.</exception>
    public static ListenAddress Parse(string url, string setting, bool allowPublic, string allowSetting)
    {
        if (!Uri.TryCreate(url, UriKind.Absolute, out var uri) || uri.Scheme != "http" || uri.PathAndQuery != "/"
            || !IPAddress.TryParse(uri.Host == "localhost" ? "127.0.0.1" : uri.Host.Trim('[', ']'), out var address))
            throw new StartupException($"{setting} is '{url}', but should be http://ADDRESS:PORT with an IP address, such as http://127.0.0.1:9221.");
        if (!IPAddress.IsLoopback(address) && !allowPublic)
            throw new StartupException($"{setting} is '{url}', which others can reach without encryption. If a trusted network or a TLS proxy protects it, say so with {allowSetting}=true ({EnvironmentName(allowSetting)}).");
        return new ListenAddress(new IPEndPoint(address, uri.Port), setting);
    }

    /// <summary>The environment variable that sets a configuration key.</summary>
    /// <param name="setting">As <c>Section:Key</c>.</param>
    public static string EnvironmentName(string setting)
    {
        ArgumentNullException.ThrowIfNull(setting);
        return "FOUNDRY_" + setting.Replace(":", "__", StringComparison.Ordinal);
    }

    /// <summary>Listens there, with the bounds that every part has.</summary>
    /// <param name="kestrel">The server.</param>
    /// <param name="configure">What this listener has beyond that.</param>
    public void Apply(KestrelServerOptions kestrel, Action<ListenOptions>? configure = null)
    {
        ArgumentNullException.ThrowIfNull(kestrel);
        kestrel.AddServerHeader = false;
        kestrel.Limits.MaxRequestHeadersTotalSize = 32 * 1024;
        kestrel.Limits.MaxRequestHeaderCount = 100;
        kestrel.Limits.MaxRequestLineSize = 8 * 1024;
        kestrel.Listen(EndPoint, listen => configure?.Invoke(listen));
    }
}
