using System.Data.Common;
using System.Globalization;
using System.Text.Json;
using Dapper;
using Foundry.Fleet.Nodes;
using Foundry.Fleet.Vms;
using Foundry.ServiceDefaults;
using Foundry.Storage;

namespace Foundry.Fleet;

/// <summary>
/// The registry in SQL: <c>fleet.db</c>, or PostgreSQL. Each write is one statement of the transaction that a turn commits
/// (<see cref="Registry"/>); nothing here decides anything.
/// </summary>
internal static class FleetStore
{
    public const string FileName = "fleet.db";

    private const int RowsPerStatement = 200;

    /// <summary>Never edited once released; numbers are 64-bit, flags 0 or 1, times Unix milliseconds, '' is the shared nodes' tenant.</summary>
    public static readonly IReadOnlyList<string> Migrations =
    [
        Outbox.Migration + """

        CREATE TABLE node (
            tenant_id TEXT NOT NULL,
            node_id TEXT NOT NULL,
            subject_pubkey TEXT NOT NULL,
            wg_ip TEXT NOT NULL,
            hostname TEXT NOT NULL,
            ram_total_mb BIGINT NOT NULL,
            cpu_cores BIGINT NOT NULL,
            kvm_available BIGINT NOT NULL,
            reserved BIGINT NOT NULL,
            boot_id TEXT NOT NULL,
            enrolled_at BIGINT NOT NULL,
            lost BIGINT NOT NULL,
            PRIMARY KEY (tenant_id, node_id),
            UNIQUE (tenant_id, subject_pubkey)
        );
        CREATE TABLE node_pulse (
            tenant_id TEXT NOT NULL,
            node_id TEXT NOT NULL,
            cpu_load_pct DOUBLE PRECISION NOT NULL,
            ram_used_mb BIGINT NOT NULL,
            last_seen BIGINT NOT NULL,
            PRIMARY KEY (tenant_id, node_id)
        );
        CREATE TABLE vm (
            vm_id TEXT NOT NULL PRIMARY KEY,
            tenant_id TEXT,
            node_tenant_id TEXT NOT NULL,
            node_id TEXT NOT NULL,
            vm_type TEXT NOT NULL,
            ram_mb BIGINT NOT NULL,
            vcpu_count BIGINT NOT NULL,
            disk_gb BIGINT,
            created_at BIGINT NOT NULL,
            state TEXT NOT NULL,
            started_at TEXT,
            host_ports TEXT NOT NULL,
            asked TEXT,
            reported TEXT,
            reservation_id TEXT,
            reservation_epoch BIGINT,
            reservation_deadline BIGINT,
            key_subject TEXT,
            key_value TEXT,
            key_body_hash TEXT,
            destroyed_at BIGINT
        );
        CREATE TABLE epoch (
            tenant_id TEXT NOT NULL PRIMARY KEY,
            epoch BIGINT NOT NULL
        );
        CREATE TABLE ignored_report (
            tenant_id TEXT NOT NULL,
            node_id TEXT NOT NULL,
            vm_id TEXT NOT NULL,
            PRIMARY KEY (tenant_id, node_id, vm_id)
        );
        CREATE TABLE registry_owner (
            id BIGINT NOT NULL PRIMARY KEY,
            generation BIGINT NOT NULL
        );
        INSERT INTO registry_owner (id, generation) VALUES (1, 0);
        """,
        """
        CREATE TABLE seal (
            tenant_id TEXT NOT NULL PRIMARY KEY,
            until BIGINT NOT NULL
        );
        CREATE INDEX seal_by_end ON seal (until);
        """,
    ];

    /// <summary>Takes the registry over; whoever had it can commit nothing from now on.</summary>
    public static async Task<long> TakeOverAsync(DbTransaction transaction)
    {
        await transaction.Connection!.ExecuteAsync("UPDATE registry_owner SET generation = generation + 1 WHERE id = 1", transaction: transaction);
        return await transaction.Connection!.ExecuteScalarAsync<long>("SELECT generation FROM registry_owner WHERE id = 1", transaction: transaction);
    }

    /// <summary>Whether the registry is still ours; holds others off until the transaction ends.</summary>
    public static async Task<bool> HoldAsync(DbTransaction transaction, long generation) =>
        await transaction.Connection!.ExecuteAsync("UPDATE registry_owner SET generation = generation WHERE id = 1 AND generation = @generation", new { generation }, transaction) == 1;

    /// <summary>Reads everything.</summary>
    /// <param name="database">The store, for messages.</param>
    /// <param name="transaction">What to read in.</param>
    /// <param name="known">What this process knew before; pulses it has are newer than stored ones.</param>
    /// <param name="nowUnixMs">Destroyed VMs whose reservation or key still counts are remembered.</param>
    /// <exception cref="StateCorruptException">A row says something that was never written.</exception>
    public static async Task<FleetState> LoadAsync(Database database, DbTransaction transaction, FleetState known, long nowUnixMs)
    {
        var connection = transaction.Connection!;
        var state = FleetState.Empty;
        foreach (var row in await connection.QueryAsync<NodeRow>("""
            SELECT node.tenant_id AS TenantId, node.node_id AS NodeId, subject_pubkey AS SubjectPubkey, wg_ip AS WgIp, hostname AS Hostname,
                   ram_total_mb AS RamTotalMb, cpu_cores AS CpuCores, kvm_available AS KvmAvailable, reserved AS Reserved, boot_id AS BootId,
                   enrolled_at AS EnrolledAt, lost AS Lost, cpu_load_pct AS CpuLoadPct, ram_used_mb AS RamUsedMb, last_seen AS LastSeen
            FROM node LEFT JOIN node_pulse ON node_pulse.tenant_id = node.tenant_id AND node_pulse.node_id = node.node_id
            """, transaction: transaction))
        {
            var key = new NodeKey(OrNull(row.TenantId), row.NodeId);
            var pulse = known.Nodes.GetValueOrDefault(key)?.Pulse ?? new NodePulse(row.CpuLoadPct ?? 0, row.RamUsedMb ?? 0, row.LastSeen ?? row.EnrolledAt);
            state = state.With(new Node(key, row.SubjectPubkey,
                new NodeFacts(row.WgIp, row.Hostname, row.RamTotalMb, (int)row.CpuCores, row.KvmAvailable != 0, row.Reserved != 0, row.BootId),
                row.EnrolledAt, row.Lost != 0 ? pulse.HeardMonoMs : null, pulse));
        }
        foreach (var row in await connection.QueryAsync<VmRow>("""
            SELECT vm_id AS VmId, tenant_id AS TenantId, node_tenant_id AS NodeTenantId, node_id AS NodeId, vm_type AS Type, ram_mb AS RamMb,
                   vcpu_count AS VcpuCount, disk_gb AS DiskGb, created_at AS CreatedAt, state AS State, started_at AS StartedAt, host_ports AS HostPorts,
                   asked AS Asked, reported AS Reported, reservation_id AS ReservationId, reservation_epoch AS ReservationEpoch,
                   reservation_deadline AS ReservationDeadline, key_subject AS KeySubject, key_value AS KeyValue, key_body_hash AS KeyBodyHash,
                   destroyed_at AS DestroyedAt
            FROM vm WHERE destroyed_at IS NULL OR created_at > @keysFrom OR reservation_deadline > @now
            """, new { keysFrom = nowUnixMs - FleetState.KeyLifetimeMs, now = nowUnixMs }, transaction))
        {
            var vm = Read(row, database, known);
            state = row.DestroyedAt is null ? state.With(vm) : state.Remember(vm);
        }
        foreach (var row in await connection.QueryAsync<EpochRow>("SELECT tenant_id AS TenantId, epoch AS Epoch FROM epoch", transaction: transaction))
            state = state.WithEpoch(row.TenantId, row.Epoch);
        foreach (var row in await connection.QueryAsync<SealRow>("SELECT tenant_id AS TenantId, until AS Until FROM seal WHERE until > @nowUnixMs", new { nowUnixMs }, transaction))
            state = state.WithSeal(row.TenantId, row.Until);
        return state;
    }

    /// <summary>Which of these IDs were given to a VM that is destroyed.</summary>
    public static async Task<HashSet<string>> DestroyedAsync(Database database, IReadOnlyCollection<string> vmIds, CancellationToken cancellationToken)
    {
        var found = new HashSet<string>(StringComparer.Ordinal);
        await using var connection = await database.OpenConnectionAsync(cancellationToken);
        foreach (var ids in vmIds.Chunk(RowsPerStatement))
            found.UnionWith(await connection.QueryAsync<string>(new CommandDefinition(
                $"SELECT vm_id FROM vm WHERE destroyed_at IS NOT NULL AND vm_id {OneOf(database)}", new { ids }, cancellationToken: cancellationToken)));
        return found;
    }

    /// <summary>Which of a node's ignored reports were recorded already.</summary>
    public static async Task<HashSet<string>> RecordedAsync(Database database, NodeKey node, IReadOnlyCollection<string> vmIds, CancellationToken cancellationToken)
    {
        var found = new HashSet<string>(StringComparer.Ordinal);
        await using var connection = await database.OpenConnectionAsync(cancellationToken);
        foreach (var ids in vmIds.Chunk(RowsPerStatement))
            found.UnionWith(await connection.QueryAsync<string>(new CommandDefinition(
                $"SELECT vm_id FROM ignored_report WHERE tenant_id = @tenant AND node_id = @node AND vm_id {OneOf(database)}",
                new { tenant = OrEmpty(node.TenantId), node = node.NodeId, ids }, cancellationToken: cancellationToken)));
        return found;
    }

    public static Write Put(Node node) => transaction => transaction.Connection!.ExecuteAsync("""
        INSERT INTO node (tenant_id, node_id, subject_pubkey, wg_ip, hostname, ram_total_mb, cpu_cores, kvm_available, reserved, boot_id, enrolled_at, lost)
        VALUES (@tenant, @node, @key, @WgIp, @Hostname, @RamTotalMb, @cores, @kvm, @reserved, @BootId, @enrolled, @lost)
        ON CONFLICT (tenant_id, node_id) DO UPDATE SET subject_pubkey = excluded.subject_pubkey, wg_ip = excluded.wg_ip, hostname = excluded.hostname,
            ram_total_mb = excluded.ram_total_mb, cpu_cores = excluded.cpu_cores, kvm_available = excluded.kvm_available, reserved = excluded.reserved,
            boot_id = excluded.boot_id, lost = excluded.lost
        """,
        new
        {
            tenant = OrEmpty(node.Key.TenantId),
            node = node.Key.NodeId,
            key = node.SubjectPubkey,
            node.Facts.WgIp,
            node.Facts.Hostname,
            node.Facts.RamTotalMb,
            cores = (long)node.Facts.CpuCores,
            kvm = Flag(node.Facts.KvmAvailable),
            reserved = Flag(node.Facts.Reserved),
            node.Facts.BootId,
            enrolled = node.EnrolledAt,
            lost = Flag(node.IsLost),
        }, transaction);

    public static Write Remove(NodeKey node) => async transaction =>
    {
        var key = new { tenant = OrEmpty(node.TenantId), node = node.NodeId };
        await transaction.Connection!.ExecuteAsync("DELETE FROM node WHERE tenant_id = @tenant AND node_id = @node", key, transaction);
        await transaction.Connection!.ExecuteAsync("DELETE FROM node_pulse WHERE tenant_id = @tenant AND node_id = @node", key, transaction);
    };

    public static Write Insert(Vm vm) => transaction => transaction.Connection!.ExecuteAsync("""
        INSERT INTO vm (vm_id, tenant_id, node_tenant_id, node_id, vm_type, ram_mb, vcpu_count, disk_gb, created_at, state, started_at, host_ports, asked, reported,
                        reservation_id, reservation_epoch, reservation_deadline, key_subject, key_value, key_body_hash)
        VALUES (@VmId, @TenantId, @nodeTenant, @node, @Type, @RamMb, @vcpu, @DiskGb, @CreatedAt, @State, @StartedAt, @ports, @asked, @reported,
                @reservation, @epoch, @deadline, @subject, @key, @BodyHash)
        """,
        new
        {
            vm.VmId,
            vm.TenantId,
            nodeTenant = OrEmpty(vm.Node.TenantId),
            node = vm.Node.NodeId,
            vm.Type,
            vm.RamMb,
            vcpu = (long)vm.VcpuCount,
            vm.DiskGb,
            vm.CreatedAt,
            vm.State,
            vm.StartedAt,
            ports = vm.Ports.Text,
            asked = vm.Asked?.Text,
            reported = vm.Report.Members?.Text,
            reservation = vm.Reservation?.Id,
            epoch = vm.Reservation?.Epoch,
            deadline = vm.Reservation?.Deadline,
            subject = vm.Key?.SubjectPubkey,
            key = vm.Key?.Key,
            vm.BodyHash,
        }, transaction);

    public static Write UpdateReported(Vm vm) => transaction => transaction.Connection!.ExecuteAsync(
        "UPDATE vm SET state = @State, started_at = @StartedAt, host_ports = @ports WHERE vm_id = @VmId",
        new { vm.VmId, vm.State, vm.StartedAt, ports = vm.Ports.Text }, transaction);

    public static Write Destroy(string vmId, long atUnixMs) => transaction => transaction.Connection!.ExecuteAsync(
        "UPDATE vm SET destroyed_at = @atUnixMs WHERE vm_id = @vmId", new { vmId, atUnixMs }, transaction);

    public static Write PutEpoch(string tenantId, long epoch) => transaction => transaction.Connection!.ExecuteAsync(
        "INSERT INTO epoch (tenant_id, epoch) VALUES (@tenantId, @epoch) ON CONFLICT (tenant_id) DO UPDATE SET epoch = excluded.epoch", new { tenantId, epoch }, transaction);

    /// <summary>Puts a seal, and drops those that have ended.</summary>
    public static Write PutSeal(string tenantId, long untilUnixMs, long nowUnixMs) => async transaction =>
    {
        await transaction.Connection!.ExecuteAsync(
            "INSERT INTO seal (tenant_id, until) VALUES (@tenantId, @untilUnixMs) ON CONFLICT (tenant_id) DO UPDATE SET until = excluded.until", new { tenantId, untilUnixMs }, transaction);
        await transaction.Connection!.ExecuteAsync("DELETE FROM seal WHERE until <= @nowUnixMs", new { nowUnixMs }, transaction);
    };

    public static Write PutIgnored(NodeKey node, string vmId) => transaction => transaction.Connection!.ExecuteAsync(
        "INSERT INTO ignored_report (tenant_id, node_id, vm_id) VALUES (@tenant, @node, @vmId) ON CONFLICT DO NOTHING",
        new { tenant = OrEmpty(node.TenantId), node = node.NodeId, vmId }, transaction);

    public static Write PutReportedMembers(string vmId, string? members) => transaction => transaction.Connection!.ExecuteAsync(
        "UPDATE vm SET reported = @members WHERE vm_id = @vmId", new { vmId, members }, transaction);

    /// <summary>Pulses, several to a statement: thousands of nodes are behind each time.</summary>
    public static IEnumerable<Write> PutPulses(IReadOnlyList<(NodeKey Node, double Load, long RamUsedMb, long SeenUnixMs)> pulses) =>
        pulses.Chunk(RowsPerStatement).Select(rows => (Write)(transaction =>
        {
            var values = string.Join(", ", rows.Select((_, at) => string.Create(CultureInfo.InvariantCulture, $"(@t{at}, @n{at}, @l{at}, @r{at}, @s{at})")));
            var parameters = new DynamicParameters();
            foreach (var (at, row) in rows.Index())
            {
                parameters.Add($"t{at}", OrEmpty(row.Node.TenantId));
                parameters.Add($"n{at}", row.Node.NodeId);
                parameters.Add($"l{at}", row.Load);
                parameters.Add($"r{at}", row.RamUsedMb);
                parameters.Add($"s{at}", row.SeenUnixMs);
            }
            return transaction.Connection!.ExecuteAsync($"""
                INSERT INTO node_pulse (tenant_id, node_id, cpu_load_pct, ram_used_mb, last_seen) VALUES {values}
                ON CONFLICT (tenant_id, node_id) DO UPDATE SET cpu_load_pct = excluded.cpu_load_pct, ram_used_mb = excluded.ram_used_mb, last_seen = excluded.last_seen
                """, parameters, transaction);
        }));

    private static Vm Read(VmRow row, Database database, FleetState known)
    {
        try
        {
            return new Vm
            {
                VmId = row.VmId,
                TenantId = row.TenantId,
                Node = new NodeKey(OrNull(row.NodeTenantId), row.NodeId),
                Type = row.Type,
                RamMb = row.RamMb,
                VcpuCount = (int)row.VcpuCount,
                DiskGb = row.DiskGb,
                CreatedAt = row.CreatedAt,
                State = row.State,
                StartedAt = row.StartedAt,
                Ports = Kept.Load(row.HostPorts, FleetJson.Ports),
                Asked = row.Asked is null ? null : Kept.Load(row.Asked, FleetJson.Members),
                Reservation = row.ReservationId is null ? null : new Reservation(row.ReservationId, row.ReservationEpoch!.Value, row.ReservationDeadline!.Value),
                Key = row.KeyValue is null ? null : new IdempotencyKey(row.TenantId!, row.KeySubject!, row.KeyValue),
                BodyHash = row.KeyBodyHash,
                Report = known.Vms.GetValueOrDefault(row.VmId)?.Report ?? new VmReport(row.Reported is null ? null : Kept.Load(row.Reported, FleetJson.Members)),
            };
        }
        catch (Exception fault) when (fault is JsonException or InvalidOperationException)
        {
            throw new StateCorruptException(database.Where, $"VM {row.VmId} in it cannot be read", fault);
        }
    }

    // The one place where the two differ: PostgreSQL takes the list as one parameter, SQLite as one for each.
    private static string OneOf(Database database) => database.IsPostgres ? "= ANY(@ids)" : "IN @ids";

    private static string OrEmpty(string? tenantId) => tenantId ?? "";

    private static string? OrNull(string tenantId) => tenantId.Length == 0 ? null : tenantId;

    private static long Flag(bool value) => value ? 1 : 0;

    private sealed class NodeRow
    {
        public string TenantId { get; init; } = "";
        public string NodeId { get; init; } = "";
        public string SubjectPubkey { get; init; } = "";
        public string WgIp { get; init; } = "";
        public string Hostname { get; init; } = "";
        public long RamTotalMb { get; init; }
        public long CpuCores { get; init; }
        public long KvmAvailable { get; init; }
        public long Reserved { get; init; }
        public string BootId { get; init; } = "";
        public long EnrolledAt { get; init; }
        public long Lost { get; init; }
        public double? CpuLoadPct { get; init; }
        public long? RamUsedMb { get; init; }
        public long? LastSeen { get; init; }
    }

    private sealed class VmRow
    {
        public string VmId { get; init; } = "";
        public string? TenantId { get; init; }
        public string NodeTenantId { get; init; } = "";
        public string NodeId { get; init; } = "";
        public string Type { get; init; } = "";
        public long RamMb { get; init; }
        public long VcpuCount { get; init; }
        public long? DiskGb { get; init; }
        public long CreatedAt { get; init; }
        public string State { get; init; } = "";
        public string? StartedAt { get; init; }
        public string HostPorts { get; init; } = "[]";
        public string? Asked { get; init; }
        public string? Reported { get; init; }
        public string? ReservationId { get; init; }
        public long? ReservationEpoch { get; init; }
        public long? ReservationDeadline { get; init; }
        public string? KeySubject { get; init; }
        public string? KeyValue { get; init; }
        public string? KeyBodyHash { get; init; }
        public long? DestroyedAt { get; init; }
    }

    private sealed class EpochRow
    {
        public string TenantId { get; init; } = "";
        public long Epoch { get; init; }
    }

    private sealed class SealRow
    {
        public string TenantId { get; init; } = "";
        public long Until { get; init; }
    }
}
