using System.Diagnostics.Metrics;

namespace Foundry.Ledger.Witness;

/// <summary>What is counted of the witnesses.</summary>
internal sealed class WitnessMetrics : IDisposable
{
    public const string MeterName = "Foundry.Ledger";

    private readonly Meter _meter = new(MeterName);
    private readonly Counter<long> _asked;

    public WitnessMetrics() =>
        _asked = _meter.CreateCounter<long>("foundry.ledger.witness_requests", "{request}", "Checkpoints that witnesses were asked to cosign, by witness and outcome; 'forked' is never to be seen");

    public void Asked(KnownWitness witness, WitnessOutcome outcome) =>
        _asked.Add(1, new("witness", witness.Verifier.Name), new("outcome", outcome switch
        {
            WitnessOutcome.Cosigned => "cosigned",
            WitnessOutcome.Behind => "behind",
            WitnessOutcome.Forked => "forked",
            WitnessOutcome.Refused => "refused",
            WitnessOutcome.Invalid => "invalid",
            _ => "unreachable",
        }));

    public void Dispose() => _meter.Dispose();
}

/// <summary>What came of asking a witness.</summary>
internal enum WitnessOutcome
{
    /// <summary>It cosigned, and the cosignature verifies.</summary>
    Cosigned,

    /// <summary>It remembers another size than was thought, within the log: ask again from there.</summary>
    Behind,

    /// <summary>It says that it has seen another history.</summary>
    Forked,

    /// <summary>It does not follow the log, or does not know its key.</summary>
    Refused,

    /// <summary>It answered what is no answer, or with a signature that does not verify.</summary>
    Invalid,

    /// <summary>No answer.</summary>
    Unreachable,
}
