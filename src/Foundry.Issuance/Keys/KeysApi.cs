using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using Foundry.Contracts;
using Foundry.Issuance.Admin;
using Foundry.Issuance.Changes;
using Foundry.Issuance.Trust;
using Foundry.ServiceDefaults;
using Foundry.ServiceDefaults.Trust;
using Foundry.Tokens;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Microsoft.Extensions.Logging;
using Microsoft.Net.Http.Headers;

namespace Foundry.Issuance.Keys;

/// <summary>The keys that sign tokens (CONTRACT sections 2 and 3).</summary>
internal static class KeysApi
{
    public static void MapKeys(this IEndpointRouteBuilder routes)
    {
        // Every key with its status; platform-admin.
        routes.MapGet("/v1/keys", ListAsync);
        // A new key, published before it signs; {"compromised": true} cuts all earlier ones off. Platform-admin. 409 no_new_key
        // where keys are mounted and there is no new one.
        routes.MapPost("/v1/keys/rotate", RotateAsync);
        // RFC 7517. May be cached for as long as a key is published before it signs; 304 for If-None-Match.
        routes.MapGet("/.well-known/jwks.json", Jwks).WithMetadata(OpenToAll.Instance);
    }

    private static async Task<IResult> ListAsync(HttpContext context, SigningKeys keys) =>
        Callers.RefusePlatform(Asserted.Of(context)) ?? Results.Json(new SigningKeyList(await keys.ListAsync(context.RequestAborted)), WireJson.Default.SigningKeyList);

    private static async Task<IResult> RotateAsync(HttpContext context, SigningKeys keys, AdminRenewal admin, ILogger<SigningKeys> log)
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
        Outcome<IReadOnlyList<SigningKeyRecord>> rotated;
        try
        {
            rotated = await keys.RotateAsync(caller, compromised, Doer.Of(caller, RequestId.Of(context)), context.RequestAborted);
        }
        catch (Exception fault) when (fault is StateCorruptException or StateUnwritableException)
        {
            // A mounted file that is no key, perhaps not yet, or a folder that takes no new one: where it is, is the operator's to know.
            log.LogError("The keys cannot be rotated: {Reason}", fault.Message);
            return new Refused(ErrorCode.NoNewKey, $"{(fault is StateCorruptException ? "A file in the folder of mounted keys cannot be used" : "The folder of the keys takes no new one")}; issuance's log says which and why. Nothing was changed.");
        }
        if (rotated.Refusal is { } notRotated)
            return notRotated;
        // The administrator's own token was cut off too, and nobody else could let them in again.
        if (compromised)
            await admin.LookAsync(CancellationToken.None);
        return Results.Json(new SigningKeyList(rotated.Value!), WireJson.Default.SigningKeyList);
    }

    private static IResult Jwks(HttpContext context, PlatformTrust trust)
    {
        var jwks = trust.TokenKeys.ToJwks();
        var etag = new EntityTagHeaderValue($"\"{Base64UrlText.Encode(SHA256.HashData(Encoding.UTF8.GetBytes(jwks)))}\"");
        context.Response.Headers.CacheControl = string.Create(CultureInfo.InvariantCulture, $"public, max-age={(int)SigningKeys.Lead.TotalSeconds}");
        context.Response.Headers.ETag = etag.ToString();
        // RFC 9110 section 13.1.2: the comparison is weak, and what cannot be read is as good as absent.
        return EntityTagHeaderValue.TryParseList(context.Request.Headers.IfNoneMatch, out var known) && known.Any(tag => tag.Compare(etag, useStrongComparison: false) || tag == EntityTagHeaderValue.Any)
            ? Results.StatusCode(StatusCodes.Status304NotModified)
            : Results.Text(jwks, "application/jwk-set+json");
    }
}
