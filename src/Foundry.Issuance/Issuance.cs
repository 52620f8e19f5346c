using Foundry.Issuance.Admin;
using Foundry.Issuance.Changes;
using Foundry.Issuance.Keys;
using Foundry.Issuance.Tenants;
using Foundry.Issuance.Tokens;
using Foundry.Issuance.Trust;
using Foundry.ServiceDefaults;
using Foundry.ServiceDefaults.Trust;
using Foundry.Storage;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;

namespace Foundry.Issuance;

/// <summary>What whoever starts issuance needs to know of it.</summary>
/// <param name="Listens">Where it listens.</param>
/// <param name="RootThumbprint">The root's thumbprint, which every other part pins (<c>Trust:RootThumbprint</c>).</param>
/// <param name="AdminTokenFile">Where the platform administrator's token is.</param>
/// <param name="GatewayCodeFile">Where the first gateway's join code is; null where there is a gateway, or the deployment has a code.</param>
public sealed record IssuanceSetup(IReadOnlyList<ListenAddress> Listens, string RootThumbprint, string AdminTokenFile, string? GatewayCodeFile = null);

/// <summary>
/// Issuance: tenants, capability tokens and the keys that sign them; the source of truth of who may do what (CONTRACT
/// sections 2 and 3), the root of trust between parts, and the feed that gateways follow (docs/architecture.md).
/// </summary>
public static class Issuance
{
    /// <summary>Its name, and the audience of assertions for it.</summary>
    public const string Name = PlatformTrust.PartName;
    /// <summary>Its default port.</summary>
    public const int Port = 9210;

    /// <summary>
    /// Opens the stored state, or founds a platform where there is none, and registers what issuance is made of. The caller
    /// has locked the state folder.
    /// </summary>
    /// <param name="builder">The application; a <see cref="TimeProvider"/> is registered.</param>
    /// <exception cref="StartupException">The settings or the stored state will not do.</exception>
    public static async Task<IssuanceSetup> AddIssuanceAsync(this WebApplicationBuilder builder)
    {
        ArgumentNullException.ThrowIfNull(builder);
        var options = IssuanceOptions.Read(builder.Configuration);
        var trust = new TrustOptions();
        builder.Configuration.GetSection("Trust").Bind(trust);
        if (trust.JoinCode is { Length: > 0 and < JoinDesk.CodeCharsMin })
            throw new StartupException($"Trust:JoinCode ({ListenAddress.EnvironmentName("Trust:JoinCode")}) has fewer than {JoinDesk.CodeCharsMin} characters: choose a longer one for all parts, or leave it out and make a code for each ('foundry part code').");
        var listen = ListenAddress.Parse(options.Listen, "Issuance:Listen", options.AllowPublicListen, "Issuance:AllowPublicListen");
        var time = builder.Services.Last(service => service.ServiceType == typeof(TimeProvider)).ImplementationInstance as TimeProvider ?? TimeProvider.System;
        var folder = ServiceHost.DataFolder(builder.Configuration, "Issuance");
        var platform = await Platform.OpenAsync(options, folder, KeyPassphrase.Read(builder.Configuration), time);
        var parts = new PartBook(platform.Journal, platform.Trust, platform.Identity);
        var gatewayCode = await parts.KeepFirstCodeAsync(StateFolder.Open(options.AdminFolder ?? folder.Path), hasDeploymentCode: trust.JoinCode is { Length: > 0 });
        builder.AddKeySealing(folder, AdminToken.KeyFile);
        if (!platform.Database.IsPostgres)
            builder.AddKeySealing(folder.Folder(SigningKeys.FolderName));

        builder.WebHost.ConfigureKestrel(kestrel =>
        {
            listen.Apply(kestrel);
            kestrel.Limits.MaxRequestBodySize = AssertionGate.BodyBytesMax;
        });
        var services = builder.Services;
        // By a factory, so that the container closes the store at the end.
        services.AddSingleton(_ => platform);
        services.AddSingleton(options);
        services.AddSingleton(trust);
        services.AddSingleton(platform.Identity);
        services.AddSingleton(platform.Trust);
        services.AddSingleton<ITrustSource>(platform.Trust);
        services.AddSingleton(platform.Outbox);
        services.AddSingleton(platform.Journal);
        services.AddSingleton(platform.Keys);
        services.AddSingleton(platform.Mint);
        services.AddSingleton(platform.Admin);
        services.AddSingleton<Readiness>();
        services.AddSingleton<Feed>();
        services.AddSingleton<TokenBook>();
        services.AddSingleton<Renewal>();
        services.AddSingleton<TenantVms>();
        services.AddSingleton<TenantBook>();
        services.AddSingleton(parts);
        services.AddSingleton(provider => ActivatorUtilities.CreateInstance<JoinDesk>(provider, trust.JoinCode ?? ""));
        services.AddSingleton<AdminRenewal>();
        services.AddHostedService(provider => provider.GetRequiredService<AdminRenewal>());
        services.AddHostedService<KeyTurner>();
        services.AddHostedService<DueRevocations>();
        services.AddHostedService<TenantRemoval>();
        services.AddHostedService<Pruning>();
        services.AddHostedService<FeedPoll>();
        services.AddHostedService<OutboxSender>();
        builder.AddPartClient(OutboxSender.LedgerClient, "Ledger", 9100);
        builder.AddPartClient(TenantVms.FleetClient, "Fleet", 9203);
        return new IssuanceSetup([listen], platform.Trust.RootThumbprint, platform.Admin.Path, gatewayCode);
    }

    /// <summary>Maps issuance's endpoints, behind the gate that lets in only what a gateway or another part sent.</summary>
    /// <param name="app">The application.</param>
    public static void MapIssuance(this WebApplication app)
    {
        ArgumentNullException.ThrowIfNull(app);
        // Made first, so closed last.
        app.Services.GetRequiredService<Platform>();
        app.UseProblems();
        app.UseRouting();
        app.UseAssertionGate(Name);
        app.MapHealth();
        app.MapTrust();
        app.MapChanges();
        app.MapTenants();
        app.MapTokens();
        app.MapRenewal();
        app.MapKeys();
        app.MapParts();
    }

    /// <summary>
    /// The administrator's way back (<c>foundry admin reset</c>), while this issuance does not run: every platform administrator's
    /// token is revoked, for the gateways and the ledger to hear of when it does, and a new one is in the file.
    /// </summary>
    /// <param name="configuration">The settings that this issuance runs with.</param>
    /// <param name="time">The clock.</param>
    /// <returns>Where the new token is.</returns>
    /// <exception cref="StartupException">It runs, there is no platform, or its state is not whole.</exception>
    public static async Task<string> ResetAdministratorAsync(IConfiguration configuration, TimeProvider time)
    {
        var folder = ServiceHost.DataFolder(configuration, "Issuance");
        using var held = folder.Lock();
        await using var platform = await Platform.OpenAsync(IssuanceOptions.Read(configuration), folder, KeyPassphrase.Read(configuration), time, resetsAdmin: true);
        return platform.Admin.Path;
    }

    /// <summary>The root's thumbprint, which every other part pins.</summary>
    /// <param name="app">The application.</param>
    public static string RootThumbprint(this WebApplication app)
    {
        ArgumentNullException.ThrowIfNull(app);
        return app.Services.GetRequiredService<PlatformTrust>().RootThumbprint;
    }
}
