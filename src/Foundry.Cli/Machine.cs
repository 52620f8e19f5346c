using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using System.Net;
using System.Net.NetworkInformation;
using System.Net.Sockets;

namespace Foundry.Cli;

/// <summary>What a heartbeat says of the machine it comes from.</summary>
/// <param name="RamTotalMb">RAM it has, MiB.</param>
/// <param name="RamUsedMb">RAM that could not be had for a new VM, MiB.</param>
/// <param name="CpuCores">Processors.</param>
/// <param name="CpuLoadPct">Load over the last minute, percent of all processors; 100 also where work queues.</param>
/// <param name="KvmAvailable">Whether the KVM device can be opened.</param>
/// <param name="BootId">Changes at every boot.</param>
internal sealed record MachineReading(long RamTotalMb, long RamUsedMb, int CpuCores, double CpuLoadPct, bool KvmAvailable, string BootId);

/// <summary>Reads the machine from the kernel's own files (proc(5)).</summary>
/// <param name="procRoot"><c>/proc</c>.</param>
/// <param name="kvmDevice"><c>/dev/kvm</c>.</param>
/// <param name="ramTotalMb">RAM to offer in place of all there is, MiB.</param>
internal sealed class Machine(string procRoot, string kvmDevice, long? ramTotalMb)
{
    /// <summary>Bytes read of a kernel file: <c>cpuinfo</c> of a machine with hundreds of processors is the longest.</summary>
    private const int FileCharsMax = 4 * 1024 * 1024;

    // For where the kernel tells no boot ID: one that holds as long as this process.
    private readonly string _ownBootId = Guid.NewGuid().ToString();

    /// <summary>Reads it now.</summary>
    public bool TryRead([NotNullWhen(true)] out MachineReading? reading, [NotNullWhen(false)] out Complaint? complaint)
    {
        reading = null;
        complaint = null;
        var memory = Text("meminfo");
        var total = Kibibytes(memory, "MemTotal:") / 1024;
        var available = (Kibibytes(memory, "MemAvailable:") ?? Kibibytes(memory, "MemFree:")) / 1024;
        if (total is null && ramTotalMb is null)
        {
            complaint = new Complaint($"{Path.Combine(procRoot, "meminfo")} does not say how much RAM there is", "say it with --ram-total-mb");
            return false;
        }
        var offered = ramTotalMb ?? total!.Value;
        var used = Math.Clamp((total - available) ?? 0, 0, offered);
        var cores = Text("cpuinfo")?.Split('\n').Count(line => line.StartsWith("processor", StringComparison.Ordinal)) is > 0 and var counted
            ? counted
            : Environment.ProcessorCount;
        var load = Text("loadavg")?.Split(' ') is [var lastMinute, ..] && double.TryParse(lastMinute, NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out var parsed)
            ? Math.Round(Math.Min(100, 100 * parsed / cores), 1)
            : 0;
        var boot = Text("sys/kernel/random/boot_id")?.Trim() is { Length: > 0 and <= 64 } bootId ? bootId : _ownBootId;
        reading = new MachineReading(offered, used, cores, load, HasKvm(), boot);
        return true;
    }

    /// <summary>The first IPv4 address that others can reach this machine by, else loopback's.</summary>
    public static string FirstAddress()
    {
        try
        {
            return NetworkInterface.GetAllNetworkInterfaces()
                .Where(card => card.OperationalStatus == OperationalStatus.Up && card.NetworkInterfaceType != NetworkInterfaceType.Loopback)
                .SelectMany(card => card.GetIPProperties().UnicastAddresses)
                .Select(address => address.Address)
                .FirstOrDefault(address => address.AddressFamily == AddressFamily.InterNetwork && !IPAddress.IsLoopback(address))
                ?.ToString() ?? "127.0.0.1";
        }
        catch (NetworkInformationException)
        {
            return "127.0.0.1";
        }
    }

    private string? Text(string name)
    {
        try
        {
            // The kernel's files have no length to go by.
            using var reader = new StreamReader(Path.Combine(procRoot, name));
            var characters = new char[FileCharsMax];
            return new string(characters, 0, reader.ReadBlock(characters));
        }
        catch (Exception fault) when (fault is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }

    private static long? Kibibytes(string? memory, string name)
    {
        var line = memory?.Split('\n').FirstOrDefault(line => line.StartsWith(name, StringComparison.Ordinal));
        return line?[name.Length..].Split(' ', StringSplitOptions.RemoveEmptyEntries) is [var number, "kB"]
            && long.TryParse(number, NumberStyles.None, CultureInfo.InvariantCulture, out var kibibytes) ? kibibytes : null;
    }

    private bool HasKvm()
    {
        try
        {
            // It may be there and be somebody else's: only opening it tells.
            using var device = new FileStream(kvmDevice, FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite, bufferSize: 0);
            return true;
        }
        catch (Exception fault) when (fault is IOException or UnauthorizedAccessException or NotSupportedException)
        {
            return false;
        }
    }
}
