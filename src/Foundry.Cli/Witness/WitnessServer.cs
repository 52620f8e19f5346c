using System.Globalization;
using System.Net;
using System.Text;
using Foundry.Proofs;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;

namespace Foundry.Cli.Witness;

/// <summary>A witness over HTTP (c2sp.org/tlog-witness): <c>POST /add-checkpoint</c> and nothing else.</summary>
internal sealed class WitnessServer : IAsyncDisposable
{
    private const int ConnectionsMax = 256;
    private const string TextType = "text/plain; charset=utf-8";

    private readonly WebApplication _app;
    private readonly WitnessBook _book;
    private readonly Output _output;

    private WitnessServer(WebApplication app, WitnessBook book, Output output) => (_app, _book, _output) = (app, book, output);

    /// <summary>Where it listens.</summary>
    public string Address => _app.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses.Single();

    /// <summary>Starts one.</summary>
    /// <exception cref="IOException">The port is taken.</exception>
    public static async Task<WitnessServer> StartAsync(IPEndPoint endpoint, WitnessBook book, Output output, CancellationToken cancellationToken)
    {
        var builder = WebApplication.CreateEmptyBuilder(new WebApplicationOptions());
        builder.WebHost.UseKestrelCore().ConfigureKestrel(kestrel =>
        {
            kestrel.AddServerHeader = false;
            kestrel.Limits.MaxConcurrentConnections = ConnectionsMax;
            kestrel.Limits.MaxRequestBodySize = AddCheckpoint.BytesMax;
            kestrel.Listen(endpoint);
        });
        var app = builder.Build();
        var server = new WitnessServer(app, book, output);
        app.Run(server.AnswerAsync);
        await app.StartAsync(cancellationToken);
        return server;
    }

    public async ValueTask DisposeAsync()
    {
        await _app.StopAsync();
        await _app.DisposeAsync();
    }

    private async Task AnswerAsync(HttpContext context)
    {
        if (context.Request.Path != "/" + AddCheckpoint.Path)
        {
            context.Response.StatusCode = StatusCodes.Status404NotFound;
            return;
        }
        if (!HttpMethods.IsPost(context.Request.Method))
        {
            context.Response.StatusCode = StatusCodes.Status405MethodNotAllowed;
            context.Response.Headers.Allow = HttpMethods.Post;
            return;
        }
        using var body = new MemoryStream();
        try
        {
            await context.Request.Body.CopyToAsync(body, context.RequestAborted);
        }
        catch (BadHttpRequestException tooLong)
        {
            context.Response.StatusCode = tooLong.StatusCode;
            return;
        }
        var (status, type, answer) = AddCheckpoint.TryParse(body.ToArray(), out var request) ? Take(request) : (StatusCodes.Status400BadRequest, TextType, []);
        context.Response.StatusCode = status;
        context.Response.ContentType = type;
        await context.Response.Body.WriteAsync(answer, context.RequestAborted);
    }

    private (int Status, string Type, byte[] Body) Take(AddCheckpoint request)
    {
        var origin = request.Checkpoint.Text.Split('\n')[0];
        WitnessVerdict verdict;
        NoteSignature? cosignature;
        long remembered;
        try
        {
            verdict = _book.Take(request, out cosignature, out remembered);
            if (verdict is WitnessVerdict.Forked or WitnessVerdict.Inconsistent)
                _book.KeepEvidence(origin, request);
        }
        catch (Exception fault) when (fault is IOException or UnauthorizedAccessException)
        {
            // Not durable, so not cosigned.
            _output.Note($"cannot remember a checkpoint, so it was not cosigned: {fault.Message}");
            return (StatusCodes.Status503ServiceUnavailable, TextType, []);
        }
        if (verdict == WitnessVerdict.Forked)
            _output.Note($"FORK: {origin} signed two roots for {remembered} entries; both checkpoints are in {_book.EvidencePath}");
        else if (verdict == WitnessVerdict.Inconsistent)
            _output.Note($"{origin} could not prove that it continues the {remembered} entries remembered; what it sent is in {_book.EvidencePath}");
        return verdict switch
        {
            WitnessVerdict.Cosign => (StatusCodes.Status200OK, TextType, SignedNote.Encode([cosignature!])),
            WitnessVerdict.Malformed => (StatusCodes.Status400BadRequest, TextType, []),
            WitnessVerdict.UnknownLog => (StatusCodes.Status404NotFound, TextType, []),
            WitnessVerdict.NotSigned => (StatusCodes.Status403Forbidden, TextType, []),
            WitnessVerdict.Stale or WitnessVerdict.Forked =>
                (StatusCodes.Status409Conflict, AddCheckpoint.SizeType, Encoding.ASCII.GetBytes(remembered.ToString(CultureInfo.InvariantCulture) + "\n")),
            _ => (StatusCodes.Status422UnprocessableEntity, TextType, []),
        };
    }
}
