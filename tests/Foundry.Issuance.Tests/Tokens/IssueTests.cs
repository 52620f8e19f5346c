using System.Text.Json;
using System.Text.Json.Nodes;
using CsCheck;
using Foundry.Contracts;
using Foundry.Issuance.Tokens;
using Foundry.ServiceDefaults.Trust;
using Foundry.Testing;
using Foundry.Tokens;

namespace Foundry.Issuance.Tests.Tokens;

public sealed class IssuedCapability
{
    [Theory, MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task Says_what_was_asked_for_and_verifies_with_the_published_keys(string store)
    {
        await using var part = await IssuancePart.StartAsync(store);
        await part.MakeTenantAsync();
        using var subject = SigningKey.Generate();
        var answer = await part.CallAsync(part.Admin, HttpMethod.Post, "/v1/tenants/acme-corp/tokens",
            new { subject_pubkey = subject.Public.X, scope = "INPUT", expires_in_seconds = 3600, user_id = "jwoodfine" });
        Assert.Equal(201, answer.Status);
        Assert.True(answer.Headers.CacheControl!.NoStore);
        var issued = JsonSerializer.Deserialize(answer.Text, WireJson.Default.IssuedToken)!;
        Assert.Equal($"/v1/tokens/{issued.TokenId}", answer.Headers.Location!.ToString());

        var jwks = await part.JwksAsync();
        Assert.True(CapabilityToken.TryVerify(issued.Token, jwks, out var token, out _));
        var now = IssuancePart.Start.ToUnixTimeSeconds();
        Assert.Equal(new CapabilityToken
        {
            Iss = "http://127.0.0.1:9221",
            Aud = "foundry",
            Jti = issued.TokenId,
            Iat = now,
            Nbf = now,
            Exp = now + 3600,
            TenantId = "acme-corp",
            Sub = "jwoodfine",
            Scope = "input",
            SubjectPubkey = subject.Public.X,
            Kid = Assert.Single(jwks.Keys).Kid,
        }, token);
        Assert.Equal(('7', (IssuancePart.Start, IssuancePart.Start.AddHours(1), "input", subject.Public.X)),
            (issued.TokenId[14], (issued.IssuedAt, issued.ExpiresAt, issued.Scope, issued.SubjectPubkey)));
        Assert.Null(await part.ReasonAsync(issued.Token));
    }

    [Fact]
    public async Task Takes_the_subject_key_in_each_of_its_spellings()
    {
        await using var part = await IssuancePart.StartAsync();
        await part.MakeTenantAsync();
        using var subject = SigningKey.Generate();
        Assert.True(Base64UrlText.TryDecode(subject.Public.X, out var bytes));
        foreach (var spelling in (string[])[subject.Public.X, Convert.ToBase64String(bytes), Convert.ToHexString(bytes), Convert.ToHexStringLower(bytes)])
        {
            var answer = await part.CallAsync(part.Admin, HttpMethod.Post, "/v1/tenants/acme-corp/tokens", new { subject_pubkey = spelling, scope = "read", expires_in_seconds = 60 });
            Assert.Equal((201, subject.Public.X), (answer.Status, answer.Json.GetProperty("subject_pubkey").GetString()));
        }
    }

    [Theory, MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task Is_not_issued_for_a_suspended_tenant(string store)
    {
        await using var part = await IssuancePart.StartAsync(store);
        await part.MakeTenantAsync();
        var admin = await part.TenantAdminAsync();
        await part.CallAsync(part.Admin, HttpMethod.Patch, "/v1/tenants/acme-corp", new { status = "suspended" });
        using var subject = SigningKey.Generate();
        var body = new { subject_pubkey = subject.Public.X, scope = "read", expires_in_seconds = 60 };
        Assert.Equal((422, "invalid_value"), await StatusOf(part, part.Admin, body));
        Assert.Equal((401, "invalid_token"), await StatusOf(part, admin, body));
        await part.CallAsync(part.Admin, HttpMethod.Patch, "/v1/tenants/acme-corp", new { status = "active" });
        Assert.Equal((201, null), await StatusOf(part, admin, body));
    }

    [Theory, MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task Is_not_issued_by_a_token_that_was_revoked_a_moment_ago(string store)
    {
        await using var part = await IssuancePart.StartAsync(store);
        await part.MakeTenantAsync();
        var admin = await part.TenantAdminAsync();
        Assert.Equal(204, (await part.CallAsync(part.Admin, HttpMethod.Delete, $"/v1/tokens/{admin.TokenId}")).Status);
        using var subject = SigningKey.Generate();
        // The gateway has not heard of it and still asserts the caller.
        var answer = await part.CallAsync(admin, HttpMethod.Post, "/v1/tokens", new { subject_pubkey = subject.Public.X, scope = "read", expires_in_seconds = 60 });
        Assert.Equal((401, "revoked"), (answer.Status, answer.Json.GetProperty("reason").GetString()));
    }

    private static async Task<(int, string?)> StatusOf(IssuancePart part, CallerFacts caller, object body)
    {
        var answer = await part.CallAsync(caller, HttpMethod.Post, "/v1/tenants/acme-corp/tokens", body);
        return (answer.Status, answer.Code);
    }
}

public sealed class TokenRequestValues
{
    public static TheoryData<string, string, int, string> Bodies => new()
    {
        { "subject_pubkey", "null", 422, "subject_pubkey" },
        { "subject_pubkey", "\"\"", 422, "subject_pubkey" },
        { "subject_pubkey", "\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"", 422, "subject_pubkey" }, // Of small order.
        { "subject_pubkey", "\"AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"", 422, "subject_pubkey" }, // The neutral element.
        { "subject_pubkey", $"\"{new string('0', 62)}\"", 422, "subject_pubkey" },
        { "scope", "null", 422, "scope" },
        { "scope", "\"write\"", 422, "scope" },
        { "scope", "\"read input\"", 422, "scope" },
        { "scope", "\"read,input\"", 422, "scope" },
        { "scope", "\"service:\"", 422, "scope" },
        { "scope", "\"service:Fleet_Node\"", 422, "scope" },
        { "scope", "\"Read\"", 201, "" },
        { "scope", "\"service:platform-admin\"", 422, "scope" }, // Has no tenant.
        { "scope", "\"service:reporting\"", 201, "" },
        { "expires_in_seconds", "null", 422, "expires_in_seconds" },
        { "expires_in_seconds", "59", 422, "expires_in_seconds" },
        { "expires_in_seconds", "60", 201, "" },
        { "expires_in_seconds", "7776000", 201, "" },
        { "expires_in_seconds", "7776001", 422, "expires_in_seconds" },
        { "expires_in_seconds", "9223372036854775807", 422, "expires_in_seconds" },
        { "expires_in_seconds", "-60", 422, "expires_in_seconds" },
        { "expires_in_seconds", "60.5", 400, "expires_in_seconds" },
        { "expires_in_seconds", "\"60\"", 400, "expires_in_seconds" },
        { "user_id", "\"\"", 422, "user_id" },
        { "user_id", "\"a b\"", 422, "user_id" },
        { "user_id", "\"-a\"", 422, "user_id" },
        { "user_id", "\"jwoodfine\"", 201, "" },
        { "user_id", $"\"{new string('a', 40)}\"", 201, "" },
        { "user_id", $"\"{new string('a', 41)}\"", 422, "user_id" },
        { "user_id", $"\"{new string('a', 43)}\"", 422, "user_id" }, // As long as a subject key.
        { "proof", "true", 201, "" },
        { "proof", "false", 201, "" },
        { "alg", "\"RS256\"", 422, "alg" },
        { "alg", "\"none\"", 422, "alg" },
        { "alg", "\"EdDSA\"", 201, "" },
        { "service", "\"billing\"", 422, "service" },
        { "workspace_id", "\"w\"", 422, "workspace_id" },
        { "tenant_id", "\"acme-corp\"", 201, "" },
        { "kid", "\"x\"", 400, "" },
    };

    [Fact]
    public async Task Are_refused_by_the_name_of_the_member_that_will_not_do()
    {
        await using var part = await IssuancePart.StartAsync();
        await part.MakeTenantAsync();
        using var subject = SigningKey.Generate();
        foreach (var (member, value, status, named) in Bodies.Select(row => row.Data))
        {
            var body = new JsonObject { ["subject_pubkey"] = subject.Public.X, ["scope"] = "read", ["expires_in_seconds"] = 60 };
            body[member] = JsonNode.Parse(value);
            var answer = await part.CallAsync(part.Admin, HttpMethod.Post, "/v1/tenants/acme-corp/tokens", body.ToJsonString());
            Assert.True(status == answer.Status, $"{member}={value}: {answer.Status} {answer.Text}");
            Assert.True(status == 201 || answer.Detail!.Contains(named, StringComparison.Ordinal), $"{member}={value}: {answer.Detail}");
        }
    }
}

public sealed class Delegated
{
    /// <summary>Who, path tenant, body tenant, scope; answer. "acme" is the tenant administrator's own tenant.</summary>
    public static TheoryData<string, string?, string?, string, int, string?> Rules => new()
    {
        // A tenant's administrator, in its own tenant.
        { "tenant-admin", null, null, "read", 201, null },
        { "tenant-admin", null, null, "user", 201, null },
        { "tenant-admin", null, null, "input", 201, null },
        { "tenant-admin", null, null, "service:fleet-node", 201, null },
        { "tenant-admin", null, null, "service:tenant-admin", 201, null },
        { "tenant-admin", null, null, "service:platform-admin", 403, "scope_not_grantable" },
        { "tenant-admin", null, null, "service:reporting", 403, "scope_not_grantable" },
        { "tenant-admin", "acme-corp", null, "read", 201, null },
        { "tenant-admin", "acme-corp", "acme-corp", "read", 201, null },
        { "tenant-admin", null, "acme-corp", "read", 201, null },
        // … and out of it.
        { "tenant-admin", "other-corp", null, "read", 404, "not_found" },
        { "tenant-admin", "never-was", null, "read", 404, "not_found" },
        { "tenant-admin", null, "other-corp", "read", 403, "tenant_mismatch" },
        { "tenant-admin", null, "never-was", "read", 403, "tenant_mismatch" },
        { "tenant-admin", "acme-corp", "other-corp", "read", 403, "tenant_mismatch" },
        // The platform's, for a tenant.
        { "platform-admin", "acme-corp", null, "read", 201, null },
        { "platform-admin", null, "acme-corp", "service:tenant-admin", 201, null },
        { "platform-admin", null, "acme-corp", "service:fleet-node", 201, null },
        { "platform-admin", null, "acme-corp", "service:reporting", 201, null },
        { "platform-admin", null, "acme-corp", "service:platform-admin", 422, "invalid_value" },
        { "platform-admin", "acme-corp", "other-corp", "read", 403, "tenant_mismatch" },
        { "platform-admin", "never-was", null, "read", 404, "not_found" },
        { "platform-admin", null, "never-was", "read", 422, "invalid_value" },
        // … and for none.
        { "platform-admin", null, null, "service:platform-admin", 201, null },
        { "platform-admin", null, null, "service:fleet-node", 201, null },
        { "platform-admin", null, null, "read", 422, "tenant_required" },
        { "platform-admin", null, null, "input", 422, "tenant_required" },
        { "platform-admin", null, null, "service:tenant-admin", 422, "tenant_required" },
        { "platform-admin", null, null, "service:reporting", 422, "tenant_required" },
        // Others.
        { "read", null, null, "read", 403, "insufficient_scope" },
        { "input", null, null, "read", 403, "insufficient_scope" },
        { "input", "acme-corp", null, "read", 403, "insufficient_scope" },
        { "service:fleet-node", null, null, "read", 403, "insufficient_scope" },
        { "nobody", null, null, "read", 403, "insufficient_scope" },
        { "gateway", null, null, "read", 403, "insufficient_scope" },
    };

    [Theory, MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task Is_what_the_issuer_may_grant_and_nothing_else(string store)
    {
        await using var part = await IssuancePart.StartAsync(store);
        await part.MakeTenantAsync();
        await part.MakeTenantAsync("other-corp");
        var tenantAdmin = await part.TenantAdminAsync();
        using var subject = SigningKey.Generate();
        foreach (var (who, path, bodyTenant, scope, status, code) in Rules.Select(row => row.Data))
        {
            var body = JsonSerializer.Serialize(new TokenRequest(subject.Public.X, scope, 60, bodyTenant), WireJson.Default.TokenRequest);
            var target = path is null ? "/v1/tokens" : $"/v1/tenants/{path}/tokens";
            Answer answer;
            if (who == "gateway")
            {
                using var sent = await part.Gateway.SendAsItselfAsync(HttpMethod.Post, target, body, TestContext.Current.CancellationToken);
                answer = new Answer((int)sent.StatusCode, await sent.Content.ReadAsStringAsync(TestContext.Current.CancellationToken), sent.Headers);
            }
            else
            {
                answer = await part.CallAsync(who switch
                {
                    "platform-admin" => part.Admin,
                    "tenant-admin" => tenantAdmin,
                    "nobody" => null,
                    _ => CallerFacts.Of("acme-corp", who, IssuancePart.Start.AddDays(1)),
                }, HttpMethod.Post, target, body);
            }
            Assert.True((status, code) == (answer.Status, answer.Code), $"{who} {path} {bodyTenant} {scope}: {answer.Status} {answer.Text}");
            if (status == 201 && who == "tenant-admin")
                Assert.Equal("acme-corp", answer.Json.GetProperty("tenant_id").GetString());
        }
    }

    [Theory]
    [InlineData("service:tenant-admin", 3600, 201)]
    [InlineData("service:tenant-admin", 3601, 422)]
    [InlineData("input", 7_776_000, 201)]
    [InlineData("service:fleet-node", 7_776_000, 201)]
    public async Task Administrator_ends_no_later_than_the_one_who_granted_it(string scope, long seconds, int status)
    {
        await using var part = await IssuancePart.StartAsync();
        await part.MakeTenantAsync();
        var admin = await part.TenantAdminAsync(seconds: 3600);
        using var subject = SigningKey.Generate();
        var answer = await part.CallAsync(admin, HttpMethod.Post, "/v1/tokens", new { subject_pubkey = subject.Public.X, scope, expires_in_seconds = seconds });
        Assert.Equal((status, status == 422 ? "expiry_exceeds_issuer" : null), (answer.Status, answer.Code));
    }

    [Fact]
    public async Task Goes_to_the_default_tenant_where_one_is_configured()
    {
        await using var part = await IssuancePart.StartAsync(settings: new() { ["Issuance:DefaultTenant"] = "acme-corp" });
        await part.MakeTenantAsync();
        Assert.Equal("acme-corp", (await part.IssueAsync(part.Admin, null, "read")).TenantId);
        Assert.Null((await part.IssueAsync(part.Admin, null, "service:fleet-node")).TenantId);
    }

    [Fact]
    public void Is_never_wider_than_its_issuer()
    {
        var key = SigningKey.Generate().Public.X;
        var scopes = OneOf("read", "USER", "input", "service:fleet-node", "service:tenant-admin", "service:platform-admin", "service:x", "Service:Tenant-Admin", "none", "");
        var tenants = OneOf<string?>(null, "acme-corp", "other-corp", "ACME-CORP", "");
        Gen.Select(scopes, tenants, Gen.Bool, Gen.Long[-10, 8_000_000], Gen.Long[0, 8_000_000]).Sample((scope, bodyTenant, inPath, seconds, left) =>
        {
            var caller = new Asserted("gateway", "gateway-one", false, "acme-corp", Scope.TenantAdmin, key, key, "t", IssuancePart.Start.ToUnixTimeSeconds() + left);
            var decided = Delegation.Decide(caller, inPath ? "acme-corp" : null, new TokenRequest(key, scope, seconds, bodyTenant), "other-corp", IssuancePart.Start);
            if (decided.Value is not { } grant)
                return decided.Refusal is not null;
            return grant.TenantId == "acme-corp" && !grant.InAdminFile && grant.Seconds is >= 60 and <= 7_776_000
                && grant.Scope != Scope.PlatformAdmin && (!grant.Scope.IsService || grant.Scope == Scope.FleetNode || grant.Scope == Scope.TenantAdmin)
                && (grant.Scope != Scope.TenantAdmin || grant.Seconds <= left);
        });
    }

    private static Gen<T> OneOf<T>(params T[] values) => Gen.Int[0, values.Length - 1].Select(index => values[index]);
}
