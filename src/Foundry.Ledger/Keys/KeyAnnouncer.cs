using Foundry.Ledger.Append;
using Foundry.Ledger.Storage;
using Foundry.Proofs;
using Foundry.ServiceDefaults;

namespace Foundry.Ledger.Keys;

/// <summary>
/// Brings a key rotation forward at a start, once the logs are verified and before the port opens: announces the new key in
/// every log and, when the overlap is over, ends the rotation. In each log the announcement and the first checkpoint of the new
/// key, which covers it and is signed by the old one too, become durable in one commit; so no log is ever in between.
/// </summary>
internal sealed partial class KeyAnnouncer(LedgerState state, LedgerOptions options, StateFolder folder, TimeProvider time, ILogger<KeyAnnouncer> log) : IHostedService
{
    /// <inheritdoc/>
    public async Task StartAsync(CancellationToken cancellationToken)
    {
        if (state.Keys.Rotation is not { } rotation)
            return;
        try
        {
            if (!rotation.IsAnnounced)
                await AnnounceAsync(rotation, cancellationToken);
            else if (time.GetUtcNow() >= rotation.Until)
                await RetireAsync();
        }
        catch (LogUnavailableException fault)
        {
            throw new StartupException($"The rotation of the ledger's key cannot go on. {fault.Message}", fault);
        }
    }

    /// <inheritdoc/>
    public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    private async Task AnnounceAsync(KeyRotation rotation, CancellationToken cancellation)
    {
        var logs = 0;
        foreach (var module in state.Store.Modules())
        {
            var origin = options.OriginOf(module);
            using var open = await state.Shelf.OpenOrCreateAsync(module);
            var outcome = await open.AppendAsync(Ledger.Part, rotation.PayloadId, rotation.Announcement(state.Keys.CurrentOf(origin).VerifierKey, state.Keys.PreviousOf(origin)!.VerifierKey), cancellation);
            if (outcome.Status != AppendStatus.Appended)
                throw new StartupException($"The new key could not be announced in {module} ({outcome.Status}). Nothing is lost: mend what the log names and start again.");
            logs++;
        }
        state.Keys.Announced(folder);
        LogAnnounced(logs, rotation.Until);
    }

    private async Task RetireAsync()
    {
        foreach (var module in state.Store.Modules())
        {
            var verifier = state.Keys.CurrentOf(options.OriginOf(module));
            // Opening a log publishes what a crash kept from it, so that what it shows is what its files say.
            using (var open = await state.Shelf.TryOpenAsync(module))
            {
                if (open is null || (open.IsPublished && Checkpoint.TryOpen(open.State.Note, verifier, out _)))
                    continue;
            }
            LogNotRetired(module.Name);
            return;
        }
        KeyRotation.Retire(folder);
        LogRetired();
    }

    [LoggerMessage(3010, LogLevel.Warning, "The ledger's new key is announced in {Logs} logs; the old one signs beside it until {Until:O}")]
    private partial void LogAnnounced(int logs, DateTimeOffset until);

    [LoggerMessage(3011, LogLevel.Warning, "The ledger's old key is retired and its private half deleted")]
    private partial void LogRetired();

    [LoggerMessage(3012, LogLevel.Error, "The ledger's old key is not retired: the checkpoint of {Module} is not signed by the new one")]
    private partial void LogNotRetired(string module);
}
