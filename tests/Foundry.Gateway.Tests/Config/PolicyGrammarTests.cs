using Foundry.Gateway.Config;
using Yarp.ReverseProxy.Configuration;

namespace Foundry.Gateway.Tests.Config;

/// <summary>CONTRACT section 10: a route that does not say who may use it does not load; a misspelt guard is an error, never no guard.</summary>
public sealed class PolicyGrammarTests
{
    private const string Scope = "foundry.scope=read";

    [Theory]
    // What is wrong: path, methods, metadata separated by '|'; then the field, and a piece of what would be right.
    [InlineData("/v1/x", "GET", "", "Metadata.foundry.scope", "read, user, input, service:<name>, any or anonymous")]
    [InlineData("/v1/x", "GET", "foundry.scope=", "Metadata.foundry.scope", "read, user, input, service:<name>, any or anonymous")]
    [InlineData("/v1/x", "GET", "foundry.scope=READ", "Metadata.foundry.scope", "in lower case")]
    [InlineData("/v1/x", "GET", "foundry.scope=reed", "Metadata.foundry.scope", "'reed' is no scope")]
    [InlineData("/v1/x", "GET", "foundry.scope=read,", "Metadata.foundry.scope", "separated by commas")]
    [InlineData("/v1/x", "GET", "foundry.scope=any,read", "Metadata.foundry.scope", "stands alone")]
    [InlineData("/v1/x", "GET", "foundry.scope=read,anonymous", "Metadata.foundry.scope", "stands alone")]
    [InlineData("/v1/x", "GET", Scope + "|foundry.scop=read", "Metadata.foundry.scop", "is not known: foundry.scope")]
    [InlineData("/v1/x", "GET", Scope + "|Foundry.Scope=read", "Metadata.Foundry.Scope", "is not known")]
    [InlineData("/v1/x", "GET", Scope + "|foundry.filtr=items=$[*]", "Metadata.foundry.filtr", "foundry.filter")]
    [InlineData("/v1/x", "GET", Scope + "|anything=x", "Metadata.anything", "is not known")]
    [InlineData("/v1/x", "", Scope, "Match.Methods", "[\"GET\"]")]
    [InlineData("/v1/x", "TRACE", Scope, "Match.Methods", "'TRACE' is not one of GET, HEAD")]
    [InlineData("/v1/x", "get", Scope, "Match.Methods", "'get' is not one of GET, HEAD")]
    [InlineData("/v1/x", "GET", Scope + "|foundry.methods=GET,CONNECT", "Match.Methods", "'CONNECT' is not one of")]
    [InlineData("v1/x", "GET", Scope, "Match.Path", "{**rest}")]
    [InlineData("", "GET", Scope, "Match.Path", "/segments")]
    [InlineData("/v1//x", "GET", Scope, "Match.Path", "/segments")]
    [InlineData("/v1/x/", "GET", Scope, "Match.Path", "/segments")]
    [InlineData("/v1/a{id}", "GET", Scope, "Match.Path", "/segments")]
    [InlineData("/v1/{id:int}", "GET", Scope, "Match.Path", "/segments")]
    [InlineData("/v1/{**rest}/x", "GET", Scope, "Match.Path", "/segments")]
    [InlineData("/v1/{id?}", "GET", Scope, "Match.Path", "/segments")]
    [InlineData("/v1/x%20y", "GET", Scope, "Match.Path", "/segments")]
    [InlineData("/v1/{id}", "GET", Scope + "|foundry.own=id", "Metadata.foundry.own", "write {id}")]
    [InlineData("/v1/{id}", "GET", Scope + "|foundry.own={tenant}", "Metadata.foundry.own", "the path has no {tenant}")]
    [InlineData("/v1/{id}", "GET", Scope + "|foundry.own=object={id}; at=/v1/{id}", "Metadata.foundry.own", "owner=tenant_id")]
    [InlineData("/v1/{id}", "GET", Scope + "|foundry.own=object={id}; at=v1/{id}; owner=t", "Metadata.foundry.own", "at=/v1/vms/{id}")]
    [InlineData("/v1/{id}", "GET", Scope + "|foundry.own=object={id}; at=/v1; owner=t", "Metadata.foundry.own", "key=vm_id where at is a list")]
    [InlineData("/v1/{id}", "GET", Scope + "|foundry.own=object={id}; at=/v1/{id}; key=k; owner=t", "Metadata.foundry.own", "key=vm_id where at is a list")]
    [InlineData("/v1/{id}", "GET", Scope + "|foundry.own=object={id}; at=/v1/{id}; owner=t; ownr=x", "Metadata.foundry.own", "write {id}")]
    [InlineData("/v1/{id}", "GET", Scope + "|foundry.own=object={id}; at=/v1/{id}; owner=a; owner=b", "Metadata.foundry.own", "write {id}")]
    [InlineData("/v1/x", "GET", Scope + "|foundry.filter=owner=tenant_id", "Metadata.foundry.filter", "items=$[*]; owner=tenant_id")]
    [InlineData("/v1/x", "GET", Scope + "|foundry.filter=items=$[*]", "Metadata.foundry.filter", "owner=tenant_id")]
    [InlineData("/v1/x", "GET", Scope + "|foundry.filter=items=$.a.b[*]; owner=t", "Metadata.foundry.filter", "items=$.nodes[*]")]
    [InlineData("/v1/x", "GET", Scope + "|foundry.filter=items=nodes; owner=t", "Metadata.foundry.filter", "items=$.nodes[*]")]
    [InlineData("/v1/x", "GET", Scope + "|foundry.filter=items=$[*]; owner=t; keep=a", "Metadata.foundry.filter", "$[*] has none")]
    [InlineData("/v1/x", "GET", Scope + "|foundry.filter=items=$.a[*]; owner=t; newest=b", "Metadata.foundry.filter", "newest=last_updated:last_seen")]
    [InlineData("/v1/x", "GET", Scope + "|foundry.filter=items=$[*]; owner=t; keeps=a", "Metadata.foundry.filter", "keep=")]
    [InlineData("/v1/x", "GET,POST", Scope + "|foundry.filter=items=$[*]; owner=t", "Metadata.foundry.filter", "takes GET alone")]
    [InlineData("/v1/x", "HEAD", Scope + "|foundry.filter=items=$[*]; owner=t", "Metadata.foundry.filter", "takes GET alone")]
    [InlineData("/v1/{id}", "GET", Scope + "|foundry.own={id}|foundry.filter=items=$[*]; owner=t", "Metadata.foundry.filter", "foundry.own for single objects")]
    [InlineData("/v1/x", "POST", Scope + "|foundry.quota=make|foundry.audit=VM_CREATED", "Metadata.foundry.quota", "'create' or 'destroy'")]
    [InlineData("/v1/x", "POST", Scope + "|foundry.quota=create", "Metadata.foundry.audit", "VM_CREATED or VM_DESTROYED")]
    [InlineData("/v1/x", "DELETE", Scope + "|foundry.quota=destroy|foundry.audit=VM_DESTROYED", "Metadata.foundry.quota", "needs foundry.own")]
    [InlineData("/v1/x", "POST", Scope + "|foundry.audit=TENANT_CREATED", "Metadata.foundry.audit", "VM_CREATED or VM_DESTROYED")]
    [InlineData("/v1/x", "POST", Scope + "|foundry.proof=true", "Metadata.foundry.proof", "'required', or left out")]
    [InlineData("/v1/x", "POST", Scope + "|foundry.proof=Required", "Metadata.foundry.proof", "'required', or left out")]
    [InlineData("/v1/x", "POST", "foundry.scope=anonymous|foundry.proof=required", "Metadata.foundry.proof", "needs a token")]
    [InlineData("/v1/x", "POST", Scope + "|foundry.body=json", "Metadata.foundry.body", "'opaque', or left out")]
    [InlineData("/v1/x", "GET", Scope + "|foundry.rate_cost=-1", "Metadata.foundry.rate_cost", "0 to 1000")]
    [InlineData("/v1/x", "GET", Scope + "|foundry.rate_cost=1001", "Metadata.foundry.rate_cost", "0 to 1000")]
    [InlineData("/v1/x", "GET", Scope + "|foundry.rate_cost=1.5", "Metadata.foundry.rate_cost", "'heartbeat'")]
    [InlineData("/v1/x", "GET", Scope + "|foundry.rate_cost=Heartbeat", "Metadata.foundry.rate_cost", "'heartbeat'")]
    public void What_is_not_understood_is_an_error_that_names_the_field_and_what_would_be_right(string path, string methods, string metadata, string field, string right)
    {
        var (policy, errors) = Read(path, methods, metadata);

        Assert.Null(policy);
        var error = Assert.Single(errors);
        Assert.Equal(field, error.Field);
        Assert.Contains(right, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Another_mechanism_of_policy_is_refused()
    {
        var route = Route("/v1/x", "GET", Scope) with { AuthorizationPolicy = "a", RateLimiterPolicy = "b", CorsPolicy = "c", OutputCachePolicy = "d", TimeoutPolicy = "e" };
        var fields = new List<string>();
        Assert.Null(PolicyGrammar.Read(route, (field, _) => fields.Add(field)));
        Assert.Equal(["AuthorizationPolicy", "RateLimiterPolicy", "CorsPolicy", "OutputCachePolicy", "TimeoutPolicy"], fields);
    }

    [Fact]
    public void Every_error_of_a_route_is_told_at_once() =>
        Assert.Equal(["Match.Path", "Match.Methods", "Metadata.foundry.scope", "Metadata.foundry.body"], Read("x", "", "foundry.body=1").Errors.Select(error => error.Field));

    [Fact]
    public void What_is_understood_says_what_it_says()
    {
        var policy = Read("/v1/{id}/{**rest}", "POST", "foundry.scope=user, service:a|foundry.own=object={id}; at=/v1/x; key=name; owner=org|foundry.methods=PUT, PATCH|foundry.rate_cost=7|foundry.body=opaque|foundry.quota=destroy|foundry.audit=VM_DESTROYED").Policy!;

        Assert.Equal(["PUT", "PATCH"], policy.Methods);
        Assert.Equal(new OwnRule("id", "/v1/x", "name", "org"), policy.Own);
        Assert.Equal((7, true, QuotaEffect.Destroy, "VM_DESTROYED", false), (policy.RateCost, policy.OpaqueBody, policy.Quota, policy.AuditEvent, policy.HeartbeatLane));
        Assert.True(policy.Scope.Allows(Tokens.Scope.Input));
        Assert.False(policy.Scope.Allows(Tokens.Scope.Read));

        var filter = Read("/v1/x", "GET", Scope + "|foundry.filter=items=$.nodes[*]; owner=org; keep=a, b; counts=total; newest=last:seen").Policy!.Filter!;
        Assert.Equal(("nodes", "org", "a,b", "total", "last", "seen"), (filter.Items, filter.Owner, string.Join(',', filter.Keep.Order()), string.Join(',', filter.Counts), filter.NewestMember, filter.NewestOf));
    }

    private static (RoutePolicy? Policy, List<(string Field, string Message)> Errors) Read(string path, string methods, string metadata)
    {
        var errors = new List<(string, string)>();
        return (PolicyGrammar.Read(Route(path, methods, metadata), (field, message) => errors.Add((field, message))), errors);
    }

    private static RouteConfig Route(string path, string methods, string metadata) => new()
    {
        RouteId = "route",
        ClusterId = "fleet",
        Match = new RouteMatch { Path = path, Methods = methods.Split(',', StringSplitOptions.RemoveEmptyEntries) },
        Metadata = metadata.Split('|', StringSplitOptions.RemoveEmptyEntries).ToDictionary(item => item[..item.IndexOf('=', StringComparison.Ordinal)], item => item[(item.IndexOf('=', StringComparison.Ordinal) + 1)..]),
    };
}
