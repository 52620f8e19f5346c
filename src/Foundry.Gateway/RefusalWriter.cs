using System.Globalization;
using System.Security.Cryptography;
using Foundry.ServiceDefaults;
using Foundry.Tokens;

namespace Foundry.Gateway;

/// <summary>The one place that turns a <see cref="Refusal"/> into an answer (CONTRACT section 9).</summary>
internal static class RefusalWriter
{
    /// <summary>Writes the refusal as the whole answer.</summary>
    /// <param name="context">The request.</param>
    /// <param name="refusal">Why not.</param>
    public static Task WriteAsync(HttpContext context, Refusal refusal)
    {
        var headers = context.Response.Headers;
        if (refusal.TokenRefusal is { } reason)
            headers.WWWAuthenticate = reason.Challenges();
        if (refusal.Allow is { } allow)
            headers.Allow = allow;
        if (refusal.RetryAfter is { } wait)
            headers.RetryAfter = Jittered(wait).ToString(CultureInfo.InvariantCulture);
        return Problems.WriteAsync(context, Problems.Of(context, refusal.Error, refusal.Detail) with
        {
            Reason = refusal.TokenRefusal?.WireName(),
            RequiredScope = refusal.RequiredScope,
            Quota = refusal.Shortage?.Quota,
            Limit = refusal.Shortage?.Limit,
            Used = refusal.Shortage?.Used,
            Requested = refusal.Shortage?.Requested,
        });
    }

    /// <summary>Whole seconds, at least the wait and at least one, spread so that clients do not come back together.</summary>
    private static int Jittered(TimeSpan wait)
    {
        var seconds = Math.Clamp((int)Math.Ceiling(wait.TotalSeconds), 1, 3600);
        return seconds + RandomNumberGenerator.GetInt32(Math.Max(seconds / 2, 2));
    }
}
