using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using System.Text.Json.Serialization;
using Yarp.ReverseProxy.Configuration;

namespace Foundry.Gateway.Config;

/// <summary>An error in a route file, said so that its author finds it.</summary>
/// <param name="File">The file's name.</param>
/// <param name="Line">The line, from 1.</param>
/// <param name="Field">The route or cluster, and the field in it.</param>
/// <param name="Message">What would be right.</param>
internal sealed record ConfigError(string File, int Line, string Field, string Message)
{
    /// <inheritdoc/>
    public override string ToString() => $"{File}, line {Line}: {Field}: {Message}";
}

/// <summary>Everything the route files say, sound as a whole.</summary>
/// <param name="Routes">YARP's routes.</param>
/// <param name="Clusters">YARP's clusters, the gateway's own among them.</param>
/// <param name="Policies">What each route's metadata says.</param>
/// <param name="Places">Where each route and cluster is written, by <c>Routes/ID</c> and <c>Clusters/ID</c>.</param>
/// <param name="Hash">SHA-256 over the files' names and bytes, hex.</param>
internal sealed record RouteSet(IReadOnlyList<RouteConfig> Routes, IReadOnlyList<ClusterConfig> Clusters, IReadOnlyDictionary<string, RoutePolicy> Policies,
    IReadOnlyDictionary<string, (string File, int Line)> Places, string Hash);

/// <summary>
/// Reads <c>config/routes/*.json</c>: YARP's own schema (<c>ReverseProxy:Routes/Clusters</c>), comments allowed, unknown keys not.
/// All or nothing: one error in one file, and none of it is applied.
/// </summary>
internal sealed class RouteFiles
{
    /// <summary>Bytes of the largest route file.</summary>
    public const int FileBytesMax = 4 * 1024 * 1024;

    private static readonly JsonSerializerOptions Strict = new()
    {
        PropertyNameCaseInsensitive = true,
        UnmappedMemberHandling = JsonUnmappedMemberHandling.Disallow,
        AllowDuplicateProperties = false,
        ReadCommentHandling = JsonCommentHandling.Skip,
        AllowTrailingCommas = true,
        Converters = { new JsonStringEnumConverter() },
    };

    private readonly string _folder;
    private readonly IReadOnlyList<ClusterConfig> _ownClusters;

    /// <summary>Makes a reader.</summary>
    /// <param name="folder">Where the files are.</param>
    /// <param name="ownClusters">The clusters of our own parts, which come from the settings.</param>
    public RouteFiles(string folder, IReadOnlyList<ClusterConfig> ownClusters) => (_folder, _ownClusters) = (folder, ownClusters);

    /// <summary>The folder.</summary>
    public string Folder => _folder;

    /// <summary>The files' bytes as they are now, and their hash.</summary>
    /// <exception cref="IOException">The folder or a file cannot be read.</exception>
    public (IReadOnlyList<(string Name, byte[] Bytes)> Files, string Hash) ReadBytes()
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        var files = new List<(string, byte[])>();
        foreach (var path in Directory.GetFiles(_folder, "*.json").Order(StringComparer.Ordinal))
        {
            if (new FileInfo(path).Length > FileBytesMax)
                throw new IOException($"{Path.GetFileName(path)} is over {FileBytesMax} bytes.");
            var bytes = File.ReadAllBytes(path);
            files.Add((Path.GetFileName(path), bytes));
            hash.AppendData(Encoding.UTF8.GetBytes($"{Path.GetFileName(path)}\0{bytes.Length}\0"));
            hash.AppendData(bytes);
        }
        return (files, Convert.ToHexStringLower(hash.GetHashAndReset()));
    }

    /// <summary>Reads the files' bytes into a set.</summary>
    /// <param name="files">The files.</param>
    /// <param name="hash">Their hash.</param>
    /// <param name="errors">Every error there is.</param>
    /// <returns>The set, or null where there are errors.</returns>
    public RouteSet? Parse(IReadOnlyList<(string Name, byte[] Bytes)> files, string hash, out IReadOnlyList<ConfigError> errors)
    {
        var found = new List<ConfigError>();
        errors = found;
        if (files.Count == 0)
            found.Add(new ConfigError(_folder, 0, "*.json", "there is no route file: a gateway without routes is a mistake"));
        var routes = new Dictionary<string, RouteConfig>(StringComparer.OrdinalIgnoreCase);
        var clusters = _ownClusters.ToDictionary(cluster => cluster.ClusterId, StringComparer.OrdinalIgnoreCase);
        var policies = new Dictionary<string, RoutePolicy>(StringComparer.OrdinalIgnoreCase);
        var places = new Dictionary<string, (string File, int Line)>(StringComparer.OrdinalIgnoreCase);
        foreach (var (name, bytes) in files)
        {
            if (ReadFile(name, bytes, found) is not { } section)
                continue;
            void Error(string collection, string id, string field, string message) =>
                found.Add(new ConfigError(name, JsonLines.Of(bytes, ["ReverseProxy", collection, id, .. field.Split('.', 2)]), $"{id}: {field}", message));

            foreach (var (id, cluster) in section.Clusters ?? [])
            {
                places.TryAdd($"Clusters/{id}", (name, JsonLines.Of(bytes, ["ReverseProxy", "Clusters", id])));
                if (!clusters.TryAdd(id, cluster with { ClusterId = id }))
                    Error("Clusters", id, "", "is already there: our own parts' clusters (issuance, ledger, fleet) are set with Issuance:Url, Ledger:Url and Fleet:Url");
                foreach (var (destinationId, destination) in cluster.Destinations ?? new Dictionary<string, DestinationConfig>())
                    if (!Uri.TryCreate(destination.Address, UriKind.Absolute, out var address) || address.Scheme is not ("http" or "https"))
                        Error("Clusters", id, $"Destinations.{destinationId}", "needs an Address such as http://127.0.0.1:8080/");
                if (cluster.Destinations is not { Count: > 0 })
                    Error("Clusters", id, "Destinations", "needs at least one destination");
            }
            foreach (var (id, bare) in section.Routes ?? [])
            {
                var route = bare with { RouteId = id };
                places.TryAdd($"Routes/{id}", (name, JsonLines.Of(bytes, ["ReverseProxy", "Routes", id])));
                var policy = PolicyGrammar.Read(route, (field, message) => Error("Routes", id, field, message));
                if (!routes.TryAdd(id, policy is null ? route : route with { Match = route.Match with { Methods = policy.Methods } }))
                    Error("Routes", id, "", "is in another file already");
                else if (policy is not null)
                    policies.Add(id, policy);
                // The gateway asks as itself, and only its own parts know it.
                if (policy?.Own?.At is not null && !_ownClusters.Any(own => own.ClusterId == policy.ClusterId))
                    Error("Routes", id, "Metadata.foundry.own", "objects are looked up at issuance, ledger or fleet; for another cluster write {id}, where the path's {id} is a tenant");
            }
        }
        foreach (var (name, bytes) in files)
            foreach (var (id, route) in ReadFile(name, bytes, [])?.Routes ?? [])
                if (route.ClusterId is null || !clusters.ContainsKey(route.ClusterId))
                    found.Add(new ConfigError(name, JsonLines.Of(bytes, ["ReverseProxy", "Routes", id, "ClusterId"]), $"{id}: ClusterId", $"there is no cluster '{route.ClusterId}'"));
        return found.Count == 0 ? new RouteSet([.. routes.Values], [.. clusters.Values], policies, places, hash) : null;
    }

    private static Section? ReadFile(string name, byte[] bytes, List<ConfigError> errors)
    {
        try
        {
            var file = JsonSerializer.Deserialize<RouteFile>(bytes.AsSpan() is [0xEF, 0xBB, 0xBF, ..] ? bytes.AsSpan(3) : bytes, Strict);
            if (file?.ReverseProxy is { } section)
            {
                var before = errors.Count;
                foreach (var (id, cluster) in section.Clusters ?? [])
                    if (cluster is null || cluster.Destinations?.Values.Any(destination => destination is null) == true)
                        errors.Add(new ConfigError(name, JsonLines.Of(bytes, ["ReverseProxy", "Clusters", id]), id, "is null, or has a destination that is: { \"Destinations\": { \"one\": { \"Address\": … } } }"));
                foreach (var (id, route) in section.Routes ?? [])
                    if (route?.Metadata?.Values.Any(value => value is null) == true)
                        errors.Add(new ConfigError(name, JsonLines.Of(bytes, ["ReverseProxy", "Routes", id, "Metadata"]), $"{id}: Metadata", "has a key that is null: give it a value or leave it out"));
                    else if (route is null || route.Match is null)
                        errors.Add(new ConfigError(name, JsonLines.Of(bytes, ["ReverseProxy", "Routes", id]), $"{id}: Match", "is missing: { \"Path\": …, \"Methods\": […] }"));
                return errors.Count == before ? section : null;
            }
            errors.Add(new ConfigError(name, 1, "ReverseProxy", "is missing: { \"ReverseProxy\": { \"Routes\": { … } } }"));
        }
        catch (JsonException fault)
        {
            errors.Add(new ConfigError(name, (int)(fault.LineNumber ?? 0) + 1, fault.Path ?? "$", fault.InnerException?.Message ?? fault.Message.Split(" Path:")[0]));
        }
        return null;
    }

    private sealed record RouteFile([property: JsonPropertyName("$schema")] string? Schema, Section? ReverseProxy);

    private sealed record Section(Dictionary<string, RouteConfig>? Routes, Dictionary<string, ClusterConfig>? Clusters);
}
