using System.Text.Json;
using Foundry.Contracts;
using Foundry.Tokens;

namespace Foundry.Issuance.Tests.Tokens;

public sealed class ReplacedCapability
{
    [Theory, MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task Is_good_for_the_overlap_and_then_revoked_also_over_a_restart(string store)
    {
        await using var part = await IssuancePart.StartAsync(store);
        await part.MakeTenantAsync();
        await part.MakeTenantAsync("other-corp");
        using var subject = SigningKey.Generate();
        async Task<IssuedToken> Issue(string tenant, string scope, long seconds = 86_400, long? overlap = null, SigningKey? key = null)
        {
            part.Time.Advance(TimeSpan.FromSeconds(1));
            var answer = await part.CallAsync(part.Admin, HttpMethod.Post, $"/v1/tenants/{tenant}/tokens",
                JsonSerializer.Serialize(new TokenRequest((key ?? subject).Public.X, scope, seconds, MaxOverlapSeconds: overlap), WireJson.Default.TokenRequest));
            Assert.True(answer.Status == 201, answer.Text);
            return JsonSerializer.Deserialize(answer.Text, WireJson.Default.IssuedToken)!;
        }
        using var another = SigningKey.Generate();
        var foreign = await Issue("other-corp", "read");
        var others = await Issue("acme-corp", "read", key: another);
        var node = await Issue("acme-corp", "service:fleet-node");
        var ended = await Issue("acme-corp", "read");
        await part.CallAsync(part.Admin, HttpMethod.Delete, $"/v1/tokens/{ended.TokenId}");
        var read = await Issue("acme-corp", "read");
        var shortLived = await Issue("acme-corp", "user", seconds: 600);
        Assert.Null(read.Replaces);

        var first = await Issue("acme-corp", "user", overlap: 7200);
        var at = first.IssuedAt.AddSeconds(7200);
        Assert.Equal([new(read.TokenId, "read", at), new(shortLived.TokenId, "user", shortLived.ExpiresAt)], first.Replaces);
        var second = await Issue("acme-corp", "input", overlap: 14_400);
        var later = second.IssuedAt.AddSeconds(14_400);
        // The earlier end stands.
        Assert.Equal([new(read.TokenId, "read", at), new(shortLived.TokenId, "user", shortLived.ExpiresAt), new(first.TokenId, "user", later)], second.Replaces);
        Assert.Equal(at, JsonSerializer.Deserialize((await part.CallAsync(part.Admin, HttpMethod.Get, $"/v1/tokens/{read.TokenId}")).Text, WireJson.Default.TokenMetadata)!.RevokesAt);
        Assert.Null(await part.ReasonAsync(read.Token));

        using (var feed = await part.FollowAsync(await part.SnapshotAsync()))
        {
            part.Time.Advance(at - part.Time.GetUtcNow());
            await part.UntilAsync(async () => await part.ReasonAsync(read.Token) == "revoked");
            Assert.Equal(new RevokedToken(read.TokenId, read.ExpiresAt.ToUnixTimeSeconds()), Assert.Single((await feed.NewsAsync()).Changes).Revoked);
        }
        Assert.Null(await part.ReasonAsync(first.Token));
        await part.StopAsync();
        part.Time.Advance(later - part.Time.GetUtcNow());
        await part.OpenAsync();
        await part.UntilAsync(async () => await part.ReasonAsync(first.Token) == "revoked");

        foreach (var kept in new[] { foreign, others, node, second })
            Assert.Null(await part.ReasonAsync(kept.Token));
        var revoked = (await part.Ledger.LogAsync("acme-corp", 10, TestContext.Current.CancellationToken)).Where(entry => entry.Type == "TOKEN_REVOKED").ToList();
        Assert.Equal([(ended.TokenId, null, "service:platform-admin"), (read.TokenId, first.TokenId, "service:issuance"), (first.TokenId, second.TokenId, "service:issuance")], revoked.Select(entry =>
            (entry.Payload.GetProperty("token_id").GetString(), entry.Payload.TryGetProperty("replaced_by", out var by) ? by.GetString() : null, entry.Payload.GetProperty("actor").GetProperty("scope").GetString())));
        Assert.Equal(0, await Rows.ReadAsync<long>(part, "SELECT COUNT(*) FROM tokens WHERE revoke_at IS NOT NULL"));
    }

    [Theory, MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task Without_an_overlap_is_revoked_in_the_same_transaction(string store)
    {
        await using var part = await IssuancePart.StartAsync(store);
        await part.MakeTenantAsync();
        var old = await part.IssueAsync(part.Admin, "acme-corp", "user");
        using var feed = await part.FollowAsync(await part.SnapshotAsync());
        var answer = await part.CallAsync(part.Admin, HttpMethod.Post, "/v1/tenants/acme-corp/tokens", new { subject_pubkey = old.SubjectPubkey, scope = "input", expires_in_seconds = 60, max_overlap_seconds = 0 });
        Assert.Equal(old.TokenId, Assert.Single(JsonSerializer.Deserialize(answer.Text, WireJson.Default.IssuedToken)!.Replaces!).TokenId);
        Assert.Equal("revoked", await part.ReasonAsync(old.Token));
        Assert.Equal(old.TokenId, Assert.Single((await feed.NewsAsync()).Changes).Revoked!.Jti);
    }

    [Fact]
    public async Task Of_more_than_an_answer_holds_are_refused_together()
    {
        await using var part = await IssuancePart.StartAsync();
        await part.MakeTenantAsync();
        var old = await part.IssueAsync(part.Admin, "acme-corp", "read");
        await RevokedWithDescendants.FillAsync(part, IssuancePart.FactsOf(old), 500);
        var body = new { subject_pubkey = old.SubjectPubkey, scope = "input", expires_in_seconds = 60, max_overlap_seconds = 60 };
        Assert.Equal("invalid_value", (await part.CallAsync(part.Admin, HttpMethod.Post, "/v1/tenants/acme-corp/tokens", body)).Code);
        await part.CallAsync(part.Admin, HttpMethod.Delete, $"/v1/tokens/{old.TokenId}");
        Assert.Equal(500, (await part.CallAsync(part.Admin, HttpMethod.Post, "/v1/tenants/acme-corp/tokens", body)).Json.GetProperty("replaces").GetArrayLength());
    }
}
