using System.Globalization;
using System.Text;

namespace Foundry.Benchmarks.Ledger;

/// <summary>
/// The entries of the measurements: events as gateways write them, some 420 bytes and six string fields that the index takes. Every
/// 1,000th event of the log has the rare type, and each has an ID of its own.
/// </summary>
internal static class Events
{
    public const string FrequentType = "VM_CREATED";
    public const string RareType = "QUOTA_EXCEEDED";
    public const int RareEvery = 1000;

    private const string Template =
        """{"event_type":"@@@@@@@@@@@@@@","event_id":"0199e7a0-1111-7222-8333-############","time":"2026-01-02T03:04:05.678Z","tenant_id":"bench","actor":{"subject_pubkey":"cGxhY2Vob2xkZXItb2YtdGhpcnR5LXR3by1ieXRlcyE","token_id":"0199e7a0-4444-7555-8666-777777777777","scope":"input"},"request_id":"req-############","vm_id":"vm-############","region":"eu-1","size":{"vcpus":2,"memory_mb":4096,"storage_gb":20}}""";

    private static readonly byte[] _frequent = Bytes(FrequentType);
    private static readonly byte[] _rare = Bytes(RareType);

    /// <summary>The payload ID of an event, by its number.</summary>
    public static string IdOf(long number) => string.Create(CultureInfo.InvariantCulture, $"VM_CREATED:vm-{number:000000000000}");

    /// <summary>The VM's name, the one field by which a single entry is asked for.</summary>
    public static string VmOf(long number) => string.Create(CultureInfo.InvariantCulture, $"vm-{number:000000000000}");

    /// <summary>The payload of an event.</summary>
    public static byte[] PayloadOf(long number)
    {
        var payload = (byte[])(number % RareEvery == 0 ? _rare : _frequent).Clone();
        Span<byte> digits = stackalloc byte[12];
        number.TryFormat(digits, out _, "000000000000", CultureInfo.InvariantCulture);
        for (var at = payload.AsSpan().IndexOf((byte)'#'); at >= 0; at = payload.AsSpan().IndexOf((byte)'#'))
            digits.CopyTo(payload.AsSpan(at));
        return payload;
    }

    private static byte[] Bytes(string type) => Encoding.UTF8.GetBytes(Template.Replace("@@@@@@@@@@@@@@", type, StringComparison.Ordinal));
}
