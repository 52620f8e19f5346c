using Foundry.Contracts;
using Foundry.Issuance.Changes;
using Foundry.Storage;
using Foundry.Tokens;
using Microsoft.Extensions.DependencyInjection;

namespace Foundry.Issuance.Tests.Changes;

public sealed class Records
{
    [Theory, MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task Are_in_the_logs_they_belong_in_in_the_order_of_the_facts(string store)
    {
        await using var part = await IssuancePart.StartAsync(store);
        await MakeHistoryAsync(part);
        Assert.Equal(["TENANT_CREATED", "TOKEN_ISSUED", "QUOTA_CHANGED", "TENANT_UPDATED", "TENANT_SUSPENDED", "TENANT_UPDATED", "TOKEN_REVOKED", "TENANT_DELETED"],
            (await part.Ledger.LogAsync("acme-corp", 8, TestContext.Current.CancellationToken)).Select(entry => entry.Type));
        // The platform's own tokens, the tenants, the keys; of tenants' tokens nothing.
        Assert.Equal(["TOKEN_ISSUED", "KEY_ROTATED", "TENANT_CREATED", "QUOTA_CHANGED", "TENANT_UPDATED", "TENANT_SUSPENDED", "TENANT_UPDATED", "TENANT_DELETED", "TOKEN_ISSUED", "TOKEN_REVOKED", "KEY_ROTATED"],
            (await part.Ledger.LogAsync("foundry.platform", 11, TestContext.Current.CancellationToken)).Select(entry => entry.Type));
    }

    [Fact]
    public async Task Say_who_did_what_when_and_never_hold_a_token()
    {
        await using var part = await IssuancePart.StartAsync();
        var admin = part.Admin;
        var tokens = await MakeHistoryAsync(part);
        var log = await part.Ledger.LogAsync("acme-corp", 8, TestContext.Current.CancellationToken);
        foreach (var entry in log)
        {
            var actor = entry.Payload.GetProperty("actor");
            Assert.Equal((admin.SubjectPubkey, admin.TokenId, "service:platform-admin"),
                (actor.GetProperty("subject_pubkey").GetString(), actor.GetProperty("token_id").GetString(), actor.GetProperty("scope").GetString()));
            Assert.Equal("acme-corp", entry.Payload.GetProperty("tenant_id").GetString());
            Assert.Equal(IssuancePart.Start, entry.Payload.GetProperty("time").GetDateTimeOffset());
            Assert.Equal("request-7", entry.Payload.GetProperty("request_id").GetString());
            Assert.Equal($"{entry.Type}:{entry.Payload.GetProperty("event_id").GetString()}", entry.PayloadId);
        }
        var issued = log.Single(entry => entry.Type == "TOKEN_ISSUED").Payload;
        Assert.Equal((tokens[0].TokenId, "read", tokens[0].SubjectPubkey, tokens[0].ExpiresAt),
            (issued.GetProperty("token_id").GetString(), issued.GetProperty("scope").GetString(), issued.GetProperty("subject_pubkey").GetString(), issued.GetProperty("expires_at").GetDateTimeOffset()));
        var quota = log.Single(entry => entry.Type == "QUOTA_CHANGED").Payload;
        Assert.Equal((10, 20), (quota.GetProperty("old").GetProperty("max_vms").GetInt32(), quota.GetProperty("new").GetProperty("max_vms").GetInt32()));
        await part.Ledger.LogAsync("foundry.platform", 11, TestContext.Current.CancellationToken);
        var first = part.Ledger.Entries.First(entry => entry.Log == "foundry.platform").Payload;
        Assert.Equal("service:issuance", first.GetProperty("actor").GetProperty("scope").GetString());
        foreach (var body in part.Ledger.Bodies)
            foreach (var token in tokens.Select(token => token.Token).Append(part.ReadAdminTokenText()))
                Assert.DoesNotContain(token.Split('.')[2], body, StringComparison.Ordinal);
    }

    [Theory, MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task Reach_a_ledger_that_was_away_and_one_that_hung_up_once_and_in_order(string store)
    {
        await using var part = await IssuancePart.StartAsync(store, TimeProvider.System);
        await part.Ledger.LogAsync("foundry.platform", 2, TestContext.Current.CancellationToken);
        part.Ledger.Away = true;
        await part.MakeTenantAsync();
        for (var vms = 1; vms <= 5; vms++)
            await part.CallAsync(part.Admin, HttpMethod.Patch, "/v1/tenants/acme-corp", new { max_vms = vms });
        var attempts = part.Ledger.Attempts;
        await part.Ledger.WaitAsync(ledger => ledger.Attempts > attempts, TestContext.Current.CancellationToken);
        // The process ends with all of it unsent, and the next one's first words are kept but not heard to be.
        await part.StopAsync();
        part.Ledger.KeptUnanswered = 3;
        part.Ledger.Away = false;
        await part.OpenAsync();
        var log = await part.Ledger.LogAsync("acme-corp", 6, TestContext.Current.CancellationToken);
        Assert.Equal([10, 1, 2, 3, 4, 5], log.Select(entry => entry.Payload.GetProperty(entry.Type == "TENANT_CREATED" ? "quotas" : "new").GetProperty("max_vms").GetInt32()));
        Assert.Equal(8, (await part.Ledger.LogAsync("foundry.platform", 8, TestContext.Current.CancellationToken)).Count);
        Assert.True(part.Ledger.Bodies.Count > part.Ledger.Entries.Count, "Nothing was ever repeated.");
    }

    [Fact]
    public async Task That_can_no_longer_be_promised_turn_changes_away()
    {
        await using var part = await IssuancePart.StartAsync();
        await part.Ledger.LogAsync("foundry.platform", 2, TestContext.Current.CancellationToken);
        part.Ledger.Away = true;
        await part.MakeTenantAsync();
        var issued = await part.IssueAsync(part.Admin, "acme-corp", "read");
        // From its first failure on the sender waits for the clock, which stands still: what waits is counted here alone.
        var outbox = part.App.Services.GetRequiredService<Outbox>();
        while (outbox.HasRoom)
            outbox.Wake();
        using var subject = SigningKey.Generate();
        foreach (var (method, path, body) in new (HttpMethod, string, string?)[]
        {
            (HttpMethod.Post, "/v1/tenants", """{"tenant_id":"other-corp","display_name":"O","max_vms":1,"storage_quota_gb":1,"api_rate_limit_rpm":1}"""),
            (HttpMethod.Patch, "/v1/tenants/acme-corp", """{"max_vms":1}"""),
            (HttpMethod.Post, "/v1/tokens", $$"""{"subject_pubkey":"{{subject.Public.X}}","scope":"read","expires_in_seconds":60,"tenant_id":"acme-corp"}"""),
            (HttpMethod.Post, "/v1/keys/rotate", null),
        })
        {
            var answer = await part.CallAsync(part.Admin, method, path, body);
            Assert.True((503, "record_unavailable", true) == (answer.Status, answer.Code, answer.Headers.RetryAfter?.Delta >= TimeSpan.FromSeconds(1)), $"{method} {path}: {answer.Status} {answer.Text}");
        }
        Assert.Equal(200, (await part.CallAsync(part.Admin, HttpMethod.Get, "/v1/tenants/acme-corp")).Status);
        Assert.Single(Directory.GetFiles(Path.Combine(part.Folder, "tokens.keys")));
        // What takes something away goes on, in room of its own.
        var ends = (string[])["/v1/tenants/acme-corp", $"/v1/tokens/{issued.TokenId}"];
        foreach (var path in ends.Reverse())
            Assert.Equal(204, (await part.CallAsync(part.Admin, HttpMethod.Delete, path)).Status);
        while (outbox.HasRoomToEnd)
            outbox.Wake();
        Assert.Equal("record_unavailable", (await part.CallAsync(part.Admin, HttpMethod.Delete, $"/v1/tokens/{part.Admin.TokenId}")).Code);
    }

    /// <summary>However much one change has to tell, the others still find room to be told.</summary>
    [Theory, MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task Of_one_large_revocation_leave_room_for_everybody_elses(string store)
    {
        await using var part = await IssuancePart.StartAsync(store);
        await part.MakeTenantAsync();
        var (admin, other) = (await part.TenantAdminAsync(), await part.TenantAdminAsync());
        await Tokens.RevokedWithDescendants.FillAsync(part, admin, Journal.EventsFew);
        await part.Ledger.LogAsync("acme-corp", 3, TestContext.Current.CancellationToken);
        part.Ledger.Away = true;
        await part.IssueAsync(part.Admin, "acme-corp", "read");
        // As many wait as the two largest revocations make, but for a few: the clock stands still, so nobody counts again.
        var outbox = part.App.Services.GetRequiredService<Outbox>();
        while (outbox.Waiting < (2 * Foundry.Issuance.Tokens.TokenBook.RevokedMax) - Journal.EventsFew)
            outbox.Wake();

        var refused = await part.CallAsync(part.Admin, HttpMethod.Delete, $"/v1/tokens/{admin.TokenId}?descendants=true");

        Assert.Equal((503, "record_unavailable", true), (refused.Status, refused.Code, refused.Headers.RetryAfter?.Delta >= TimeSpan.FromSeconds(30)));
        Assert.Equal(0, await Rows.ReadAsync<long>(part, "SELECT COUNT(*) FROM tokens WHERE revoked_at IS NOT NULL"));
        Assert.Equal(204, (await part.CallAsync(part.Admin, HttpMethod.Delete, $"/v1/tokens/{other.TokenId}?descendants=true")).Status);
        Assert.Equal(200, (await part.CallAsync(part.Admin, HttpMethod.Patch, "/v1/tenants/acme-corp", """{"max_vms":1}""")).Status);
    }

    private static async Task<List<IssuedToken>> MakeHistoryAsync(IssuancePart part)
    {
        var admin = part.Admin;
        async Task<Answer> Call(HttpMethod method, string path, object? body = null)
        {
            var answer = await part.CallAsync(admin, method, path, body, request => request.Headers.Add("X-Foundry-Request-ID", "request-7"));
            Assert.True(answer.Status < 300, answer.Text);
            return answer;
        }
        async Task<IssuedToken> Issue(string path, string scope)
        {
            using var subject = SigningKey.Generate();
            return System.Text.Json.JsonSerializer.Deserialize((await Call(HttpMethod.Post, path, new { subject_pubkey = subject.Public.X, scope, expires_in_seconds = 60 })).Text, WireJson.Default.IssuedToken)!;
        }
        await Call(HttpMethod.Post, "/v1/tenants", new { tenant_id = "acme-corp", display_name = "Acme", max_vms = 10, storage_quota_gb = 100, api_rate_limit_rpm = 600 });
        var token = await Issue("/v1/tenants/acme-corp/tokens", "read");
        await Call(HttpMethod.Patch, "/v1/tenants/acme-corp", new { max_vms = 20, display_name = "Acme Corp" });
        await Call(HttpMethod.Patch, "/v1/tenants/acme-corp", new { status = "suspended" });
        await Call(HttpMethod.Patch, "/v1/tenants/acme-corp", new { status = "active" });
        await Call(HttpMethod.Patch, "/v1/tenants/acme-corp", new { status = "active" });
        await Call(HttpMethod.Delete, $"/v1/tokens/{token.TokenId}");
        await Call(HttpMethod.Delete, $"/v1/tokens/{token.TokenId}");
        await Call(HttpMethod.Delete, "/v1/tenants/acme-corp");
        var platform = await Issue("/v1/tokens", "service:fleet-node");
        await Call(HttpMethod.Delete, $"/v1/tokens/{platform.TokenId}");
        await Call(HttpMethod.Post, "/v1/keys/rotate");
        return [token, platform];
    }
}
