using System.Globalization;
using Foundry.Contracts;
using Foundry.Issuance.Admin;
using Foundry.Issuance.Changes;
using Foundry.Issuance.Trust;
using Foundry.ServiceDefaults;
using Foundry.ServiceDefaults.Trust;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;

namespace Foundry.Issuance.Keys;

/// <summary>The keys that sign tokens (CONTRACT sections 2 and 3).</summary>
internal static class KeysApi
{
    public static void MapKeys(this IEndpointRouteBuilder routes)
    {
        // Every key with its status; platform-admin.
        routes.MapGet("/v1/keys", ListAsync);
        // A new key, published before it signs; {"compromised": true} cuts all earlier ones off. Platform-admin.
        routes.MapPost("/v1/keys/rotate", RotateAsync);
        // RFC 7517. May be cached for as long as a key is published before it signs.
        routes.MapGet("/.well-known/jwks.json", Jwks).WithMetadata(OpenToAll.Instance);
    }

    private static async Task<IResult> ListAsync(HttpContext context, SigningKeys keys) =>
        Callers.RefusePlatform(Asserted.Of(context)) ?? Results.Json(new SigningKeyList(await keys.ListAsync(context.RequestAborted)), WireJson.Default.SigningKeyList);

    private static async Task<IResult> RotateAsync(HttpContext context, SigningKeys keys, AdminRenewal admin)
    {
        var caller = Asserted.Of(context);
        if (Callers.RefusePlatform(caller) is { } refused)
            return refused;
        var request = new RotateRequest();
        if (context.Request.Body.Length > 0)
        {
            var (body, refusal) = await Problems.ReadBodyAsync(context, WireJson.Default.RotateRequest);
            if (body is null)
                return refusal!;
            request = body;
        }
        var compromised = request.Compromised == true;
        var rotated = await keys.RotateAsync(caller, compromised, Doer.Of(caller, RequestId.Of(context)), context.RequestAborted);
        if (rotated.Refusal is { } notRotated)
            return notRotated;
        // The administrator's own token was cut off too, and nobody else could let them in again.
        if (compromised)
            await admin.LookAsync(CancellationToken.None);
        return Results.Json(new SigningKeyList(rotated.Value!), WireJson.Default.SigningKeyList);
    }

    private static IResult Jwks(HttpContext context, PlatformTrust trust)
    {
        context.Response.Headers.CacheControl = string.Create(CultureInfo.InvariantCulture, $"public, max-age={(int)SigningKeys.Lead.TotalSeconds}");
        return Results.Text(trust.TokenKeys.ToJwks(), "application/jwk-set+json");
    }
}
