using System.Text.Json;
using Foundry.Contracts;
using Foundry.Ledger.Read;

namespace Foundry.Ledger.Append;

/// <summary>The types of events that only the platform's parts write (CONTRACT section 7).</summary>
internal static class ReservedEvents
{
    private const string TypeMember = "event_type";

    private static readonly string[] _prefixes = ["TENANT_", "TOKEN_", "KEY_", "NODE_", "VM_", "PAIRING_", "ROLE_", "ASSIGNMENT_"];

    private static readonly HashSet<string> _types = new(StringComparer.OrdinalIgnoreCase)
    {
        EventTypes.QuotaChanged, EventTypes.QuotaExceeded, EventTypes.AccessDenied, EventTypes.IsolationLeakBlocked,
        EventTypes.CrossTenantRead, EventTypes.ConfigReloaded, ReadRecorder.EventType,
    };

    /// <summary>
    /// Whether a payload would pass for the platform's. Case is ignored in the member's name and in its value, since some
    /// reader somewhere ignores it.
    /// </summary>
    public static bool Contains(JsonElement payload) =>
        payload.ValueKind == JsonValueKind.Object && payload.EnumerateObject().Any(member =>
            member.Value.ValueKind == JsonValueKind.String
            && member.Name.Equals(TypeMember, StringComparison.OrdinalIgnoreCase)
            && IsReserved(member.Value.GetString()!.Trim()));

    private static bool IsReserved(string type) =>
        _types.Contains(type) || _prefixes.Any(prefix => type.StartsWith(prefix, StringComparison.OrdinalIgnoreCase));
}
