using Foundry.Contracts;
using Foundry.ServiceDefaults;
using Foundry.ServiceDefaults.Trust;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;

namespace Foundry.Issuance.Trust;

/// <summary>The platform's parts, for its administrators (docs/decisions/0012): who is believed, who may join, who no longer is.</summary>
internal static class PartsApi
{
    private const string List = "parts";

    public static void MapParts(this IEndpointRouteBuilder routes)
    {
        // Who is believed, by name, in pages. Platform-admin.
        routes.MapGet("/v1/parts", ListAsync);
        // A one-use code for a part of this kind and name: 201, the only time that it is shown; 422 invalid_value. Platform-admin.
        routes.MapPost("/v1/parts/codes", MakeCodeAsync);
        // Refused everywhere within a second, for good: 204, again 204; unknown 404; issuance's own 422. Platform-admin.
        routes.MapDelete("/v1/parts/{kid}", RemoveAsync);
    }

    private static async Task<IResult> ListAsync(HttpContext context, PartBook parts)
    {
        if (Callers.RefusePlatform(Asserted.Of(context)) is { } refused)
            return refused;
        if (!Queries.TryPage(context, List, out var after, out var limit, out var refusal))
            return refusal!;
        var page = Queries.Page(List, await parts.ListAsync(after, limit, context.RequestAborted), limit, part => $"{part.Name}/{part.Kid}");
        return Results.Json(new PartList(page.Items, page.NextCursor), WireJson.Default.PartList);
    }

    private static async Task<IResult> MakeCodeAsync(HttpContext context, PartBook parts)
    {
        var caller = Asserted.Of(context);
        if (Callers.RefusePlatform(caller) is { } refused)
            return refused;
        var (request, refusal) = await Problems.ReadBodyAsync(context, WireJson.Default.PartCodeRequest);
        if (request is null)
            return refusal!;
        var made = await parts.MakeCodeAsync(caller, request, context.RequestAborted);
        if (made.Value is not { } code)
            return made.Refusal!;
        context.Response.Headers.CacheControl = "no-store";
        return Results.Json(code, WireJson.Default.PartCode, statusCode: StatusCodes.Status201Created);
    }

    private static async Task<IResult> RemoveAsync(HttpContext context, PartBook parts, string kid)
    {
        var caller = Asserted.Of(context);
        return Callers.RefusePlatform(caller)
            ?? (await parts.RemoveAsync(caller, kid, RequestId.Of(context), context.RequestAborted)).Refusal
            ?? Results.NoContent();
    }
}
