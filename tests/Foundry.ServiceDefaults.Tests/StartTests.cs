using System.Net;
using System.Net.Sockets;
using Foundry.Testing;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;

namespace Foundry.ServiceDefaults.Tests;

public sealed class ListenSetting
{
    [Theory]
    [InlineData("http://127.0.0.1:9221", false, "127.0.0.1:9221")]
    [InlineData("http://127.0.0.1:9221/", false, "127.0.0.1:9221")]
    [InlineData("http://127.9.9.9:1", false, "127.9.9.9:1")]
    [InlineData("http://localhost:9221", false, "127.0.0.1:9221")]
    [InlineData("http://[::1]:9221", false, "[::1]:9221")]
    [InlineData("http://0.0.0.0:9221", true, "0.0.0.0:9221")]
    [InlineData("http://[::]:9221", true, "[::]:9221")]
    [InlineData("http://10.0.0.1:80", true, "10.0.0.1:80")]
    public void Is_an_address_and_a_port(string url, bool allowPublic, string endPoint) =>
        Assert.Equal(IPEndPoint.Parse(endPoint), ListenAddress.Parse(url, "Gateway:Listen", allowPublic, "Gateway:AllowPublicListen").EndPoint);

    [Theory]
    [InlineData("http://0.0.0.0:9221")]
    [InlineData("http://[::]:9221")]
    [InlineData("http://10.0.0.1:9221")]
    [InlineData("http://169.254.1.1:9221")]
    [InlineData("http://[fe80::1]:9221")]
    [InlineData("http://[::ffff:10.0.0.1]:9221")]
    public void That_others_can_reach_is_refused_unless_meant_and_says_how_to_mean_it(string url)
    {
        var refused = Assert.Throws<StartupException>(() => ListenAddress.Parse(url, "Gateway:Listen", allowPublic: false, "Gateway:AllowPublicListen"));
        Assert.Contains("Gateway:Listen", refused.Message, StringComparison.Ordinal);
        Assert.Contains("Gateway:AllowPublicListen=true", refused.Message, StringComparison.Ordinal);
        Assert.Contains("FOUNDRY_Gateway__AllowPublicListen", refused.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("")]
    [InlineData("9221")]
    [InlineData("127.0.0.1:9221")]
    [InlineData("https://127.0.0.1:9221")]
    [InlineData("http://*:9221")]
    [InlineData("http://+:9221")]
    [InlineData("http://example.com:9221")]
    [InlineData("http://127.0.0.1:9221/path")]
    [InlineData("http://127.0.0.1:9221?x=1")]
    [InlineData("http://127.0.0.1:99999")]
    [InlineData("unix:/tmp/socket")]
    public void That_is_no_address_is_refused_and_shows_one(string url)
    {
        var refused = Assert.Throws<StartupException>(() => ListenAddress.Parse(url, "Gateway:Listen", allowPublic: true, "Gateway:AllowPublicListen"));
        Assert.Contains("Gateway:Listen is '" + url + "'", refused.Message, StringComparison.Ordinal);
        Assert.Contains("http://127.0.0.1:9221", refused.Message, StringComparison.Ordinal);
    }
}

public sealed class PortInUse
{
    [Fact]
    public async Task Stops_the_start_and_names_port_and_setting()
    {
        using var taken = new TcpListener(IPAddress.Loopback, 0);
        taken.Start();
        var port = ((IPEndPoint)taken.LocalEndpoint).Port;
        ListenAddress[] listens =
        [
            ListenAddress.Parse("http://127.0.0.1:0", "Gateway:OpsListen", false, "Gateway:AllowPublicOps"),
            ListenAddress.Parse($"http://127.0.0.1:{port}", "Gateway:Listen", false, "Gateway:AllowPublicListen"),
        ];
        var builder = WebApplication.CreateEmptyBuilder(new WebApplicationOptions());
        builder.WebHost.UseKestrelCore().ConfigureKestrel(kestrel => listens[1].Apply(kestrel));
        builder.Services.AddRoutingCore();
        await using var app = builder.Build();
        var refused = await Assert.ThrowsAsync<StartupException>(() => app.StartAsync(listens, TestContext.Current.CancellationToken));
        Assert.Contains($"Port {port}", refused.Message, StringComparison.Ordinal);
        Assert.Contains("Gateway:Listen ", refused.Message, StringComparison.Ordinal);
        Assert.Contains("FOUNDRY_Gateway__Listen", refused.Message, StringComparison.Ordinal);
    }
}

public sealed class ProgramEnd
{
    [Fact]
    public async Task Is_1_for_what_the_operator_can_mend_and_0_otherwise()
    {
        Assert.Equal(0, await ServiceHost.RunAsync(() => Task.CompletedTask));
        Assert.Equal(1, await ServiceHost.RunAsync(() => throw new StartupException("a test's own message")));
        Assert.Equal(1, await ServiceHost.RunAsync(() => throw new StateCorruptException("/f", "why")));
        await Assert.ThrowsAsync<InvalidOperationException>(() => ServiceHost.RunAsync(() => throw new InvalidOperationException()));
    }
}

/// <summary>Tests that set the process's environment, one after the other.</summary>
[CollectionDefinition(DisableParallelization = true)]
public sealed class Environments;

[Collection<Environments>]
public sealed class Settings : IDisposable
{
    private readonly TempFolder _temp = new();

    public Settings() => Environment.SetEnvironmentVariable("FOUNDRY_CONFIG", _temp.Path);

    [Fact]
    public void Come_from_the_file_then_the_environment_then_the_program()
    {
        File.WriteAllText(_temp.File("gateway.json"), """{"Test":{"A":"file","B":"file","C":"file"}}""");
        Environment.SetEnvironmentVariable("FOUNDRY_Test__B", "environment");
        Environment.SetEnvironmentVariable("FOUNDRY_Test__C", "environment");
        var configuration = ServiceHost.CreateBuilder("test", [new("Test:C", "program")]).Configuration;
        Assert.Equal(["file", "environment", "program"], ((string[])["A", "B", "C"]).Select(key => configuration[$"Test:{key}"]));
    }

    [Fact]
    public void In_a_file_that_is_no_JSON_stop_the_start_with_its_name()
    {
        File.WriteAllText(_temp.File("gateway.json"), """{"Test":""");
        var refused = Assert.Throws<StartupException>(() => ServiceHost.CreateBuilder("test"));
        Assert.Contains(_temp.File("gateway.json"), refused.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Say_where_a_part_keeps_its_state()
    {
        static IConfiguration Of(Dictionary<string, string?> settings) => new ConfigurationBuilder().AddInMemoryCollection(settings).Build();
        Assert.Equal(_temp.File("fleet"), ServiceHost.DataFolder(Of(new() { ["DATA"] = _temp.Path }), "Fleet").Path);
        Assert.Equal(_temp.File("own"), ServiceHost.DataFolder(Of(new() { ["DATA"] = _temp.Path, ["Fleet:Data"] = _temp.File("own") }), "Fleet").Path);
    }

    public void Dispose()
    {
        foreach (var name in (string[])["FOUNDRY_CONFIG", "FOUNDRY_Test__B", "FOUNDRY_Test__C"])
            Environment.SetEnvironmentVariable(name, null);
        _temp.Dispose();
    }
}
