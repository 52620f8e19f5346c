using Foundry.ServiceDefaults;
using Microsoft.Extensions.Configuration;

namespace Foundry.Issuance;

/// <summary>The <c>Issuance</c> section of the settings.</summary>
internal sealed class IssuanceOptions
{
    /// <summary>Characters of the longest issuer.</summary>
    private const int IssuerCharsMax = 200;

    /// <summary>Where it listens.</summary>
    public string Listen { get; set; } = "http://127.0.0.1:9210";
    /// <summary>Whether a non-loopback address is meant.</summary>
    public bool AllowPublicListen { get; set; }
    /// <summary>Where the other parts find it; theirs to read.</summary>
    public string? Url { get; set; }
    /// <summary>Its state folder; see <see cref="ServiceHost.DataFolder"/>.</summary>
    public string? Data { get; set; }
    /// <summary>PostgreSQL's connection string; absent is SQLite in the state folder.</summary>
    public string? Database { get; set; }
    /// <summary>The <c>iss</c> of every token; fixed at the first start.</summary>
    public string Issuer { get; set; } = "http://127.0.0.1:9221";
    /// <summary>Where admin.key and admin.token are; absent is the state folder.</summary>
    public string? AdminFolder { get; set; }
    /// <summary>A folder that somebody else puts signing keys into; absent, issuance makes its own.</summary>
    public string? KeysFolder { get; set; }
    /// <summary>The tenant that a platform administrator means who names none (CONTRACT section 3, Platform tokens).</summary>
    public string? DefaultTenant { get; set; }
    /// <summary>Changes kept for gateways that were away; one that was away for longer takes a snapshot.</summary>
    public int ChangesKept { get; set; } = 100_000;

    /// <summary>How long a token's metadata is kept after it has expired.</summary>
    public TimeSpan TokensKept { get; set; } = TimeSpan.FromDays(90);

    /// <summary>Reads the section, unknown keys refused.</summary>
    /// <exception cref="StartupException">A value is not what it should be.</exception>
    public static IssuanceOptions Read(IConfiguration configuration)
    {
        var options = new IssuanceOptions();
        try
        {
            configuration.GetSection("Issuance").Bind(options, binder => binder.ErrorOnUnknownConfiguration = true);
        }
        catch (InvalidOperationException fault)
        {
            throw new StartupException($"The section Issuance of the settings cannot be read: {fault.Message}", fault);
        }
        if (options.Issuer.Length > IssuerCharsMax || !Uri.TryCreate(options.Issuer, UriKind.Absolute, out var issuer) || issuer.Scheme is not ("http" or "https"))
            throw new StartupException($"Issuance:Issuer is '{options.Issuer}', but should be the URL that clients reach the gateway by, such as https://api.example.org.");
        if (options.ChangesKept is < 100 or > 10_000_000)
            throw new StartupException($"Issuance:ChangesKept is {options.ChangesKept}, but should be from 100 to 10,000,000.");
        if (options.TokensKept < TimeSpan.FromDays(1) || options.TokensKept > TimeSpan.FromDays(3650))
            throw new StartupException($"Issuance:TokensKept is {options.TokensKept}, but should be from a day to ten years: 90.00:00:00 is 90 days.");
        if (options.DefaultTenant is { } tenant && !Names.IsWellFormed(tenant))
            throw new StartupException($"Issuance:DefaultTenant is '{tenant}', which is no tenant ID: {Names.Grammar}.");
        return options;
    }
}

/// <summary>The grammar that tenant IDs and the names of parts share.</summary>
internal static class Names
{
    /// <summary>The grammar, as messages say it.</summary>
    public const string Grammar = "3 to 63 of a-z, 0-9 and -, beginning with a letter and not ending with -";

    /// <summary>Whether it is such a name: <c>^[a-z][a-z0-9-]{1,61}[a-z0-9]$</c>.</summary>
    public static bool IsWellFormed(string? name) =>
        name is { Length: >= 3 and <= 63 } && char.IsAsciiLetterLower(name[0]) && name[^1] != '-'
        && name.All(character => char.IsAsciiLetterLower(character) || char.IsAsciiDigit(character) || character == '-');
}
