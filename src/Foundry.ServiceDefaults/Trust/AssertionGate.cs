using System.Collections.Concurrent;
using Foundry.Contracts;
using Foundry.Tokens;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.Extensions.DependencyInjection;

namespace Foundry.ServiceDefaults.Trust;

/// <summary>
/// Stands in front of a backend of ours and lets nothing in that a gateway or another part did not send
/// (CONTRACT sections 1 and 4): a read's assertion for GET and HEAD alone, a write's once, for exactly these bytes.
/// </summary>
public sealed class AssertionGate
{
    /// <summary>Bytes of the largest body that a backend of ours takes.</summary>
    public const int BodyBytesMax = 2 * 1024 * 1024;
    private const int RememberedMax = 1_000_000;
    private const long UnixSecondsMax = 253_402_300_000; // some minutes before the year 10,000
    private static readonly TimeSpan Skew = TimeSpan.FromSeconds(5);

    private readonly string _audience;
    private readonly ITrustSource _trust;
    private readonly TimeProvider _time;
    private readonly ConcurrentDictionary<string, long> _used = new(StringComparer.Ordinal);
    // The dictionary's own count takes all of its locks.
    private int _usedCount;
    private long _sweptAt;

    /// <summary>Makes one.</summary>
    /// <param name="audience">This backend's cluster ID.</param>
    /// <param name="trust">Whom it believes.</param>
    /// <param name="time">The clock.</param>
    public AssertionGate(string audience, ITrustSource trust, TimeProvider time) => (_audience, _trust, _time) = (audience, trust, time);

    /// <summary>Checks a request and leaves what may be believed about it in its features.</summary>
    /// <param name="context">The request.</param>
    /// <returns>Why it is refused, or null.</returns>
    public async Task<Refused?> TryEnterAsync(HttpContext context)
    {
        ArgumentNullException.ThrowIfNull(context);
        var header = context.Request.Headers[FoundryHeaders.Assertion];
        if (header.Count != 1 || header[0] is not { } text)
            return RoundTheGateway;
        if (!Assertion.TryVerify(text, _trust.Find, out var assertion, out var signer))
        {
            // A part that joined a moment ago is not in the set yet.
            await _trust.RefreshAsync(context.RequestAborted);
            if (!Assertion.TryVerify(text, _trust.Find, out assertion, out signer))
                return RoundTheGateway;
        }
        var own = assertion.Own == true;
        if (assertion.Aud != _audience || (!own && signer.Kind != TrustedKey.Gateway))
            return RoundTheGateway;
        var now = _time.GetUtcNow();
        // Numbers that are no times of any clock would throw below.
        if (assertion.Iat < 0 || assertion.Exp < assertion.Iat || assertion.Exp > UnixSecondsMax)
            return RoundTheGateway;
        if (now > DateTimeOffset.FromUnixTimeSeconds(assertion.Exp) + Skew || now < DateTimeOffset.FromUnixTimeSeconds(assertion.Iat) - Skew
            || assertion.Exp - assertion.Iat > (long)Assertion.Lifetime.TotalSeconds)
            return RoundTheGateway;
        if (await TryUseAsync(context, assertion, now) is { } refusal)
            return refusal;
        Scope? scope = null;
        if (assertion.Scope is not null)
        {
            if (!Scope.TryParseStored(assertion.Scope, out var parsed))
                return RoundTheGateway;
            scope = parsed;
        }
        context.Features.Set(new Asserted(signer.Kind, signer.Name, own, assertion.TenantId, scope, assertion.Sub, assertion.SubjectPubkey, assertion.TokenId, assertion.TokenExp, assertion.Proof == true) { Kid = signer.Kid });
        return null;
    }

    private async Task<Refused?> TryUseAsync(HttpContext context, Assertion assertion, DateTimeOffset now)
    {
        var reads = HttpMethods.IsGet(context.Request.Method) || HttpMethods.IsHead(context.Request.Method);
        if (assertion.Use == Assertion.ReadUse)
            return reads ? null : RoundTheGateway;
        if (assertion.Use != Assertion.WriteUse || assertion.Htm != context.Request.Method
            || assertion.Htu != context.Features.GetRequiredFeature<IHttpRequestFeature>().RawTarget)
            return RoundTheGateway;
        if (await TryReadBodyAsync(context) is not { } body)
            return new Refused(ErrorCode.BodyTooLarge, "The body is over the bound of this service.");
        if (assertion.Bh != Assertion.BodyHash(body))
            return RoundTheGateway;
        Sweep(now);
        if (Volatile.Read(ref _usedCount) >= RememberedMax)
            return new Refused(ErrorCode.NotReady, "Too many writes are remembered at the moment.");
        if (!_used.TryAdd(assertion.Jti, assertion.Exp))
            return RoundTheGateway;
        Interlocked.Increment(ref _usedCount);
        return null;
    }

    private static async Task<byte[]?> TryReadBodyAsync(HttpContext context)
    {
        if (context.Request.ContentLength > BodyBytesMax)
            return null;
        if (context.Request.ContentLength is { } length)
        {
            // The server reads no more than that, and breaks off where there is less.
            var whole = new byte[length];
            await context.Request.Body.ReadExactlyAsync(whole, context.RequestAborted);
            context.Request.Body = new MemoryStream(whole);
            return whole;
        }
        var body = new MemoryStream();
        var buffer = new byte[16 * 1024];
        int read;
        while ((read = await context.Request.Body.ReadAsync(buffer, context.RequestAborted)) > 0)
        {
            if (body.Length + read > BodyBytesMax)
                return null;
            body.Write(buffer, 0, read);
        }
        body.Position = 0;
        context.Request.Body = body;
        return body.ToArray();
    }

    private void Sweep(DateTimeOffset now)
    {
        var seconds = now.ToUnixTimeSeconds();
        var swept = Interlocked.Read(ref _sweptAt);
        if (seconds - swept < 10 || Interlocked.CompareExchange(ref _sweptAt, seconds, swept) != swept)
            return;
        foreach (var (jti, exp) in _used)
            if (exp + (long)Skew.TotalSeconds + 1 < seconds && _used.TryRemove(jti, out _))
                Interlocked.Decrement(ref _usedCount);
    }

    private static readonly Refused RoundTheGateway = new(ErrorCode.GatewayRequired,
        "This service answers only what the gateway sends it. Send the request to the gateway, port 9221, with a capability token.");
}

/// <summary>Puts the gate into an application.</summary>
public static class AssertionGates
{
    /// <summary>Puts an <see cref="AssertionGate"/> in front of every endpoint that is not <see cref="OpenToAll"/>; after routing.</summary>
    /// <param name="app">The application.</param>
    /// <param name="audience">Its cluster ID.</param>
    public static void UseAssertionGate(this IApplicationBuilder app, string audience)
    {
        ArgumentNullException.ThrowIfNull(app);
        var gate = new AssertionGate(audience, app.ApplicationServices.GetRequiredService<ITrustSource>(), app.ApplicationServices.GetRequiredService<TimeProvider>());
        app.Use(async (context, next) =>
        {
            if (context.GetEndpoint()?.Metadata.GetMetadata<OpenToAll>() is null && await gate.TryEnterAsync(context) is { } refusal)
            {
                await refusal.ExecuteAsync(context);
                return;
            }
            await next(context);
        });
    }
}
