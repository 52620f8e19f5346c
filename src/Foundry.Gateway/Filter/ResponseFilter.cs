using System.IO.Compression;
using System.Net;
using System.Security.Cryptography;
using Foundry.Contracts;
using Foundry.Gateway.Record;
using Foundry.Tokens;
using Yarp.ReverseProxy.Transforms;

namespace Foundry.Gateway.Filter;

/// <summary>
/// Step 9, as the answer streams through YARP: what of it may this caller see? (CONTRACT section 4, Filtering.) Answers that end
/// within 64 KB are held back until they are known to be whole, and get an ETag of their own; longer ones stream.
/// </summary>
internal sealed class ResponseFilter(GatewayMetrics metrics, Recorder recorder, ILogger<ResponseFilter> log)
{
    private const int HeldBytesMax = 64 * 1024;

    /// <summary>Puts the filter into an answer, or refuses the answer.</summary>
    /// <param name="exchange">The request.</param>
    /// <param name="transform">YARP's view of the answer to the client.</param>
    /// <param name="answer">The backend's answer.</param>
    public async ValueTask ApplyAsync(Exchange exchange, ResponseTransformContext transform, HttpResponseMessage answer)
    {
        var route = exchange.Route!;
        if (route.Filter is null && route.Own is not { At: not null })
            return;
        // The backend's own words may name what is foreign; of what is missing there is one description only.
        if ((int)answer.StatusCode >= 400)
        {
            Refuse(exchange, transform, answer.StatusCode == HttpStatusCode.NotFound ? Refusal.NotFound : OfStatus(answer));
            return;
        }
        if (route.Filter is not { } rule)
            return;
        var status = answer.StatusCode;
        var media = answer.Content.Headers.ContentType;
        if (status != HttpStatusCode.OK || media?.MediaType != "application/json" || media.CharSet?.Trim('"').ToLowerInvariant() is not (null or "utf-8"))
        {
            Refuse(exchange, transform, Unfilterable(route.RouteId, $"status {(int)status}, content type {media}"));
            return;
        }
        var headers = transform.HttpContext.Response.Headers;
        headers.Clear();
        headers.ContentType = "application/json";
        headers.Vary = "Authorization";
        exchange.PutAnswerHeaders();

        FilteredStream? filtered = null;
        try
        {
            var body = Decode(await answer.Content.ReadAsStreamAsync(transform.CancellationToken), answer.Content.Headers.ContentEncoding);
            filtered = new FilteredStream(body, new ListFilter(rule, exchange.Caller.IsPlatformAdmin ? null : exchange.Caller.TenantId ?? ""));
            var held = new byte[HeldBytesMax];
            var length = 0;
            int read;
            while (length < held.Length && (read = await filtered.ReadAsync(held.AsMemory(length), transform.CancellationToken)) > 0)
                length += read;
            var whole = filtered.Filter.IsComplete && length < held.Length;
            if (whole)
                SendHeld(exchange, transform, answer, held.AsMemory(0, length));
            else
            {
                headers.CacheControl = "private, no-store";
                answer.Content = new FilteredContent(held.AsMemory(0, length), new CountingStream(filtered, this, exchange), answer.Content);
            }
            if (whole)
            {
                Count(exchange, filtered.Filter);
                await filtered.DisposeAsync();
            }
        }
        // InvalidOperationException is how the Brotli decoder says that its input is none.
        catch (Exception fault) when (fault is UnfilterableException or InvalidDataException or NotSupportedException or InvalidOperationException)
        {
            if (filtered is not null)
                await filtered.DisposeAsync();
            Refuse(exchange, transform, Unfilterable(route.RouteId, fault.Message));
        }
        catch (Exception fault) when (fault is HttpRequestException or IOException)
        {
            Refuse(exchange, transform, new Refusal(ErrorCode.BackendUnavailable, "The backend broke off its answer."));
        }
    }

    /// <summary>Counts what a filter did, once it has done it.</summary>
    internal void Count(Exchange exchange, ListFilter filter)
    {
        metrics.FilterItems(exchange.Route!.RouteId, filter.Kept, filter.Dropped);
        if (filter.Dropped == 0 || exchange.Caller.TenantId is null)
            return;
        log.LogWarning("{Dropped} elements that are not {Tenant}'s were kept back on {Route}", filter.Dropped, exchange.Caller.TenantId, exchange.Route.RouteId);
        recorder.LeakBlocked(exchange, filter.Dropped);
    }

    private static void SendHeld(Exchange exchange, ResponseTransformContext transform, HttpResponseMessage answer, ReadOnlyMemory<byte> body)
    {
        var response = transform.HttpContext.Response;
        // Over the filtered bytes: a change of foreign elements does not change it.
        var etag = $"\"{Base64UrlText.Encode(SHA256.HashData(body.Span).AsSpan(0, 16))}\"";
        response.Headers.ETag = etag;
        response.Headers.CacheControl = "private, no-cache";
        var asked = transform.HttpContext.Request.Headers.IfNoneMatch;
        if (asked is [{ } tags] && tags.Split(',', StringSplitOptions.TrimEntries).Any(tag => tag == etag || tag == "*" || tag == "W/" + etag))
        {
            transform.SuppressResponseBody = true;
            response.StatusCode = StatusCodes.Status304NotModified;
            response.Headers.ContentType = default;
            return;
        }
        response.ContentLength = body.Length;
        answer.Content = new FilteredContent(body, null, answer.Content);
    }

    private static void Refuse(Exchange exchange, ResponseTransformContext transform, Refusal refusal)
    {
        exchange.AnswerRefusal = refusal;
        transform.SuppressResponseBody = true;
    }

    private Refusal Unfilterable(string routeId, string why)
    {
        log.LogError("The answer on {Route} cannot be filtered and was not passed on: {Why}", routeId, why);
        metrics.Unfilterable(routeId);
        return new Refusal(ErrorCode.UnfilterableResponse, "The backend's answer could not be checked, so none of it is passed on.");
    }

    private static Refusal OfStatus(HttpResponseMessage answer) => (int)answer.StatusCode switch
    {
        429 => new Refusal(ErrorCode.RateLimited, "The backend is busy.") { RetryAfter = TimeSpan.FromSeconds(1) },
        409 => new Refusal(ErrorCode.NodeConflict, "The resource is in use."),
        >= 500 => new Refusal(ErrorCode.BackendError, "The backend could not answer."),
        _ => new Refusal(ErrorCode.BackendError, "The backend refused the request."),
    };

    private static Stream Decode(Stream body, ICollection<string> encodings) => encodings.ToArray() switch
    {
        [] or ["identity"] => body,
        ["gzip"] => new GZipStream(body, CompressionMode.Decompress),
        ["br"] => new BrotliStream(body, CompressionMode.Decompress),
        ["deflate"] => new ZLibStream(body, CompressionMode.Decompress),
        var others => throw new UnfilterableException($"content coding {string.Join(", ", others)}"),
    };

    /// <summary>Counts when the stream ends well, and says why when it does not; YARP then aborts the transfer.</summary>
    private sealed class CountingStream(FilteredStream inner, ResponseFilter owner, Exchange exchange) : ReadOnlyStream
    {
        private bool _counted;

        public override async ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
        {
            try
            {
                var read = await inner.ReadAsync(buffer, cancellationToken);
                if (read == 0 && !_counted)
                {
                    _counted = true;
                    owner.Count(exchange, inner.Filter);
                }
                return read;
            }
            catch (UnfilterableException fault)
            {
                // After the first byte there is no other answer than to break off.
                exchange.AnswerRefusal = owner.Unfilterable(exchange.Route!.RouteId, fault.Message);
                throw new IOException("The answer cannot be filtered any further.", fault);
            }
        }

        protected override void Dispose(bool disposing)
        {
            if (disposing)
                inner.Dispose();
            base.Dispose(disposing);
        }
    }
}
