using System.Diagnostics.CodeAnalysis;

namespace Foundry.Tokens;

/// <summary>
/// What a token is good for (CONTRACT section 2): a tier, <c>read</c> &lt; <c>user</c> &lt; <c>input</c>, or a named
/// service outside that order. Always lower case.
/// </summary>
public readonly record struct Scope
{
    /// <summary>Characters of the longest scope.</summary>
    public const int CharsMax = 80;
    /// <summary>How a named service's scope begins.</summary>
    public const string ServicePrefix = "service:";

    /// <summary>Read-only.</summary>
    public static readonly Scope Read = new("read", 1);
    /// <summary>Standard session.</summary>
    public static readonly Scope User = new("user", 2);
    /// <summary>Full operator within the tenant.</summary>
    public static readonly Scope Input = new("input", 3);
    /// <summary>The platform's administrators; their tokens have no tenant.</summary>
    public static readonly Scope PlatformAdmin = new("service:platform-admin", 0);
    /// <summary>A tenant's administrators.</summary>
    public static readonly Scope TenantAdmin = new("service:tenant-admin", 0);
    /// <summary>The machines VMs run on.</summary>
    public static readonly Scope FleetNode = new("service:fleet-node", 0);

    private Scope(string text, int tier)
    {
        Text = text;
        Tier = tier;
    }

    /// <summary>The scope as it is stored and shown.</summary>
    public string Text { get => field ?? "none"; }

    /// <summary>1 to 3 for the tiers, 0 for services.</summary>
    public int Tier { get; }

    /// <summary>Whether it is a named service's.</summary>
    public bool IsService => Tier == 0;

    /// <summary>Reads a scope in any case; refuses what is not exactly one known tier or well-formed service name.</summary>
    /// <param name="text">As a request says it.</param>
    /// <param name="scope">The scope.</param>
    public static bool TryParse([NotNullWhen(true)] string? text, out Scope scope)
    {
        scope = default;
        if (text is null || text.Length > CharsMax || !text.All(char.IsAscii))
            return false;
        var lower = text.ToLowerInvariant();
        switch (lower)
        {
            case "read": scope = Read; return true;
            case "user": scope = User; return true;
            case "input": scope = Input; return true;
        }
        if (!lower.StartsWith(ServicePrefix, StringComparison.Ordinal))
            return false;
        var name = lower.AsSpan(ServicePrefix.Length);
        if (name.IsEmpty || !char.IsAsciiLetterLower(name[0]) || name[^1] == '-' || name.ContainsAnyExcept(NameCharacters))
            return false;
        scope = new Scope(lower, 0);
        return true;
    }

    /// <summary>Reads a scope only as it is stored: a token that says <c>INPUT</c> was not made by us.</summary>
    /// <param name="text">As a token says it.</param>
    /// <param name="scope">The scope.</param>
    public static bool TryParseStored([NotNullWhen(true)] string? text, out Scope scope) =>
        TryParse(text, out scope) && text == scope.Text;

    /// <inheritdoc/>
    public override string ToString() => Text;

    private static readonly System.Buffers.SearchValues<char> NameCharacters =
        System.Buffers.SearchValues.Create("abcdefghijklmnopqrstuvwxyz0123456789-");
}

/// <summary>
/// A route's <c>foundry.scope</c> (CONTRACT section 2): a comma list. A tier opens the route to itself and every higher
/// tier; services must be named; <c>any</c> is every valid token; <c>anonymous</c> is no token at all.
/// </summary>
public sealed class ScopeRule
{
    private readonly int _lowestTier;
    private readonly HashSet<string> _services;

    private ScopeRule(string text, int lowestTier, HashSet<string> services, bool any, bool anonymous)
    {
        Text = text;
        _lowestTier = lowestTier;
        _services = services;
        AllowsAny = any;
        AllowsAnonymous = anonymous;
    }

    /// <summary>The rule as it was written, and as <c>insufficient_scope</c> names it.</summary>
    public string Text { get; }

    /// <summary>Whether every valid token opens the route.</summary>
    public bool AllowsAny { get; }

    /// <summary>Whether the route needs no token.</summary>
    public bool AllowsAnonymous { get; }

    /// <summary>Reads a rule.</summary>
    /// <param name="text">The comma list.</param>
    /// <param name="rule">The rule.</param>
    /// <param name="error">What would be right, where it is none.</param>
    public static bool TryParse(string? text, [NotNullWhen(true)] out ScopeRule? rule, [NotNullWhen(false)] out string? error)
    {
        rule = null;
        var items = text?.Split(',', StringSplitOptions.TrimEntries) ?? [];
        if (items.Length == 0 || items.Any(item => item.Length == 0))
        {
            error = "say who may use the route: read, user, input, service:<name>, any or anonymous, separated by commas";
            return false;
        }
        var lowest = int.MaxValue;
        var services = new HashSet<string>(StringComparer.Ordinal);
        foreach (var item in items)
        {
            if (item is "any" or "anonymous")
            {
                if (items.Length > 1)
                {
                    error = $"'{item}' stands alone: it already covers the others";
                    return false;
                }
                continue;
            }
            if (!Scope.TryParseStored(item, out var scope))
            {
                error = $"'{item}' is no scope: read, user, input, service:<name> in lower case, any or anonymous";
                return false;
            }
            if (scope.IsService)
                services.Add(scope.Text);
            else
                lowest = Math.Min(lowest, scope.Tier);
        }
        error = null;
        rule = new ScopeRule(string.Join(',', items), lowest, services, items[0] == "any", items[0] == "anonymous");
        return true;
    }

    /// <summary>Whether a token of this scope opens the route.</summary>
    /// <param name="scope">The caller's.</param>
    public bool Allows(Scope scope) =>
        AllowsAny || AllowsAnonymous || (scope.IsService ? _services.Contains(scope.Text) : scope.Tier >= _lowestTier);
}
