using Foundry.Contracts;

namespace Foundry.Gateway.Bound;

/// <summary>
/// Is this a request that can be read in one way only? Sizes and times of the connection are Kestrel's (Gateway.cs); here is
/// what needs the request as a whole.
/// </summary>
internal static class RequestBounds
{
    /// <summary>Bytes of the largest body (CONTRACT section 4).</summary>
    public const int BodyBytesMax = 1024 * 1024;
    private const int AnonymousBodyBytesMax = 16 * 1024;
    private const int ReadBytes = 16 * 1024;

    // A second one of these would be somebody else's opinion of the same question.
    private static readonly string[] Single =
        ["Host", "Content-Length", "Content-Type", "Idempotency-Key", "If-Match", "If-None-Match", FoundryHeaders.RequestId, FoundryHeaders.OnBehalfOf];

    /// <summary>Looks at target and headers.</summary>
    /// <param name="exchange">The request.</param>
    /// <returns>Why not, or null.</returns>
    public static Refusal? Check(Exchange exchange)
    {
        if (CanonicalPath.Fault(exchange.RawPath) is { } path)
            return new Refusal(ErrorCode.InvalidPath, path);
        if (CanonicalPath.QueryFault(exchange.RawQuery) is { } query)
            return new Refusal(ErrorCode.InvalidQuery, query);
        var headers = exchange.Context.Request.Headers;
        foreach (var name in Single)
            if (headers[name].Count > 1)
                return new Refusal(ErrorCode.InvalidHeader, $"{name} is there more than once.");
        // Kestrel renames Content-Length where chunks came with it (RFC 9112 section 6.3: either an error or a smuggling attempt).
        if (headers.TransferEncoding.Count > 0 && (headers.ContainsKey("X-Content-Length") || headers.ContentLength is not null))
            return new Refusal(ErrorCode.InvalidHeader, "Content-Length and Transfer-Encoding are there together.");
        if (headers["Idempotency-Key"] is [{ } key] && (key.Length is 0 or > 128 || key.Any(c => c is < '!' or > '~')))
            return new Refusal(ErrorCode.InvalidHeader, "Idempotency-Key is 1 to 128 visible characters.");
        return null;
    }

    /// <summary>Reads the whole body before anything of it is passed on.</summary>
    /// <param name="exchange">The request.</param>
    /// <returns>Why not, or null; the body is in <see cref="Exchange.Body"/>.</returns>
    public static async ValueTask<Refusal?> ReadBodyAsync(Exchange exchange)
    {
        var request = exchange.Context.Request;
        var carries = request.ContentLength is > 0 || request.Headers.TransferEncoding.Count > 0;
        if (exchange.IsSafe || exchange.Route is null)
            return carries ? new Refusal(ErrorCode.InvalidBody, "This method takes no body here.") : null;
        // Nobody in particular gets little: what is anonymous here is a token to be verified, of 8 KB.
        var bytesMax = exchange.Route.Scope.AllowsAnonymous ? AnonymousBodyBytesMax : BodyBytesMax;
        if (request.ContentLength > bytesMax)
            return TooLarge;
        // Grows with what arrives, not with what is announced.
        var body = new MemoryStream((int)Math.Min(request.ContentLength ?? 0, ReadBytes));
        try
        {
            var buffer = new byte[ReadBytes];
            int read;
            while ((read = await request.Body.ReadAsync(buffer, exchange.Context.RequestAborted)) > 0)
            {
                if (body.Length + read > bytesMax)
                    return TooLarge;
                body.Write(buffer, 0, read);
            }
        }
        catch (BadHttpRequestException fault)
        {
            return fault.StatusCode switch
            {
                StatusCodes.Status408RequestTimeout => new Refusal(ErrorCode.RequestTimeout, "The body arrived too slowly."),
                StatusCodes.Status413PayloadTooLarge => TooLarge,
                _ => new Refusal(ErrorCode.InvalidBody, "The body could not be read."),
            };
        }
        exchange.Body = body.ToArray();
        return null;
    }

    private static readonly Refusal TooLarge = new(ErrorCode.BodyTooLarge, $"A body is at most {BodyBytesMax} bytes, and {AnonymousBodyBytesMax} where no token is needed.");
}
