using System.Collections.Concurrent;
using Foundry.Contracts;

namespace Foundry.Gateway.Authenticate;

/// <summary>
/// What issuance has said, as this gateway has it in memory: tenants and revocations. Only <see cref="FeedFollower"/>
/// writes it; every request reads it, without a lock and without a call.
/// </summary>
internal sealed class TenantDirectory
{
    private volatile State? _state;

    /// <summary>Whether there has ever been a snapshot; without one nobody is let in.</summary>
    public bool IsKnown => _state is not null;

    /// <summary>The change number reached.</summary>
    public long Seq => _state?.Seq ?? 0;

    /// <summary>Issuance's clock at the last message, or null where there was none.</summary>
    public DateTimeOffset? AsOf => _state?.AsOf;

    /// <summary>Every tenant.</summary>
    public IEnumerable<Tenant> Tenants => _state?.Tenants.Values ?? Enumerable.Empty<Tenant>();

    /// <summary>Called with each tenant that changed, after it has: the record as it is now, and whether it was just created.</summary>
    public event Action<Tenant, bool>? TenantChanged;

    /// <summary>A tenant's record, or null.</summary>
    /// <param name="tenantId">Its ID.</param>
    public Tenant? Find(string tenantId) => _state is { } state && state.Tenants.TryGetValue(tenantId, out var tenant) ? tenant : null;

    /// <summary>Whether a token was revoked.</summary>
    /// <param name="jti">Its ID.</param>
    public bool IsRevoked(string jti) => _state is { } state && state.Revoked.ContainsKey(jti);

    /// <summary>Applies a message that was checked.</summary>
    /// <param name="message">The message.</param>
    /// <param name="live">Whether it was received now, rather than read from disk.</param>
    /// <returns>Whether it applied: a message that does not follow on the state does not.</returns>
    public bool Apply(FeedMessage message, bool live)
    {
        var state = _state;
        if (message.Kind == FeedMessage.Snapshot)
            state = new State();
        else if (state is null || message.From != state.Seq)
            return false;
        var changed = new List<(Tenant Tenant, bool Created)>();
        foreach (var change in message.Changes)
            switch (change)
            {
                case { Type: "tenant", Tenant: { } tenant }:
                    changed.Add((tenant, !state.Tenants.ContainsKey(tenant.TenantId)));
                    state.Tenants[tenant.TenantId] = tenant;
                    break;
                case { Type: "tenant_deleted", TenantId: { } tenantId }:
                    state.Tenants.TryRemove(tenantId, out _);
                    break;
                case { Type: "revoked", Revoked: { } revoked }:
                    state.Revoked[revoked.Jti] = revoked.Exp;
                    break;
            }
        Forget(state, message.Time);
        (state.Seq, state.AsOf) = (message.To, message.Time);
        _state = state;
        if (live && message.Kind == FeedMessage.Delta)
            foreach (var (tenant, created) in changed)
                TenantChanged?.Invoke(tenant, created);
        return true;
    }

    /// <summary>A revocation is kept until the token would have expired, and 60 s more (CONTRACT section 3).</summary>
    private static void Forget(State state, DateTimeOffset now)
    {
        const long keptSeconds = 60;
        var seconds = now.ToUnixTimeSeconds();
        if (seconds - state.SweptAt < keptSeconds)
            return;
        state.SweptAt = seconds;
        foreach (var (jti, exp) in state.Revoked)
            if (exp + keptSeconds < seconds)
                state.Revoked.TryRemove(jti, out _);
    }

    private sealed class State
    {
        public ConcurrentDictionary<string, Tenant> Tenants { get; } = new(StringComparer.Ordinal);
        public ConcurrentDictionary<string, long> Revoked { get; } = new(StringComparer.Ordinal);
        public long Seq;
        public DateTimeOffset AsOf;
        public long SweptAt;
    }
}
