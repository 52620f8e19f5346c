using System.Text.Json.Serialization;

namespace Foundry.Contracts;

/// <summary>Body of <c>POST /v1/parts/codes</c>.</summary>
/// <param name="Kind"><c>gateway</c> or <c>service</c>.</param>
/// <param name="Name">The part's name, <c>^[a-z][a-z0-9-]{1,61}[a-z0-9]$</c>.</param>
/// <param name="ExpiresInSeconds">60 to 604,800; absent is an hour.</param>
[JsonUnmappedMemberHandling(JsonUnmappedMemberHandling.Disallow)]
public sealed record PartCodeRequest(string? Kind = null, string? Name = null, long? ExpiresInSeconds = null);

/// <summary>Answer of <c>POST /v1/parts/codes</c>: the only time that the code is shown.</summary>
/// <param name="Code">Lets one key of this kind and name join, once.</param>
/// <param name="Kind">As asked.</param>
/// <param name="Name">As asked.</param>
/// <param name="ExpiresAt">Until when it may be used.</param>
/// <param name="RootThumbprint">What the part pins.</param>
public sealed record PartCode(string Code, string Kind, string Name, DateTimeOffset ExpiresAt, string RootThumbprint);

/// <summary>Answer of <c>GET /v1/parts</c>: a page of the keys that parts speak with.</summary>
/// <param name="Parts">By name.</param>
/// <param name="NextCursor">Where the next page begins; absent on the last.</param>
public sealed record PartList(IReadOnlyList<PartRecord> Parts, string? NextCursor = null);

/// <summary>A part's key.</summary>
/// <param name="Kid">RFC 7638 thumbprint.</param>
/// <param name="Kind"><c>gateway</c> or <c>service</c>.</param>
/// <param name="Name">Whose it is.</param>
/// <param name="JoinedAt">When it was let in.</param>
public sealed record PartRecord(string Kid, string Kind, string Name, DateTimeOffset JoinedAt);
