using System.Text.Json;

namespace Foundry.Gateway.Tests;

/// <summary>Meters are the whole process's: another test's gateway that ends takes this one's with it.</summary>
[CollectionDefinition(nameof(Alone), DisableParallelization = true)]
public sealed class Alone;

/// <summary>What is the operators' answers on their port alone (HAZARDS 84).</summary>
[Collection(nameof(Alone))]
public sealed class OpsApiTests(OrdinaryGateway gateway) : IClassFixture<OrdinaryGateway>
{
    [Theory]
    [InlineData("/livez")]
    [InlineData("/healthz")]
    [InlineData("/readyz")]
    [InlineData("/metrics")]
    [InlineData("/config/status")]
    public async Task The_operators_port_answers(string path) =>
        Assert.Equal(System.Net.HttpStatusCode.OK, (await gateway.Host.Client.GetAsync(new Uri(gateway.Host.OpsUrl, path), TestContext.Current.CancellationToken)).StatusCode);

    [Theory]
    [InlineData("/livez")]
    [InlineData("/readyz")]
    [InlineData("/metrics")]
    [InlineData("/config/status")]
    public async Task The_public_port_does_not_whatever_it_is_called(string path)
    {
        var host = gateway.Host;
        foreach (var name in new[] { "foundry", "127.0.0.1:9222", $"127.0.0.1:{host.OpsUrl.Port}", "localhost" })
            foreach (var authorization in new[] { "", $"Authorization: Bearer {host.PlatformToken()}\r\n" })
                Assert.Equal(404, (await host.SendRawAsync($"GET {path} HTTP/1.1\r\nHost: {name}\r\n{authorization}X-Forwarded-For: 127.0.0.1\r\nConnection: close\r\n\r\n")).Status);
    }

    [Theory]
    [InlineData("/v1/vms")]
    [InlineData("/v1/status")]
    [InlineData("/v1/health")]
    public async Task The_operators_port_serves_no_route(string path) =>
        Assert.Equal(System.Net.HttpStatusCode.NotFound, (await gateway.Host.Client.GetAsync(new Uri(gateway.Host.OpsUrl, path), TestContext.Current.CancellationToken)).StatusCode);

    [Fact]
    public async Task The_public_port_says_that_it_lives()
    {
        Assert.Equal((200, "ok\n"), (await gateway.Host.GetAsync("/healthz", null)) is var health ? (health.Status, health.Text) : default);
        Assert.Equal("ok", (await gateway.Host.GetAsync("/v1/health", null)).Json.GetProperty("status").GetString());
    }

    [Fact]
    public async Task No_answer_names_the_server()
    {
        var host = gateway.Host;
        foreach (var answer in new[] { await host.GetAsync("/healthz", null), await host.GetAsync("/v1/vms", null), await host.GetAsync("/v1/vms", host.Token("read")), await host.GetRawAsync("/v1/vms", "x", "Host: twice\r\n") })
            Assert.Null(answer["Server"]);
    }

    [Fact]
    public async Task Config_status_says_what_is_in_force()
    {
        var status = await gateway.Host.OpsAsync("/config/status");

        Assert.Equal(status.GetProperty("on_disk_hash").GetString(), status.GetProperty("running_hash").GetString());
        Assert.Equal(64, status.GetProperty("running_hash").GetString()!.Length);
        Assert.Equal(JsonValueKind.String, status.GetProperty("applied_at").ValueKind);
        Assert.Equal(0, status.GetProperty("errors").GetArrayLength());
    }

    [Fact]
    public async Task Metrics_have_routes_and_closed_lists_for_labels_and_nothing_that_a_client_sent()
    {
        var host = gateway.Host;
        var token = host.Token("read");
        await host.GetAsync("/v1/vms/canary-of-this-test", token);
        await host.GetAsync("/canary-of-this-test", token);
        await host.SendRawAsync($"CANARY /v1/vms HTTP/1.1\r\nHost: canary-of-this-test\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n");

        // A scrape is kept for a moment by the exporter.
        var metrics = "";
        await host.UntilAsync(async () => (metrics = await host.Client.GetStringAsync(new Uri(host.OpsUrl, "/metrics"), TestContext.Current.CancellationToken)).Contains("route=\"/v1/vms/{id}\"", StringComparison.Ordinal));

        Assert.Contains("foundry_decisions_total", metrics, StringComparison.Ordinal);
        Assert.DoesNotContain("canary", metrics, StringComparison.OrdinalIgnoreCase);
        Assert.DoesNotContain(token[..40], metrics, StringComparison.Ordinal);
    }
}
