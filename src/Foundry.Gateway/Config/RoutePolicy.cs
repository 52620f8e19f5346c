using Foundry.Tokens;

namespace Foundry.Gateway.Config;

/// <summary>What a route's <c>Metadata</c> says, parsed once when the files are read (CONTRACT section 10).</summary>
/// <param name="RouteId">The route's name.</param>
/// <param name="ClusterId">Where it leads; empty for the gateway's own answers.</param>
/// <param name="Path">The path as the route writes it, compared byte for byte.</param>
/// <param name="Methods">Methods it takes.</param>
/// <param name="Scope">Who may use it.</param>
internal sealed record RoutePolicy(string RouteId, string ClusterId, RoutePath Path, IReadOnlyList<string> Methods, ScopeRule Scope)
{
    /// <summary>Whose the object in the path must be.</summary>
    public OwnRule? Own { get; init; }
    /// <summary>How a list answer is filtered.</summary>
    public FilterRule? Filter { get; init; }
    /// <summary>What the request does to the tenant's quota.</summary>
    public QuotaEffect Quota { get; init; }
    /// <summary>The event the gateway writes when the request has succeeded.</summary>
    public string? AuditEvent { get; init; }
    /// <summary>What a request costs of the tenant's rate.</summary>
    public int RateCost { get; init; } = 1;
    /// <summary>Whether requests go by the nodes' own lane instead of the tenant's rate.</summary>
    public bool HeartbeatLane { get; init; }
    /// <summary>Whether the sender must prove to hold the token's key.</summary>
    public bool RequiresProof { get; init; }
    /// <summary>Whether the body is the caller's own text, not to be read as JSON.</summary>
    public bool OpaqueBody { get; init; }
}

/// <summary>What a request does to the tenant's quota: <c>foundry.quota</c>.</summary>
internal enum QuotaEffect
{
    /// <summary>Nothing.</summary>
    None,
    /// <summary>Makes a VM.</summary>
    Create,
    /// <summary>Destroys the VM that the path names.</summary>
    Destroy,
}

/// <summary><c>foundry.own</c>: <c>{id}</c>, the path names a tenant; or an object whose owner must be looked up.</summary>
/// <param name="Parameter">The path parameter.</param>
/// <param name="At">Where the cluster shows the object, with the parameter in braces, or its list; null where the parameter itself is the tenant.</param>
/// <param name="Key">The member that names an object in a list; null where <paramref name="At"/> shows one object.</param>
/// <param name="Owner">The member that names the owner.</param>
internal sealed record OwnRule(string Parameter, string? At, string? Key, string Owner);

/// <summary><c>foundry.filter</c>: <c>items=$.nodes[*]; owner=tenant_id; keep=a,b; counts=total; newest=last_updated:last_seen</c>.</summary>
/// <param name="Items">The envelope's member that holds the list; null where the answer is the list.</param>
/// <param name="Owner">The element's member that names its owner.</param>
/// <param name="Keep">Other members of the envelope that pass as they are.</param>
/// <param name="Counts">Members of the envelope that are the list's length: recomputed after it, dropped before it.</param>
/// <param name="NewestMember">The member of the envelope that is the newest of the elements' <paramref name="NewestOf"/>.</param>
/// <param name="NewestOf">The element's member it is taken from.</param>
internal sealed record FilterRule(string? Items, string Owner, IReadOnlySet<string> Keep, IReadOnlySet<string> Counts, string? NewestMember, string? NewestOf);
