using System.Text;
using Foundry.Testing;
using Foundry.Tokens;

namespace Foundry.Issuance.Tests;

/// <summary>What is refused leaves nothing behind: no row, no event, no change for gateways.</summary>
public sealed class BadInput
{
    private const string Tenant = """{"tenant_id":"new-corp","display_name":"New","max_vms":1,"storage_quota_gb":1,"api_rate_limit_rpm":60}""";

    /// <summary>Who, what, body (<c>@key</c> a good key), status, code. "acme" is the tenant administrator's own tenant.</summary>
    public static TheoryData<string, string, string, int, string> Cases => new()
    {
        // Keys.
        { "platform", Issue, Token("\"\""), 422, "invalid_value" },
        { "platform", Issue, Token($"\"{new string('0', 62)}\""), 422, "invalid_value" },
        { "platform", Issue, Token($"\"{new string('0', 66)}\""), 422, "invalid_value" },
        { "platform", Issue, Token($"\"{new string('0', 64)}\""), 422, "invalid_value" }, // Of small order.
        { "platform", Issue, Token($"\"01{new string('0', 62)}\""), 422, "invalid_value" }, // The neutral element.
        { "platform", Issue, Token("\"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f\""), 422, "invalid_value" }, // Of order 2.
        { "platform", Issue, Token("\"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a\""), 422, "invalid_value" }, // Of order 8.
        { "platform", Issue, Token("\"0200000000000000000000000000000000000000000000000000000000000000\""), 422, "invalid_value" }, // No point.
        { "platform", Issue, Token("\"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f\""), 422, "invalid_value" }, // p: not canonical.
        { "platform", Issue, Token("7"), 400, "invalid_body" },
        { "platform", Issue, Token("null"), 422, "invalid_value" },
        // Expiry.
        { "platform", Issue, Token(seconds: "59"), 422, "invalid_value" },
        { "platform", Issue, Token(seconds: "7776001"), 422, "invalid_value" },
        { "platform", Issue, Token(seconds: "-60"), 422, "invalid_value" },
        { "platform", Issue, Token(seconds: "60.5"), 400, "invalid_body" },
        { "platform", Issue, Token(seconds: "6e1"), 400, "invalid_body" },
        { "platform", Issue, Token(seconds: "\"60\""), 400, "invalid_body" },
        { "platform", Issue, Token(seconds: "9223372036854775808"), 400, "invalid_body" },
        { "platform", Issue, Token(seconds: "true"), 400, "invalid_body" },
        // Overlap.
        { "platform", Issue, Token(more: ",\"max_overlap_seconds\":-1"), 422, "invalid_value" },
        { "platform", Issue, Token(more: ",\"max_overlap_seconds\":604801"), 422, "invalid_value" },
        { "platform", Issue, Token(more: ",\"max_overlap_seconds\":1.5"), 400, "invalid_body" },
        { "platform", Issue, Token(scope: "service:fleet-node", more: ",\"max_overlap_seconds\":60"), 422, "invalid_value" },
        // Scopes.
        { "platform", Issue, Token(scope: "write"), 422, "invalid_value" },
        { "platform", Issue, Token(scope: ""), 422, "invalid_value" },
        { "platform", Issue, Token(scope: "read user"), 422, "invalid_value" },
        { "platform", Issue, Token(scope: "service:"), 422, "invalid_value" },
        { "platform", Issue, Token(scope: "service:platform-admin"), 422, "invalid_value" },
        { "tenant", Issue, Token(scope: "service:platform-admin"), 403, "scope_not_grantable" },
        { "tenant", Issue, Token(scope: "service:reporting"), 403, "scope_not_grantable" },
        // JSON that readers differ on.
        { "platform", Issue, Token(more: ",\"scope\":\"input\""), 400, "invalid_body" },
        { "platform", Issue, Token(more: ",\"Scope\":\"input\""), 400, "invalid_body" },
        { "platform", Issue, Token(more: ",\"EXPIRES_IN_SECONDS\":60"), 400, "invalid_body" },
        { "platform", Issue, Token(more: ",\"kid\":\"x\""), 400, "invalid_body" },
        { "platform", Issue, Token() + "{}", 400, "invalid_body" },
        { "platform", Issue, Token()[..^1] + ",}", 400, "invalid_body" },
        { "platform", Issue, "[" + Token() + "]", 400, "invalid_body" },
        { "platform", Issue, "null", 400, "invalid_body" },
        { "platform", Issue, "", 400, "invalid_body" },
        { "platform", Issue, Token(more: $",\"user_id\":{new string('[', 40)}{new string(']', 40)}"), 400, "invalid_body" },
        { "platform", "POST /v1/tenants", new string('[', 100_000), 400, "invalid_body" },
        { "platform", Issue, Token(more: ",\"user_id\":\"\\ud800\""), 400, "invalid_body" }, // Half a surrogate pair.
        { "platform", "POST /v1/tenants", Tenant.Replace("New", "\\udfff", StringComparison.Ordinal), 400, "invalid_body" },
        { "platform", "POST /v1/tenants", Tenant.Replace("New", "a\\u0000b", StringComparison.Ordinal), 422, "invalid_value" },
        { "platform", "POST /v1/tenants", Tenant.Replace("New", "N\u00ff\u00fe", StringComparison.Ordinal) + "latin-1", 400, "invalid_body" }, // Not UTF-8.
        { "platform", "PATCH /v1/tenants/acme-corp", "{\"max_vms\":1,\"max_vms\":1}", 400, "invalid_body" },
        { "platform", "PATCH /v1/tenants/acme-corp", "{\"Max_vms\":1}", 400, "invalid_body" },
        { "platform", "PATCH /v1/tenants/acme-corp", "{\"status\":\"deleted\"}", 422, "invalid_value" },
        { "platform", "PATCH /v1/tenants/acme-corp", "{\"max_vms\":100001}", 422, "invalid_value" },
        { "platform", "POST /v1/tokens", Token(more: ",\"tenant_id\":\"a\\u0000b\""), 422, "invalid_value" }, // PostgreSQL takes no NUL in a text.
        { "platform", "POST /v1/tokens", Token(more: ",\"tenant_id\":\"\""), 422, "invalid_value" },
        { "platform", "POST /v1/tokens", Token(more: ",\"tenant_id\":\"never-was\""), 422, "invalid_value" },
        { "platform", "POST /v1/tokens", Token(), 422, "tenant_required" },
        // A tenant's administrator out of its tenant: not there by path, a mismatch by body.
        { "tenant", "POST /v1/tenants/other-corp/tokens", Token(), 404, "not_found" },
        { "tenant", "POST /v1/tenants/never-was/tokens", Token(), 404, "not_found" },
        { "tenant", "POST /v1/tokens", Token(more: ",\"tenant_id\":\"other-corp\""), 403, "tenant_mismatch" },
        { "tenant", "POST /v1/tokens", Token(more: ",\"tenant_id\":\"never-was\""), 403, "tenant_mismatch" },
        { "tenant", "POST /v1/tokens", Token(more: ",\"tenant_id\":\"ACME-CORP\""), 403, "tenant_mismatch" },
        { "tenant", "POST /v1/tenants", Tenant, 403, "insufficient_scope" },
        { "tenant", "PATCH /v1/tenants/acme-corp", "{\"max_vms\":1}", 403, "insufficient_scope" },
        { "tenant", "DELETE /v1/tenants/acme-corp?force=true", "", 403, "insufficient_scope" },
        { "input", Issue, Token(), 403, "insufficient_scope" },
        // No chain of short-lived administrators outlives its first.
        { "tenant", Issue, Token(scope: "service:tenant-admin", seconds: "3601"), 422, "expiry_exceeds_issuer" },
        { "tenant", Issue, Token(scope: "SERVICE:TENANT-ADMIN", seconds: "7776000"), 422, "expiry_exceeds_issuer" },
    };

    private const string Issue = "POST /v1/tenants/acme-corp/tokens";

    [Theory, MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task Is_refused_precisely_and_leaves_nothing_behind(string store)
    {
        await using var part = await IssuancePart.StartAsync(store);
        await part.MakeTenantAsync();
        await part.MakeTenantAsync("other-corp");
        var tenant = await part.TenantAdminAsync(seconds: 3600);
        var before = await Rows.CountAsync(part);
        using var key = SigningKey.Generate();
        foreach (var (who, call, text, status, code) in Cases.Select(row => row.Data))
        {
            var caller = who switch { "platform" => part.Admin, "tenant" => tenant, _ => CallerFacts.Of("acme-corp", who, IssuancePart.Start.AddDays(1)) };
            var (method, path) = (new HttpMethod(call.Split(' ')[0]), call.Split(' ')[1]);
            var body = text.Replace("@key", key.Public.X, StringComparison.Ordinal);
            // With a key, which must not be kept either.
            var answer = body.EndsWith("latin-1", StringComparison.Ordinal)
                ? await part.CallBytesAsync(caller, method, path, Encoding.Latin1.GetBytes(body[..^"latin-1".Length]))
                : await part.CallAsync(caller, method, path, body, request => request.Headers.TryAddWithoutValidation("Idempotency-Key", "a-key"));
            var shown = $"{who} {call} {(body.Length > 300 ? body[..300] : body)}: {answer.Status} {answer.Text}";
            Assert.True((status, code) == (answer.Status, answer.Code), shown);
            Assert.True(answer.Json.GetProperty("status").GetInt32() == status && answer.Json.GetProperty("request_id").GetString()!.Length > 0, shown);
            Assert.True(before == await Rows.CountAsync(part), shown);
        }
    }

    [Theory]
    [InlineData("/v1/tenants", Tenant)]
    [InlineData("/v1/tenants/acme-corp/tokens", """{"subject_pubkey":"@key","scope":"read","expires_in_seconds":60}""")]
    public async Task That_is_too_large_is_refused_before_it_is_read(string path, string body)
    {
        await using var part = await IssuancePart.StartAsync();
        await part.MakeTenantAsync();
        using var key = SigningKey.Generate();
        body = body.Replace("@key", key.Public.X, StringComparison.Ordinal);
        var before = await Rows.CountAsync(part);
        try
        {
            var answer = await part.CallAsync(part.Admin, HttpMethod.Post, path, body + new string(' ', 2 * 1024 * 1024), request => request.Headers.ExpectContinue = true);
            Assert.Equal((413, "body_too_large"), (answer.Status, answer.Code));
        }
        catch (HttpRequestException)
        {
            // The client was slow to wait, sent on, and found the connection closed.
        }
        Assert.Equal(before, await Rows.CountAsync(part));
        Assert.Equal(201, (await part.CallAsync(part.Admin, HttpMethod.Post, path, body + new string(' ', 1024 * 1024))).Status);
    }

    [Theory, MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task In_a_query_is_refused_precisely(string store)
    {
        await using var part = await IssuancePart.StartAsync(store);
        await part.MakeTenantAsync();
        var lists = new[] { ("/v1/tenants", "tenants"), ("/v1/tenants/acme-corp/tokens", "tokens acme-corp") };
        foreach (var (path, list) in lists)
            foreach (var cursor in (string[])["x", "%00", Base64UrlText.Encode("\0"u8), Base64UrlText.Encode(Encoding.UTF8.GetBytes($"{list}\na\0b")), Base64UrlText.Encode(Encoding.UTF8.GetBytes($"{list}\né")), Base64UrlText.Encode([.. Encoding.UTF8.GetBytes($"{list}\n"), 0xff])])
            {
                var answer = await part.CallAsync(part.Admin, HttpMethod.Get, $"{path}?cursor={cursor}");
                Assert.True((400, "invalid_query") == (answer.Status, answer.Code), $"{path} {cursor}: {answer.Status} {answer.Text}");
            }
    }

    private static string Token(string key = "\"@key\"", string scope = "read", string seconds = "60", string more = "") =>
        $$"""{"subject_pubkey":{{key}},"scope":"{{scope}}","expires_in_seconds":{{seconds}}{{more}}}""";
}
