using System.CommandLine;
using System.Diagnostics.CodeAnalysis;
using System.Text.Json;

namespace Foundry.Cli;

/// <summary><c>foundry ledger …</c> (CONTRACT section 7).</summary>
internal static class LedgerCommands
{
    /// <summary>Entries the server gives at most in one answer.</summary>
    private const int LimitMax = 10_000;
    /// <summary>Filters on one command line.</summary>
    private const int FiltersMax = 16;

    private static readonly string[] Columns = ["cursor", "payload.time", "payload.event_type", "payload.tenant_id", "payload.actor.scope", "payload.actor.token_id", "payload_id"];

    public static Command Create(GlobalOptions globals) => new Command("ledger", "The ledger: what happened, and by whom")
    {
        Read(globals),
    };

    private static Verb Read(GlobalOptions globals)
    {
        var filters = new Option<string[]>("--filter") { HelpName = "KEY=VALUE", Description = "Only entries whose payload has this value; may be repeated. 'tenant-id' also names the log" };
        var type = new Option<string?>("--event-type") { HelpName = "TYPE", Description = "Only events of this type, as TENANT_CREATED" };
        var limit = Take.Number("--limit", $"Entries at most, to {LimitMax:N0}", 1, LimitMax);
        var since = Take.Number("--since", "Only entries after this cursor", 0, long.MaxValue);
        var module = Take.Id("--module-id", "LOG", "The log. Default: the tenant of --filter tenant-id=…, else the caller's own");
        var verb = new Verb("read", "Read entries of a log",
            "foundry ledger read --filter tenant-id=acme-corp --event-type TENANT_CREATED --limit 1",
            "foundry ledger read --module-id foundry.platform --since 120 --output json")
        {
            Details =
            [
                "Filter keys may be written with '-' for '_'. A tenant reads its own log; the platform's administrator names one with "
                    + "--filter tenant-id=ID or --module-id. The payloads themselves are in --output json.",
            ],
        };
        foreach (var option in new Option[] { filters, type, limit, since, module })
            verb.Options.Add(option);
        return verb.Runs(globals, async (session, cancellationToken) =>
        {
            var parse = session.Parse;
            if (!TryCompose(parse.GetValue(filters) ?? [], parse.GetValue(type), parse.GetValue(limit), parse.GetValue(since), parse.GetValue(module), out var parameters, out var complaint))
                return session.Output.Misused(complaint.Value);
            return session.Output.Finish(await session.Gateway.ReadEntriesAsync(parameters, cancellationToken), page => Show(page, session.Output));
        });
    }

    private static void Show(JsonElement page, Output output)
    {
        output.Rows(Output.Elements(page), Columns);
        if (page.ValueKind != JsonValueKind.Object || !page.TryGetProperty("next_cursor", out var next))
            return;
        output.Note($"log {(page.TryGetProperty("module_id", out var module) ? module.ToString() : "-")}; what follows is after --since {next}");
    }

    /// <summary>
    /// The query: every filter is a field of the payload, and a tenant's ID names the log as well. The gateway takes
    /// <c>module_id</c> from the platform's tokens and holds everyone else to its own log.
    /// </summary>
    private static bool TryCompose(string[] filters, string? type, long? limit, long? since, string? module,
        [NotNullWhen(true)] out Dictionary<string, string>? parameters, [NotNullWhen(false)] out Complaint? complaint)
    {
        parameters = null;
        var composed = new Dictionary<string, string>(StringComparer.Ordinal);
        if (filters.Length > FiltersMax)
        {
            complaint = new Complaint($"there are {filters.Length} filters", $"give at most {FiltersMax}");
            return false;
        }
        foreach (var filter in filters)
        {
            var at = filter.IndexOf('=', StringComparison.Ordinal);
            var key = at > 0 ? filter[..at].Replace('-', '_') : "";
            if (key.Length == 0 || !key.All(c => char.IsAsciiLetterOrDigit(c) || c is '_' or '.'))
            {
                complaint = new Complaint($"--filter: '{filter}' is not KEY=VALUE", "write it as --filter tenant-id=acme-corp");
                return false;
            }
            if (key is "since" or "limit" or "module_id")
            {
                complaint = new Complaint($"--filter: '{key}' is not a field of an entry", $"use the option --{key.Replace('_', '-')}");
                return false;
            }
            if (!composed.TryAdd(key, filter[(at + 1)..]))
            {
                complaint = new Complaint($"--filter: '{key}' is there twice", "an entry has one value of each field: give it once");
                return false;
            }
        }
        if (type is not null && !composed.TryAdd("event_type", type) && composed["event_type"] != type)
        {
            complaint = new Complaint("--event-type and --filter event-type name two types", "give one");
            return false;
        }
        if ((module ?? composed.GetValueOrDefault("tenant_id")) is { } log)
            composed["module_id"] = log;
        if (limit is { } entries)
            composed["limit"] = entries.ToString();
        if (since is { } cursor)
            composed["since"] = cursor.ToString();
        parameters = composed;
        complaint = null;
        return true;
    }
}
