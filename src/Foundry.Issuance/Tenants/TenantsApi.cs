using System.Globalization;
using System.Text.Json;
using Foundry.Contracts;
using Foundry.Issuance.Changes;
using Foundry.ServiceDefaults;
using Foundry.ServiceDefaults.Trust;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Microsoft.Net.Http.Headers;

namespace Foundry.Issuance.Tenants;

/// <summary>Tenants (CONTRACT section 3): platform administrators', but for reading one's own.</summary>
internal static class TenantsApi
{
    private const string List = "tenants";
    private const string Create = "/v1/tenants";

    public static void MapTenants(this IEndpointRouteBuilder routes)
    {
        // Create: 201 the record; 409 tenant_exists, also where it once did; 422 invalid_value names the member. A repeat with its
        // Idempotency-Key is the first answer; with another body 422 idempotency_key_reused.
        routes.MapPost(Create, CreateAsync);
        routes.MapGet("/v1/tenants", ListAsync);
        // One, with its ETag; a tenant's administrator reads its own.
        routes.MapGet("/v1/tenants/{id}", FindAsync);
        // Change what is named; max_ram_mb null lifts that limit. If-Match is honoured: 412 precondition_failed. 409 tenant_deleting.
        routes.MapPatch("/v1/tenants/{id}", ChangeAsync);
        // Delete: 204; 409 tenant_not_empty; 503 while the fleet cannot be asked. ?force=true: 202 the record, deleting; its VMs are
        // destroyed, then it is gone.
        routes.MapDelete("/v1/tenants/{id}", DeleteAsync);
    }

    private static async Task<IResult> CreateAsync(HttpContext context, TenantBook tenants)
    {
        var caller = Asserted.Of(context);
        if (Callers.RefusePlatform(caller) is { } refused)
            return refused;
        var (request, refusal) = await Problems.ReadBodyAsync(context, WireJson.Default.TenantRequest);
        if (request is null)
            return refusal!;
        if (TenantBounds.Refuse(request) is { } invalid)
            return invalid;
        var (key, malformed) = await IdempotencyKey.ReadAsync(context, Create);
        if (malformed is not null)
            return malformed;
        var created = await tenants.CreateAsync(caller, request, key, RequestId.Of(context), context.RequestAborted);
        if (created.Refusal is { } notCreated)
            return notCreated;
        var (tenant, isReplay) = created.Value;
        if (isReplay)
            context.Response.Headers[IdempotencyKey.ReplayedHeader] = "true";
        context.Response.Headers.Location = $"/v1/tenants/{tenant.TenantId}";
        return Answer(context, tenant, TenantBook.FirstVersion, StatusCodes.Status201Created);
    }

    private static async Task<IResult> ListAsync(HttpContext context, TenantBook tenants)
    {
        if (Callers.RefusePlatform(Asserted.Of(context)) is { } refused)
            return refused;
        if (!Queries.TryPage(context, List, out var after, out var limit, out var refusal))
            return refusal!;
        var rows = await tenants.ListAsync(after, limit, context.RequestAborted);
        return Results.Json(Queries.Page(List, [.. rows.Select(row => row.Shown())], limit, tenant => tenant.TenantId), WireJson.Default.PageTenant);
    }

    private static async Task<IResult> FindAsync(HttpContext context, TenantBook tenants, string id) =>
        Callers.RefuseTenant(Asserted.Of(context), id)
        ?? (await tenants.FindAsync(id, context.RequestAborted) is { } tenant ? Answer(context, tenant, StatusCodes.Status200OK) : Callers.NotFound);

    private static async Task<IResult> ChangeAsync(HttpContext context, TenantBook tenants, string id)
    {
        var caller = Asserted.Of(context);
        if (Callers.RefusePlatform(caller) is { } refused)
            return refused;
        if (!TryIfMatch(context, out var matches))
            return new Refused(ErrorCode.InvalidHeader, "If-Match: * or a list of ETags as they were given.");
        var (patch, refusal) = await Problems.ReadBodyAsync(context, WireJson.Default.TenantPatch);
        if (patch is null)
            return refusal!;
        if (TenantBounds.Refuse(patch) is { } invalid)
            return invalid;
        var changed = await tenants.ChangeAsync(caller, id, patch, await LiftsRamLimitAsync(context), matches, RequestId.Of(context), context.RequestAborted);
        return changed.Value is { } tenant ? Answer(context, tenant, StatusCodes.Status200OK) : changed.Refusal!;
    }

    private static async Task<IResult> DeleteAsync(HttpContext context, TenantBook tenants, string id)
    {
        var caller = Asserted.Of(context);
        if (Callers.RefusePlatform(caller) is { } refused)
            return refused;
        if (!Queries.TryFlag(context, "force", out var force, out var refusal))
            return refusal!;
        if (force)
        {
            var begun = await tenants.BeginDeletionAsync(caller, id, RequestId.Of(context), context.RequestAborted);
            return begun.Value is { } tenant ? Answer(context, tenant, StatusCodes.Status202Accepted) : begun.Refusal!;
        }
        var deleted = await tenants.DeleteAsync(caller, id, RequestId.Of(context), context.RequestAborted);
        return deleted.Refusal ?? Results.NoContent();
    }

    private static IResult Answer(HttpContext context, TenantRow tenant, int status) => Answer(context, tenant.Shown(), tenant.Version, status);

    private static IResult Answer(HttpContext context, Tenant tenant, long version, int status)
    {
        context.Response.Headers.ETag = ETagOf(version);
        return Results.Json(tenant, WireJson.Default.Tenant, statusCode: status);
    }

    private static bool TryIfMatch(HttpContext context, out Func<long, bool> matches)
    {
        matches = _ => true;
        var header = context.Request.Headers.IfMatch;
        if (header.Count == 0)
            return true;
        if (!EntityTagHeaderValue.TryParseStrictList(header, out var tags))
            return false;
        // RFC 9110 section 13.1.1: the comparison is strong, so a weak tag matches nothing.
        matches = version => tags.Any(tag => tag == EntityTagHeaderValue.Any || (!tag.IsWeak && tag.Tag == ETagOf(version)));
        return true;
    }

    // RFC 7396: null removes a member. Of those that can be changed only this one may be absent.
    private static async Task<bool> LiftsRamLimitAsync(HttpContext context)
    {
        context.Request.Body.Position = 0;
        using var body = await JsonDocument.ParseAsync(context.Request.Body, cancellationToken: context.RequestAborted);
        return body.RootElement.TryGetProperty("max_ram_mb", out var value) && value.ValueKind == JsonValueKind.Null;
    }

    private static string ETagOf(long version) => string.Create(CultureInfo.InvariantCulture, $"\"{version}\"");
}
