using System.Text;
using System.Text.Json;

namespace Foundry.Gateway.Tests.Authorize;

/// <summary>CONTRACT section 4: another tenant named in query or body is 403 whether or not it exists; absent, the caller's is put in.</summary>
public sealed class TenantClaimsTests(OrdinaryGateway gateway) : IClassFixture<OrdinaryGateway>
{
    private const string Nobody = "never-was-there";

    [Theory]
    [InlineData("tenant_id=OTHER")]
    [InlineData("module_id=OTHER")]
    [InlineData("a=b&tenant_id=OTHER&c=d")]
    [InlineData("tenant%5Fid=OTHER")]
    [InlineData("tenant_id=%41%63%6D%65")]
    [InlineData("tenant_id=")]
    [InlineData("tenant_id")]
    [InlineData("tenant_id=ACME%20")]
    [InlineData("tenant_id=ACME+")]
    [InlineData("tenant_id=ACME%00")]
    public async Task A_query_that_names_another_tenant_is_refused_and_recorded(string query)
    {
        var host = Fresh();
        foreach (var other in new[] { host.AcmeTwin, Nobody })
        {
            var answer = await host.GetAsync($"/v1/vms?{query.Replace("OTHER", other, StringComparison.Ordinal).Replace("ACME", host.Acme, StringComparison.Ordinal)}", host.Token("read"));
            Assert.Equal((403, "tenant_mismatch"), (answer.Status, answer.Code));
            Assert.DoesNotContain(other, answer.Text, StringComparison.Ordinal);
        }
        Assert.Empty(host.Fleet.Backend.Forwarded);
    }

    [Theory]
    [InlineData("tenant_id=ACME&tenant_id=ACME")]
    [InlineData("tenant_id=ACME&tenant_id=OTHER")]
    [InlineData("tenant_id=ACME&tenant%5fid=OTHER")]
    [InlineData("Tenant_Id=OTHER")]
    [InlineData("TENANT_ID=OTHER")]
    [InlineData("tenantid=OTHER")]
    [InlineData("tenantId=OTHER")]
    [InlineData("tenant-id=OTHER")]
    [InlineData("tenant.id=OTHER")]
    [InlineData("tenant_id%5B%5D=OTHER")]
    [InlineData("tenant_id[]=OTHER")]
    [InlineData("tenant_id[0]=OTHER")]
    [InlineData("+tenant_id=OTHER")]
    [InlineData("tenant_id%00=OTHER")]
    [InlineData("module-id=OTHER")]
    public async Task A_query_that_could_name_another_tenant_to_some_reader_is_invalid(string query)
    {
        var host = Fresh();

        var answer = await host.GetAsync($"/v1/vms?{query.Replace("ACME", host.Acme, StringComparison.Ordinal).Replace("OTHER", host.AcmeTwin, StringComparison.Ordinal)}", host.Token("read"));

        Assert.Equal((400, "invalid_query"), (answer.Status, answer.Code));
        Assert.Empty(host.Fleet.Backend.Forwarded);
    }

    [Theory]
    [InlineData("", "tenant_id=ACME")]
    [InlineData("?", "tenant_id=ACME")]
    [InlineData("?tenant_id=ACME", "tenant_id=ACME")]
    [InlineData("?state=Running&a=%20b+c&a=2", "state=Running&a=%20b+c&a=2&tenant_id=ACME")]
    [InlineData("?tenant_id=ACME&state=Running", "state=Running&tenant_id=ACME")]
    public async Task A_read_tells_the_backend_the_tenant_and_leaves_the_rest_as_it_was(string sent, string received)
    {
        var host = Fresh();

        Assert.Equal(200, (await host.GetAsync("/v1/vms" + sent.Replace("ACME", host.Acme, StringComparison.Ordinal), host.Token("read"))).Status);

        Assert.Equal("/v1/vms?" + received.Replace("ACME", host.Acme, StringComparison.Ordinal), Assert.Single(host.Fleet.Backend.Forwarded).Target);
    }

    [Theory]
    [InlineData("""{"ram_mb":512,"tenant_id":"OTHER"}""")]
    [InlineData("""{"tenant_id":"OTHER","ram_mb":512}""")]
    [InlineData("""{"ram_mb":512,"tenant\u005fid":"OTHER"}""")]
    [InlineData("""{"ram_mb":512,"tenant_id":""}""")]
    [InlineData("""{"ram_mb":512,"nested":{"deep":[{"tenant_id":"OTHER"}]}}""")]
    [InlineData("""{"vms":[{"vm_id":"a","tenant_id":"ACME"},{"vm_id":"b","tenant_id":"OTHER"}]}""")]
    public async Task A_body_that_names_another_tenant_anywhere_is_refused(string body)
    {
        var host = Fresh();
        foreach (var (target, scope) in new[] { ("/v1/vms", "input"), ("/v1/nodes/heartbeat", "service:fleet-node") })
            foreach (var other in new[] { host.AcmeTwin, Nobody, host.Acme.ToUpperInvariant() })
            {
                var answer = await host.SendAsync("POST", target, host.Token(scope), body.Replace("OTHER", other, StringComparison.Ordinal).Replace("ACME", host.Acme, StringComparison.Ordinal));
                Assert.Equal((403, "tenant_mismatch"), (answer.Status, answer.Code));
            }
        Assert.Empty(host.Fleet.Backend.Forwarded);
    }

    /// <summary>Bodies that readers would differ about.</summary>
    public static TheoryData<string> Unsound =>
    [
        "null", "[]", "1", "\"a\"", "{", "{}}", "{} {}", "{}x", "{\"a\":1,}", "{'a':1}", "{a:1}", "{\"a\":NaN}", "{\"a\":01}", "// x\n{}", "\ufeff{}",
        """{"ram_mb":1,"ram_mb":2}""", """{"ram_mb":1,"RAM_MB":2}""", """{"ram_mb":1,"ram\u005fmb":2}""", """{"a":{"b":1,"b":2}}""", """{"a":[{"b":1,"B":2}]}""",
        """{"tenant_id":"ACME","tenant_id":"ACME"}""", """{"tenant_id":"ACME","TENANT_ID":"ACME"}""", """{"Tenant_Id":"ACME"}""", """{"tenantId":"ACME"}""", """{"tenant-id":"ACME"}""",
        """{"vms":[{"TenantId":"ACME"}]}""", """{"tenant_id":1}""", """{"tenant_id":["ACME"]}""", """{"tenant_id":{}}""", """{"tenant_id":true}""",
        """{"\ud800":1}""", """{"tenant_id":"\ud800"}""", """{"a":1,"\udc00":{"tenant_id":"ACME"}}""",
    ];

    [Theory, MemberData(nameof(Unsound))]
    public async Task A_body_that_readers_would_differ_about_is_invalid(string body)
    {
        var host = Fresh();
        foreach (var token in new[] { host.Token("input"), host.PlatformToken() })
        {
            var answer = await host.SendAsync("POST", "/v1/vms", token, body.Replace("ACME", host.Acme, StringComparison.Ordinal));
            Assert.Equal((400, "invalid_body"), (answer.Status, answer.Code));
        }
        Assert.Empty(host.Fleet.Backend.Forwarded);
    }

    [Fact]
    public async Task A_body_too_deep_or_not_utf8_is_invalid()
    {
        var host = Fresh();
        var deep = string.Concat(Enumerable.Repeat("{\"a\":", 100)) + "1" + new string('}', 100);
        Assert.Equal("invalid_body", (await host.SendAsync("POST", "/v1/vms", host.Token("input"), deep)).Code);
        var notUtf8 = Encoding.Latin1.GetBytes($"POST /v1/vms HTTP/1.1\r\nHost: foundry\r\nAuthorization: Bearer {host.Token("input")}\r\nContent-Type: application/json\r\nContent-Length: 9\r\nConnection: close\r\n\r\n{{\"a\":\"é\"}}");
        Assert.Equal("invalid_body", (await host.SendRawAsync(notUtf8)).Code);
        Assert.Empty(host.Fleet.Backend.Forwarded);
    }

    [Theory]
    [InlineData("text/plain")]
    [InlineData("application/x-www-form-urlencoded")]
    [InlineData("application/json; charset=utf-16")]
    [InlineData("application/json; charset=iso-8859-1")]
    [InlineData("application/merge-patch+json")]
    [InlineData("rubbish")]
    public async Task A_body_of_another_type_is_not_supported(string type)
    {
        var host = Fresh();

        var answer = await host.SendAsync("POST", "/v1/vms", host.Token("input"), "{}", ("Content-Type", type));

        Assert.Equal((415, "unsupported_media_type"), (answer.Status, answer.Code));
        Assert.Empty(host.Fleet.Backend.Forwarded);
    }

    [Theory]
    [InlineData("""{"ram_mb":512,"vcpu_count":1,"vm_type":"micro"}""")]
    [InlineData("""{"ram_mb":512,"tenant_id":null,"vcpu_count":1,"vm_type":"micro"}""")]
    public async Task A_change_names_the_tenant_to_the_backend_and_leaves_the_rest_as_it_was(string body)
    {
        var host = Fresh();

        Assert.Equal(201, (await host.SendAsync("POST", "/v1/vms", host.Token("input"), body)).Status);

        Assert.Equal($$"""{"tenant_id":"{{host.Acme}}","ram_mb":512,"vcpu_count":1,"vm_type":"micro"}""", Assert.Single(host.Fleet.Backend.Forwarded).Text);
    }

    [Fact]
    public async Task Numbers_and_timestamps_of_a_report_stay_the_text_they_came_as()
    {
        var host = Fresh();
        const string rest = "\"cpu_load_pct\":1.50e1,\"timestamp_utc\":\"2026-01-01T00:00:00.123456789Z\",\"vms\":[{\"vm_id\":\"a\",\"new\":[1.0,-0]}]}";

        Assert.Equal(200, (await host.SendAsync("POST", "/v1/nodes/heartbeat", host.Token("service:fleet-node"), "{" + rest)).Status);

        Assert.Equal($"{{\"tenant_id\":\"{host.Acme}\",{rest}", Assert.Single(host.Fleet.Backend.Forwarded).Text);
    }

    [Fact]
    public async Task An_opaque_body_is_the_callers_own_text()
    {
        var host = Fresh();
        var body = """{"payload_id":"p","payload":{"tenant_id":"OTHER","A":1,"a":2}}""".Replace("OTHER", host.AcmeTwin, StringComparison.Ordinal);

        Assert.Equal(200, (await host.SendAsync("POST", "/v1/append", host.Token("input"), body)).Status);

        var sent = Assert.Single(host.Ledger.Backend.Forwarded);
        Assert.Equal(body, sent.Text);
        Assert.Equal(host.Acme, sent["X-Foundry-Module-ID"]);
    }

    [Theory]
    [InlineData("GET", "/v1/tenants/OTHER", "service:tenant-admin")]
    [InlineData("GET", "/v1/tenants/OTHER/tokens", "service:tenant-admin")]
    [InlineData("POST", "/v1/tenants/OTHER/tokens", "service:tenant-admin")]
    [InlineData("GET", "/ledger/OTHER/checkpoint", "read")]
    [InlineData("GET", "/ledger/OTHER/tile/0/000", "read")]
    [InlineData("GET", "/ledger/foundry.platform/checkpoint", "read")]
    public async Task Another_tenant_in_the_path_is_not_found(string method, string target, string scope)
    {
        var host = Fresh();
        Answer? first = null;
        foreach (var other in new[] { host.AcmeTwin, Nobody, host.Acme.ToUpperInvariant(), host.Acme + ".audit" })
        {
            var answer = await host.SendAsync(method, target.Replace("OTHER", other, StringComparison.Ordinal), host.Token(scope), method == "POST" ? "{}" : null);
            Assert.Equal((404, "not_found"), (answer.Status, answer.Code));
            AssertSame(first ??= answer, answer);
        }
        Assert.Empty(host.Issuance.Forwarded);
        Assert.Empty(host.Ledger.Backend.Forwarded);
    }

    [Theory]
    [InlineData("", "foundry.platform")]
    [InlineData("?tenant_id=OTHER", "OTHER")]
    [InlineData("?module_id=OTHER.audit", "OTHER.audit")]
    [InlineData("?module_id=other.audit&tenant_id=OTHER", "other.audit")]
    public async Task A_platform_token_picks_the_log_it_asks_about(string query, string module)
    {
        var host = Fresh();

        Assert.Equal(200, (await host.GetAsync("/v1/checkpoint" + query.Replace("OTHER", host.AcmeTwin, StringComparison.Ordinal), host.PlatformToken())).Status);

        Assert.Equal(module.Replace("OTHER", host.AcmeTwin, StringComparison.Ordinal), Assert.Single(host.Ledger.Backend.Forwarded)["X-Foundry-Module-ID"]);
    }

    [Fact]
    public async Task A_platform_token_names_the_tenant_it_creates_for_or_is_told_to()
    {
        var host = Fresh();
        const string create = """{"vm_type":"micro","ram_mb":512,"vcpu_count":1}""";

        Assert.Equal("tenant_required", (await host.SendAsync("POST", "/v1/vms", host.PlatformToken(), create)).Code);
        Assert.Equal("invalid_body", (await host.SendAsync("POST", $"/v1/vms?tenant_id={host.Acme}", host.PlatformToken(), create.Replace("{", $"{{\"tenant_id\":\"{host.AcmeTwin}\",", StringComparison.Ordinal))).Code);
        Assert.Equal(404, (await host.SendAsync("POST", $"/v1/vms?tenant_id={Nobody}", host.PlatformToken(), create)).Status);
        Assert.Empty(host.Fleet.Backend.Forwarded);

        Assert.Equal(201, (await host.SendAsync("POST", $"/v1/vms?tenant_id={host.AcmeTwin}", host.PlatformToken(), create)).Status);
        Assert.Equal(host.AcmeTwin, JsonDocument.Parse(Assert.Single(host.Fleet.Backend.Forwarded).Text).RootElement.GetProperty("tenant_id").GetString());
    }

    internal static void AssertSame(Answer one, Answer other)
    {
        static IEnumerable<string> Comparable(Answer answer) => answer.Headers.Where(header => header.Name is not ("Date" or "X-Foundry-Request-ID" or "RateLimit")).Select(header => $"{header.Name}: {header.Value}");
        Assert.Equal(one.Status, other.Status);
        Assert.Equal(Comparable(one), Comparable(other));
        Assert.Equal(one.Text.Replace(one["X-Foundry-Request-ID"]!, "", StringComparison.Ordinal), other.Text.Replace(other["X-Foundry-Request-ID"]!, "", StringComparison.Ordinal));
    }

    private GatewayHost Fresh()
    {
        gateway.Host.Forget();
        return gateway.Host;
    }
}
