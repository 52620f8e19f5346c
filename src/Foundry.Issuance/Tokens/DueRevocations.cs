using System.Data.Common;
using Foundry.Issuance.Changes;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace Foundry.Issuance.Tokens;

/// <summary>
/// Revokes tokens whose end was decided beforehand: replaced ones, and the administrator's old one. What is due is looked for
/// in the journal's transaction, so several processes do it once, and one that was away does it when it is back.
/// </summary>
internal sealed class DueRevocations : BackgroundService
{
    /// <summary>Half of the second within which it is done.</summary>
    private static readonly TimeSpan Interval = TimeSpan.FromMilliseconds(500);
    private const int BatchRows = 1000;
    private const string Due = "revoke_at <= @now AND revoked_at IS NULL";

    private readonly Journal _journal;
    private readonly TimeProvider _time;
    private readonly ILogger<DueRevocations> _log;

    /// <summary>Makes one.</summary>
    public DueRevocations(Journal journal, TimeProvider time, ILogger<DueRevocations> log) => (_journal, _time, _log) = (journal, time, log);

    /// <inheritdoc/>
    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        while (!stoppingToken.IsCancellationRequested)
        {
            try
            {
                while (await RevokeSomeAsync(stoppingToken))
                    ;
            }
            catch (Exception fault) when (fault is DbException or IOException)
            {
                _log.LogError(fault, "Tokens that are due cannot be revoked");
            }
            await Task.Delay(Interval, _time, stoppingToken);
        }
    }

    /// <summary>Revokes what is due, so much of it that others' turn comes too.</summary>
    /// <returns>Whether there may be more.</returns>
    private async Task<bool> RevokeSomeAsync(CancellationToken cancellationToken)
    {
        if (await _journal.Database.ReadOneAsync<long>($"SELECT COUNT(*) FROM tokens WHERE {Due}", new { now = _time.GetUtcNow().ToUnixTimeSeconds() }, cancellationToken) == 0)
            return false;
        return await _journal.WriteAsync(async entry =>
        {
            var due = await entry.QueryAsync<TokenRow>($"SELECT {TokenRow.Columns} FROM tokens WHERE {Due} ORDER BY revoke_at, token_id LIMIT {BatchRows}", new { now = entry.NowSeconds });
            await TokenMint.RevokeAsync(entry, [.. due.Where(row => row.IsGood(entry.NowSeconds))], Doer.Itself);
            // What expired first needs no revocation, and is not to be found here again.
            await entry.ExecuteForEachAsync("UPDATE tokens SET revoke_at = NULL WHERE token_id IN ({some})", due.Select(row => row.TokenId));
            return due.Count == BatchRows;
        }, cancellationToken);
    }
}
