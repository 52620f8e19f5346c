using System.Diagnostics.CodeAnalysis;
using System.Text.Json;

namespace Foundry.Cli;

/// <summary>A page of entries, as the gateway gave it.</summary>
/// <param name="Next">Where to go on.</param>
/// <param name="Entries">Its entries.</param>
internal sealed record LedgerPage(long Next, IReadOnlyList<JsonElement> Entries)
{
    /// <summary>Reads an answer of <c>GET /v1/entries</c>.</summary>
    public static bool TryParse(Answer answer, [NotNullWhen(true)] out LedgerPage? page)
    {
        page = null;
        if (!answer.IsAccepted || answer.Body.Length == 0)
            return false;
        var root = JsonElement.Parse(answer.Body);
        if (root.ValueKind == JsonValueKind.Object && root.TryGetProperty("next_cursor", out var next) && next.TryGetInt64(out var cursor))
            page = new LedgerPage(cursor, [.. Output.Elements(root)]);
        return page is not null;
    }
}

/// <summary>A log's entries, page by page to its end.</summary>
internal static class LedgerPages
{
    /// <summary>Reads to the end, waiting where the rate is used up.</summary>
    /// <param name="session">The gateway.</param>
    /// <param name="parameters">The query; <c>since</c> moves on with each page.</param>
    /// <param name="take">Takes a page.</param>
    /// <param name="cancellationToken">Ends it.</param>
    /// <returns>What stopped it before the end; else null.</returns>
    public static async Task<Answer?> ReadAsync(Session session, Dictionary<string, string> parameters, Action<Answer, LedgerPage> take, CancellationToken cancellationToken)
    {
        parameters.TryAdd("limit", LedgerQuery.Text(LedgerQuery.LimitMax));
        var since = parameters.TryGetValue("since", out var text) ? text : "0";
        while (true)
        {
            var answer = await PatientAsync(() => session.Gateway.ReadEntriesAsync(parameters, cancellationToken), session.Surroundings.Time, cancellationToken);
            if (!LedgerPage.TryParse(answer, out var page))
                return answer.IsAccepted ? answer with { Failure = "the answer is no page of entries" } : answer;
            take(answer, page);
            // The page from the log's end leads nowhere else.
            if (LedgerQuery.Text(page.Next) == since)
                return null;
            parameters["since"] = since = LedgerQuery.Text(page.Next);
        }
    }

    /// <summary>Asks again, as often as needed, where the answer is only that it is too early.</summary>
    public static async Task<Answer> PatientAsync(Func<Task<Answer>> ask, TimeProvider time, CancellationToken cancellationToken)
    {
        while (true)
        {
            var answer = await ask();
            if (answer is not { Status: 429, RetryAfter: { } wait })
                return answer;
            await Task.Delay(TimeSpan.FromTicks(Math.Clamp(wait.Ticks, TimeSpan.TicksPerSecond, TimeSpan.TicksPerMinute)), time, cancellationToken);
        }
    }
}
