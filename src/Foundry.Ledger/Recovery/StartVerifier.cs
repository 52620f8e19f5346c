using Foundry.Proofs;
using Foundry.ServiceDefaults;

namespace Foundry.Ledger.Recovery;

/// <summary>
/// Recomputes every log from its entries when the ledger starts: the first million of them, and every log's tail and
/// checkpoint, before the port opens; the rest while it serves. Nothing is written, and nothing wrong is served knowingly: what
/// does not fit ends the process, before or after.
/// </summary>
internal sealed partial class StartVerifier(LedgerState state, LedgerOptions options, Readiness readiness, IHostApplicationLifetime lifetime, ILogger<StartVerifier> log)
    : BackgroundService
{
    private readonly List<(ModuleId Module, VerifiedTail Tail)> _rest = [];
    private volatile StateCorruptException? _fault;

    /// <inheritdoc/>
    public override async Task StartAsync(CancellationToken cancellationToken)
    {
        var budget = options.EntriesVerifiedBeforeReady;
        foreach (var module in state.Store.Modules())
        {
            cancellationToken.ThrowIfCancellationRequested();
            var verifier = state.Shelf.VerifierOf(module);
            var tail = state.Store.VerifyTail(module, verifier, cancellationToken);
            state.Store.Verify(module, verifier, tail, budget, cancellationToken);
            if (tail.Size > budget)
                _rest.Add((module, tail));
            budget = Math.Max(0, budget - tail.Size);
        }
        readiness.Report("logs", met: true, _rest.Count == 0 ? null : $"{_rest.Count} are still being recomputed");
        await base.StartAsync(cancellationToken);
    }

    /// <summary>Ends the program the way a start would have ended, if what was recomputed while it served did not fit.</summary>
    public void ThrowIfCorrupt()
    {
        if (_fault is { } fault)
            throw fault;
    }

    /// <inheritdoc/>
    protected override Task ExecuteAsync(CancellationToken stoppingToken) => Task.Factory.StartNew(() =>
    {
        // Not before the start is over: damage found while the port is being opened would end as a start that was called off.
        WaitHandle.WaitAny([lifetime.ApplicationStarted.WaitHandle, stoppingToken.WaitHandle]);
        try
        {
            foreach (var (module, tail) in _rest)
                state.Store.Verify(module, state.Shelf.VerifierOf(module), tail, long.MaxValue, stoppingToken);
            readiness.Report("logs", met: true);
        }
        catch (StateCorruptException fault)
        {
            _fault = fault;
            LogCorrupt(fault);
            readiness.Report("logs", met: false, "a log does not fit its checkpoint");
            // For a host that does not ask afterwards.
            Environment.ExitCode = 1;
            lifetime.StopApplication();
        }
        catch (OperationCanceledException) when (stoppingToken.IsCancellationRequested)
        {
            // Stopped before it was through; the next start begins anew.
        }
    }, stoppingToken, TaskCreationOptions.LongRunning, TaskScheduler.Default);

    [LoggerMessage(3003, LogLevel.Critical, "A log does not fit its checkpoint; the ledger stops")]
    private partial void LogCorrupt(Exception fault);
}

/// <summary>What is known of a log whose tail fits its checkpoint.</summary>
/// <param name="Size">Entries in it.</param>
/// <param name="First">Entries in full bundles, which nothing will ever write again.</param>
/// <param name="FirstRoot">The root over those.</param>
internal sealed record VerifiedTail(long Size, long First, TreeHash FirstRoot);
