using System.CommandLine;
using System.Text;
using System.Text.Json;

namespace Foundry.Cli;

/// <summary><c>foundry ledger export</c>: a log's entries as lines of JSON or as a table for spreadsheets.</summary>
internal static class LedgerExport
{
    private static readonly UTF8Encoding _utf8 = new(encoderShouldEmitUTF8Identifier: false);
    private static readonly string[] _columns = ["cursor", "time", "writer", "payload_id", "event_type", "tenant_id", "payload"];

    public static Verb Create(GlobalOptions globals)
    {
        var query = new LedgerQuery();
        var format = new Option<string>("--format") { HelpName = "jsonl|csv", Description = "'jsonl': an entry a line. 'csv': RFC 4180, with the payload in its last column. Default: jsonl", DefaultValueFactory = _ => "jsonl" };
        format.AcceptOnlyFromAmong("jsonl", "csv");
        var file = new Option<string?>("--out") { HelpName = "FILE", Description = "Write to this new file. Default: standard output" };
        var verb = query.AddTo(new Verb("export", "Write a log's entries out",
            "foundry ledger export > acme.jsonl",
            "foundry ledger export --module-id acme-corp --format csv --event-type VM_CREATED --out vms.csv")
        {
            Details =
            [
                "To the log's end as it is now; where the rate is used up it waits. In csv, text that a spreadsheet would take for a formula "
                    + "(it begins with = + - @) has an apostrophe before it; jsonl is exact.",
            ],
        });
        verb.Options.Add(format);
        verb.Options.Add(file);
        return verb.Runs(globals, async (session, cancellationToken) =>
        {
            if (!query.TryCompose(session.Parse, out var parameters, out var complaint))
                return session.Output.Misused(complaint.Value);
            if (session.Parse.GetValue(file) is not { } path)
                return await WriteAsync(session, parameters, session.Surroundings.Output, session.Parse.GetValue(format) == "csv", cancellationToken);
            if (!NewFile.TryCreate(path, out var created, out complaint))
                return session.Output.Misused(complaint.Value);
            await using (created)
                return await WriteAsync(session, parameters, created, session.Parse.GetValue(format) == "csv", cancellationToken);
        });
    }

    private static async Task<int> WriteAsync(Session session, Dictionary<string, string> parameters, Stream output, bool asCsv, CancellationToken cancellationToken)
    {
        var count = 0L;
        if (asCsv)
            output.Write(_utf8.GetBytes(string.Join(',', _columns) + "\r\n"));
        var stopped = await LedgerPages.ReadAsync(session, parameters, (_, page) =>
        {
            foreach (var entry in page.Entries)
                output.Write(_utf8.GetBytes(asCsv ? Row(entry) + "\r\n" : LedgerTail.OneLine(entry) + "\n"));
            output.Flush();
            count += page.Entries.Count;
        }, cancellationToken);
        if (stopped is null)
        {
            session.Output.Note($"{count} entries; those to come are after --since {parameters["since"]}");
            return ExitCode.Done;
        }
        session.Output.Refused(stopped);
        session.Output.Detail("so far", $"{count} entries; the rest is after --since {parameters.GetValueOrDefault("since", "0")}");
        return ExitCode.Failed;
    }

    private static string Row(JsonElement entry)
    {
        var payload = entry.TryGetProperty("payload", out var found) ? found : default;
        return string.Join(',', _columns.Select(column => column switch
        {
            "payload" => Cell(payload.ValueKind == JsonValueKind.Undefined ? "" : LedgerTail.OneLine(payload)),
            "event_type" or "tenant_id" => Cell(Text(payload, column)),
            _ => Cell(Text(entry, column)),
        }));
    }

    private static string Text(JsonElement of, string name) =>
        of.ValueKind == JsonValueKind.Object && of.TryGetProperty(name, out var value) && value.ValueKind is not JsonValueKind.Null ? value.ToString() : "";

    private static string Cell(string text)
    {
        // Who opens it in a spreadsheet must not run what a tenant wrote.
        if (text.Length > 0 && text[0] is '=' or '+' or '-' or '@' or '\t' or '\r')
            text = "'" + text;
        return text.AsSpan().IndexOfAny(",\"\r\n") < 0 ? text : $"\"{text.Replace("\"", "\"\"", StringComparison.Ordinal)}\"";
    }
}
