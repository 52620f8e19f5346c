using System.Data.Common;
using Foundry.Issuance.Keys;
using Foundry.Issuance.Trust;
using Foundry.ServiceDefaults;
using Foundry.ServiceDefaults.Trust;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace Foundry.Issuance.Changes;

/// <summary>With PostgreSQL another process may commit: looks whether one did when the database says so, and now and then, and tells this process's followers.</summary>
internal sealed class FeedPoll : BackgroundService
{
    private static readonly TimeSpan Interval = TimeSpan.FromMilliseconds(200);

    private readonly Journal _journal;
    private readonly PlatformTrust _trust;
    private readonly SigningKeys _keys;
    private readonly ServiceIdentity _own;
    private readonly Readiness _readiness;
    private readonly TimeProvider _time;
    private readonly ILogger<FeedPoll> _log;

    /// <summary>Makes one.</summary>
    public FeedPoll(Journal journal, PlatformTrust trust, SigningKeys keys, ServiceIdentity own, Readiness readiness, TimeProvider time, ILogger<FeedPoll> log) =>
        (_journal, _trust, _keys, _own, _readiness, _time, _log) = (journal, trust, keys, own, readiness, time, log);

    /// <inheritdoc/>
    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        var seen = 0L;
        while (_journal.Database.IsPostgres && !stoppingToken.IsCancellationRequested)
        {
            try
            {
                await using var listener = await _journal.Database.ListenAsync(stoppingToken);
                while (true)
                {
                    seen = await LookAsync(seen, stoppingToken);
                    await listener.WaitAsync(Interval, stoppingToken);
                }
            }
            catch (StateCorruptException fault)
            {
                _log.LogError("What another process committed cannot be used: {Reason}", fault.Message);
            }
            catch (DbException fault)
            {
                _log.LogError(fault, "The database cannot be asked for changes");
            }
            await Task.Delay(Interval, _time, stoppingToken);
        }
    }

    /// <returns>The last change there is.</returns>
    private async Task<long> LookAsync(long seen, CancellationToken cancellationToken)
    {
        var head = (await _journal.Database.ReadOneAsync<HeadRow>("SELECT feed_seq AS FeedSeq, trust_seq AS TrustSeq FROM platform WHERE id = 1", null, cancellationToken))!;
        if (head.TrustSeq > _trust.Current.Seq)
        {
            await _trust.ReloadAsync(cancellationToken);
            if (_trust.Find(_own.Key.Kid) is null)
                _readiness.Report("trust", met: false, "this process's key was removed; stop it, and move its service.key away to make a new one");
            await _keys.LookWhatIsDueAsync(cancellationToken);
        }
        if (head.FeedSeq != seen)
            _journal.Signal.Raise();
        return head.FeedSeq;
    }

    private sealed record HeadRow
    {
        public long FeedSeq { get; init; }
        public long TrustSeq { get; init; }
    }
}
