using System.Globalization;
using Foundry.Contracts;
using StackExchange.Redis;

namespace Foundry.Gateway.Admit;

/// <summary>What a create holds of its tenant's quota until the fleet has answered.</summary>
/// <param name="Id">Its ID; the fleet stores it with the VM.</param>
/// <param name="TenantId">Whose.</param>
/// <param name="RamMb">RAM, MiB.</param>
/// <param name="DiskGb">Disk, GiB.</param>
/// <param name="Epoch">The store epoch it was made in; our fleet refuses it under a later one.</param>
/// <param name="Deadline">Until when the fleet may accept it.</param>
internal sealed record Reservation(string Id, string TenantId, long RamMb, long DiskGb, long Epoch, DateTimeOffset Deadline);

/// <summary>How a reservation attempt ended: exactly one member is set.</summary>
/// <param name="Epoch">Reserved, in this epoch.</param>
/// <param name="Shortage">The quota does not cover it.</param>
/// <param name="NeedsRebuild">The counters are missing or of another life of the store.</param>
internal readonly record struct ReserveAnswer(long? Epoch, QuotaShortage? Shortage, bool NeedsRebuild);

/// <summary>A tenant's held numbers as the store has them.</summary>
/// <param name="Epoch">Store epoch.</param>
/// <param name="Version">Grows with every transition.</param>
/// <param name="Vms">VMs held, reserved and unknown included.</param>
/// <param name="RamMb">RAM held, MiB.</param>
/// <param name="DiskGb">Disk held, GiB.</param>
/// <param name="Reservations">What is not yet a VM.</param>
/// <param name="HeldVms">The VMs.</param>
internal sealed record Held(long Epoch, long Version, long Vms, long RamMb, long DiskGb, IReadOnlyList<HeldReservation> Reservations, IReadOnlyDictionary<string, long> HeldVms);

/// <summary>A reservation as the store has it.</summary>
/// <param name="Id">Its ID.</param>
/// <param name="RamMb">RAM, MiB.</param>
/// <param name="DiskGb">Disk, GiB.</param>
/// <param name="State"><c>reserved</c> or <c>unknown</c>.</param>
/// <param name="SinceMs">When it was made, Unix milliseconds on the store's clock.</param>
/// <param name="DeadlineMs">Until when the fleet may accept it, Unix milliseconds.</param>
internal sealed record HeldReservation(string Id, long RamMb, long DiskGb, string State, long SinceMs, long DeadlineMs);

/// <summary>How a tenant's counters stand in the store.</summary>
internal enum CountersState
{
    /// <summary>Missing, or of another life of the store.</summary>
    Missing,
    /// <summary>Somebody is rebuilding them.</summary>
    Building,
    /// <summary>Creates can be admitted.</summary>
    InForce,
}

/// <summary>
/// The tenants' VM, RAM and disk quotas: one hash per tenant, every transition one script on that one key, each idempotent per
/// reservation or VM, so that a repeat changes nothing (CONTRACT section 5; docs/architecture.md, Quotas). In the hash:
/// <c>epoch</c>, <c>run</c>, <c>ver</c>, the totals <c>vms</c>, <c>ram</c>, <c>disk</c>, one <c>r:ID</c> per reservation
/// ("ram disk state since deadline") and one <c>v:ID</c> per VM ("ram disk ver"); while it is rebuilt in parts, <c>building</c> in place of <c>epoch</c>.
/// </summary>
internal sealed class Quotas(Store store)
{
    /// <summary>VMs in one part of a rebuild: some ten milliseconds of the store's time.</summary>
    private const int VmsPerPart = 1000;
    /// <summary>How long the numbers outlive the last gateway that read them: a day. Missing, they are rebuilt, never taken for zero.</summary>
    private const long LifeMs = 24 * 60 * 60 * 1000;
    private static readonly string[] Counters = ["epoch", "run", "ver", "vms", "ram", "disk"];

    private const string Take = """
        local function split(text)
            local parts = {}
            for part in string.gmatch(text, '%S+') do parts[#parts + 1] = part end
            return parts
        end
        local function add(vms, ram, disk)
            redis.call('HINCRBY', KEYS[1], 'vms', vms)
            redis.call('HINCRBY', KEYS[1], 'ram', ram)
            redis.call('HINCRBY', KEYS[1], 'disk', disk)
        end
        local function minus(number)
            -- Redis takes '-0' for no number, and a script that ends there has done half of its work.
            return number == '0' and number or '-' .. number
        end
        local function subtract(had)
            add(-1, minus(had[1]), minus(had[2]))
        end
        local function give_back(field)
            local held = redis.call('HGET', KEYS[1], field)
            if not held then return nil end
            redis.call('HDEL', KEYS[1], field)
            return split(held)
        end
        local function step()
            return redis.call('HINCRBY', KEYS[1], 'ver', 1)
        end
        """;

    // ARGV: run, id, ram, disk, max_vms, max_ram ('' is none), max_disk, deadline.
    private static readonly Script ReserveScript = new($$"""
        {{Take}}
        local known = redis.call('HMGET', KEYS[1], 'epoch', 'run', 'vms', 'ram', 'disk')
        if not known[1] or known[2] ~= ARGV[1] or not known[3] or not known[4] or not known[5] then return {'rebuild'} end
        if redis.call('HEXISTS', KEYS[1], 'r:' .. ARGV[2]) == 1 then return {'ok', known[1]} end
        local limits = { {'max_vms', ARGV[5], known[3], '1'}, {'max_ram_mb', ARGV[6], known[4], ARGV[3]}, {'storage_quota_gb', ARGV[7], known[5], ARGV[4]} }
        for i = 1, 3 do
            local l = limits[i]
            if l[2] ~= '' and tonumber(l[3]) + tonumber(l[4]) > tonumber(l[2]) then return {'over', l[1], l[2], l[3], l[4]} end
        end
        local t = redis.call('TIME')
        local now = string.format('%.0f', tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000))
        add(1, ARGV[3], ARGV[4])
        step()
        redis.call('HSET', KEYS[1], 'r:' .. ARGV[2], ARGV[3] .. ' ' .. ARGV[4] .. ' reserved ' .. now .. ' ' .. ARGV[8])
        return {'ok', known[1]}
        """);

    // The reservation becomes the VM's. ARGV: id, vm, ram, disk as the fleet says them.
    private static readonly Script CommitScript = new($$"""
        {{Take}}
        if redis.call('HEXISTS', KEYS[1], 'epoch') == 0 then return 0 end
        local had = give_back('r:' .. ARGV[1])
        local known = redis.call('HEXISTS', KEYS[1], 'v:' .. ARGV[2]) == 1
        if had then
            subtract(had)
        elseif known then
            return 0
        end
        local ver = step()
        if not known then
            add(1, ARGV[3], ARGV[4])
            redis.call('HSET', KEYS[1], 'v:' .. ARGV[2], ARGV[3] .. ' ' .. ARGV[4] .. ' ' .. ver)
        end
        return 1
        """);

    // ARGV: id.
    private static readonly Script ReleaseScript = new($$"""
        {{Take}}
        local had = give_back('r:' .. ARGV[1])
        if not had then return 0 end
        subtract(had)
        step()
        return 1
        """);

    // ARGV: id.
    private static readonly Script UnknownScript = new($$"""
        {{Take}}
        local held = redis.call('HGET', KEYS[1], 'r:' .. ARGV[1])
        if not held then return 0 end
        local p = split(held)
        redis.call('HSET', KEYS[1], 'r:' .. ARGV[1], p[1] .. ' ' .. p[2] .. ' unknown ' .. p[4] .. ' ' .. p[5])
        step()
        return 1
        """);

    // ARGV: vm. 'gone_ver' lets a list that was asked for before this know that it is older; also of a VM that is not held,
    // because such a list may still have it, and it would be adopted.
    private static readonly Script DestroyScript = new($$"""
        {{Take}}
        local had = give_back('v:' .. ARGV[1])
        if had then subtract(had) end
        if had or redis.call('HEXISTS', KEYS[1], 'epoch') == 1 then redis.call('HSET', KEYS[1], 'gone_ver', step()) end
        return had and 1 or 0
        """);

    // A VM in a list asked for in epoch ARGV[1] after version ARGV[2]: its reservation, if that is still held, becomes the VM's;
    // otherwise it was made behind the gateway's back, unless something was destroyed since, which may have been it.
    // ARGV: epoch, version, reservation ('' is none), vm, ram, disk.
    private static readonly Script AdoptScript = new($$"""
        {{Take}}
        if redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[1] then return 0 end
        local known = redis.call('HEXISTS', KEYS[1], 'v:' .. ARGV[4]) == 1
        local had = give_back('r:' .. ARGV[3])
        if had then
            subtract(had)
        elseif known or tonumber(redis.call('HGET', KEYS[1], 'gone_ver') or '0') > tonumber(ARGV[2]) then
            return 0
        end
        local ver = step()
        if not known then
            add(1, ARGV[5], ARGV[6])
            redis.call('HSET', KEYS[1], 'v:' .. ARGV[4], ARGV[5] .. ' ' .. ARGV[6] .. ' ' .. ver)
        end
        return 1
        """);

    // A VM that a list asked for in epoch ARGV[1] after version ARGV[2] does not have: gone, unless it was committed since.
    // ARGV: epoch, version, vm.
    private static readonly Script ForgetScript = new($$"""
        {{Take}}
        if redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[1] then return 0 end
        local held = redis.call('HGET', KEYS[1], 'v:' .. ARGV[3])
        if not held or tonumber(split(held)[3]) > tonumber(ARGV[2]) then return 0 end
        local had = give_back('v:' .. ARGV[3])
        subtract(had)
        step()
        return 1
        """);

    // A part of what the fleet has, in an epoch that its last part begins: until then 'building' has it, there is no 'epoch', and
    // nothing can be reserved. An older epoch never replaces a newer one, nor goes on building beside it.
    // ARGV: run, epoch, whether first, whether last, milliseconds to live, then vm, ram, disk for each VM. 1: done; 2: a newer one is in force; 0: given up.
    private static readonly Script RebuildScript = new($$"""
        {{Take}}
        local known = redis.call('HMGET', KEYS[1], 'epoch', 'run', 'building')
        if known[1] and tonumber(known[1]) >= tonumber(ARGV[2]) then return known[2] == ARGV[1] and 2 or 0 end
        if ARGV[3] == '1' then
            if known[3] and tonumber(known[3]) > tonumber(ARGV[2]) then return 0 end
            redis.call('DEL', KEYS[1])
            redis.call('HSET', KEYS[1], 'building', ARGV[2], 'run', ARGV[1], 'ver', '1', 'vms', '0', 'ram', '0', 'disk', '0')
        elseif known[3] ~= ARGV[2] or known[2] ~= ARGV[1] then
            return 0
        end
        local vms, ram, disk = 0, 0, 0
        redis.call('PEXPIRE', KEYS[1], ARGV[5])
        for i = 6, #ARGV, 3 do
            if redis.call('HSETNX', KEYS[1], 'v:' .. ARGV[i], ARGV[i + 1] .. ' ' .. ARGV[i + 2] .. ' 1') == 1 then
                vms, ram, disk = vms + 1, ram + tonumber(ARGV[i + 1]), disk + tonumber(ARGV[i + 2])
            end
        end
        add(string.format('%.0f', vms), string.format('%.0f', ram), string.format('%.0f', disk))
        if ARGV[4] == '1' then
            redis.call('HDEL', KEYS[1], 'building', 'building_at')
            redis.call('HSET', KEYS[1], 'epoch', ARGV[2])
        else
            redis.call('HSET', KEYS[1], 'building_at', redis.call('TIME')[1])
        end
        return 1
        """);

    // ARGV: run. 1: in force; 2: somebody is building it, and was a moment ago; 0: missing, or of another life of the store.
    private static readonly Script StateScript = new("""
        local known = redis.call('HMGET', KEYS[1], 'epoch', 'run', 'building_at')
        if known[2] ~= ARGV[1] then return 0 end
        if known[1] then return 1 end
        return known[3] and tonumber(redis.call('TIME')[1]) - tonumber(known[3]) < 5 and 2 or 0
        """);

    private static readonly Script TotalsScript = new("return redis.call('HMGET', KEYS[1], 'epoch', 'run', 'vms', 'ram', 'disk')");

    // Gateways read every tenant's numbers at each interval, so those that a deleted tenant left go by themselves. ARGV: milliseconds.
    private static readonly Script ReadScript = new("""
        redis.call('PEXPIRE', KEYS[1], ARGV[1])
        return redis.call('HGETALL', KEYS[1])
        """);

    /// <summary>Takes a VM, its RAM and its disk in one step, or none of them.</summary>
    /// <param name="tenant">The tenant and its limits.</param>
    /// <param name="id">The reservation.</param>
    /// <param name="ramMb">RAM, MiB.</param>
    /// <param name="diskGb">Disk, GiB.</param>
    /// <param name="deadline">Until when the fleet may accept the create.</param>
    public async Task<ReserveAnswer> ReserveAsync(Tenant tenant, string id, long ramMb, long diskGb, DateTimeOffset deadline)
    {
        var answer = (RedisValue[])(await store.EvaluateAsync(ReserveScript, [Key(tenant.TenantId)],
            [store.RunId ?? "", id, ramMb, diskGb, tenant.MaxVms, tenant.MaxRamMb is { } ram ? ram : "", tenant.StorageQuotaGb, deadline.ToUnixTimeMilliseconds()]))!;
        return (string?)answer[0] switch
        {
            "ok" => new ReserveAnswer((long)answer[1], null, false),
            "over" => new ReserveAnswer(null, new QuotaShortage((string)answer[1]!, (long)answer[2], (long)answer[3], (long)answer[4]), false),
            _ => new ReserveAnswer(null, null, true),
        };
    }

    /// <summary>The fleet accepted: the reservation is the VM's now.</summary>
    public Task CommitAsync(string tenantId, string reservationId, string vmId, long ramMb, long diskGb) =>
        store.EvaluateAsync(CommitScript, [Key(tenantId)], [reservationId, vmId, ramMb, diskGb]);

    /// <summary>The fleet refused, or is known never to accept: the reservation is free again.</summary>
    public Task ReleaseAsync(string tenantId, string reservationId) => store.EvaluateAsync(ReleaseScript, [Key(tenantId)], [reservationId]);

    /// <summary>Nobody knows what the fleet did: held until its list says.</summary>
    public Task MarkUnknownAsync(string tenantId, string reservationId) => store.EvaluateAsync(UnknownScript, [Key(tenantId)], [reservationId]);

    /// <summary>The fleet destroyed the VM.</summary>
    public Task DestroyAsync(string tenantId, string vmId) => store.EvaluateAsync(DestroyScript, [Key(tenantId)], [vmId]);

    /// <summary>A VM that the fleet's list has: its reservation becomes its own, or it is adopted.</summary>
    /// <param name="tenantId">Whose.</param>
    /// <param name="before">What was held before the list was asked for.</param>
    /// <param name="vm">The VM.</param>
    public Task AdoptAsync(string tenantId, Held before, VmRecord vm) =>
        store.EvaluateAsync(AdoptScript, [Key(tenantId)], [before.Epoch, before.Version, vm.ReservationId ?? "", vm.VmId, vm.RamAllocMb, DiskOf(vm)]);

    /// <summary>A VM that the store has and the fleet's list does not.</summary>
    /// <param name="tenantId">Whose.</param>
    /// <param name="before">What was held before the list was asked for.</param>
    /// <param name="vmId">The VM.</param>
    public Task ForgetAsync(string tenantId, Held before, string vmId) => store.EvaluateAsync(ForgetScript, [Key(tenantId)], [before.Epoch, before.Version, vmId]);

    /// <summary>Begins an epoch from the fleet's own answer, in parts that the store does not stop others for long with.</summary>
    /// <param name="tenantId">Whose.</param>
    /// <param name="runId">The life of the store that the numbers are for.</param>
    /// <param name="held">What the fleet has.</param>
    /// <returns>Whether this epoch, or a newer one, is in force now.</returns>
    public async Task<bool> RebuildAsync(string tenantId, string runId, HeldVms held)
    {
        for (var at = 0; ; at += VmsPerPart)
        {
            var last = at + VmsPerPart >= held.Vms.Count;
            var values = new List<RedisValue> { runId, held.Epoch, at == 0 ? 1 : 0, last ? 1 : 0, LifeMs };
            foreach (var vm in held.Vms.Skip(at).Take(VmsPerPart))
                values.AddRange([vm.VmId, vm.RamAllocMb, DiskOf(vm)]);
            var answer = (int)await store.EvaluateAsync(RebuildScript, [Key(tenantId)], [.. values]);
            if (last || answer != 1)
                return answer != 0;
        }
    }

    /// <summary>How a tenant's counters stand.</summary>
    /// <param name="tenantId">Whose.</param>
    /// <param name="runId">The life of the store.</param>
    public async Task<CountersState> StateAsync(string tenantId, string runId) => (int)await store.EvaluateAsync(StateScript, [Key(tenantId)], [runId]) switch
    {
        1 => CountersState.InForce,
        2 => CountersState.Building,
        _ => CountersState.Missing,
    };

    /// <summary>What the store holds for a tenant, or null where it must be rebuilt first.</summary>
    public async Task<Held?> ReadAsync(string tenantId)
    {
        var flat = (RedisValue[])(await store.EvaluateAsync(ReadScript, [Key(tenantId)], [LifeMs]))!;
        var fields = new Dictionary<string, string>(StringComparer.Ordinal);
        for (var i = 0; i + 1 < flat.Length; i += 2)
            fields[flat[i]!] = flat[i + 1]!;
        if (Counters.Any(name => !fields.ContainsKey(name)) || fields["run"] != store.RunId)
            return null;
        long Number(string name) => long.Parse(fields[name], CultureInfo.InvariantCulture);
        return new Held(Number("epoch"), Number("ver"), Number("vms"), Number("ram"), Number("disk"),
            [.. fields.Where(field => field.Key.StartsWith("r:", StringComparison.Ordinal)).Select(field =>
            {
                var parts = field.Value.Split(' ');
                return new HeldReservation(field.Key[2..], long.Parse(parts[0], CultureInfo.InvariantCulture), long.Parse(parts[1], CultureInfo.InvariantCulture), parts[2],
                    long.Parse(parts[3], CultureInfo.InvariantCulture), long.Parse(parts[4], CultureInfo.InvariantCulture));
            })],
            fields.Where(field => field.Key.StartsWith("v:", StringComparison.Ordinal))
                .ToDictionary(field => field.Key[2..], field => long.Parse(field.Value.Split(' ')[2], CultureInfo.InvariantCulture), StringComparer.Ordinal));
    }

    /// <summary>A tenant's totals alone, which cost the same however many VMs it has; null where they must be rebuilt first.</summary>
    /// <param name="tenantId">Whose.</param>
    public async Task<(long Vms, long RamMb, long DiskGb)?> ReadTotalsAsync(string tenantId)
    {
        var known = (RedisValue[])(await store.EvaluateAsync(TotalsScript, [Key(tenantId)], []))!;
        return known[0].IsNull || known[1] != store.RunId ? null : ((long)known[2], (long)known[3], (long)known[4]);
    }

    /// <summary>A VM's disk; other fleets do not say it, and then it is the default.</summary>
    /// <param name="vm">The VM.</param>
    public static long DiskOf(VmRecord vm) => vm.DiskGb ?? CreateVm.DefaultDiskGb(vm.RamAllocMb);

    private static RedisKey Key(string tenantId) => $"foundry:v1:{{{tenantId}}}:quota";
}
