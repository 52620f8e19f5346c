using System.Runtime.InteropServices;
using System.Security.Cryptography;
using Foundry.Fleet;
using Foundry.Gateway;
using Foundry.Issuance;
using Foundry.Ledger;
using Foundry.ServiceDefaults;
using Foundry.Tokens;
using Microsoft.AspNetCore.Builder;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace Foundry.Standalone;

/// <summary>
/// Everything in one process: issuance, ledger, fleet, an embedded Redis-compatible server and the gateway, each as it is when it
/// runs alone. They speak HTTP to each other, join with a code that lives only in this process's memory, and keep their state side
/// by side in <c>$FOUNDRY_DATA</c>.
/// </summary>
internal sealed class Standalone : IAsyncDisposable
{
    private readonly StateFolder _folder;
    private readonly IDisposable _lock;
    private readonly List<WebApplication> _running = [];
    private EmbeddedRedis? _redis;

    private Standalone(StateFolder folder) => (_folder, _lock) = (folder, folder.Lock());

    /// <summary>Runs until SIGTERM or Ctrl-C.</summary>
    public static async Task RunAsync()
    {
        var stop = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        void Stop(PosixSignalContext signal)
        {
            signal.Cancel = true;
            stop.TrySetResult();
        }
        using var terminate = PosixSignalRegistration.Create(PosixSignal.SIGTERM, Stop);
        using var interrupt = PosixSignalRegistration.Create(PosixSignal.SIGINT, Stop);

        var data = Environment.GetEnvironmentVariable("FOUNDRY_DATA") is { Length: > 0 } configured ? configured : "data";
        await using var standalone = new Standalone(StateFolder.Open(data));
        await standalone.StartAsync(stop);
        await stop.Task;
    }

    /// <summary>Stops the parts, the door first.</summary>
    public async ValueTask DisposeAsync()
    {
        foreach (var part in Enumerable.Reverse(_running))
        {
            await part.StopAsync();
            await part.DisposeAsync();
        }
        _redis?.Dispose();
        _lock.Dispose();
    }

    private async Task StartAsync(TaskCompletionSource stop)
    {
        var configured = ServiceHost.CreateBuilder("standalone").Configuration;
        string Url(string part, int port) => configured[$"{part}:Listen"] ?? $"http://127.0.0.1:{port}";
        var settings = new Dictionary<string, string?>
        {
            ["DATA"] = _folder.Path,
            ["Trust:JoinCode"] = Base64UrlText.Encode(RandomNumberGenerator.GetBytes(32)),
            ["Issuance:AdminFolder"] = _folder.Path,
            ["Issuance:Url"] = Url("Issuance", 9210),
            ["Ledger:Url"] = Url("Ledger", 9100),
            ["Fleet:Url"] = Url("Fleet", 9203),
        };

        // First every part opens its state, so that what cannot be read stops the start before anything runs.
        var issuanceBuilder = Builder("issuance", settings);
        var issuance = await issuanceBuilder.AddIssuanceAsync();
        settings["Trust:RootThumbprint"] = issuance.RootThumbprint; // which all others pin
        var issuanceApp = issuanceBuilder.Build();
        issuanceApp.MapIssuance();

        var ledgerBuilder = Builder("ledger", settings);
        var ledger = ledgerBuilder.AddLedger();
        var ledgerApp = ledgerBuilder.Build();
        ledgerApp.MapLedger();

        var fleetBuilder = Builder("fleet", settings);
        var fleet = await fleetBuilder.AddFleetAsync();
        var fleetApp = fleetBuilder.Build();
        fleetApp.MapFleet();

        // What the server itself has to say on a good day is of no use to anyone; that files were set aside is.
        var redisLogs = ServiceHost.CreateBuilder("redis", [new("Log:Level", "Error")]).Services.BuildServiceProvider();
        _redis = EmbeddedRedis.Start(_folder.Folder("redis"), redisLogs.GetRequiredService<ILoggerFactory>(), issuanceApp.Services.GetRequiredService<ILoggerFactory>().CreateLogger<EmbeddedRedis>());
        settings["Gateway:Redis"] = _redis.ConnectionString;

        var gatewayBuilder = Builder("gateway", settings);
        var gateway = await gatewayBuilder.AddGatewayAsync();
        var gatewayApp = gatewayBuilder.Build();
        await gatewayApp.MapGatewayAsync();

        // Then they run, the door last.
        await StartAsync(issuanceApp, issuance.Listens, stop);
        await StartAsync(ledgerApp, ledger, stop);
        await StartAsync(fleetApp, fleet, stop);
        await StartAsync(gatewayApp, gateway, stop);

        await Console.Out.WriteLineAsync($"""
            Foundry Gateway is at {UrlOf(gateway[0])}; health, metrics and config status at {UrlOf(gateway[1])}.
            Behind it: issuance {UrlOf(issuance.Listens[0])}, ledger {UrlOf(ledger[0])}, fleet {UrlOf(fleet[0])}, and an embedded Redis.
            State is in {_folder.Path}; routes in {Path.Combine(ServiceHost.ConfigFolder(), "routes")} are live as you edit them.
            The platform administrator's token is in {issuance.AdminTokenFile}.
            Next: export PLATFORM_TOKEN=$(cat {issuance.AdminTokenFile}), then: curl {UrlOf(gateway[0])}/v1/status -H "Authorization: Bearer $PLATFORM_TOKEN"
            """);
    }

    private static WebApplicationBuilder Builder(string part, Dictionary<string, string?> settings)
    {
        var builder = ServiceHost.CreateBuilder(part, settings);
        // Signals are this program's, so that the parts stop in order.
        builder.Services.AddSingleton<IHostLifetime, PartLifetime>();
        return builder;
    }

    private async Task StartAsync(WebApplication app, IReadOnlyList<ListenAddress> listens, TaskCompletionSource stop)
    {
        try
        {
            await app.StartAsync(listens);
        }
        catch
        {
            await app.DisposeAsync();
            throw;
        }
        _running.Add(app);
        // A part that has to stop by itself, such as a ledger that finds its files changed, takes the others with it.
        app.Lifetime.ApplicationStopping.Register(() =>
        {
            if (stop.TrySetResult())
                Environment.ExitCode = 1;
        });
    }

    private static string UrlOf(ListenAddress listen) => $"http://{listen.EndPoint}";

    private sealed class PartLifetime : IHostLifetime
    {
        public Task WaitForStartAsync(CancellationToken cancellationToken) => Task.CompletedTask;
        public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;
    }
}
