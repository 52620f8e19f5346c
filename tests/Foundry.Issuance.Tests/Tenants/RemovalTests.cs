using Foundry.Testing;
using Foundry.Tokens;

namespace Foundry.Issuance.Tests.Tenants;

public sealed class ForcedDeletion
{
    [Theory, MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task Destroys_every_vm_and_then_lets_the_tokens_die_though_the_fleet_is_away_and_the_process_restarts(string store)
    {
        await using var part = await IssuancePart.StartAsync(store);
        await part.MakeTenantAsync();
        var token = await part.IssueAsync(part.Admin, "acme-corp", "read");
        part.Fleet.Fill("acme-corp", 450);
        part.Fleet.Fill("other-corp", 3);
        part.Fleet.Away = true;

        var begun = await part.CallAsync(part.Admin, HttpMethod.Delete, "/v1/tenants/acme-corp?force=true");

        Assert.Equal((202, "deleting", "\"2\""), (begun.Status, begun.Json.GetProperty("status").GetString(), begun.Headers.ETag!.Tag));
        var again = await part.CallAsync(part.Admin, HttpMethod.Delete, "/v1/tenants/acme-corp?force=true");
        Assert.Equal((202, begun.Text), (again.Status, again.Text));
        Assert.Equal(begun.Text, (await part.CallAsync(part.Admin, HttpMethod.Get, "/v1/tenants/acme-corp")).Text);
        Assert.Equal("deleting", Assert.Single((await part.SnapshotAsync()).Changes, change => change.Tenant is not null).Tenant!.Status);
        Assert.Null(await part.ReasonAsync(token.Token));
        var away = await part.CallAsync(part.Admin, HttpMethod.Delete, "/v1/tenants/acme-corp");
        Assert.Equal((503, "not_ready", true), (away.Status, away.Code, away.Headers.RetryAfter?.Delta >= TimeSpan.FromSeconds(1)));

        await part.StopAsync();
        part.Fleet.Away = false;
        // Destroyed, and issuance does not hear of it.
        part.Fleet.DestroyedUnanswered = 5;
        await part.OpenAsync();
        await part.UntilAsync(async () => (await part.CallAsync(part.Admin, HttpMethod.Get, "/v1/tenants/acme-corp")).Status == 404);

        Assert.Equal("revoked", await part.ReasonAsync(token.Token));
        Assert.Equal(3, part.Fleet.Vms.Count);
        Assert.Equal(86_400, part.Fleet.Seals.Last().Seconds);
        var log = await part.Ledger.LogAsync("acme-corp", 454, TestContext.Current.CancellationToken);
        Assert.Equal(["TENANT_CREATED", "TOKEN_ISSUED", "TENANT_UPDATED"], log.Take(3).Select(entry => entry.Type));
        var destroyed = log.Skip(3).SkipLast(1).ToList();
        Assert.Equal(Enumerable.Range(0, 450).Select(number => $"VM_DESTROYED:vm-acme-corp-{number:000}"), destroyed.Select(entry => entry.PayloadId).Order(StringComparer.Ordinal));
        Assert.Equal("TENANT_DELETED", log[^1].Type);
        // The actor is the one who wanted it.
        Assert.All(log.Skip(2), entry => Assert.Equal(part.Admin.TokenId, entry.Payload.GetProperty("actor").GetProperty("token_id").GetString()));
        Assert.Equal(0, await Rows.CountAsync(part, "vm_removals"));
    }

    [Fact]
    public async Task Leaves_the_record_of_a_vm_to_whoever_destroyed_it_first()
    {
        await using var part = await IssuancePart.StartAsync();
        await part.MakeTenantAsync();
        part.Fleet.Fill("acme-corp", 2);
        // A user's own request comes between the list and this one's; the gateway records that.
        part.Fleet.BeforeDestroying = id =>
        {
            if (id.EndsWith("000", StringComparison.Ordinal))
                part.Fleet.Vms.TryRemove(id, out _);
            return Task.CompletedTask;
        };
        await part.CallAsync(part.Admin, HttpMethod.Delete, "/v1/tenants/acme-corp?force=true");
        await part.UntilAsync(async () => (await part.CallAsync(part.Admin, HttpMethod.Get, "/v1/tenants/acme-corp")).Status == 404);
        var log = await part.Ledger.LogAsync("acme-corp", 4, TestContext.Current.CancellationToken);
        Assert.Equal(["TENANT_CREATED", "TENANT_UPDATED", "VM_DESTROYED", "TENANT_DELETED"], log.Select(entry => entry.Type));
        Assert.Equal("VM_DESTROYED:vm-acme-corp-001", log[2].PayloadId);
    }

    [Fact]
    public async Task Waits_until_the_end_of_every_vm_is_known()
    {
        await using var part = await IssuancePart.StartAsync();
        await part.MakeTenantAsync();
        part.Fleet.Fill("acme-corp", 1);
        part.Fleet.DestroyedUnanswered = 1;
        await part.CallAsync(part.Admin, HttpMethod.Delete, "/v1/tenants/acme-corp?force=true");
        await part.UntilAsync(() => Task.FromResult(part.Fleet.Vms.IsEmpty));
        await part.UntilAsync(async () => await Rows.CountAsync(part, "vm_removals") == 1 || part.Ledger.Entries.Any(entry => entry.Type == "VM_DESTROYED"));
        var plain = await part.CallAsync(part.Admin, HttpMethod.Delete, "/v1/tenants/acme-corp");
        // Either nothing is decided yet, or all of it.
        Assert.Contains(plain.Code, (string[])["tenant_not_empty", "not_found"]);
        await part.UntilAsync(async () => (await part.CallAsync(part.Admin, HttpMethod.Get, "/v1/tenants/acme-corp")).Status == 404);
        Assert.Equal(["VM_DESTROYED", "TENANT_DELETED"], (await part.Ledger.LogAsync("acme-corp", 4, TestContext.Current.CancellationToken)).Skip(2).Select(entry => entry.Type));
    }

    [Theory, MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task Gives_and_changes_nothing_more(string store)
    {
        await using var part = await IssuancePart.StartAsync(store);
        await part.MakeTenantAsync();
        var admin = await part.TenantAdminAsync();
        part.Fleet.Away = true;
        await part.CallAsync(part.Admin, HttpMethod.Delete, "/v1/tenants/acme-corp?force=true");
        var before = await Rows.CountAsync(part);
        using var subject = SigningKey.Generate();
        var body = new { subject_pubkey = subject.Public.X, scope = "read", expires_in_seconds = 60 };
        foreach (var (caller, method, path, sent) in new (CallerFacts, HttpMethod, string, object)[]
        {
            (part.Admin, HttpMethod.Post, "/v1/tenants/acme-corp/tokens", body),
            (admin, HttpMethod.Post, "/v1/tenants/acme-corp/tokens", body),
            (admin, HttpMethod.Post, "/v1/tokens", body),
            (part.Admin, HttpMethod.Patch, "/v1/tenants/acme-corp", new { status = "active" }),
            (part.Admin, HttpMethod.Patch, "/v1/tenants/acme-corp", new { max_vms = 1 }),
        })
        {
            var answer = await part.CallAsync(caller, method, path, sent);
            Assert.True((409, "tenant_deleting") == (answer.Status, answer.Code), $"{method} {path}: {answer.Status} {answer.Text}");
        }
        Assert.Equal(before, await Rows.CountAsync(part));
        // Reading and revoking go on.
        Assert.Equal(200, (await part.CallAsync(admin, HttpMethod.Get, "/v1/tenants/acme-corp/tokens")).Status);
        Assert.Equal(204, (await part.CallAsync(admin, HttpMethod.Delete, $"/v1/tokens/{admin.TokenId}")).Status);
        Assert.Equal("tenant_exists", (await part.CallAsync(part.Admin, HttpMethod.Post, "/v1/tenants", new { tenant_id = "acme-corp", display_name = "A", max_vms = 1, storage_quota_gb = 1, api_rate_limit_rpm = 1 })).Code);
    }

    [Theory, MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task Does_not_bring_a_suspended_tenants_tokens_back_to_life(string store)
    {
        await using var part = await IssuancePart.StartAsync(store);
        await part.MakeTenantAsync();
        var token = await part.IssueAsync(part.Admin, "acme-corp", "input");
        var node = await part.IssueAsync(part.Admin, "acme-corp", "service:fleet-node");
        await part.CallAsync(part.Admin, HttpMethod.Patch, "/v1/tenants/acme-corp", new { status = "suspended" });
        part.Fleet.Away = true;
        Assert.Equal(202, (await part.CallAsync(part.Admin, HttpMethod.Delete, "/v1/tenants/acme-corp?force=true")).Status);
        Assert.Equal("revoked", await part.ReasonAsync(token.Token));
        // What its nodes run stays counted until it is destroyed.
        Assert.Null(await part.ReasonAsync(node.Token));
    }

    [Fact]
    public async Task Is_a_platform_administrators_alone_and_says_so_once()
    {
        await using var part = await IssuancePart.StartAsync();
        await part.MakeTenantAsync();
        Assert.Equal("insufficient_scope", (await part.CallAsync(await part.TenantAdminAsync(), HttpMethod.Delete, "/v1/tenants/acme-corp?force=true")).Code);
        Assert.Equal("not_found", (await part.CallAsync(part.Admin, HttpMethod.Delete, "/v1/tenants/never-was?force=true")).Code);
        foreach (var query in (string[])["force=yes", "force=true&force=true", "force=", "force=TRUE"])
            Assert.Equal((400, "invalid_query"), ((await part.CallAsync(part.Admin, HttpMethod.Delete, $"/v1/tenants/acme-corp?{query}")) is var answer ? (answer.Status, answer.Code) : default));
        Assert.Equal("active", (await part.CallAsync(part.Admin, HttpMethod.Get, "/v1/tenants/acme-corp")).Json.GetProperty("status").GetString());
    }
}
