using System.Collections.Concurrent;
using System.Data.Common;
using System.Text.Json;
using Dapper;
using Foundry.Contracts;
using Foundry.Gateway.Authenticate;
using Foundry.Storage;
using Foundry.Tokens;

namespace Foundry.Gateway.Record;

/// <summary>A decision to change something, durable before the backend hears of it.</summary>
/// <param name="Id">Its ID; for a create, the reservation's.</param>
/// <param name="EventType">The event that it becomes when the backend has done it.</param>
/// <param name="TenantId">Whose.</param>
/// <param name="VmId">The VM, where one is known beforehand.</param>
/// <param name="DeadlineMs">Until when the backend may do it, Unix milliseconds.</param>
/// <param name="Draft">The event, but for what only the backend's answer tells.</param>
internal sealed record Intent(string Id, string EventType, string TenantId, string? VmId, long DeadlineMs, PlatformEvent Draft);

/// <summary>
/// The gateway's record (CONTRACT sections 4 and 7): decisions and outcomes in <c>gateway.db</c>, from where the outbox brings events
/// to the ledger. An intent leaves the store only in the transaction that adds its event, or that knows there is none.
/// </summary>
internal sealed class Recorder(Database database, Outbox outbox, TimeProvider time)
{
    /// <summary>The schema of <c>gateway.db</c>.</summary>
    public static readonly IReadOnlyList<string> Migrations =
    [
        Outbox.Migration + """
        CREATE TABLE intents (
            id TEXT NOT NULL PRIMARY KEY,
            event_type TEXT NOT NULL,
            tenant_id TEXT NOT NULL,
            vm_id TEXT,
            deadline_ms BIGINT NOT NULL,
            draft TEXT NOT NULL
        );
        """,
    ];

    // Longer than a backend takes the request's assertion, its skew included: afterwards it can no longer happen.
    private static readonly TimeSpan DestroyDeadline = Assertion.Lifetime + TimeSpan.FromSeconds(15);
    private readonly ConcurrentDictionary<string, byte> _inFlight = new(StringComparer.Ordinal);

    /// <summary>Writes the decision down, before anything happens (step 7).</summary>
    /// <param name="exchange">The request, admitted.</param>
    /// <returns>Why it cannot go on, or null; the intent is in <see cref="Exchange.Intent"/>.</returns>
    public async ValueTask<Refusal?> DecisionAsync(Exchange exchange)
    {
        var route = exchange.Route!;
        var id = exchange.Reservation?.Id ?? Guid.CreateVersion7().ToString("N");
        try
        {
            if (exchange.IsSafe)
                return exchange.Caller.IsPlatformAdmin && (route.Filter is not null || route.Own is not null) ? await CrossTenantReadAsync(exchange) : null;
            // A node's report makes no record here, and what ends something has room of its own.
            if (!route.HeartbeatLane && !(HttpMethods.IsDelete(exchange.Method) ? outbox.HasRoomToEnd : outbox.HasRoom))
                return Unavailable;
            if (route.AuditEvent is not { } eventType)
                return null; // The backend keeps the record of what it stores.
            var vmId = route.Own is { } own ? Uri.UnescapeDataString(exchange.Parameters[own.Parameter]) : null;
            var deadline = exchange.Reservation?.Deadline ?? time.GetUtcNow() + DestroyDeadline;
            var intent = new Intent(id, eventType, exchange.TenantId!, vmId, deadline.ToUnixTimeMilliseconds(), NewEvent(exchange, eventType));
            _inFlight.TryAdd(id, 0);
            // Not ended by a client that hangs up: what was reserved goes on to its end.
            await database.WriteAsync(async transaction =>
            {
                await transaction.Connection!.ExecuteAsync("INSERT INTO intents (id, event_type, tenant_id, vm_id, deadline_ms, draft) VALUES (@Id, @EventType, @TenantId, @VmId, @DeadlineMs, @draft)",
                    new { intent.Id, intent.EventType, intent.TenantId, intent.VmId, intent.DeadlineMs, draft = JsonSerializer.Serialize(intent.Draft, WireJson.Default.PlatformEvent) }, transaction);
                return 0;
            }, CancellationToken.None);
            exchange.Intent = intent;
            return null;
        }
        catch (Exception fault) when (fault is DbException or IOException)
        {
            _inFlight.TryRemove(id, out _);
            return Unavailable;
        }
    }

    /// <summary>The backend did it: the event replaces the intent, in one transaction (step 10).</summary>
    /// <param name="intent">The decision.</param>
    /// <param name="vmId">The VM.</param>
    /// <param name="facts">What the backend's answer tells of it.</param>
    public async Task DoneAsync(Intent intent, string vmId, VmRecord? facts)
    {
        var members = new Dictionary<string, JsonElement>(intent.Draft.Others ?? [], StringComparer.Ordinal) { ["vm_id"] = Text(vmId) };
        if (facts is not null)
        {
            members["vm_type"] = Text(facts.VmType);
            members["ram_mb"] = Number(facts.RamAllocMb);
            members["disk_gb"] = Number(Admit.Quotas.DiskOf(facts));
            if (facts.NodeId is { } node)
                members["node_id"] = Text(node);
        }
        await EndAsync(intent.Id, transaction =>
            // The ID comes from the fact, so that whoever settles it, it is there once.
            Outbox.AddAsync(transaction, intent.TenantId, $"{intent.EventType}:{vmId}", intent.Draft with { Others = members }));
        outbox.Wake();
    }

    /// <summary>The backend did not do it, and never will: the intent ends without an event.</summary>
    /// <param name="intent">The decision.</param>
    public Task NotDoneAsync(Intent intent) => EndAsync(intent.Id, _ => Task.CompletedTask);

    /// <summary>Takes back a decision that was never acted on.</summary>
    /// <param name="intent">The decision.</param>
    /// <returns>Whether it is gone; else it stays, for <see cref="IntentSettler"/>.</returns>
    public async Task<bool> TryWithdrawAsync(Intent intent)
    {
        try
        {
            await NotDoneAsync(intent);
            return true;
        }
        catch (Exception fault) when (fault is DbException or IOException)
        {
            return false;
        }
    }

    /// <summary>Nobody knows: the intent stays, for <see cref="IntentSettler"/>.</summary>
    /// <param name="intent">The decision.</param>
    public void Leave(Intent intent) => _inFlight.TryRemove(intent.Id, out _);

    /// <summary>Intents that no request of this process is working on.</summary>
    /// <param name="cancellationToken">Ends the wait.</param>
    public async Task<IReadOnlyList<Intent>> LeftAsync(CancellationToken cancellationToken)
    {
        await using var connection = await database.OpenConnectionAsync(cancellationToken);
        var rows = await connection.QueryAsync<(string Id, string EventType, string TenantId, string? VmId, long DeadlineMs, string Draft)>(
            new CommandDefinition("SELECT id, event_type, tenant_id, vm_id, deadline_ms, draft FROM intents ORDER BY id LIMIT 1000", cancellationToken: cancellationToken));
        return [.. rows.Where(row => !_inFlight.ContainsKey(row.Id)).Select(row =>
            new Intent(row.Id, row.EventType, row.TenantId, row.VmId, row.DeadlineMs, JsonSerializer.Deserialize(row.Draft, WireJson.Default.PlatformEvent)!))];
    }

    /// <summary>Adds an event that no answer waits for.</summary>
    /// <param name="moduleId">The log.</param>
    /// <param name="payload">The event.</param>
    /// <returns>Whether it is durable.</returns>
    public async Task<bool> TryAddAsync(string moduleId, PlatformEvent payload)
    {
        if (!outbox.HasRoom)
            return false;
        try
        {
            await database.WriteAsync(async transaction =>
            {
                await Outbox.AddAsync(transaction, moduleId, Outbox.IdOf(payload), payload);
                return 0;
            }, CancellationToken.None);
            outbox.Wake();
            return true;
        }
        catch (Exception fault) when (fault is DbException or IOException)
        {
            return false;
        }
    }

    /// <summary>A backend sent what was not the caller's; the platform should know.</summary>
    /// <param name="exchange">The request.</param>
    /// <param name="elements">How many elements were kept back.</param>
    public void LeakBlocked(Exchange exchange, long elements)
    {
        var payload = NewEvent(exchange, EventTypes.IsolationLeakBlocked);
        payload = payload with { TenantId = null, Others = new(payload.Others!, StringComparer.Ordinal) { ["elements"] = Number(elements) } };
        _ = TryAddAsync(Logs.Platform, payload);
    }

    /// <summary>An event about this request.</summary>
    /// <param name="exchange">The request.</param>
    /// <param name="eventType">See <see cref="EventTypes"/>.</param>
    public PlatformEvent NewEvent(Exchange exchange, string eventType) => new()
    {
        EventType = eventType,
        EventId = Guid.CreateVersion7().ToString(),
        Time = time.GetUtcNow(),
        TenantId = exchange.TenantId,
        Actor = ActorOf(exchange.Caller),
        RequestId = exchange.RequestId,
        Others = new(StringComparer.Ordinal) { ["route"] = Text(exchange.Route?.RouteId ?? "") },
    };

    /// <summary>A string as an event's member.</summary>
    /// <param name="value">The string.</param>
    public static JsonElement Text(string value) => JsonSerializer.SerializeToElement(value, JsonSerializerOptions.Default);

    /// <summary>A number as an event's member.</summary>
    /// <param name="value">The number.</param>
    public static JsonElement Number(long value) => JsonSerializer.SerializeToElement(value, JsonSerializerOptions.Default);

    private async Task<Refusal?> CrossTenantReadAsync(Exchange exchange)
    {
        var payload = NewEvent(exchange, EventTypes.CrossTenantRead);
        if (!await TryAddAsync(Logs.Platform, payload))
            return Unavailable;
        return exchange.TenantId is not { } tenant || await TryAddAsync(tenant, payload) ? null : Unavailable;
    }

    private async Task EndAsync(string id, Func<DbTransaction, Task> add)
    {
        await database.WriteAsync(async transaction =>
        {
            // Whoever deletes the intent adds its event: two that settle it at once add it once.
            if (await transaction.Connection!.ExecuteAsync("DELETE FROM intents WHERE id = @id", new { id }, transaction) == 1)
                await add(transaction);
            return 0;
        }, CancellationToken.None);
        _inFlight.TryRemove(id, out _);
    }

    private static EventActor ActorOf(Caller caller) => new(caller.Token?.SubjectPubkey, caller.Token?.Jti, caller.Token is null ? "anonymous" : caller.Scope.Text);

    private static readonly Refusal Unavailable = new(ErrorCode.RecordUnavailable, "The record of this request cannot be kept at the moment, so nothing was done.") { RetryAfter = TimeSpan.FromSeconds(5) };
}
