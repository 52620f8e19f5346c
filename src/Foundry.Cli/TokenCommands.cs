using System.CommandLine;
using System.Diagnostics.CodeAnalysis;
using System.Text.Json;
using Foundry.Cli.Bulk;
using Foundry.Contracts;
using Foundry.Tokens;

namespace Foundry.Cli;

/// <summary><c>foundry token …</c> (CONTRACT sections 2 and 3).</summary>
internal static class TokenCommands
{
    private static readonly string[] Columns = ["token_id", "scope", "subject_pubkey", "issued_at", "expires_at", "status", "issued_by"];

    public static Command Create(GlobalOptions globals) => new Command("token", "Capability tokens: issue, promote, renew, verify, revoke, list")
    {
        Issue(globals),
        TokenPromote.Create(globals),
        Renew(globals),
        Verify(globals),
        Revoke(globals),
        List(globals),
        Show(globals),
    };

    private static Verb Issue(GlobalOptions globals)
    {
        var ask = new TokenOptions();
        var publicKey = Take.PublicKey("--pubkey", "The recipient's Ed25519 public key: base64, base64url or hex");
        var keyFile = new Option<string?>("--key-file") { HelpName = "FILE", Description = "Take the public key from the recipient's key file instead" };
        var userId = new Option<string?>("--user-id") { HelpName = "USER", Description = "The person the token is for; becomes its sub" };
        var file = new Option<string?>("--out") { HelpName = "FILE", Description = "Write the token to this new file (mode 0600) and not to standard output" };
        var bulk = new BulkOptions("A token for each line of this file: a public key, and a user ID if there is one; '#' begins a comment");
        var verb = new Verb("issue", "Issue a token, or one for each key of a list",
            "TOKEN=$(foundry token issue --tenant acme-corp --scope service:tenant-admin --pubkey \"$PUBKEY\" --expires 24h)",
            "foundry token issue --tenant acme-corp --scope service:fleet-node --key-file node.key --expires 30d --out node.token",
            "foundry token issue --tenant acme-corp --scope user --from pubkeys.txt --expires 30d")
        {
            Details =
            [
                "Standard output gets the token and nothing else; what it is good for is told on standard error. The token is shown this once and kept nowhere.",
                BulkOptions.Details + " The tokens themselves are in that file, because nothing else has them: keep it as you would keep them.",
            ],
        };
        foreach (var option in (Option[])[ask.Scope, publicKey, keyFile, ask.Tenant, ask.Expires, userId, ask.Proof, file, .. bulk.All])
            verb.Options.Add(option);
        verb.Validators.Add(result =>
        {
            if (new Option[] { publicKey, keyFile, bulk.From }.Count(option => result.GetResult(option) is not null) != 1)
                result.AddError("Give the recipient's key: either --pubkey or --key-file, or many with --from.");
            ask.Check(result);
            bulk.Check(result, userId, file);
            if (result.GetResult(file) is not null && result.GetValue<string>("--output") == "json")
                result.AddError("--out and --output json do not go together: the JSON holds the token.");
        });
        return verb.Runs(globals, async (session, cancellationToken) =>
        {
            var parse = session.Parse;
            var output = session.Output;
            if (bulk.IsUsed(parse))
                return await BulkTokens.IssueAsync(session, bulk, ask.Request(parse), cancellationToken);
            if (!TryGetKey(parse.GetValue(publicKey), parse.GetValue(keyFile), output, out var key, out var complaint))
                return output.Misused(complaint);
            SecretFile? reserved = null;
            if (parse.GetValue(file) is { } path && !SecretFile.TryReserve(path, out reserved, out var taken))
                return output.Failed(taken.Value);
            using (reserved)
            {
                var answer = await session.Gateway.IssueTokenAsync(ask.Request(parse) with { SubjectPubkey = key, UserId = parse.GetValue(userId) }, null, cancellationToken);
                if (!answer.IsAccepted || output.AsJson)
                    return output.Finish(answer, static _ => { });
                return Deliver(answer, output, reserved, _ => "token issued", out var refused) is null ? refused : ExitCode.Done;
            }
        });
    }

    private static Verb Renew(GlobalOptions globals)
    {
        var keyFile = new Option<string?>("--key-file") { HelpName = "FILE", Description = $"The token's own key. Default: {GlobalOptions.KeyFileVariable}" };
        var file = new Option<string?>("--out") { HelpName = "FILE", Description = "Write the token to this new file (mode 0600) and not to standard output" };
        var verb = new Verb("renew", "Get your own token as it would be issued today",
            "foundry token renew --token-file alice.token --key-file alice.key --out alice.new.token")
        {
            Details = ["Mends a token that is refused because roles have changed (stale_policy). It has the same rights or fewer and the same end, so it is no way to a longer life; where nothing has changed, it is the same token."],
        };
        verb.Options.Add(keyFile);
        verb.Options.Add(file);
        return verb.Runs(globals, keyFile: keyFile, body: async (session, cancellationToken) =>
        {
            var output = session.Output;
            if (session.Key is null)
                return output.Misused(new Complaint("only who holds the token's key can renew it", $"name the key's file with --key-file or in {GlobalOptions.KeyFileVariable}"));
            SecretFile? reserved = null;
            if (session.Parse.GetValue(file) is { } path && !SecretFile.TryReserve(path, out reserved, out var taken))
                return output.Failed(taken.Value);
            using (reserved)
            {
                var answer = await session.Gateway.RenewTokenAsync(cancellationToken);
                if (!answer.IsAccepted || output.AsJson)
                    return output.Finish(answer, static _ => { });
                return Deliver(answer, output, reserved, issued => issued.Token == session.Token!.Current ? "nothing has changed: this is the same token" : "token renewed", out var refused) is null ? refused : ExitCode.Done;
            }
        });
    }

    /// <summary>The recipient's key, from the command line or from its file.</summary>
    internal static bool TryGetKey(VerifyingKey? given, string? keyFile, Output output, out string key, out Complaint complaint)
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

    /// <summary>Hands an issued token over: to its file, else to standard output; what it is good for goes to standard error.</summary>
    internal static IssuedToken? Deliver(Answer answer, Output output, SecretFile? file, Func<IssuedToken, string> what, out int exit)
    {
        exit = ExitCode.Done;
        if (!TryReadIssued(answer, out var issued))
        {
            exit = output.Refused(answer with { Failure = "the gateway's answer is not an issued token" });
            return null;
        }
        file?.Write(issued.Token);
        output.Note(what(issued));
        output.Detail("token id", issued.TokenId);
        output.Detail("tenant", issued.TenantId);
        output.Detail("scope", issued.Scope);
        output.Detail("subject", issued.SubjectPubkey);
        output.Detail("issued at", issued.IssuedAt.ToString("O"));
        output.Detail("expires at", issued.ExpiresAt.ToString("O"));
        if (file is null)
            output.Line(issued.Token);
        return issued;
    }

    /// <summary>Reads the answer to an issue.</summary>
    internal static bool TryReadIssued(Answer answer, [NotNullWhen(true)] out IssuedToken? issued)
    {
        issued = null;
        try
        {
            issued = JsonSerializer.Deserialize(answer.Body, WireJson.Default.IssuedToken);
        }
        catch (JsonException)
        {
            // As good as none.
        }
        issued = issued is { Token: not null, TokenId: not null, SubjectPubkey: not null } ? issued : null;
        return issued is not null;
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
        var subject = new Argument<string?>("ID_OR_PUBKEY") { Arity = ArgumentArity.ZeroOrOne, Description = "A token's ID, or a public key: then every token of that key that you may reach" };
        var descendants = new Option<bool>("--descendants") { Description = "And everything that was issued under it" };
        var bulk = new BulkOptions("Revoke what each line of this file names: a token's ID or a public key; or, of a bulk issue's result file, every token in it");
        var verb = new Verb("revoke", "Revoke a token, all of a key's, or those of a list; in force within a second",
            "foundry token revoke 019a2b3c-0000-7000-8000-000000000000",
            "foundry token revoke --from old-ids.txt")
        { Details = [BulkOptions.Details] };
        verb.Arguments.Add(subject);
        foreach (var option in (Option[])[descendants, .. bulk.All])
            verb.Options.Add(option);
        verb.Validators.Add(result =>
        {
            if (result.GetResult(subject)?.Tokens.Count is > 0 == result.GetResult(bulk.From) is not null)
                result.AddError("Say what to revoke: a token's ID or a public key, or many with --from.");
            bulk.Check(result);
        });
        return verb.Runs(globals, async (session, cancellationToken) =>
        {
            var withDescendants = session.Parse.GetValue(descendants);
            if (bulk.IsUsed(session.Parse))
                return await BulkTokens.RevokeAsync(session, bulk, withDescendants, cancellationToken);
            var given = session.Parse.GetValue(subject)!;
            // A key has many spellings and the path takes one.
            var target = VerifyingKey.TryParse(given, out var key) ? key.X : given;
            if (!Take.IsId(target))
                return session.Output.Misused(new Complaint($"'{given}' is neither a token's ID nor a public key", "'foundry token list' shows both"));
            var answer = await session.Gateway.RevokeTokenAsync(target, withDescendants, cancellationToken);
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
