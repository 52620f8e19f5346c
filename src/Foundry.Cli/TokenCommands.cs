using System.CommandLine;
using System.Text.Json;
using Foundry.Contracts;
using Foundry.Tokens;

namespace Foundry.Cli;

/// <summary><c>foundry token …</c> (CONTRACT sections 2 and 3).</summary>
internal static class TokenCommands
{
    private static readonly TimeSpan ExpiresDefault = TimeSpan.FromHours(24);
    private static readonly TimeSpan ExpiresMin = TimeSpan.FromSeconds(60);
    private static readonly TimeSpan ExpiresMax = TimeSpan.FromDays(90);
    private static readonly string[] Columns = ["token_id", "scope", "subject_pubkey", "issued_at", "expires_at", "status", "issued_by"];

    public static Command Create(GlobalOptions globals) => new Command("token", "Capability tokens: issue, verify, revoke, list")
    {
        Issue(globals),
        Verify(globals),
        Revoke(globals),
        List(globals),
        Show(globals),
    };

    private static Verb Issue(GlobalOptions globals)
    {
        var scope = new Option<string>("--scope") { HelpName = "SCOPE", Description = "read, user, input or service:<name>; grant the least that will do", Required = true };
        var publicKey = Take.PublicKey("--pubkey", "The recipient's Ed25519 public key: base64, base64url or hex");
        var keyFile = new Option<string?>("--key-file") { HelpName = "FILE", Description = "Take the public key from the recipient's key file instead" };
        var tenant = Take.Tenant("The tenant the token is for; a tenant-admin's own is the default");
        var expires = Take.Duration("--expires", "How long it is good for: seconds, or 90m, 24h, 30d. Default: 24h", ExpiresMin, ExpiresMax);
        var userId = new Option<string?>("--user-id") { HelpName = "USER", Description = "The person the token is for; becomes its sub" };
        var file = new Option<string?>("--out") { HelpName = "FILE", Description = "Write the token to this new file (mode 0600) and not to standard output" };
        var verb = new Verb("issue", "Issue a token",
            "TOKEN=$(foundry token issue --tenant acme-corp --scope service:tenant-admin --pubkey \"$PUBKEY\" --expires 24h)",
            "foundry token issue --tenant acme-corp --scope service:fleet-node --key-file node.key --expires 30d --out node.token")
        {
            Details = ["Standard output gets the token and nothing else; what it is good for is told on standard error. The token is shown this once and kept nowhere."],
        };
        foreach (var option in new Option[] { scope, publicKey, keyFile, tenant, expires, userId, file })
            verb.Options.Add(option);
        verb.Validators.Add(result =>
        {
            if (result.GetResult(publicKey) is null == result.GetResult(keyFile) is null)
                result.AddError("Give the recipient's key: either --pubkey or --key-file.");
            if (result.GetValue(scope) is { } text && !Scope.TryParse(text, out _))
                result.AddError($"--scope: '{text}' is not a scope: read, user, input or service:<name>");
            if (result.GetResult(file) is not null && result.GetValue<string>("--output") == "json")
                result.AddError("--out and --output json do not go together: the JSON holds the token.");
        });
        return verb.Runs(globals, async (session, cancellationToken) =>
        {
            var parse = session.Parse;
            var output = session.Output;
            if (!TryGetKey(parse.GetValue(publicKey), parse.GetValue(keyFile), output, out var key, out var complaint))
                return output.Misused(complaint);
            SecretFile? reserved = null;
            if (parse.GetValue(file) is { } path && !SecretFile.TryReserve(path, out reserved, out var taken))
                return output.Failed(taken.Value);
            using (reserved)
            {
                var answer = await session.Gateway.IssueTokenAsync(new TokenRequest(
                    key, parse.GetValue(scope), (long)(parse.GetValue(expires) ?? ExpiresDefault).TotalSeconds, parse.GetValue(tenant), parse.GetValue(userId)), cancellationToken);
                if (!answer.IsAccepted || output.AsJson)
                    return output.Finish(answer, static _ => { });
                return Deliver(answer, output, reserved);
            }
        });
    }

    private static bool TryGetKey(VerifyingKey? given, string? keyFile, Output output, out string key, out Complaint complaint)
    {
        key = given?.X ?? "";
        complaint = default;
        if (keyFile is null)
            return true;
        if (!SecretFile.TryReadKey(keyFile, out var signing, out var warning, out var unreadable))
        {
            complaint = unreadable.Value;
            return false;
        }
        if (warning is not null)
            output.Note(warning);
        using (signing)
            key = signing.Public.X;
        return true;
    }

    private static int Deliver(Answer answer, Output output, SecretFile? file)
    {
        IssuedToken issued;
        try
        {
            issued = JsonSerializer.Deserialize(answer.Body, WireJson.Default.IssuedToken)!;
        }
        catch (JsonException)
        {
            return output.Refused(answer with { Failure = "the gateway's answer is not an issued token" });
        }
        if (issued?.Token is null)
            return output.Refused(answer with { Failure = "the gateway's answer holds no token" });
        file?.Write(issued.Token);
        output.Note("token issued");
        output.Detail("token id", issued.TokenId);
        output.Detail("tenant", issued.TenantId);
        output.Detail("scope", issued.Scope);
        output.Detail("subject", issued.SubjectPubkey);
        output.Detail("issued at", issued.IssuedAt.ToString("O"));
        output.Detail("expires at", issued.ExpiresAt.ToString("O"));
        if (file is null)
            output.Line(issued.Token);
        return ExitCode.Done;
    }

    private static Verb Verify(GlobalOptions globals)
    {
        var verb = new Verb("verify", "Ask whether a token would be accepted",
            "foundry token verify < alice.token",
            "foundry token verify --token-file alice.token --output json")
        {
            Details =
            [
                $"The token comes from --token-file, else from standard input where something is piped in, else from {TokenSource.EnvironmentVariable}. "
                    + "Exit code 0: it would be accepted; 1: it would not, and why.",
            ],
        };
        return verb.Runs(globals, sendsToken: false, body: async (session, cancellationToken) =>
        {
            var file = globals.TokenFileOf(session.Parse);
            var token = "";
            if (file is null && session.Surroundings.InputIsRedirected)
                token = TokenSource.ReadInput(session.Surroundings.Input);
            if (token.Length == 0)
            {
                if (!TokenSource.TryOpen(file, session.Surroundings, out var source, out var complaint))
                    return session.Output.Misused(complaint.Value);
                token = source.Current;
            }
            // Sent as it is, even if it looks like no token: the reason is the gateway's to give.
            return session.Output.Finish(await session.Gateway.VerifyTokenAsync(token, cancellationToken), session.Output.Members);
        });
    }

    private static Verb Revoke(GlobalOptions globals)
    {
        var subject = new Argument<string>("ID_OR_PUBKEY") { Description = "A token's ID, or a public key: then every token of that key that you may reach" };
        var verb = new Verb("revoke", "Revoke a token, or all of a key's; in force within a second",
            "foundry token revoke 019a2b3c-0000-7000-8000-000000000000") { subject };
        return verb.Runs(globals, async (session, cancellationToken) =>
        {
            var given = session.Parse.GetValue(subject)!;
            // A key has many spellings and the path takes one.
            var target = VerifyingKey.TryParse(given, out var key) ? key.X : given;
            if (!Take.IsId(target))
                return session.Output.Misused(new Complaint($"'{given}' is neither a token's ID nor a public key", "'foundry token list' shows both"));
            var answer = await session.Gateway.RevokeTokenAsync(target, cancellationToken);
            return session.Output.Finish(answer, _ => session.Output.Note($"revoked {target}"));
        });
    }

    private static Verb List(GlobalOptions globals)
    {
        var tenant = Take.Tenant("Whose; a tenant's own token needs none");
        var include = new Option<string?>("--include") { HelpName = "revoked,expired", Description = "Also show those that are no longer good" };
        var cursor = Paging.Cursor();
        var verb = new Verb("list", "List a tenant's tokens: what they are good for, never the tokens",
            "foundry token list --tenant acme-corp",
            "foundry token list --tenant acme-corp --include revoked,expired") { tenant, include, cursor };
        return verb.Runs(globals, (session, cancellationToken) =>
        {
            // The path names the tenant; a tenant's own token says which that is.
            var whose = session.Parse.GetValue(tenant) ?? session.Token!.Claim("tenant_id");
            if (whose is null || !Take.IsId(whose))
                return Task.FromResult(session.Output.Misused(new Complaint("a platform token lists no tenant's tokens by itself", "name the tenant with --tenant")));
            return Paging.RunAsync(session, session.Parse.GetValue(cursor),
                (next, token) => session.Gateway.ListTokensAsync(whose, session.Parse.GetValue(include), next, token), Columns, cancellationToken);
        });
    }

    private static Verb Show(GlobalOptions globals)
    {
        var id = Take.Id("ID", "The token's ID");
        var verb = new Verb("show", "Show what a token is good for and whether it still is", "foundry token show 019a2b3c-0000-7000-8000-000000000000") { id };
        return verb.Runs(globals, async (session, cancellationToken) =>
            session.Output.Finish(await session.Gateway.GetTokenAsync(session.Parse.GetValue(id)!, cancellationToken), session.Output.Members));
    }
}
