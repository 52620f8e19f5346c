using System.Security.Cryptography;
using Foundry.Proofs;

namespace Foundry.Ledger.Witness;

/// <summary>A witness that is asked for cosignatures, and how it has been answering.</summary>
internal sealed class KnownWitness(CosignatureVerifier verifier, Uri addCheckpoint)
{
    private static readonly TimeSpan _backOffMin = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan _backOffMax = TimeSpan.FromMinutes(5);

    private readonly Lock _gate = new();
    private int _failures;
    private DateTimeOffset _notBefore;

    /// <summary>Its key.</summary>
    public CosignatureVerifier Verifier => verifier;

    /// <summary>Where it is asked.</summary>
    public Uri AddCheckpoint => addCheckpoint;

    /// <summary>Whether it answered when last asked.</summary>
    public bool Answers
    {
        get
        {
            lock (_gate)
                return _failures == 0;
        }
    }

    /// <summary>Makes it from the settings, which have been checked.</summary>
    public static KnownWitness Of(WitnessOptions options) =>
        CosignatureVerifier.TryParse(options.Vkey, out var verifier)
            ? new KnownWitness(verifier, new Uri(options.Url.TrimEnd('/') + "/" + Proofs.AddCheckpoint.Path))
            : throw new ArgumentException(options.Vkey, nameof(options));

    /// <summary>Whether it is to be left alone, and until when.</summary>
    public bool IsAway(DateTimeOffset now, out DateTimeOffset until)
    {
        lock (_gate)
        {
            until = _notBefore;
            return now < _notBefore;
        }
    }

    /// <summary>It answered.</summary>
    public void Succeeded()
    {
        lock (_gate)
            (_failures, _notBefore) = (0, default);
    }

    /// <summary>It did not answer; left alone for a second at first, for twice as long each time, half of it by chance.</summary>
    /// <returns>Until when.</returns>
    public DateTimeOffset Failed(DateTimeOffset now)
    {
        lock (_gate)
        {
            // Those asked while it was already known to be away say nothing new.
            if (now < _notBefore)
                return _notBefore;
            var whole = Math.Min(_backOffMax.TotalMilliseconds, _backOffMin.TotalMilliseconds * (1 << Math.Min(_failures, 12)));
            _failures++;
            return _notBefore = now.AddMilliseconds((whole / 2) + RandomNumberGenerator.GetInt32((int)(whole / 2) + 1));
        }
    }
}
