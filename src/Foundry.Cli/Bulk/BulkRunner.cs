using System.Text.Json.Nodes;

namespace Foundry.Cli.Bulk;

/// <summary>
/// Makes a call for each line of a list, a few at a time, and writes down each that is done. It waits where the gateway asks it to,
/// tries again what time can mend, passes over what concerns one line alone, and stops at what would refuse all the others too.
/// </summary>
/// <param name="session">Who calls.</param>
/// <param name="results">Where what is done is written down.</param>
/// <param name="doing">What is done to an item: <c>issued</c>.</param>
/// <param name="concurrency">Calls at once.</param>
internal sealed class BulkRunner(Session session, ResultFile results, string doing, int concurrency)
{
    public const int ConcurrencyMax = 32;
    public const int ConcurrencyDefault = 8;
    /// <summary>Attempts at a call that the gateway does not answer.</summary>
    public const int AttemptsMax = 6;
    /// <summary>Refusals one after the other after which the rest would fare alike.</summary>
    public const int RefusalsMax = 10;
    /// <summary>Waiting for a rate ends when nothing at all was done for so long.</summary>
    public static readonly TimeSpan StandstillMax = TimeSpan.FromMinutes(10);
    public static readonly TimeSpan BackOffMin = TimeSpan.FromSeconds(1);
    /// <summary>The longest pause, whatever an answer asks for.</summary>
    public static readonly TimeSpan BackOffMax = TimeSpan.FromSeconds(60);

    private readonly TimeProvider _time = session.Surroundings.Time;
    private readonly Lock _lock = new();
    private long _lastDone;
    private long _pauseBegan;
    private TimeSpan _pause;
    private int _refused;
    private int _refusedInARow;
    private Action? _why;

    /// <summary>Does what is left of a list.</summary>
    /// <param name="items">The whole list.</param>
    /// <param name="call">The call for one line.</param>
    /// <param name="line">What to write down of an accepted answer; null if it is not one.</param>
    /// <param name="cancellationToken">Stops it between calls and in the middle of one: either is taken up again by the next run.</param>
    public async Task<int> RunAsync(IReadOnlyList<BulkItem> items, Func<BulkItem, CancellationToken, Task<Answer>> call, Func<BulkItem, Answer, JsonObject?> line, CancellationToken cancellationToken)
    {
        List<BulkItem> left = [.. items.Where(item => !results.Holds(item))];
        var progress = new Progress(session.Surroundings, session.Output, doing, items.Count, items.Count - left.Count);
        if (left.Count < items.Count)
            session.Output.Note($"{items.Count - left.Count} of {items.Count} were {doing} before, as {results.Path} says");
        _lastDone = _time.GetTimestamp();
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        var next = -1;
        await Task.WhenAll(Enumerable.Range(0, Math.Min(concurrency, left.Count)).Select(_ => WorkAsync()));

        progress.Aside(() => _why?.Invoke());
        session.Output.Note($"{progress.Done} of {items.Count} {doing}{(_refused > 0 ? $", {_refused} refused" : "")}; what was done is in {results.Path}");
        if (progress.Done == items.Count)
            return ExitCode.Done;
        session.Output.Detail("next", "run the same command again: it goes on with what is left, and does nothing twice");
        return cancellationToken.IsCancellationRequested ? ExitCode.Interrupted : ExitCode.Failed;

        async Task WorkAsync()
        {
            try
            {
                while (!stop.IsCancellationRequested && Interlocked.Increment(ref next) is var at && at < left.Count)
                    Settle(left[at], await CallAsync(left[at], call, stop.Token, cancellationToken));
            }
            catch (OperationCanceledException)
            {
                // Another worker or the caller has stopped the run; that is said once, at its end.
            }
            catch (IOException fault)
            {
                Stop(() => session.Output.Note($"{results.Path} cannot be written: {fault.Message}; the platform keeps the answers for 24 hours"));
            }
        }

        void Settle(BulkItem item, Answer answer)
        {
            if (answer.IsAccepted && line(item, answer) is { } done)
            {
                results.Append(item, done);
                lock (_lock)
                    (_lastDone, _refusedInARow) = (_time.GetTimestamp(), 0);
                progress.Step();
            }
            // What else there is under these statuses is this line's own matter.
            else if (answer.Problem is { } problem && answer.Status is 400 or 404 or 409 or 422)
            {
                progress.Aside(() => session.Output.Note($"line {item.Line} refused: {problem.Title}: {problem.Detail} ({problem.Code}, request {answer.RequestId ?? "-"})"));
                lock (_lock)
                {
                    _refused++;
                    if (++_refusedInARow < RefusalsMax)
                        return;
                }
                Stop(() => session.Output.Note($"stopped after {RefusalsMax} refusals in a row"));
            }
            else
                Stop(() => session.Output.Explain(answer.IsAccepted ? answer with { Failure = $"the gateway's answer to line {item.Line} is not what was asked for" } : answer));
        }

        void Stop(Action why)
        {
            lock (_lock)
                _why ??= why;
            stop.Cancel();
        }
    }

    private async Task<Answer> CallAsync(BulkItem item, Func<BulkItem, CancellationToken, Task<Answer>> call, CancellationToken stop, CancellationToken cancellationToken)
    {
        for (var attempt = 1; ; attempt++)
        {
            while (RestOfPause() is { Ticks: > 0 } rest)
                await Task.Delay(rest, _time, stop);
            // What is on its way when another worker stops the run is still taken in.
            var answer = await call(item, cancellationToken);
            // A rate lets one of a few waiting workers through at a time: while anything is done, none gives up.
            if (answer.Status == 429 ? IsStandstill() : !CanTimeMend(answer) || attempt >= AttemptsMax)
                return answer;
            var asked = answer.RetryAfter ?? TimeSpan.FromTicks(BackOffMin.Ticks << Math.Min(attempt - 1, 10));
            Pause(asked < BackOffMin ? BackOffMin : asked > BackOffMax ? BackOffMax : asked);
        }
    }

    private static bool CanTimeMend(Answer answer) =>
        answer.Status is null or 408 or 502 or 503 or 504 || answer.Problem?.Code == "in_progress";

    private bool IsStandstill()
    {
        lock (_lock)
            return _time.GetElapsedTime(_lastDone) > StandstillMax;
    }

    private TimeSpan RestOfPause()
    {
        lock (_lock)
            return _pause - _time.GetElapsedTime(_pauseBegan);
    }

    // All workers heed it: a rate is the caller's, not a call's.
    private void Pause(TimeSpan pause)
    {
        lock (_lock)
        {
            if (pause > _pause - _time.GetElapsedTime(_pauseBegan))
                (_pause, _pauseBegan) = (pause, _time.GetTimestamp());
        }
    }
}
