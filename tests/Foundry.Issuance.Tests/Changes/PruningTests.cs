using Foundry.Issuance.Tests.Tokens;

namespace Foundry.Issuance.Tests.Changes;

public sealed class OldRows
{
    [Theory, MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task Go_when_nobody_can_ask_for_them_any_more_and_not_before(string store)
    {
        await using var part = await IssuancePart.StartAsync(store, settings: new() { ["Issuance:TokensKept"] = "30.00:00:00" });
        await part.MakeTenantAsync();
        var admin = await part.TenantAdminAsync(seconds: 3600);
        // Long expired, yet it is how its issuer's revocation finds the one below it, which is good for 90 days.
        var chain = await part.IssueAsync(admin, null, "service:tenant-admin", 600);
        var below = await part.IssueAsync(IssuancePart.FactsOf(chain), null, "read", 7_776_000);
        var alone = await part.IssueAsync(part.Admin, "acme-corp", "read", 3600);
        var revoked = await part.IssueAsync(part.Admin, "acme-corp", "read", 3600);
        await part.CallAsync(part.Admin, HttpMethod.Delete, $"/v1/tokens/{revoked.TokenId}");
        // Several batches of it.
        await RevokedWithDescendants.FillAsync(part, IssuancePart.FactsOf(alone), 1_200);
        var body = IdempotentRequest.IssueBody();
        var first = await IdempotentRequest.KeyedAsync(part, part.Admin, "/v1/tenants/acme-corp/tokens", "a-key", body);
        await part.CallAsync(part.Admin, HttpMethod.Post, "/v1/keys/rotate");
        part.Time.Advance(TimeSpan.FromSeconds(5));
        await part.UntilAsync(async () => await Rows.ReadAsync<long>(part, "SELECT COUNT(*) FROM signing_keys WHERE status = 'retired'") == 1);
        var verifiesUntil = await Rows.ReadAsync<long>(part, "SELECT verifies_until FROM signing_keys WHERE status = 'retired'");
        Assert.Equal(below.ExpiresAt.ToUnixTimeSeconds(), verifiesUntil);

        await part.RestartAsync();
        Assert.Equal(1, await Rows.CountAsync(part, "idempotency_keys"));
        part.Time.Advance(TimeSpan.FromDays(1) + TimeSpan.FromMinutes(1));
        await part.RestartAsync();
        await part.UntilAsync(async () => await Rows.CountAsync(part, "idempotency_keys") == 0);
        Assert.True(await HasAsync(part, first.Json.GetProperty("token_id").GetString()!));

        part.Time.Advance(TimeSpan.FromDays(30));
        await part.RestartAsync();
        await part.UntilAsync(async () => !await HasAsync(part, alone.TokenId) && !await HasAsync(part, revoked.TokenId));
        foreach (var kept in new[] { admin.TokenId, chain.TokenId, below.TokenId })
            Assert.True(await HasAsync(part, kept), kept);
        // The key that signed them is in force for as long as it was, and what is good can be revoked from its top.
        Assert.Equal(verifiesUntil, await Rows.ReadAsync<long>(part, "SELECT verifies_until FROM signing_keys WHERE status = 'retired'"));
        Assert.Null(await part.ReasonAsync(below.Token));
        Assert.Equal(204, (await part.CallAsync(part.Admin, HttpMethod.Delete, $"/v1/tokens/{admin.TokenId}?descendants=true")).Status);
        Assert.Equal("revoked", await part.ReasonAsync(below.Token));

        part.Time.Advance(TimeSpan.FromDays(90));
        await part.RestartAsync();
        await part.UntilAsync(async () => !await HasAsync(part, admin.TokenId));
        Assert.Equal(404, (await part.CallAsync(part.Admin, HttpMethod.Get, $"/v1/tokens/{below.TokenId}")).Status);
        Assert.Empty((await part.CallAsync(part.Admin, HttpMethod.Get, "/v1/tenants/acme-corp/tokens?include=revoked,expired")).Json.GetProperty("items").EnumerateArray());
    }

    private static async Task<bool> HasAsync(IssuancePart part, string tokenId) => await Rows.ReadAsync<long>(part, "SELECT COUNT(*) FROM tokens WHERE token_id = @tokenId", new { tokenId }) == 1;
}
