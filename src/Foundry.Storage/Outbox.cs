using System.Data.Common;
using System.Text.Json;
using System.Threading.Channels;
using Dapper;
using Foundry.Contracts;

namespace Foundry.Storage;

/// <summary>
/// A producer's events, kept durably until the ledger has them: sent at least once, in order per log, and, because each
/// carries an ID of its own, in each log exactly once (CONTRACT section 7).
/// </summary>
public sealed class Outbox
{
    /// <summary>Events that wait at most where nothing else is said; beyond that the record cannot be promised any more.</summary>
    public const int EventsMax = 100_000;

    /// <summary>Places beyond the bound, for events that end something.</summary>
    public const int EndsMax = 10_000;

    /// <summary>The table; part of each producer's own migrations, so that an event commits with its fact.</summary>
    public const string Migration = """
        CREATE TABLE outbox (
            id {serial},
            module_id TEXT NOT NULL,
            payload_id TEXT NOT NULL,
            payload TEXT NOT NULL
        );
        CREATE INDEX outbox_by_module ON outbox (module_id, id);
        """;

    // SQLite finds each parameter by going through their names, so that a statement of many costs more than several of few.
    private const int RowsPerStatement = 40;

    private readonly Channel<bool> _added = Channel.CreateBounded<bool>(new BoundedChannelOptions(1) { FullMode = BoundedChannelFullMode.DropWrite });
    private readonly int _eventsMax;
    private long _waiting;

    /// <summary>Makes one over a store whose migrations have <see cref="Migration"/>.</summary>
    /// <param name="database">The producer's store.</param>
    /// <param name="eventsMax">Events that wait at most.</param>
    public Outbox(Database database, int eventsMax = EventsMax) => (Database, _eventsMax) = (database, eventsMax);

    /// <summary>The producer's store.</summary>
    public Database Database { get; }

    /// <summary>Events that wait, as last counted.</summary>
    public long Waiting => Interlocked.Read(ref _waiting);

    /// <summary>Whether another event's durability can be promised.</summary>
    public bool HasRoom => Waiting < _eventsMax;

    /// <summary>Whether that of one that ends something can be: deletes and revocations go on when nothing is begun any more.</summary>
    public bool HasRoomToEnd => Waiting < _eventsMax + EndsMax;

    /// <summary>
    /// Adds an event within the transaction of the fact it tells of. Call <see cref="Wake"/> after the commit.
    /// </summary>
    /// <param name="transaction">The fact's transaction.</param>
    /// <param name="moduleId">The log.</param>
    /// <param name="payloadId">The event's ID, derived from the fact where several producers could tell of it.</param>
    /// <param name="payload">The event.</param>
    public static Task AddAsync(DbTransaction transaction, string moduleId, string payloadId, PlatformEvent payload)
    {
        ArgumentNullException.ThrowIfNull(transaction);
        return transaction.Connection!.ExecuteAsync(
            "INSERT INTO outbox (module_id, payload_id, payload) VALUES (@moduleId, @payloadId, @payload)",
            new { moduleId, payloadId, payload = JsonSerializer.Serialize(payload, WireJson.Default.PlatformEvent) }, transaction);
    }

    /// <summary>Adds many events at once, in this order; see the other overload.</summary>
    /// <param name="transaction">The facts' transaction.</param>
    /// <param name="events">Each with its log and its ID.</param>
    public static async Task AddAsync(DbTransaction transaction, IEnumerable<(string ModuleId, string PayloadId, PlatformEvent Payload)> events)
    {
        ArgumentNullException.ThrowIfNull(transaction);
        ArgumentNullException.ThrowIfNull(events);
        foreach (var some in events.Chunk(RowsPerStatement))
        {
            var values = new DynamicParameters();
            foreach (var (at, (moduleId, payloadId, payload)) in some.Index())
            {
                values.Add($"m{at}", moduleId);
                values.Add($"i{at}", payloadId);
                values.Add($"p{at}", JsonSerializer.Serialize(payload, WireJson.Default.PlatformEvent));
            }
            // A statement's rows are given their serial numbers in the order of its VALUES.
            await transaction.Connection!.ExecuteAsync(
                $"INSERT INTO outbox (module_id, payload_id, payload) VALUES {string.Join(", ", Enumerable.Range(0, some.Length).Select(at => $"(@m{at}, @i{at}, @p{at})"))}", values, transaction);
        }
    }

    /// <summary>The ID of an event that only its own producer can tell of.</summary>
    /// <param name="payload">The event.</param>
    public static string IdOf(PlatformEvent payload)
    {
        ArgumentNullException.ThrowIfNull(payload);
        return $"{payload.EventType}:{payload.EventId}";
    }

    /// <summary>Tells the sender that there is something to send.</summary>
    public void Wake()
    {
        Interlocked.Increment(ref _waiting);
        _added.Writer.TryWrite(true);
    }

    internal async Task WaitAsync(TimeSpan atMost, TimeProvider time, CancellationToken cancellationToken)
    {
        using var limit = new CancellationTokenSource(atMost, time);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(limit.Token, cancellationToken);
        try
        {
            await _added.Reader.ReadAsync(either.Token);
        }
        catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
        {
            // Time to look again, whoever may have forgotten to wake us.
        }
    }

    internal async Task<IReadOnlyList<OutboxRow>> OldestAsync(int atMost, IReadOnlyCollection<string> exceptLogs, CancellationToken cancellationToken)
    {
        await using var connection = await Database.OpenConnectionAsync(cancellationToken);
        return (await connection.QueryAsync<OutboxRow>(new CommandDefinition(
            "SELECT id, module_id AS ModuleId, payload_id AS PayloadId, payload FROM outbox "
            + (exceptLogs.Count == 0 ? "" : Database.IsPostgres ? "WHERE module_id <> ALL(@exceptLogs) " : "WHERE module_id NOT IN @exceptLogs ")
            + "ORDER BY id LIMIT @atMost", new { atMost, exceptLogs = exceptLogs.ToArray() }, cancellationToken: cancellationToken))).AsList();
    }

    internal async Task CountAsync(CancellationToken cancellationToken)
    {
        await using var connection = await Database.OpenConnectionAsync(cancellationToken);
        Interlocked.Exchange(ref _waiting, await connection.ExecuteScalarAsync<long>(new CommandDefinition("SELECT COUNT(*) FROM outbox", cancellationToken: cancellationToken)));
    }

    internal async Task RemoveAsync(IReadOnlyList<long> ids, CancellationToken cancellationToken)
    {
        if (ids.Count == 0)
            return;
        var removed = await Database.WriteAsync(async transaction =>
        {
            var count = 0;
            foreach (var some in ids.Chunk(RowsPerStatement))
            {
                var values = new DynamicParameters();
                foreach (var (at, id) in some.Index())
                    values.Add($"i{at}", id);
                count += await transaction.Connection!.ExecuteAsync($"DELETE FROM outbox WHERE id IN ({string.Join(", ", Enumerable.Range(0, some.Length).Select(at => $"@i{at}"))})", values, transaction);
            }
            return count;
        }, cancellationToken);
        Interlocked.Add(ref _waiting, -removed);
    }
}

internal sealed record OutboxRow(long Id, string ModuleId, string PayloadId, string Payload);
