using Foundry.Tokens;

namespace Foundry.ServiceDefaults.Trust;

/// <summary>Who this part is to the others: its name, and the key that proves it.</summary>
/// <param name="Kind"><see cref="TrustedKey.Gateway"/> or <see cref="TrustedKey.Service"/>.</param>
/// <param name="Name">Its name; also the audience of assertions for it.</param>
/// <param name="Key">Its own key.</param>
public sealed record ServiceIdentity(string Kind, string Name, SigningKey Key)
{
    /// <summary>The file of the key in the part's folder.</summary>
    public const string KeyFile = "service.key";
}

/// <summary>The <c>Trust</c> section of the settings.</summary>
public sealed class TrustOptions
{
    /// <summary>Thumbprint of the platform's root key; issuance shows it at its start.</summary>
    public string RootThumbprint { get; set; } = "";
    /// <summary>The code with which a part that issuance does not know may join.</summary>
    public string? JoinCode { get; set; }
}
