using System.Text.Json;
using Foundry.Issuance;
using Foundry.ServiceDefaults;
using Foundry.ServiceDefaults.Trust;
using Foundry.Tokens;
using Microsoft.AspNetCore.Builder;

namespace Foundry.Cli.Tests;

/// <summary>Issuance by itself, over a folder, without a gateway.</summary>
internal static class IssuanceAlone
{
    public static async Task<(WebApplication App, IssuanceSetup Setup)> BuildAsync(string data, string? adminFolder = null)
    {
        var builder = ServiceHost.CreateBuilder("issuance",
            [new("DATA", data), new("Issuance:Listen", "http://127.0.0.1:0"), new("Issuance:AdminFolder", adminFolder), new("Log:Level", "Fatal"), new("Ledger:Url", "http://127.0.0.1:1")]);
        var setup = await builder.AddIssuanceAsync();
        var app = builder.Build();
        app.MapIssuance();
        return (app, setup);
    }
}

public sealed class AdminReset
{
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Writes_a_new_token_where_the_old_one_was_and_shows_none(bool standalone)
    {
        using var line = new CommandLine();
        var data = line.File("data");
        var (app, setup) = await IssuanceAlone.BuildAsync(data, standalone ? data : null);
        await app.DisposeAsync();
        if (standalone)
            StateFolder.Open(data).Lock().Dispose(); // As a standalone that ran here left it.
        var before = await File.ReadAllTextAsync(setup.AdminTokenFile, TestContext.Current.CancellationToken);

        var ran = await line.RunAsync("admin", "reset", "--data", data, "--yes");

        Assert.Equal((ExitCode.Done, ""), (ran.Exit, ran.Error));
        Assert.Contains(setup.AdminTokenFile, ran.Output, StringComparison.Ordinal);
        var after = await File.ReadAllTextAsync(setup.AdminTokenFile, TestContext.Current.CancellationToken);
        Assert.NotEqual(before, after);
        Assert.DoesNotContain(after.TrimEnd('\n'), ran.Output, StringComparison.Ordinal);
        Assert.Single(Directory.GetFiles(data, "admin.token", SearchOption.AllDirectories));
    }

    [Theory]
    [InlineData("lock")]
    [InlineData("issuance/lock")]
    public async Task Names_the_process_that_has_to_be_stopped_first(string held)
    {
        using var line = new CommandLine();
        var data = line.File("data");
        var (app, setup) = await IssuanceAlone.BuildAsync(data);
        await app.DisposeAsync();
        var before = await File.ReadAllTextAsync(setup.AdminTokenFile, TestContext.Current.CancellationToken);
        using var running = StateFolder.Open(data).Lock(held);
        var ran = await line.RunAsync("admin", "reset", "--data", data, "--yes");
        Assert.Equal((ExitCode.Failed, ""), (ran.Exit, ran.Output));
        Assert.Contains(OperatingSystem.IsWindows() ? "another process" : $"process {Environment.ProcessId}", ran.Error, StringComparison.Ordinal);
        Assert.Equal(before, await File.ReadAllTextAsync(setup.AdminTokenFile, TestContext.Current.CancellationToken));
    }

    [Theory]
    [InlineData("no", false, ExitCode.Failed)]
    [InlineData("", false, ExitCode.Failed)]
    [InlineData("yes", true, ExitCode.Usage)]
    [InlineData("yes", false, ExitCode.Done)]
    public async Task Asks_first(string said, bool redirected, int exit)
    {
        using var line = new CommandLine { Input = said + "\n", InputIsRedirected = redirected };
        var data = line.File("data");
        var (app, setup) = await IssuanceAlone.BuildAsync(data);
        await app.DisposeAsync();
        var before = await File.ReadAllTextAsync(setup.AdminTokenFile, TestContext.Current.CancellationToken);
        Assert.Equal(exit, (await line.RunAsync("admin", "reset", "--data", data)).Exit);
        Assert.Equal(exit != ExitCode.Done, before == await File.ReadAllTextAsync(setup.AdminTokenFile, TestContext.Current.CancellationToken));
    }

    [Fact]
    public async Task Where_there_is_no_platform_says_so()
    {
        using var line = new CommandLine();
        var ran = await line.RunAsync("admin", "reset", "--data", line.File("data"), "--yes");
        Assert.Equal(ExitCode.Failed, ran.Exit);
        Assert.Contains("no platform", ran.Error, StringComparison.Ordinal);
    }
}

public sealed class GatewayJoin
{
    [Fact]
    public async Task Leaves_what_the_gateway_starts_from_without_a_code()
    {
        using var line = new CommandLine();
        var (app, setup) = await IssuanceAlone.BuildAsync(line.File("issuance-data"));
        await using var running = app;
        await app.StartAsync(TestContext.Current.CancellationToken);
        string[] args = ["gateway", "join", "--name", "gateway", "--issuance", app.Urls.First(), "--root", setup.RootThumbprint, "--code-file", setup.GatewayCodeFile!, "--data", line.File("gw")];

        var ran = await line.RunAsync([.. args, "--output", "json"]);
        Assert.True(ran.Exit == ExitCode.Done, ran.Error);
        var kid = JsonElement.Parse(ran.Output).GetProperty("kid").GetString();
        var code = await File.ReadAllTextAsync(setup.GatewayCodeFile!, TestContext.Current.CancellationToken);
        Assert.DoesNotContain(code.TrimEnd('\n'), ran.Output + ran.Error, StringComparison.Ordinal);
        // Again, as where the answer had been lost.
        Assert.Equal(ran.Output, (await line.RunAsync([.. args, "--output", "json"])).Output);

        var builder = ServiceHost.CreateBuilder("gateway", [new("DATA", line.File("gw")), new("Trust:RootThumbprint", setup.RootThumbprint), new("Issuance:Url", app.Urls.First())]);
        var folder = ServiceHost.DataFolder(builder.Configuration, "Gateway");
        var identity = builder.AddTrust(TrustedKey.Gateway, "another-default", folder, nameIsDefault: true);
        Assert.Equal(("gateway", kid), (identity.Name, identity.Key.Kid));
        await using var services = builder.Build();
        var follower = (TrustFollower)services.Services.GetService(typeof(TrustFollower))!;
        Assert.True(follower.Joined.IsCompletedSuccessfully);
        // By a name that it did not join by, nobody would believe it.
        var other = ServiceHost.CreateBuilder("gateway", [new("DATA", line.File("gw")), new("Trust:RootThumbprint", setup.RootThumbprint)]);
        Assert.Contains("has joined as 'gateway'", Assert.Throws<StartupException>(() => other.AddTrust(TrustedKey.Gateway, "gw-3", folder)).Message, StringComparison.Ordinal);
        await app.StopAsync(TestContext.Current.CancellationToken);
    }

    [Fact]
    public async Task Sends_no_code_to_another_platform_and_needs_a_good_one()
    {
        using var line = new CommandLine();
        var (app, setup) = await IssuanceAlone.BuildAsync(line.File("issuance-data"));
        await using var running = app;
        await app.StartAsync(TestContext.Current.CancellationToken);
        var code = line.Write("code", "a-code-that-nobody-made\n");
        Task<Ran> JoinAsync(string url, string root) => line.RunAsync("gateway", "join", "--name", "gateway", "--issuance", url, "--root", root, "--code-file", code, "--data", line.File("gw"));

        var wrong = await JoinAsync(app.Urls.First(), setup.RootThumbprint);
        Assert.Equal(ExitCode.Failed, wrong.Exit);
        Assert.Contains("join code", wrong.Error, StringComparison.Ordinal);
        Assert.False(File.Exists(line.File("gw/gateway/trust.json")));

        var elsewhere = await JoinAsync(app.Urls.First(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
        Assert.Contains("the code was not sent", elsewhere.Error, StringComparison.Ordinal);
        Assert.Equal(ExitCode.Usage, (await JoinAsync("http://issuance.example:9210", setup.RootThumbprint)).Exit);
        Assert.Equal(ExitCode.Usage, (await JoinAsync(app.Urls.First(), "short")).Exit);
        Assert.Equal(ExitCode.Failed, (await JoinAsync("http://127.0.0.1:1", setup.RootThumbprint)).Exit);
        await app.StopAsync(TestContext.Current.CancellationToken);
    }

    [Fact]
    public async Task Of_a_service_takes_the_code_from_a_pipe_and_nothing_but_our_services()
    {
        using var line = new CommandLine();
        await using var gateway = await StandInGateway.StartAsync(Said.Json("""{"code":"the-code","kind":"service","name":"ledger","expires_at":"2026-03-01T13:00:00+00:00","root_thumbprint":"t"}""", 201));
        var code = await line.RunAsync(gateway, "part", "code", "ledger");
        Assert.Equal("the-code\n", code.Output);
        line.Input = code.Output;
        var root = new string('A', 43);
        Assert.Contains("does not answer", (await line.RunAsync("part", "join", "ledger", "--issuance", "http://127.0.0.1:1", "--root", root, "--code-file", "-", "--data", line.File("l"))).Error, StringComparison.Ordinal);
        Assert.Equal(ExitCode.Usage, (await line.RunAsync("part", "join", "gateway", "--issuance", "http://127.0.0.1:1", "--root", root, "--code-file", "-")).Exit);
    }
}
