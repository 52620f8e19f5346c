using System.Net;
using Foundry.Tokens;

namespace Foundry.Gateway.Config;

/// <summary>The <c>Gateway</c> section of the settings. Unknown keys in it stop the start.</summary>
internal sealed class GatewayOptions
{
    private const int OriginsMax = 16;

    /// <summary>Where clients and nodes come in.</summary>
    public string Listen { get; set; } = "http://127.0.0.1:9221";
    /// <summary>Where operators look: health, metrics, config status.</summary>
    public string OpsListen { get; set; } = "http://127.0.0.1:9222";
    /// <summary>Whether <see cref="Listen"/> may be a non-loopback address without TLS.</summary>
    public bool AllowPublicListen { get; set; }
    /// <summary>Whether <see cref="OpsListen"/> may be a non-loopback address.</summary>
    public bool AllowPublicOpsListen { get; set; }
    /// <summary>
    /// The origins that clients reach the gateway by, for proofs of possession; behind a TLS proxy <c>https://…</c>. Default: what follows from
    /// <see cref="Listen"/>.
    /// </summary>
    public string[]? PublicOrigins { get; set; }
    /// <summary>This gateway's name among several.</summary>
    public string Name { get; set; } = "gateway";
    /// <summary>State folder; default <c>$FOUNDRY_DATA/gateway</c>.</summary>
    public string? Data { get; set; }
    /// <summary>Folder of route files; default <c>$FOUNDRY_CONFIG/routes</c>.</summary>
    public string? Routes { get; set; }
    /// <summary>StackExchange.Redis connection string.</summary>
    public string Redis { get; set; } = "127.0.0.1:6379";
    /// <summary>Gateways that share the tenants' rates when Redis is away, if no more have been seen in ten minutes.</summary>
    public int GatewaysExpected { get; set; } = 1;
    /// <summary>The rate, requests a minute, from which on a gateway takes a little of it in advance instead of asking Redis for each request.</summary>
    public int LeaseFromRpm { get; set; } = 6000;
    /// <summary>How old what issuance last said may be before <c>input</c> and services are refused.</summary>
    public TimeSpan StalenessLimit { get; set; } = TimeSpan.FromMinutes(5);
    /// <summary>Lines of the change feed after which a new snapshot takes their place on disk, so that a start does not take ever longer.</summary>
    public int FeedLinesMax { get; set; } = 20_000;
    /// <summary>How long the fleet may take to accept a create; its deadline.</summary>
    public TimeSpan CreateDeadline { get; set; } = TimeSpan.FromSeconds(15);
    /// <summary>How often held numbers are compared with the fleet's list.</summary>
    public TimeSpan ReconcileInterval { get; set; } = TimeSpan.FromSeconds(10);
    /// <summary>Requests a second that an address may make without a valid token.</summary>
    public int AnonymousPerSecond { get; set; } = 20;

    /// <summary><see cref="PublicOrigins"/>, or the addresses that <see cref="Listen"/> is reached by from this machine.</summary>
    /// <param name="port">The port that is listened on; <see cref="Listen"/> may leave it to the system.</param>
    public IReadOnlyList<string> Origins(int port)
    {
        if (PublicOrigins is { Length: > 0 })
            return PublicOrigins;
        var host = new Uri(Listen).Host;
        return IPAddress.TryParse(host.Trim('[', ']'), out var address) && !IPAddress.IsLoopback(address) && !address.Equals(IPAddress.Any) && !address.Equals(IPAddress.IPv6Any)
            ? [$"http://{host}:{port}"]
            : [$"http://127.0.0.1:{port}", $"http://localhost:{port}", $"http://[::1]:{port}"];
    }

    /// <summary>What is wrong with the values, each with the key and what would be right.</summary>
    public IEnumerable<string> Problems()
    {
        if (Name.Length is 0 or > 63 || !Name.All(c => char.IsAsciiLetterLower(c) || char.IsAsciiDigit(c) || c == '-'))
            yield return $"Gateway:Name is '{Name}': use lower-case letters, digits and '-', at most 63";
        if (GatewaysExpected is < 1 or > 1000)
            yield return $"Gateway:GatewaysExpected is {GatewaysExpected}: 1 to 1000";
        if (LeaseFromRpm < 1)
            yield return $"Gateway:LeaseFromRpm is {LeaseFromRpm}: at least 1";
        if (StalenessLimit < TimeSpan.FromSeconds(5))
            yield return $"Gateway:StalenessLimit is {StalenessLimit}: at least 00:00:05";
        if (FeedLinesMax is < 10 or > 1_000_000)
            yield return $"Gateway:FeedLinesMax is {FeedLinesMax}: 10 to 1000000";
        if (CreateDeadline < TimeSpan.FromSeconds(1))
            yield return $"Gateway:CreateDeadline is {CreateDeadline}: at least 00:00:01";
        if (ReconcileInterval < TimeSpan.FromSeconds(1))
            yield return $"Gateway:ReconcileInterval is {ReconcileInterval}: at least 00:00:01";
        // What nobody knows the outcome of is settled after both; the contract says 30 s.
        if (CreateDeadline + ReconcileInterval > TimeSpan.FromSeconds(29))
            yield return $"Gateway:CreateDeadline and Gateway:ReconcileInterval are {CreateDeadline} and {ReconcileInterval}: together at most 00:00:29";
        if (PublicOrigins?.Length > OriginsMax)
            yield return $"Gateway:PublicOrigins has {PublicOrigins.Length} entries: at most {OriginsMax}";
        foreach (var origin in PublicOrigins ?? [])
            if (!HttpTarget.TryParse(origin, out var parsed) || parsed.Path != "/" || origin.AsSpan().ContainsAny('?', '#'))
                yield return $"Gateway:PublicOrigins has '{origin}': use http:// or https:// with host and port and no path, such as https://gateway.example";
        if (AnonymousPerSecond is < 1 or > 100_000)
            yield return $"Gateway:AnonymousPerSecond is {AnonymousPerSecond}: 1 to 100000";
    }
}
