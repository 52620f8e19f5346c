using System.Diagnostics.CodeAnalysis;
using System.Text.Json.Nodes;
using Foundry.Contracts;

namespace Foundry.Cli.Bulk;

/// <summary>Tokens issued and revoked by the list.</summary>
internal static class BulkTokens
{
    /// <summary>A token for each key of the list.</summary>
    public static async Task<int> IssueAsync(Session session, BulkOptions bulk, TokenRequest request, CancellationToken cancellationToken)
    {
        var (parse, output) = (session.Parse, session.Output);
        if (!BulkList.TryReadKeys(parse.GetValue(bulk.From)!, output, out var items, out var complaint)
            || !ResultFile.TryOpen(bulk.ResultFileOf(parse), BulkRun.New(BulkRun.Issue, request, session), out var results, out complaint))
            return output.Misused(complaint.Value);
        using (results)
        {
            output.Note($"the tokens go to {results.Path} and are nowhere else");
            return await new BulkRunner(session, results, "issued", bulk.ConcurrencyOf(parse)).RunAsync(items,
                (item, stop) => session.Gateway.IssueTokenAsync(request with { SubjectPubkey = item.Id, UserId = item.UserId }, results.Run.IdempotencyKey(item), stop),
                Issued, cancellationToken);
        }
    }

    /// <summary>Revokes what the list names: IDs, keys, or a bulk issue's tokens.</summary>
    public static Task<int> RevokeAsync(Session session, BulkOptions bulk, bool descendants, CancellationToken cancellationToken)
    {
        var path = session.Parse.GetValue(bulk.From)!;
        if (!TryReadTargets(path, session.Output, out var items, out var complaint))
            return Task.FromResult(session.Output.Misused(complaint.Value));
        return RevokeAsync(session, items, bulk.ResultFileOf(session.Parse), bulk.ConcurrencyOf(session.Parse), descendants, cancellationToken);
    }

    /// <summary>Revokes tokens by ID or key.</summary>
    public static async Task<int> RevokeAsync(Session session, IReadOnlyList<BulkItem> items, string resultFile, int concurrency, bool descendants, CancellationToken cancellationToken)
    {
        if (!ResultFile.TryOpen(resultFile, BulkRun.New(BulkRun.Revoke, null, session), out var results, out var complaint))
            return session.Output.Misused(complaint.Value);
        using (results)
        {
            return await new BulkRunner(session, results, "revoked", concurrency).RunAsync(items,
                (item, stop) => session.Gateway.RevokeTokenAsync(item.Id, descendants, stop),
                (item, _) => new JsonObject { ["revoked"] = item.Id }, cancellationToken);
        }
    }

    private static bool TryReadTargets(string path, Output output, [NotNullWhen(true)] out List<BulkItem>? items, [NotNullWhen(false)] out Complaint? complaint)
    {
        if (!ResultFile.IsOne(path))
            return BulkList.TryReadIds(path, output, out items, out complaint);
        items = ResultFile.TryReadIssued(path, out var issued, out complaint)
            ? [.. issued.Select((token, at) => new BulkItem(at + 2, token.TokenId))] // line 1 is the run's
            : null;
        return items is not null;
    }

    // The gateway's own answer and nothing less, so that what it says besides (what is replaced, and when) is kept too.
    private static JsonObject? Issued(BulkItem item, Answer answer)
    {
        if (!TokenCommands.TryReadIssued(answer, out var issued) || issued.SubjectPubkey != item.Id || JsonNode.Parse(answer.Body) is not JsonObject line)
            return null;
        if (item.UserId is not null)
            line["user_id"] = item.UserId;
        return line;
    }
}
