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
            Problems.SayRetryAfter(context, wait);
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
}
