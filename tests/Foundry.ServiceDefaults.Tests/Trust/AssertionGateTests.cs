using System.Net;
using System.Net.Http.Json;
using System.Text;
using Foundry.Contracts;
using Foundry.ServiceDefaults.Trust;
using Foundry.Testing;
using Foundry.Tokens;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Time.Testing;

namespace Foundry.ServiceDefaults.Tests.Trust;

/// <summary>A backend behind the gate, and everyone who may and may not speak to it.</summary>
public sealed class BackendBehindTheGate : IAsyncLifetime
{
    private const string Body = """{"vm_type":"v"}""";
    private const string Target = "/v1/vms?tenant_id=acme-corp";

    private readonly FakeTimeProvider _time = new(new DateTimeOffset(2026, 6, 12, 9, 42, 0, TimeSpan.Zero));
    private readonly SigningKey _gateway = SigningKey.Generate();
    private readonly SigningKey _service = SigningKey.Generate();
    private readonly SigningKey _token = SigningKey.Generate();
    private readonly SigningKey _stranger = SigningKey.Generate();
    private FixedTrust _trust = null!;
    private LoopbackHost _host = null!;

    public async ValueTask InitializeAsync()
    {
        _trust = new FixedTrust(
            FixedTrust.Entry(_gateway, TrustedKey.Gateway, "gateway"),
            FixedTrust.Entry(_service, TrustedKey.Service, "fleet"),
            FixedTrust.Entry(_token, TrustedKey.Token, "gateway"));
        _host = await LoopbackHost.StartAsync(
            builder => builder.Services.AddSingleton<TimeProvider>(_time).AddSingleton<ITrustSource>(_trust).AddSingleton<Readiness>().AddPartMetrics("ledger"),
            app =>
            {
                app.UseProblems();
                app.UseRouting();
                app.UseAssertionGate("ledger");
                app.MapHealth();
                app.MapMethods("/v1/vms", ["GET", "HEAD", "POST", "DELETE"], async (HttpContext context) =>
                {
                    using var reader = new StreamReader(context.Request.Body);
                    return Results.Text($"{Asserted.Of(context)} {await reader.ReadToEndAsync()}");
                });
            }, TestContext.Current.CancellationToken);
    }

    private Assertion Read() => new()
    {
        Iss = "gateway",
        Aud = "ledger",
        Iat = _time.GetUtcNow().ToUnixTimeSeconds(),
        Exp = _time.GetUtcNow().ToUnixTimeSeconds() + 30,
        Jti = Guid.NewGuid().ToString(),
        Use = Assertion.ReadUse,
        TenantId = "acme-corp",
        Scope = "input",
        Sub = "u1",
        SubjectPubkey = "k1",
        TokenId = "t1",
        TokenExp = 1_790_000_000,
    };

    private Assertion Write(string body = Body) => Read() with { Use = Assertion.WriteUse, Htm = "POST", Htu = Target, Bh = Assertion.BodyHash(Encoding.UTF8.GetBytes(body)), RequestId = "r1" };

    private async Task<(int Status, string Text)> SendAsync(string? assertion, HttpMethod method, string target = Target, string? body = null)
    {
        using var request = new HttpRequestMessage(method, new Uri(_host.BaseAddress, target));
        if (assertion is not null)
            request.Headers.TryAddWithoutValidation(FoundryHeaders.Assertion, assertion);
        if (body is not null)
            request.Content = new StringContent(body);
        using var answer = await _host.Client.SendAsync(request, TestContext.Current.CancellationToken);
        return ((int)answer.StatusCode, await answer.Content.ReadAsStringAsync(TestContext.Current.CancellationToken));
    }

    private async Task AssertRefusedAsync(string? assertion, HttpMethod method, string target = Target, string? body = null, [System.Runtime.CompilerServices.CallerArgumentExpression(nameof(assertion))] string? why = null)
    {
        var (status, text) = await SendAsync(assertion, method, target, body);
        Assert.True(status == 401 && text.Contains("\"code\":\"gateway_required\"", StringComparison.Ordinal) && text.Contains("9221", StringComparison.Ordinal), $"{why}: {status} {text}");
    }

    private async Task AssertEntersAsync(string assertion, HttpMethod method, string target = Target, string? body = null)
    {
        var (status, text) = await SendAsync(assertion, method, target, body);
        Assert.True(status == 200, $"{status} {text}");
    }

    [Fact]
    public async Task Believes_a_gateway_about_its_caller()
    {
        var (status, text) = await SendAsync(Write().Sign(_gateway), HttpMethod.Post, body: Body);
        Assert.Equal(200, status);
        foreach (var said in (string[])["Kind = gateway", "Sender = gateway", "IsOwn = False", "TenantId = acme-corp", "Scope = input", "Subject = u1", "SubjectPubkey = k1", "TokenId = t1", Body])
            Assert.Contains(said, text, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Takes_a_reads_assertion_again_and_again_for_GET_and_HEAD_alone()
    {
        var read = Read().Sign(_gateway);
        await AssertEntersAsync(read, HttpMethod.Get);
        await AssertEntersAsync(read, HttpMethod.Get, "/v1/vms?other=1");
        await AssertEntersAsync(read, HttpMethod.Head);
        await AssertRefusedAsync(read, HttpMethod.Post, body: Body);
        await AssertRefusedAsync(read, HttpMethod.Delete);
    }

    [Fact]
    public async Task Takes_a_writes_assertion_once()
    {
        var write = Write().Sign(_gateway);
        await AssertEntersAsync(write, HttpMethod.Post, body: Body);
        await AssertRefusedAsync(write, HttpMethod.Post, body: Body);
        // To the last moment of its life and through every sweep of what is remembered.
        for (var second = 0; second < 40; second++)
        {
            _time.Advance(TimeSpan.FromSeconds(1));
            await AssertRefusedAsync(write, HttpMethod.Post, body: Body);
            await AssertEntersAsync(Write().Sign(_gateway), HttpMethod.Post, body: Body);
        }
    }

    [Fact]
    public async Task Takes_a_write_once_of_many_at_the_same_time()
    {
        var write = Write().Sign(_gateway);
        var statuses = await Task.WhenAll(Enumerable.Range(0, 16).Select(async _ => (await SendAsync(write, HttpMethod.Post, body: Body)).Status));
        Assert.Equal(1, statuses.Count(status => status == 200));
    }

    [Fact]
    public async Task Refuses_a_write_of_which_anything_is_other_than_was_signed()
    {
        string Signed(Func<Assertion, Assertion>? change = null) => (change ?? (write => write))(Write()).Sign(_gateway);
        await AssertRefusedAsync(Signed(), HttpMethod.Post, body: Body + " ");
        await AssertRefusedAsync(Signed(), HttpMethod.Post, body: "");
        await AssertRefusedAsync(Signed(), HttpMethod.Post);
        await AssertRefusedAsync(Signed(), HttpMethod.Delete, body: Body);
        await AssertRefusedAsync(Signed(), HttpMethod.Get);
        await AssertRefusedAsync(Signed(), HttpMethod.Post, "/v1/vms", Body);
        await AssertRefusedAsync(Signed(), HttpMethod.Post, Target + "&x=1", Body);
        await AssertRefusedAsync(Signed(write => write with { Bh = null }), HttpMethod.Post, body: Body);
        await AssertRefusedAsync(Signed(write => write with { Htm = null }), HttpMethod.Post, body: Body);
        await AssertRefusedAsync(Signed(write => write with { Htu = null }), HttpMethod.Post, body: Body);
        await AssertRefusedAsync(Signed(write => write with { Use = "WRITE" }), HttpMethod.Post, body: Body);
        await AssertRefusedAsync(Signed(write => write with { Use = "" }), HttpMethod.Post, body: Body);
        // None of these used it up: what was refused left no trace.
        await AssertEntersAsync(Signed(), HttpMethod.Post, body: Body);
    }

    [Fact]
    public async Task Refuses_what_no_part_sent_to_it()
    {
        await AssertRefusedAsync(null, HttpMethod.Get);
        await AssertRefusedAsync("", HttpMethod.Get);
        await AssertRefusedAsync("nonsense", HttpMethod.Get);
        await AssertRefusedAsync("a.b.c", HttpMethod.Get);
        await AssertRefusedAsync(Read().Sign(_stranger), HttpMethod.Get);
        await AssertRefusedAsync(Read().Sign(_token), HttpMethod.Get);
        await AssertRefusedAsync((Read() with { Iss = "fleet" }).Sign(_gateway), HttpMethod.Get);
        await AssertRefusedAsync((Read() with { Aud = "fleet" }).Sign(_gateway), HttpMethod.Get);
        await AssertRefusedAsync((Read() with { Aud = "Ledger" }).Sign(_gateway), HttpMethod.Get);
        await AssertRefusedAsync((Read() with { V = 2 }).Sign(_gateway), HttpMethod.Get);
        await AssertRefusedAsync((Read() with { Scope = "INPUT" }).Sign(_gateway), HttpMethod.Get);
        await AssertRefusedAsync((Read() with { Scope = "everything" }).Sign(_gateway), HttpMethod.Get);
    }

    /// <summary>A service may speak as itself, but only a gateway may say who a caller is.</summary>
    [Fact]
    public async Task Refuses_a_service_that_claims_a_caller()
    {
        var asItself = Read() with { Iss = "fleet", Own = true };
        var (status, text) = await SendAsync(asItself.Sign(_service), HttpMethod.Get);
        Assert.Equal(200, status);
        Assert.Contains("IsOwn = True", text, StringComparison.Ordinal);
        await AssertRefusedAsync((asItself with { Own = null }).Sign(_service), HttpMethod.Get);
        await AssertRefusedAsync((asItself with { Own = false }).Sign(_service), HttpMethod.Get);
    }

    [Fact]
    public async Task Has_no_platform_admin_in_a_part_that_speaks_as_itself()
    {
        var context = new DefaultHttpContext();
        context.Request.Method = "GET";
        context.Request.Headers[FoundryHeaders.Assertion] = (Read() with { Iss = "fleet", Own = true, Scope = Scope.PlatformAdmin.Text }).Sign(_service);
        Assert.Null(await new AssertionGate("ledger", _trust, _time).TryEnterAsync(context));
        Assert.False(Asserted.Of(context).IsPlatformAdmin);
    }

    /// <summary>Seconds from now to <c>iat</c> and <c>exp</c>; clocks may differ by 5 s, and no life is longer than 30 s.</summary>
    [Theory]
    [InlineData(0, 30, true)]
    [InlineData(-30, 0, true)]
    [InlineData(-35, -5, true)]
    [InlineData(-36, -6, false)]
    [InlineData(5, 35, true)]
    [InlineData(6, 36, false)]
    [InlineData(0, 31, false)]
    [InlineData(-10, 25, false)]
    [InlineData(0, 1, true)]
    public async Task Takes_an_assertion_only_in_its_time(int iat, int exp, bool enters)
    {
        var now = _time.GetUtcNow().ToUnixTimeSeconds();
        var text = (Read() with { Iat = now + iat, Exp = now + exp }).Sign(_gateway);
        if (enters)
            await AssertEntersAsync(text, HttpMethod.Get);
        else
            await AssertRefusedAsync(text, HttpMethod.Get);
    }

    [Fact]
    public async Task Does_not_break_on_times_that_no_clock_has()
    {
        foreach (var time in (long[])[long.MaxValue, long.MinValue, 253_402_300_800, -62_135_596_801])
        {
            await AssertRefusedAsync((Read() with { Iat = time, Exp = time }).Sign(_gateway), HttpMethod.Get);
            await AssertRefusedAsync((Read() with { Iat = long.MinValue, Exp = time }).Sign(_gateway), HttpMethod.Get);
        }
    }

    [Fact]
    public async Task Refuses_two_assertions_even_when_each_is_good()
    {
        var answer = await _host.SendRawAsync($"GET {Target} HTTP/1.1\r\nHost: {_host.BaseAddress.Authority}\r\nConnection: close\r\n{FoundryHeaders.Assertion}: {Read().Sign(_gateway)}\r\n{FoundryHeaders.Assertion}: {Read().Sign(_gateway)}\r\n\r\n", TestContext.Current.CancellationToken);
        Assert.StartsWith("HTTP/1.1 401", answer, StringComparison.Ordinal);
        Assert.Contains("gateway_required", answer, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(0, 200)]
    [InlineData(1, 413)]
    public async Task Takes_a_body_up_to_its_bound(int over, int expected)
    {
        var body = new string('x', AssertionGate.BodyBytesMax + over);
        var (status, _) = await SendAsync(Write(body).Sign(_gateway), HttpMethod.Post, body: body);
        Assert.Equal(expected, status);

        using var chunked = new HttpRequestMessage(HttpMethod.Post, new Uri(_host.BaseAddress, Target)) { Content = new StringContent(body), Headers = { TransferEncodingChunked = true } };
        chunked.Headers.TryAddWithoutValidation(FoundryHeaders.Assertion, Write(body).Sign(_gateway));
        using var answer = await _host.Client.SendAsync(chunked, TestContext.Current.CancellationToken);
        Assert.Equal(expected, (int)answer.StatusCode);
    }

    [Fact]
    public async Task Reads_no_body_of_who_is_not_believed()
    {
        var context = new DefaultHttpContext();
        var body = new MemoryStream(Encoding.UTF8.GetBytes(Body));
        (context.Request.Method, context.Request.Body) = ("POST", body);
        context.Request.Headers[FoundryHeaders.Assertion] = Write().Sign(_stranger);
        Assert.Equal(ErrorCode.GatewayRequired, (await new AssertionGate("ledger", _trust, _time).TryEnterAsync(context))?.Error);
        Assert.Equal(0, body.Position);
    }

    [Fact]
    public async Task Asks_for_a_newer_trust_set_before_it_refuses_an_unknown_key()
    {
        _trust.OnRefresh = trust => trust.Current = FixedTrust.SetOf([.. trust.Current!.Keys, FixedTrust.Entry(_stranger, TrustedKey.Gateway, "gateway")], seq: 2);
        await AssertEntersAsync(Read().Sign(_stranger), HttpMethod.Get);
        Assert.Equal(1, _trust.Refreshes);
        await AssertEntersAsync(Read().Sign(_gateway), HttpMethod.Get);
        Assert.Equal(1, _trust.Refreshes);
    }

    [Fact]
    public async Task Refuses_a_key_from_the_moment_it_is_out_of_the_trust_set()
    {
        await AssertEntersAsync(Read().Sign(_gateway), HttpMethod.Get);
        _trust.Current = FixedTrust.SetOf([], seq: 2);
        await AssertRefusedAsync(Read().Sign(_gateway), HttpMethod.Get);
        _trust.Current = null;
        await AssertRefusedAsync(Read().Sign(_gateway), HttpMethod.Get);
    }

    [Fact]
    public async Task Is_open_to_all_only_where_it_says_so()
    {
        foreach (var path in (string[])["/livez", "/healthz", "/readyz"])
            Assert.Equal(200, (await SendAsync(null, HttpMethod.Get, path)).Status);
        await AssertRefusedAsync(null, HttpMethod.Get, "/nothing-here");
        await AssertRefusedAsync(null, HttpMethod.Put, "/v1/vms");
    }

    [Fact]
    public async Task Takes_what_a_part_sends_as_itself_through_its_client()
    {
        using var services = new ServiceCollection().AddHttpClient("ledger", client => client.BaseAddress = _host.BaseAddress)
            .AddHttpMessageHandler(() => new AssertionSender(new ServiceIdentity(TrustedKey.Service, "fleet", _service), "ledger", _time)).Services.BuildServiceProvider();
        var ledger = services.GetRequiredService<IHttpClientFactory>().CreateClient("ledger");
        for (var n = 0; n < 3; n++)
        {
            using var posted = await ledger.PostAsJsonAsync("/v1/vms?a=%C3%A9&b=c%20d", new { n }, TestContext.Current.CancellationToken);
            Assert.Equal(HttpStatusCode.OK, posted.StatusCode);
            using var deleted = await ledger.DeleteAsync("/v1/vms", TestContext.Current.CancellationToken);
            Assert.Equal(HttpStatusCode.OK, deleted.StatusCode);
            using var read = await ledger.GetAsync("/v1/vms", TestContext.Current.CancellationToken);
            Assert.Equal(HttpStatusCode.OK, read.StatusCode);
            // Past the reuse and past the life of the first read's assertion.
            _time.Advance(TimeSpan.FromSeconds(16));
        }
    }

    public async ValueTask DisposeAsync()
    {
        await _host.DisposeAsync();
        _gateway.Dispose();
        _service.Dispose();
        _token.Dispose();
        _stranger.Dispose();
    }
}
