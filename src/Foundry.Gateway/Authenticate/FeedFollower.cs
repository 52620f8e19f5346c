using System.Diagnostics.Metrics;
using System.Net;
using System.Runtime.CompilerServices;
using System.Text.Json;
using Foundry.Contracts;
using Foundry.Gateway.Admit;
using Foundry.Gateway.Config;
using Foundry.ServiceDefaults;
using Foundry.ServiceDefaults.Trust;
using Foundry.Tokens;

namespace Foundry.Gateway.Authenticate;

/// <summary>
/// Follows issuance's change feed (docs/architecture.md): one snapshot, then a stream. Every line is signed by issuance and is
/// kept as it came, so that a start with issuance down refuses what was refused before.
/// </summary>
internal sealed class FeedFollower : BackgroundService
{
    /// <summary>The last heartbeat's line, so that silence is counted across restarts.</summary>
    public const string HeardFile = "feed.heard";
    /// <summary>Name of the client in <see cref="IHttpClientFactory"/>.</summary>
    public const string Client = "issuance";
    private static readonly TimeSpan SilenceMax = TimeSpan.FromSeconds(5);
    private static readonly TimeSpan PartMax = TimeSpan.FromSeconds(30);
    private static readonly TimeSpan Retry = TimeSpan.FromMilliseconds(200);
    private static readonly TimeSpan HeardWritten = TimeSpan.FromSeconds(5);
    private static readonly TimeSpan RenewalPause = TimeSpan.FromSeconds(30);
    private static readonly TimeSpan SkewMax = TimeSpan.FromSeconds(10);

    private readonly TenantDirectory _directory;
    private readonly TrustFollower _trust;
    private readonly RateLimiter _rates;
    private readonly IHttpClientFactory _clients;
    private readonly StateFolder _folder;
    private readonly FeedFile _file;
    private readonly Readiness _readiness;
    private readonly TimeProvider _time;
    private readonly ILogger<FeedFollower> _log;
    private readonly int _linesMax;
    private Renewal? _renewal;
    private long? _renewedAt;
    private long? _heardWrittenAt;
    private long _heardAt;

    /// <summary>Starts from what is on disk.</summary>
    /// <exception cref="StateCorruptException">A line on disk is not issuance's, or does not follow the one before it.</exception>
    public FeedFollower(TenantDirectory directory, TrustFollower trust, RateLimiter rates, IHttpClientFactory clients, StateFolder folder, GatewayOptions options, Readiness readiness, IMeterFactory meters, TimeProvider time, ILogger<FeedFollower> log)
    {
        (_directory, _trust, _rates, _clients, _folder, _readiness, _time, _log) = (directory, trust, rates, clients, folder, readiness, time, log);
        _linesMax = options.FeedLinesMax;
        _file = new FeedFile(folder, log);
        _file.Restore(line => Read(line) is { } message && _directory.Apply(message, live: false) ? message : null);
        // What was silent before this start is silent still. Issuance's clock against ours: next to staleness_limit their skew is nothing.
        var silent = LastHeard() is { } heard && time.GetUtcNow() - heard is { Ticks: > 0 } since ? since : TimeSpan.Zero;
        _heardAt = time.GetTimestamp() - (long)(silent.TotalSeconds * time.TimestampFrequency);
        var meter = meters.Create(GatewayMetrics.MeterName);
        meter.CreateObservableGauge("foundry.feed_age", () => Silence.TotalSeconds, "s", "Since issuance was last heard");
        meter.CreateObservableGauge("foundry.revocations", () => _directory.RevocationsCount, description: "Revoked tokens that are held");
        Report();
    }

    /// <summary>How long ago issuance was last heard, by this process or the one before it.</summary>
    public TimeSpan Silence => _time.GetElapsedTime(Interlocked.Read(ref _heardAt));

    /// <inheritdoc/>
    public override void Dispose()
    {
        _file.Dispose();
        base.Dispose();
    }

    /// <inheritdoc/>
    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        await _trust.Joined.WaitAsync(stoppingToken);
        try
        {
            while (!stoppingToken.IsCancellationRequested)
            {
                try
                {
                    if (!_directory.IsKnown)
                        await TakeSnapshotAsync(stoppingToken);
                    await FollowAsync(stoppingToken);
                }
                catch (Exception fault) when (fault is HttpRequestException or IOException || (fault is OperationCanceledException && !stoppingToken.IsCancellationRequested))
                {
                    _log.LogWarning("The change feed broke off: {Reason}", fault.Message);
                }
                Report();
                await Task.Delay(Retry, _time, stoppingToken);
            }
        }
        finally
        {
            await EndRenewalAsync();
        }
    }

    private async Task TakeSnapshotAsync(CancellationToken cancellationToken)
    {
        await EndRenewalAsync();
        using var replacement = _file.Replace();
        await foreach (var (line, message) in SnapshotAsync(cancellationToken))
        {
            replacement.Write(line);
            // Durable first: what is refused from here on is refused after a restart too.
            if (!message.More)
                replacement.Commit();
            if (!_directory.Apply(message, live: true))
                throw new HttpRequestException("a part of issuance's snapshot does not follow the one before it");
        }
        Heard(null);
    }

    /// <summary>A snapshot's lines, each checked, up to the last part.</summary>
    private async IAsyncEnumerable<(string Line, FeedMessage Message)> SnapshotAsync([EnumeratorCancellation] CancellationToken cancellationToken)
    {
        using var silence = Limit(PartMax, cancellationToken);
        using var answer = await _clients.CreateClient(Client).GetAsync("/internal/v1/snapshot", HttpCompletionOption.ResponseHeadersRead, silence.Token);
        answer.EnsureSuccessStatusCode();
        await using var stream = await answer.Content.ReadAsStreamAsync(silence.Token);
        var lines = new FeedLines(stream);
        for (var part = 1; part <= FeedMessage.PartsMax; part++)
        {
            silence.CancelAfter(PartMax);
            if (await lines.ReadAsync(silence.Token) is not { } line)
                throw new HttpRequestException("issuance's snapshot broke off");
            if (Read(line) is not { Kind: FeedMessage.Snapshot } message || message.Part != part)
                throw new HttpRequestException("issuance's snapshot is not signed by issuance, or not in order");
            yield return (line, message);
            if (!message.More)
                yield break;
        }
        throw new HttpRequestException($"issuance's snapshot has more than {FeedMessage.PartsMax} parts");
    }

    private async Task FollowAsync(CancellationToken cancellationToken)
    {
        using var silence = Limit(SilenceMax, cancellationToken);
        using var answer = await _clients.CreateClient(Client).GetAsync($"/internal/v1/changes?since={_directory.Seq}&hash={_directory.Hash}", HttpCompletionOption.ResponseHeadersRead, silence.Token);
        if (answer.StatusCode == HttpStatusCode.Gone)
        {
            await TakeSnapshotAsync(cancellationToken);
            return;
        }
        answer.EnsureSuccessStatusCode();
        await using var stream = await answer.Content.ReadAsStreamAsync(silence.Token);
        var lines = new FeedLines(stream);
        while (await lines.ReadAsync(silence.Token) is { } line)
        {
            silence.CancelAfter(SilenceMax);
            if (Read(line) is not { Kind: FeedMessage.Delta } message)
                throw new HttpRequestException("a line of the feed is not signed by issuance");
            if (message.From != _directory.Seq || message.After != _directory.Hash)
                throw new HttpRequestException($"a line of the feed follows {message.From}, but {_directory.Seq} was reached, or another history");
            if (message.Changes.Count > 0)
            {
                // Durable first: what is refused from here on is refused after a restart too.
                _file.Append(line);
                _renewal?.Since.Add((message.From, message.To, line));
            }
            foreach (var change in message.Changes)
                if (change.Tenant is { } tenant && _directory.Find(tenant.TenantId) is null)
                    await _rates.BeginFullAsync(tenant);
            _directory.Apply(message, live: true);
            Heard(message);
            if (message.Changes.Count == 0)
                KeepHeard(line);
            await RenewWhereDueAsync(cancellationToken);
        }
    }

    /// <summary>
    /// Has a long file replaced by a new snapshot, which is taken aside: a snapshot of a million revocations takes seconds, and what
    /// is revoked meanwhile has to be refused within one.
    /// </summary>
    private async Task RenewWhereDueAsync(CancellationToken cancellationToken)
    {
        if (_renewal is null)
        {
            if ((_file.LinesSince > _linesMax || _file.IsBehind) && (_renewedAt is not { } last || _time.GetElapsedTime(last) >= RenewalPause))
            {
                _renewedAt = _time.GetTimestamp();
                _renewal = new Renewal(this, cancellationToken);
            }
            return;
        }
        if (_renewal.Since.Count > _linesMax)
            await EndRenewalAsync(); // Slower than what is new; the next one may be faster.
        if (_renewal is not { Taken.IsCompleted: true } renewal)
            return;
        if (renewal.Taken.IsCompletedSuccessfully && await renewal.Taken > _directory.Seq)
            return; // What leads there is on its way.
        if (renewal.Taken.IsCompletedSuccessfully)
            renewal.TakePlace(await renewal.Taken, _directory.Seq);
        await EndRenewalAsync();
    }

    private async Task EndRenewalAsync()
    {
        if (_renewal is not { } renewal)
            return;
        _renewal = null;
        await renewal.DisposeAsync();
    }

    private DateTimeOffset? LastHeard()
    {
        if (_folder.Read(HeardFile) is not { } text)
            return _directory.AsOf;
        if (Read(text.TrimEnd('\n')) is not { Kind: FeedMessage.Delta } message)
            throw new StateCorruptException(_folder.File(HeardFile), "this is not a message that issuance signed");
        return _directory.AsOf is { } asOf && asOf > message.Time ? asOf : message.Time;
    }

    private void KeepHeard(string line)
    {
        if (_heardWrittenAt is { } written && _time.GetElapsedTime(written) < HeardWritten)
            return;
        _heardWrittenAt = _time.GetTimestamp();
        try
        {
            _folder.Write(HeardFile, line + "\n");
        }
        catch (IOException fault)
        {
            _log.LogError("That issuance was heard cannot be kept on disk, so a restart would count its silence from earlier: {Reason}", fault.Message);
        }
    }

    /// <summary>A line's message, or null where issuance did not sign it. A trust set that it brings is in force at once.</summary>
    private FeedMessage? Read(string line)
    {
        if (!Jws.TryParse(line, FeedMessage.Typ, out var jws, out _, FeedMessage.LineCharsMax))
            return null;
        if (_trust.Find(jws.Kid) is not { Kind: TrustedKey.Service, Name: "issuance" } trusted || !VerifyingKey.TryCreate(trusted.X, out var key) || !jws.IsSignedBy(key))
            return null;
        try
        {
            var message = JsonSerializer.Deserialize(jws.Payload, WireJson.Default.FeedMessage);
            if (message is not { V: 1, Changes: not null } || message.Revoked.GetValueOrDefault().Length % RevokedToken.PackedBytes != 0
                || message.Changes.Any(change => change.Revoked is { } revoked && !Guid.TryParseExact(revoked.Jti, "D", out _)))
                return null;
            // An older set than the one in force is a replay from disk: the one in force stands.
            if (message.Changes.LastOrDefault(change => change.Type == "trust")?.Trust is { } text && JsonSerializer.Deserialize(text, WireJson.Default.TrustAnswer) is { } answer)
                _trust.Offer(answer);
            return message;
        }
        catch (JsonException)
        {
            return null;
        }
    }

    private void Heard(FeedMessage? line)
    {
        Interlocked.Exchange(ref _heardAt, _time.GetTimestamp());
        if (line is not null)
        {
            var ahead = _time.GetUtcNow() - line.Time;
            _readiness.Report("clock", ahead.Duration() <= SkewMax, ahead.Duration() <= SkewMax ? null : $"this clock is {Math.Abs(ahead.TotalSeconds):0} s {(ahead > TimeSpan.Zero ? "ahead of" : "behind")} issuance's", required: false);
        }
        Report();
    }

    private void Report()
    {
        _readiness.Report("snapshot", _directory.IsKnown, _directory.IsKnown ? null : "issuance has not been heard yet");
        _readiness.Report("feed", _directory.IsKnown && Silence < SilenceMax, Silence < SilenceMax ? null : $"issuance was last heard {Silence.TotalSeconds:0} s ago", required: false);
    }

    private static CancellationTokenSource Limit(TimeSpan atMost, CancellationToken cancellationToken)
    {
        var source = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        source.CancelAfter(atMost);
        return source;
    }

    /// <summary>A snapshot that is taken while the feed is followed, and what came meanwhile.</summary>
    private sealed class Renewal : IAsyncDisposable
    {
        private readonly FeedFollower _follower;
        private readonly CancellationTokenSource _ending;
        private readonly FeedFile.Replacement _replacement;

        public Renewal(FeedFollower follower, CancellationToken cancellationToken)
        {
            (_follower, _replacement) = (follower, follower._file.Replace());
            _ending = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
            Taken = TakeAsync(_ending.Token);
        }

        /// <summary>Ends with the change number that the snapshot leads to.</summary>
        public Task<long> Taken { get; }

        /// <summary>Lines since it was begun.</summary>
        public List<(long From, long To, string Line)> Since { get; } = [];

        /// <summary>The snapshot and the lines that lead on from it to <paramref name="reached"/> take the file's place, if they do lead there.</summary>
        public void TakePlace(long to, long reached)
        {
            var following = Since.SkipWhile(line => line.To <= to).ToList();
            if (following.Count == 0 ? to != reached : following[0].From > to)
                return; // Of another process's store that is behind this one.
            foreach (var (_, _, line) in following)
                _replacement.Write(line, isSince: true);
            _replacement.Commit();
        }

        public async ValueTask DisposeAsync()
        {
            await _ending.CancelAsync();
            try
            {
                await Taken;
            }
            catch (Exception fault) when (fault is HttpRequestException or IOException or OperationCanceledException)
            {
                _follower._log.LogWarning("A snapshot to take the place of a long file broke off: {Reason}", fault.Message);
            }
            _replacement.Dispose();
            _ending.Dispose();
        }

        private async Task<long> TakeAsync(CancellationToken cancellationToken)
        {
            var to = 0L;
            await foreach (var (line, message) in _follower.SnapshotAsync(cancellationToken))
            {
                if (message.Part > 1 && message.To != to)
                    throw new HttpRequestException("a part of issuance's snapshot does not follow the one before it");
                to = message.To;
                _replacement.Write(line);
            }
            return to;
        }
    }
}
