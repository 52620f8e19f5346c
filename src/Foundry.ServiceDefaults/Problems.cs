using System.Globalization;
using System.Security.Cryptography;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Serialization.Metadata;
using Foundry.Contracts;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;

namespace Foundry.ServiceDefaults;

/// <summary>An endpoint's "no": thrown by nobody, returned by handlers as their result.</summary>
/// <param name="Error">Which.</param>
/// <param name="Detail">What would be right; never inner detail.</param>
public sealed record Refused(ErrorCode Error, string Detail) : IResult
{
    private static readonly TimeSpan RetryAfterDefault = TimeSpan.FromSeconds(5);

    /// <summary>When to come back; every 429 and 503 says so, whether or not it is known better than in general.</summary>
    public TimeSpan? RetryAfter { get; init; }

    /// <inheritdoc/>
    public Task ExecuteAsync(HttpContext httpContext)
    {
        if (RetryAfter is not null || Error.Status is StatusCodes.Status429TooManyRequests or StatusCodes.Status503ServiceUnavailable)
            Problems.SayRetryAfter(httpContext, RetryAfter ?? RetryAfterDefault);
        return Problems.WriteAsync(httpContext, Error, Detail);
    }
}

/// <summary>Writes every error of ours, always the same way (CONTRACT section 9).</summary>
public static class Problems
{
    // application/problem+json is never read as HTML, so an apostrophe may stay one.
    private static readonly WireJson Readable = new(new JsonSerializerOptions(WireJson.Default.Options) { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping });

    /// <summary>The problem document of an error.</summary>
    /// <param name="context">The request it is about.</param>
    /// <param name="error">Which.</param>
    /// <param name="detail">What would be right.</param>
    public static Problem Of(HttpContext context, ErrorCode error, string detail)
    {
        ArgumentNullException.ThrowIfNull(error);
        return new($"/problems/{error.Code}", error.Title, error.Status, detail, error.Code, RequestId.Of(context));
    }

    /// <summary>Writes an error as the whole answer.</summary>
    /// <param name="context">The request it is about.</param>
    /// <param name="error">Which.</param>
    /// <param name="detail">What would be right.</param>
    public static Task WriteAsync(HttpContext context, ErrorCode error, string detail) => WriteAsync(context, Of(context, error, detail));

    /// <summary>Writes a problem document as the whole answer.</summary>
    /// <param name="context">The request it is about.</param>
    /// <param name="problem">The document.</param>
    public static async Task WriteAsync(HttpContext context, Problem problem)
    {
        ArgumentNullException.ThrowIfNull(context);
        ArgumentNullException.ThrowIfNull(problem);
        var body = JsonSerializer.SerializeToUtf8Bytes(problem, Readable.Problem);
        context.Response.StatusCode = problem.Status;
        context.Response.ContentType = Problem.MediaType;
        context.Response.ContentLength = body.Length;
        context.Response.Headers.CacheControl = "no-store";
        context.Response.Headers[FoundryHeaders.RequestId] = problem.RequestId;
        if (!HttpMethods.IsHead(context.Request.Method))
            await context.Response.Body.WriteAsync(body, context.RequestAborted);
    }

    /// <summary>
    /// Says when to come back: in whole seconds, at least the wait (an hour at most) and at least one, spread so that clients do not
    /// come back together.
    /// </summary>
    /// <param name="context">The request.</param>
    /// <param name="wait">The wait.</param>
    public static void SayRetryAfter(HttpContext context, TimeSpan wait)
    {
        ArgumentNullException.ThrowIfNull(context);
        var seconds = (int)Math.Clamp(Math.Ceiling(wait.TotalSeconds), 1, 3600);
        context.Response.Headers.RetryAfter = (seconds + RandomNumberGenerator.GetInt32(Math.Max(seconds / 2, 3))).ToString(CultureInfo.InvariantCulture);
    }

    /// <summary>Reads a JSON body strictly: an object of this type, each member once, no others, nothing behind it.</summary>
    /// <typeparam name="T">What the body is.</typeparam>
    /// <param name="context">The request.</param>
    /// <param name="type">How it is read.</param>
    /// <returns>The body, or why not.</returns>
    public static async Task<(T? Body, Refused? Refusal)> ReadBodyAsync<T>(HttpContext context, JsonTypeInfo<T> type)
        where T : class
    {
        ArgumentNullException.ThrowIfNull(context);
        if (!context.Request.HasJsonContentType())
            return (null, new Refused(ErrorCode.UnsupportedMediaType, "Send the body as application/json."));
        try
        {
            var body = await JsonSerializer.DeserializeAsync(context.Request.Body, type, context.RequestAborted);
            return body is null ? (null, new Refused(ErrorCode.InvalidBody, "The body is null where a JSON object is expected.")) : (body, null);
        }
        catch (JsonException fault)
        {
            // The path is made of names and positions of the caller's own document; the message may quote its content.
            return (null, new Refused(ErrorCode.InvalidBody, $"The body is not the JSON object that this call takes (at {(string.IsNullOrEmpty(fault.Path) ? "$" : fault.Path)}, line {(fault.LineNumber ?? 0) + 1})."));
        }
        catch (BadHttpRequestException fault) when (fault.StatusCode == StatusCodes.Status413PayloadTooLarge)
        {
            return (null, new Refused(ErrorCode.BodyTooLarge, "The body is over the bound of this call."));
        }
    }

    /// <summary>
    /// Makes sure that whatever happens behind it ends as a problem document: faults as <c>internal_error</c> with nothing
    /// of the fault in it, bare 4xx of the framework as the code that fits.
    /// </summary>
    /// <param name="app">The application.</param>
    public static void UseProblems(this IApplicationBuilder app)
    {
        ArgumentNullException.ThrowIfNull(app);
        var log = app.ApplicationServices.GetRequiredService<ILoggerFactory>().CreateLogger(typeof(Problems));
        app.Use(async (context, next) =>
        {
            try
            {
                await next(context);
            }
            catch (OperationCanceledException) when (context.RequestAborted.IsCancellationRequested)
            {
                return; // The client has gone; there is nobody to tell.
            }
            catch (BadHttpRequestException fault) when (!context.Response.HasStarted)
            {
                await WriteAsync(context, OfStatus(fault.StatusCode) ?? ErrorCode.InvalidBody, "The request could not be read.");
                return;
            }
            catch (Exception fault) when (!context.Response.HasStarted)
            {
                log.LogError(fault, "Request {RequestId} ended in a fault", RequestId.Of(context));
                context.Response.Clear();
                await WriteAsync(context, ErrorCode.Internal, "The request could not be completed; the operator's log has the reason under this request ID.");
                return;
            }
            if (!context.Response.HasStarted && context.Response.StatusCode >= 400 && context.Response.ContentLength is null
                && context.Response.ContentType is null && OfStatus(context.Response.StatusCode) is { } error
                && context.Features.Get<IHttpResponseBodyFeature>() is not null)
                await WriteAsync(context, error, error.Title + ".");
        });
    }

    private static ErrorCode? OfStatus(int status) => status switch
    {
        400 => ErrorCode.InvalidBody,
        404 => ErrorCode.NotFound,
        405 => ErrorCode.MethodNotAllowed,
        408 => ErrorCode.RequestTimeout,
        413 => ErrorCode.BodyTooLarge,
        415 => ErrorCode.UnsupportedMediaType,
        431 => ErrorCode.HeadersTooLarge,
        _ => null,
    };
}
