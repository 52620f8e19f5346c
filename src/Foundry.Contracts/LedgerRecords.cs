using System.Text.Json;
using System.Text.Json.Serialization;

namespace Foundry.Contracts;

/// <summary>Body of <c>POST /v1/append</c> (CONTRACT section 7).</summary>
/// <param name="PayloadId">Names the payload among its writer's; a repeat with the same bytes gets the same cursor.</param>
/// <param name="Payload">A JSON object.</param>
[JsonUnmappedMemberHandling(JsonUnmappedMemberHandling.Disallow)]
public sealed record AppendRequest(string? PayloadId, JsonElement Payload);

/// <summary>Answer of <c>POST /v1/append</c>: the entry is durable.</summary>
/// <param name="Cursor">Leaf index + 1.</param>
/// <param name="PayloadId">As asked.</param>
public sealed record Appended(long Cursor, string PayloadId);

/// <summary>Answer of <c>POST /internal/v1/append</c> (docs/architecture.md, Recording).</summary>
/// <param name="Taken">So many lines, from the first on, are in the log.</param>
/// <param name="Refused">Why the next line, and what follows it, is not; null where there is none.</param>
public sealed record AppendedLines(int Taken, Problem? Refused);

/// <summary>Answer of <c>GET /v1/entries</c>.</summary>
/// <param name="ModuleId">The log.</param>
/// <param name="NextCursor">Give it back as <c>since</c>.</param>
/// <param name="Entries">In order.</param>
public sealed record EntriesPage(string ModuleId, long NextCursor, IReadOnlyList<LedgerEntry> Entries);

/// <summary>An entry of a log.</summary>
/// <param name="Cursor">Leaf index + 1.</param>
/// <param name="PayloadId">As its writer named it.</param>
/// <param name="Payload">As its writer sent it.</param>
public sealed record LedgerEntry(long Cursor, string PayloadId, JsonElement Payload);

/// <summary>Answer of <c>GET /v1/contract</c>.</summary>
/// <param name="Version">Version of the leaf format.</param>
/// <param name="ModuleId">The log.</param>
/// <param name="Origin">The checkpoint's origin line.</param>
/// <param name="Vkey">The signed-note verifier key (c2sp.org/signed-note).</param>
/// <param name="PreviousVkey">The key before it, while that one signs too; each log announces the change (docs/formats/ledger.md, Keys).</param>
/// <param name="PreviousVkeyUntil">Until when it does.</param>
/// <param name="Witnesses">The verifier keys of the witnesses asked to cosign (c2sp.org/tlog-cosignature); absent where there are none.</param>
/// <param name="WitnessQuorum">As many of them make a checkpoint witnessed.</param>
public sealed record LedgerContract(int Version, string ModuleId, string Origin, string Vkey,
    string? PreviousVkey = null, DateTimeOffset? PreviousVkeyUntil = null, IReadOnlyList<string>? Witnesses = null, int? WitnessQuorum = null);

/// <summary>The log of the platform itself; no tenant ID has a dot.</summary>
public static class Logs
{
    /// <summary>The platform's log.</summary>
    public const string Platform = "foundry.platform";
}

/// <summary>Who did what an event says.</summary>
/// <param name="SubjectPubkey">The caller's key; absent where a part acts by itself.</param>
/// <param name="TokenId">The token used.</param>
/// <param name="Scope">Its scope, or <c>service:&lt;part&gt;</c> where a part acts by itself.</param>
/// <param name="OnBehalfOf">Token ID of the user that a service acted for.</param>
public sealed record EventActor(string? SubjectPubkey, string? TokenId, string Scope, string? OnBehalfOf = null);

/// <summary>The platform's events (CONTRACT section 7).</summary>
public static class EventTypes
{
#pragma warning disable CS1591 // The names say it; CONTRACT section 7 lists them.
    public const string TenantCreated = "TENANT_CREATED";
    public const string TenantUpdated = "TENANT_UPDATED";
    public const string QuotaChanged = "QUOTA_CHANGED";
    public const string TenantSuspended = "TENANT_SUSPENDED";
    public const string TenantDeleted = "TENANT_DELETED";
    public const string TokenIssued = "TOKEN_ISSUED";
    public const string TokenRevoked = "TOKEN_REVOKED";
    public const string KeyRotated = "KEY_ROTATED";
    public const string NodeEnrolled = "NODE_ENROLLED";
    public const string NodeLost = "NODE_LOST";
    public const string VmCreated = "VM_CREATED";
    public const string VmDestroyed = "VM_DESTROYED";
    public const string QuotaExceeded = "QUOTA_EXCEEDED";
    public const string AccessDenied = "ACCESS_DENIED";
    public const string IsolationLeakBlocked = "ISOLATION_LEAK_BLOCKED";
    public const string CrossTenantRead = "CROSS_TENANT_READ";
    public const string PairingCreated = "PAIRING_CREATED";
    public const string PairingRevoked = "PAIRING_REVOKED";
    public const string RoleChanged = "ROLE_CHANGED";
    public const string AssignmentChanged = "ASSIGNMENT_CHANGED";
    public const string ConfigReloaded = "CONFIG_RELOADED";
#pragma warning restore CS1591
}

/// <summary>An event's payload: the members every event has, and those of its type in <see cref="Others"/>.</summary>
public sealed record PlatformEvent
{
    /// <summary>One of <see cref="EventTypes"/>.</summary>
    public required string EventType { get; init; }
    /// <summary>UUIDv7.</summary>
    public required string EventId { get; init; }
    /// <summary>When it happened.</summary>
    public required DateTimeOffset Time { get; init; }
    /// <summary>Whose it is; absent where it is only the platform's.</summary>
    public string? TenantId { get; init; }
    /// <summary>Who did it.</summary>
    public required EventActor Actor { get; init; }
    /// <summary>The request that caused it, where one did.</summary>
    public string? RequestId { get; init; }
    /// <summary>Members of this type of event.</summary>
    [JsonExtensionData]
    public Dictionary<string, JsonElement>? Others { get; set; }
}
