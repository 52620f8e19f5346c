using System.Net.Sockets;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Hosting;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Serilog;
using Serilog.Events;
using Serilog.Formatting.Compact;

namespace Foundry.ServiceDefaults;

/// <summary>What every program of ours has in common: where its settings come from, how it logs, how it starts and ends.</summary>
public static class ServiceHost
{
    private const int LinesBufferedMax = 10_000;

    /// <summary>
    /// A builder for one part. Settings come from <c>$FOUNDRY_CONFIG/gateway.json</c>, then from the environment
    /// (<c>FOUNDRY_Gateway__Listen</c> is <c>Gateway:Listen</c>), then from <paramref name="overrides"/>.
    /// </summary>
    /// <param name="part">The part's name, in every log line.</param>
    /// <param name="overrides">Settings that win over all others, from the program itself.</param>
    public static WebApplicationBuilder CreateBuilder(string part, IEnumerable<KeyValuePair<string, string?>>? overrides = null)
    {
        var builder = WebApplication.CreateEmptyBuilder(new WebApplicationOptions { ApplicationName = part });
        builder.WebHost.UseKestrelCore();
        builder.Services.AddRoutingCore();
        builder.Services.AddSingleton(TimeProvider.System);
        builder.Services.Configure<HostOptions>(host => host.ShutdownTimeout = TimeSpan.FromSeconds(10));

        builder.Services.AddPartMetrics(part);
        AddSettings(builder.Configuration, overrides);

        builder.Logging.ClearProviders();
        builder.Services.AddSerilog(new LoggerConfiguration()
            .MinimumLevel.Is(Enum.TryParse<LogEventLevel>(builder.Configuration["Log:Level"], ignoreCase: true, out var level) ? level : LogEventLevel.Information)
            .MinimumLevel.Override("Microsoft", LogEventLevel.Warning)
            .MinimumLevel.Override("System.Net.Http", LogEventLevel.Warning)
            .MinimumLevel.Override("Yarp", LogEventLevel.Warning)
            .Enrich.WithProperty("part", part)
            // Off the request's path: a line handed over costs a third of one that is written there. A terminal that hangs holds nobody
            // up; lines beyond the buffer are dropped.
            .WriteTo.Async(async => async.Console(new CompactJsonFormatter(), standardErrorFromLevel: LogEventLevel.Verbose), bufferSize: LinesBufferedMax, blockWhenFull: false)
            .CreateLogger(), dispose: true);
        return builder;
    }

    /// <summary>Where settings come from, in the order of <see cref="CreateBuilder"/>; for what reads settings and is no part.</summary>
    /// <param name="configuration">Where they go.</param>
    /// <param name="overrides">Settings that win over all others.</param>
    /// <exception cref="StartupException">The file is not JSON.</exception>
    public static void AddSettings(IConfigurationBuilder configuration, IEnumerable<KeyValuePair<string, string?>>? overrides = null)
    {
        ArgumentNullException.ThrowIfNull(configuration);
        var file = Path.Combine(ConfigFolder(), "gateway.json");
        try
        {
            configuration.AddJsonFile(file, optional: true, reloadOnChange: false);
        }
        catch (InvalidDataException fault)
        {
            throw new StartupException($"{file} is not valid JSON: {fault.InnerException?.Message ?? fault.Message}", fault);
        }
        configuration.AddEnvironmentVariables("FOUNDRY_");
        configuration.AddInMemoryCollection(overrides ?? []);
    }

    /// <summary>The folder with <c>gateway.json</c> and <c>routes/</c>: <c>FOUNDRY_CONFIG</c>, else the one shipped with the program.</summary>
    public static string ConfigFolder() =>
        Environment.GetEnvironmentVariable("FOUNDRY_CONFIG") is { Length: > 0 } configured ? Path.GetFullPath(configured) : Path.Combine(AppContext.BaseDirectory, "config");

    /// <summary>The state folder of one part: <c>&lt;Part&gt;:Data</c>, else its own below <c>FOUNDRY_DATA</c> (default <c>./data</c>).</summary>
    /// <param name="configuration">The settings.</param>
    /// <param name="part">The part's section.</param>
    /// <exception cref="StartupException">It cannot be made, or its keys' passphrase (<see cref="KeyPassphrase.Setting"/>) cannot be read.</exception>
    public static StateFolder DataFolder(IConfiguration configuration, string part)
    {
        ArgumentNullException.ThrowIfNull(configuration);
        ArgumentNullException.ThrowIfNull(part);
        return StateFolder.Open(configuration[$"{part}:Data"] ?? Path.Combine(configuration["DATA"] is { Length: > 0 } data ? data : "data", part.ToLowerInvariant()), KeyPassphrase.Read(configuration));
    }

    /// <summary>Starts applications in order; on a failure stops those that run.</summary>
    /// <param name="app">The application.</param>
    /// <param name="listens">Where it listens, for the message when a port is taken.</param>
    /// <param name="cancellationToken">Ends the attempt.</param>
    /// <exception cref="StartupException">A port is in use or not allowed.</exception>
    public static async Task StartAsync(this WebApplication app, IReadOnlyList<ListenAddress> listens, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(app);
        ArgumentNullException.ThrowIfNull(listens);
        try
        {
            await app.StartAsync(cancellationToken);
        }
        catch (IOException fault) when (fault.InnerException is AddressInUseException)
        {
            var taken = listens.FirstOrDefault(listen => fault.Message.Contains($":{listen.EndPoint.Port}", StringComparison.Ordinal)) ?? listens[0];
            throw new StartupException($"Port {taken.EndPoint.Port} on {taken.EndPoint.Address} is in use. Stop what uses it, or set {taken.Setting} (environment: {ListenAddress.EnvironmentName(taken.Setting)}) to another address.", fault);
        }
        catch (SocketException fault)
        {
            throw new StartupException($"Cannot listen on {string.Join(", ", listens.Select(listen => $"{listen.EndPoint} ({listen.Setting})"))}: {fault.Message}", fault);
        }
    }

    /// <summary>Runs a program: its exit code is 0, what it set itself, or 1 with the reason on standard error.</summary>
    /// <param name="program">The program.</param>
    public static async Task<int> RunAsync(Func<Task> program)
    {
        ArgumentNullException.ThrowIfNull(program);
        try
        {
            await program();
            return Environment.ExitCode;
        }
        catch (Exception failure) when (failure is StartupException or StateUnwritableException)
        {
            await Console.Error.WriteLineAsync($"foundry: {failure.Message}");
            return 1;
        }
    }
}
