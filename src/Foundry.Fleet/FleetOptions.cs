using Foundry.ServiceDefaults;
using Microsoft.Extensions.Configuration;

namespace Foundry.Fleet;

/// <summary>The <c>Fleet</c> section of the settings.</summary>
internal sealed class FleetOptions
{
    public const string Section = "Fleet";

    /// <summary>Where it listens.</summary>
    public string Listen { get; set; } = "http://127.0.0.1:9203";
    /// <summary>Whether <see cref="Listen"/> may be an address that others reach.</summary>
    public bool AllowPublicListen { get; set; }
    /// <summary>Its folder; read by <see cref="ServiceHost.DataFolder"/>.</summary>
    public string? Data { get; set; }
    /// <summary>Where others find it; read by them.</summary>
    public string? Url { get; set; }
    /// <summary>PostgreSQL's connection string; SQLite in <see cref="Data"/> where there is none.</summary>
    public string? Database { get; set; }
    /// <summary>Seconds between two heartbeats of a node: 1 to 20, so that one may be lost before it is stale.</summary>
    public double HeartbeatSeconds { get; set; } = 10;

    /// <exception cref="StartupException">A setting is unknown or out of range.</exception>
    public static FleetOptions Read(IConfiguration configuration)
    {
        var options = new FleetOptions();
        try
        {
            configuration.GetSection(Section).Bind(options, binder => binder.ErrorOnUnknownConfiguration = true);
        }
        catch (InvalidOperationException fault)
        {
            throw new StartupException($"The section {Section} of the settings cannot be read: {fault.Message}", fault);
        }
        return options.HeartbeatSeconds is >= 1 and <= 20
            ? options
            : throw new StartupException($"{Section}:{nameof(HeartbeatSeconds)} is {options.HeartbeatSeconds}, but should be from 1 to 20 (environment: {ListenAddress.EnvironmentName($"{Section}:{nameof(HeartbeatSeconds)}")}).");
    }
}
