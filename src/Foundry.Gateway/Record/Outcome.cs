using System.Data.Common;
using System.Text.Json;
using Foundry.Contracts;
using Foundry.Gateway.Admit;
using Foundry.Gateway.Config;
using StackExchange.Redis;
using Yarp.ReverseProxy.Forwarder;

namespace Foundry.Gateway.Record;

/// <summary>
/// What became of a change (step 10): settles quota and record before the client hears of it. Three outcomes: done, not done, and
/// unknown; an unknown is held until the fleet's own list says, never guessed.
/// </summary>
internal sealed class Outcome(Recorder recorder, Quotas quotas, ILogger<Outcome> log)
{
    /// <summary>Settles a request that had an intent.</summary>
    /// <param name="exchange">The request, forwarded.</param>
    /// <param name="answer">The backend's answer, held back from the client.</param>
    /// <returns>What the client is told instead, or null where the answer stands.</returns>
    public async Task<Refusal?> SettleAsync(Exchange exchange, ReadOnlyMemory<byte> answer)
    {
        var intent = exchange.Intent!;
        var status = exchange.Context.Response.StatusCode;
        var fault = exchange.Context.GetForwarderErrorFeature();
        try
        {
            if (exchange.Route!.Quota == QuotaEffect.Destroy)
                return await SettleDestroyAsync(intent, status, fault);
            return await SettleCreateAsync(exchange, intent, status, fault, answer);
        }
        catch (Exception failure) when (failure is DbException or IOException)
        {
            log.LogError(failure, "The outcome of {Intent} could not be recorded; it is settled later", intent.Id);
            recorder.Leave(intent);
            return new Refusal(ErrorCode.RecordUnavailable, "What was done could not be recorded; ask for the resource to see whether it is there.") { RetryAfter = TimeSpan.FromSeconds(5) };
        }
    }

    private async Task<Refusal?> SettleCreateAsync(Exchange exchange, Intent intent, int status, IForwarderErrorFeature? fault, ReadOnlyMemory<byte> answer)
    {
        var reservation = exchange.Reservation!;
        if (fault is null && status is 200 or 201)
        {
            if (ReadVm(answer) is { } vm && (vm.TenantId is null || vm.TenantId == reservation.TenantId))
            {
                await recorder.DoneAsync(intent, vm.VmId, vm);
                await TryAsync(() => quotas.CommitAsync(reservation.TenantId, reservation.Id, vm.VmId, vm.RamAllocMb, Quotas.DiskOf(vm)));
                return null;
            }
            log.LogError("The fleet accepted {Intent} with an answer that names no VM of the tenant", intent.Id);
            await HoldAsync(reservation, intent);
            return new Refusal(ErrorCode.BackendError, "The fleet's answer could not be understood; what was made, if anything, shows in the list.");
        }
        if (WasNotDone(status, fault, answer))
        {
            await recorder.NotDoneAsync(intent);
            await TryAsync(() => quotas.ReleaseAsync(reservation.TenantId, reservation.Id));
            return null;
        }
        await HoldAsync(reservation, intent);
        return null;
    }

    private async Task<Refusal?> SettleDestroyAsync(Intent intent, int status, IForwarderErrorFeature? fault)
    {
        // 404 too: the VM was there when its owner was looked up, and IDs are never used again, so it is gone, whoever heard of it first.
        if (fault is null && status is 200 or 204 or 404)
        {
            await recorder.DoneAsync(intent, intent.VmId!, null);
            await TryAsync(() => quotas.DestroyAsync(intent.TenantId, intent.VmId!));
        }
        else if (fault is null && status is >= 400 and < 500)
            await recorder.NotDoneAsync(intent);
        else
            recorder.Leave(intent);
        return null;
    }

    private async Task HoldAsync(Reservation reservation, Intent intent)
    {
        await TryAsync(() => quotas.MarkUnknownAsync(reservation.TenantId, reservation.Id));
        recorder.Leave(intent);
    }

    /// <summary>A refusal by the fleet itself, or a connection that was never made.</summary>
    private static bool WasNotDone(int status, IForwarderErrorFeature? fault, ReadOnlyMemory<byte> answer)
    {
        if (fault is not null)
            return fault.Error == ForwarderError.NoAvailableDestinations
                || fault.Exception is HttpRequestException { HttpRequestError: HttpRequestError.ConnectionError or HttpRequestError.NameResolutionError };
        return status is >= 400 and < 500 || (status == 503 && ReadCode(answer) is "no_capacity" or "record_unavailable" or "not_ready");
    }

    private static string? ReadCode(ReadOnlyMemory<byte> answer)
    {
        try
        {
            return JsonSerializer.Deserialize(answer.Span, WireJson.Default.Problem)?.Code;
        }
        catch (JsonException)
        {
            return null;
        }
    }

    private static VmRecord? ReadVm(ReadOnlyMemory<byte> answer)
    {
        try
        {
            var vm = JsonSerializer.Deserialize(answer.Span, WireJson.Default.VmRecord);
            return vm is { VmId.Length: > 0 and <= 256, RamAllocMb: >= 0 } && vm.DiskGb is null or >= 0 ? vm : null;
        }
        catch (JsonException)
        {
            return null;
        }
    }

    /// <summary>Store away: the reservation stays, and the reconciler settles it from the fleet's list.</summary>
    private async Task TryAsync(Func<Task> transition)
    {
        try
        {
            await transition();
        }
        catch (Exception fault) when (fault is RedisException or TimeoutException)
        {
            log.LogWarning("A quota transition waits for the reconciler: {Reason}", fault.Message);
        }
    }
}
