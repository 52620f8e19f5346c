using System.Globalization;
using Foundry.Contracts;
using Foundry.Issuance.Trust;
using Foundry.ServiceDefaults;
using Foundry.ServiceDefaults.Trust;
using Foundry.Tokens;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Microsoft.Extensions.Hosting;

namespace Foundry.Issuance.Changes;

/// <summary>The change feed, to gateways that have joined and to nobody else (docs/architecture.md, The change feed).</summary>
internal static class ChangesApi
{
    private static readonly TimeSpan Heartbeat = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan SnapshotTimeMax = TimeSpan.FromMinutes(10);
    private static readonly Refused GatewaysOnly = new(ErrorCode.InsufficientScope, "The change feed is for gateways that have joined, speaking for themselves.");

    public static void MapChanges(this IEndpointRouteBuilder routes)
    {
        // Everything, in signed lines; all of them together or nothing.
        routes.MapGet("/internal/v1/snapshot", SnapshotAsync);
        // What is new after ?since= and its ?hash=, a signed line at a time, for as long as the gateway listens; 410 cursor_gone: take a snapshot.
        routes.MapGet("/internal/v1/changes", FollowAsync);
    }

    private static async Task<IResult> SnapshotAsync(HttpContext context, Feed feed, TimeProvider time)
    {
        if (!IsGateway(context))
            return GatewaysOnly;
        context.Response.ContentType = "application/x-ndjson";
        context.Response.Headers.CacheControl = "no-store";
        // A reader holds the store's old pages for as long as it reads.
        using var tooLong = new CancellationTokenSource(SnapshotTimeMax, time);
        using var ending = CancellationTokenSource.CreateLinkedTokenSource(context.RequestAborted, tooLong.Token);
        await feed.WriteSnapshotAsync(line => context.Response.WriteAsync(line + "\n", ending.Token), ending.Token);
        return Results.Empty;
    }

    private static async Task<IResult> FollowAsync(HttpContext context, Feed feed, PlatformTrust trust, TimeProvider time, IHostApplicationLifetime lifetime)
    {
        if (!IsGateway(context))
            return GatewaysOnly;
        if (!Queries.TryOne(context, "since", out var text, out var refusal) || !Queries.TryOne(context, "hash", out var hash, out refusal))
            return refusal!;
        if (!long.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var since) || hash is null)
            return new Refused(ErrorCode.InvalidQuery, "since and hash: the sequence number that you have reached, and the hash that came with it.");
        if (!await feed.HasAllSinceAsync(since, hash, context.RequestAborted))
            return new Refused(ErrorCode.CursorGone, "The changes since then are not all kept, or are not of this history. Take a snapshot and follow from there.");

        context.Response.ContentType = "application/x-ndjson";
        context.Response.Headers.CacheControl = "no-store";
        using var ending = CancellationTokenSource.CreateLinkedTokenSource(context.RequestAborted, lifetime.ApplicationStopping);
        try
        {
            await SendAsync(context, feed, trust, since, hash, time, ending.Token);
        }
        catch (OperationCanceledException) when (ending.IsCancellationRequested)
        {
            // The gateway has gone, or this part is stopping: the gateway comes back with the last number it reached.
        }
        return Results.Empty;
    }

    private static async Task SendAsync(HttpContext context, Feed feed, PlatformTrust trust, long since, string hash, TimeProvider time, CancellationToken cancellationToken)
    {
        // Due at once: a gateway that has everything hears so immediately.
        var heartbeatDue = true;
        while (true)
        {
            var next = feed.Next;
            var (line, to, reached, isEmpty) = await feed.ReadAsync(since, hash, cancellationToken);
            if (line is null)
                return; // So slow that changes were dropped before it read them, or another store behind us: the next attempt is answered 410.
            if (trust.Find(Asserted.Of(context).Kid ?? "") is null)
                return; // Removed since it came: what follows is for joined gateways only.
            if (!isEmpty || heartbeatDue)
            {
                await context.Response.WriteAsync(line + "\n", cancellationToken);
                await context.Response.Body.FlushAsync(cancellationToken);
                (since, hash) = (to, reached);
            }
            if (!isEmpty)
            {
                heartbeatDue = false;
                continue;
            }
            using var wait = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
            heartbeatDue = await Task.WhenAny(next, Task.Delay(Heartbeat, time, wait.Token)) != next;
            await wait.CancelAsync();
            cancellationToken.ThrowIfCancellationRequested();
        }
    }

    private static bool IsGateway(HttpContext context) => Asserted.Of(context) is { IsOwn: true, Kind: TrustedKey.Gateway };
}
