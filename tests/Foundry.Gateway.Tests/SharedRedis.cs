using Foundry.Gateway.Tests;
using Foundry.ServiceDefaults;
using Foundry.Standalone;
using Foundry.Testing;
using Microsoft.Extensions.Logging.Abstractions;

[assembly: AssemblyFixture(typeof(SharedRedis))]

namespace Foundry.Gateway.Tests;

/// <summary>The embedded server, one for all tests: each has tenants of its own.</summary>
public sealed class SharedRedis : IDisposable
{
    private static readonly Lazy<(TempFolder Folder, EmbeddedRedis Server)> _started = new(() =>
    {
        var folder = new TempFolder();
        return (folder, EmbeddedRedis.Start(StateFolder.Open(folder.File("redis")), NullLoggerFactory.Instance, NullLogger.Instance));
    });

    public static string ConnectionString => _started.Value.Server.ConnectionString;

    public void Dispose()
    {
        if (!_started.IsValueCreated)
            return;
        _started.Value.Server.Dispose();
        _started.Value.Folder.Dispose();
    }
}
