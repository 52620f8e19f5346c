using Yarp.ReverseProxy.Configuration;
using Yarp.ReverseProxy.Forwarder;

namespace Foundry.Gateway;

/// <summary>The clusters of our own parts: their IDs are the audiences of assertions.</summary>
internal static class Clusters
{
    /// <summary>Tenants, tokens, keys.</summary>
    public const string Issuance = "issuance";
    /// <summary>The record.</summary>
    public const string Ledger = "ledger";
    /// <summary>Nodes and VMs.</summary>
    public const string Fleet = "fleet";

    /// <summary>A cluster of ours.</summary>
    /// <param name="id">Its ID.</param>
    /// <param name="address">Where it is.</param>
    /// <param name="activityTimeout">How long it may be silent within an answer.</param>
    public static ClusterConfig Of(string id, Uri address, TimeSpan activityTimeout) => new()
    {
        ClusterId = id,
        Destinations = new Dictionary<string, DestinationConfig> { [id] = new() { Address = address.ToString() } },
        HttpRequest = new ForwarderRequestConfig { ActivityTimeout = activityTimeout },
    };
}
