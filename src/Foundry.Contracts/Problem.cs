namespace Foundry.Contracts;

/// <summary>An RFC 9457 problem document, as every error of ours is (CONTRACT section 9).</summary>
/// <param name="Type">A URI reference that names the kind of problem: <c>/problems/&lt;code&gt;</c>.</param>
/// <param name="Title">See <see cref="ErrorCode.Title"/>.</param>
/// <param name="Status">The HTTP status.</param>
/// <param name="Detail">What would be right, for a person; never inner detail.</param>
/// <param name="Code">See <see cref="ErrorCode.Code"/>.</param>
/// <param name="RequestId">The request's ID.</param>
public sealed record Problem(string Type, string Title, int Status, string Detail, string Code, string RequestId)
{
    /// <summary>The media type of a problem document.</summary>
    public const string MediaType = "application/problem+json";

    /// <summary>Why a token was refused, with <c>invalid_token</c>.</summary>
    public string? Reason { get; init; }
    /// <summary>The scope that would open the route, with <c>insufficient_scope</c>.</summary>
    public string? RequiredScope { get; init; }
    /// <summary>Which quota, with <c>quota_exceeded</c>: <c>max_vms</c>, <c>max_ram_mb</c> or <c>storage_quota_gb</c>.</summary>
    public string? Quota { get; init; }
    /// <summary>Its limit.</summary>
    public long? Limit { get; init; }
    /// <summary>What is held of it, reserved and unknown included.</summary>
    public long? Used { get; init; }
    /// <summary>What was asked for.</summary>
    public long? Requested { get; init; }
}
