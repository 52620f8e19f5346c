using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using System.Security.Cryptography;
using Foundry.Contracts;
using Foundry.Fleet.Nodes;
using Foundry.Fleet.Placement;
using Foundry.ServiceDefaults;

namespace Foundry.Fleet.Vms;

/// <summary>A create within our bounds: what is wanted, for whom, and what makes its repeat the same.</summary>
/// <param name="Vm">The VM as it will be, but for its node.</param>
/// <param name="Wish">Where it may go.</param>
internal sealed record Create(Vm Vm, Wish Wish);

/// <summary>What a create came to.</summary>
/// <param name="Vm">The VM, new or the first one of a repeat.</param>
/// <param name="Refusal">Or why not.</param>
/// <param name="IsReplay">Whether an Idempotency-Key brought the first answer back.</param>
internal readonly record struct Created(Vm? Vm, Refused? Refusal, bool IsReplay = false);

/// <summary>
/// How a VM comes into being (CONTRACT sections 5 and 6): at most one per reservation and per Idempotency-Key, none late,
/// none under an epoch that has ended.
/// </summary>
internal static class Creation
{
    private const int VmIdBytes = 16;
    private const int KeyCharsMax = 128;

    /// <summary>A new ID; nobody can guess another's.</summary>
    public static string NewVmId() => "vm-" + Convert.ToHexStringLower(RandomNumberGenerator.GetBytes(VmIdBytes));

    /// <summary>What is wrong with the body, or null.</summary>
    public static Refused? Wrong(CreateVm body)
    {
        if (body.VmType is null || !Bounds.VmType.IsMatch(body.VmType))
            return Value("vm_type", Beat.VmTypeRule);
        if (body.RamMb is null or < 1 or > Bounds.RamMbMax)
            return Value("ram_mb", $"is 1 to {Bounds.RamMbMax}");
        if (body.VcpuCount is null or < 1 or > Bounds.VcpuMax)
            return Value("vcpu_count", $"is 1 to {Bounds.VcpuMax}");
        if (body.DiskGb is < 1 or > Bounds.DiskGbMax)
            return Value("disk_gb", $"is 1 to {Bounds.DiskGbMax}");
        if (body.PreferredNode is not null && !Bounds.Name.IsMatch(body.PreferredNode))
            return Value("preferred_node", "is a node_id");
        return null;
    }

    /// <summary>Reads <c>X-Foundry-Reservation: &lt;id&gt;;epoch=&lt;n&gt;;deadline=&lt;unix ms&gt;</c>.</summary>
    public static bool TryReservation(string text, [NotNullWhen(true)] out Reservation? reservation)
    {
        const string epochName = "epoch=", deadlineName = "deadline=";
        reservation = null;
        var parts = text.Split(';');
        if (parts.Length != 3 || !Bounds.ReservationId.IsMatch(parts[0])
            || !parts[1].StartsWith(epochName, StringComparison.Ordinal) || !parts[2].StartsWith(deadlineName, StringComparison.Ordinal)
            || !long.TryParse(parts[1].AsSpan(epochName.Length), NumberStyles.None, CultureInfo.InvariantCulture, out var epoch) || epoch > Bounds.EpochMax
            || !long.TryParse(parts[2].AsSpan(deadlineName.Length), NumberStyles.None, CultureInfo.InvariantCulture, out var deadline))
            return false;
        reservation = new Reservation(parts[0], epoch, deadline);
        return true;
    }

    /// <summary>Whether an Idempotency-Key is 1 to 128 visible characters.</summary>
    public static bool IsKey(string key) => key.Length is > 0 and <= KeyCharsMax && key.All(character => character is > ' ' and <= '~');

    /// <summary>A create's turn.</summary>
    public static Created Create(Turn turn, Create create)
    {
        var (vm, tenantId) = (create.Vm, create.Vm.TenantId!);
        // Was it made already? A repeat is answered whatever the time is; it makes nothing.
        if (vm.Reservation is { } spent && turn.State.SpentOn(tenantId, spent.Id) is { } first)
            return turn.State.Vms.ContainsKey(first.VmId) ? new(first, null) : new(null, Stale("Its VM was made and destroyed."));
        if (vm.Key is { } key && turn.State.MadeWith(key, turn.Now.UnixMs) is { } made)
            return made.BodyHash == vm.BodyHash
                ? new(made, null, IsReplay: true)
                : new(null, new Refused(ErrorCode.IdempotencyKeyReused, "This Idempotency-Key made another VM within the last 24 hours. Use a new key for a new request."));
        // Is its reservation still good? After an epoch's answer, or a list behind the deadline, nothing of it may appear.
        var epoch = turn.State.Epochs.GetValueOrDefault(tenantId);
        if (vm.Reservation is { } reservation)
        {
            if (turn.Now.UnixMs >= reservation.Deadline)
                return new(null, Stale("Its deadline has passed."));
            if (reservation.Epoch < epoch)
                return new(null, Stale("A newer epoch has begun."));
        }
        // Is the tenant about to be deleted? A seal's answer lists what is there, and nothing may be added to it.
        if (turn.State.Seals.GetValueOrDefault(tenantId) > turn.Now.UnixMs)
            return new(null, new Refused(ErrorCode.TenantDeleting, "The tenant is being deleted. Nothing was created."));
        // Can it be kept?
        if (!turn.HasRoomForEvents)
            return new(null, new Refused(ErrorCode.RecordUnavailable, "Nothing can be recorded at the moment; nothing was created."));
        // Where to?
        if (Placer.Rank(turn.State, create.Wish, turn.Now).FirstOrDefault() is not { } node)
            return new(null, new Refused(ErrorCode.NoCapacity, "No live node has enough free RAM. A node counts for 30 s after its heartbeat: see that yours are reporting (foundry node list)."));
        if (turn.State.PlacedOn(node.Key).Vms.Count >= Bounds.VmsPerNodeMax)
            return new(null, new Refused(ErrorCode.NoCapacity, "The node with the most room holds as many VMs as one may."));

        var placed = vm with { Node = node.Key, CreatedAt = turn.Now.UnixMs };
        turn.State = turn.State.With(placed);
        turn.Write(FleetStore.Insert(placed));
        // A registry restored from a backup may know an older epoch than the gateways do: theirs counts.
        if (vm.Reservation is { } newer && newer.Epoch > epoch)
        {
            turn.State = turn.State.WithEpoch(tenantId, newer.Epoch);
            turn.Write(FleetStore.PutEpoch(tenantId, newer.Epoch));
        }
        return new(placed, null);
    }

    private static Refused Stale(string why) => new(ErrorCode.StaleReservation, why + " Nothing was created.");

    private static Refused Value(string member, string rule) => new(ErrorCode.InvalidValue, $"{member} {rule}.");
}
