using System.Diagnostics;
using Foundry.Contracts;
using Foundry.Gateway.Authenticate;
using Foundry.Gateway.Authorize;
using Microsoft.AspNetCore.Http.Features;

namespace Foundry.Gateway;

/// <summary>
/// The forwarded requests that are running, so that a stream, an upgraded connection or a long poll ends when its token does
/// (docs/decisions/0016): what was asked at the door is asked again of each, four times a second. Who ends is broken off, never
/// ended cleanly: nobody is to take it for the end of the data.
/// </summary>
internal sealed class LiveRequests(Authenticator authenticator, Authorizer authorizer, GatewayMetrics metrics, IHostApplicationLifetime lifetime, TimeProvider time) : BackgroundService
{
    private static readonly TimeSpan Interval = TimeSpan.FromMilliseconds(250);

    /// <summary>What is about to end anyway is let end. With <see cref="Interval"/> this leaves a quarter of the second (CONTRACT section 3) to the feed.</summary>
    private static readonly TimeSpan Grace = TimeSpan.FromMilliseconds(500);

    private const int StripesCount = 16;
    private static readonly Refusal Stopping = new(ErrorCode.NotReady, "The gateway stops.");

    // Requests on different threads seldom meet in one.
    private readonly List<(Exchange Exchange, IHttpRequestLifetimeFeature Connection)>[] _stripes = [.. Enumerable.Range(0, StripesCount).Select(_ => new List<(Exchange, IHttpRequestLifetimeFeature)>())];

    /// <summary>Takes note of a request that is let through. What a token changes is not broken off until its answer comes: its outcome would only be unknown.</summary>
    /// <param name="exchange">The request.</param>
    public void Enter(Exchange exchange)
    {
        if (exchange.Caller.Token is null)
            return;
        if (exchange.IsSafe)
            exchange.CuttableSince = exchange.StartedAt;
        // The server's own, and not the context's, which is for one thread.
        var connection = exchange.Context.Features.GetRequiredFeature<IHttpRequestLifetimeFeature>();
        var number = Environment.CurrentManagedThreadId % StripesCount;
        var running = _stripes[number];
        lock (running)
        {
            exchange.Seat = (number, running.Count);
            running.Add((exchange, connection));
        }
    }

    /// <summary>The request has ended.</summary>
    /// <param name="exchange">The request, entered or not.</param>
    /// <returns>Why it was broken off, or null.</returns>
    public Refusal? Leave(Exchange exchange)
    {
        if (exchange.Seat is not (var number, _))
            return null;
        var running = _stripes[number];
        lock (running)
        {
            var (_, index) = exchange.Seat.Value;
            // The last one takes the place.
            running[index] = running[^1];
            running[index].Exchange.Seat = (number, index);
            running.RemoveAt(running.Count - 1);
            exchange.Seat = null;
            return exchange.Cut;
        }
    }

    /// <inheritdoc/>
    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        await using var stopping = lifetime.ApplicationStopping.Register(Look);
        using var timer = new PeriodicTimer(Interval, time);
        while (await timer.WaitForNextTickAsync(stoppingToken))
            Look();
    }

    private void Look()
    {
        foreach (var running in _stripes)
            // Who has ended leaves under this lock: a connection is never broken off for the request before.
            lock (running)
                foreach (var (exchange, connection) in running)
                    if (exchange.Cut is null && EndOf(exchange) is { } refusal)
                    {
                        exchange.Cut = refusal;
                        metrics.RequestCut(refusal);
                        connection.Abort();
                    }
    }

    private Refusal? EndOf(Exchange exchange)
    {
        // A stream without an end would hold up the stop for as long as it may take; its reader comes back, and to another gateway.
        if (exchange.IsEndless && lifetime.ApplicationStopping.IsCancellationRequested)
            return Stopping;
        return exchange.CuttableSince is var since && since != 0 && Stopwatch.GetElapsedTime(since) >= Grace ? authenticator.Recheck(exchange) ?? authorizer.Recheck(exchange) : null;
    }
}
