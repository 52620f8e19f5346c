using System.Diagnostics;
using Foundry.Gateway.Admit;
using Foundry.Gateway.Authenticate;
using Foundry.Gateway.Authorize;
using Foundry.Gateway.Config;
using Foundry.Gateway.Filter;
using Foundry.Gateway.Forward;
using Foundry.Gateway.Record;
using Foundry.ServiceDefaults;
using Foundry.ServiceDefaults.Trust;
using Foundry.Storage;
using Foundry.Tokens;
using Microsoft.AspNetCore.DataProtection;
using Yarp.ReverseProxy.Configuration;
using Yarp.ReverseProxy.Transforms.Builder;

namespace Foundry.Gateway;

/// <summary>What the gateway is made of: what is registered, and what is mapped.</summary>
public static class Gateway
{
    /// <summary>Registers the gateway. Settings are read completely, and state is opened, before any port is.</summary>
    /// <param name="builder">The application.</param>
    /// <returns>Where it listens: the public and the operators' address.</returns>
    /// <exception cref="StartupException">Settings, route files or state on disk are not sound.</exception>
    public static async Task<IReadOnlyList<ListenAddress>> AddGatewayAsync(this WebApplicationBuilder builder)
    {
        ArgumentNullException.ThrowIfNull(builder);
        var options = ReadOptions(builder.Configuration);
        var folder = ServiceHost.DataFolder(builder.Configuration, "Gateway");
        var services = builder.Services;

        services.AddSingleton(options);
        services.AddSingleton(folder);
        builder.AddTrust(TrustedKey.Gateway, options.Name, folder, nameIsDefault: builder.Configuration["Gateway:Name"] is null);

        // Config: the route files, and the clusters of our own parts.
        var activity = TimeSpan.FromSeconds(100);
        var ownClusters = new[]
        {
            Clusters.Of(Clusters.Issuance, builder.PartUrl("Issuance", 9210), activity),
            Clusters.Of(Clusters.Ledger, builder.PartUrl("Ledger", 9100), activity),
            Clusters.Of(Clusters.Fleet, builder.PartUrl("Fleet", 9203), activity),
        };
        var routes = new RouteTable(new RouteFiles(options.Routes ?? Path.Combine(ServiceHost.ConfigFolder(), "routes"), ownClusters), TimeProvider.System);
        services.AddSingleton(routes);
        services.AddSingleton<IProxyConfigProvider>(routes.Provider);
        services.AddHostedService<RouteWatcher>();

        // Calls of the gateway's own: what it follows, whom it asks, where it records.
        builder.AddPartClient(Clusters.Issuance, "Issuance", 9210).ConfigureHttpClient(client => client.Timeout = Timeout.InfiniteTimeSpan);
        builder.AddPartClient(Clusters.Fleet, "Fleet", 9203);
        builder.AddPartClient(OutboxSender.LedgerClient, "Ledger", 9100);

        // Authenticate
        services.AddSingleton<Authenticate.TenantDirectory>();
        services.AddSingleton<VerdictCache>();
        services.AddSingleton<SeenProofs>();
        services.AddSingleton<ProofChecker>();
        services.AddSingleton<AddressLane>();
        services.AddSingleton<Authenticator>();
        services.AddSingleton<FeedFollower>();
        services.AddHostedService(provider => provider.GetRequiredService<FeedFollower>());

        // Admit
        services.AddSingleton<Store>();
        services.AddHostedService(provider => provider.GetRequiredService<Store>());
        services.AddSingleton<GatewaysSeen>();
        services.AddHostedService(provider => provider.GetRequiredService<GatewaysSeen>());
        services.AddSingleton<ISharedBuckets, SharedBuckets>();
        services.AddSingleton(provider => ActivatorUtilities.CreateInstance<RateLimiter>(provider, () => provider.GetRequiredService<GatewaysSeen>().Count));
        services.AddSingleton<HeartbeatLane>();
        services.AddSingleton<RateGate>();
        services.AddSingleton<Quotas>();
        services.AddSingleton<QuotaGate>();
        services.AddSingleton<Reconciler>();
        services.AddHostedService(provider => provider.GetRequiredService<Reconciler>());

        // Authorise
        services.AddSingleton<OwnerLookup>();
        services.AddSingleton<Authorizer>();

        // Record
        var database = await Database.OpenAsync(null, folder, "gateway.db", Recorder.Migrations);
        services.AddSingleton(_ => database); // By a factory, so that it is closed with the application.
        services.AddSingleton<Outbox>();
        services.AddSingleton<Recorder>();
        services.AddSingleton<Outcome>();
        services.AddSingleton<RefusalRecorder>();
        services.AddHostedService(provider => provider.GetRequiredService<RefusalRecorder>());
        services.AddHostedService<OutboxSender>();
        services.AddHostedService<IntentSettler>();

        // Forward and filter
        services.AddSingleton<CallerAssertions>();
        services.AddSingleton<ResponseFilter>();
        services.AddSingleton<ITransformProvider, BackendTransforms>();
        services.AddReverseProxy().ConfigureHttpClient((_, handler) => handler.ActivityHeadersPropagator = DistributedContextPropagator.CreateDefaultPropagator());

        // YARP's session affinity would otherwise leave keys in the home folder; nothing here outlives the process by them.
        services.AddDataProtection().UseEphemeralDataProtectionProvider();

        services.AddSingleton<LiveRequests>();
        services.AddHostedService(provider => provider.GetRequiredService<LiveRequests>());
        services.AddSingleton<Matcher>();
        services.AddSingleton<GatewayPipeline>();
        services.AddSingleton<GatewayMetrics>();

        var (listen, ops) = ListenAddresses(options);
        builder.WebHost.ConfigureKestrel(kestrel =>
        {
            // Bodies have their bound in RequestBounds, with an answer of ours; this one only stops what ignores that.
            kestrel.Limits.MaxRequestBodySize = 4L * Bound.RequestBounds.BodyBytesMax;
            kestrel.Limits.MaxConcurrentConnections = 20_000;
            kestrel.Limits.RequestHeadersTimeout = TimeSpan.FromSeconds(15);
            kestrel.Limits.KeepAliveTimeout = TimeSpan.FromSeconds(130);
            listen.Apply(kestrel);
            ops.Apply(kestrel, OpsApi.MarkAsOps);
        });
        return [listen, ops];
    }

    /// <summary>Maps the gateway: the operators' port, then the one pipeline for everything else.</summary>
    /// <param name="app">The application.</param>
    /// <exception cref="StartupException">YARP finds the routes unsound.</exception>
    public static async Task MapGatewayAsync(this WebApplication app)
    {
        ArgumentNullException.ThrowIfNull(app);
        // Reads what is on disk of issuance's feed: what cannot be read stops the start here.
        app.Services.GetRequiredService<FeedFollower>();
        var routes = app.Services.GetRequiredService<RouteTable>();
        var errors = await RouteTable.ValidateAsync(routes.Current, app.Services.GetRequiredService<IConfigValidator>());
        if (errors.Count > 0)
            throw new StartupException($"The route files have errors:\n  {string.Join("\n  ", errors)}");

        app.UseOps();
        app.UseProblems();
        app.UseRouting();
        var pipeline = app.Services.GetRequiredService<GatewayPipeline>();
        app.MapReverseProxy(proxy =>
        {
            proxy.Use((context, next) => pipeline.RunAsync(context, next));
            proxy.UseLoadBalancing();
            proxy.UsePassiveHealthChecks();
        });
        app.MapOwnAnswers(pipeline);
        // Whatever matches nothing takes the same steps: an unmatched path is a request too, and is bounded, counted and logged.
        app.MapFallback("{**path}", context => pipeline.RunAsync(context, null));
    }

    private static (ListenAddress Listen, ListenAddress Ops) ListenAddresses(GatewayOptions options) =>
        (ListenAddress.Parse(options.Listen, "Gateway:Listen", options.AllowPublicListen, "Gateway:AllowPublicListen"),
         ListenAddress.Parse(options.OpsListen, "Gateway:OpsListen", options.AllowPublicOpsListen, "Gateway:AllowPublicOpsListen"));

    private static GatewayOptions ReadOptions(IConfiguration configuration)
    {
        var options = new GatewayOptions();
        try
        {
            configuration.GetSection("Gateway").Bind(options, binder => binder.ErrorOnUnknownConfiguration = true);
        }
        catch (InvalidOperationException fault)
        {
            throw new StartupException($"The settings of the Gateway section are not sound: {fault.Message}", fault);
        }
        var problems = options.Problems().ToArray();
        return problems.Length == 0 ? options : throw new StartupException(string.Join("\n", problems));
    }
}
