using System.Diagnostics.CodeAnalysis;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using Foundry.Contracts;

namespace Foundry.Cli.Bulk;

/// <summary>What a bulk run is: the first line of its result file. A run goes on only as what it began as.</summary>
/// <param name="Foundry"><see cref="Issue"/> or <see cref="Revoke"/>.</param>
/// <param name="V">The format's version.</param>
/// <param name="RunId">Every request's <c>Idempotency-Key</c> begins with it.</param>
/// <param name="Issuer">The platform (<c>iss</c>) it speaks to.</param>
/// <param name="Caller">The key of who runs it: the platform knows repeats by that key.</param>
/// <param name="Request">What is asked for each line of the list, but for the line's own.</param>
internal sealed record BulkRun(string Foundry, int V, string RunId, string? Issuer, string? Caller, TokenRequest? Request)
{
    public const string Issue = "token-issue";
    public const string Revoke = "token-revoke";
    public const int Version = 1;

    /// <summary>A new run by the holder of a token.</summary>
    public static BulkRun New(string what, TokenRequest? request, Session session) =>
        new(what, Version, Guid.CreateVersion7(session.Surroundings.Time.GetUtcNow()).ToString(), session.Token!.Claim("iss"), session.Token.Claim("subject_pubkey"), request);

    /// <summary>The same request for the same line, in this run or when it is taken up again.</summary>
    public string IdempotencyKey(BulkItem item) => $"{RunId}.{item.Id}";
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower, DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull)]
[JsonSerializable(typeof(BulkRun))]
internal sealed partial class BulkJson : JsonSerializerContext;

/// <summary>
/// What came of a bulk run: JSON, a line for the run and one for each line of the list that is done, durable before the next
/// request of that worker. Running the same command again goes on after the last whole line.
/// </summary>
internal sealed class ResultFile : IDisposable
{
    private const int BytesMax = 512 * 1024 * 1024;

    private readonly FileStream _file;
    private readonly HashSet<string> _done;
    private readonly Lock _lock = new();

    private ResultFile(FileStream file, BulkRun run, IEnumerable<string> done)
    {
        (_file, Run) = (file, run);
        _done = new HashSet<string>(done, StringComparer.Ordinal);
    }

    /// <summary>The run, with the ID that it began with.</summary>
    public BulkRun Run { get; }

    /// <summary>Where it is.</summary>
    public string Path => _file.Name;

    /// <summary>Whether this line of the list is done.</summary>
    public bool Holds(BulkItem item)
    {
        lock (_lock)
            return _done.Contains(item.Id);
    }

    /// <summary>Begins a run's file, or takes up where an earlier one of the same run ended.</summary>
    public static bool TryOpen(string path, BulkRun run, [NotNullWhen(true)] out ResultFile? results, [NotNullWhen(false)] out Complaint? complaint)
    {
        results = null;
        FileStream? file = null;
        try
        {
            file = SecretFile.Open(path, FileMode.OpenOrCreate, FileAccess.ReadWrite);
            if (file.Length == 0)
            {
                // The run's ID is on the disk before the first request carries it.
                file.Write([.. JsonSerializer.SerializeToUtf8Bytes(run, BulkJson.Default.BulkRun), (byte)'\n']);
                file.Flush(flushToDisk: true);
                complaint = null;
                results = new ResultFile(file, run, []);
            }
            else if (SecretFile.IsOpenToOthers(file))
                complaint = new Complaint($"{path} can be read by others, and tokens go into it", $"chmod 600 {path}");
            else if (TryRead(file, out var begun, out var done, out var end, out complaint) && IsSame(path, begun, run, out complaint))
            {
                // Killed in the middle of a line: its request is made again, under the key that it had.
                file.SetLength(end);
                file.Seek(end, SeekOrigin.Begin);
                results = new ResultFile(file, begun, done.Select(line => IdOf(line)!));
            }
            return results is not null;
        }
        catch (Exception fault) when (fault is IOException or UnauthorizedAccessException or ArgumentException or NotSupportedException)
        {
            complaint = new Complaint($"{path} cannot be used: {fault.Message}", "name another file with --result; one run uses a file at a time");
            return false;
        }
        finally
        {
            if (results is null)
                file?.Dispose();
        }
    }

    /// <summary>Reads what an ended run has issued.</summary>
    public static bool TryReadIssued(string path, [NotNullWhen(true)] out List<IssuedToken>? issued, [NotNullWhen(false)] out Complaint? complaint)
    {
        issued = null;
        try
        {
            using var file = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
            if (!TryRead(file, out var run, out var done, out _, out complaint))
                return false;
            if (run.Foundry != BulkRun.Issue)
            {
                complaint = new Complaint($"{path} holds no issued tokens", "name the result file of 'foundry token issue --from' or 'foundry token promote --from'");
                return false;
            }
            issued = [.. done.Select(line => JsonSerializer.Deserialize(line, WireJson.Default.IssuedToken)!)];
            return true;
        }
        catch (Exception fault) when (fault is IOException or UnauthorizedAccessException or JsonException)
        {
            complaint = new Complaint($"{path} cannot be read: {fault.Message}", "name the result file of a bulk run");
            return false;
        }
    }

    /// <summary>Whether a file's text is a bulk run's rather than a list that somebody wrote.</summary>
    public static bool IsOne(string path)
    {
        try
        {
            using var file = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
            return file.CanSeek && file.ReadByte() == '{';
        }
        catch (Exception fault) when (fault is IOException or UnauthorizedAccessException or ArgumentException or NotSupportedException)
        {
            return false;
        }
    }

    /// <summary>Adds a finished line; durable once it returns.</summary>
    /// <param name="item">What it is about.</param>
    /// <param name="line">The line: an object with the item's ID as <c>subject_pubkey</c> or <c>revoked</c>.</param>
    public void Append(BulkItem item, JsonObject line)
    {
        var bytes = Encoding.UTF8.GetBytes(line.ToJsonString() + "\n");
        lock (_lock)
        {
            _file.Write(bytes);
            _file.Flush(flushToDisk: true);
            _done.Add(item.Id);
        }
    }

    public void Dispose() => _file.Dispose();

    private static string? IdOf(JsonElement line) =>
        line.ValueKind == JsonValueKind.Object && (line.TryGetProperty("subject_pubkey", out var id) || line.TryGetProperty("revoked", out id)) && id.ValueKind == JsonValueKind.String
            ? id.GetString() : null;

    private static bool TryRead(FileStream file, [NotNullWhen(true)] out BulkRun? run, out List<JsonElement> done, out long end, [NotNullWhen(false)] out Complaint? complaint)
    {
        (run, done, end) = (null, [], 0);
        if (file.Length > BytesMax)
        {
            complaint = new Complaint($"{file.Name} is longer than {BytesMax / 1024 / 1024} MiB", "begin another with --result");
            return false;
        }
        var bytes = new byte[file.Length];
        file.ReadExactly(bytes);
        var number = 0;
        try
        {
            for (var rest = bytes.AsMemory(); rest.Span.IndexOf((byte)'\n') is >= 0 and var length; rest = rest[(length + 1)..])
            {
                number++;
                var line = JsonElement.Parse(rest.Span[..length]);
                end += length + 1;
                if (number == 1)
                    run = JsonSerializer.Deserialize(line, BulkJson.Default.BulkRun);
                else if (IdOf(line) is not null)
                    done.Add(line);
                else
                    throw new JsonException("This is no result.");
            }
        }
        catch (JsonException)
        {
            run = null;
        }
        complaint = run is { V: BulkRun.Version } ? null
            : new Complaint($"{file.Name} is not a bulk run's result file{(number > 1 ? $": see its line {number}" : "")}", "name another with --result; nothing was written to this one");
        return complaint is null;
    }

    private static bool IsSame(string path, BulkRun begun, BulkRun asked, [NotNullWhen(false)] out Complaint? complaint)
    {
        var next = "go on with the options and the caller it was begun with, or begin another run with --result";
        complaint = begun.Foundry != asked.Foundry ? new Complaint($"{path} is a run of {begun.Foundry}", next)
            : begun.Request != asked.Request ? new Complaint($"{path} was begun with other options: {Shown(begun.Request)}", next)
            // Repeats are known by the caller's key: another's would be taken for new requests, and issue twice.
            : (begun.Issuer, begun.Caller) != (asked.Issuer, asked.Caller) ? new Complaint($"{path} was begun by another caller, key {begun.Caller ?? "unknown"} at {begun.Issuer ?? "unknown"}", next)
            : null;
        return complaint is null;
    }

    private static string Shown(TokenRequest? request) => request is null ? "none" : JsonSerializer.Serialize(request, WireJson.Default.TokenRequest);
}
