using Foundry.Tokens;

namespace Foundry.ServiceDefaults.Trust;

/// <summary>Where a part learns whom to believe: issuance knows by itself, everyone else follows it.</summary>
public interface ITrustSource
{
    /// <summary>The set in force, or null where none has been seen yet.</summary>
    TrustSet? Current { get; }

    /// <summary>Asks for a newer set, at most every 10 s however often it is called.</summary>
    /// <param name="cancellationToken">Ends the wait.</param>
    Task RefreshAsync(CancellationToken cancellationToken);
}

/// <summary>Looks keys up in a trust source.</summary>
public static class TrustSources
{
    /// <summary>The key in force that a <c>kid</c> names, or null.</summary>
    /// <param name="source">Whom to ask.</param>
    /// <param name="kid">The key's thumbprint.</param>
    public static TrustedKey? Find(this ITrustSource source, string kid)
    {
        ArgumentNullException.ThrowIfNull(source);
        return source.Current?.Keys.FirstOrDefault(key => key.Kid == kid && key.Kind != TrustedKey.Token);
    }
}
