using Foundry.ServiceDefaults.Trust;
using Foundry.Tokens;

namespace Foundry.Testing;

/// <summary>A trust set that a test decides, in place of one that issuance publishes.</summary>
public sealed class FixedTrust : ITrustSource
{
    private int _refreshes;

    public FixedTrust(params IEnumerable<TrustedKey> keys) => Current = SetOf(keys);

    /// <summary>What is believed; replace it as issuance would.</summary>
    public TrustSet? Current { get; set; }

    /// <summary>How often somebody asked for a newer set.</summary>
    public int Refreshes => Volatile.Read(ref _refreshes);

    /// <summary>What a refresh finds; by default nothing new.</summary>
    public Action<FixedTrust>? OnRefresh { get; set; }

    public Task RefreshAsync(CancellationToken cancellationToken)
    {
        Interlocked.Increment(ref _refreshes);
        OnRefresh?.Invoke(this);
        return Task.CompletedTask;
    }

    /// <summary>The entry of a key in the set.</summary>
    public static TrustedKey Entry(SigningKey key, string kind, string name) => new(key.Kid, kind, name, key.Public.X);

    /// <summary>A set of these keys; unsigned, as those that were checked already are.</summary>
    public static TrustSet SetOf(IEnumerable<TrustedKey> keys, long seq = 1) => new(1, seq, 0, "http://127.0.0.1:9221", [.. keys]);
}
