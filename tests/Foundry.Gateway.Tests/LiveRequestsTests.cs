using System.Collections.Concurrent;
using System.Diagnostics.Metrics;
using System.Net.WebSockets;
using System.Text;
using Foundry.Contracts;
using Foundry.ServiceDefaults;
using Foundry.Testing;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;

namespace Foundry.Gateway.Tests;

/// <summary>CONTRACT section 3: a token that has ended ends what runs under it, and nobody takes that for the end of the data.</summary>
public sealed class LiveRequestsTests : IAsyncLifetime
{
    // It ends a test that waits for what will not come.
    private static readonly TimeSpan WaitMax = TimeSpan.FromSeconds(60);
    private readonly MovableTime _time = new();
    private readonly TempFolder _folder = new();
    private readonly MeterListener _meters = new();
    private readonly TaskCompletionSource _polled = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private GatewayHost? _host;
    private LoopbackHost? _sockets;

    private GatewayHost Host => _host!;

    private static CancellationToken Cancelled => TestContext.Current.CancellationToken;

    public async ValueTask InitializeAsync()
    {
        _sockets = await LoopbackHost.StartAsync(_ => { }, app => app.UseWebSockets().Run(EchoAsync), Cancelled);
        var routes = _folder.File("routes");
        Directory.CreateDirectory(routes);
        foreach (var file in Directory.GetFiles(Path.Combine(ServiceHost.ConfigFolder(), "routes")))
            File.Copy(file, Path.Combine(routes, Path.GetFileName(file)));
        await File.WriteAllTextAsync(Path.Combine(routes, "sockets.json"), $$"""
            { "ReverseProxy": {
              "Clusters": { "sockets": { "Destinations": { "one": { "Address": "{{_sockets.BaseAddress}}" } } } },
              "Routes": { "echo": { "ClusterId": "sockets", "Match": { "Path": "/v1/echo", "Methods": ["GET"] }, "Metadata": { "foundry.scope": "read" } } } } }
            """, Cancelled);
        _host = await GatewayHost.StartAsync(new GatewaySetup { Time = _time, Routes = routes });
        _host.Ledger.Override = request =>
        {
            if (request.Target == "/v1/tail?kind=poll")
                _polled.TrySetResult();
            return request.Target switch
            {
                "/v1/tail?kind=lines" => Stream("application/x-ndjson"),
                "/v1/tail?kind=events" => Stream("text/event-stream"),
                "/v1/tail?kind=download" => BackendAnswer.Raw("HTTP/1.1 200 OK\r\nContent-Length: 100\r\nContent-Type: application/octet-stream\r\n\r\nfirst\n", AnswerEnd.Hang),
                "/v1/tail?kind=poll" => BackendAnswer.Silence,
                _ => null,
            };
        };
    }

    public async ValueTask DisposeAsync()
    {
        if (_host is not null)
            await _host.DisposeAsync();
        if (_sockets is not null)
            await _sockets.DisposeAsync();
        _meters.Dispose();
        _folder.Dispose();
    }

    public static TheoryData<string, string> EveryEndOfEveryKind =>
        new MatrixTheoryData<string, string>(["revoked", "expired", "tenant_suspended", "tenant deleted", "unknown_key", "feed_stale"], ["lines", "events", "download", "poll", "socket"]);

    [Theory, MemberData(nameof(EveryEndOfEveryKind))]
    public async Task A_token_that_ends_breaks_off_what_runs_under_it_and_nothing_else(string end, string kind)
    {
        var tenant = await Host.NewTenantAsync();
        var scope = end == "feed_stale" ? "input" : "read";
        var token = Host.Issuance.Mint(tenant, scope, claims => claims with { Exp = claims.Exp - 3000 });
        var oldKey = Host.Issuance.SigningKey.Kid;
        if (end == "unknown_key")
        {
            Host.Issuance.Rotate();
            await Host.CaughtUpAsync();
        }
        // Somebody else, who goes on.
        using var other = await ConnectAsync(Host.Token("read"));
        var cut = Count();
        var broken = await BeginAsync(kind, token.Text);

        switch (end)
        {
            case "revoked":
                Host.Issuance.Revoke(token.Claims);
                break;
            case "expired":
                _time.Move(TimeSpan.FromMinutes(11));
                break;
            case "tenant_suspended":
                Host.Issuance.Change(tenant, record => record with { Status = Tenant.Suspended });
                break;
            case "tenant deleted":
                Host.Issuance.Delete(tenant);
                break;
            case "unknown_key":
                Host.Issuance.Withdraw(oldKey);
                break;
            default:
                Host.Issuance.IsSilent = true;
                _time.Move(TimeSpan.FromMinutes(6));
                break;
        }

        await AssertBrokenOffAsync(broken);
        Assert.Equal(end == "tenant deleted" ? "revoked" : end, Assert.Single(cut));
        await EchoesAsync(other);
    }

    [Fact]
    public async Task What_a_token_changes_is_not_broken_off_by_its_end()
    {
        var token = Host.Issuance.Mint(Host.Acme, "input");
        var (asked, answer) = (new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously), new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously));
        Host.Fleet.Backend.Answer = async request =>
        {
            if (!request.IsOwn && request.Method == "POST")
            {
                asked.TrySetResult();
                await answer.Task;
            }
            return await Host.Fleet.AnswerAsync(request);
        };
        var create = Host.SendAsync("POST", "/v1/vms", token.Text, """{"vm_type":"micro","ram_mb":512,"vcpu_count":1}""");
        await asked.Task;
        // It is later than the create; once it is broken off, so would the create have been.
        var stream = await BeginAsync("lines", token.Text);
        Host.Issuance.Revoke(token.Claims);
        await AssertBrokenOffAsync(stream);

        answer.SetResult();

        Assert.Equal(201, (await create).Status);
        await Host.RecordedAsync("VM_CREATED");
    }

    [Fact]
    public async Task A_stop_breaks_off_streams_without_an_end_and_waits_for_what_has_one()
    {
        var answer = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        var asked = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        Host.Fleet.Backend.Answer = async request =>
        {
            if (request is { IsOwn: false, Path: "/v1/vms" })
            {
                asked.TrySetResult();
                await answer.Task;
            }
            return await Host.Fleet.AnswerAsync(request);
        };
        var list = Host.GetAsync("/v1/vms", Host.Token("read"));
        await asked.Task;
        Task[] streams = [await BeginAsync("lines", Host.Token("read")), await BeginAsync("events", Host.Token("read")), await BeginAsync("socket", Host.Token("read"))];

        var stopping = Host.StopGatewayAsync();

        foreach (var stream in streams)
            await AssertBrokenOffAsync(stream);
        Assert.False(stopping.IsCompleted);
        answer.SetResult();
        Assert.Equal(200, (await list).Status);
        await stopping;
    }

    /// <summary>Begins, and waits until the first of it has come through where there is one.</summary>
    /// <returns>Ends when it does; throws where it is broken off.</returns>
    private async Task<Task> BeginAsync(string kind, string token)
    {
        switch (kind)
        {
            case "socket":
                var socket = await ConnectAsync(token);
                return EndOfAsync(socket);
            case "poll":
                var poll = Host.GetAsync("/v1/tail?kind=poll", token);
                await _polled.Task.WaitAsync(Cancelled);
                return poll;
            default:
                var response = await Host.OpenAsync("GET", $"/v1/tail?kind={kind}", token, Cancelled);
                Assert.Equal(200, (int)response.StatusCode);
                var body = await response.Content.ReadAsStreamAsync(Cancelled);
                var first = new byte[6];
                await body.ReadExactlyAsync(first, Cancelled);
                Assert.Equal("first\n", Encoding.ASCII.GetString(first));
                return EndOfAsync(response, body);
        }
    }

    private static async Task EndOfAsync(ClientWebSocket socket)
    {
        using (socket)
            Assert.Equal(WebSocketMessageType.Close, (await socket.ReceiveAsync(new byte[1], Cancelled)).MessageType);
    }

    private static async Task EndOfAsync(HttpResponseMessage response, Stream body)
    {
        using (response)
            Assert.Equal(0, await body.ReadAsync(new byte[1], Cancelled));
    }

    /// <summary>An end in good order would not throw.</summary>
    private static async Task AssertBrokenOffAsync(Task running)
    {
        var fault = await Assert.ThrowsAnyAsync<Exception>(() => running.WaitAsync(WaitMax, Cancelled));
        Assert.True(fault is HttpRequestException or IOException or WebSocketException, fault.ToString());
    }

    private static BackendAnswer Stream(string contentType) =>
        BackendAnswer.Raw($"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: {contentType}\r\n\r\n6\r\nfirst\n\r\n", AnswerEnd.Hang);

    private async Task<ClientWebSocket> ConnectAsync(string token)
    {
        var socket = new ClientWebSocket();
        socket.Options.SetRequestHeader("Authorization", $"Bearer {token}");
        await socket.ConnectAsync(new UriBuilder(Host.Url) { Scheme = "ws", Path = "/v1/echo" }.Uri, Cancelled);
        await EchoesAsync(socket);
        return socket;
    }

    private static async Task EchoesAsync(WebSocket socket)
    {
        await socket.SendAsync("hello"u8.ToArray(), WebSocketMessageType.Text, endOfMessage: true, Cancelled);
        var heard = new byte[16];
        Assert.Equal(5, (await socket.ReceiveAsync(heard, Cancelled)).Count);
        Assert.Equal("hello"u8.ToArray(), heard[..5]);
    }

    private static async Task EchoAsync(HttpContext context)
    {
        using var socket = await context.WebSockets.AcceptWebSocketAsync();
        var buffer = new byte[64];
        try
        {
            while (await socket.ReceiveAsync(buffer, context.RequestAborted) is { MessageType: not WebSocketMessageType.Close } message)
                await socket.SendAsync(buffer.AsMemory(0, message.Count), message.MessageType, message.EndOfMessage, context.RequestAborted);
        }
        catch (Exception fault) when (fault is WebSocketException or OperationCanceledException or IOException)
        {
            // The other side was broken off.
        }
    }

    /// <summary>The reason of each request of this gateway that is broken off from now on.</summary>
    private ConcurrentQueue<string> Count()
    {
        var reasons = new ConcurrentQueue<string>();
        var meters = Host.Services.GetRequiredService<IMeterFactory>();
        _meters.InstrumentPublished = (instrument, listening) =>
        {
            if (instrument.Name == "foundry.requests_cut" && ReferenceEquals(instrument.Meter.Scope, meters))
                listening.EnableMeasurementEvents(instrument);
        };
        _meters.SetMeasurementEventCallback<long>((_, _, tags, _) => reasons.Enqueue((string)tags[0].Value!));
        _meters.Start();
        return reasons;
    }
}
