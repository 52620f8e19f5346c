using System.CommandLine;
using System.CommandLine.Parsing;
using Foundry.Contracts;

namespace Foundry.Cli;

/// <summary>What every token that is asked for has, whoever it is for.</summary>
internal sealed class TokenOptions
{
    private static readonly TimeSpan ExpiresDefault = TimeSpan.FromHours(24);
    private static readonly TimeSpan ExpiresMin = TimeSpan.FromSeconds(60);
    private static readonly TimeSpan ExpiresMax = TimeSpan.FromDays(90);

    public Option<string> Scope { get; } = new("--scope") { HelpName = "SCOPE", Description = "read, user, input or service:<name>; grant the least that will do", Required = true };
    public Option<string?> Tenant { get; } = Take.Tenant("The tenant the token is for; a tenant-admin's own is the default");
    public Option<TimeSpan?> Expires { get; } = Take.Duration("--expires", "How long it is good for: seconds, or 90m, 24h, 30d. Default: 24h", ExpiresMin, ExpiresMax);
    public Option<bool> Proof { get; } = new("--proof") { Description = "Bind it to its key: good only with a proof of that key (DPoP)" };

    public void Check(CommandResult result)
    {
        if (result.GetValue(Scope) is { } text && !Foundry.Tokens.Scope.TryParse(text, out _))
            result.AddError($"--scope: '{text}' is not a scope: read, user, input or service:<name>");
    }

    /// <summary>The request, but for whom.</summary>
    public TokenRequest Request(ParseResult parse) => new(
        null, parse.GetValue(Scope), (long)(parse.GetValue(Expires) ?? ExpiresDefault).TotalSeconds, parse.GetValue(Tenant), Proof: parse.GetValue(Proof) ? true : null);
}
