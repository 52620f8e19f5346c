using System.Diagnostics;
using System.Globalization;
using System.Net;
using Foundry.Contracts;
using Foundry.Gateway.Filter;
using Yarp.ReverseProxy.Transforms;
using Yarp.ReverseProxy.Transforms.Builder;

namespace Foundry.Gateway.Forward;

/// <summary>
/// What a backend gets and what a client gets back (CONTRACT section 4). To the backend: an allow-list of the client's headers,
/// then what the gateway says. Back: what the backend said, less what is the gateway's or only the backend's business; lists
/// through <see cref="ResponseFilter"/>.
/// </summary>
internal sealed class BackendTransforms(CallerAssertions assertions, ResponseFilter filter) : ITransformProvider
{
    // What is not here does not pass; above all nothing that claims to be from the gateway, names a peer, or rewrites a path.
    private static readonly string[] ClientHeaders = ["Accept", "Accept-Language", "Idempotency-Key", "If-Match", "Last-Event-ID", "User-Agent"];
    // YARP takes Connection and Upgrade along where they ask for a WebSocket (RFC 6455 section 4.1); without these no backend agrees.
    private static readonly string[] WebSocketHeaders = ["Sec-WebSocket-Key", "Sec-WebSocket-Version", "Sec-WebSocket-Protocol"];
    private static readonly string[] ConditionalHeaders = ["If-None-Match", "If-Modified-Since", "Range", "If-Range"];
    private static readonly string[] BackendOnly = ["Server", "X-Powered-By", "Set-Cookie", "Via", "Alt-Svc", "RateLimit", "RateLimit-Policy"];

    /// <inheritdoc/>
    public void ValidateRoute(TransformRouteValidationContext context)
    {
    }

    /// <inheritdoc/>
    public void ValidateCluster(TransformClusterValidationContext context)
    {
    }

    /// <inheritdoc/>
    public void Apply(TransformBuilderContext context)
    {
        context.CopyRequestHeaders = false;
        context.UseDefaultForwarders = false;
        var cluster = context.Route.ClusterId!;
        context.AddRequestTransform(transform => ToBackend(transform, cluster));
        context.AddResponseTransform(ToClientAsync);
    }

    private ValueTask ToBackend(RequestTransformContext transform, string cluster)
    {
        var exchange = Exchange.Of(transform.HttpContext);
        var request = transform.HttpContext.Request;
        var sent = transform.ProxyRequest;

        // The path decided on is the path sent, byte for byte; YARP would encode the decoded one anew.
        var target = exchange.RawQuery.Length == 0 ? exchange.RawPath : $"{exchange.RawPath}?{exchange.RawQuery}";
        if (transform.Path == request.Path)
            sent.RequestUri = new Uri(transform.DestinationPrefix.TrimEnd('/') + target, new UriCreationOptions { DangerousDisablePathAndQueryCanonicalization = true });

        foreach (var name in ClientHeaders)
            Copy(request, sent, name);
        if (request.Headers.Upgrade.Count > 0)
            foreach (var name in WebSocketHeaders)
                Copy(request, sent, name);
        if (exchange.Route!.Filter is null)
            foreach (var name in ConditionalHeaders)
                Copy(request, sent, name);
        if (sent.Content is { } content)
        {
            if (request.ContentType is { } type)
                content.Headers.TryAddWithoutValidation("Content-Type", type);
            content.Headers.ContentLength = exchange.Body?.Length ?? 0;
        }

        var caller = exchange.Caller;
        Set(sent, FoundryHeaders.RequestId, exchange.RequestId);
        Set(sent, FoundryHeaders.Tenant, caller.TenantId);
        Set(sent, FoundryHeaders.ModuleId, exchange.ModuleId);
        if (caller.Token is { } token)
        {
            Set(sent, FoundryHeaders.Scope, caller.Scope.Text);
            Set(sent, FoundryHeaders.Subject, token.Sub);
            Set(sent, FoundryHeaders.TokenId, token.Jti);
        }
        if (exchange.Reservation is { } reservation)
            Set(sent, FoundryHeaders.Reservation, string.Create(CultureInfo.InvariantCulture, $"{reservation.Id};epoch={reservation.Epoch};deadline={reservation.Deadline.ToUnixTimeMilliseconds()}"));
        if (transform.HttpContext.Connection.RemoteIpAddress is { } peer)
            Set(sent, "X-Forwarded-For", peer.ToString());
        Set(sent, "X-Forwarded-Proto", request.Scheme);
        Set(sent, FoundryHeaders.Assertion, exchange.IsSafe ? assertions.Read(caller, cluster) : assertions.Write(exchange, cluster, target));
        return ValueTask.CompletedTask;
    }

    private async ValueTask ToClientAsync(ResponseTransformContext transform)
    {
        var exchange = Exchange.Of(transform.HttpContext);
        var headers = transform.HttpContext.Response.Headers;
        foreach (var name in BackendOnly)
            headers.Remove(name);
        foreach (var name in headers.Keys.Where(name => name.StartsWith(FoundryHeaders.Prefix, StringComparison.OrdinalIgnoreCase)).ToArray())
            headers.Remove(name);
        exchange.PutAnswerHeaders();
        if (transform.ProxyResponse is not { } answer)
            return;
        exchange.IsEndless = answer.StatusCode == HttpStatusCode.SwitchingProtocols || answer.Content.Headers.ContentType?.MediaType is "text/event-stream" or "application/x-ndjson";
        // What is held back until it is recorded is not to be broken off at all.
        if (exchange is { CuttableSince: 0, Intent: null })
            exchange.CuttableSince = Stopwatch.GetTimestamp();
        await filter.ApplyAsync(exchange, transform, answer);
    }

    private static void Copy(HttpRequest request, HttpRequestMessage sent, string name)
    {
        if (request.Headers.TryGetValue(name, out var values) && values.Count > 0)
            sent.Headers.TryAddWithoutValidation(name, (IEnumerable<string?>)values);
    }

    private static void Set(HttpRequestMessage sent, string name, string? value)
    {
        if (value is not null)
            sent.Headers.TryAddWithoutValidation(name, value);
    }
}
