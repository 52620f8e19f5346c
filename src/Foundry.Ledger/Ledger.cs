using Foundry.Ledger.Append;
using Foundry.Ledger.Keys;
using Foundry.Ledger.Read;
using Foundry.Ledger.Recovery;
using Foundry.Ledger.Storage;
using Foundry.Ledger.Witness;
using Foundry.Proofs;
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
        builder.AddWitnesses(folder);
        builder.Services.AddSingleton<TailSeats>();
        builder.Services.AddSingleton<StartVerifier>();
        builder.Services.AddHostedService(services => services.GetRequiredService<StartVerifier>());
        builder.Services.AddSingleton<LogWatch>();
        builder.Services.AddHostedService(services => services.GetRequiredService<LogWatch>());
        builder.Services.AddHostedService(services => ActivatorUtilities.CreateInstance<KeyAnnouncer>(services, folder));
        // Behind those who may refuse the start.
        builder.Services.AddHostedService<WitnessRounds>();
        return [listen];
    }

    private static void AddWitnesses(this WebApplicationBuilder builder, StateFolder folder)
    {
        builder.Services.AddHttpClient(WitnessRounds.Client, client =>
        {
            client.Timeout = WitnessRounds.AnswerTimeout;
            client.MaxResponseContentBufferSize = SignedNote.BytesMax;
        }).ConfigurePrimaryHttpMessageHandler(() => new SocketsHttpHandler { AllowAutoRedirect = false, UseCookies = false, PooledConnectionLifetime = TimeSpan.FromMinutes(5) });
        builder.Services.AddSingleton<WitnessMetrics>();
        builder.Services.AddSingleton(services => ActivatorUtilities.CreateInstance<CosignedNotes>(services, folder));
    }

    /// <summary>Decides, on the folder of a stopped ledger, that a new key takes the old one's place (docs/decisions/0014).</summary>
    /// <param name="configuration">The settings.</param>
    /// <param name="time">The clock.</param>
    /// <returns>What to tell the operator.</returns>
    /// <exception cref="StartupException">A setting is wrong, the ledger runs, a rotation is going on, or there is no key.</exception>
    public static string RotateKey(IConfiguration configuration, TimeProvider time)
    {
        ArgumentNullException.ThrowIfNull(configuration);
        ArgumentNullException.ThrowIfNull(time);
        var options = LedgerOptions.From(configuration.GetSection(Section));
        var folder = ServiceHost.DataFolder(configuration, Section);
        using var held = folder.Lock(LedgerState.LockFile);
        var rotation = KeyRotation.Decide(folder, time.GetUtcNow(), options.KeyOverlap);
        return $"A new key lies in {folder.File(KeyRotation.NextFile)}; back it up. The next start announces it in every log. The old key signs beside it until {rotation.Until:O}.";
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
