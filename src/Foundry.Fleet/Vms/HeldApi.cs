using Foundry.Contracts;
using Foundry.ServiceDefaults;
using Foundry.ServiceDefaults.Trust;
using Foundry.Tokens;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;

namespace Foundry.Fleet.Vms;

/// <summary>
/// What gateways and issuance ask for themselves (docs/architecture.md, Quotas and Deleting a tenant). All answers take a turn, so every create is wholly
/// before them, and in them, or wholly behind them, and then compared with a later clock and the epoch they gave.
/// </summary>
internal static class HeldApi
{
    private const string Issuance = "issuance";

    public static void MapHeld(this IEndpointRouteBuilder endpoints)
    {
        endpoints.MapPost("/internal/v1/epochs", BeginEpochAsync);
        endpoints.MapPost("/internal/v1/seals", SealAsync);
        endpoints.MapRead("/internal/v1/vms", ListAsync);
    }

    /// <summary>
    /// <c>POST /internal/v1/seals</c> <see cref="Seal"/>, from issuance for itself, which is about to delete the tenant: creates
    /// for it are 409 tenant_deleting until the seal ends, also over a restart. 200 <see cref="HeldVms"/>; 403, 422, 503
    /// record_unavailable.
    /// </summary>
    private static async Task<IResult> SealAsync(HttpContext context, Registry registry)
    {
        if (!IsIssuance(Asserted.Of(context)))
            return NotForCallers;
        var (body, refusal) = await Problems.ReadBodyAsync(context, WireJson.Default.Seal);
        if (body is null)
            return refusal!;
        if (body.V != 1 || body.TenantId is null || !Bounds.TenantId.IsMatch(body.TenantId) || body.Seconds is < 0 or > Bounds.SealSecondsMax)
            return new Refused(ErrorCode.InvalidValue, $"v is 1, tenant_id a tenant ID, and seconds 0 to {Bounds.SealSecondsMax}.");
        var held = await registry.TakeTurnAsync(turn =>
        {
            var until = turn.Now.UnixMs + (body.Seconds * 1000);
            turn.State = turn.State.WithSeal(body.TenantId, until);
            turn.Write(FleetStore.PutSeal(body.TenantId, until, turn.Now.UnixMs));
            return Held(turn, body.TenantId);
        }, context.RequestAborted);
        return Results.Json(held, FleetJson.Held);
    }

    /// <summary>
    /// <c>POST /internal/v1/epochs</c> <see cref="BeginEpoch"/>, from a gateway for itself: ends the tenant's epoch and
    /// begins the next. 200 <see cref="HeldVms"/>; 403, 422, 503 record_unavailable.
    /// </summary>
    private static async Task<IResult> BeginEpochAsync(HttpContext context, Registry registry)
    {
        if (!IsGateway(Asserted.Of(context)))
            return NotForCallers;
        var (body, refusal) = await Problems.ReadBodyAsync(context, WireJson.Default.BeginEpoch);
        if (body is null)
            return refusal!;
        if (body.V != 1 || body.TenantId is null || !Bounds.TenantId.IsMatch(body.TenantId))
            return new Refused(ErrorCode.InvalidValue, "v is 1, and tenant_id a tenant ID.");
        var held = await registry.TakeTurnAsync(turn =>
        {
            var epoch = turn.State.Epochs.GetValueOrDefault(body.TenantId) + 1;
            turn.State = turn.State.WithEpoch(body.TenantId, epoch);
            turn.Write(FleetStore.PutEpoch(body.TenantId, epoch));
            return Held(turn, body.TenantId);
        }, context.RequestAborted);
        return Results.Json(held, FleetJson.Held);
    }

    /// <summary>
    /// <c>GET /internal/v1/vms?tenant_id=</c>, from a gateway or from issuance for itself: 200 <see cref="HeldVms"/>, of every
    /// tenant (and epoch 0) where none is named; 403.
    /// </summary>
    private static async Task<IResult> ListAsync(HttpContext context, Registry registry)
    {
        var sender = Asserted.Of(context);
        if (!IsGateway(sender) && !IsIssuance(sender))
            return NotForCallers;
        if (!Callers.TryTenantQuery(context, out var tenantId, out var refusal))
            return refusal!;
        return Results.Json(await registry.TakeTurnAsync(turn => Held(turn, tenantId), context.RequestAborted), FleetJson.Held);
    }

    private static HeldVms Held(Turn turn, string? tenantId)
    {
        var vms = tenantId is null ? turn.State.Vms.Values : turn.State.VmsOf(tenantId).Values;
        return new HeldVms(1, tenantId is null ? 0 : turn.State.Epochs.GetValueOrDefault(tenantId), turn.Now.UnixMs, [.. vms.Select(vm => vm.ToRecord(withReservation: true))]);
    }

    private static bool IsGateway(Asserted sender) => sender.IsOwn && sender.Kind == TrustedKey.Gateway;

    private static bool IsIssuance(Asserted sender) => sender is { IsOwn: true, Kind: TrustedKey.Service, Sender: Issuance };

    private static readonly Refused NotForCallers = new(ErrorCode.InsufficientScope, "Parts ask this for themselves; it is not for callers.");
}
