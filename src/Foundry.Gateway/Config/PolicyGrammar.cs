using System.Globalization;
using System.Text.RegularExpressions;
using Foundry.Contracts;
using Foundry.Tokens;
using Yarp.ReverseProxy.Configuration;

namespace Foundry.Gateway.Config;

/// <summary>Reads a route's <c>Metadata</c>. What is not understood is an error: a misspelt guard guards nothing.</summary>
internal static partial class PolicyGrammar
{
    private static readonly string[] KnownMethods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

    /// <summary>Reads one route.</summary>
    /// <param name="route">The route.</param>
    /// <param name="report">Takes each error: the field, and what would be right.</param>
    /// <returns>The policy, or null where there were errors.</returns>
    public static RoutePolicy? Read(RouteConfig route, Action<string, string> report)
    {
        var sound = true;
        void Error(string field, string message)
        {
            sound = false;
            report(field, message);
        }

        var metadata = route.Metadata ?? new Dictionary<string, string>();
        var path = RoutePath.TryParse(route.Match.Path, out var pathError);
        if (path is null)
            Error("Match.Path", pathError!);

        var methods = route.Match.Methods ?? [];
        if (metadata.TryGetValue("foundry.methods", out var methodList))
            methods = [.. methodList.Split(',', StringSplitOptions.TrimEntries)];
        if (methods.Count == 0)
            Error("Match.Methods", "list the methods that the route takes, such as [\"GET\"]");
        foreach (var method in methods.Except(KnownMethods, StringComparer.Ordinal))
            Error("Match.Methods", $"'{method}' is not one of {string.Join(", ", KnownMethods)}");

        if (!ScopeRule.TryParse(metadata.GetValueOrDefault("foundry.scope"), out var scope, out var scopeError))
            Error("Metadata.foundry.scope", scopeError);

        // One mechanism for policy: the pipeline. A second one would be a second answer to the same question.
        foreach (var (field, value) in new[]
        {
            ("AuthorizationPolicy", route.AuthorizationPolicy), ("RateLimiterPolicy", route.RateLimiterPolicy), ("CorsPolicy", route.CorsPolicy),
            ("OutputCachePolicy", route.OutputCachePolicy), ("TimeoutPolicy", route.TimeoutPolicy),
        })
            if (value is not null)
                Error(field, "is not used here: say it with foundry.* keys in Metadata");

        var policy = new RoutePolicy(route.RouteId, route.ClusterId ?? "", path!, methods, scope!);
        foreach (var (key, value) in metadata)
            policy = key switch
            {
                "foundry.scope" or "foundry.methods" => policy,
                "foundry.own" => policy with { Own = ReadOwn(value, route.Match.Path ?? "", message => Error("Metadata.foundry.own", message)) },
                "foundry.filter" => policy with { Filter = ReadFilter(value, message => Error("Metadata.foundry.filter", message)) },
                "foundry.quota" => policy with { Quota = ReadQuota(value, message => Error("Metadata.foundry.quota", message)) },
                "foundry.audit" => policy with { AuditEvent = ReadAudit(value, message => Error("Metadata.foundry.audit", message)) },
                "foundry.proof" => policy with { RequiresProof = ReadProof(value, message => Error("Metadata.foundry.proof", message)) },
                "foundry.body" => policy with { OpaqueBody = ReadBody(value, message => Error("Metadata.foundry.body", message)) },
                "foundry.rate_cost" => ReadRateCost(policy, value, message => Error("Metadata.foundry.rate_cost", message)),
                _ => Unknown(policy, key, Error),
            };
        if (policy.Filter is not null && (policy.Own is not null || methods.Any(method => method != "GET")))
            Error("Metadata.foundry.filter", "belongs to a route that takes GET alone and lists; use foundry.own for single objects");
        if (policy.RequiresProof && scope is { AllowsAnonymous: true })
            Error("Metadata.foundry.proof", "belongs to a route that needs a token: an anonymous caller has no key to prove");
        if (policy.Quota == QuotaEffect.Destroy && policy.Own?.At is null)
            Error("Metadata.foundry.quota", "destroy needs foundry.own to say which object the path names");
        if (policy.Quota != QuotaEffect.None && policy.AuditEvent is null)
            Error("Metadata.foundry.audit", "a route that changes a quota names the event it is recorded as: VM_CREATED or VM_DESTROYED");
        return sound ? policy : null;
    }

    private static RoutePolicy Unknown(RoutePolicy policy, string key, Action<string, string> error)
    {
        error($"Metadata.{key}", "is not known: foundry.scope, foundry.methods, foundry.own, foundry.filter, foundry.quota, foundry.proof, foundry.audit, foundry.rate_cost, foundry.body");
        return policy;
    }

    private static OwnRule? ReadOwn(string text, string path, Action<string> error)
    {
        OwnRule? rule = null;
        if (Parameter().Match(text) is { Success: true } plain)
            rule = new OwnRule(plain.Groups[1].Value, null, null, "tenant_id");
        else if (ReadPairs(text, ["object", "at", "key", "owner"]) is { } pairs && Parameter().Match(pairs.GetValueOrDefault("object", "")) is { Success: true } named
            && pairs.TryGetValue("at", out var at) && at.StartsWith('/') && pairs.TryGetValue("owner", out var owner) && owner.Length > 0
            && at.Contains('{', StringComparison.Ordinal) != pairs.ContainsKey("key"))
            rule = new OwnRule(named.Groups[1].Value, at, pairs.GetValueOrDefault("key"), owner);
        if (rule is null)
            error("write {id} where the path's {id} is a tenant, or: object={id}; at=/v1/vms/{id}; owner=tenant_id (with key=vm_id where at is a list)");
        else if (!path.Contains($"{{{rule.Parameter}}}", StringComparison.Ordinal))
            error($"the path has no {{{rule.Parameter}}}");
        return rule;
    }

    private static FilterRule? ReadFilter(string text, Action<string> error)
    {
        if (ReadPairs(text, ["items", "owner", "keep", "counts", "newest"]) is { } pairs && Items().Match(pairs.GetValueOrDefault("items", "")) is { Success: true } items
            && pairs.GetValueOrDefault("owner", "") is { Length: > 0 } owner)
        {
            var newest = pairs.GetValueOrDefault("newest")?.Split(':');
            if (newest is null or { Length: 2 })
            {
                var member = items.Groups[1].Success ? items.Groups[1].Value : null;
                var keep = List(pairs.GetValueOrDefault("keep"));
                var counts = List(pairs.GetValueOrDefault("counts"));
                if (member is null && (keep.Count > 0 || counts.Count > 0 || newest is not null))
                    error("keep, counts and newest belong to an envelope; $[*] has none");
                keep.Remove(member ?? "");
                return new FilterRule(member, owner, keep, counts, newest?[0], newest?[1]);
            }
        }
        error("write items=$[*]; owner=tenant_id or items=$.nodes[*]; owner=tenant_id; keep=…; counts=…; newest=last_updated:last_seen");
        return null;
    }

    private static HashSet<string> List(string? text) =>
        (text ?? "").Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries).ToHashSet(StringComparer.Ordinal);

    private static QuotaEffect ReadQuota(string text, Action<string> error)
    {
        switch (text)
        {
            case "create": return QuotaEffect.Create;
            case "destroy": return QuotaEffect.Destroy;
            default:
                error("is 'create' or 'destroy'");
                return QuotaEffect.None;
        }
    }

    private static string? ReadAudit(string text, Action<string> error)
    {
        if (text is EventTypes.VmCreated or EventTypes.VmDestroyed)
            return text;
        error($"is {EventTypes.VmCreated} or {EventTypes.VmDestroyed}");
        return null;
    }

    private static bool ReadProof(string text, Action<string> error)
    {
        if (text != "required")
            error("is 'required', or left out where the token decides");
        return text == "required";
    }

    private static bool ReadBody(string text, Action<string> error)
    {
        if (text != "opaque")
            error("is 'opaque', or left out where the body is JSON");
        return text == "opaque";
    }

    private static RoutePolicy ReadRateCost(RoutePolicy policy, string text, Action<string> error)
    {
        if (text == "heartbeat")
            return policy with { HeartbeatLane = true };
        if (int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var cost) && cost <= 1000)
            return policy with { RateCost = cost };
        error("is a number from 0 to 1000, or 'heartbeat'");
        return policy;
    }

    private static Dictionary<string, string>? ReadPairs(string text, string[] known)
    {
        var pairs = new Dictionary<string, string>(StringComparer.Ordinal);
        foreach (var item in text.Split(';', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries))
        {
            var split = item.IndexOf('=', StringComparison.Ordinal);
            if (split <= 0 || !known.Contains(item[..split], StringComparer.Ordinal) || !pairs.TryAdd(item[..split], item[(split + 1)..]))
                return null;
        }
        return pairs;
    }

    [GeneratedRegex(@"^\{([a-z_]{1,64})\}\z")]
    private static partial Regex Parameter();

    [GeneratedRegex(@"^\$(?:\.([A-Za-z_][A-Za-z0-9_]{0,63}))?\[\*\]\z")]
    private static partial Regex Items();
}
