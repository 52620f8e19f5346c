using Foundry.Contracts;
using Foundry.Fleet.Nodes;
using Foundry.Fleet.Placement;
using Foundry.ServiceDefaults;
using Foundry.ServiceDefaults.Trust;
using Foundry.Tokens;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;

namespace Foundry.Fleet.Vms;

/// <summary>VMs (CONTRACT section 6).</summary>
internal static class VmsApi
{
    private const string IdempotencyKeyHeader = "Idempotency-Key";
    private const string ReplayedHeader = "Idempotency-Replayed";

    public static void MapVms(this IEndpointRouteBuilder endpoints)
    {
        endpoints.MapPost("/v1/vms", CreateAsync);
        endpoints.MapRead("/v1/vms", List);
        endpoints.MapRead("/v1/vms/{id}", Get);
        endpoints.MapDelete("/v1/vms/{id}", DestroyAsync);
    }

    /// <summary>
    /// <c>POST /v1/vms</c> <see cref="CreateVm"/>, to 1 MiB: 201 <see cref="VmRecord"/> in state Provisioning. A repeat of
    /// the reservation or of the Idempotency-Key gets the first VM. 400 invalid_header, 403 tenant_mismatch, 409
    /// stale_reservation, 413, 422 invalid_value, tenant_required or idempotency_key_reused, 503 no_capacity or
    /// record_unavailable: in all of these nothing was made. 500: nobody knows.
    /// </summary>
    private static async Task<IResult> CreateAsync(HttpContext context, Registry registry)
    {
        var caller = Asserted.Of(context);
        if (caller.IsOwn || caller.Scope == Scope.FleetNode)
            return new Refused(ErrorCode.InsufficientScope, "VMs are made for a tenant's token, or a platform administrator's.");
        if (context.Request.Body.Length > Bounds.BodyBytesMax)
            return new Refused(ErrorCode.BodyTooLarge, "A create is at most 1 MiB.");
        var (body, refusal) = await Problems.ReadBodyAsync(context, WireJson.Default.CreateVm);
        if (body is null)
            return refusal!;
        if (!Callers.TryTenantQuery(context, out var named, out refusal))
            return refusal!;
        var (tenantId, mismatch) = caller.TenantOf(named, body.TenantId);
        if (tenantId is null)
            return mismatch!;
        if (Creation.Wrong(body) is { } wrong)
            return wrong;
        if (!FleetJson.TryKeep(body.Others, out var asked))
            return new Refused(ErrorCode.InvalidValue, $"The body {Beat.OthersRule}.");
        if (!Callers.TryHeader(context, FoundryHeaders.Reservation, out var reservationText))
            return new Refused(ErrorCode.InvalidHeader, "X-Foundry-Reservation is there twice.");
        Reservation? reservation = null;
        if (reservationText is not null && !Creation.TryReservation(reservationText, out reservation))
            return new Refused(ErrorCode.InvalidHeader, "X-Foundry-Reservation is not <id>;epoch=<n>;deadline=<unix ms>.");
        if (!Callers.TryHeader(context, IdempotencyKeyHeader, out var key) || (key is not null && !Creation.IsKey(key)))
            return new Refused(ErrorCode.InvalidHeader, "Idempotency-Key is 1 to 128 visible characters, once.");

        var create = new Create(new Vm
        {
            VmId = Creation.NewVmId(),
            TenantId = tenantId,
            Node = default,
            Type = body.VmType!,
            RamMb = body.RamMb!.Value,
            VcpuCount = body.VcpuCount!.Value,
            DiskGb = body.DiskGb ?? CreateVm.DefaultDiskGb(body.RamMb.Value),
            CreatedAt = 0,
            Asked = asked,
            Reservation = reservation,
            Key = key is null ? null : new IdempotencyKey(tenantId, caller.SubjectPubkey ?? "", key),
            BodyHash = key is null ? null : await BodyHashAsync(context),
        }, new Wish(tenantId, body.RamMb.Value, body.PreferKvm == true, body.PreferredNode, KnowsShared: caller.IsPlatformAdmin));
        var created = await registry.TakeTurnAsync(turn => Creation.Create(turn, create), context.RequestAborted);
        if (created.Vm is not { } vm)
            return created.Refusal!;
        if (created.IsReplay)
            context.Response.Headers[ReplayedHeader] = "true";
        context.Response.Headers.Location = $"/v1/vms/{vm.VmId}";
        return Results.Json(vm.ToRecord(toTenant: !caller.SeesAll()), FleetJson.Vm, statusCode: StatusCodes.Status201Created);
    }

    private static async Task<string> BodyHashAsync(HttpContext context)
    {
        // The gate has bound these bytes to the assertion, and so holds them all in memory.
        context.Request.Body.Position = 0;
        var bytes = new byte[context.Request.Body.Length];
        await context.Request.Body.ReadExactlyAsync(bytes, context.RequestAborted);
        return Assertion.BodyHash(bytes);
    }

    /// <summary>
    /// <c>GET /v1/vms?tenant_id=</c>: 200, an array of <see cref="VmRecord"/>, of every tenant where none is named. That is
    /// the wire format; it is the gateway that names the tenant, and filters what comes.
    /// </summary>
    private static IResult List(HttpContext context, Registry registry)
    {
        if (!Callers.TryTenantQuery(context, out var tenantId, out var refusal))
            return refusal!;
        var toTenant = !Asserted.Of(context).SeesAll();
        var vms = tenantId is null ? registry.Current.Vms.Values : registry.Current.VmsOf(tenantId).Values;
        return Results.Json([.. vms.Select(vm => vm.ToRecord(toTenant))], FleetJson.Vms);
    }

    /// <summary><c>GET /v1/vms/{id}</c>: 200 <see cref="VmRecord"/>; 404 where it is not there or not the caller's.</summary>
    private static IResult Get(HttpContext context, string id, Registry registry)
    {
        var caller = Asserted.Of(context);
        return registry.Current.Vms.GetValueOrDefault(id) is { } vm && caller.Sees(vm.TenantId)
            ? Results.Json(vm.ToRecord(toTenant: !caller.SeesAll()), FleetJson.Vm)
            : NoSuchVm;
    }

    /// <summary>
    /// <c>DELETE /v1/vms/{id}</c>: 204; the VM is out of every list, and its node is no longer told to run it. 404 where it
    /// is not there (any more) or not the caller's.
    /// </summary>
    private static async Task<IResult> DestroyAsync(HttpContext context, string id, Registry registry)
    {
        var caller = Asserted.Of(context);
        return await registry.TakeTurnAsync<IResult>(turn =>
        {
            if (turn.State.Vms.GetValueOrDefault(id) is not { } vm || !caller.Sees(vm.TenantId))
                return NoSuchVm;
            turn.State = turn.State.Without(vm);
            turn.Write(FleetStore.Destroy(id, turn.Now.UnixMs));
            // For turns of the same transaction: a report of it is one of a destroyed VM.
            turn.Looked.Destroyed.Add(id);
            return Results.NoContent();
        }, context.RequestAborted);
    }

    private static readonly Refused NoSuchVm = new(ErrorCode.NotFound, "No such VM.");
}
