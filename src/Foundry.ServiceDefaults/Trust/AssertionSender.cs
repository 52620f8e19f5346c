using Foundry.Contracts;
using Foundry.Tokens;

namespace Foundry.ServiceDefaults.Trust;

/// <summary>Puts this part's own assertion on every request it sends to another part, as itself.</summary>
public sealed class AssertionSender : DelegatingHandler
{
    private readonly ServiceIdentity _identity;
    private readonly string _audience;
    private readonly TimeProvider _time;
    private volatile Reusable? _read;

    /// <summary>Makes one.</summary>
    /// <param name="identity">Who sends.</param>
    /// <param name="audience">The cluster it sends to.</param>
    /// <param name="time">The clock.</param>
    public AssertionSender(ServiceIdentity identity, string audience, TimeProvider time) => (_identity, _audience, _time) = (identity, audience, time);

    /// <inheritdoc/>
    protected override async Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        request.Headers.TryAddWithoutValidation(FoundryHeaders.Assertion,
            request.Method == HttpMethod.Get || request.Method == HttpMethod.Head ? Read() : await WriteAsync(request, cancellationToken));
        return await base.SendAsync(request, cancellationToken);
    }

    private string Read()
    {
        var now = _time.GetUtcNow();
        if (_read is { } known && now < known.Until)
            return known.Text;
        var made = new Reusable(New(Assertion.ReadUse, now).Sign(_identity.Key), now + Assertion.ReuseMax);
        _read = made;
        return made.Text;
    }

    private async Task<string> WriteAsync(HttpRequestMessage request, CancellationToken cancellationToken)
    {
        var body = request.Content is null ? [] : await request.Content.ReadAsByteArrayAsync(cancellationToken);
        return (New(Assertion.WriteUse, _time.GetUtcNow()) with
        {
            Htm = request.Method.Method,
            Htu = request.RequestUri!.IsAbsoluteUri ? request.RequestUri.PathAndQuery : request.RequestUri.OriginalString,
            Bh = Assertion.BodyHash(body),
        }).Sign(_identity.Key);
    }

    private Assertion New(string use, DateTimeOffset now) => new()
    {
        Iss = _identity.Name,
        Aud = _audience,
        Iat = now.ToUnixTimeSeconds(),
        Exp = (now + Assertion.Lifetime).ToUnixTimeSeconds(),
        Jti = Guid.CreateVersion7().ToString("N"),
        Use = use,
        Own = true,
    };

    private sealed record Reusable(string Text, DateTimeOffset Until);
}
