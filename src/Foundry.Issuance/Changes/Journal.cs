using System.Data.Common;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using Dapper;
using Foundry.Contracts;
using Foundry.Issuance.Tokens;
using Foundry.ServiceDefaults;
using Foundry.ServiceDefaults.Trust;
using Foundry.Storage;
using Foundry.Tokens;
using Microsoft.AspNetCore.Http;

namespace Foundry.Issuance.Changes;

/// <summary>
/// The one way that anything changes here: the fact, what gateways must hear of it and what the ledger must record of it
/// commit in one transaction, and all transactions one after the other, so that feed and ledger have one order.
/// </summary>
internal sealed class Journal
{
    /// <summary>PostgreSQL's advisory lock that puts the writers of several processes in order.</summary>
    private const long WriterLock = 7_302_292;

    /// <summary>Events that one change makes at most without asking <see cref="RefuseMany"/>.</summary>
    public const int EventsFew = 1_000;
    /// <summary>Events that wait for the ledger at most: of two of the largest revocations, and what everybody else may add to that.</summary>
    public const int WaitingMax = (2 * TokenBook.RevokedMax) + WaitingOthers;
    private const int WaitingOthers = Outbox.EventsMax;

    private static readonly Refused NoRecord = new(ErrorCode.RecordUnavailable, "The ledger has been away for so long that no further record can be promised. Try again later.");
    private static readonly Refused NoRecordOfMany = new(ErrorCode.RecordUnavailable, "So many records wait for the ledger that no more can be promised to a change of so many. Nothing was changed. Try again when it has taken them.") { RetryAfter = TimeSpan.FromSeconds(30) };

    private readonly Outbox _outbox;
    private readonly TimeProvider _time;
    private readonly int _changesKept;

    /// <summary>Makes one.</summary>
    /// <param name="outbox">The events that wait for the ledger.</param>
    /// <param name="time">The clock.</param>
    /// <param name="changesKept">See <see cref="IssuanceOptions.ChangesKept"/>.</param>
    public Journal(Outbox outbox, TimeProvider time, int changesKept) => (_outbox, _time, _changesKept) = (outbox, time, changesKept);

    /// <summary>The store.</summary>
    public Database Database => _outbox.Database;

    /// <summary>Raised after a commit that gateways must hear of.</summary>
    public FeedSignal Signal { get; } = new();

    /// <summary>Writes by itself, for no caller.</summary>
    public async Task<T> WriteAsync<T>(Func<JournalEntry, Task<T>> change, CancellationToken cancellationToken)
    {
        JournalEntry? entry = null;
        var answer = await Database.WriteAsync(async transaction =>
        {
            if (Database.IsPostgres)
                await transaction.Connection!.ExecuteAsync("SELECT pg_advisory_xact_lock(@WriterLock)", new { WriterLock }, transaction);
            // The clock is read behind the lock, so that times do not run against the order of the entries.
            entry = new JournalEntry(transaction, _time.GetUtcNow(), _changesKept);
            var done = await change(entry);
            if (entry.Changes > 0 && Database.IsPostgres)
                await Database.NotifyAsync(transaction);
            return done;
        }, cancellationToken);
        foreach (var action in entry!.AfterCommit)
            action();
        for (var events = entry.Events; events > 0; events--)
            _outbox.Wake();
        if (entry.Changes > 0)
            Signal.Raise();
        return answer;
    }

    /// <summary>
    /// Writes for a caller: refused where the record could not be kept, and where the caller's own token has been revoked
    /// in the moment since the gateway looked.
    /// </summary>
    public Task<Outcome<T>> WriteForAsync<T>(Asserted caller, Func<JournalEntry, Task<Outcome<T>>> change, CancellationToken cancellationToken) =>
        WriteWhereRoomAsync(caller, _outbox.HasRoom, change, cancellationToken);

    /// <summary>As <see cref="WriteForAsync"/>, for what takes something away: nobody keeps access because the ledger has been away for long.</summary>
    public Task<Outcome<T>> EndForAsync<T>(Asserted caller, Func<JournalEntry, Task<Outcome<T>>> change, CancellationToken cancellationToken) =>
        WriteWhereRoomAsync(caller, _outbox.HasRoomToEnd, change, cancellationToken);

    private async Task<Outcome<T>> WriteWhereRoomAsync<T>(Asserted caller, bool hasRoom, Func<JournalEntry, Task<Outcome<T>>> change, CancellationToken cancellationToken)
    {
        if (!hasRoom)
            return NoRecord;
        return await WriteAsync(async entry =>
        {
            var revoked = await entry.SingleAsync<long?>("SELECT revoked_at FROM tokens WHERE token_id = @TokenId", new { TokenId = caller.TokenId ?? "" });
            return revoked is null ? await change(entry) : Outcome<T>.Refused(new InvalidTokenResult(Foundry.Tokens.TokenRefusal.Revoked));
        }, cancellationToken);
    }

    /// <summary>Why a change of this many events cannot be made now, or null: it leaves room for everybody else's, so that none locks the others out.</summary>
    public Refused? RefuseMany(int events) => events > EventsFew && _outbox.Waiting + events > WaitingMax - WaitingOthers ? NoRecordOfMany : null;
}

/// <summary>A change's answer, or why there is none.</summary>
/// <param name="Value">The answer.</param>
/// <param name="Refusal">Why not.</param>
internal readonly record struct Outcome<T>(T? Value, IResult? Refusal)
{
    /// <summary>Makes a refusal.</summary>
    public static Outcome<T> Refused(IResult refusal) => new(default, refusal);

    public static implicit operator Outcome<T>(T value) => new(value, null);

    public static implicit operator Outcome<T>(Refused refusal) => new(default, refusal);
}

/// <summary>A journal's transaction in hand. Everything in it commits together or not at all.</summary>
internal sealed class JournalEntry
{
    // SQLite finds each parameter by going through their names, so that a statement of many costs more than several of few.
    private const int RowsPerStatement = 40;

    private readonly DbTransaction _transaction;
    private readonly int _changesKept;

    internal JournalEntry(DbTransaction transaction, DateTimeOffset now, int changesKept) => (_transaction, Now, _changesKept) = (transaction, now, changesKept);

    /// <summary>The time of everything in it.</summary>
    public DateTimeOffset Now { get; }

    /// <summary><see cref="Now"/> in Unix seconds.</summary>
    public long NowSeconds => Now.ToUnixTimeSeconds();

    internal int Changes { get; private set; }
    internal int Events { get; private set; }
    internal List<Action> AfterCommit { get; } = [];

    /// <summary>Does something once all is durable; it must not fail.</summary>
    public void WhenCommitted(Action action) => AfterCommit.Add(action);

    public Task<int> ExecuteAsync(string sql, object? values = null) => _transaction.Connection!.ExecuteAsync(sql, values, _transaction);

    public async Task<IReadOnlyList<T>> QueryAsync<T>(string sql, object? values = null) =>
        (await _transaction.Connection!.QueryAsync<T>(sql, values, _transaction)).AsList();

    public Task<T?> SingleAsync<T>(string sql, object? values = null) => _transaction.Connection!.QuerySingleOrDefaultAsync<T>(sql, values, _transaction);

    /// <summary>Tells the gateways.</summary>
    public Task ChangeAsync(Change change) => ChangeAsync([change]);

    /// <summary>Tells the gateways of several things, in this order.</summary>
    public async Task ChangeAsync(IReadOnlyList<Change> changes)
    {
        if (changes.Count == 0)
            return;
        var head = (await SingleAsync<HeadRow>("SELECT feed_seq AS FeedSeq, feed_hash AS FeedHash FROM platform WHERE id = 1"))!;
        var (last, hash) = (head.FeedSeq + changes.Count, head.FeedHash);
        var rows = new List<(long Seq, string Body, string HashBefore)>();
        foreach (var change in changes)
        {
            var body = JsonSerializer.Serialize(change, WireJson.Default.Change);
            rows.Add((head.FeedSeq + rows.Count + 1, body, hash));
            hash = Base64UrlText.Encode(SHA256.HashData(Encoding.UTF8.GetBytes(hash + body)));
        }
        await ExecuteAsync("UPDATE platform SET feed_seq = @last, feed_hash = @hash WHERE id = 1", new { last, hash });
        // What would be dropped at once is not written at all.
        foreach (var some in rows.TakeLast(_changesKept).Chunk(RowsPerStatement))
        {
            var values = new DynamicParameters();
            foreach (var (at, (seq, body, before)) in some.Index())
            {
                values.Add($"s{at}", seq);
                values.Add($"b{at}", body);
                values.Add($"h{at}", before);
            }
            await ExecuteAsync($"INSERT INTO changes (seq, body, hash_before) VALUES {string.Join(", ", Enumerable.Range(0, some.Length).Select(at => $"(@s{at}, @b{at}, @h{at})"))}", values);
        }
        await ExecuteAsync("DELETE FROM changes WHERE seq <= @floor", new { floor = last - _changesKept });
        Changes += changes.Count;
    }

    /// <summary>Executes a statement for many values of one column, some to a statement.</summary>
    /// <param name="sql">The statement, with <c>{some}</c> where the values go: <c>token_id IN ({some})</c>.</param>
    /// <param name="values">The values.</param>
    /// <param name="others">The statement's other parameters.</param>
    public async Task ExecuteForEachAsync(string sql, IEnumerable<string> values, object? others = null)
    {
        foreach (var (some, parameters) in ForEach(sql, values, others))
            await ExecuteAsync(some, parameters);
    }

    /// <summary>Asks a question for many values of one column, as <see cref="ExecuteForEachAsync"/> does.</summary>
    public async Task<IReadOnlyList<T>> QueryForEachAsync<T>(string sql, IEnumerable<string> values, object? others = null)
    {
        var all = new List<T>();
        foreach (var (some, parameters) in ForEach(sql, values, others))
            all.AddRange(await QueryAsync<T>(some, parameters));
        return all;
    }

    private static IEnumerable<(string Sql, DynamicParameters Parameters)> ForEach(string sql, IEnumerable<string> values, object? others)
    {
        foreach (var some in values.Chunk(RowsPerStatement))
        {
            var parameters = new DynamicParameters(others);
            foreach (var (at, value) in some.Index())
                parameters.Add($"v{at}", value);
            yield return (sql.Replace("{some}", string.Join(", ", Enumerable.Range(0, some.Length).Select(at => $"@v{at}")), StringComparison.Ordinal), parameters);
        }
    }

    /// <summary>Tells the ledger.</summary>
    /// <param name="logs">The logs it belongs in.</param>
    /// <param name="eventType">One of <see cref="EventTypes"/>.</param>
    /// <param name="tenantId">Whose it is.</param>
    /// <param name="doer">Who did it.</param>
    /// <param name="others">Members of this type of event; never a token.</param>
    public Task RecordAsync(IEnumerable<string> logs, string eventType, string? tenantId, Doer doer, params (string Name, object? Value)[] others)
    {
        var payload = EventOf(eventType, tenantId, doer, others);
        return RecordAsync([.. logs.Select(log => (log, Outbox.IdOf(payload), payload))]);
    }

    /// <summary>Tells the ledger of several things, in this order.</summary>
    /// <param name="events">Each with its log and its ID there.</param>
    public async Task RecordAsync(IReadOnlyList<(string Log, string PayloadId, PlatformEvent Payload)> events)
    {
        await Outbox.AddAsync(_transaction, events);
        Events += events.Count;
    }

    /// <summary>An event of this moment.</summary>
    /// <param name="eventType">One of <see cref="EventTypes"/>.</param>
    /// <param name="tenantId">Whose it is.</param>
    /// <param name="doer">Who did it.</param>
    /// <param name="others">Members of this type of event; never a token.</param>
    public PlatformEvent EventOf(string eventType, string? tenantId, Doer doer, params (string Name, object? Value)[] others) => new()
    {
        EventType = eventType,
        EventId = Guid.CreateVersion7(Now).ToString(),
        Time = Now,
        TenantId = tenantId,
        Actor = doer.Actor,
        RequestId = doer.RequestId,
        Others = others.Where(other => other.Value is not null).ToDictionary(other => other.Name, other => JsonSerializer.SerializeToElement(other.Value)),
    };

    private sealed record HeadRow
    {
        public long FeedSeq { get; init; }
        public string FeedHash { get; init; } = "";
    }
}

/// <summary>Who makes a change.</summary>
/// <param name="Actor">As the ledger names it.</param>
/// <param name="RequestId">The request that causes it.</param>
internal sealed record Doer(EventActor Actor, string? RequestId)
{
    /// <summary>Issuance, by itself.</summary>
    public static readonly Doer Itself = new(new EventActor(null, null, "service:issuance"), null);

    /// <summary>A caller, through a gateway.</summary>
    public static Doer Of(Asserted caller, string requestId) =>
        new(new EventActor(caller.SubjectPubkey, caller.TokenId, caller.Scope?.Text ?? "none"), requestId);
}

/// <summary>Lets any number of followers wait for the next change.</summary>
internal sealed class FeedSignal
{
    private TaskCompletionSource _next = new(TaskCreationOptions.RunContinuationsAsynchronously);

    /// <summary>Ends at the next <see cref="Raise"/>. Take it first and look at the store afterwards, and nothing is missed.</summary>
    public Task Next => Volatile.Read(ref _next).Task;

    /// <summary>Wakes everyone who waits.</summary>
    public void Raise() => Interlocked.Exchange(ref _next, new(TaskCreationOptions.RunContinuationsAsynchronously)).TrySetResult();
}
