using Foundry.Fleet.Nodes;
using Foundry.Fleet.Placement;
using Foundry.Fleet.Vms;
using Foundry.ServiceDefaults;
using Foundry.ServiceDefaults.Trust;
using Foundry.Storage;
using Foundry.Tokens;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.Extensions.DependencyInjection;

namespace Foundry.Fleet;

/// <summary>The fleet registry: nodes, VMs and where VMs go (CONTRACT section 6). What is registered, and what is mapped.</summary>
public static class Fleet
{
    /// <summary>Its name, and the cluster ID that assertions for it are made out to.</summary>
    public const string Name = "fleet";

    /// <summary>Registers the fleet; its registry is read, complete, before this ends.</summary>
    /// <param name="builder">From <see cref="ServiceHost.CreateBuilder"/>.</param>
    /// <returns>Where it listens.</returns>
    /// <exception cref="StartupException">A setting is wrong, or the registry cannot be read.</exception>
    public static async Task<IReadOnlyList<ListenAddress>> AddFleetAsync(this WebApplicationBuilder builder)
    {
        ArgumentNullException.ThrowIfNull(builder);
        var options = FleetOptions.Read(builder.Configuration);
        var listen = ListenAddress.Parse(options.Listen, "Fleet:Listen", options.AllowPublicListen, "Fleet:AllowPublicListen");
        builder.WebHost.ConfigureKestrel(kestrel => listen.Apply(kestrel));
        var folder = ServiceHost.DataFolder(builder.Configuration, FleetOptions.Section);
        // Before the host has a provider to ask: the clock is registered as an instance, here as in tests.
        var time = builder.Services.LastOrDefault(service => service.ServiceType == typeof(TimeProvider))?.ImplementationInstance as TimeProvider ?? TimeProvider.System;
        // Whatever cannot be read leaves the folder as it is: opening the registry counts this start in it, and a first start makes a key.
        builder.CheckTrust(folder);
        var registry = await LoadedRegistry.OpenAsync(options.Database, folder, time);
        builder.AddTrust(TrustedKey.Service, Name, folder);
        builder.AddPartClient(OutboxSender.LedgerClient, "Ledger", 9100);

        builder.Services.AddSingleton(options);
        builder.Services.AddSingleton(registry);
        builder.Services.AddSingleton(_ => registry.Database);
        builder.Services.AddSingleton<Outbox>();
        builder.Services.AddSingleton<FleetMetrics>();
        builder.Services.AddSingleton<Silence>();
        builder.Services.AddSingleton<Registry>();
        builder.Services.AddSingleton<Caretaker>();
        // Stopped in reverse: the caretaker writes what is left, then the registry ends, then nothing more is sent.
        builder.Services.AddHostedService<OutboxSender>();
        builder.Services.AddHostedService(services => services.GetRequiredService<Registry>());
        builder.Services.AddHostedService(services => services.GetRequiredService<Caretaker>());
        return [listen];
    }

    /// <summary>Maps the fleet's endpoints, all but health behind the gate.</summary>
    /// <param name="app">Built from what <see cref="AddFleetAsync"/> registered.</param>
    public static void MapFleet(this WebApplication app)
    {
        ArgumentNullException.ThrowIfNull(app);
        app.UseProblems();
        app.UseRouting();
        app.UseAssertionGate(Name);
        app.MapHealth();
        var callers = app.MapForCallers();
        callers.MapNodes();
        callers.MapVms();
        callers.MapPlacement();
        callers.MapHeld();
    }
}
