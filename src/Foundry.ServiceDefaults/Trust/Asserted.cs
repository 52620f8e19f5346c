using Foundry.Tokens;
using Microsoft.AspNetCore.Http;

namespace Foundry.ServiceDefaults.Trust;

/// <summary>What a backend may believe about a call: which part sent it and, from a gateway, for whom.</summary>
/// <param name="Kind">What the sender's key is believed for: <see cref="TrustedKey.Gateway"/> or <see cref="TrustedKey.Service"/>.</param>
/// <param name="Sender">The sending part's name.</param>
/// <param name="IsOwn">Whether the sender speaks for itself; otherwise for the caller below (nobody on anonymous routes).</param>
/// <param name="TenantId">The caller's tenant; null for platform tokens.</param>
/// <param name="Scope">The caller's scope; null on anonymous routes.</param>
/// <param name="Subject">The caller's <c>sub</c>.</param>
/// <param name="SubjectPubkey">The caller's key.</param>
/// <param name="TokenId">The token used.</param>
/// <param name="TokenExp">When that token ends, Unix seconds.</param>
/// <param name="Proved">Whether the caller has proved to hold its key (CONTRACT section 2).</param>
public sealed record Asserted(string Kind, string Sender, bool IsOwn, string? TenantId, Scope? Scope, string? Subject, string? SubjectPubkey, string? TokenId, long? TokenExp,
    bool Proved = false)
{
    /// <summary>The key that the sender signed with; null where nothing was signed.</summary>
    public string? Kid { get; init; }

    /// <summary>What the ledger calls the sender: all gateways are one writer, so that any of them may settle what another began.</summary>
    public string Part => Kind == TrustedKey.Gateway ? "gateway" : Sender;

    /// <summary>Whether the caller is a platform administrator.</summary>
    public bool IsPlatformAdmin => !IsOwn && Scope == Tokens.Scope.PlatformAdmin;

    /// <summary>What the gate found about this request.</summary>
    /// <param name="context">The request.</param>
    /// <exception cref="InvalidOperationException">The endpoint is behind no gate.</exception>
    public static Asserted Of(HttpContext context)
    {
        ArgumentNullException.ThrowIfNull(context);
        return context.Features.Get<Asserted>() ?? throw new InvalidOperationException("No assertion was checked for this request.");
    }
}

/// <summary>Marks an endpoint that needs no assertion: health, the trust set, the JWKS, join.</summary>
public sealed class OpenToAll
{
    /// <summary>The mark.</summary>
    public static readonly OpenToAll Instance = new();
}
