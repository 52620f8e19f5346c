using System.Text.Json;
using System.Text.Json.Nodes;
using Foundry.Contracts;
using Foundry.Testing;

namespace Foundry.Issuance.Tests.Tenants;

public sealed class NewTenant
{
    [Theory, MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task Is_answered_as_it_is_stored_with_its_etag(string store)
    {
        await using var part = await IssuancePart.StartAsync(store);
        var made = await part.MakeTenantAsync();
        var read = await part.CallAsync(part.Admin, HttpMethod.Get, "/v1/tenants/acme-corp");

        Assert.Equal(200, read.Status);
        Assert.Equal(made.Text, read.Text);
        Assert.Equal("\"1\"", read.Headers.ETag!.Tag);
        Assert.Equal("/v1/tenants/acme-corp", made.Headers.Location!.ToString());
        var tenant = JsonSerializer.Deserialize(read.Text, WireJson.Default.Tenant)!;
        Assert.Equal(new Tenant("acme-corp", "Acme", 10, 100, 600, null, false, "active", IssuancePart.Start), tenant);
    }

    [Theory, MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task Never_gets_an_id_that_was_given_before(string store)
    {
        await using var part = await IssuancePart.StartAsync(store);
        await part.MakeTenantAsync();
        var body = new { tenant_id = "acme-corp", display_name = "Again", max_vms = 1, storage_quota_gb = 1, api_rate_limit_rpm = 1 };
        Assert.Equal("tenant_exists", (await part.CallAsync(part.Admin, HttpMethod.Post, "/v1/tenants", body)).Code);

        Assert.Equal(204, (await part.CallAsync(part.Admin, HttpMethod.Delete, "/v1/tenants/acme-corp")).Status);
        var again = await part.CallAsync(part.Admin, HttpMethod.Post, "/v1/tenants", body);
        Assert.Equal((409, "tenant_exists"), (again.Status, again.Code));
    }

    public static TheoryData<string, string, int, string> Bodies => new()
    {
        { "tenant_id", "null", 422, "tenant_id" },
        { "tenant_id", "\"ab\"", 422, "tenant_id" },
        { "tenant_id", "\"Acme\"", 422, "tenant_id" },
        { "tenant_id", "\"acme-\"", 422, "tenant_id" },
        { "tenant_id", "\"1acme\"", 422, "tenant_id" },
        { "tenant_id", "\"foundry.platform\"", 422, "tenant_id" },
        { "tenant_id", $"\"{new string('a', 64)}\"", 422, "tenant_id" },
        { "tenant_id", $"\"{new string('a', 63)}\"", 201, "" },
        { "tenant_id", "\"acmé\"", 422, "tenant_id" },
        { "display_name", "null", 422, "display_name" },
        { "display_name", "\"\"", 422, "display_name" },
        { "display_name", "\"  \"", 422, "display_name" },
        { "display_name", "\"a\\nb\"", 422, "display_name" },
        { "display_name", $"\"{new string('a', 201)}\"", 422, "display_name" },
        { "display_name", "\"Ação & Söhne\"", 201, "" },
        { "max_vms", "null", 422, "max_vms" },
        { "max_vms", "-1", 422, "max_vms" },
        { "max_vms", "100001", 422, "max_vms" },
        { "max_vms", "0", 201, "" },
        { "max_vms", "100000", 201, "" },
        { "max_vms", "1.5", 400, "max_vms" },
        { "max_vms", "\"10\"", 400, "max_vms" },
        { "storage_quota_gb", "null", 422, "storage_quota_gb" },
        { "storage_quota_gb", "-1", 422, "storage_quota_gb" },
        { "storage_quota_gb", "1000000001", 422, "storage_quota_gb" },
        { "api_rate_limit_rpm", "null", 422, "api_rate_limit_rpm" },
        { "api_rate_limit_rpm", "0", 422, "api_rate_limit_rpm" },
        { "api_rate_limit_rpm", "10000001", 422, "api_rate_limit_rpm" },
        { "api_rate_limit_rpm", "10000000", 201, "" },
        { "max_ram_mb", "-1", 422, "max_ram_mb" },
        { "max_ram_mb", "4096", 201, "" },
        { "require_proof", "true", 201, "" },
        { "require_proof", "false", 201, "" },
        { "unknown", "1", 400, "" },
    };

    [Fact]
    public async Task Is_refused_by_the_name_of_the_member_that_will_not_do()
    {
        await using var part = await IssuancePart.StartAsync();
        var number = 0;
        foreach (var (member, value, status, named) in Bodies.Select(row => row.Data))
        {
            var body = new JsonObject { ["tenant_id"] = $"tenant-{number++}", ["display_name"] = "Acme", ["max_vms"] = 1, ["storage_quota_gb"] = 1, ["api_rate_limit_rpm"] = 60 };
            body[member] = JsonNode.Parse(value);
            var answer = await part.CallAsync(part.Admin, HttpMethod.Post, "/v1/tenants", body.ToJsonString());
            Assert.True(status == answer.Status, $"{member}={value}: {answer.Status} {answer.Text}");
            Assert.True(status == 201 || answer.Detail!.Contains(named, StringComparison.Ordinal), $"{member}={value}: {answer.Detail}");
            Assert.Equal(status switch { 422 => "invalid_value", 400 => "invalid_body", _ => null }, answer.Code);
        }
    }
}

public sealed class TenantList
{
    [Theory, MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task Is_walked_page_by_page_without_gap_or_repeat(string store)
    {
        await using var part = await IssuancePart.StartAsync(store);
        var made = Enumerable.Range(0, 7).Select(number => $"tenant-{number}").ToList();
        foreach (var tenant in made)
            await part.MakeTenantAsync(tenant);
        var (seen, cursor) = (new List<string>(), "");
        do
        {
            var page = await part.CallAsync(part.Admin, HttpMethod.Get, $"/v1/tenants?limit=3{cursor}");
            Assert.Equal(200, page.Status);
            seen.AddRange(page.Json.GetProperty("items").EnumerateArray().Select(item => item.GetProperty("tenant_id").GetString()!));
            cursor = page.Json.TryGetProperty("next_cursor", out var next) ? $"&cursor={next.GetString()}" : "";
        }
        while (cursor.Length > 0);
        Assert.Equal(made, seen);
    }

    [Theory]
    [InlineData("limit=0")]
    [InlineData("limit=1001")]
    [InlineData("limit=x")]
    [InlineData("limit=1&limit=2")]
    [InlineData("cursor=x")]
    [InlineData("cursor=dG9rZW5zIGFjbWUtY29ycAp4")] // Of another list.
    public async Task Refuses_what_is_no_page(string query)
    {
        await using var part = await IssuancePart.StartAsync();
        var answer = await part.CallAsync(part.Admin, HttpMethod.Get, $"/v1/tenants?{query}");
        Assert.Equal((400, "invalid_query"), (answer.Status, answer.Code));
    }
}

public sealed class TenantChange
{
    [Theory, MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task Changes_what_is_named_and_nothing_else(string store)
    {
        await using var part = await IssuancePart.StartAsync(store);
        await part.MakeTenantAsync();
        var changed = await part.CallAsync(part.Admin, HttpMethod.Patch, "/v1/tenants/acme-corp", new { max_vms = 20, max_ram_mb = 4096 });
        Assert.Equal(200, changed.Status);
        Assert.Equal("\"2\"", changed.Headers.ETag!.Tag);
        var tenant = JsonSerializer.Deserialize(changed.Text, WireJson.Default.Tenant)!;
        Assert.Equal(new Tenant("acme-corp", "Acme", 20, 100, 600, 4096, false, "active", IssuancePart.Start), tenant);

        var lifted = await part.CallAsync(part.Admin, HttpMethod.Patch, "/v1/tenants/acme-corp", """{"max_ram_mb":null}""");
        Assert.Equal(tenant with { MaxRamMb = null }, JsonSerializer.Deserialize(lifted.Text, WireJson.Default.Tenant));

        var same = await part.CallAsync(part.Admin, HttpMethod.Patch, "/v1/tenants/acme-corp", new { max_vms = 20 });
        Assert.Equal((200, "\"3\""), (same.Status, same.Headers.ETag!.Tag));
    }

    [Theory]
    [InlineData("\"1\"", 200)]
    [InlineData("*", 200)]
    [InlineData("\"7\", \"1\"", 200)]
    [InlineData("\"2\"", 412)]
    [InlineData("W/\"1\"", 412)]
    [InlineData("W/\"1\", \"1\"", 200)]
    [InlineData("\"2\", \"3\"", 412)]
    [InlineData("\"01\"", 412)]
    [InlineData("\"\"", 412)]
    [InlineData(null, 200)]
    [InlineData("1", 400)]
    [InlineData("\"1", 400)]
    [InlineData(",", 400)]
    public async Task Is_made_only_to_the_version_that_is_meant(string? ifMatch, int status)
    {
        await using var part = await IssuancePart.StartAsync();
        await part.MakeTenantAsync();
        var answer = await part.CallAsync(part.Admin, HttpMethod.Patch, "/v1/tenants/acme-corp", new { max_vms = 11 },
            request =>
            {
                if (ifMatch is not null)
                    request.Headers.TryAddWithoutValidation("If-Match", ifMatch);
            });
        Assert.Equal(status, answer.Status);
        var now = await part.CallAsync(part.Admin, HttpMethod.Get, "/v1/tenants/acme-corp");
        Assert.Equal(status == 200 ? 11 : 10, now.Json.GetProperty("max_vms").GetInt32());
    }

    [Theory]
    [InlineData("""{"status":"deleting"}""", 422)]
    [InlineData("""{"status":"Active"}""", 422)]
    [InlineData("""{"max_vms":-1}""", 422)]
    [InlineData("""{"display_name":""}""", 422)]
    [InlineData("""{"tenant_id":"other"}""", 400)]
    [InlineData("""{"max_vms":1,"max_vms":2}""", 400)]
    [InlineData("""{"Max_vms":1}""", 400)]
    [InlineData("""{"max_vms":1} x""", 400)]
    public async Task Is_refused_where_a_value_will_not_do(string body, int status)
    {
        await using var part = await IssuancePart.StartAsync();
        var made = await part.MakeTenantAsync();
        Assert.Equal(status, (await part.CallAsync(part.Admin, HttpMethod.Patch, "/v1/tenants/acme-corp", body)).Status);
        Assert.Equal(made.Text, (await part.CallAsync(part.Admin, HttpMethod.Get, "/v1/tenants/acme-corp")).Text);
    }
}

public sealed class TenantDeletion
{
    [Theory, MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task Waits_for_the_last_vm_and_takes_the_tokens_along(string store)
    {
        await using var part = await IssuancePart.StartAsync(store);
        await part.MakeTenantAsync();
        var token = await part.IssueAsync(part.Admin, "acme-corp", "read");
        part.Fleet.Fill("acme-corp", 2);
        var held = await part.CallAsync(part.Admin, HttpMethod.Delete, "/v1/tenants/acme-corp");
        Assert.Equal((409, "tenant_not_empty"), (held.Status, held.Code));
        Assert.Null(await part.ReasonAsync(token.Token));

        Assert.Equal([("acme-corp", 30), ("acme-corp", 0)], part.Fleet.Seals);
        part.Fleet.Vms.Clear();
        Assert.Equal(204, (await part.CallAsync(part.Admin, HttpMethod.Delete, "/v1/tenants/acme-corp")).Status);
        Assert.Equal("revoked", await part.ReasonAsync(token.Token));
        Assert.Equal(404, (await part.CallAsync(part.Admin, HttpMethod.Get, "/v1/tenants/acme-corp")).Status);
        Assert.Equal(404, (await part.CallAsync(part.Admin, HttpMethod.Delete, "/v1/tenants/acme-corp")).Status);
        Assert.Equal(404, (await part.CallAsync(part.Admin, HttpMethod.Get, "/v1/tenants/acme-corp/tokens")).Status);
        Assert.DoesNotContain((await part.SnapshotAsync()).Changes, change => change.Tenant is not null);
        // For the gateways that have not heard of it yet.
        Assert.Equal([("acme-corp", 30), ("acme-corp", 86_400)], part.Fleet.Seals.Skip(2));
    }

    [Fact]
    public async Task Is_not_made_behind_the_end_of_its_seal()
    {
        await using var part = await IssuancePart.StartAsync();
        await part.MakeTenantAsync();
        part.Fleet.BeforeSealing = () => part.Time.Advance(TimeSpan.FromSeconds(25));
        Assert.Equal("not_ready", (await part.CallAsync(part.Admin, HttpMethod.Delete, "/v1/tenants/acme-corp")).Code);
        part.Fleet.BeforeSealing = () => { };
        Assert.Equal(204, (await part.CallAsync(part.Admin, HttpMethod.Delete, "/v1/tenants/acme-corp")).Status);
    }

    [Fact]
    public async Task Goes_by_the_list_of_a_fleet_that_knows_no_seals()
    {
        await using var part = await IssuancePart.StartAsync();
        await part.MakeTenantAsync();
        part.Fleet.IsForeign = true;
        part.Fleet.Fill("other-corp", 1);
        part.Fleet.Fill("acme-corp", 1);
        Assert.Equal("tenant_not_empty", (await part.CallAsync(part.Admin, HttpMethod.Delete, "/v1/tenants/acme-corp")).Code);
        part.Fleet.Vms.Clear();
        part.Fleet.Fill("other-corp", 1);
        Assert.Equal(204, (await part.CallAsync(part.Admin, HttpMethod.Delete, "/v1/tenants/acme-corp")).Status);
    }

    [Fact]
    public async Task Changes_nothing_while_the_fleet_cannot_be_asked()
    {
        await using var part = await IssuancePart.StartAsync();
        await part.MakeTenantAsync();
        part.Fleet.Away = true;
        Assert.Equal(503, (await part.CallAsync(part.Admin, HttpMethod.Delete, "/v1/tenants/acme-corp")).Status);
        Assert.Equal(200, (await part.CallAsync(part.Admin, HttpMethod.Get, "/v1/tenants/acme-corp")).Status);
    }
}

public sealed class TenantsOfOthers
{
    public static TheoryData<string, string, int, string?> Calls => new()
    {
        // Who, what, status, code.
        { "none", "GET /v1/tenants/acme-corp", 403, "insufficient_scope" },
        { "read", "GET /v1/tenants/acme-corp", 403, "insufficient_scope" },
        { "input", "GET /v1/tenants/acme-corp", 403, "insufficient_scope" },
        { "service:fleet-node", "GET /v1/tenants/acme-corp", 403, "insufficient_scope" },
        { "service:tenant-admin", "GET /v1/tenants/acme-corp", 200, null },
        { "service:tenant-admin", "GET /v1/tenants/other-corp", 404, "not_found" },
        { "service:tenant-admin", "GET /v1/tenants/never-was", 404, "not_found" },
        { "service:tenant-admin", "GET /v1/tenants", 403, "insufficient_scope" },
        { "service:tenant-admin", "POST /v1/tenants", 403, "insufficient_scope" },
        { "service:tenant-admin", "PATCH /v1/tenants/acme-corp", 403, "insufficient_scope" },
        { "service:tenant-admin", "DELETE /v1/tenants/acme-corp", 403, "insufficient_scope" },
        { "service:platform-admin", "GET /v1/tenants/other-corp", 200, null },
        { "service:platform-admin", "GET /v1/tenants", 200, null },
        { "service:platform-admin", "GET /v1/tenants/never-was", 404, "not_found" },
        { "service:platform-admin", "PATCH /v1/tenants/never-was", 404, "not_found" },
    };

    [Fact]
    public async Task Are_reached_by_nobody_who_may_not()
    {
        await using var part = await IssuancePart.StartAsync();
        await part.MakeTenantAsync();
        await part.MakeTenantAsync("other-corp");
        foreach (var (who, call, status, code) in Calls.Select(row => row.Data))
        {
            var caller = who switch
            {
                "none" => null,
                "service:platform-admin" => part.Admin,
                _ => CallerFacts.Of("acme-corp", who, IssuancePart.Start.AddDays(1)),
            };
            var (method, path) = (new HttpMethod(call.Split(' ')[0]), call.Split(' ')[1]);
            var answer = await part.CallAsync(caller, method, path, method == HttpMethod.Get ? null : "{}");
            Assert.True((status, code) == (answer.Status, answer.Code), $"{who} {call}: {answer.Status} {answer.Text}");
        }
    }

    [Fact]
    public async Task Are_the_same_404_whether_they_exist_or_not()
    {
        await using var part = await IssuancePart.StartAsync();
        await part.MakeTenantAsync();
        await part.MakeTenantAsync("other-corp");
        var admin = await part.TenantAdminAsync();
        var foreign = await part.CallAsync(admin, HttpMethod.Get, "/v1/tenants/other-corp");
        var absent = await part.CallAsync(admin, HttpMethod.Get, "/v1/tenants/never-was");
        var id = "\"request_id\":\"";
        string Without(string text) => text[..text.IndexOf(id, StringComparison.Ordinal)];
        Assert.Equal(Without(foreign.Text), Without(absent.Text));
        Assert.Equal(foreign.Text.Length, absent.Text.Length);
    }
}
