using System.Text;
using System.Text.RegularExpressions;

namespace Foundry.Fleet;

/// <summary>What the fleet takes, in one place: each input has a bound (CONTRACT section 6).</summary>
internal static partial class Bounds
{
    public const int BodyBytesMax = 1024 * 1024;
    public const int TextCharsMax = 256;
    public const int VmsPerNodeMax = 10_000;
    public const int NodesPerTenantMax = 10_000;
    public const int PortsPerVmMax = 1_000;
    public const long RamMbMax = 16_777_216;
    public const int VcpuMax = 1024;
    public const long DiskGbMax = 1_000_000;
    public const long NodeRamMbMax = 1_073_741_824;
    public const int NodeCoresMax = 1_000_000;
    public const double LoadPctMax = 1_000_000_000;
    /// <summary>The largest whole number that every JSON reader has exactly.</summary>
    public const long EpochMax = 9_007_199_254_740_991;

    /// <summary>The longest seal: a day.</summary>
    public const long SealSecondsMax = 86_400;

    /// <summary>Free text: bounded, printable, and well-formed, so that every store can keep it.</summary>
    public static bool IsText(string? text) =>
        text is { Length: > 0 and <= TextCharsMax } && !text.Any(char.IsControl) && !text.EnumerateRunes().Contains(Rune.ReplacementChar);

    /// <summary>A name that is a path segment and needs no escape in one.</summary>
    [GeneratedRegex(@"^[A-Za-z0-9][A-Za-z0-9._:-]{0,255}\z")]
    public static partial Regex Name { get; }

    [GeneratedRegex(@"^[a-z][a-z0-9-]{1,61}[a-z0-9]\z")]
    public static partial Regex TenantId { get; }

    [GeneratedRegex(@"^[A-Za-z][A-Za-z0-9._-]{0,63}\z")]
    public static partial Regex VmType { get; }

    /// <summary>RFC 3339 section 5.6, with up to nine fractional digits.</summary>
    [GeneratedRegex(@"^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])[Tt]([01][0-9]|2[0-3]):[0-5][0-9]:([0-5][0-9]|60)(\.[0-9]{1,9})?([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])\z")]
    public static partial Regex Timestamp { get; }

    /// <summary>A reservation's ID.</summary>
    [GeneratedRegex(@"^[A-Za-z0-9._-]{1,128}\z")]
    public static partial Regex ReservationId { get; }
}
