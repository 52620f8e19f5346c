using System.Collections.Frozen;

namespace Foundry.Contracts;

/// <summary>
/// One error that a client can be told: a stable machine-readable code, the HTTP status it always has, and a title.
/// The list is closed (CONTRACT section 9): response, metric and ledger use these and no others.
/// </summary>
/// <param name="Code">The stable <c>code</c> member of the problem document.</param>
/// <param name="Status">The HTTP status that goes with the code.</param>
/// <param name="Title">A short, human-readable summary that does not change from occurrence to occurrence (RFC 9457).</param>
public sealed record ErrorCode(string Code, int Status, string Title)
{
    // Who is calling?
    /// <summary>The capability token was missing or refused; <c>reason</c> says which (section 2).</summary>
    public static readonly ErrorCode InvalidToken = new("invalid_token", 401, "The capability token was not accepted");
    /// <summary>A backend was called round the gateway.</summary>
    public static readonly ErrorCode GatewayRequired = new("gateway_required", 401, "This service is reached through the gateway");
    /// <summary>A join request had no valid one-use code.</summary>
    public static readonly ErrorCode JoinRefused = new("join_refused", 401, "The join code was not accepted");

    // May it?
    /// <summary>The token is valid but its scope does not open this route.</summary>
    public static readonly ErrorCode InsufficientScope = new("insufficient_scope", 403, "The token's scope does not allow this");
    /// <summary>The request names another tenant in its query or body.</summary>
    public static readonly ErrorCode TenantMismatch = new("tenant_mismatch", 403, "The request names another tenant");
    /// <summary>A tenant tried to append an event type that only the platform writes.</summary>
    public static readonly ErrorCode EventTypeReserved = new("event_type_reserved", 403, "This event type is the platform's");
    /// <summary>An issuer asked for a scope it may not grant.</summary>
    public static readonly ErrorCode ScopeNotGrantable = new("scope_not_grantable", 403, "The caller may not grant this scope");

    // Is the request well formed?
    /// <summary>The request target is not canonical, so a decision on it would not be a decision on what is sent.</summary>
    public static readonly ErrorCode InvalidPath = new("invalid_path", 400, "The request path is not canonical");
    /// <summary>A header is malformed, or appears twice where only one can be meant.</summary>
    public static readonly ErrorCode InvalidHeader = new("invalid_header", 400, "A request header is malformed or repeated");
    /// <summary>A query parameter is malformed or repeated.</summary>
    public static readonly ErrorCode InvalidQuery = new("invalid_query", 400, "A query parameter is malformed or repeated");
    /// <summary>The body is not the JSON that this route takes.</summary>
    public static readonly ErrorCode InvalidBody = new("invalid_body", 400, "The request body is not valid");
    /// <summary>The body is JSON, but a value in it is out of range.</summary>
    public static readonly ErrorCode InvalidValue = new("invalid_value", 422, "A value in the request is not acceptable");
    /// <summary>The body's media type is not one that the route takes.</summary>
    public static readonly ErrorCode UnsupportedMediaType = new("unsupported_media_type", 415, "The media type is not supported");
    /// <summary>The ledger was called without naming a log.</summary>
    public static readonly ErrorCode ModuleRequired = new("module_required", 400, "X-Foundry-Module-ID names no log");
    /// <summary>A delegated administrator token would outlive its issuer's.</summary>
    public static readonly ErrorCode ExpiryExceedsIssuer = new("expiry_exceeds_issuer", 422, "The token would outlive its issuer's");
    /// <summary>A platform token must name the tenant it acts for.</summary>
    public static readonly ErrorCode TenantRequired = new("tenant_required", 422, "The request must name a tenant");
    /// <summary>An Idempotency-Key was used again with another request.</summary>
    public static readonly ErrorCode IdempotencyKeyReused = new("idempotency_key_reused", 422, "The Idempotency-Key belongs to another request");
    /// <summary>The body or an entry is over its bound.</summary>
    public static readonly ErrorCode BodyTooLarge = new("body_too_large", 413, "The request body is too large");
    /// <summary>A ledger entry is over 65,535 bytes.</summary>
    public static readonly ErrorCode EntryTooLarge = new("entry_too_large", 413, "The entry is too large");
    /// <summary>The client took too long to send its request.</summary>
    public static readonly ErrorCode RequestTimeout = new("request_timeout", 408, "The request took too long to arrive");
    /// <summary>The header section is over its bound.</summary>
    public static readonly ErrorCode HeadersTooLarge = new("headers_too_large", 431, "The request headers are too large");

    // Does it exist, and does it agree with what is there?
    /// <summary>No such resource, or none that the caller may know of.</summary>
    public static readonly ErrorCode NotFound = new("not_found", 404, "Not found");
    /// <summary>The route does not take this method; <c>Allow</c> lists those it takes.</summary>
    public static readonly ErrorCode MethodNotAllowed = new("method_not_allowed", 405, "The method is not allowed here");
    /// <summary>The tenant ID is or was in use.</summary>
    public static readonly ErrorCode TenantExists = new("tenant_exists", 409, "The tenant exists or once did");
    /// <summary>The tenant still has VMs.</summary>
    public static readonly ErrorCode TenantNotEmpty = new("tenant_not_empty", 409, "The tenant still has VMs");
    /// <summary>The tenant is being deleted: what it has can be read and deleted, and nothing new is made for it.</summary>
    public static readonly ErrorCode TenantDeleting = new("tenant_deleting", 409, "The tenant is being deleted");
    /// <summary>The node ID belongs to another key, or the key to another node.</summary>
    public static readonly ErrorCode NodeConflict = new("node_conflict", 409, "The node belongs to another key");
    /// <summary>The payload ID was used with other bytes.</summary>
    public static readonly ErrorCode PayloadConflict = new("payload_conflict", 409, "The payload ID was used with other bytes");
    /// <summary>A create reached the fleet after its deadline, or under an older store epoch.</summary>
    public static readonly ErrorCode StaleReservation = new("stale_reservation", 409, "The reservation is no longer valid");
    /// <summary>The first request with this Idempotency-Key has not ended yet.</summary>
    public static readonly ErrorCode InProgress = new("in_progress", 409, "The first request with this key is in progress");
    /// <summary>The token that was issued with this Idempotency-Key cannot be made again: the key that signed it signs no more.</summary>
    public static readonly ErrorCode AnswerGone = new("answer_gone", 409, "The first answer cannot be given again");
    /// <summary>The folder of mounted keys holds none that has not signed before, or the folder of keys takes no new one.</summary>
    public static readonly ErrorCode NoNewKey = new("no_new_key", 409, "There is no new key to sign with");
    /// <summary>If-Match did not match.</summary>
    public static readonly ErrorCode PreconditionFailed = new("precondition_failed", 412, "The resource has changed");
    /// <summary>The cursor of a change stream is older than what is kept.</summary>
    public static readonly ErrorCode CursorGone = new("cursor_gone", 410, "The cursor is too old: take a new snapshot");

    // Is there room?
    /// <summary>Too many requests.</summary>
    public static readonly ErrorCode RateLimited = new("rate_limited", 429, "Too many requests");
    /// <summary>The tenant's quota does not cover the request.</summary>
    public static readonly ErrorCode QuotaExceeded = new("quota_exceeded", 429, "The quota does not cover this");
    /// <summary>No node has room for the VM.</summary>
    public static readonly ErrorCode NoCapacity = new("no_capacity", 503, "No node has room");

    // Is everything there that is needed?
    /// <summary>Held numbers are being rebuilt or their store is away.</summary>
    public static readonly ErrorCode QuotaUnavailable = new("quota_unavailable", 503, "Quotas cannot be checked at the moment");
    /// <summary>The record cannot be made durable at the moment.</summary>
    public static readonly ErrorCode RecordUnavailable = new("record_unavailable", 503, "The record cannot be kept at the moment");
    /// <summary>What issuance last said is too old for this scope.</summary>
    public static readonly ErrorCode FeedStale = new("feed_stale", 503, "The authorisation feed is too old");
    /// <summary>The service has no usable state yet.</summary>
    public static readonly ErrorCode NotReady = new("not_ready", 503, "Not ready");
    /// <summary>A backend could not be reached or broke off.</summary>
    public static readonly ErrorCode BackendUnavailable = new("backend_unavailable", 502, "The backend could not be reached");
    /// <summary>A backend did not answer in time.</summary>
    public static readonly ErrorCode BackendTimeout = new("backend_timeout", 504, "The backend did not answer in time");
    /// <summary>A backend refused a request on a filtered route; its own words are not passed on.</summary>
    public static readonly ErrorCode BackendError = new("backend_error", 502, "The backend answered with an error");
    /// <summary>A backend's answer cannot be filtered, so none of it is passed on.</summary>
    public static readonly ErrorCode UnfilterableResponse = new("unfilterable_response", 502, "The backend's answer cannot be filtered");
    /// <summary>A defect of ours.</summary>
    public static readonly ErrorCode Internal = new("internal_error", 500, "Internal error");

    /// <summary>Every error code there is, by its <see cref="Code"/>.</summary>
    public static FrozenDictionary<string, ErrorCode> All { get; } = typeof(ErrorCode)
        .GetFields(System.Reflection.BindingFlags.Public | System.Reflection.BindingFlags.Static)
        .Where(field => field.FieldType == typeof(ErrorCode))
        .Select(field => (ErrorCode)field.GetValue(null)!)
        .ToFrozenDictionary(error => error.Code, StringComparer.Ordinal);
}
