using System.Diagnostics.CodeAnalysis;
using Foundry.Contracts;
using Foundry.Gateway.Admit;
using Foundry.Gateway.Config;
using Foundry.ServiceDefaults.Trust;
using Foundry.Tokens;

namespace Foundry.Gateway.Authenticate;

/// <summary>Who is calling? Answered locally, from the token and from what issuance has said (CONTRACT section 2).</summary>
internal sealed class Authenticator(TenantDirectory directory, VerdictCache verdicts, ProofChecker proofs, TrustFollower trust, AddressLane addresses, TimeProvider time)
{
    private static readonly string[] Schemes = ["Bearer", ProofChecker.Scheme];

    /// <summary>Finds the caller of a request.</summary>
    /// <param name="exchange">The request, its route known.</param>
    /// <returns>The caller, or why nobody is let in.</returns>
    public async ValueTask<(Caller? Caller, Refusal? Refusal)> AuthenticateAsync(Exchange exchange)
    {
        var (context, route) = (exchange.Context, exchange.Route!);
        if (route.Scope.AllowsAnonymous)
            return addresses.TrySpend(context) is { } limited ? (null, limited) : (Caller.Nobody, null);
        if (!directory.IsKnown)
            return (null, new Refusal(ErrorCode.NotReady, "The gateway has not heard from issuance yet.") { RetryAfter = TimeSpan.FromSeconds(1) });
        if (!TryReadHeader(context, out var scheme, out var text, out var malformed))
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
        if (Check(token, route, out var tenant) is { } reason)
            return (null, Refusal.InvalidToken(reason));
        var (proved, unproved) = await proofs.CheckAsync(exchange, text, token, scheme, tenant);
        // Who has only a copy of somebody's token is a stranger too.
        return unproved is null ? (ToCaller(token, proved), null)
            : (null, unproved.TokenRefusal is null ? unproved : addresses.TrySpend(context) ?? unproved);
    }

    /// <summary>Whether who was let in may stay, as far as the token goes: it is asked again while a request runs.</summary>
    /// <param name="exchange">The request, its caller's token known.</param>
    /// <returns>Why not, or null.</returns>
    public Refusal? Recheck(Exchange exchange)
    {
        var token = exchange.Caller.Token!;
        var reason = trust.TokenKeys.Find(token.Kid) is null ? TokenRefusal.UnknownKey : Check(token, exchange.Route!, out _);
        return reason is { } refusal ? Refusal.InvalidToken(refusal) : null;
    }

    /// <summary>What is checked on every use, cached verdict or not.</summary>
    private TokenRefusal? Check(CapabilityToken token, RoutePolicy route, out Tenant? tenant)
    {
        tenant = null;
        if (token.Check(trust.Current!.Issuer, time.GetUtcNow()) is { } refusal)
            return refusal;
        if (directory.IsRevoked(token.Jti))
            return TokenRefusal.Revoked;
        if (token.TenantId is null)
            return null;
        tenant = directory.Find(token.TenantId);
        if (tenant is null)
            return TokenRefusal.Revoked; // Tokens die with their tenant.
        // Heartbeats of a suspended tenant go on: a running VM stays counted.
        return tenant.Status == Tenant.Suspended && !route.HeartbeatLane ? TokenRefusal.TenantSuspended : null;
    }

    private static Caller ToCaller(CapabilityToken token, bool proved) =>
        new(token, Scope.TryParseStored(token.Scope, out var scope) ? scope : throw new InvalidOperationException("A verified token has a valid scope."), proved);

    /// <summary>Exactly one header, of a scheme of ours and a token.</summary>
    private static bool TryReadHeader(HttpContext context, [NotNullWhen(true)] out string? scheme, [NotNullWhen(true)] out string? token, out TokenRefusal refusal)
    {
        (scheme, token) = (null, null);
        refusal = TokenRefusal.Missing;
        var header = context.Request.Headers.Authorization;
        if (header.Count == 0)
            return false;
        refusal = TokenRefusal.Malformed;
        if (header.Count > 1 || header[0] is not { } value || !System.Text.Ascii.IsValid(value))
            return false;
        var space = value.IndexOf(' ', StringComparison.Ordinal);
        scheme = space < 0 ? null : Schemes.FirstOrDefault(known => value.AsSpan(0, space).Equals(known, StringComparison.OrdinalIgnoreCase));
        if (scheme is null || value.Length - space - 1 > Jws.CharsMax)
            return false;
        token = value[(space + 1)..];
        return true;
    }
}
