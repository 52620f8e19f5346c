using System.Globalization;
using System.Net.Http.Json;
using System.Text.Json;
using Foundry.Contracts;
using Foundry.Tokens;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace Foundry.ServiceDefaults.Trust;

/// <summary>
/// Follows issuance's trust set and introduces this part's own key (docs/architecture.md, Trust between parts).
/// The last set is kept on disk, so that a restart with issuance down still knows whom to believe.
/// </summary>
public sealed class TrustFollower : BackgroundService, ITrustSource
{
    /// <summary>The file in the part's folder.</summary>
    public const string FileName = "trust.json";
    private static readonly TimeSpan RefreshIntervalMin = TimeSpan.FromSeconds(10);
    private static readonly TimeSpan RefreshTimeout = TimeSpan.FromSeconds(2);
    private static readonly TimeSpan RetryInterval = TimeSpan.FromMilliseconds(250);
    // Ten wrong codes a minute turn every part away: one that asks with a used or expired code must not be all of them.
    private static readonly TimeSpan RefusedInterval = TimeSpan.FromSeconds(30);

    private readonly ServiceIdentity _identity;
    private readonly TrustOptions _options;
    private readonly StateFolder _folder;
    private readonly HttpClient _issuance;
    private readonly TimeProvider _time;
    private readonly Readiness _readiness;
    private readonly ILogger<TrustFollower> _log;
    private readonly SemaphoreSlim _refreshing = new(1, 1);
    private readonly TaskCompletionSource _joined = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private long? _askedAt;
    private volatile TrustSet? _current;
    private readonly Lock _offering = new();
    private volatile KeySet _tokenKeys = KeySet.Empty;

    /// <summary>Starts from what is on disk.</summary>
    /// <param name="identity">This part.</param>
    /// <param name="options">Whom it pins.</param>
    /// <param name="folder">Its folder.</param>
    /// <param name="issuance">A client whose base address is issuance's.</param>
    /// <param name="time">The clock.</param>
    /// <param name="readiness">Where "trust" is reported.</param>
    /// <param name="log">The log.</param>
    /// <exception cref="StateCorruptException">The file on disk is not a set that the pinned root signed.</exception>
    public TrustFollower(ServiceIdentity identity, TrustOptions options, StateFolder folder, HttpClient issuance, TimeProvider time, Readiness readiness, ILogger<TrustFollower> log)
    {
        ArgumentNullException.ThrowIfNull(folder);
        (_identity, _options, _folder, _issuance, _time, _readiness, _log) = (identity, options, folder, issuance, time, readiness, log);
        _current = ReadStored(folder, options);
        _tokenKeys = _current?.KeysOf(TrustedKey.Token) ?? KeySet.Empty;
        var knows = _current is not null && Knows(_current);
        readiness.Report("trust", knows, knows ? null : "waiting for issuance");
        if (knows)
            _joined.SetResult();
    }

    /// <summary>The set that is on disk, or null where there is none.</summary>
    /// <param name="folder">The part's folder.</param>
    /// <param name="options">Whom it pins.</param>
    /// <exception cref="StateCorruptException">The file on disk is not a set that the pinned root signed.</exception>
    internal static TrustSet? ReadStored(StateFolder folder, TrustOptions options)
    {
        if (folder.Read(FileName) is not { } text)
            return null;
        try
        {
            if (JsonSerializer.Deserialize(text, WireJson.Default.TrustAnswer) is { } answer && TryRead(answer, options) is { } set)
                return set;
        }
        catch (JsonException)
        {
            // Said below, like everything else that the file could be instead.
        }
        throw new StateCorruptException(folder.File(FileName), $"this is not a trust set signed by the pinned root {options.RootThumbprint}");
    }

    /// <summary>Puts a set where the next start finds it.</summary>
    internal static void Keep(StateFolder folder, TrustAnswer answer) => folder.Write(FileName, JsonSerializer.SerializeToUtf8Bytes(answer, WireJson.Default.TrustAnswer));

    /// <inheritdoc/>
    public TrustSet? Current => _current;

    /// <summary>The keys in force that sign capability tokens; another object only when the set has changed.</summary>
    public KeySet TokenKeys => _tokenKeys;

    /// <summary>Ends when this part's own key is in the set in force.</summary>
    public Task Joined => _joined.Task;

    /// <inheritdoc/>
    public async Task RefreshAsync(CancellationToken cancellationToken)
    {
        await _refreshing.WaitAsync(cancellationToken);
        try
        {
            if (_askedAt is { } asked && _time.GetElapsedTime(asked) < RefreshIntervalMin)
                return;
            // Before the attempt: with issuance away, unknown keys must not become a call to it each, nor a fault of ours.
            _askedAt = _time.GetTimestamp();
            using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
            limit.CancelAfter(RefreshTimeout);
            await FetchAsync(null, limit.Token);
        }
        catch (Exception fault) when (IsAway(fault, cancellationToken))
        {
            // Whoever asks goes on with what is known: an unknown key stays unknown, and is no fault of ours.
            LogAway(fault);
        }
        finally
        {
            _refreshing.Release();
        }
    }

    /// <summary>Takes a set that reached this part by another way, such as the change feed.</summary>
    /// <param name="answer">The set and its root.</param>
    /// <returns>Whether it is in force now: signed by the pinned root and not older than what was.</returns>
    public bool Offer(TrustAnswer answer)
    {
        if (TryRead(answer) is not { } offered)
            return false;
        lock (_offering)
        {
            if (_current is { } known && offered.Seq < known.Seq)
                return false;
            if (_current?.Seq != offered.Seq)
            {
                Keep(_folder, answer);
                _current = offered;
                _tokenKeys = offered.KeysOf(TrustedKey.Token);
            }
        }
        var knows = Knows(offered);
        _readiness.Report("trust", knows, knows ? null : "issuance does not know this part's key: it joins with 'foundry part join' or Trust:JoinCode; a key that was removed never comes back");
        if (knows)
            _joined.TrySetResult();
        return true;
    }

    /// <inheritdoc/>
    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        while (!stoppingToken.IsCancellationRequested)
        {
            var wait = RetryInterval;
            try
            {
                var (before, asked) = (_current?.Seq, _time.GetTimestamp());
                await FetchAsync(before, stoppingToken);
                if (_current is { } set && !Knows(set) && !await TryJoinAsync(stoppingToken))
                    wait = RefusedInterval;
                if (_joined.Task.IsCompleted && (_current?.Seq != before || _time.GetElapsedTime(asked) >= RefreshIntervalMin))
                    continue; // Issuance let the question wait until there was something new, or long enough.
                if (_joined.Task.IsCompleted && wait < RefreshIntervalMin)
                    wait = RefreshIntervalMin; // It had no place for those who wait.
            }
            catch (Exception fault) when (IsAway(fault, stoppingToken))
            {
                LogAway(fault);
            }
            await Task.Delay(wait, _time, stoppingToken);
        }
    }

    /// <summary>Asks for the set; with a number, for one that is newer, for which issuance lets the question wait.</summary>
    private async Task FetchAsync(long? after, CancellationToken cancellationToken)
    {
        var path = after is { } seq && _joined.Task.IsCompleted ? string.Create(CultureInfo.InvariantCulture, $"/internal/v1/trust?after={seq}") : "/internal/v1/trust";
        var answer = await _issuance.GetFromJsonAsync(path, WireJson.Default.TrustAnswer, cancellationToken);
        if (answer is null || !Offer(answer))
            throw new HttpRequestException($"its trust set is older than the one in force, or not signed by the pinned root {_options.RootThumbprint}");
    }

    private async Task<bool> TryJoinAsync(CancellationToken cancellationToken)
    {
        if (_options.JoinCode is not { Length: > 0 } code)
            return true; // Somebody else may join it (foundry part join), or it was taken out of the set for good.
        using var answer = await _issuance.PostAsJsonAsync("/internal/v1/join",
            new JoinRequest(1, _identity.Kind, _identity.Name, _identity.Key.Public.X, code), WireJson.Default.JoinRequest, cancellationToken);
        if (answer.IsSuccessStatusCode)
        {
            await FetchAsync(null, cancellationToken);
            return true;
        }
        _log.LogError("Issuance refused to let {Name} join: {Status} {Reason}", _identity.Name, (int)answer.StatusCode,
            answer.Content.Headers.ContentType?.MediaType == Problem.MediaType ? (await answer.Content.ReadFromJsonAsync(WireJson.Default.Problem, cancellationToken))?.Detail : null);
        return (int)answer.StatusCode >= 500;
    }

    private static bool IsAway(Exception fault, CancellationToken cancellationToken) =>
        fault is HttpRequestException or IOException or JsonException || (fault is OperationCanceledException && !cancellationToken.IsCancellationRequested);

    private void LogAway(Exception fault) => _log.LogWarning("Issuance cannot be asked whom to trust: {Reason}", fault.Message);

    private bool Knows(TrustSet set) => set.Keys.Any(key => key.Kid == _identity.Key.Kid && key.Kind == _identity.Kind && key.Name == _identity.Name);

    private TrustSet? TryRead(TrustAnswer answer) => TryRead(answer, _options);

    internal static TrustSet? TryRead(TrustAnswer answer, TrustOptions options) =>
        answer.V == 1 && VerifyingKey.TryCreate(answer.Root, out var root) && root.Kid == options.RootThumbprint && TrustSet.TryVerify(answer.Trust, root, out var set) ? set : null;

    /// <inheritdoc/>
    public override void Dispose()
    {
        _refreshing.Dispose();
        base.Dispose();
    }
}
