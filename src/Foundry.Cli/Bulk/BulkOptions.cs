using System.CommandLine;
using System.CommandLine.Parsing;

namespace Foundry.Cli.Bulk;

/// <summary>The options that make one command a command for each line of a list.</summary>
internal sealed class BulkOptions
{
    /// <summary>What a command's help says of them.</summary>
    public const string Details =
        "With --from, the whole list is checked before anything is sent. What is done is written to the result file (mode 0600), a line each, "
        + "and running the same command again goes on where it stopped, however it was stopped: nothing is done twice (within 24 hours).";

    public BulkOptions(string from) => From = new("--from") { HelpName = "FILE", Description = from };

    public Option<string?> From { get; }
    public Option<string?> Result { get; } = new("--result") { HelpName = "FILE", Description = "With --from: where what was done is written down. Default: the list's name with .results.jsonl" };
    public Option<long?> Concurrency { get; } = Take.Number("--concurrency", $"With --from: requests at once, to {BulkRunner.ConcurrencyMax}. Default: {BulkRunner.ConcurrencyDefault}", 1, BulkRunner.ConcurrencyMax);

    public IEnumerable<Option> All => [From, Result, Concurrency];

    public bool IsUsed(ParseResult parse) => parse.GetValue(From) is not null;

    /// <summary>Refuses what goes with one alone, or with many alone.</summary>
    public void Check(CommandResult result, params Option[] ofOneAlone)
    {
        var isBulk = result.GetResult(From) is not null;
        foreach (var option in isBulk ? ofOneAlone : [Result, Concurrency])
        {
            if (result.GetResult(option) is not null)
                result.AddError(isBulk ? $"{option.Name} and --from do not go together." : $"{option.Name} goes with --from.");
        }
        if (isBulk && result.GetValue<string>("--output") == "json")
            result.AddError("--output json and --from do not go together: the result file is JSON.");
    }

    public string ResultFileOf(ParseResult parse) => parse.GetValue(Result) ?? $"{parse.GetValue(From)}.results.jsonl";

    public int ConcurrencyOf(ParseResult parse) => (int)(parse.GetValue(Concurrency) ?? BulkRunner.ConcurrencyDefault);
}
