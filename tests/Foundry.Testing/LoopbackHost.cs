using System.Collections.Concurrent;
using System.Net;
using System.Net.Sockets;
using System.Text;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;

namespace Foundry.Testing;

/// <summary>A real application on a real Kestrel, on a loopback port that the system chose.</summary>
public sealed class LoopbackHost : IAsyncDisposable
{
    private readonly ServiceProvider _clients;

    private LoopbackHost(WebApplication app, ConcurrentQueue<string> log)
    {
        App = app;
        Log = log;
        BaseAddress = new Uri(app.Services.GetRequiredService<IServer>().Features.GetRequiredFeature<IServerAddressesFeature>().Addresses.First());
        _clients = new ServiceCollection().AddHttpClient("", client => client.BaseAddress = BaseAddress).Services.BuildServiceProvider();
        Client = NewClient();
    }

    public WebApplication App { get; }

    public Uri BaseAddress { get; }

    /// <summary>A client whose base address is the application.</summary>
    public HttpClient Client { get; }

    /// <summary>Everything the application logged, faults included.</summary>
    public ConcurrentQueue<string> Log { get; }

    /// <summary>Another client of the application.</summary>
    public HttpClient NewClient() => _clients.GetRequiredService<IHttpClientFactory>().CreateClient("");

    /// <summary>Starts an application.</summary>
    /// <param name="add">Registers its services.</param>
    /// <param name="map">Maps its middleware and endpoints.</param>
    /// <param name="cancellationToken">Ends the attempt.</param>
    /// <param name="port">A port to use again; 0 lets the system choose.</param>
    public static async Task<LoopbackHost> StartAsync(Action<WebApplicationBuilder> add, Action<WebApplication> map, CancellationToken cancellationToken, int port = 0)
    {
        var log = new ConcurrentQueue<string>();
        var builder = WebApplication.CreateEmptyBuilder(new WebApplicationOptions());
        builder.WebHost.UseKestrelCore().ConfigureKestrel(kestrel => kestrel.Listen(IPAddress.Loopback, port));
        builder.Services.AddRoutingCore();
        builder.Logging.AddProvider(new QueueLog(log));
        add(builder);
        var app = builder.Build();
        map(app);
        await app.StartAsync(cancellationToken);
        return new LoopbackHost(app, log);
    }

    /// <summary>Sends bytes as they are, for requests that no client would send, and reads the answer to its end.</summary>
    /// <param name="request">The request; say <c>Connection: close</c>.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    public async Task<string> SendRawAsync(string request, CancellationToken cancellationToken)
    {
        using var client = new TcpClient();
        await client.ConnectAsync(IPAddress.Loopback, BaseAddress.Port, cancellationToken);
        await using var stream = client.GetStream();
        await stream.WriteAsync(Encoding.UTF8.GetBytes(request), cancellationToken);
        using var reader = new StreamReader(stream, Encoding.UTF8);
        return await reader.ReadToEndAsync(cancellationToken);
    }

    public async ValueTask DisposeAsync()
    {
        Client.Dispose();
        await _clients.DisposeAsync();
        await App.StopAsync(CancellationToken.None);
        await App.DisposeAsync();
    }

    private sealed class QueueLog(ConcurrentQueue<string> log) : ILoggerProvider, ILogger
    {
        public ILogger CreateLogger(string categoryName) => this;

        public IDisposable? BeginScope<TState>(TState state) where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => logLevel >= LogLevel.Information;

        public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter) =>
            log.Enqueue($"{logLevel}: {formatter(state, exception)} {exception}");

        public void Dispose()
        {
        }
    }
}
