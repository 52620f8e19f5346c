using System.Diagnostics.Metrics;
using System.IO.Compression;
using System.Text;
using Foundry.Testing;
using Microsoft.Extensions.DependencyInjection;

namespace Foundry.Gateway.Tests.Filter;

/// <summary>CONTRACT section 4, Filtering, through the whole gateway: what of a backend's answer a tenant gets to see.</summary>
public sealed class ResponseFilterTests(OrdinaryGateway gateway) : IClassFixture<OrdinaryGateway>
{
    private const string JsonHead = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";

    /// <summary>Answers that nobody can vouch for, each with "secret" in it, and what the client is told.</summary>
    private static readonly Dictionary<string, (Func<GatewayHost, BackendAnswer> Answer, string Code)> Unfit = new()
    {
        ["cut off before its length"] = (host => BackendAnswer.Raw($"{JsonHead}Content-Length: 1000\r\n\r\n{List(host)}"), "backend_unavailable"),
        ["cut off between chunks"] = (host => BackendAnswer.Chunked([Bytes(List(host))], whole: false), "backend_unavailable"),
        ["reset"] = (host => BackendAnswer.Raw($"{JsonHead}Content-Length: 1000\r\n\r\n{List(host)}", AnswerEnd.Reset), "backend_unavailable"),
        ["reset at once"] = (_ => BackendAnswer.ResetAtOnce, "backend_unavailable"),
        ["no HTTP"] = (_ => BackendAnswer.Raw("secret\r\n\r\n"), "backend_unavailable"),
        ["cut off JSON"] = (host => BackendAnswer.Json(List(host)[..^1]), "unfilterable_response"),
        ["two documents"] = (host => BackendAnswer.Json(List(host) + List(host)), "unfilterable_response"),
        ["trailing garbage"] = (host => BackendAnswer.Json(List(host) + "secret"), "unfilterable_response"),
        ["a BOM"] = (host => BackendAnswer.Json("\ufeff" + List(host)), "unfilterable_response"),
        ["NaN"] = (_ => BackendAnswer.Json("[{\"secret\":NaN}]"), "unfilterable_response"),
        ["deep nesting"] = (_ => BackendAnswer.Json($"[{{\"secret\":{new string('[', 1000)}{new string(']', 1000)}}}]"), "unfilterable_response"),
        ["an enormous string"] = (_ => BackendAnswer.Json($"[\"secret{new string('a', 5_000_000)}\"]"), "unfilterable_response"),
        ["an object"] = (_ => BackendAnswer.Json("""{"secret":[]}"""), "unfilterable_response"),
        ["nothing"] = (_ => BackendAnswer.Json(""), "unfilterable_response"),
        ["HTML"] = (_ => BackendAnswer.Of(Bytes("<h1>secret</h1>"), 200, "text/html"), "unfilterable_response"),
        ["JSON that says it is HTML"] = (host => BackendAnswer.Of(Bytes(List(host)), 200, "text/html"), "unfilterable_response"),
        ["no type"] = (host => BackendAnswer.Of(Bytes(List(host)), 200, null), "unfilterable_response"),
        ["another type of JSON"] = (host => BackendAnswer.Of(Bytes(List(host)), 200, "application/x-ndjson"), "unfilterable_response"),
        ["another charset"] = (host => BackendAnswer.Of(Encoding.Unicode.GetBytes(List(host)), 200, "application/json; charset=utf-16"), "unfilterable_response"),
        ["201"] = (host => BackendAnswer.Json(List(host), 201), "unfilterable_response"),
        ["204"] = (_ => BackendAnswer.Of([], 204, null), "unfilterable_response"),
        ["206"] = (host => BackendAnswer.Json(List(host), 206, ("Content-Range", "bytes 0-9/secret")), "unfilterable_response"),
        ["304"] = (_ => BackendAnswer.Of([], 304, null, ("ETag", "\"secret\"")), "unfilterable_response"),
        ["302"] = (_ => BackendAnswer.Of([], 302, null, ("Location", "http://secret/")), "unfilterable_response"),
        ["gzip that is none"] = (host => BackendAnswer.Json(List(host), 200, ("Content-Encoding", "gzip")), "unfilterable_response"),
        ["gzip cut off"] = (host => BackendAnswer.Of(Packed(List(host), "gzip")[..30], 200, "application/json", ("Content-Encoding", "gzip")), "unfilterable_response"),
        ["gzip unsaid"] = (host => BackendAnswer.Of(Packed(List(host), "gzip")), "unfilterable_response"),
        ["brotli that is none"] = (host => BackendAnswer.Json(List(host), 200, ("Content-Encoding", "br")), "unfilterable_response"),
        ["gzip twice"] = (host => BackendAnswer.Of(Packed(List(host), "gzip"), 200, "application/json", ("Content-Encoding", "gzip, gzip")), "unfilterable_response"),
        ["a coding nobody knows"] = (host => BackendAnswer.Json(List(host), 200, ("Content-Encoding", "zstd")), "unfilterable_response"),
    };

    public static TheoryData<string> UnfitCases => [.. Unfit.Keys];

    [Theory, MemberData(nameof(UnfitCases))]
    public async Task An_answer_that_cannot_be_vouched_for_is_not_passed_on(string @case)
    {
        var host = Answering(Unfit[@case].Answer);

        var answer = await host.GetAsync("/v1/vms", host.Token("read"));

        Assert.Equal((502, Unfit[@case].Code), (answer.Status, answer.Code));
        AssertNothingInner(answer);
        Assert.NotNull(answer["RateLimit-Policy"]);
    }

    [Theory]
    [InlineData("gzip")]
    [InlineData("br")]
    [InlineData("deflate")]
    public async Task A_compressed_answer_is_read_and_filtered(string coding)
    {
        var host = Answering(host => BackendAnswer.Of(Packed(List(host), coding), 200, "application/json", ("Content-Encoding", coding)));

        var answer = await host.GetAsync("/v1/vms", host.Token("read"), ("Accept-Encoding", "gzip, br"));

        Assert.Equal((200, $$"""[{"vm_id":"mine","tenant_id":"{{host.Acme}}"}]"""), (answer.Status, answer.Text));
        Assert.Null(answer["Content-Encoding"]);
        Assert.Null(Assert.Single(host.Fleet.Backend.Forwarded)["Accept-Encoding"]);
    }

    [Theory]
    [InlineData(400, 502, "backend_error")]
    [InlineData(401, 502, "backend_error")]
    [InlineData(403, 502, "backend_error")]
    [InlineData(404, 404, "not_found")]
    [InlineData(409, 409, "node_conflict")]
    [InlineData(418, 502, "backend_error")]
    [InlineData(429, 429, "rate_limited")]
    [InlineData(500, 502, "backend_error")]
    [InlineData(503, 502, "backend_error")]
    public async Task A_backends_own_words_about_an_error_are_replaced(int status, int expected, string code)
    {
        var host = Answering(_ => BackendAnswer.Json("""{"code":"secret","detail":"vm secret of globex conflicts"}""", status, ("X-Inner", "secret"), ("Retry-After", "77")));
        host.Fleet.Add(host.Acme, "mine");

        foreach (var target in new[] { "/v1/vms", "/v1/nodes", "/v1/fleet", "/v1/vms/mine" })
        {
            var answer = await host.GetAsync(target, host.Token("read"));
            Assert.Equal((expected, code), (answer.Status, answer.Code));
            AssertNothingInner(answer);
        }
    }

    [Fact]
    public async Task What_describes_the_whole_list_is_not_passed_and_not_asked_for()
    {
        var host = Answering(host => BackendAnswer.Json(List(host), 200, ("ETag", "\"secret\""), ("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT"), ("Accept-Ranges", "bytes"), ("X-Total-Count", "2"), ("Link", "</v1/vms?page=secret>; rel=next"),
            ("Content-MD5", "secret"), ("Digest", "secret"), ("Repr-Digest", "secret"), ("Content-Digest", "secret"), ("Cache-Control", "public, max-age=1000"), ("Vary", "Accept"), ("X-Inner", "secret"), ("RateLimit", "secret")));

        var answer = await host.GetAsync("/v1/vms", host.Token("read"), ("If-None-Match", "\"secret\""), ("If-Modified-Since", "Thu, 01 Jan 2026 00:00:00 GMT"), ("Range", "bytes=0-1"), ("If-Range", "\"secret\""));

        Assert.Equal(200, answer.Status);
        AssertNothingInner(answer);
        Assert.Equal(("private, no-cache", "Authorization"), (answer["Cache-Control"], answer["Vary"]));
        Assert.Equal(["Cache-Control", "Content-Length", "Content-Type", "Date", "ETag", "RateLimit", "RateLimit-Policy", "Vary", "X-Foundry-Request-ID"], answer.Headers.Select(header => header.Name).Order(StringComparer.Ordinal));
        var asked = Assert.Single(host.Fleet.Backend.Forwarded);
        Assert.All(new[] { "If-None-Match", "If-Modified-Since", "Range", "If-Range" }, name => Assert.Null(asked[name]));
    }

    [Fact]
    public async Task The_etag_is_the_callers_own_view_and_is_honoured()
    {
        var foreign = "1";
        var own = "1";
        var host = Answering(host => BackendAnswer.Json($$"""[{"tenant_id":"{{host.AcmeTwin}}","a":{{foreign}}},{"tenant_id":"{{host.Acme}}","a":{{own}}}]"""));
        var token = host.Token("read");
        var first = await host.GetAsync("/v1/vms", token);

        foreign = "2";
        var second = await host.GetAsync("/v1/vms", token, ("If-None-Match", $"\"other\", {first["ETag"]}"));
        Assert.Equal((304, first["ETag"], 0), (second.Status, second["ETag"], second.Body.Length));

        own = "2";
        var third = await host.GetAsync("/v1/vms", token, ("If-None-Match", first["ETag"]!));
        Assert.Equal(200, third.Status);
        Assert.NotEqual(first["ETag"], third["ETag"]);
    }

    [Fact]
    public async Task A_long_list_streams_and_is_not_stored()
    {
        var host = Answering(host => BackendAnswer.Chunked(Many(host, 2000)));

        var answer = await host.GetAsync("/v1/vms", host.Token("read"));

        Assert.Equal(200, answer.Status);
        Assert.Equal(1000, answer.Json.GetArrayLength());
        Assert.DoesNotContain(host.AcmeTwin, answer.Text, StringComparison.Ordinal);
        Assert.Equal(("private, no-store", null), (answer["Cache-Control"], answer["ETag"]));
    }

    [Theory]
    [InlineData("rubbish")]
    [InlineData("cut off")]
    public async Task A_fault_after_the_first_byte_breaks_the_transfer_off(string fault)
    {
        var host = Answering(host => fault == "rubbish"
            ? BackendAnswer.Chunked([.. Many(host, 2000).SkipLast(1), Bytes(" secret]")])
            : BackendAnswer.Chunked(Many(host, 2000).SkipLast(1), whole: false));

        using var response = await host.OpenAsync("GET", "/v1/vms", host.Token("read"), TestContext.Current.CancellationToken);

        Assert.Equal(200, (int)response.StatusCode);
        var broken = await Assert.ThrowsAsync<HttpRequestException>(() => response.Content.ReadAsByteArrayAsync(TestContext.Current.CancellationToken));
        Assert.IsType<IOException>(broken.InnerException, exactMatch: false);
    }

    [Fact]
    public async Task A_foreign_element_that_was_kept_back_is_counted_and_recorded()
    {
        var host = Answering(host => BackendAnswer.Json(List(host)));
        long counted = 0;
        using var listener = new MeterListener();
        listener.InstrumentPublished = (instrument, listening) =>
        {
            // Of this gateway, and of no other in the process.
            if (instrument.Name == "foundry.isolation_leaks_blocked" && ReferenceEquals(instrument.Meter.Scope, host.Services.GetRequiredService<IMeterFactory>()))
                listening.EnableMeasurementEvents(instrument);
        };
        listener.SetMeasurementEventCallback<long>((_, value, _, _) => Interlocked.Add(ref counted, value));
        listener.Start();

        var answer = await host.GetAsync("/v1/vms", host.Token("read"));

        await host.UntilAsync(() => host.Ledger.Events.Any(recorded => recorded.Payload.GetProperty("request_id").GetString() == answer["X-Foundry-Request-ID"]));
        var recorded = host.Ledger.Events.Single(recorded => recorded.Payload.GetProperty("request_id").GetString() == answer["X-Foundry-Request-ID"]);
        Assert.Equal(("foundry.platform", "ISOLATION_LEAK_BLOCKED", 1), (recorded.Log, recorded.Type, recorded.Payload.GetProperty("elements").GetInt32()));
        Assert.Equal(1, Interlocked.Read(ref counted));
    }

    [Fact]
    public async Task A_platform_administrator_sees_every_element()
    {
        var host = Answering(host => BackendAnswer.Json(List(host)));

        Assert.Equal(List(host), (await host.GetAsync("/v1/vms", host.PlatformToken())).Text);
    }

    private static void AssertNothingInner(Answer answer)
    {
        Assert.DoesNotContain("secret", answer.Text, StringComparison.Ordinal);
        Assert.DoesNotContain(answer.Headers, header => header.Value.Contains("secret", StringComparison.Ordinal) || header.Name == "X-Inner");
    }

    private GatewayHost Answering(Func<GatewayHost, BackendAnswer> answer)
    {
        var host = gateway.Host;
        host.Forget();
        host.Fleet.Override = request => request.IsOwn ? null : answer(host);
        return host;
    }

    private static string List(GatewayHost host) => $$"""[{"vm_id":"mine","tenant_id":"{{host.Acme}}"},{"vm_id":"secret","tenant_id":"{{host.AcmeTwin}}"}]""";

    private static IEnumerable<ReadOnlyMemory<byte>> Many(GatewayHost host, int elements)
    {
        for (var i = 0; i < elements; i++)
            yield return Bytes($$"""{{(i == 0 ? '[' : ',')}}{"vm_id":"{{i}}","tenant_id":"{{(i % 2 == 0 ? host.Acme : host.AcmeTwin)}}","filling":"{{new string('a', 200)}}"}""");
        yield return Bytes("]");
    }

    private static byte[] Bytes(string text) => Encoding.UTF8.GetBytes(text);

    private static byte[] Packed(string text, string coding)
    {
        var packed = new MemoryStream();
        using (Stream packer = coding switch { "gzip" => new GZipStream(packed, CompressionLevel.Fastest), "br" => new BrotliStream(packed, CompressionLevel.Fastest), _ => new ZLibStream(packed, CompressionLevel.Fastest) })
            packer.Write(Bytes(text));
        return packed.ToArray();
    }
}
