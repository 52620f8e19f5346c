using System.Data.Common;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace Foundry.Issuance.Changes;

/// <summary>
/// Drops rows that nobody can ask for any more, in batches that let others' changes in between: Idempotency-Keys that no
/// longer count, and tokens long expired. A token goes after those that it issued, so that whatever is good can still be
/// revoked by everything above it.
/// </summary>
internal sealed class Pruning : BackgroundService
{
    private static readonly TimeSpan Interval = TimeSpan.FromHours(1);
    private const int BatchRows = 500;

    private readonly Journal _journal;
    private readonly IssuanceOptions _options;
    private readonly TimeProvider _time;
    private readonly ILogger<Pruning> _log;

    /// <summary>Makes one.</summary>
    public Pruning(Journal journal, IssuanceOptions options, TimeProvider time, ILogger<Pruning> log) => (_journal, _options, _time, _log) = (journal, options, time, log);

    /// <inheritdoc/>
    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        while (!stoppingToken.IsCancellationRequested)
        {
            try
            {
                await PruneAsync("idempotency_keys WHERE created_at <= @floor", _time.GetUtcNow().ToUnixTimeSeconds() - IdempotencyKey.SecondsKept, stoppingToken);
                await PruneAsync("tokens WHERE expires_at <= @floor AND NOT EXISTS (SELECT 1 FROM tokens AS issued WHERE issued.issued_by = tokens.token_id)",
                    (_time.GetUtcNow() - _options.TokensKept).ToUnixTimeSeconds(), stoppingToken);
            }
            catch (Exception fault) when (fault is DbException or IOException)
            {
                _log.LogError(fault, "Old rows cannot be dropped");
            }
            await Task.Delay(Interval, _time, stoppingToken);
        }
    }

    private async Task PruneAsync(string rows, long floor, CancellationToken cancellationToken)
    {
        // Each store has an address of its own for a row.
        var address = _journal.Database.IsPostgres ? "ctid" : "rowid";
        var table = rows[..rows.IndexOf(' ', StringComparison.Ordinal)];
        while (await _journal.WriteAsync(entry => entry.ExecuteAsync($"DELETE FROM {table} WHERE {address} IN (SELECT {address} FROM {rows} LIMIT {BatchRows})", new { floor }), cancellationToken) > 0)
            ;
    }
}
