using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Serialization.Metadata;
using Foundry.Contracts;

namespace Foundry.Fleet;

/// <summary>
/// How the fleet writes what it was told: as <see cref="WireJson"/>, but without escapes that JSON does not need. A
/// timestamp such as <c>2026-06-12T09:41:07+02:00</c> goes out byte for byte as it came in (CONTRACT section 6).
/// </summary>
internal static class FleetJson
{
    /// <summary>Bytes of the members of one VM that we do not know, together.</summary>
    public const int OthersBytesMax = 16 * 1024;
    /// <summary>How deep those members may be nested, so that whatever wraps them stays within every reader's depth.</summary>
    public const int OthersDepthMax = 16;

    private static readonly JsonSerializerOptions Options = new(WireJson.Default.Options) { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };
    private static readonly JsonDocumentOptions Shallow = new() { AllowDuplicateProperties = false, MaxDepth = OthersDepthMax };

    public static readonly JsonTypeInfo<VmRecord> Vm = Of<VmRecord>();
    public static readonly JsonTypeInfo<IReadOnlyList<VmRecord>> Vms = Of<IReadOnlyList<VmRecord>>();
    public static readonly JsonTypeInfo<NodeRecord> Node = Of<NodeRecord>();
    public static readonly JsonTypeInfo<IReadOnlyList<NodeRecord>> Nodes = Of<IReadOnlyList<NodeRecord>>();
    public static readonly JsonTypeInfo<FleetStatus> Fleet = Of<FleetStatus>();
    public static readonly JsonTypeInfo<PlacementAdvice> Advice = Of<PlacementAdvice>();
    public static readonly JsonTypeInfo<HeartbeatAnswer> Answer = Of<HeartbeatAnswer>();
    public static readonly JsonTypeInfo<HeldVms> Held = Of<HeldVms>();
    public static readonly JsonTypeInfo<IReadOnlyList<HostPort>> Ports = Of<IReadOnlyList<HostPort>>();
    public static readonly JsonTypeInfo<Dictionary<string, JsonElement>> Members = Of<Dictionary<string, JsonElement>>();

    // A member we do not know must not be taken for one we do, by us or by a reader that ignores case.
    private static readonly HashSet<string> VmMembers = new(Vm.Properties.Where(member => !member.IsExtensionData).Select(member => member.Name), StringComparer.OrdinalIgnoreCase);
    private static readonly HashSet<string> PortMembers = new(Of<HostPort>().Properties.Where(member => !member.IsExtensionData).Select(member => member.Name), StringComparer.OrdinalIgnoreCase);

    /// <summary>
    /// Takes over members that we do not know. Refused: names of ours in any spelling, too many bytes, too deep, and text
    /// that cannot be written again, which would otherwise fail every list it is part of.
    /// </summary>
    /// <param name="others">As they were read.</param>
    /// <param name="kept">Null where there are none.</param>
    public static bool TryKeep(Dictionary<string, JsonElement>? others, out Kept<Dictionary<string, JsonElement>>? kept)
    {
        kept = null;
        if (others is not { Count: > 0 })
            return true;
        if (others.Keys.Any(VmMembers.Contains) || Text(others, Members) is not { } text)
            return false;
        kept = new(text, others);
        return true;
    }

    /// <summary>Takes over a VM's ports, which may have members of their own that we do not know.</summary>
    /// <param name="ports">As they were read.</param>
    /// <param name="kept">The ports.</param>
    public static bool TryKeep(IReadOnlyList<HostPort> ports, out Kept<IReadOnlyList<HostPort>> kept)
    {
        kept = Kept.NoPorts;
        if (ports.Count == 0)
            return true;
        if (ports.Any(port => port.Others?.Keys.Any(PortMembers.Contains) == true) || Text(ports, Ports) is not { } text)
            return false;
        kept = new(text, ports);
        return true;
    }

    private static string? Text<T>(T value, JsonTypeInfo<T> type)
    {
        try
        {
            var bytes = JsonSerializer.SerializeToUtf8Bytes(value, type);
            if (bytes.Length > OthersBytesMax)
                return null;
            using var document = JsonDocument.Parse(bytes, Shallow);
            return System.Text.Encoding.UTF8.GetString(bytes);
        }
        catch (Exception fault) when (fault is JsonException or InvalidOperationException or ArgumentException)
        {
            return null; // Too deep, or a string that is not valid UTF-16 once unescaped.
        }
    }

    private static JsonTypeInfo<T> Of<T>() => (JsonTypeInfo<T>)Options.GetTypeInfo(typeof(T));
}

/// <summary>A value beside the JSON text it is stored as; two are equal when their texts are.</summary>
/// <typeparam name="T">The value's type.</typeparam>
/// <param name="Text">The JSON.</param>
/// <param name="Value">What it says.</param>
internal sealed record Kept<T>(string Text, T Value)
{
    public bool Equals(Kept<T>? other) => other is not null && Text == other.Text;

    public override int GetHashCode() => Text.GetHashCode(StringComparison.Ordinal);
}

internal static class Kept
{
    public static readonly Kept<IReadOnlyList<HostPort>> NoPorts = new("[]", []);

    /// <summary>Reads what <see cref="FleetJson"/> stored.</summary>
    /// <exception cref="JsonException">It is something else.</exception>
    public static Kept<T> Load<T>(string text, JsonTypeInfo<T> type) =>
        new(text, JsonSerializer.Deserialize(text, type) ?? throw new JsonException("null where a value is stored"));
}
