using System.Collections.Concurrent;
using System.Text;
using System.Threading.Channels;
using Foundry.Ledger.Storage;
using Foundry.Proofs;
using Foundry.ServiceDefaults;

namespace Foundry.Ledger.Witness;

/// <summary>
/// Asks the witnesses to cosign each checkpoint that is published (c2sp.org/tlog-witness). A log whose checkpoint has changed
/// waits in line once, however often it changes; in its round the latest checkpoint goes to all witnesses at once, so that
/// enough of them cosign the same one. Nobody waits for any of this: not an append, not a reader.
/// </summary>
internal sealed partial class WitnessRounds(CosignedNotes notes, LedgerState state, IHttpClientFactory clients, WitnessMetrics metrics, Readiness readiness, TimeProvider time, ILogger<WitnessRounds> log)
    : BackgroundService
{
    /// <summary>The client that asks.</summary>
    public const string Client = "witness";

    /// <summary>How long a witness may take; it writes to disk before it answers.</summary>
    public static readonly TimeSpan AnswerTimeout = TimeSpan.FromSeconds(10);

    private const int RoundsAtOnceMax = 4;
    private const int AttemptsMax = 2;
    private const string Need = "witnesses";

    private static readonly TimeSpan _retryTick = TimeSpan.FromSeconds(1);

    // After an answer that only people can change: another log's key, a history that differs.
    private static readonly TimeSpan _refusedPause = TimeSpan.FromMinutes(10);

    private readonly Lock _gate = new();
    private readonly Channel<ModuleId> _line = Channel.CreateUnbounded<ModuleId>();
    private readonly Dictionary<ModuleId, Place> _places = [];
    private readonly ConcurrentDictionary<(ModuleId, uint), long> _sizes = [];
    private readonly ConcurrentDictionary<(ModuleId, uint), DateTimeOffset> _refused = [];
    private readonly ConcurrentDictionary<string, byte> _forks = [];

    /// <inheritdoc/>
    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        // Told also where the witness that said so is asked no more.
        foreach (var fork in notes.ForkFiles())
        {
            _forks[fork] = 0;
            LogForkKept(fork);
        }
        if (notes.Witnesses.Count > 0 || !_forks.IsEmpty)
            Report();
        if (notes.Witnesses.Count == 0)
            return;
        state.Shelf.Published = StandInLine;
        foreach (var module in state.Store.Modules())
            StandInLine(module);
        try
        {
            await Task.WhenAll([RetryAsync(stoppingToken), .. Enumerable.Range(0, RoundsAtOnceMax).Select(_ => RunAsync(stoppingToken))]);
        }
        catch (OperationCanceledException) when (stoppingToken.IsCancellationRequested)
        {
            // What was not asked for is asked for after the next start.
        }
        finally
        {
            state.Shelf.Published = null;
        }
    }

    private void StandInLine(ModuleId module)
    {
        lock (_gate)
        {
            if (!_places.TryGetValue(module, out var place))
                _places[module] = place = new Place();
            place.RetryAt = null;
            place.IsDueAgain = place.IsRunning;
            if (place.IsRunning || place.IsInLine)
                return;
            place.IsInLine = true;
            _line.Writer.TryWrite(module);
        }
    }

    private async Task RunAsync(CancellationToken cancellation)
    {
        await foreach (var module in _line.Reader.ReadAllAsync(cancellation))
        {
            lock (_gate)
                (_places[module].IsInLine, _places[module].IsRunning) = (false, true);
            DateTimeOffset? retryAt = null;
            try
            {
                retryAt = await RoundAsync(module, cancellation);
            }
            catch (Exception fault) when (fault is not OperationCanceledException || !cancellation.IsCancellationRequested)
            {
                // A damaged tile, a full disk: the log's own troubles are told elsewhere, and no reason to ask no more.
                LogRoundFailed(fault, module.Name);
                retryAt = time.GetUtcNow() + _refusedPause;
            }
            bool isDueAgain;
            lock (_gate)
            {
                var place = _places[module];
                (isDueAgain, place.IsDueAgain, place.IsRunning, place.RetryAt) = (place.IsDueAgain, false, false, retryAt);
            }
            if (isDueAgain)
                StandInLine(module);
        }
    }

    private async Task RetryAsync(CancellationToken cancellation)
    {
        using var timer = new PeriodicTimer(_retryTick, time);
        while (await timer.WaitForNextTickAsync(cancellation))
        {
            var now = time.GetUtcNow();
            List<ModuleId> due;
            lock (_gate)
                due = [.. _places.Where(place => place.Value.RetryAt <= now).Select(place => place.Key)];
            due.ForEach(StandInLine);
        }
    }

    /// <returns>When to ask those again that have not cosigned; null when all have, or none can be asked.</returns>
    private async Task<DateTimeOffset?> RoundAsync(ModuleId module, CancellationToken cancellation)
    {
        if (await state.Shelf.TryOpenAsync(module) is not { } open)
            return null;
        using (open)
        {
            var now = open.State;
            if (now.Size == 0 || !SignedNote.TryParse(now.Note, out var note))
                return null;
            try
            {
                var retries = await Task.WhenAll(notes.Witnesses.Select(witness => AskAsync(witness, open, now, note, cancellation)));
                return retries.Min();
            }
            finally
            {
                notes.Keep(module);
            }
        }
    }

    private async Task<DateTimeOffset?> AskAsync(KnownWitness witness, LogShelf.OpenLog open, LogState now, SignedNote note, CancellationToken cancellation)
    {
        var module = open.Module;
        var place = (module, witness.Verifier.KeyId);
        // Once after each start it is asked all the same: a folder restored from a backup has the cosignatures of its day.
        if (_sizes.ContainsKey(place) && notes.Has(module, note.Text, witness))
            return null;
        if (witness.IsAway(time.GetUtcNow(), out var until) || (_refused.TryGetValue(place, out until) && time.GetUtcNow() < until))
            return until;

        var reader = new TreeReader(now.Size, (tile, _) => ValueTask.FromResult<ReadOnlyMemory<byte>>(LogReader.TileOf(now, tile)));
        var old = Math.Min(now.Size, _sizes.TryGetValue(place, out var known) ? known : notes.SizeAt(module, witness));
        for (var attempt = 1; ; attempt++)
        {
            var asked = new AddCheckpoint(old, await TreeProof.ConsistencyAsync(reader, old, cancellation), note);
            var answer = await SendAsync(witness, asked, cancellation);
            var outcome = Judge(answer, asked, now.Size, open.State.Size, out var size, out var said);
            if (outcome == WitnessOutcome.Cosigned && (!SignedNote.TryParseSignatures(answer!.Body, out var lines) || !notes.TryAdd(module, note, witness, lines)))
                (outcome, said) = (WitnessOutcome.Invalid, "its cosignature does not verify with its key");
            metrics.Asked(witness, outcome);
            switch (outcome)
            {
                case WitnessOutcome.Cosigned:
                    _sizes[place] = now.Size;
                    witness.Succeeded();
                    Report();
                    return null;
                case WitnessOutcome.Behind when size <= now.Size && attempt < AttemptsMax:
                    old = size;
                    continue;
                case WitnessOutcome.Behind:
                    _sizes[place] = size;
                    // It has had a newer checkpoint of this log already, or is being asked by somebody else as well.
                    return time.GetUtcNow() + _retryTick;
                case WitnessOutcome.Forked:
                    witness.Succeeded();
                    Forked(witness, module, said, asked);
                    return _refused[place] = time.GetUtcNow() + _refusedPause;
                case WitnessOutcome.Refused:
                    witness.Succeeded();
                    LogRefused(witness.Verifier.Name, module.Name, said);
                    return _refused[place] = time.GetUtcNow() + _refusedPause;
                default:
                    var answered = witness.Answers;
                    until = witness.Failed(time.GetUtcNow());
                    if (answered)
                        LogAway(witness.Verifier.Name, said);
                    Report();
                    return until;
            }
        }
    }

    /// <summary>What an answer means. A witness that has seen this log at another root, or larger than it is, has seen another history.</summary>
    private static WitnessOutcome Judge(WitnessAnswer? answer, AddCheckpoint asked, long size, long sizeNow, out long remembered, out string said)
    {
        remembered = 0;
        said = answer?.Failure ?? $"it answered {answer?.Status}";
        switch (answer?.Status)
        {
            case 200:
                return WitnessOutcome.Cosigned;
            case 409 when IsSize(answer, out remembered) && remembered != asked.OldSize:
                if (remembered <= sizeNow)
                    return WitnessOutcome.Behind;
                said = $"it has cosigned {remembered} entries of this log, which has {sizeNow}";
                return WitnessOutcome.Forked;
            case 409 when asked.OldSize == size:
                said = $"it has cosigned another root for these {size} entries";
                return WitnessOutcome.Forked;
            case 422:
                said = $"the proof from the {asked.OldSize} entries that it has cosigned does not verify: it has cosigned another root";
                return WitnessOutcome.Forked;
            case 404:
                said = "it does not follow this log";
                return WitnessOutcome.Refused;
            case 403:
                said = "it does not know the key that signs this log";
                return WitnessOutcome.Refused;
            case null:
                return WitnessOutcome.Unreachable;
            default:
                return WitnessOutcome.Invalid;
        }
    }

    private static bool IsSize(WitnessAnswer answer, out long size)
    {
        size = 0;
        var text = Encoding.ASCII.GetString(answer.Body);
        return answer.MediaType == AddCheckpoint.SizeType && text.EndsWith('\n') && AddCheckpoint.TryParseSize(text[..^1], out size);
    }

    private async Task<WitnessAnswer?> SendAsync(KnownWitness witness, AddCheckpoint asked, CancellationToken cancellation)
    {
        using var client = clients.CreateClient(Client);
        using var body = new ByteArrayContent(asked.Encode());
        try
        {
            // The client takes an answer of the length of a note at most.
            using var response = await client.PostAsync(witness.AddCheckpoint, body, cancellation);
            return new WitnessAnswer((int)response.StatusCode, response.Content.Headers.ContentType?.MediaType, await response.Content.ReadAsByteArrayAsync(cancellation));
        }
        catch (Exception fault) when (fault is HttpRequestException or IOException || (fault is OperationCanceledException && !cancellation.IsCancellationRequested))
        {
            return new WitnessAnswer(null, null, []) { Failure = fault is OperationCanceledException ? "it did not answer in time" : fault.Message };
        }
    }

    private void Forked(KnownWitness witness, ModuleId module, string said, AddCheckpoint asked)
    {
        LogForked(witness.Verifier.Name, module.Name, said);
        notes.KeepFork(module, witness, said, asked);
        foreach (var fork in notes.ForkFiles())
            _forks[fork] = 0;
        Report();
    }

    // Open to everyone, so no log is named in it.
    private void Report()
    {
        var answering = notes.Witnesses.Count(witness => witness.Answers);
        readiness.Report(Need, met: _forks.IsEmpty && answering == notes.Witnesses.Count,
            $"{answering} of {notes.Witnesses.Count} answer" + (_forks.IsEmpty ? "" : $"; another history of {_forks.Count} logs was seen by a witness: the log and {CosignedNotes.FolderName} say which"),
            required: false);
    }

    [LoggerMessage(3021, LogLevel.Critical, "Witness {Witness} has seen another history of {Module}: {Said}. Either this log was changed or shown differently to others, or the witness is wrong; what was asked is kept")]
    private partial void LogForked(string witness, string module, string said);

    [LoggerMessage(3022, LogLevel.Critical, "A witness has reported another history of a log before: {File} tells of it, and this is said at each start until that file is moved away")]
    private partial void LogForkKept(string file);

    [LoggerMessage(3023, LogLevel.Warning, "Witness {Witness} refuses {Module}: {Said}")]
    private partial void LogRefused(string witness, string module, string said);

    [LoggerMessage(3024, LogLevel.Warning, "Witness {Witness} gives no cosignatures: {Said}. It is asked again with growing pauses")]
    private partial void LogAway(string witness, string said);

    [LoggerMessage(3025, LogLevel.Error, "The checkpoint of {Module} could not be brought to the witnesses")]
    private partial void LogRoundFailed(Exception fault, string module);

    private sealed class Place
    {
        public bool IsInLine { get; set; }
        public bool IsRunning { get; set; }
        public bool IsDueAgain { get; set; }
        public DateTimeOffset? RetryAt { get; set; }
    }

    private sealed record WitnessAnswer(int? Status, string? MediaType, byte[] Body)
    {
        public string? Failure { get; init; }
    }
}
