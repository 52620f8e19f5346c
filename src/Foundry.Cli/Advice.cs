using Foundry.Contracts;

namespace Foundry.Cli;

/// <summary>What a person can do about a refusal: one line for each code and reason there is.</summary>
internal static class Advice
{
    private static readonly Dictionary<string, string> ByReason = new(StringComparer.Ordinal)
    {
        ["missing"] = $"set {TokenSource.EnvironmentVariable} or give --token-file",
        ["malformed"] = "check that the token was copied whole: one line, three parts joined by dots",
        ["unsupported_algorithm"] = "this is not a capability token of Foundry's: use one from 'foundry token issue'",
        ["unknown_key"] = "the signing key is not in force here: check --gateway, else have a new token issued",
        ["bad_signature"] = "check that the token was copied whole, and that --gateway is the deployment that issued it",
        ["expired"] = "have a new token issued ('foundry token issue'); if it should still be valid, check this machine's and the gateway's clocks",
        ["not_yet_valid"] = "wait until it begins, or check this machine's and the gateway's clocks",
        ["wrong_audience"] = "this token is for another service: use one from 'foundry token issue'",
        ["wrong_issuer"] = "this token is another deployment's: check --gateway",
        ["revoked"] = "ask your administrator why, and for a new token ('foundry token issue')",
        ["tenant_suspended"] = "ask the platform's administrator: the tenant is suspended",
        ["stale_policy"] = "roles have changed since it was issued: 'foundry token renew', or have a new one issued",
        ["invalid_proof"] = $"this needs a proof of the token's key: name the key's file in {GlobalOptions.KeyFileVariable}; if it is named, check this machine's clock, and that --gateway is an address the gateway knows as its own",
    };

    private static readonly Dictionary<string, string> ByCode = new(StringComparer.Ordinal)
    {
        ["invalid_token"] = "have a new token issued ('foundry token issue')",
        ["gateway_required"] = "call the gateway, not the service behind it: check --gateway",
        ["join_refused"] = "ask for a new join code; each works once",
        ["insufficient_scope"] = "use a token of the scope that is needed ('foundry token issue --scope …')",
        ["tenant_mismatch"] = "name your own tenant or none, or use a token of the tenant you mean",
        ["event_type_reserved"] = "use an event type of your own; this one is written by the platform alone",
        ["scope_not_grantable"] = "ask the platform's administrator to issue it, or grant a lesser scope",
        ["invalid_path"] = "check the ID or name that you gave",
        ["invalid_header"] = "check the values that you gave; if they are right, this command and the gateway do not fit: compare their versions",
        ["invalid_query"] = "check the filters and options that you gave",
        ["invalid_body"] = "check the values that you gave; if they are right, this command and the gateway do not fit: compare their versions",
        ["invalid_value"] = "correct the value that the detail names",
        ["unsupported_media_type"] = "this command and the gateway do not fit: compare their versions",
        ["module_required"] = "name the log with --module-id",
        ["expiry_exceeds_issuer"] = "ask for a shorter --expires, or have the platform's administrator issue it",
        ["tenant_required"] = "name the tenant with --tenant",
        ["idempotency_key_reused"] = "use another --idempotency-key, or repeat the first request exactly",
        ["body_too_large"] = "send less at once",
        ["entry_too_large"] = "an entry has at most 65,535 bytes: store the rest elsewhere and its digest here",
        ["request_timeout"] = "try again; the connection was too slow",
        ["headers_too_large"] = "check that the token is one, and not a whole file",
        ["not_found"] = "check the name; what belongs to another tenant looks like what is not there",
        ["method_not_allowed"] = "this command and the gateway do not fit: compare their versions",
        ["tenant_exists"] = "choose another tenant ID; they are never used again",
        ["tenant_deleting"] = "wait until the tenant is gone; its ID is never used again",
        ["tenant_not_empty"] = "delete the tenant's VMs first ('foundry vm list --tenant …')",
        ["node_conflict"] = "use the key and token that this node ID was enrolled with, or have it unbound (DELETE /v1/nodes/ID) by the tenant's administrator",
        ["payload_conflict"] = "use another payload ID",
        ["stale_reservation"] = "try again",
        ["answer_gone"] = "the token was issued, and cannot be shown again: look it up ('foundry token list'), revoke it, and issue another",
        ["in_progress"] = "wait for the first request to end, then repeat with the same --idempotency-key for its answer",
        ["no_new_key"] = "put a new key into the folder that Issuance:KeysFolder names (openssl genpkey -algorithm ed25519), then rotate again",
        ["precondition_failed"] = "read it again; it has changed since",
        ["cursor_gone"] = "begin anew without --since",
        ["rate_limited"] = "wait and try again",
        ["quota_exceeded"] = "delete what is not needed ('foundry vm list'), or ask the platform's administrator for more",
        ["no_capacity"] = "add a node ('foundry node run'), ask for less, or try again later",
        ["quota_unavailable"] = "try again in a few seconds",
        ["record_unavailable"] = "try again in a few seconds; if it stays, the operator should look at the ledger",
        ["feed_stale"] = "try again; if it stays, the operator should look at issuance and the gateway's /readyz",
        ["not_ready"] = "try again in a few seconds; /readyz on the ops port says what is missing",
        ["backend_unavailable"] = "try again; if it stays, the operator should look at the service behind the gateway",
        ["backend_timeout"] = "look whether it happened before you repeat it",
        ["backend_error"] = "the operator finds the cause by the request ID",
        ["unfilterable_response"] = "the operator finds the cause by the request ID",
        ["internal_error"] = "report it with the request ID",
    };

    /// <summary>The codes there is advice for; all of <see cref="ErrorCode.All"/>, as a test holds.</summary>
    public static IReadOnlyCollection<string> Codes => ByCode.Keys;

    /// <summary>The reasons there is advice for.</summary>
    public static IReadOnlyCollection<string> Reasons => ByReason.Keys;

    /// <summary>What to do next.</summary>
    public static string? For(Answer answer)
    {
        if (answer.Problem is not { } problem)
        {
            return answer.Status switch
            {
                null when answer.MayHaveHappened => "look whether it happened before you repeat it",
                null => $"is it running? Another address goes in --gateway or {GlobalOptions.GatewayVariable}",
                _ => $"check --gateway (or {GlobalOptions.GatewayVariable})",
            };
        }
        if (problem.Reason is { } reason && ByReason.TryGetValue(reason, out var forReason))
            return forReason;
        if (answer.RetryAfter is { } wait && problem.Code != "quota_exceeded")
            return $"try again in {Math.Max(1, Math.Ceiling(wait.TotalSeconds)):0} s";
        return ByCode.GetValueOrDefault(problem.Code);
    }
}
