using Foundry.Proofs;

namespace Foundry.Ledger.Witness;

/// <summary>One witness in the settings.</summary>
internal sealed class WitnessOptions
{
    /// <summary>Its verifier key, of type 0x04 (c2sp.org/tlog-cosignature).</summary>
    public string Vkey { get; set; } = "";

    /// <summary>Its submission prefix (c2sp.org/tlog-witness): https, or http on loopback.</summary>
    public string Url { get; set; } = "";

    /// <summary>What is wrong with it.</summary>
    public IEnumerable<string> Errors(string setting)
    {
        if (!CosignatureVerifier.TryParse(Vkey, out _))
            yield return $"{setting}:{nameof(Vkey)} is '{Vkey}', but should be a witness's verifier key, as 'foundry witness key' prints it: name+id+base64, of type 4.";
        if (!Uri.TryCreate(Url, UriKind.Absolute, out var url) || !(url.Scheme == "https" || (url.Scheme == "http" && url.IsLoopback)) || url.Query.Length + url.Fragment.Length + url.UserInfo.Length > 0)
            yield return $"{setting}:{nameof(Url)} is '{Url}', but should be an https address (or http on loopback) without query, such as https://witness.example/w1.";
    }
}
