using Foundry.Tokens;
using Microsoft.AspNetCore.Builder;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;

namespace Foundry.ServiceDefaults.Trust;

/// <summary>Registers how a part is known and whom it believes.</summary>
public static class TrustRegistration
{
    /// <summary>Looks, without writing anything, whether a part's settings and stored trust set can be used.</summary>
    /// <param name="builder">The part.</param>
    /// <param name="folder">Its folder.</param>
    /// <exception cref="StartupException">No root is pinned, or what is stored is not signed by it.</exception>
    public static TrustOptions CheckTrust(this WebApplicationBuilder builder, StateFolder folder)
    {
        ArgumentNullException.ThrowIfNull(builder);
        ArgumentNullException.ThrowIfNull(folder);
        var options = new TrustOptions();
        builder.Configuration.GetSection("Trust").Bind(options);
        if (options.RootThumbprint.Length != 43)
            throw new StartupException("Trust:RootThumbprint is not set: take it from issuance, which prints it at its start (environment: FOUNDRY_Trust__RootThumbprint).");
        TrustFollower.ReadStored(folder, options);
        return options;
    }

    /// <summary>
    /// For every part but issuance: its <see cref="ServiceIdentity"/> from its folder and a <see cref="TrustFollower"/> of
    /// issuance, found by <c>Issuance:Url</c>, with <c>Trust:RootThumbprint</c> pinned.
    /// </summary>
    /// <param name="builder">The part.</param>
    /// <param name="kind">See <see cref="TrustedKey"/>.</param>
    /// <param name="name">Its name and cluster ID.</param>
    /// <param name="folder">Its folder.</param>
    /// <param name="nameIsDefault">Whether a name that its key has joined by goes before <paramref name="name"/>.</param>
    /// <exception cref="StartupException">No root is pinned, or the key has joined by another name.</exception>
    public static ServiceIdentity AddTrust(this WebApplicationBuilder builder, string kind, string name, StateFolder folder, bool nameIsDefault = false)
    {
        ArgumentNullException.ThrowIfNull(builder);
        ArgumentNullException.ThrowIfNull(folder);
        var options = builder.CheckTrust(folder);
        var key = folder.SigningKey(ServiceIdentity.KeyFile);
        // A key belongs to one name: by another, nobody would believe what it signs.
        if (TrustFollower.ReadStored(folder, options)?.Keys.FirstOrDefault(known => known.Kid == key.Kid && known.Kind == kind && known.Name != name) is { } joined)
            name = nameIsDefault ? joined.Name : throw new StartupException($"The key in {folder.File(ServiceIdentity.KeyFile)} has joined as '{joined.Name}', and the settings call this part '{name}'. Use that name, or move {ServiceIdentity.KeyFile} and {TrustFollower.FileName} away to join anew.");
        var identity = new ServiceIdentity(kind, name, key);
        builder.AddKeySealing(folder);
        var issuance = builder.PartUrl("Issuance", 9210);
        builder.Services.AddSingleton(identity);
        builder.Services.AddSingleton<Readiness>();
        builder.Services.AddHttpClient(nameof(TrustFollower), client =>
        {
            client.BaseAddress = issuance;
            client.Timeout = TimeSpan.FromSeconds(30); // Issuance lets the question for something newer wait, at most 20 s.
        });
        builder.Services.AddSingleton(services => new TrustFollower(identity, options, folder,
            services.GetRequiredService<IHttpClientFactory>().CreateClient(nameof(TrustFollower)),
            services.GetRequiredService<TimeProvider>(), services.GetRequiredService<Readiness>(), services.GetRequiredService<ILogger<TrustFollower>>()));
        builder.Services.AddSingleton<ITrustSource>(services => services.GetRequiredService<TrustFollower>());
        builder.Services.AddHostedService(services => services.GetRequiredService<TrustFollower>());
        return identity;
    }

    /// <summary>A client that speaks to another part as this one; get it from <see cref="IHttpClientFactory"/> by the part's name.</summary>
    /// <param name="builder">This part.</param>
    /// <param name="audience">The other part's name and cluster ID.</param>
    /// <param name="section">Its section in the settings.</param>
    /// <param name="port">Its default port.</param>
    /// <returns>The client's registration, to be configured further.</returns>
    public static IHttpClientBuilder AddPartClient(this WebApplicationBuilder builder, string audience, string section, int port)
    {
        ArgumentNullException.ThrowIfNull(builder);
        var url = builder.PartUrl(section, port);
        return builder.Services.AddHttpClient(audience, client =>
            {
                client.BaseAddress = url;
                client.Timeout = TimeSpan.FromSeconds(10);
            })
            .AddHttpMessageHandler(services => new AssertionSender(services.GetRequiredService<ServiceIdentity>(), audience, services.GetRequiredService<TimeProvider>()));
    }

    /// <summary>Where another part is: <c>&lt;Section&gt;:Url</c>, else loopback on its default port.</summary>
    /// <param name="builder">This part.</param>
    /// <param name="section">The other part's section in the settings.</param>
    /// <param name="port">Its default port.</param>
    /// <exception cref="StartupException">The setting is no URL.</exception>
    public static Uri PartUrl(this WebApplicationBuilder builder, string section, int port)
    {
        ArgumentNullException.ThrowIfNull(builder);
        var text = builder.Configuration[$"{section}:Url"] ?? $"http://127.0.0.1:{port}";
        return Uri.TryCreate(text, UriKind.Absolute, out var url) && url.Scheme is "http" or "https"
            ? url
            : throw new StartupException($"{section}:Url is '{text}', but should be a URL such as http://127.0.0.1:{port}.");
    }
}
