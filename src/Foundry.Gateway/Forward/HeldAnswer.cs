using Microsoft.AspNetCore.Http.Features;

namespace Foundry.Gateway.Forward;

/// <summary>
/// Holds a backend's answer back from the client until what it tells of has been recorded: nothing is acknowledged before its
/// record is durable.
/// </summary>
internal sealed class HeldAnswer : IDisposable
{
    private readonly HttpContext _context;
    private readonly IHttpResponseBodyFeature _client;
    private readonly MemoryStream _body = new();

    private HeldAnswer(HttpContext context)
    {
        _context = context;
        _client = context.Features.GetRequiredFeature<IHttpResponseBodyFeature>();
        context.Features.Set<IHttpResponseBodyFeature>(new StreamResponseBodyFeature(_body));
    }

    /// <summary>The answer's body.</summary>
    public ReadOnlyMemory<byte> Body => _body.GetBuffer().AsMemory(0, (int)_body.Length);

    /// <summary>Begins to hold.</summary>
    /// <param name="context">The request.</param>
    public static HeldAnswer Begin(HttpContext context) => new(context);

    /// <summary>Gives the client's connection back, and nothing of the answer.</summary>
    public void Discard() => _context.Features.Set(_client);

    /// <summary>Sends the answer.</summary>
    public async Task SendAsync()
    {
        Discard();
        if (_context.Response.StatusCode is not (204 or 304))
        {
            _context.Response.ContentLength = _body.Length;
            await _client.Stream.WriteAsync(Body, _context.RequestAborted);
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (_context.Features.Get<IHttpResponseBodyFeature>() != _client)
            Discard();
        _body.Dispose();
    }
}
