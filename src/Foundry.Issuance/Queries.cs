using System.Globalization;
using System.Text;
using Foundry.Contracts;
using Foundry.ServiceDefaults;
using Foundry.Tokens;
using Microsoft.AspNetCore.Http;

namespace Foundry.Issuance;

/// <summary>Query parameters: each at most once, and lists by <c>limit</c> and an opaque <c>cursor</c>.</summary>
internal static class Queries
{
    /// <summary>Items of a page where none is asked for.</summary>
    public const int LimitDefault = 100;
    /// <summary>Items of the longest page.</summary>
    public const int LimitMax = 1000;

    /// <summary>The value of a parameter, null where it is absent.</summary>
    public static bool TryOne(HttpContext context, string name, out string? value, out Refused? refusal)
    {
        var values = context.Request.Query[name];
        value = values.Count == 0 ? null : values[0];
        refusal = values.Count > 1 ? new Refused(ErrorCode.InvalidQuery, $"{name} is given more than once.") : null;
        return refusal is null;
    }

    /// <summary>Whether a parameter is <c>true</c>; absent is false.</summary>
    public static bool TryFlag(HttpContext context, string name, out bool flag, out Refused? refusal)
    {
        flag = false;
        if (!TryOne(context, name, out var value, out refusal))
            return false;
        flag = value == "true";
        if (value is not (null or "true" or "false"))
            refusal = new Refused(ErrorCode.InvalidQuery, $"{name}: true or false.");
        return refusal is null;
    }

    /// <summary>Where a page begins and how long it is.</summary>
    /// <param name="context">The request.</param>
    /// <param name="list">Names the list; another list's cursor is no cursor.</param>
    /// <param name="after">The last item of the page before, or the empty text.</param>
    /// <param name="limit">Items at most.</param>
    /// <param name="refusal">Why not.</param>
    public static bool TryPage(HttpContext context, string list, out string after, out int limit, out Refused? refusal)
    {
        (after, limit) = ("", LimitDefault);
        if (!TryOne(context, "limit", out var limitText, out refusal) || !TryOne(context, "cursor", out var cursor, out refusal))
            return false;
        if (limitText is not null && (!int.TryParse(limitText, NumberStyles.None, CultureInfo.InvariantCulture, out limit) || limit is < 1 or > LimitMax))
        {
            refusal = new Refused(ErrorCode.InvalidQuery, $"limit: a whole number from 1 to {LimitMax}.");
            return false;
        }
        if (cursor is null)
            return true;
        if (Base64UrlText.TryDecode(cursor, out var bytes) && Encoding.UTF8.GetString(bytes) is var text && text.StartsWith(list + "\n", StringComparison.Ordinal)
            // Of an ID alone; PostgreSQL takes no NUL in a text.
            && text.AsSpan(list.Length + 1).IndexOfAnyExceptInRange('!', '~') < 0)
        {
            after = text[(list.Length + 1)..];
            return true;
        }
        refusal = new Refused(ErrorCode.InvalidQuery, "cursor: give back next_cursor of this list as it was.");
        return false;
    }

    /// <summary>A page of at most <paramref name="limit"/> items, out of one more where there are more.</summary>
    public static Page<T> Page<T>(string list, IReadOnlyList<T> items, int limit, Func<T, string> id) => items.Count <= limit
        ? new(items, null)
        : new([.. items.Take(limit)], Base64UrlText.Encode(Encoding.UTF8.GetBytes($"{list}\n{id(items[limit - 1])}")));
}
