using System.Runtime.CompilerServices;
using Foundry.ServiceDefaults;
using Yarp.ReverseProxy.Configuration;

namespace Foundry.Gateway.Config;

/// <summary>
/// The routes in force. A new set replaces the old one whole, or, where anything is wrong with it, not at all; YARP itself
/// would apply a route without its cluster, and an empty file as no routes.
/// </summary>
internal sealed class RouteTable
{
    private readonly RouteFiles _files;
    private readonly TimeProvider _time;
    // By reference: a request keeps the policy of the very route object it was matched to, also across a reload.
    private readonly ConditionalWeakTable<RouteConfig, RoutePolicy> _policies = [];
    private volatile RouteSet _current;
    private volatile ConfigStatus _status;

    /// <summary>Reads the files for the first time.</summary>
    /// <param name="files">The reader.</param>
    /// <param name="time">The clock.</param>
    /// <exception cref="StartupException">There are errors: all of them are named.</exception>
    public RouteTable(RouteFiles files, TimeProvider time)
    {
        (_files, _time) = (files, time);
        RouteSet? set;
        IReadOnlyList<ConfigError> errors;
        try
        {
            var (bytes, hash) = files.ReadBytes();
            set = files.Parse(bytes, hash, out errors);
        }
        catch (Exception fault) when (fault is IOException or UnauthorizedAccessException)
        {
            throw new StartupException($"The route files in {files.Folder} cannot be read: {fault.Message} Set FOUNDRY_CONFIG to the folder that has 'routes' in it.", fault);
        }
        if (set is null)
            throw new StartupException($"The route files in {files.Folder} have errors:\n  {string.Join("\n  ", errors)}");
        _current = set;
        Remember(set);
        Provider = new InMemoryConfigProvider(set.Routes, set.Clusters);
        _status = new ConfigStatus(set.Hash, set.Hash, time.GetUtcNow(), []);
    }

    /// <summary>What YARP reads.</summary>
    public InMemoryConfigProvider Provider { get; }

    /// <summary>The set in force.</summary>
    public RouteSet Current => _current;

    /// <summary>What is in force, what is on disk, and what is the matter with it.</summary>
    public ConfigStatus Status => _status;

    /// <summary>The policy of a route that a request was matched to.</summary>
    /// <param name="route">The very object.</param>
    public RoutePolicy PolicyOf(RouteConfig route) => _policies.TryGetValue(route, out var policy) ? policy : throw new InvalidOperationException($"Route {route.RouteId} has no policy.");

    /// <summary>Looks at the files and applies them where they have changed and are sound.</summary>
    /// <param name="validator">YARP's own checks.</param>
    /// <returns>What happened, or null where nothing did.</returns>
    public async Task<ConfigStatus?> RefreshAsync(IConfigValidator validator)
    {
        IReadOnlyList<ConfigError> errors;
        string hash;
        try
        {
            (var files, hash) = _files.ReadBytes();
            if (hash == _status.OnDiskHash)
                return null;
            var set = _files.Parse(files, hash, out errors);
            if (set is not null)
                errors = await ValidateAsync(set, validator);
            if (set is not null && errors.Count == 0)
            {
                Remember(set);
                _current = set;
                Provider.Update(set.Routes, set.Clusters);
                return _status = new ConfigStatus(hash, hash, _time.GetUtcNow(), []);
            }
        }
        catch (Exception fault) when (fault is IOException or UnauthorizedAccessException)
        {
            hash = "unreadable";
            if (hash == _status.OnDiskHash)
                return null;
            errors = [new ConfigError(_files.Folder, 0, "*.json", fault.Message)];
        }
        catch (Exception fault) when (fault is not OutOfMemoryException)
        {
            // A defect of ours in reading them: the routes in force go on, and the files are not applied.
            hash = _files.ReadBytes().Hash;
            errors = [new ConfigError(_files.Folder, 0, "*.json", $"they could not be understood ({fault.GetType().Name})")];
        }
        return _status = _status with { OnDiskHash = hash, Errors = errors };
    }

    /// <summary>YARP's own checks of a set: transforms, load balancing, health checks, HTTP settings.</summary>
    /// <param name="set">The set.</param>
    /// <param name="validator">YARP's validator.</param>
    public static async Task<IReadOnlyList<ConfigError>> ValidateAsync(RouteSet set, IConfigValidator validator)
    {
        var errors = new List<ConfigError>();
        foreach (var route in set.Routes)
            errors.AddRange((await validator.ValidateRouteAsync(route)).Select(fault => At($"Routes/{route.RouteId}", route.RouteId, fault)));
        foreach (var cluster in set.Clusters)
            errors.AddRange((await validator.ValidateClusterAsync(cluster)).Select(fault => At($"Clusters/{cluster.ClusterId}", cluster.ClusterId, fault)));
        return errors;

        ConfigError At(string place, string id, Exception fault) =>
            set.Places.TryGetValue(place, out var at) ? new ConfigError(at.File, at.Line, id, fault.Message) : new ConfigError("settings", 0, id, fault.Message);
    }

    private void Remember(RouteSet set)
    {
        foreach (var route in set.Routes)
            _policies.AddOrUpdate(route, set.Policies[route.RouteId]);
    }
}

/// <summary>Answer of <c>GET /config/status</c> on the ops port.</summary>
/// <param name="RunningHash">Of the files in force.</param>
/// <param name="OnDiskHash">Of the files as last seen.</param>
/// <param name="AppliedAt">When the files in force were applied.</param>
/// <param name="Errors">Why what is on disk is not in force.</param>
internal sealed record ConfigStatus(string RunningHash, string OnDiskHash, DateTimeOffset AppliedAt, IReadOnlyList<ConfigError> Errors);
