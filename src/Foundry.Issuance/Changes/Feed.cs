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
    /// <summary>Characters of the largest snapshot, as gateways bound it; about 200,000 tenants, or 500,000 revoked tokens that have not expired.</summary>
    public const int SnapshotCharsMax = 64 * 1024 * 1024;
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

    /// <summary>Everything a gateway needs, as of one moment, in one line; null where it would be too large.</summary>
    public async Task<string?> SnapshotAsync(CancellationToken cancellationToken)
    {
        var now = _time.GetUtcNow();
        var message = await _journal.Database.ReadAsync(async transaction =>
        {
            var connection = transaction.Connection!;
            var platform = await connection.QuerySingleAsync<HeadRow>("SELECT feed_seq AS FeedSeq, trust AS Trust FROM platform WHERE id = 1", transaction: transaction);
            var tenants = await connection.QueryAsync<TenantRow>($"SELECT {TenantRow.Columns} FROM tenants WHERE status <> 'deleted' ORDER BY tenant_id", transaction: transaction);
            // A token whose key was withdrawn, or whose tenant is gone, is refused for that; it need not be named.
            var revoked = await connection.QueryAsync<RevokedRow>("""
                SELECT token_id AS Jti, expires_at AS Exp FROM tokens
                WHERE revoked_at IS NOT NULL AND expires_at > @floor
                    AND kid IN (SELECT kid FROM signing_keys WHERE status IN ('active', 'next', 'retired'))
                    AND (tenant_id IS NULL OR tenant_id IN (SELECT tenant_id FROM tenants WHERE status <> 'deleted'))
                ORDER BY token_id
                """, new { floor = now.ToUnixTimeSeconds() - RevokedSecondsKept }, transaction);
            List<Change> changes =
            [
                new("trust", Trust: JsonSerializer.Serialize(_trust.Answer with { Trust = platform.Trust }, WireJson.Default.TrustAnswer)),
                .. tenants.Select(tenant => new Change("tenant", Tenant: tenant.Shown())),
                .. revoked.Select(token => new Change("revoked", Revoked: new RevokedToken(token.Jti, token.Exp))),
            ];
            return new FeedMessage(1, FeedMessage.Snapshot, 0, platform.FeedSeq, now, changes);
        }, cancellationToken);
        var line = Jws.Sign(_identity.Key, FeedMessage.Typ, JsonSerializer.SerializeToUtf8Bytes(message, WireJson.Default.FeedMessage));
        return line.Length <= SnapshotCharsMax ? line : null;
    }

    /// <summary>Whether the changes after <paramref name="since"/> are all still kept.</summary>
    public async Task<bool> HasAllSinceAsync(long since, CancellationToken cancellationToken)
    {
        var kept = await _journal.Database.ReadAsync(transaction => transaction.Connection!.QuerySingleAsync<KeptRow>(
            "SELECT feed_seq AS FeedSeq, (SELECT MIN(seq) FROM changes) AS Oldest FROM platform WHERE id = 1", transaction: transaction), cancellationToken);
        // A follower that is ahead followed a store that is no more; what it knows beyond ours is not so.
        return since <= kept.FeedSeq && (since == kept.FeedSeq || since >= kept.Oldest - 1);
    }

    /// <summary>The next line after <paramref name="since"/>; without changes where there are none.</summary>
    /// <returns>The line and the sequence number it leads to; no line where changes in between are no longer kept.</returns>
    public async Task<(string? Line, long To, bool IsEmpty)> ReadAsync(long since, CancellationToken cancellationToken)
    {
        var rows = await _journal.Database.ReadAllAsync<ChangeRow>("SELECT seq AS Seq, body AS Body FROM changes WHERE seq > @since ORDER BY seq LIMIT @ChangesMax", new { since, ChangesMax }, cancellationToken);
        if (rows.Count > 0 && rows[0].Seq != since + 1)
            return (null, since, true);
        var (changes, bytes, to) = (new List<Change>(), 0, since);
        foreach (var row in rows)
        {
            changes.Add(JsonSerializer.Deserialize(row.Body, WireJson.Default.Change)!);
            to = row.Seq;
            if ((bytes += Encoding.UTF8.GetByteCount(row.Body)) > LineBytesMax)
                break;
        }
        var message = new FeedMessage(1, FeedMessage.Delta, since, to, _time.GetUtcNow(), changes);
        return (Jws.Sign(_identity.Key, FeedMessage.Typ, JsonSerializer.SerializeToUtf8Bytes(message, WireJson.Default.FeedMessage)), to, changes.Count == 0);
    }

    private sealed record HeadRow
    {
        public long FeedSeq { get; init; }
        public string Trust { get; init; } = "";
    }

    private sealed record KeptRow
    {
        public long FeedSeq { get; init; }
        public long? Oldest { get; init; }
    }

    private sealed record ChangeRow
    {
        public long Seq { get; init; }
        public string Body { get; init; } = "";
    }

    private sealed record RevokedRow
    {
        public string Jti { get; init; } = "";
        public long Exp { get; init; }
    }
}
