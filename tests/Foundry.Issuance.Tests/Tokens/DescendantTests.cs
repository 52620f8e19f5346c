using Foundry.Contracts;
using Foundry.Issuance.Changes;
using Foundry.Testing;
using Microsoft.Extensions.DependencyInjection;

namespace Foundry.Issuance.Tests.Tokens;

public sealed class RevokedWithDescendants
{
    [Theory, MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task Takes_along_what_was_issued_under_it_however_far_down_and_nothing_beside_it(string store)
    {
        await using var part = await IssuancePart.StartAsync(store);
        await part.MakeTenantAsync();
        async Task<(IssuedToken Token, CallerFacts Facts)> Under(CallerFacts issuer, string scope, long seconds)
        {
            part.Time.Advance(TimeSpan.FromSeconds(1));
            var token = await part.IssueAsync(issuer, "acme-corp", scope, seconds);
            return (token, IssuancePart.FactsOf(token));
        }
        var root = await Under(part.Admin, "service:tenant-admin", 80_000);
        var below = await Under(root.Facts, "service:tenant-admin", 70_000);
        var leaf = await Under(below.Facts, "read", 60_000);
        var expired = await Under(root.Facts, "service:tenant-admin", 60);
        var ofExpired = await Under(expired.Facts, "input", 60_000);
        var ofRevoked = await Under(below.Facts, "user", 60_000);
        var sibling = await Under(part.Admin, "service:tenant-admin", 80_000);
        var ofSibling = await Under(sibling.Facts, "read", 60_000);
        part.Time.Advance(TimeSpan.FromMinutes(2));
        // A gap in the middle: what it issued is still found.
        Assert.Equal(204, (await part.CallAsync(part.Admin, HttpMethod.Delete, $"/v1/tokens/{below.Token.TokenId}")).Status);
        using var feed = await part.FollowAsync(await part.SnapshotAsync());

        Assert.Equal(204, (await part.CallAsync(part.Admin, HttpMethod.Delete, $"/v1/tokens/{root.Token.TokenId}?descendants=true")).Status);

        Assert.Equal([root.Token.TokenId, leaf.Token.TokenId, ofExpired.Token.TokenId, ofRevoked.Token.TokenId], (await feed.NewsAsync()).Changes.Select(change => change.Revoked!.Jti));
        foreach (var (token, reason) in new[] { (root, "revoked"), (below, "revoked"), (leaf, "revoked"), (expired, "expired"), (ofExpired, "revoked"), (ofRevoked, "revoked"), (sibling, null), (ofSibling, null) })
            Assert.Equal(reason, await part.ReasonAsync(token.Token.Token));
        var head = (await part.SnapshotAsync()).To;
        Assert.Equal(204, (await part.CallAsync(part.Admin, HttpMethod.Delete, $"/v1/tokens/{root.Token.TokenId}?descendants=true")).Status);
        Assert.Equal(head, (await part.SnapshotAsync()).To);
        // By key, from every token of it.
        Assert.Equal(204, (await part.CallAsync(part.Admin, HttpMethod.Delete, $"/v1/tokens/{sibling.Token.SubjectPubkey}?descendants=true")).Status);
        Assert.Equal("revoked", await part.ReasonAsync(ofSibling.Token.Token));
    }

    [Theory, MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task Stops_where_the_reach_of_a_tenants_administrator_ends(string store)
    {
        await using var part = await IssuancePart.StartAsync(store);
        await part.MakeTenantAsync();
        await part.MakeTenantAsync("other-corp");
        var admin = await part.TenantAdminAsync();
        var foreign = await part.IssueAsync(part.Admin, "other-corp", "read");
        // No request makes this; the walk does not rely on that.
        await part.App.Services.GetRequiredService<Journal>().WriteAsync(entry => entry.ExecuteAsync("UPDATE tokens SET issued_by = @issuer WHERE token_id = @TokenId", new { issuer = admin.TokenId, foreign.TokenId }), TestContext.Current.CancellationToken);

        Assert.Equal("not_found", (await part.CallAsync(admin, HttpMethod.Delete, $"/v1/tokens/{part.Admin.TokenId}?descendants=true")).Code);
        Assert.Equal(204, (await part.CallAsync(admin, HttpMethod.Delete, $"/v1/tokens/{admin.TokenId}?descendants=true")).Status);
        Assert.Null(await part.ReasonAsync(foreign.Token));
        Assert.Equal(204, (await part.CallAsync(part.Admin, HttpMethod.Delete, $"/v1/tokens/{admin.TokenId}?descendants=true")).Status);
        Assert.Equal("revoked", await part.ReasonAsync(foreign.Token));
    }

    [Theory, MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task Tells_the_feed_and_the_ledger_of_each_of_many_once_and_in_order(string store)
    {
        const int count = 1_500;
        await using var part = await IssuancePart.StartAsync(store);
        await part.MakeTenantAsync();
        var admin = await part.TenantAdminAsync();
        var ids = await FillAsync(part, admin, count);
        using var feed = await part.FollowAsync(await part.SnapshotAsync());

        Assert.Equal(204, (await part.CallAsync(part.Admin, HttpMethod.Delete, $"/v1/tokens/{admin.TokenId}?descendants=true")).Status);

        var told = new List<string>();
        while (told.Count < count + 1)
            told.AddRange((await feed.NewsAsync()).Changes.Select(change => change.Revoked!.Jti));
        string[] all = [admin.TokenId, .. ids];
        Assert.Equal(all, told);
        await part.UntilAsync(() => Task.FromResult(part.Ledger.Entries.Count(entry => entry.Type == "TOKEN_REVOKED") >= all.Length));
        Assert.Equal(all, part.Ledger.Entries.Where(entry => entry.Type == "TOKEN_REVOKED").Select(entry => entry.Payload.GetProperty("token_id").GetString()!));
        Assert.Equal(count + 1, await Rows.ReadAsync<long>(part, "SELECT COUNT(*) FROM tokens WHERE revoked_at IS NOT NULL"));
    }

    /// <summary>Gives an administrator's token so many descendants, each the next one's issuer.</summary>
    internal static Task<IReadOnlyList<string>> FillAsync(IssuancePart part, CallerFacts issuer, int count) => part.App.Services.GetRequiredService<Journal>().WriteAsync<IReadOnlyList<string>>(async entry =>
    {
        var ids = new List<string>();
        var kid = await entry.SingleAsync<string>("SELECT kid FROM signing_keys WHERE status = 'active'");
        for (var number = 1; number <= count; number++)
        {
            var id = Guid.CreateVersion7(entry.Now.AddMilliseconds(number)).ToString();
            await entry.ExecuteAsync("""
                INSERT INTO tokens (token_id, tenant_id, scope, subject_pubkey, issued_at, expires_at, issued_by, kid, in_admin_file)
                VALUES (@id, 'acme-corp', 'read', @SubjectPubkey, @NowSeconds, @exp, @issuedBy, @kid, 0)
                """, new { id, issuer.SubjectPubkey, entry.NowSeconds, exp = entry.NowSeconds + 86_400, issuedBy = ids.Count % 10 == 0 ? issuer.TokenId : ids[^1], kid });
            ids.Add(id);
        }
        return ids;
    }, TestContext.Current.CancellationToken);
}
