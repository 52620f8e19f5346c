using System.Text;

namespace Foundry.Gateway.Tests.Bound;

/// <summary>HAZARDS B3: a request that can be read in two ways is read in none.</summary>
public sealed class RequestBoundsTests(OrdinaryGateway gateway) : IClassFixture<OrdinaryGateway>
{
    private const string Create = """{"vm_type":"micro","ram_mb":512,"vcpu_count":1}""";

    private GatewayHost Host
    {
        get
        {
            gateway.Host.Forget();
            return gateway.Host;
        }
    }

    [Theory]
    [InlineData("Idempotency-Key: a\r\nIdempotency-Key: b\r\n")]
    [InlineData("Idempotency-Key: a\r\nidempotency-key: a\r\n")]
    [InlineData("Content-Type: application/json\r\nContent-Type: text/plain\r\n")]
    [InlineData("If-Match: \"a\"\r\nIf-Match: \"b\"\r\n")]
    [InlineData("If-None-Match: \"a\"\r\nIf-None-Match: \"b\"\r\n")]
    [InlineData("X-Foundry-Request-ID: a\r\nX-Foundry-Request-ID: b\r\n")]
    [InlineData("X-Foundry-On-Behalf-Of: a\r\nX-Foundry-On-Behalf-Of: b\r\n")]
    [InlineData("Idempotency-Key: \r\n")]
    [InlineData("Idempotency-Key: a b\r\n")]
    public async Task A_header_that_decides_something_is_there_once_and_well_formed(string headers)
    {
        var host = Host;

        var answer = await host.GetRawAsync("/v1/vms", host.Token("read"), headers);

        Assert.Equal((400, "invalid_header"), (answer.Status, answer.Code));
        Assert.Empty(host.Fleet.Backend.Forwarded);
    }

    [Theory]
    [InlineData("Host: other\r\n")]
    [InlineData("Content-Length: 0\r\nContent-Length: 1\r\n")]
    [InlineData("X-A : b\r\n")]
    [InlineData("X-A: b\r\n folded\r\n")]
    [InlineData("X-A: b\rX-B: c\r\n")]
    public async Task A_head_that_is_not_http_is_refused(string headers)
    {
        var host = Host;

        Assert.Equal(400, (await host.GetRawAsync("/v1/vms", host.Token("read"), headers)).Status);
        Assert.Empty(host.Fleet.Backend.Forwarded);
    }

    [Fact]
    public async Task A_length_beside_chunks_is_refused_and_the_rest_is_not_read_as_a_request()
    {
        var host = Host;
        var token = host.Token("input");

        var answer = await host.SendRawAsync($"POST /v1/vms HTTP/1.1\r\nHost: foundry\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n\r\nGET /v1/vms HTTP/1.1\r\nHost: foundry\r\nAuthorization: Bearer {token}\r\n\r\n");

        Assert.Equal(400, answer.Status);
        Assert.Empty(host.Fleet.Backend.Forwarded);
    }

    [Theory]
    [InlineData("Transfer-Encoding: gzip, chunked\r\n")]
    [InlineData("Transfer-Encoding: chunked, chunked\r\n")]
    [InlineData("Transfer-Encoding: identity\r\n")]
    [InlineData("Transfer-Encoding: xchunked\r\n")]
    public async Task Another_transfer_coding_than_chunked_does_not_reach_the_backend(string header)
    {
        var host = Host;

        var answer = await host.SendRawAsync($"POST /v1/vms HTTP/1.1\r\nHost: foundry\r\nAuthorization: Bearer {host.Token("input")}\r\nContent-Type: application/json\r\n{header}Connection: close\r\n\r\n0\r\n\r\n");

        Assert.InRange(answer.Status, 400, 501);
        Assert.Empty(host.Fleet.Backend.Forwarded);
    }

    [Fact]
    public async Task A_chunked_body_is_taken_and_passed_on_with_its_length()
    {
        var host = Host;
        var half = Create.Length / 2;

        var answer = await host.SendRawAsync($"POST /v1/vms HTTP/1.1\r\nHost: foundry\r\nAuthorization: Bearer {host.Token("input")}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n{half:x}\r\n{Create[..half]}\r\n{Create.Length - half:x}\r\n{Create[half..]}\r\n0\r\n\r\n");

        Assert.Equal(201, answer.Status);
        var sent = Assert.Single(host.Fleet.Backend.Forwarded);
        Assert.Equal(sent.Body.Length.ToString(), sent["Content-Length"]);
        Assert.Null(sent["Transfer-Encoding"]);
    }

    [Fact]
    public async Task A_body_with_a_bad_chunk_reaches_no_backend()
    {
        var host = Host;

        var answer = await host.SendRawAsync($"POST /v1/vms HTTP/1.1\r\nHost: foundry\r\nAuthorization: Bearer {host.Token("input")}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n{Create.Length:x};a=\nb\r\n{Create}\r\n0\r\n\r\n");

        Assert.Equal(400, answer.Status);
        Assert.Empty(host.Fleet.Backend.Forwarded);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_body_over_a_mebibyte_is_too_large(bool saysItsLength)
    {
        var host = Host;
        var body = $$"""{"vm_type":"{{new string('a', 1024 * 1024)}}"}""";
        var framed = saysItsLength ? $"Content-Length: {body.Length}\r\n\r\n{body}" : $"Transfer-Encoding: chunked\r\n\r\n{body.Length:x}\r\n{body}\r\n0\r\n\r\n";

        var answer = await host.SendRawAsync($"POST /v1/vms HTTP/1.1\r\nHost: foundry\r\nAuthorization: Bearer {host.Token("input")}\r\nContent-Type: application/json\r\nConnection: close\r\n{framed}");

        Assert.Equal((413, "body_too_large"), (answer.Status, answer.Code));
        Assert.Empty(host.Fleet.Backend.Forwarded);
    }

    [Fact]
    public async Task A_body_of_a_mebibyte_is_taken()
    {
        var host = Host;
        var frame = """{"payload_id":"p","payload":{"text":""}}""";
        var body = frame.Replace("\"\"", $"\"{new string('a', (1024 * 1024) - frame.Length)}\"", StringComparison.Ordinal);

        Assert.Equal(200, (await host.SendAsync("POST", "/v1/append", host.Token("input"), body)).Status);
        Assert.Equal(1024 * 1024, Assert.Single(host.Ledger.Backend.Forwarded).Body.Length);
    }

    [Theory]
    [InlineData(0, true, false)]
    [InlineData(0, false, false)]
    [InlineData(1, true, true)]
    [InlineData(1, false, true)]
    public async Task A_body_from_nobody_in_particular_is_at_most_16_KiB(int over, bool saysItsLength, bool isTooLarge)
    {
        var host = Host;
        var frame = """{"token":""}""";
        var body = frame.Replace("\"\"", $"\"{new string('a', (16 * 1024) - frame.Length + over)}\"", StringComparison.Ordinal);
        var framed = saysItsLength ? $"Content-Length: {body.Length}\r\n\r\n{body}" : $"Transfer-Encoding: chunked\r\n\r\n{body.Length:x}\r\n{body}\r\n0\r\n\r\n";

        var answer = await host.SendRawAsync($"POST /v1/tokens/verify HTTP/1.1\r\nHost: foundry\r\nContent-Type: application/json\r\nConnection: close\r\n{framed}");

        Assert.Equal(isTooLarge, answer.Status == 413);
        Assert.Equal(isTooLarge ? "body_too_large" : null, answer.Code);
        Assert.Equal(isTooLarge ? 0 : 1, host.Issuance.Forwarded.Count);
    }

    [Fact]
    public async Task A_mebibyte_that_nobody_in_particular_announces_is_refused_before_a_byte_of_it_is_read()
    {
        var host = Host;

        // None of it is ever sent: an answer that waits for it is another one.
        var answer = await host.SendRawAsync($"POST /v1/tokens/verify HTTP/1.1\r\nHost: foundry\r\nContent-Type: application/json\r\nContent-Length: {1024 * 1024}\r\nConnection: close\r\n\r\n");

        Assert.Equal((413, "body_too_large"), (answer.Status, answer.Code));
    }

    [Theory]
    [InlineData("Content-Length: 2\r\n\r\n{}")]
    [InlineData("Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n")]
    public async Task A_read_with_a_body_is_refused(string framed)
    {
        var host = Host;

        var answer = await host.SendRawAsync($"GET /v1/vms HTTP/1.1\r\nHost: foundry\r\nAuthorization: Bearer {host.Token("read")}\r\nConnection: close\r\n{framed}");

        Assert.Equal((400, "invalid_body"), (answer.Status, answer.Code));
        Assert.Empty(host.Fleet.Backend.Forwarded);
    }

    [Fact]
    public async Task A_head_over_its_bound_is_too_large()
    {
        var host = Host;

        Assert.Equal(431, (await host.GetRawAsync("/v1/vms", host.Token("read"), $"X-Long: {new string('a', 40_000)}\r\n")).Status);
        Assert.Equal(414, (await host.GetRawAsync($"/v1/vms?a={new string('a', 10_000)}", host.Token("read"))).Status);
        Assert.Empty(host.Fleet.Backend.Forwarded);
    }

    [Fact]
    public async Task Bytes_of_a_body_that_stops_short_reach_no_backend()
    {
        var host = Host;
        var body = Encoding.UTF8.GetBytes(Create);
        using (var client = new System.Net.Sockets.TcpClient())
        {
            await client.ConnectAsync(System.Net.IPAddress.Loopback, host.Url.Port, TestContext.Current.CancellationToken);
            await client.GetStream().WriteAsync(Encoding.ASCII.GetBytes($"POST /v1/vms HTTP/1.1\r\nHost: foundry\r\nAuthorization: Bearer {host.Token("input")}\r\nContent-Type: application/json\r\nContent-Length: {body.Length + 1}\r\n\r\n{Create}"), TestContext.Current.CancellationToken);
        }

        // A request that is served after it shows that the gateway has been there.
        Assert.Equal(200, (await host.GetAsync("/v1/vms", host.Token("read"))).Status);
        Assert.DoesNotContain(host.Fleet.Backend.Forwarded, request => request.Method == "POST");
    }
}
