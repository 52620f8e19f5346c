using Microsoft.AspNetCore.Builder;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace Foundry.ServiceDefaults;

/// <summary>
/// Encrypts key files that are still in the clear, where a passphrase is configured. It does so when the part starts to run, because
/// by then every key has been opened: a wrong passphrase stops the start before anything is encrypted with it.
/// </summary>
internal sealed class KeySealer(StateFolder folder, string[] except, ILogger<KeySealer> log) : IHostedService
{
    /// <inheritdoc/>
    public Task StartAsync(CancellationToken cancellationToken)
    {
        foreach (var file in folder.EncryptKeys(except))
            log.LogInformation("The key in {File} was in the clear and is encrypted now", file);
        return Task.CompletedTask;
    }

    /// <inheritdoc/>
    public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;
}

/// <summary>Registers <see cref="KeySealer"/>.</summary>
public static class KeySealing
{
    /// <summary>Has a folder's keys encrypted once the part runs.</summary>
    /// <param name="builder">The part.</param>
    /// <param name="folder">The folder.</param>
    /// <param name="except">Keys in it that stay as they are.</param>
    public static void AddKeySealing(this WebApplicationBuilder builder, StateFolder folder, params string[] except)
    {
        ArgumentNullException.ThrowIfNull(builder);
        // Not AddHostedService, which takes a second registration of one type for the first.
        builder.Services.AddSingleton<IHostedService>(services => new KeySealer(folder, except, services.GetRequiredService<ILogger<KeySealer>>()));
    }
}
