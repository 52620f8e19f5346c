using Foundry.Contracts;
using Foundry.ServiceDefaults;
using Foundry.ServiceDefaults.Trust;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.AspNetCore.Routing;

namespace Foundry.Issuance.Trust;

/// <summary>Where parts learn whom to believe, and ask to be believed themselves (docs/architecture.md, Trust between parts).</summary>
internal static class TrustApi
{
    private const int JoinBytesMax = 4 * 1024;

    public static void MapTrust(this IEndpointRouteBuilder routes)
    {
        // The trust set: public keys and a signature, so open to all.
        routes.MapGet("/internal/v1/trust", (PlatformTrust trust) => Results.Json(trust.Answer, WireJson.Default.TrustAnswer)).WithMetadata(OpenToAll.Instance);
        // Join: 200 with the new trust set; 401 join_refused; 422 invalid_value; 429 rate_limited.
        routes.MapPost("/internal/v1/join", JoinAsync).WithMetadata(OpenToAll.Instance);
    }

    private static async Task<IResult> JoinAsync(HttpContext context, JoinDesk desk)
    {
        context.Features.GetRequiredFeature<IHttpMaxRequestBodySizeFeature>().MaxRequestBodySize = JoinBytesMax;
        var (request, refusal) = await Problems.ReadBodyAsync(context, WireJson.Default.JoinRequest);
        if (request is null)
            return refusal!;
        var joined = await desk.JoinAsync(request, context.RequestAborted);
        if (joined.Refusal is Refused { Error: var error } && error == ErrorCode.RateLimited)
            context.Response.Headers.RetryAfter = "60";
        return joined.Refusal ?? Results.Json(joined.Value, WireJson.Default.TrustAnswer);
    }
}
