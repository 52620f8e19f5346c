using Dapper;
using Foundry.Issuance.Changes;
using Foundry.Storage;
using Foundry.Testing;
using Foundry.Tokens;
using Microsoft.Extensions.DependencyInjection;

namespace Foundry.Issuance.Tests.Tokens;

public sealed class IdempotentRequest
{
    [Theory, MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task Gets_the_first_answer_again_byte_for_byte_also_after_a_restart(string store)
    {
        await using var part = await IssuancePart.StartAsync(store);
        await part.MakeTenantAsync();
        var admin = await part.TenantAdminAsync();
        var body = IssueBody();
        var tenantBody = """{"tenant_id":"other-corp","display_name":"Other","max_vms":1,"storage_quota_gb":1,"api_rate_limit_rpm":60}""";
        foreach (var (caller, path, json) in new[] { (admin, "/v1/tokens", body), (part.Admin, "/v1/tenants/acme-corp/tokens", body), (part.Admin, "/v1/tenants", tenantBody) })
        {
            var first = await KeyedAsync(part, caller, path, "a-key", json);
            Assert.Equal((201, false), (first.Status, first.Headers.Contains("Idempotency-Replayed")));
            var before = await Rows.CountAsync(part);
            part.Time.Advance(TimeSpan.FromMinutes(5));
            if (path == "/v1/tenants")
                await part.RestartAsync();

            var again = await KeyedAsync(part, caller, path, "a-key", json);

            Assert.Equal((201, first.Text, "true"), (again.Status, again.Text, Assert.Single(again.Headers.GetValues("Idempotency-Replayed"))));
            Assert.Equal((first.Headers.Location, first.Headers.ETag), (again.Headers.Location, again.Headers.ETag));
            Assert.Equal(before, await Rows.CountAsync(part));
        }
    }

    [Theory, MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task Is_told_apart_by_tenant_key_route_path_and_body(string store)
    {
        await using var part = await IssuancePart.StartAsync(store);
        await part.MakeTenantAsync();
        await part.MakeTenantAsync("other-corp");
        var (admin, twin, stranger) = (await part.TenantAdminAsync(), await part.TenantAdminAsync(), await part.TenantAdminAsync("other-corp"));
        var body = IssueBody();
        Assert.Equal(201, (await KeyedAsync(part, admin, "/v1/tokens", "a-key", body)).Status);
        // Others' keys do not meet it.
        foreach (var (caller, path) in new[] { (twin, "/v1/tokens"), (stranger, "/v1/tokens"), (admin, "/v1/tenants/acme-corp/tokens"), (part.Admin, "/v1/tenants/acme-corp/tokens") })
        {
            var answer = await KeyedAsync(part, caller, path, "a-key", body);
            Assert.Equal((201, false), (answer.Status, answer.Headers.Contains("Idempotency-Replayed")));
        }
        Assert.Equal(201, (await KeyedAsync(part, admin, "/v1/tokens", "A-key", body)).Status);
        // The same key for something else.
        var before = await Rows.CountAsync(part);
        foreach (var (caller, path, json) in new[] { (admin, "/v1/tokens", body.Replace("3600", "3601", StringComparison.Ordinal)), (admin, "/v1/tokens", body + " "), (part.Admin, "/v1/tenants/other-corp/tokens", body) })
        {
            var answer = await KeyedAsync(part, caller, path, "a-key", json);
            Assert.Equal((422, "idempotency_key_reused"), (answer.Status, answer.Code));
        }
        Assert.Equal(before, await Rows.CountAsync(part));
    }

    [Theory, MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task Is_a_new_one_after_a_day(string store)
    {
        await using var part = await IssuancePart.StartAsync(store);
        await part.MakeTenantAsync();
        var first = await KeyedAsync(part, part.Admin, "/v1/tenants/acme-corp/tokens", "a-key", IssueBody());
        part.Time.Advance(TimeSpan.FromHours(24) - TimeSpan.FromSeconds(1));
        Assert.Equal("idempotency_key_reused", (await KeyedAsync(part, part.Admin, "/v1/tenants/acme-corp/tokens", "a-key", IssueBody())).Code);
        part.Time.Advance(TimeSpan.FromSeconds(1));
        var second = await KeyedAsync(part, part.Admin, "/v1/tenants/acme-corp/tokens", "a-key", IssueBody());
        Assert.Equal((201, false), (second.Status, second.Headers.Contains("Idempotency-Replayed")));
        Assert.NotEqual(first.Text, second.Text);
    }

    [Fact]
    public async Task That_was_refused_is_not_kept()
    {
        await using var part = await IssuancePart.StartAsync();
        await part.MakeTenantAsync();
        await part.CallAsync(part.Admin, HttpMethod.Patch, "/v1/tenants/acme-corp", new { status = "suspended" });
        var body = IssueBody();
        Assert.Equal("invalid_value", (await KeyedAsync(part, part.Admin, "/v1/tenants/acme-corp/tokens", "a-key", body)).Code);
        await part.CallAsync(part.Admin, HttpMethod.Patch, "/v1/tenants/acme-corp", new { status = "active" });
        var answer = await KeyedAsync(part, part.Admin, "/v1/tenants/acme-corp/tokens", "a-key", body);
        Assert.Equal((201, false), (answer.Status, answer.Headers.Contains("Idempotency-Replayed")));
    }

    [Fact]
    public async Task Of_an_administrators_grant_is_answered_though_it_could_no_longer_be_granted()
    {
        await using var part = await IssuancePart.StartAsync();
        await part.MakeTenantAsync();
        var admin = await part.TenantAdminAsync(seconds: 3600);
        var body = IssueBody("service:tenant-admin");
        var first = await KeyedAsync(part, admin, "/v1/tokens", "a-key", body);
        part.Time.Advance(TimeSpan.FromMinutes(1));
        Assert.Equal("expiry_exceeds_issuer", (await KeyedAsync(part, admin, "/v1/tokens", "another-key", body)).Code);
        Assert.Equal(first.Text, (await KeyedAsync(part, admin, "/v1/tokens", "a-key", body)).Text);
    }

    [Theory, MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task Whose_signing_key_is_gone_is_told_so_and_makes_nothing(string store)
    {
        await using var part = await IssuancePart.StartAsync(store);
        await part.MakeTenantAsync();
        var body = IssueBody();
        var first = await KeyedAsync(part, part.Admin, "/v1/tenants/acme-corp/tokens", "a-key", body);
        await part.CallAsync(part.Admin, HttpMethod.Post, "/v1/keys/rotate");
        Assert.Equal(first.Text, (await KeyedAsync(part, part.Admin, "/v1/tenants/acme-corp/tokens", "a-key", body)).Text);
        part.Time.Advance(TimeSpan.FromSeconds(5));
        var before = await Rows.CountAsync(part, "tokens");

        var answer = await KeyedAsync(part, part.Admin, "/v1/tenants/acme-corp/tokens", "a-key", body);

        Assert.Equal((409, "answer_gone"), (answer.Status, answer.Code));
        Assert.Contains(first.Json.GetProperty("token_id").GetString()!, answer.Detail, StringComparison.Ordinal);
        Assert.Equal(before, await Rows.CountAsync(part, "tokens"));
    }

    [Fact]
    public async Task Of_a_caller_who_was_revoked_meanwhile_gets_nothing()
    {
        await using var part = await IssuancePart.StartAsync();
        await part.MakeTenantAsync();
        var admin = await part.TenantAdminAsync();
        var body = IssueBody();
        Assert.Equal(201, (await KeyedAsync(part, admin, "/v1/tokens", "a-key", body)).Status);
        await part.CallAsync(part.Admin, HttpMethod.Delete, $"/v1/tokens/{admin.TokenId}");
        Assert.Equal("invalid_token", (await KeyedAsync(part, admin, "/v1/tokens", "a-key", body)).Code);
        // Nor another of the same key whose scope is less.
        Assert.Equal("insufficient_scope", (await KeyedAsync(part, admin with { Scope = "input", TokenId = "other" }, "/v1/tokens", "a-key", body)).Code);
    }

    [Fact]
    public async Task Keeps_no_signature()
    {
        await using var part = await IssuancePart.StartAsync();
        await part.MakeTenantAsync();
        var answer = await KeyedAsync(part, part.Admin, "/v1/tenants/acme-corp/tokens", "a-key", IssueBody());
        await using var connection = await part.App.Services.GetRequiredService<Outbox>().Database.OpenConnectionAsync(TestContext.Current.CancellationToken);
        var kept = Assert.Single(await connection.QueryAsync<string>("SELECT answer FROM idempotency_keys"));
        Assert.DoesNotContain(answer.Json.GetProperty("token").GetString()!.Split('.')[2], kept, StringComparison.Ordinal);
        Assert.Contains(answer.Json.GetProperty("token_id").GetString()!, kept, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("")]
    [InlineData("a b")]
    [InlineData("a\tb")]
    [InlineData(129)]
    [InlineData(2)]
    public async Task Is_refused_where_the_key_is_none(object key)
    {
        await using var part = await IssuancePart.StartAsync();
        await part.MakeTenantAsync();
        foreach (var (path, body) in new[] { ("/v1/tenants/acme-corp/tokens", IssueBody()), ("/v1/tenants", """{"tenant_id":"other-corp","display_name":"O","max_vms":1,"storage_quota_gb":1,"api_rate_limit_rpm":1}""") })
        {
            var answer = await part.CallAsync(part.Admin, HttpMethod.Post, path, body, request =>
            {
                if (key is 2)
                    request.Headers.TryAddWithoutValidation("Idempotency-Key", ["a", "b"]);
                else
                    request.Headers.TryAddWithoutValidation("Idempotency-Key", key is 129 ? new string('k', 129) : (string)key);
            });
            Assert.Equal((400, "invalid_header"), (answer.Status, answer.Code));
        }
        Assert.Equal(201, (await KeyedAsync(part, part.Admin, "/v1/tenants/acme-corp/tokens", new string('~', 128), IssueBody())).Status);
    }

    [Theory, MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task Is_one_of_ten_thousand_that_a_tenant_has_at_a_time(string store)
    {
        await using var part = await IssuancePart.StartAsync(store);
        await part.MakeTenantAsync();
        await part.MakeTenantAsync("other-corp");
        var (admin, other) = (await part.TenantAdminAsync(seconds: 604_800), await part.TenantAdminAsync("other-corp"));
        var journal = part.App.Services.GetRequiredService<Journal>();
        await FillAsync(journal, "acme-corp", IdempotencyKey.LiveMax - 1);

        var last = IssueBody();
        Assert.Equal(201, (await KeyedAsync(part, admin, "/v1/tokens", "last", last)).Status);
        var over = await KeyedAsync(part, admin, "/v1/tokens", "over", IssueBody());
        Assert.Equal((429, "rate_limited"), (over.Status, over.Code));
        // A day is too long to tell anybody to wait.
        Assert.InRange(over.Headers.RetryAfter!.Delta!.Value, TimeSpan.FromHours(1), TimeSpan.FromHours(1.5));
        // Repeats, requests without a key and other tenants' go on.
        Assert.True((await KeyedAsync(part, admin, "/v1/tokens", "last", last)).Headers.Contains("Idempotency-Replayed"));
        Assert.Equal(201, (await part.CallAsync(admin, HttpMethod.Post, "/v1/tokens", IssueBody())).Status);
        Assert.Equal(201, (await KeyedAsync(part, other, "/v1/tokens", "over", IssueBody())).Status);

        part.Time.Advance(TimeSpan.FromHours(24) - TimeSpan.FromSeconds(100));
        over = await KeyedAsync(part, admin, "/v1/tokens", "over", IssueBody());
        Assert.Equal(429, over.Status);
        Assert.InRange(over.Headers.RetryAfter!.Delta!.Value, TimeSpan.FromSeconds(100), TimeSpan.FromSeconds(150));
        part.Time.Advance(TimeSpan.FromSeconds(100));
        Assert.Equal(201, (await KeyedAsync(part, admin, "/v1/tokens", "over", IssueBody())).Status);
    }

    private static Task<int> FillAsync(Journal journal, string tenant, int count) => journal.WriteAsync(async entry =>
    {
        for (var number = 0; number < count; number++)
            await entry.ExecuteAsync("INSERT INTO idempotency_keys (tenant_id, subject_pubkey, route, idempotency_key, request_hash, answer, created_at) VALUES (@tenant, 'x', 'r', @key, 'h', 'a', @NowSeconds)",
                new { tenant, key = $"k{number}", entry.NowSeconds });
        return 0;
    }, TestContext.Current.CancellationToken);

    internal static Task<Answer> KeyedAsync(IssuancePart part, CallerFacts caller, string path, string key, string body) =>
        part.CallAsync(caller, HttpMethod.Post, path, body, request => request.Headers.TryAddWithoutValidation("Idempotency-Key", key));

    internal static string IssueBody(string scope = "read", long seconds = 3600)
    {
        using var subject = SigningKey.Generate();
        return $$"""{"subject_pubkey":"{{subject.Public.X}}","scope":"{{scope}}","expires_in_seconds":{{seconds}}}""";
    }
}
