using System.CommandLine;
using System.CommandLine.Parsing;
using System.Globalization;
using Foundry.Tokens;

namespace Foundry.Cli;

/// <summary>Options and arguments that say what would have been right, in place of the parser's "expected type System.Int32".</summary>
internal static class Take
{
    /// <summary>Characters of the longest ID.</summary>
    public const int IdCharsMax = 256;
    /// <summary>The longest time that is read at all; what an option takes is less.</summary>
    public static readonly TimeSpan DurationMax = TimeSpan.FromDays(36_500);

    private const int DurationDigitsMax = 12;

    /// <summary>A whole number within bounds.</summary>
    public static Option<long?> Number(string name, string description, long from, long to, bool required = false)
    {
        var option = new Option<long?>(name) { HelpName = "N", Description = description, Required = required };
        option.CustomParser = result =>
        {
            if (long.TryParse(result.Tokens[0].Value, NumberStyles.None, CultureInfo.InvariantCulture, out var number) && number >= from && number <= to)
                return number;
            result.AddError($"{name}: '{result.Tokens[0].Value}' is not a whole number from {from} to {to}");
            return null;
        };
        return option;
    }

    /// <summary>A length of time within bounds: seconds, or a number with s, m, h or d.</summary>
    public static Option<TimeSpan?> Duration(string name, string description, TimeSpan from, TimeSpan to)
    {
        var option = new Option<TimeSpan?>(name) { HelpName = "DURATION", Description = description };
        option.CustomParser = result =>
        {
            if (TryParseDuration(result.Tokens[0].Value, out var duration) && duration >= from && duration <= to)
                return duration;
            result.AddError($"{name}: '{result.Tokens[0].Value}' is not a length of time from {Shown(from)} to {Shown(to)}: say 3600, 90m, 24h or 30d");
            return null;
        };
        return option;
    }

    /// <summary>An ID that becomes part of a path.</summary>
    public static Argument<string> Id(string name, string description)
    {
        var argument = new Argument<string>(name) { Description = description };
        argument.Validators.Add(result => CheckId(result, name));
        return argument;
    }

    /// <summary>An ID that becomes part of a path, as an option.</summary>
    public static Option<string?> Id(string option, string helpName, string description, bool required = false)
    {
        var taken = new Option<string?>(option) { HelpName = helpName, Description = description, Required = required };
        taken.Validators.Add(result => CheckId(result, option));
        return taken;
    }

    /// <summary>The tenant that a platform token acts for.</summary>
    public static Option<string?> Tenant(string description = "The tenant to act for; a tenant's own token needs none") => Id("--tenant", "ID", description);

    /// <summary>A public key in any of the spellings people have.</summary>
    public static Option<VerifyingKey?> PublicKey(string name, string description)
    {
        var option = new Option<VerifyingKey?>(name) { HelpName = "KEY", Description = description };
        option.CustomParser = result =>
        {
            if (VerifyingKey.TryParse(result.Tokens[0].Value, out var key))
                return key;
            result.AddError($"{name}: this is not an Ed25519 public key: 32 bytes in base64, base64url or hex ('foundry keys show FILE' prints a file's)");
            return null;
        };
        return option;
    }

    /// <summary>Reads <c>3600</c>, <c>45s</c>, <c>90m</c>, <c>24h</c>, <c>30d</c>; parts of seconds as <c>0.5</c>.</summary>
    public static bool TryParseDuration(string text, out TimeSpan duration)
    {
        duration = default;
        var (digits, unit) = text.Length > 0 ? text[^1] switch
        {
            's' => (text[..^1], 1),
            'm' => (text[..^1], 60),
            'h' => (text[..^1], 3600),
            'd' => (text[..^1], 86400),
            _ => (text, 1),
        } : (text, 1);
        if (digits.Length is 0 or > DurationDigitsMax || !decimal.TryParse(digits, NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out var number)
            || number * unit > (decimal)DurationMax.TotalSeconds)
            return false;
        duration = TimeSpan.FromTicks((long)(number * unit * TimeSpan.TicksPerSecond));
        return true;
    }

    /// <summary>Whether it can stand in a path as it is.</summary>
    public static bool IsId(string text) =>
        // Dots alone would be another path, and what is outside this alphabet would need escapes that the gateway refuses.
        text.Length is > 0 and <= IdCharsMax && text.All(c => char.IsAsciiLetterOrDigit(c) || c is '-' or '_' or '.' or ':') && text.Any(c => c != '.');

    private static void CheckId(SymbolResult result, string name)
    {
        foreach (var token in result.Tokens)
        {
            if (!IsId(token.Value))
                result.AddError($"{name}: '{token.Value}' is not an ID: letters, digits, '-', '_', '.' and ':'");
        }
    }

    private static string Shown(TimeSpan span) => span switch
    {
        { TotalDays: >= 1 } when span.Ticks % TimeSpan.TicksPerDay == 0 => $"{span.TotalDays:0}d",
        { TotalHours: >= 1 } when span.Ticks % TimeSpan.TicksPerHour == 0 => $"{span.TotalHours:0}h",
        _ => string.Create(CultureInfo.InvariantCulture, $"{span.TotalSeconds:0.###}s"),
    };
}
