namespace Foundry.Gateway.Tests;

/// <summary>CONTRACT section 4, step 2: routes are case-sensitive, and what is not a route is nothing.</summary>
public sealed class MatcherTests(OrdinaryGateway gateway) : IClassFixture<OrdinaryGateway>
{
    [Theory]
    [InlineData("GET", "/V1/vms", 404)]
    [InlineData("GET", "/v1/VMS", 404)]
    [InlineData("GET", "/v1/vms/", 404)]
    [InlineData("GET", "/v1/vms/a/b", 404)]
    [InlineData("GET", "/", 404)]
    [InlineData("GET", "/other.json", 404)]
    [InlineData("GET", "/v2/vms", 404)]
    [InlineData("GET", "/internal/v1/vms", 404)]
    [InlineData("POST", "/internal/v1/join", 404)]
    [InlineData("GET", "/Healthz", 404)]
    [InlineData("GET", "/healthz/", 404)]
    public async Task What_is_no_route_is_not_found(string method, string target, int status)
    {
        var host = gateway.Host;
        host.Forget();

        var answer = await host.SendAsync(method, target, host.PlatformToken());

        Assert.Equal((status, "not_found"), (answer.Status, answer.Code));
        Assert.Empty(host.Fleet.Backend.Forwarded);
        Assert.Empty(host.Issuance.Forwarded);
    }

    [Theory]
    [InlineData("PUT", "/v1/vms", "GET, POST")]
    [InlineData("HEAD", "/v1/vms", "GET, POST")]
    [InlineData("OPTIONS", "/v1/vms", "GET, POST")]
    [InlineData("TRACE", "/v1/vms", "GET, POST")]
    [InlineData("FOO", "/v1/vms/a", "DELETE, GET")]
    [InlineData("get", "/v1/vms/a", "DELETE, GET")]
    [InlineData("POST", "/v1/placement", "GET")]
    [InlineData("GET", "/v1/append", "POST")]
    [InlineData("DELETE", "/v1/tenants", "GET, POST")]
    [InlineData("POST", "/healthz", "GET")]
    [InlineData("DELETE", "/v1/quota", "GET")]
    public async Task A_method_that_no_route_of_the_path_lists_is_not_allowed(string method, string target, string allow)
    {
        var host = gateway.Host;
        host.Forget();

        var answer = await host.SendRawAsync($"{method} {target} HTTP/1.1\r\nHost: foundry\r\nAuthorization: Bearer {host.PlatformToken()}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");

        Assert.Equal((405, allow), (answer.Status, answer["Allow"]));
        if (method != "HEAD")
            Assert.Equal("method_not_allowed", answer.Code);
        Assert.Empty(host.Fleet.Backend.Forwarded);
        Assert.Empty(host.Issuance.Forwarded);
    }

    [Fact]
    public async Task A_tenant_is_told_nothing_more_about_an_unknown_path_than_a_stranger()
    {
        var host = gateway.Host;
        Assert.Equal(404, (await host.GetAsync("/v1/unknown", null)).Status);
        Assert.Equal(404, (await host.GetAsync("/v1/unknown", host.Token("read"))).Status);
    }
}
