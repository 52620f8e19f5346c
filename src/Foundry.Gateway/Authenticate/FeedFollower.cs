using System.Net;
using System.Text;
using System.Text.Json;
using Foundry.Contracts;
using Foundry.Gateway.Admit;
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
    /// <summary>The file in the gateway's folder: a snapshot's line, then the lines since.</summary>
    public const string FileName = "feed.state";
    /// <summary>Name of the client in <see cref="IHttpClientFactory"/>.</summary>
    public const string Client = "issuance";
    private const int LineCharsMax = 64 * 1024 * 1024;
    private const int LinesKeptMax = 20_000;
    private static readonly TimeSpan SilenceMax = TimeSpan.FromSeconds(5);
    private static readonly TimeSpan Retry = TimeSpan.FromMilliseconds(200);

    private readonly TenantDirectory _directory;
    private readonly TrustFollower _trust;
    private readonly RateLimiter _rates;
    private readonly IHttpClientFactory _clients;
    private readonly StateFolder _folder;
    private readonly Readiness _readiness;
    private readonly TimeProvider _time;
    private readonly ILogger<FeedFollower> _log;
    private int _linesKept;
    private long _heardAt;

    /// <summary>Starts from what is on disk.</summary>
    /// <exception cref="StateCorruptException">A line on disk is not issuance's, or does not follow the one before it.</exception>
    public FeedFollower(TenantDirectory directory, TrustFollower trust, RateLimiter rates, IHttpClientFactory clients, StateFolder folder, Readiness readiness, TimeProvider time, ILogger<FeedFollower> log)
    {
        (_directory, _trust, _rates, _clients, _folder, _readiness, _time, _log) = (directory, trust, rates, clients, folder, readiness, time, log);
        _heardAt = time.GetTimestamp();
        Restore();
        Report();
    }

    /// <summary>How long ago issuance was last heard.</summary>
    public TimeSpan Silence => _time.GetElapsedTime(Interlocked.Read(ref _heardAt));

    /// <inheritdoc/>
    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        await _trust.Joined.WaitAsync(stoppingToken);
        while (!stoppingToken.IsCancellationRequested)
        {
            try
            {
                if (!_directory.IsKnown || _linesKept > LinesKeptMax)
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

    private async Task TakeSnapshotAsync(CancellationToken cancellationToken)
    {
        using var limit = Limit(TimeSpan.FromSeconds(60), cancellationToken);
        using var answer = await _clients.CreateClient(Client).GetAsync("/internal/v1/snapshot", HttpCompletionOption.ResponseHeadersRead, limit.Token);
        answer.EnsureSuccessStatusCode();
        using var lines = new StreamReader(await answer.Content.ReadAsStreamAsync(limit.Token), Encoding.ASCII);
        if (await lines.ReadLineAsync(limit.Token) is not { } line || Read(line) is not { Kind: FeedMessage.Snapshot } message)
            throw new HttpRequestException("issuance's snapshot is not signed by issuance");
        try
        {
            _folder.Write(FileName, line + "\n");
            _linesKept = 1;
        }
        catch (IOException fault)
        {
            CannotKeep(fault);
        }
        _directory.Apply(message, live: true);
        Heard();
    }

    private async Task FollowAsync(CancellationToken cancellationToken)
    {
        using var silence = Limit(SilenceMax, cancellationToken);
        using var answer = await _clients.CreateClient(Client).GetAsync($"/internal/v1/changes?since={_directory.Seq}", HttpCompletionOption.ResponseHeadersRead, silence.Token);
        if (answer.StatusCode == HttpStatusCode.Gone)
        {
            await TakeSnapshotAsync(cancellationToken);
            return;
        }
        answer.EnsureSuccessStatusCode();
        using var lines = new StreamReader(await answer.Content.ReadAsStreamAsync(silence.Token), Encoding.ASCII);
        await using var file = new FileStream(_folder.File(FileName), FileMode.Append, FileAccess.Write, FileShare.Read);
        while (await lines.ReadLineAsync(silence.Token) is { } line)
        {
            silence.CancelAfter(SilenceMax);
            if (Read(line) is not { Kind: FeedMessage.Delta } message)
                throw new HttpRequestException("a line of the feed is not signed by issuance");
            if (message.From != _directory.Seq)
                throw new HttpRequestException($"a line of the feed follows {message.From}, but {_directory.Seq} was reached");
            if (message.Changes.Count > 0)
                Keep(file, line);
            foreach (var change in message.Changes)
                if (change.Tenant is { } tenant && _directory.Find(tenant.TenantId) is null)
                    await _rates.BeginFullAsync(tenant);
            _directory.Apply(message, live: true);
            Heard();
            if (_linesKept > LinesKeptMax)
                return;
        }
    }

    /// <summary>Durable first: what is refused from here on is refused after a restart too.</summary>
    private void Keep(FileStream file, string line)
    {
        try
        {
            file.Write(Encoding.ASCII.GetBytes(line + "\n"));
            file.Flush(flushToDisk: true);
            _linesKept++;
        }
        catch (IOException fault)
        {
            CannotKeep(fault);
        }
    }

    /// <summary>The disk does not take it: what is new counts all the same, nothing is appended any more, and a snapshot replaces the file as soon as it can.</summary>
    private void CannotKeep(IOException fault)
    {
        _log.LogError("The feed cannot be kept on disk, so a restart without issuance would not know what is new: {Reason}", fault.Message);
        _linesKept = int.MaxValue;
    }

    private void Restore()
    {
        var path = _folder.File(FileName);
        if (!File.Exists(path))
            return;
        var text = File.ReadAllText(path, Encoding.ASCII);
        var whole = text.LastIndexOf('\n') + 1;
        var number = 0;
        foreach (var line in text[..whole].Split('\n', StringSplitOptions.RemoveEmptyEntries))
        {
            number++;
            if (Read(line) is not { } message || (number == 1) != (message.Kind == FeedMessage.Snapshot) || !_directory.Apply(message, live: false))
                throw new StateCorruptException(path, $"line {number} is not a message that issuance signed, or does not follow the one before it");
        }
        if (number == 0)
            throw new StateCorruptException(path, "it holds no snapshot");
        if (whole < text.Length)
            // A crash while a line was being written; it was not applied, and the feed brings it again.
            _folder.Write(FileName, text[..whole]);
        _linesKept = number;
    }

    /// <summary>A line's message, or null where issuance did not sign it. A trust set that it brings is in force at once.</summary>
    private FeedMessage? Read(string line)
    {
        if (!Jws.TryParse(line, FeedMessage.Typ, out var jws, out _, LineCharsMax))
            return null;
        if (_trust.Find(jws.Kid) is not { Kind: TrustedKey.Service, Name: "issuance" } trusted || !VerifyingKey.TryCreate(trusted.X, out var key) || !jws.IsSignedBy(key))
            return null;
        try
        {
            var message = JsonSerializer.Deserialize(jws.Payload, WireJson.Default.FeedMessage);
            if (message is not { V: 1, Changes: not null })
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

    private void Heard()
    {
        Interlocked.Exchange(ref _heardAt, _time.GetTimestamp());
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
}
