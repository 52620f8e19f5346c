using System.Net;
using System.Net.Http.Json;
using System.Text;
using System.Text.Json;
using Foundry.Contracts;
using Foundry.Testing;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Time.Testing;

namespace Foundry.ServiceDefaults.Tests;

public sealed class ErrorAnswer
{
    private static Task<LoopbackHost> StartAsync() => LoopbackHost.StartAsync(_ => { }, app =>
    {
        app.UseProblems();
        app.MapGet("/fault", void () => throw new InvalidOperationException("secret-in-the-message"));
        app.MapGet("/late-fault", async (HttpContext context) =>
        {
            await context.Response.WriteAsync("begun");
            await context.Response.Body.FlushAsync();
            throw new InvalidOperationException("secret-in-the-message");
        });
        app.MapGet("/own-404", () => Results.Json(new { own = true }, statusCode: 404));
        app.MapGet("/refused/{code}", (string code, int? seconds) => new Refused(ErrorCode.All[code], "Because.") { RetryAfter = seconds is { } known ? TimeSpan.FromSeconds(known) : null });
        app.MapGet("/refused", () => new Refused(ErrorCode.NoCapacity, "No node has 4096 MiB free."));
        app.MapPost("/body", async (HttpContext context) =>
        {
            var (body, refusal) = await Problems.ReadBodyAsync(context, WireJson.Default.BeginEpoch);
            return refusal ?? Results.Text(body!.TenantId);
        });
    }, TestContext.Current.CancellationToken);

    private static async Task<Problem> ProblemAsync(HttpResponseMessage answer, ErrorCode error)
    {
        Assert.Equal(error.Status, (int)answer.StatusCode);
        Assert.Equal(Problem.MediaType, answer.Content.Headers.ContentType?.ToString());
        Assert.True(answer.Headers.CacheControl?.NoStore);
        var problem = (await answer.Content.ReadFromJsonAsync(WireJson.Default.Problem, TestContext.Current.CancellationToken))!;
        Assert.Equal((error.Code, error.Title, error.Status, $"/problems/{error.Code}"), (problem.Code, problem.Title, problem.Status, problem.Type));
        Assert.Equal(problem.RequestId, Assert.Single(answer.Headers.GetValues(FoundryHeaders.RequestId)));
        return problem;
    }

    [Fact]
    public async Task To_a_fault_says_nothing_of_it_and_the_log_says_all()
    {
        await using var host = await StartAsync();
        using var answer = await host.Client.GetAsync("/fault", TestContext.Current.CancellationToken);
        var problem = await ProblemAsync(answer, ErrorCode.Internal);
        var body = await answer.Content.ReadAsStringAsync(TestContext.Current.CancellationToken);
        foreach (var inner in (string[])["secret-in-the-message", "InvalidOperation", "   at ", ".cs"])
            Assert.DoesNotContain(inner, body, StringComparison.Ordinal);
        Assert.Contains(host.Log, line => line.Contains(problem.RequestId, StringComparison.Ordinal) && line.Contains("secret-in-the-message", StringComparison.Ordinal));
    }

    /// <summary>CONTRACT: whoever may come back is told when, and nobody else is.</summary>
    [Fact]
    public async Task Says_when_to_come_back_where_coming_back_helps()
    {
        await using var host = await StartAsync();
        foreach (var error in ErrorCode.All.Values)
        {
            using var answer = await host.Client.GetAsync($"/refused/{error.Code}", TestContext.Current.CancellationToken);
            await ProblemAsync(answer, error);
            Assert.True(error.Status is 429 or 503 == answer.Headers.RetryAfter?.Delta >= TimeSpan.FromSeconds(1), error.Code);
        }
        foreach (var (known, least, most) in ((int, int, int)[])[(-1, 1, 3), (0, 1, 3), (1, 1, 3), (100, 100, 149), (3600, 3600, 5399), (86_400, 3600, 5399)])
        {
            using var answer = await host.Client.GetAsync($"/refused/rate_limited?seconds={known}", TestContext.Current.CancellationToken);
            Assert.InRange(answer.Headers.RetryAfter!.Delta!.Value.TotalSeconds, least, most);
        }
    }

    [Fact]
    public async Task To_a_fault_after_the_first_byte_is_broken_off_rather_than_ended_well()
    {
        await using var host = await StartAsync();
        using var answer = await host.Client.GetAsync("/late-fault", HttpCompletionOption.ResponseHeadersRead, TestContext.Current.CancellationToken);
        await Assert.ThrowsAnyAsync<HttpRequestException>(() => answer.Content.ReadAsStringAsync(TestContext.Current.CancellationToken));
    }

    [Fact]
    public async Task To_what_nothing_is_mapped_for_is_a_problem_too()
    {
        await using var host = await StartAsync();
        using var missing = await host.Client.GetAsync("/nothing", TestContext.Current.CancellationToken);
        await ProblemAsync(missing, ErrorCode.NotFound);
        using var method = await host.Client.DeleteAsync("/body", TestContext.Current.CancellationToken);
        await ProblemAsync(method, ErrorCode.MethodNotAllowed);
        Assert.Equal(["POST"], method.Content.Headers.Allow);
    }

    [Fact]
    public async Task Of_a_handler_is_left_as_it_is()
    {
        await using var host = await StartAsync();
        using var answer = await host.Client.GetAsync("/own-404", TestContext.Current.CancellationToken);
        Assert.Equal("{\"own\":true}", await answer.Content.ReadAsStringAsync(TestContext.Current.CancellationToken));
        using var refused = await host.Client.GetAsync("/refused", TestContext.Current.CancellationToken);
        Assert.Equal("No node has 4096 MiB free.", (await ProblemAsync(refused, ErrorCode.NoCapacity)).Detail);
    }

    [Fact]
    public async Task To_HEAD_has_the_headers_alone()
    {
        await using var host = await StartAsync();
        using var request = new HttpRequestMessage(HttpMethod.Head, "/nothing");
        using var answer = await host.Client.SendAsync(request, TestContext.Current.CancellationToken);
        Assert.Equal(HttpStatusCode.NotFound, answer.StatusCode);
        Assert.Equal(Problem.MediaType, answer.Content.Headers.ContentType?.ToString());
        Assert.Empty(await answer.Content.ReadAsByteArrayAsync(TestContext.Current.CancellationToken));
    }

    [Theory]
    [InlineData("""{"v":1,"tenant_id":"acme-corp"}""", "application/json", null)]
    [InlineData("""{"v":1,"tenant_id":"acme-corp"}""", "application/json; charset=utf-8", null)]
    [InlineData("""{"v":1,"tenant_id":"acme-corp"}""", "text/plain", "unsupported_media_type")]
    [InlineData("""{"v":1,"tenant_id":"acme-corp"}""", null, "unsupported_media_type")]
    [InlineData("", "application/json", "invalid_body")]
    [InlineData("null", "application/json", "invalid_body")]
    [InlineData("[]", "application/json", "invalid_body")]
    [InlineData("{\"v\":1,\"tenant_id\":\"secret-in-the-body\"", "application/json", "invalid_body")]
    [InlineData("{\"v\":\"secret-in-the-body\",\"tenant_id\":\"acme-corp\"}", "application/json", "invalid_body")]
    [InlineData("{\"v\":1,\"tenant_id\":\"a\",\"tenant_id\":\"b\"}", "application/json", "invalid_body")]
    [InlineData("{\"v\":1,\"tenant_id\":\"a\",\"Tenant_ID\":\"b\"}", "application/json", "invalid_body")]
    [InlineData("{\"v\":1,\"tenant_id\":\"a\",\"more\":1}", "application/json", "invalid_body")]
    [InlineData("{\"v\":1,\"tenant_id\":\"a\"} {}", "application/json", "invalid_body")]
    [InlineData("{\"v\":1,\"tenant_id\":\"\\ud800\"}", "application/json", "invalid_body")]
    [InlineData("{\"v\":1,\"tenant_id\":null}", "application/json", "invalid_body")]
    public async Task To_a_body_says_where_it_is_wrong_and_quotes_none_of_it(string body, string? mediaType, string? code)
    {
        await using var host = await StartAsync();
        using var content = new ByteArrayContent(Encoding.UTF8.GetBytes(body));
        if (mediaType is not null)
            content.Headers.TryAddWithoutValidation("Content-Type", mediaType);
        using var answer = await host.Client.PostAsync("/body", content, TestContext.Current.CancellationToken);
        if (code is null)
        {
            Assert.Equal("acme-corp", await answer.Content.ReadAsStringAsync(TestContext.Current.CancellationToken));
            return;
        }
        var problem = await ProblemAsync(answer, ErrorCode.All[code]);
        Assert.DoesNotContain("secret-in-the-body", JsonSerializer.Serialize(problem, WireJson.Default.Problem), StringComparison.Ordinal);
    }
}

public sealed class RequestIds
{
    [Theory]
    [InlineData("abc", true)]
    [InlineData("A-b_c.9", true)]
    [InlineData("0123456789012345678901234567890123456789012345678901234567890123", true)]
    [InlineData("01234567890123456789012345678901234567890123456789012345678901234", false)]
    [InlineData("a b", false)]
    [InlineData("a,b", false)]
    [InlineData("a\"b", false)]
    [InlineData("a/b", false)]
    [InlineData("é", false)]
    [InlineData("", false)]
    [InlineData(null, false)]
    public void Are_the_senders_if_well_formed_else_new(string? sent, bool taken)
    {
        var context = new DefaultHttpContext();
        if (sent is not null)
            context.Request.Headers[FoundryHeaders.RequestId] = sent;
        var id = RequestId.Of(context);
        Assert.Equal(taken, id == sent);
        Assert.True(taken || id.Length == 36);
        Assert.Equal(id, RequestId.Of(context));
    }

    [Fact]
    public void Sent_twice_are_not_taken()
    {
        var context = new DefaultHttpContext();
        context.Request.Headers[FoundryHeaders.RequestId] = new(["a", "b"]);
        Assert.Equal(36, RequestId.Of(context).Length);
    }
}

public sealed class ReadinessAnswer
{
    private readonly FakeTimeProvider _time = new(new DateTimeOffset(2026, 6, 12, 9, 42, 0, TimeSpan.Zero));

    [Fact]
    public async Task Names_what_is_missing_and_since_when()
    {
        var readiness = new Readiness(_time);
        await using var host = await LoopbackHost.StartAsync(builder => builder.Services.AddSingleton(readiness).AddPartMetrics("test"), app => app.MapHealth(), TestContext.Current.CancellationToken);
        async Task<(int Status, string Body)> ReadyzAsync()
        {
            using var answer = await host.Client.GetAsync("/readyz", TestContext.Current.CancellationToken);
            return ((int)answer.StatusCode, await answer.Content.ReadAsStringAsync(TestContext.Current.CancellationToken));
        }
        Assert.Equal((200, """{"ready":true,"needs":{}}"""), await ReadyzAsync());

        readiness.Report("trust", met: false, "waiting for issuance");
        _time.Advance(TimeSpan.FromSeconds(5));
        readiness.Report("trust", met: false, "still waiting");
        Assert.Equal((503, """{"ready":false,"needs":{"trust":{"met":false,"required":true,"since":"2026-06-12T09:42:00+00:00","detail":"still waiting"}}}"""), await ReadyzAsync());

        readiness.Report("trust", met: true);
        readiness.Report("outbox", met: false, "3 wait", required: false);
        Assert.Equal((200, """{"ready":true,"needs":{"outbox":{"met":false,"required":false,"since":"2026-06-12T09:42:05+00:00","detail":"3 wait"},"trust":{"met":true,"required":true,"since":"2026-06-12T09:42:05+00:00","detail":null}}}"""), await ReadyzAsync());

        readiness.Report("trust", met: false);
        Assert.Equal(503, (await ReadyzAsync()).Status);
        var metrics = await host.Client.GetStringAsync("/metrics", TestContext.Current.CancellationToken);
        Assert.Matches("foundry_need_met{[^}]*need=\"outbox\"[^}]*} 0", metrics);
        Assert.Matches("foundry_need_met{[^}]*need=\"trust\"[^}]*} 0", metrics);
        foreach (var path in (string[])["/livez", "/healthz"])
            Assert.Equal("ok\n", await host.Client.GetStringAsync(path, TestContext.Current.CancellationToken));
    }
}
