using System.CommandLine;
using System.Text.Json;

namespace Foundry.Cli;

/// <summary><c>foundry ledger …</c> (CONTRACT section 7).</summary>
internal static class LedgerCommands
{
    private static readonly string[] Columns = ["cursor", "payload.time", "payload.event_type", "payload.tenant_id", "payload.actor.scope", "payload.actor.token_id", "payload_id"];

    public static Command Create(GlobalOptions globals) => new Command("ledger", "The ledger: what happened, and by whom")
    {
        Read(globals),
        LedgerTail.Create(globals),
        LedgerExport.Create(globals),
        LedgerVerify.Create(globals),
        LedgerProve.Create(globals),
    };

    private static Verb Read(GlobalOptions globals)
    {
        var query = new LedgerQuery();
        var limit = Take.Number("--limit", $"Entries at most, to {LedgerQuery.LimitMax:N0}", 1, LedgerQuery.LimitMax);
        var all = new Option<bool>("--all") { Description = "Read on to the end of the log, page by page" };
        var verb = query.AddTo(new Verb("read", "Read entries of a log",
            "foundry ledger read --filter tenant-id=acme-corp --event-type TENANT_CREATED --limit 1",
            "foundry ledger read --module-id foundry.platform --since 120 --output json")
        {
            Details =
            [
                "Filter keys may be written with '-' for '_'. A tenant reads its own log; the platform's administrator names one with "
                    + "--filter tenant-id=ID or --module-id. The payloads themselves are in --output json; with --all that is a document a page.",
            ],
        });
        verb.Options.Add(limit);
        verb.Options.Add(all);
        return verb.Runs(globals, async (session, cancellationToken) =>
        {
            if (!query.TryCompose(session.Parse, out var parameters, out var complaint))
                return session.Output.Misused(complaint.Value);
            if (session.Parse.GetValue(limit) is { } entries)
                parameters["limit"] = LedgerQuery.Text(entries);
            if (!session.Parse.GetValue(all))
                return session.Output.Finish(await session.Gateway.ReadEntriesAsync(parameters, cancellationToken), page => Show(page, session.Output));
            return await LedgerPages.ReadAsync(session, parameters, (answer, page) =>
            {
                if (page.Entries.Count == 0)
                    return;
                session.Output.Finish(answer, shown => session.Output.Rows(Output.Elements(shown), Columns));
                if (session.Output.AsJson)
                    session.Output.Line("");
            }, cancellationToken) is { } refused ? session.Output.Refused(refused) : ExitCode.Done;
        });
    }

    private static void Show(JsonElement page, Output output)
    {
        output.Rows(Output.Elements(page), Columns);
        if (page.ValueKind != JsonValueKind.Object || !page.TryGetProperty("next_cursor", out var next))
            return;
        output.Note($"log {(page.TryGetProperty("module_id", out var module) ? module.ToString() : "-")}; what follows is after --since {next}");
    }
}
