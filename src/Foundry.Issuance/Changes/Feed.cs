using System.Data.Common;
using System.Text;
using System.Text.Json;
using Dapper;
using Foundry.Contracts;
using Foundry.Issuance.Tenants;
using Foundry.Issuance.Trust;
using Foundry.ServiceDefaults.Trust;
using Foundry.Tokens;

namespace Foundry.Issuance.Changes;

/// <summary>
/// What gateways follow, out of the store and signed by this part's own key: everything at once, or what is new
/// (docs/architecture.md, The change feed).
/// </summary>
internal sealed class Feed
{
    /// <summary>Changes in a line.</summary>
    public const int ChangesMax = 500;
    /// <summary>Bytes of changes after which a line takes no further one; a single change is smaller than 1 MiB.</summary>
    private const int LineBytesMax = 1024 * 1024;
    /// <summary>How long after its <c>exp</c> a revoked token is still told of, for gateways whose clocks are behind.</summary>
    private const int RevokedSecondsKept = 60;

    private readonly Journal _journal;
    private readonly PlatformTrust _trust;
    private readonly ServiceIdentity _identity;
    private readonly TimeProvider _time;

    /// <summary>Makes one.</summary>
    public Feed(Journal journal, PlatformTrust trust, ServiceIdentity identity, TimeProvider time) => (_journal, _trust, _identity, _time) = (journal, trust, identity, time);

    /// <summary>Ends at the next commit that gateways must hear of; see <see cref="FeedSignal.Next"/>.</summary>
    public Task Next => _journal.Signal.Next;

    /// <summary>Everything a gateway needs, as of one moment, in signed lines; no more than one of them is in memory.</summary>
    /// <param name="write">Takes each line as it is made.</param>
    /// <param name="cancellationToken">Ends it.</param>
    /// <exception cref="InvalidOperationException">There is more than <see cref="FeedMessage.PartsMax"/> parts can hold.</exception>
    public Task WriteSnapshotAsync(Func<string, Task> write, CancellationToken cancellationToken)
    {
        var now = _time.GetUtcNow();
        return _journal.Database.ReadAsync(async transaction =>
        {
            var connection = transaction.Connection!;
            var head = (await HeadAsync(transaction))!;
            var parts = new SnapshotParts(this, head, now, write);
            await parts.AddAsync(new Change("trust", Trust: JsonSerializer.Serialize(_trust.Answer with { Trust = head.Trust }, WireJson.Default.TrustAnswer)));
            await foreach (var tenant in connection.QueryUnbufferedAsync<TenantRow>($"SELECT {TenantRow.Columns} FROM tenants WHERE status <> 'deleted' ORDER BY tenant_id", transaction: transaction).WithCancellation(cancellationToken))
                await parts.AddAsync(new Change("tenant", Tenant: tenant.Shown()));
            // A token whose key was withdrawn, or whose tenant is gone, is refused for that; it need not be named.
            await foreach (var token in connection.QueryUnbufferedAsync<RevokedRow>("""
                SELECT token_id AS Jti, expires_at AS Exp FROM tokens
                WHERE revoked_at IS NOT NULL AND expires_at > @floor
                    AND kid IN (SELECT kid FROM signing_keys WHERE status IN ('active', 'next', 'retired'))
                    AND (tenant_id IS NULL OR tenant_id IN (SELECT tenant_id FROM tenants WHERE status <> 'deleted'))
                ORDER BY expires_at
                """, new { floor = now.ToUnixTimeSeconds() - RevokedSecondsKept }, transaction).WithCancellation(cancellationToken))
                await parts.AddAsync(Guid.ParseExact(token.Jti, "D"), token.Exp);
            await parts.EndAsync();
            return 0;
        }, cancellationToken);
    }

    /// <summary>Whether a follower that reached this number, with this hash, has our history, and what came since is all kept.</summary>
    public async Task<bool> HasAllSinceAsync(long since, string hash, CancellationToken cancellationToken) =>
        // A follower that is ahead, or has another hash, followed a store that is no more; what it knows beyond ours is not so.
        await _journal.Database.ReadAsync(HeadAsync, cancellationToken) is { } head
        && (since == head.Seq ? head.Hash : await HashBeforeAsync(since + 1, cancellationToken)) == hash;

    /// <summary>The next line after <paramref name="since"/>; without changes where there are none.</summary>
    /// <returns>
    /// The line, and the sequence number and hash it leads to; no line where changes in between are no longer kept, or are
    /// not those of the history with this hash.
    /// </returns>
    public async Task<(string? Line, long To, string Hash, bool IsEmpty)> ReadAsync(long since, string hash, CancellationToken cancellationToken)
    {
        var (head, rows) = await _journal.Database.ReadAsync(async transaction => (await HeadAsync(transaction), (await transaction.Connection!.QueryAsync<ChangeRow>(
            // One more than a line takes: it tells the hash of the last that is taken.
            "SELECT seq AS Seq, body AS Body, hash_before AS HashBefore FROM changes WHERE seq > @since ORDER BY seq LIMIT @most", new { since, most = ChangesMax + 1 }, transaction)).AsList()), cancellationToken);
        if (rows.Count == 0 ? (head!.Seq, head.Hash) != (since, hash) : (rows[0].Seq, rows[0].HashBefore) != (since + 1, hash))
            return (null, since, hash, true);
        var (changes, bytes) = (new List<Change>(), 0);
        foreach (var row in rows.Take(ChangesMax))
        {
            changes.Add(JsonSerializer.Deserialize(row.Body, WireJson.Default.Change)!);
            if ((bytes += Encoding.UTF8.GetByteCount(row.Body)) > LineBytesMax)
                break;
        }
        var (to, reached) = (since + changes.Count, changes.Count < rows.Count ? rows[changes.Count].HashBefore : head!.Hash);
        return (Sign(new FeedMessage(1, FeedMessage.Delta, since, to, _time.GetUtcNow(), changes, hash, reached)), to, reached, changes.Count == 0);
    }

    private string Sign(FeedMessage message) => Jws.Sign(_identity.Key, FeedMessage.Typ, JsonSerializer.SerializeToUtf8Bytes(message, WireJson.Default.FeedMessage));

    private static Task<HeadRow?> HeadAsync(DbTransaction transaction) => transaction.Connection!.QuerySingleOrDefaultAsync<HeadRow>(
        "SELECT feed_seq AS Seq, feed_hash AS Hash, trust AS Trust FROM platform WHERE id = 1", transaction: transaction);

    private Task<string?> HashBeforeAsync(long seq, CancellationToken cancellationToken) =>
        _journal.Database.ReadOneAsync<string>("SELECT hash_before FROM changes WHERE seq = @seq", new { seq }, cancellationToken);

    /// <summary>Fills one part after the other, and writes each when it is full.</summary>
    private sealed class SnapshotParts(Feed feed, HeadRow head, DateTimeOffset now, Func<string, Task> write)
    {
        private readonly List<Change> _changes = [];
        private readonly byte[] _revoked = new byte[FeedMessage.RevokedPerPart * RevokedToken.PackedBytes];
        private int _revokedBytes;
        private int _part = 1;

        public async Task AddAsync(Change change)
        {
            if (_changes.Count == FeedMessage.TenantsPerPart)
                await WriteAsync(more: true);
            _changes.Add(change);
        }

        public async Task AddAsync(Guid jti, long exp)
        {
            if (_revokedBytes == _revoked.Length)
                await WriteAsync(more: true);
            RevokedToken.Pack(jti, exp, _revoked.AsSpan(_revokedBytes));
            _revokedBytes += RevokedToken.PackedBytes;
        }

        public Task EndAsync() => WriteAsync(more: false);

        private async Task WriteAsync(bool more)
        {
            if (_part == FeedMessage.PartsMax && more)
                throw new InvalidOperationException($"A snapshot has at most {FeedMessage.PartsMax} parts of {FeedMessage.TenantsPerPart} tenants or {FeedMessage.RevokedPerPart} revoked tokens.");
            await write(feed.Sign(new FeedMessage(1, FeedMessage.Snapshot, 0, head.Seq, now, _changes, "", head.Hash, _part, more, _revokedBytes == 0 ? null : _revoked.AsMemory(0, _revokedBytes))));
            _part++;
            _changes.Clear();
            _revokedBytes = 0;
        }
    }

    private sealed record HeadRow
    {
        public long Seq { get; init; }
        public string Hash { get; init; } = "";
        public string Trust { get; init; } = "";
    }

    private sealed record ChangeRow
    {
        public long Seq { get; init; }
        public string Body { get; init; } = "";
        public string HashBefore { get; init; } = "";
    }

    private sealed record RevokedRow
    {
        public string Jti { get; init; } = "";
        public long Exp { get; init; }
    }
}
