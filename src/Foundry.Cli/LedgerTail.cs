using System.CommandLine;
using System.Text;
using System.Text.Json;
using Foundry.Proofs;

namespace Foundry.Cli;

/// <summary><c>foundry ledger tail</c>: a log's last entries, and those to come.</summary>
internal static class LedgerTail
{
    private const int LinesDefault = 10;

    /// <summary>Pauses before a follower asks again: the first and the longest.</summary>
    private static readonly TimeSpan _pauseMin = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan _pauseMax = TimeSpan.FromSeconds(30);

    public static Verb Create(GlobalOptions globals)
    {
        var query = new LedgerQuery();
        var lines = Take.Number("--lines", $"Look at this many of the log's last entries, to {LedgerQuery.LimitMax:N0}. Default: {LinesDefault}", 0, LedgerQuery.LimitMax);
        var follow = new Option<bool>("--follow") { Description = "Go on with each entry as it is written, until Ctrl-C" };
        var verb = query.AddTo(new Verb("tail", "Show the last entries of a log, and follow it",
            "foundry ledger tail --follow",
            "foundry ledger tail --module-id foundry.platform --lines 100 --filter event-type=TOKEN_ISSUED --output json")
        {
            Details =
            [
                "An entry a line: cursor, time, event type, tenant, payload ID; with --output json the whole entry. A follower goes on where it was "
                    + "when the connection breaks off or the gateway restarts, and ends when its token is refused (exit code 1).",
            ],
        });
        verb.Options.Add(lines);
        verb.Options.Add(follow);
        return verb.Runs(globals, async (session, cancellationToken) =>
        {
            if (!query.TryCompose(session.Parse, out var parameters, out var complaint))
                return session.Output.Misused(complaint.Value);
            var count = session.Parse.GetValue(lines) ?? LinesDefault;
            if (!parameters.ContainsKey("since"))
            {
                var (size, refused) = await SizeAsync(session, parameters.GetValueOrDefault("module_id"), cancellationToken);
                if (refused is not null)
                    return session.Output.Refused(refused);
                parameters["since"] = LedgerQuery.Text(Math.Max(0, size - count));
            }
            if (session.Parse.GetValue(follow))
                return await FollowAsync(session, parameters, cancellationToken);
            var stopped = await LedgerPages.ReadAsync(session, parameters, (_, page) =>
            {
                foreach (var entry in page.Entries)
                    session.Output.Line(Line(entry, session.Output.AsJson));
            }, cancellationToken);
            return stopped is null ? ExitCode.Done : session.Output.Refused(stopped);
        });
    }

    /// <summary>An entry on one line.</summary>
    public static string Line(JsonElement entry, bool asJson)
    {
        if (asJson)
            return OneLine(entry);
        var payload = entry.TryGetProperty("payload", out var found) ? found : default;
        string[] cells = [Text(entry, "cursor"), Text(entry, "time"), Text(payload, "event_type"), Text(payload, "tenant_id"), Text(entry, "payload_id")];
        return string.Join("  ", cells);
    }

    /// <summary>An entry's JSON on one line: between tokens a line break means nothing, and within them there is none.</summary>
    public static string OneLine(JsonElement entry) => entry.GetRawText().Replace('\n', ' ').Replace('\r', ' ');

    private static string Text(JsonElement of, string name) =>
        of.ValueKind == JsonValueKind.Object && of.TryGetProperty(name, out var value) && value.ValueKind is not JsonValueKind.Null ? Plain.Text(value.ToString()) : "-";

    private static async Task<(long Size, Answer? Refused)> SizeAsync(Session session, string? module, CancellationToken cancellationToken)
    {
        var answer = await session.Gateway.LedgerCheckpointAsync(module, cancellationToken);
        // A log without entries has no checkpoint.
        if (answer.Status == 404)
            return (0, null);
        if (!answer.IsAccepted)
            return (0, answer);
        return SignedNote.TryParse(answer.Body, out var note) && Checkpoint.TryParse(note.Text, out var checkpoint)
            ? (checkpoint.Size, null)
            : (0, answer with { Failure = "the answer is no checkpoint" });
    }

    private static async Task<int> FollowAsync(Session session, Dictionary<string, string> parameters, CancellationToken cancellationToken)
    {
        var pause = TimeSpan.Zero;
        try
        {
            while (true)
            {
                var began = session.Surroundings.Time.GetTimestamp();
                var hasMoved = false;
                var answer = await session.Gateway.TailAsync(parameters, line => hasMoved |= TakeLine(session.Output, parameters, line), cancellationToken);
                session.Token?.Refresh();
                if (IsFinal(answer))
                    return session.Output.Refused(answer);
                // The server ends a stream now and then, in order to look at the token again: that is no trouble.
                var isQuiet = answer.IsAccepted && (hasMoved || session.Surroundings.Time.GetElapsedTime(began) >= _pauseMin);
                if (pause == TimeSpan.Zero && !isQuiet && !answer.IsAccepted)
                    session.Output.Explain(answer);
                pause = isQuiet ? TimeSpan.Zero : TimeSpan.FromTicks(Math.Clamp(Math.Max(pause.Ticks * 2, answer.RetryAfter?.Ticks ?? 0), _pauseMin.Ticks, _pauseMax.Ticks));
                if (pause > TimeSpan.Zero)
                    await Task.Delay(pause, session.Surroundings.Time, cancellationToken);
            }
        }
        catch (OperationCanceledException) when (cancellationToken.IsCancellationRequested)
        {
            return ExitCode.Done;
        }
    }

    private static bool IsFinal(Answer answer) => answer.Status is >= 400 and < 500 and not (408 or 425 or 429);

    private static bool TakeLine(Output output, Dictionary<string, string> parameters, ReadOnlyMemory<byte> line)
    {
        JsonElement entry;
        try
        {
            entry = JsonElement.Parse(line.Span);
        }
        catch (JsonException)
        {
            // Cut off in the middle: it comes again, because the cursor has not moved.
            return false;
        }
        if (entry.ValueKind != JsonValueKind.Object)
            return false;
        if (entry.TryGetProperty("next_cursor", out var next) && next.TryGetInt64(out var quiet))
        {
            parameters["since"] = LedgerQuery.Text(quiet);
            return false;
        }
        if (!entry.TryGetProperty("cursor", out var cursor) || !cursor.TryGetInt64(out var at))
            return false;
        output.Line(output.AsJson ? Encoding.UTF8.GetString(line.Span) : Line(entry, asJson: false));
        parameters["since"] = LedgerQuery.Text(at);
        return true;
    }
}
