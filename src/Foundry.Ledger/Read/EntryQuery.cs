using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using Foundry.Contracts;
using Foundry.ServiceDefaults;

namespace Foundry.Ledger.Read;

/// <summary>What a reader of entries asks for.</summary>
/// <param name="Since">The cursor behind which to begin.</param>
/// <param name="Limit">Entries at most.</param>
/// <param name="Fields">String members at the top of the payload, each of which must have this value.</param>
internal sealed record EntryQuery(long Since, int Limit, IReadOnlyList<KeyValuePair<string, string>> Fields)
{
    /// <summary>Entries in a page at most.</summary>
    public const int LimitMax = 10_000;

    /// <summary>Entries in a page when nothing is said.</summary>
    public const int LimitDefault = 100;

    /// <summary>Fields that one query may name.</summary>
    public const int FieldsMax = 8;

    /// <summary>Characters in a field's name or value.</summary>
    public const int FieldLengthMax = 512;

    /// <summary>Reads a query. A parameter twice, or one that is out of range, is refused; what is not a parameter of ours is a field.</summary>
    public static bool TryParse(IQueryCollection query, ModuleId module, [NotNullWhen(true)] out EntryQuery? parsed, [NotNullWhen(false)] out Refused? refusal)
    {
        parsed = null;
        var (since, limit) = (0L, (long)LimitDefault);
        var fields = new List<KeyValuePair<string, string>>();
        foreach (var (name, values) in query)
        {
            if (values is not [{ } value])
                return Refuse($"'{Shown(name)}' may be given once.", out refusal);
            switch (name)
            {
                case "since":
                    if (!TryNumber(value, 0, long.MaxValue, out since))
                        return Refuse("since is a cursor: 0 or more.", out refusal);
                    break;
                case "limit":
                    if (!TryNumber(value, 1, LimitMax, out limit))
                        return Refuse($"limit is 1 to {LimitMax}.", out refusal);
                    break;
                case "module_id":
                case "tenant_id" when value == module.Name:
                    // The gateway's own words for the log; the header has said it already.
                    break;
                default:
                    if (name.Length is 0 or > FieldLengthMax || value.Length > FieldLengthMax || fields.Count == FieldsMax)
                        return Refuse($"At most {FieldsMax} fields can be asked for, with names and values of at most {FieldLengthMax} characters.", out refusal);
                    fields.Add(new(name, value));
                    break;
            }
        }
        parsed = new EntryQuery(since, (int)limit, fields);
        refusal = null;
        return true;
    }

    private static string Shown(string name) => name.Length > FieldLengthMax ? "…" : name;

    private static bool TryNumber(string text, long least, long most, out long number) =>
        long.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out number) && number >= least && number <= most;

    private static bool Refuse(string detail, out Refused refusal)
    {
        refusal = new Refused(ErrorCode.InvalidQuery, detail);
        return false;
    }
}
