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
    private State? _arriving;

    /// <summary>Whether there has ever been a snapshot; without one nobody is let in.</summary>
    public bool IsKnown => _state is not null;

    /// <summary>The change number reached.</summary>
    public long Seq => _state?.Seq ?? 0;

    /// <summary>The hash that came with <see cref="Seq"/>.</summary>
    public string Hash => _state?.Hash ?? "";

    /// <summary>Issuance's clock at the last message, or null where there was none.</summary>
    public DateTimeOffset? AsOf => _state?.AsOf;

    /// <summary>Every tenant.</summary>
    public IEnumerable<Tenant> Tenants => _state?.Tenants.Values ?? Enumerable.Empty<Tenant>();

    /// <summary>How many revoked tokens are held.</summary>
    public int RevocationsCount => _state?.Revoked.Count ?? 0;

    /// <summary>Called with each tenant that changed, after it has: the record as it is now, and whether it was just created.</summary>
    public event Action<Tenant, bool>? TenantChanged;

    /// <summary>A tenant's record, or null.</summary>
    /// <param name="tenantId">Its ID.</param>
    public Tenant? Find(string tenantId) => _state is { } state && state.Tenants.TryGetValue(tenantId, out var tenant) ? tenant : null;

    /// <summary>Whether a token was revoked.</summary>
    /// <param name="jti">Its ID; what is none was never issued.</param>
    public bool IsRevoked(string jti) => _state is { } state && (!Guid.TryParseExact(jti, "D", out var id) || state.Revoked.Contains(id));

    /// <summary>Applies a message that was checked. A snapshot is in force with its last part, and until then what was before it.</summary>
    /// <param name="message">The message.</param>
    /// <param name="live">Whether it was received now, rather than read from disk.</param>
    /// <returns>Whether it applied: a message that does not follow on the state does not.</returns>
    public bool Apply(FeedMessage message, bool live) => message.Kind == FeedMessage.Snapshot ? ApplyPart(message) : ApplyChanges(message, live);

    private bool ApplyPart(FeedMessage message)
    {
        if (message.Part == 1)
            _arriving = new State { Seq = message.To, Hash = message.Hash };
        if (_arriving is not { } state || message.Part != state.Parts + 1 || (message.To, message.Hash) != (state.Seq, state.Hash))
            return false;
        state.Parts++;
        foreach (var change in message.Changes)
            Apply(state, change, []);
        for (var revoked = message.Revoked.GetValueOrDefault(); !revoked.IsEmpty; revoked = revoked[RevokedToken.PackedBytes..])
        {
            var (jti, exp) = RevokedToken.Unpack(revoked.Span);
            state.Revoked.Add(jti, exp);
        }
        state.AsOf = message.Time;
        if (!message.More)
            (_state, _arriving) = (state, null);
        return true;
    }

    private bool ApplyChanges(FeedMessage message, bool live)
    {
        if (_state is not { } state || message.To - message.From != message.Changes.Count)
            return false;
        // A snapshot may have been taken between two changes of a line: the line that brought it to disk follows on all the same.
        var known = state.Seq - message.From;
        if (known == 0 ? message.After != state.Hash : known < 0 || !state.IsFresh || message.To <= state.Seq)
            return false;
        var changed = new List<(Tenant Tenant, bool Created)>();
        foreach (var change in message.Changes.Skip((int)known))
            Apply(state, change, changed);
        state.Revoked.Forget(message.Time);
        (state.Seq, state.Hash, state.AsOf) = (message.To, message.Hash, message.Time);
        state.IsFresh &= message.Changes.Count == 0;
        if (live)
            foreach (var (tenant, created) in changed)
                TenantChanged?.Invoke(tenant, created);
        return true;
    }

    private static void Apply(State state, Change change, List<(Tenant Tenant, bool Created)> changed)
    {
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
                state.Revoked.Add(Guid.ParseExact(revoked.Jti, "D"), revoked.Exp);
                break;
        }
    }

    private sealed class State
    {
        public ConcurrentDictionary<string, Tenant> Tenants { get; } = new(StringComparer.Ordinal);
        public Revocations Revoked { get; } = new();
        public required long Seq { get; set; }
        public required string Hash { get; set; }
        public DateTimeOffset AsOf { get; set; }
        public int Parts { get; set; }
        public bool IsFresh { get; set; } = true;
    }
}
