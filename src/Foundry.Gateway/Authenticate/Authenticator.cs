using System.Diagnostics.CodeAnalysis;
using Foundry.Contracts;
using Foundry.Gateway.Admit;
using Foundry.Gateway.Config;
using Foundry.ServiceDefaults.Trust;
using Foundry.Tokens;

namespace Foundry.Gateway.Authenticate;

/// <summary>Who is calling? Answered locally, from the token and from what issuance has said (CONTRACT section 2).</summary>
internal sealed class Authenticator(TenantDirectory directory, VerdictCache verdicts, TrustFollower trust, AddressLane addresses, TimeProvider time)
{
    private const string Bearer = "Bearer ";

    /// <summary>Finds the caller of a request.</summary>
    /// <param name="context">The request.</param>
    /// <param name="route">The route it is on.</param>
    /// <returns>The caller, or why nobody is let in.</returns>
    public async ValueTask<(Caller? Caller, Refusal? Refusal)> AuthenticateAsync(HttpContext context, RoutePolicy route)
    {
        if (route.Scope.AllowsAnonymous)
            return addresses.TrySpend(context) is { } limited ? (null, limited) : (Caller.Nobody, null);
        if (!directory.IsKnown)
            return (null, new Refusal(ErrorCode.NotReady, "The gateway has not heard from issuance yet.") { RetryAfter = TimeSpan.FromSeconds(1) });
        if (!TryReadHeader(context, out var text, out var malformed))
            return (null, addresses.TrySpend(context) ?? Refusal.InvalidToken(malformed));

        var keys = trust.TokenKeys;
        if (verdicts.Find(text, keys) is not { } token)
        {
            // A verify costs as much as forwarding; strangers pay for theirs before it is made.
            if (addresses.IsSpent(context, out var limited))
                return (null, limited);
            if (!CapabilityToken.TryVerify(text, keys, out token, out var refusal) && refusal == TokenRefusal.UnknownKey)
            {
                // A key published a moment ago; at most one question in 10 s, however many ask.
                await trust.RefreshAsync(context.RequestAborted);
                keys = trust.TokenKeys;
                CapabilityToken.TryVerify(text, keys, out token, out refusal);
            }
            if (token is null)
                return (null, addresses.TrySpend(context) ?? Refusal.InvalidToken(refusal));
            verdicts.Add(text, keys, token);
        }
        return Check(token, route) is { } reason ? (null, Refusal.InvalidToken(reason)) : (ToCaller(token), null);
    }

    /// <summary>What is checked on every use, cached verdict or not.</summary>
    private TokenRefusal? Check(CapabilityToken token, RoutePolicy route)
    {
        if (token.Check(trust.Current!.Issuer, time.GetUtcNow()) is { } refusal)
            return refusal;
        if (directory.IsRevoked(token.Jti))
            return TokenRefusal.Revoked;
        // Sent as Bearer, a token bound to a key proves nothing about the sender.
        if (token.Cnf is not null)
            return TokenRefusal.InvalidProof;
        if (token.TenantId is null)
            return null;
        if (directory.Find(token.TenantId) is not { } tenant)
            return TokenRefusal.Revoked; // Tokens die with their tenant.
        if (tenant.RequireProof)
            return TokenRefusal.InvalidProof;
        // Heartbeats of a suspended tenant go on: a running VM stays counted.
        return tenant.Status == Tenant.Suspended && !route.HeartbeatLane ? TokenRefusal.TenantSuspended : null;
    }

    private static Caller ToCaller(CapabilityToken token) =>
        new(token, Scope.TryParseStored(token.Scope, out var scope) ? scope : throw new InvalidOperationException("A verified token has a valid scope."));

    private static bool TryReadHeader(HttpContext context, [NotNullWhen(true)] out string? token, out TokenRefusal refusal)
    {
        token = null;
        refusal = TokenRefusal.Missing;
        var header = context.Request.Headers.Authorization;
        if (header.Count == 0)
            return false;
        refusal = TokenRefusal.Malformed;
        if (header.Count > 1 || header[0] is not { } value || !value.StartsWith(Bearer, StringComparison.OrdinalIgnoreCase) || value.Length > Bearer.Length + Jws.CharsMax
            || !System.Text.Ascii.IsValid(value))
            return false;
        token = value[Bearer.Length..];
        return true;
    }
}
