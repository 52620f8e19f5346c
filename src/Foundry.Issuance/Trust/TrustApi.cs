using Foundry.Contracts;
using Foundry.ServiceDefaults;
using Foundry.ServiceDefaults.Trust;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.AspNetCore.Routing;
using Microsoft.Extensions.Hosting;

namespace Foundry.Issuance.Trust;

/// <summary>Where parts learn whom to believe, and ask to be believed themselves (docs/architecture.md, Trust between parts).</summary>
internal static class TrustApi
{
    private const int JoinBytesMax = 4 * 1024;
    private const int WaitingMax = 2 * PlatformTrust.TrustedKeysMax;
    private static readonly TimeSpan WaitMax = TimeSpan.FromSeconds(20);

    public static void MapTrust(this IEndpointRouteBuilder routes)
    {
        // The trust set: public keys and a signature, so open to all. With ?after=<seq> the answer waits, at most 20 s, for a newer one.
        routes.MapGet("/internal/v1/trust", GetAsync).WithMetadata(OpenToAll.Instance);
        // Join: 200 with the new trust set; 401 join_refused; 422 invalid_value; 429 rate_limited.
        routes.MapPost("/internal/v1/join", JoinAsync).WithMetadata(OpenToAll.Instance);
    }

    private static async Task<IResult> GetAsync(HttpContext context, PlatformTrust trust, TimeProvider time, IHostApplicationLifetime lifetime, long? after)
    {
        // Open to all, so the number of those who wait is bounded; who finds no place is answered at once.
        if (after is not { } seq || trust.Waiting >= WaitingMax)
            return Results.Json(trust.Answer, WireJson.Default.TrustAnswer);
        // A part that is stopping lets nobody wait.
        using var ending = CancellationTokenSource.CreateLinkedTokenSource(context.RequestAborted, lifetime.ApplicationStopping);
        return Results.Json(await trust.NewerAsync(seq, WaitMax, time, ending.Token), WireJson.Default.TrustAnswer);
    }

    private static async Task<IResult> JoinAsync(HttpContext context, JoinDesk desk)
    {
        context.Features.GetRequiredFeature<IHttpMaxRequestBodySizeFeature>().MaxRequestBodySize = JoinBytesMax;
        var (request, refusal) = await Problems.ReadBodyAsync(context, WireJson.Default.JoinRequest);
        if (request is null)
            return refusal!;
        var joined = await desk.JoinAsync(request, RequestId.Of(context), context.RequestAborted);
        return joined.Refusal ?? Results.Json(joined.Value, WireJson.Default.TrustAnswer);
    }
}
