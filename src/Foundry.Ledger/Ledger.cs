using Foundry.Ledger.Append;
using Foundry.Ledger.Read;
using Foundry.Ledger.Recovery;
using Foundry.Ledger.Storage;
using Foundry.ServiceDefaults;
using Foundry.ServiceDefaults.Trust;
using Foundry.Tokens;

namespace Foundry.Ledger;

/// <summary>The ledger: one Merkle log per tenant, append-only, in tiles that anyone's tlog client verifies (CONTRACT section 7).</summary>
public static class Ledger
{
    /// <summary>The part's name and cluster ID.</summary>
    public const string Part = "ledger";

    private const string Section = "Ledger";

    /// <summary>Registers the ledger.</summary>
    /// <param name="builder">The application.</param>
    /// <returns>Where it listens.</returns>
    /// <exception cref="StartupException">A setting is wrong.</exception>
    public static IReadOnlyList<ListenAddress> AddLedger(this WebApplicationBuilder builder)
    {
        ArgumentNullException.ThrowIfNull(builder);
        var options = LedgerOptions.From(builder.Configuration.GetSection(Section));
        var listen = ListenAddress.Parse(options.Listen, $"{Section}:{nameof(LedgerOptions.Listen)}", options.AllowPublicListen, $"{Section}:{nameof(LedgerOptions.AllowPublicListen)}");
        builder.WebHost.ConfigureKestrel(kestrel => listen.Apply(kestrel));

        var folder = ServiceHost.DataFolder(builder.Configuration, Section);
        builder.AddTrust(TrustedKey.Service, Part, folder);
        builder.Services.AddSingleton(options);
        builder.Services.AddSingleton<Disk>();
        builder.Services.AddSingleton(services => LedgerState.Open(options, folder, services.GetRequiredService<TimeProvider>(),
            services.GetRequiredService<ILoggerFactory>(), services.GetRequiredService<Disk>()));
        builder.Services.AddSingleton(services => services.GetRequiredService<LedgerState>().Shelf);
        builder.Services.AddSingleton(services => services.GetRequiredService<LedgerState>().Store);
        builder.Services.AddSingleton<LedgerMetrics>();
        builder.Services.AddSingleton<ReadRecorder>();
        builder.Services.AddSingleton<TailSeats>();
        builder.Services.AddSingleton<StartVerifier>();
        builder.Services.AddHostedService(services => services.GetRequiredService<StartVerifier>());
        builder.Services.AddSingleton<LogWatch>();
        builder.Services.AddHostedService(services => services.GetRequiredService<LogWatch>());
        return [listen];
    }

    /// <summary>Maps the ledger's endpoints, behind the gate that lets in only what a gateway or another part sends.</summary>
    /// <param name="app">The application.</param>
    public static void MapLedger(this WebApplication app)
    {
        ArgumentNullException.ThrowIfNull(app);
        app.UseProblems();
        app.UseRouting();
        app.UseAssertionGate(Part);
        app.UseLogFailures();
        app.Services.GetRequiredService<LedgerMetrics>();
        app.MapHealth();
        app.MapAppend();
        app.MapEntries();
        app.MapTail();
        app.MapCheckpoint();
        app.MapContract();
        app.MapTiles();
    }
}
