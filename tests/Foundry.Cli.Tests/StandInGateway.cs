using System.Collections.Concurrent;
using System.Net;
using System.Text;
using System.Threading.Channels;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;

namespace Foundry.Cli.Tests;

/// <summary>A server on loopback that says what a test wants the gateway to say, and keeps what it was asked.</summary>
internal sealed class StandInGateway : IAsyncDisposable
{
    /// <summary>After so long what a test waits for will not come any more, and the test fails in place of hanging.</summary>
    public static readonly TimeSpan Patience = TimeSpan.FromMinutes(1);

    private readonly WebApplication _app;
    private readonly Channel<Asked> _asked = Channel.CreateUnbounded<Asked>();

    private StandInGateway(WebApplication app) => _app = app;

    public string Address { get; private set; } = "";

    /// <summary>Every request so far.</summary>
    public ConcurrentQueue<Asked> Requests { get; } = new();

    /// <summary>The answers to come, in order; the last is given for ever.</summary>
    public ConcurrentQueue<Said> Answers { get; } = new();

    /// <summary>Answers in place of <see cref="Answers"/>, where what is said depends on what is asked.</summary>
    public Func<Asked, Said>? Answering { get; set; }

    public Asked Only => Assert.Single(Requests);

    public static async Task<StandInGateway> StartAsync(params Said[] answers)
    {
        var builder = WebApplication.CreateEmptyBuilder(new WebApplicationOptions());
        builder.WebHost.UseKestrelCore().ConfigureKestrel(kestrel => kestrel.Listen(IPAddress.Loopback, 0));
        var app = builder.Build();
        var gateway = new StandInGateway(app);
        foreach (var answer in answers)
            gateway.Answers.Enqueue(answer);
        app.Run(gateway.AnswerAsync);
        await app.StartAsync(TestContext.Current.CancellationToken);
        gateway.Address = app.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses.Single();
        return gateway;
    }

    /// <summary>Waits for the next request that has not been waited for.</summary>
    public Task<Asked> NextAsync() =>
        _asked.Reader.ReadAsync(TestContext.Current.CancellationToken).AsTask().WaitAsync(Patience, TestContext.Current.CancellationToken);

    public ValueTask DisposeAsync() => _app.DisposeAsync();

    private async Task AnswerAsync(HttpContext context)
    {
        using var body = new MemoryStream();
        await context.Request.Body.CopyToAsync(body, context.RequestAborted);
        Said? said = null;
        if (Answering is null && !(Answers.Count > 1 ? Answers.TryDequeue(out said) : Answers.TryPeek(out said)))
            said = Said.Json("{}");
        var asked = new Asked(
            context.Request.Method,
            context.Request.Path + context.Request.QueryString.ToString(),
            context.Request.Headers.Authorization.ToString(),
            context.Request.Headers["Idempotency-Key"].ToString(),
            Encoding.UTF8.GetString(body.ToArray()))
        { Headers = context.Request.Headers.ToDictionary(header => header.Key, header => header.Value.ToString(), StringComparer.OrdinalIgnoreCase) };
        Requests.Enqueue(asked);
        said ??= Answering!(asked);
        await _asked.Writer.WriteAsync(asked);
        if (said.NotBefore is not null)
            await said.NotBefore.WaitAsync(context.RequestAborted);
        if (said.BreaksOff)
        {
            context.Response.ContentLength = said.Body.Length + 1;
            await context.Response.Body.WriteAsync(said.Body);
            await context.Response.Body.FlushAsync();
            context.Abort();
            return;
        }
        context.Response.StatusCode = said.Status;
        context.Response.ContentType = said.ContentType;
        context.Response.Headers["X-Foundry-Request-ID"] = "req-from-header";
        foreach (var (name, value) in said.Headers)
            context.Response.Headers[name] = value;
        if (said.Body.Length > 0)
            await context.Response.Body.WriteAsync(said.Body);
    }
}

/// <summary>A request as the stand-in got it.</summary>
internal sealed record Asked(string Method, string Target, string Authorization, string IdempotencyKey, string Body)
{
    /// <summary>All of its headers.</summary>
    public IReadOnlyDictionary<string, string> Headers { get; init; } = new Dictionary<string, string>();
}

/// <summary>An answer of the stand-in's.</summary>
internal sealed record Said(int Status, string? ContentType, byte[] Body)
{
    public IReadOnlyList<(string Name, string Value)> Headers { get; init; } = [];
    public bool BreaksOff { get; init; }
    /// <summary>What the answer is held back for.</summary>
    public Task? NotBefore { get; init; }

    public static Said Json(string json, int status = 200) => new(status, "application/json", Encoding.UTF8.GetBytes(json));

    public static Said Nothing(int status = 204) => new(status, null, []);

    public static Said Problem(int status, string code, string? reason = null, string title = "Refused", string detail = "Because.") =>
        new(status, "application/problem+json", Encoding.UTF8.GetBytes(
            $$"""{"type":"/problems/{{code}}","title":"{{title}}","status":{{status}},"detail":"{{detail}}","code":"{{code}}","request_id":"req-1"{{(reason is null ? "" : $",\"reason\":\"{reason}\"")}}}"""));
}
