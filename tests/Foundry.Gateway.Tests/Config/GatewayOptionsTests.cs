using Foundry.Gateway.Config;

namespace Foundry.Gateway.Tests.Config;

/// <summary>CONTRACT section 5: what nobody knows the outcome of is settled within 30 s, so the two waits before it are bounded together.</summary>
public sealed class GatewayOptionsTests
{
    [Theory]
    [InlineData(15, 10, true)]
    [InlineData(28, 1, true)]
    [InlineData(1, 28, true)]
    [InlineData(19, 10, true)]
    [InlineData(20, 10, false)]
    [InlineData(29, 1, false)]
    [InlineData(1, 29, false)]
    [InlineData(15, 15, false)]
    public void A_create_is_settled_in_time_or_the_settings_are_refused(int createDeadline, int reconcileInterval, bool inTime)
    {
        var problems = new GatewayOptions { CreateDeadline = TimeSpan.FromSeconds(createDeadline), ReconcileInterval = TimeSpan.FromSeconds(reconcileInterval) }.Problems();

        if (inTime)
            Assert.Empty(problems);
        else
            Assert.Contains("together at most 00:00:29", Assert.Single(problems), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("https://gateway.example", true)]
    [InlineData("https://gateway.example/", true)]
    [InlineData("http://[::1]:9221", true)]
    [InlineData("gateway.example", false)]
    [InlineData("https://gateway.example/api", false)]
    [InlineData("https://gateway.example?x", false)]
    [InlineData("https://gateway.example#x", false)]
    [InlineData("https://user@gateway.example", false)]
    [InlineData("ftp://gateway.example", false)]
    [InlineData("https://*.example", false)]
    [InlineData("", false)]
    public void A_public_origin_is_a_scheme_a_host_and_a_port(string origin, bool sound)
    {
        var problems = new GatewayOptions { PublicOrigins = ["https://other.example", origin] }.Problems();

        if (sound)
            Assert.Empty(problems);
        else
            Assert.Contains($"Gateway:PublicOrigins has '{origin}'", Assert.Single(problems), StringComparison.Ordinal);
    }

    [Fact]
    public void Of_public_origins_there_are_at_most_sixteen()
    {
        Assert.Empty(new GatewayOptions { PublicOrigins = [.. Enumerable.Range(0, 16).Select(i => $"https://g{i}.example")] }.Problems());
        Assert.Contains("at most 16", Assert.Single(new GatewayOptions { PublicOrigins = [.. Enumerable.Range(0, 17).Select(i => $"https://g{i}.example")] }.Problems()), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("http://127.0.0.1:9221", "http://127.0.0.1:9221 http://localhost:9221 http://[::1]:9221")]
    [InlineData("http://localhost:9221", "http://127.0.0.1:9221 http://localhost:9221 http://[::1]:9221")]
    [InlineData("http://0.0.0.0:9221", "http://127.0.0.1:9221 http://localhost:9221 http://[::1]:9221")]
    [InlineData("http://[::]:9221", "http://127.0.0.1:9221 http://localhost:9221 http://[::1]:9221")]
    [InlineData("http://192.0.2.1:9221", "http://192.0.2.1:9221")]
    public void Public_origins_that_are_not_set_follow_from_where_it_listens(string listen, string origins) =>
        Assert.Equal(origins.Split(' '), new GatewayOptions { Listen = listen }.Origins(9221));
}
