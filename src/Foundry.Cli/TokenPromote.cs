using System.CommandLine;
using Foundry.Cli.Bulk;
using Foundry.Contracts;

namespace Foundry.Cli;

/// <summary>
/// <c>foundry token promote</c>: another tier for a key. The end of the old token is decided with the issue of the new one
/// (<c>max_overlap_seconds</c>), so that nobody holds two tiers for longer, whatever becomes of this command.
/// </summary>
internal static class TokenPromote
{
    private static readonly TimeSpan OverlapDefault = TimeSpan.FromMinutes(10);
    private static readonly TimeSpan OverlapMax = TimeSpan.FromDays(7);

    public static Verb Create(GlobalOptions globals)
    {
        var ask = new TokenOptions();
        var publicKey = Take.PublicKey("--pubkey", "The key whose tier changes: base64, base64url or hex");
        var overlap = Take.Duration("--max-overlap", "How long the old tokens live on, unless revoked sooner. Default: 10m", TimeSpan.Zero, OverlapMax);
        var yes = new Option<bool>("--yes") { Description = "Revoke the old tokens at once, without asking whether the new one works" };
        var file = new Option<string?>("--out") { HelpName = "FILE", Description = "Write the new token to this new file (mode 0600) and not to standard output" };
        var bulk = new BulkOptions("Promote the key of each line of this file, which may name a user ID beside it; '#' begins a comment");
        var verb = new Verb("promote", "Give a key a token of another tier in place of those it has",
            "foundry token promote --pubkey \"$PUBKEY\" --scope input --tenant acme-corp --out alice.token",
            "foundry token promote --from pubkeys.txt --scope input --tenant acme-corp --max-overlap 24h")
        {
            Details =
            [
                "Issues the new token, shows which it replaces and until when those are good, asks whether the new one works, and then revokes them. "
                    + "Without an answer they end by themselves after --max-overlap, which issuance holds to even if this machine is gone. "
                    + "Replaced are the key's other live tokens of the tiers read, user and input in that tenant; a service's token stays.",
                BulkOptions.Details + " The tokens themselves are in that file, because nothing else has them.",
            ],
        };
        foreach (var option in (Option[])[publicKey, ask.Scope, ask.Tenant, overlap, ask.Expires, ask.Proof, yes, file, .. bulk.All])
            verb.Options.Add(option);
        verb.Validators.Add(result =>
        {
            if (result.GetResult(publicKey) is null == result.GetResult(bulk.From) is null)
                result.AddError("Give the key: either --pubkey, or many with --from.");
            ask.Check(result);
            if (result.GetValue(ask.Scope) is { } text && text.StartsWith("service:", StringComparison.OrdinalIgnoreCase))
                result.AddError("--scope: a tier is read, user or input; a service's token is issued beside them ('foundry token issue')");
            bulk.Check(result, file);
            if (result.GetValue<string>("--output") == "json")
                result.AddError("--output json and promote do not go together: there is a question in the middle.");
        });
        return verb.Runs(globals, async (session, cancellationToken) =>
        {
            var (parse, output) = (session.Parse, session.Output);
            var mayAsk = parse.GetValue(yes) || !session.Surroundings.InputIsRedirected;
            // Without a file to find the token in, nobody could try it before answering.
            var isSeen = parse.GetValue(yes) || parse.GetValue(file) is not null || bulk.IsUsed(parse) || session.Surroundings.OutputIsTerminal;
            if (!mayAsk || !isSeen)
                return output.Misused(new Complaint(
                    mayAsk ? "the new token would be seen only after the question whether it works" : "nobody is there to say whether the new token works, so nothing was issued",
                    mayAsk ? "name a file for it with --out, or revoke the old ones at once with --yes" : "revoke the old ones at once with --yes, or run it from a terminal"));
            var request = ask.Request(parse) with { MaxOverlapSeconds = (long)(parse.GetValue(overlap) ?? OverlapDefault).TotalSeconds };
            return bulk.IsUsed(parse)
                ? await ManyAsync(session, bulk, request, parse.GetValue(yes), cancellationToken)
                : await OneAsync(session, request with { SubjectPubkey = parse.GetValue(publicKey)!.X }, parse.GetValue(file), parse.GetValue(yes), cancellationToken);
        });
    }

    private static async Task<int> OneAsync(Session session, TokenRequest request, string? file, bool yes, CancellationToken cancellationToken)
    {
        var output = session.Output;
        SecretFile? reserved = null;
        if (file is not null && !SecretFile.TryReserve(file, out reserved, out var taken))
            return output.Failed(taken.Value);
        IssuedToken? issued;
        using (reserved)
        {
            var answer = await session.Gateway.IssueTokenAsync(request, null, cancellationToken);
            if (!answer.IsAccepted)
                return output.Refused(answer);
            issued = TokenCommands.Deliver(answer, output, reserved, _ => "token issued", out var exit);
            if (issued is null)
                return exit;
        }
        var replaced = issued.Replaces ?? [];
        if (replaced.Count == 0)
        {
            output.Note("it replaces none: the key had no other tier token of this tenant");
            return ExitCode.Done;
        }
        foreach (var old in replaced)
            output.Note($"it replaces {old.TokenId}, scope {old.Scope}, which ends at {old.RevokesAt:O}");
        if (!yes && !await IsConfirmedAsync(session, replaced.Count, cancellationToken))
            return Left(output, $"'foundry token revoke {issued.TokenId}' takes the new one back");
        foreach (var old in replaced)
        {
            var answer = await session.Gateway.RevokeTokenAsync(old.TokenId, descendants: false, cancellationToken);
            if (!answer.IsAccepted)
                return output.Refused(answer);
            output.Note($"revoked {old.TokenId}");
        }
        return ExitCode.Done;
    }

    private static async Task<int> ManyAsync(Session session, BulkOptions bulk, TokenRequest request, bool yes, CancellationToken cancellationToken)
    {
        var (parse, output) = (session.Parse, session.Output);
        var exit = await BulkTokens.IssueAsync(session, bulk, request, cancellationToken);
        if (exit != ExitCode.Done)
            return exit;
        if (!ResultFile.TryReadIssued(bulk.ResultFileOf(parse), out var issued, out var complaint))
            return output.Failed(complaint.Value);
        List<BulkItem> replaced = [.. issued.SelectMany((token, at) => (token.Replaces ?? []).Select(old => new BulkItem(at + 2, old.TokenId))).DistinctBy(item => item.Id)];
        output.Note($"they replace {replaced.Count} tokens{(replaced.Count > 0 ? $", the last of which ends at {issued.SelectMany(token => token.Replaces ?? []).Max(old => old.RevokesAt):O}" : "")}");
        if (replaced.Count == 0)
            return ExitCode.Done;
        if (!yes && !await IsConfirmedAsync(session, replaced.Count, cancellationToken))
            return Left(output, "run the same command again to be asked again");
        return await BulkTokens.RevokeAsync(session, replaced, bulk.ResultFileOf(parse) + ".revoked", bulk.ConcurrencyOf(parse), descendants: false, cancellationToken);
    }

    private static async Task<bool> IsConfirmedAsync(Session session, int count, CancellationToken cancellationToken)
    {
        await session.Surroundings.Error.WriteAsync($"foundry: does the new one work, and {(count == 1 ? "is the old one" : $"are the {count} old ones")} to be revoked now? [y/N] ");
        await session.Surroundings.Error.FlushAsync(cancellationToken);
        // A console's reading cannot be cancelled; waiting for it can.
        var answer = await Task.Run(session.Surroundings.Input.ReadLine, cancellationToken).WaitAsync(cancellationToken);
        return answer?.Trim() is "y" or "Y" or "yes";
    }

    private static int Left(Output output, string next)
    {
        output.Note("nothing was revoked; the old ones end by themselves at the time shown");
        output.Detail("next", next);
        return ExitCode.Failed;
    }
}
