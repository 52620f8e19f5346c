using System.CommandLine;
using System.Diagnostics.CodeAnalysis;
using System.Globalization;

namespace Foundry.Cli;

/// <summary>The options that say which entries of which log are meant, and the query they make.</summary>
internal sealed class LedgerQuery
{
    /// <summary>Entries the server gives at most in one answer.</summary>
    public const int LimitMax = 10_000;
    /// <summary>Filters on one command line.</summary>
    private const int FiltersMax = 16;

    private readonly Option<string[]> _filters = new("--filter") { HelpName = "KEY=VALUE", Description = "Only entries whose payload has this value; may be repeated. 'tenant-id' also names the log" };
    private readonly Option<string?> _type = new("--event-type") { HelpName = "TYPE", Description = "Only events of this type, as TENANT_CREATED" };
    private readonly Option<long?> _since = Take.Number("--since", "Only entries after this cursor", 0, long.MaxValue);
    private readonly Option<string?> _module = ModuleOption("The log. Default: the tenant of --filter tenant-id=…, else the caller's own");

    /// <summary>The option that names a log.</summary>
    public static Option<string?> ModuleOption(string description = "The log. Default: the caller's own") => Take.Id("--module-id", "LOG", description);

    /// <summary>Adds the options.</summary>
    public Verb AddTo(Verb verb)
    {
        foreach (var option in new Option[] { _filters, _type, _since, _module })
            verb.Options.Add(option);
        return verb;
    }

    /// <summary>
    /// The query: every filter is a field of the payload, and a tenant's ID names the log as well. The gateway takes
    /// <c>module_id</c> from the platform's tokens and holds everyone else to its own log.
    /// </summary>
    public bool TryCompose(ParseResult parse, [NotNullWhen(true)] out Dictionary<string, string>? parameters, [NotNullWhen(false)] out Complaint? complaint)
    {
        parameters = null;
        var filters = parse.GetValue(_filters) ?? [];
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
        if (parse.GetValue(_type) is { } type && !composed.TryAdd("event_type", type) && composed["event_type"] != type)
        {
            complaint = new Complaint("--event-type and --filter event-type name two types", "give one");
            return false;
        }
        if ((parse.GetValue(_module) ?? composed.GetValueOrDefault("tenant_id")) is { } log)
            composed["module_id"] = log;
        if (parse.GetValue(_since) is { } cursor)
            composed["since"] = Text(cursor);
        parameters = composed;
        complaint = null;
        return true;
    }

    /// <summary>A number as a query has it.</summary>
    public static string Text(long number) => number.ToString(CultureInfo.InvariantCulture);
}
