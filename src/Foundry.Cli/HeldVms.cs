using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using System.Text.Json;

namespace Foundry.Cli;

/// <summary>
/// The VMs a node has been given. The fleet's own list is the only thing that adds or removes one: an answer without the
/// list, or with one that makes no sense, changes nothing.
/// </summary>
internal sealed class HeldVms
{
    /// <summary>VMs on one node, as a heartbeat may carry (CONTRACT section 6).</summary>
    public const int VmsMax = 10_000;

    private Dictionary<string, Held> _held = new(StringComparer.Ordinal);

    /// <summary>How many.</summary>
    public int Count => _held.Count;

    /// <summary>Takes what the fleet assigns.</summary>
    /// <param name="answer">A heartbeat's answer.</param>
    /// <param name="now">When VMs that are new start.</param>
    /// <param name="change">What came and went.</param>
    /// <param name="complaint">Why the list was left alone.</param>
    /// <returns>False where there is a list but no sense in it.</returns>
    public bool TryAssign(JsonElement answer, DateTimeOffset now, out (IReadOnlyList<string> Taken, IReadOnlyList<string> Dropped) change, [NotNullWhen(false)] out string? complaint)
    {
        change = ([], []);
        complaint = null;
        // Absent is not empty.
        if (!answer.TryGetProperty("assigned_vms", out var list) || list.ValueKind == JsonValueKind.Null)
            return true;
        if (list.ValueKind != JsonValueKind.Array || list.GetArrayLength() > VmsMax)
        {
            complaint = $"assigned_vms is not a list of at most {VmsMax} VMs";
            return false;
        }
        var assigned = new Dictionary<string, Held>(StringComparer.Ordinal);
        foreach (var vm in list.EnumerateArray())
        {
            var id = vm.ValueKind == JsonValueKind.Object && vm.TryGetProperty("vm_id", out var named) && named.ValueKind == JsonValueKind.String ? named.GetString() : null;
            if (id is not { Length: > 0 } || !assigned.TryAdd(id, new Held(vm.Clone(), StartOf(id, vm, now))))
            {
                complaint = "assigned_vms holds a VM without an ID of its own";
                return false;
            }
        }
        change = ([.. assigned.Keys.Where(id => !_held.ContainsKey(id))], [.. _held.Keys.Where(id => !assigned.ContainsKey(id))]);
        _held = assigned;
        return true;
    }

    /// <summary>Writes them as running; every other member goes back as it came.</summary>
    public void WriteTo(Utf8JsonWriter writer)
    {
        writer.WriteStartArray();
        foreach (var (record, startedAt) in _held.Values)
        {
            writer.WriteStartObject();
            foreach (var member in record.EnumerateObject().Where(member => member.Name is not ("state" or "started_at")))
            {
                writer.WritePropertyName(member.Name);
                writer.WriteRawValue(member.Value.GetRawText());
            }
            writer.WriteString("state", "Running");
            writer.WriteString("started_at", startedAt);
            writer.WriteEndObject();
        }
        writer.WriteEndArray();
    }

    /// <summary>RFC 3339 with nine fractional digits; the clock gives seven, the others are zero.</summary>
    public static string Nanoseconds(DateTimeOffset time) => time.UtcDateTime.ToString("yyyy-MM-dd'T'HH:mm:ss.fffffff'00Z'", CultureInfo.InvariantCulture);

    // A VM starts once: our own account first, then the fleet's (we may be a new process beside running VMs), then now.
    private string StartOf(string id, JsonElement vm, DateTimeOffset now) =>
        _held.TryGetValue(id, out var held) ? held.StartedAt
        : vm.TryGetProperty("started_at", out var started) && started.ValueKind == JsonValueKind.String && started.GetString() is { Length: > 0 } known ? known
        : Nanoseconds(now);

    private sealed record Held(JsonElement Record, string StartedAt);
}
