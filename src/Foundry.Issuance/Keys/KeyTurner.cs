using Foundry.ServiceDefaults;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace Foundry.Issuance.Keys;

/// <summary>Turns keys when their time comes, also while nobody asks for tokens.</summary>
internal sealed class KeyTurner : BackgroundService
{
    private static readonly TimeSpan Interval = TimeSpan.FromSeconds(1);

    private readonly SigningKeys _keys;
    private readonly TimeProvider _time;
    private readonly Readiness _readiness;
    private readonly ILogger<KeyTurner> _log;

    /// <summary>Makes one.</summary>
    public KeyTurner(SigningKeys keys, TimeProvider time, Readiness readiness, ILogger<KeyTurner> log) => (_keys, _time, _readiness, _log) = (keys, time, readiness, log);

    /// <inheritdoc/>
    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        var shared = false;
        while (!stoppingToken.IsCancellationRequested)
        {
            try
            {
                if (!shared)
                {
                    foreach (var kid in await _keys.ShareAsync(stoppingToken))
                        _log.LogInformation("The private half of the key {Kid} was in a file in the clear; it is in the database now, encrypted", kid);
                    shared = true;
                }
                await _keys.TurnWhenDueAsync(_time.GetUtcNow(), stoppingToken);
                _readiness.Report("store", met: true);
            }
            catch (StateCorruptException fault)
            {
                _log.LogError("A signing key cannot be opened: {Reason}", fault.Message);
            }
            catch (Exception fault) when (fault is System.Data.Common.DbException or IOException)
            {
                _readiness.Report("store", met: false, "the database does not take writes");
                _log.LogError(fault, "The signing keys cannot be turned");
            }
            await Task.Delay(Interval, _time, stoppingToken);
        }
    }
}
