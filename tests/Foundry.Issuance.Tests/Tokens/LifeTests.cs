using System.Text.Json;
using Foundry.Contracts;
using Foundry.Testing;
using Foundry.Tokens;

namespace Foundry.Issuance.Tests.Tokens;

public sealed class RevokedCapability
{
    [Theory, MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task Is_refused_and_told_to_gateways_once(string store)
    {
        await using var part = await IssuancePart.StartAsync(store);
        await part.MakeTenantAsync();
        var token = await part.IssueAsync(part.Admin, "acme-corp", "read");
        using var feed = await part.FollowAsync(await part.SnapshotAsync());

        Assert.Equal(204, (await part.CallAsync(part.Admin, HttpMethod.Delete, $"/v1/tokens/{token.TokenId}")).Status);
        Assert.Equal(204, (await part.CallAsync(part.Admin, HttpMethod.Delete, $"/v1/tokens/{token.TokenId}")).Status);
        Assert.Equal("revoked", await part.ReasonAsync(token.Token));

        var told = await feed.NewsAsync();
        Assert.Equal(new Change("revoked", Revoked: new RevokedToken(token.TokenId, token.ExpiresAt.ToUnixTimeSeconds())), Assert.Single(told.Changes));
        Assert.Equal(told.To, (await part.SnapshotAsync()).To);
        var metadata = await part.CallAsync(part.Admin, HttpMethod.Get, $"/v1/tokens/{token.TokenId}");
        Assert.Equal("revoked", metadata.Json.GetProperty("status").GetString());
    }

    [Theory, MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task By_key_is_every_token_of_it_that_the_caller_may_reach(string store)
    {
        await using var part = await IssuancePart.StartAsync(store);
        await part.MakeTenantAsync();
        await part.MakeTenantAsync("other-corp");
        var admin = await part.TenantAdminAsync();
        using var subject = SigningKey.Generate();
        async Task<string> For(string tenant) => (await part.CallAsync(part.Admin, HttpMethod.Post, $"/v1/tenants/{tenant}/tokens", new { subject_pubkey = subject.Public.X, scope = "read", expires_in_seconds = 60 })).Json.GetProperty("token").GetString()!;
        var (first, second, foreign) = (await For("acme-corp"), await For("acme-corp"), await For("other-corp"));
        Assert.True(Base64UrlText.TryDecode(subject.Public.X, out var bytes));

        Assert.Equal(204, (await part.CallAsync(admin, HttpMethod.Delete, $"/v1/tokens/{Convert.ToHexStringLower(bytes)}")).Status);
        Assert.Equal(("revoked", "revoked", null), (await part.ReasonAsync(first), await part.ReasonAsync(second), await part.ReasonAsync(foreign)));
        Assert.Equal(204, (await part.CallAsync(part.Admin, HttpMethod.Delete, $"/v1/tokens/{subject.Public.X}")).Status);
        Assert.Equal("revoked", await part.ReasonAsync(foreign));
    }

    [Fact]
    public async Task Of_another_tenant_or_of_nobody_is_not_found()
    {
        await using var part = await IssuancePart.StartAsync();
        await part.MakeTenantAsync();
        await part.MakeTenantAsync("other-corp");
        var admin = await part.TenantAdminAsync();
        var foreign = await part.IssueAsync(part.Admin, "other-corp", "read");
        var platform = await part.IssueAsync(part.Admin, null, "service:fleet-node");
        using var nobody = SigningKey.Generate();
        foreach (var id in (string[])[foreign.TokenId, foreign.SubjectPubkey, platform.TokenId, part.Admin.TokenId, part.Admin.SubjectPubkey, Guid.CreateVersion7().ToString(), nobody.Public.X, "x"])
            Assert.Equal((404, "not_found"), await StatusOf(part, admin, HttpMethod.Delete, $"/v1/tokens/{id}"));
        Assert.Equal((404, "not_found"), await StatusOf(part, part.Admin, HttpMethod.Delete, "/v1/tokens/x"));
        Assert.Equal((404, "not_found"), await StatusOf(part, admin, HttpMethod.Get, $"/v1/tokens/{foreign.TokenId}"));
        Assert.Equal((404, "not_found"), await StatusOf(part, admin, HttpMethod.Get, "/v1/tokens/x"));
        Assert.Equal((403, "insufficient_scope"), await StatusOf(part, CallerFacts.Of("acme-corp", "input", IssuancePart.Start.AddDays(1)), HttpMethod.Get, $"/v1/tokens/{foreign.TokenId}"));
        Assert.Equal((404, "not_found"), await StatusOf(part, admin, HttpMethod.Delete, $"/v1/tokens/{foreign.TokenId}?descendants=true"));
        Assert.Equal((400, "invalid_query"), await StatusOf(part, part.Admin, HttpMethod.Delete, $"/v1/tokens/{foreign.TokenId}?descendants=yes"));
        Assert.Null(await part.ReasonAsync(foreign.Token));
        Assert.Null(await part.ReasonAsync(platform.Token));
    }

    private static async Task<(int, string?)> StatusOf(IssuancePart part, CallerFacts caller, HttpMethod method, string path)
    {
        var answer = await part.CallAsync(caller, method, path);
        return (answer.Status, answer.Code);
    }
}

public sealed class TokenList
{
    [Theory, MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task Shows_the_active_ones_and_others_when_asked(string store)
    {
        await using var part = await IssuancePart.StartAsync(store);
        await part.MakeTenantAsync();
        await part.MakeTenantAsync("other-corp");
        await part.IssueAsync(part.Admin, "other-corp", "read");
        var expired = await part.IssueAsync(part.Admin, "acme-corp", "read", 60);
        part.Time.Advance(TimeSpan.FromSeconds(1));
        var revoked = await part.IssueAsync(part.Admin, "acme-corp", "user");
        part.Time.Advance(TimeSpan.FromSeconds(1));
        var active = await part.IssueAsync(part.Admin, "acme-corp", "input");
        await part.CallAsync(part.Admin, HttpMethod.Delete, $"/v1/tokens/{revoked.TokenId}");
        part.Time.Advance(TimeSpan.FromSeconds(60));

        async Task<string[]> Listed(string query)
        {
            var answer = await part.CallAsync(part.Admin, HttpMethod.Get, $"/v1/tenants/acme-corp/tokens{query}");
            Assert.Equal(200, answer.Status);
            Assert.DoesNotContain("eyJ", answer.Text, StringComparison.Ordinal);
            return [.. answer.Json.GetProperty("items").EnumerateArray().Select(item => $"{item.GetProperty("token_id").GetString()} {item.GetProperty("status").GetString()}")];
        }

        Assert.Equal([$"{active.TokenId} active"], await Listed(""));
        Assert.Equal([$"{revoked.TokenId} revoked", $"{active.TokenId} active"], await Listed("?include=revoked"));
        Assert.Equal([$"{expired.TokenId} expired", $"{active.TokenId} active"], await Listed("?include=expired"));
        Assert.Equal([$"{expired.TokenId} expired", $"{revoked.TokenId} revoked", $"{active.TokenId} active"], await Listed("?include=revoked,expired"));
        var page = await part.CallAsync(part.Admin, HttpMethod.Get, "/v1/tenants/acme-corp/tokens?include=revoked,expired&limit=2");
        Assert.Equal([$"{active.TokenId} active"], await Listed($"?include=revoked,expired&limit=2&cursor={page.Json.GetProperty("next_cursor").GetString()}"));
        Assert.Equal(400, (await part.CallAsync(part.Admin, HttpMethod.Get, "/v1/tenants/acme-corp/tokens?include=all")).Status);
        Assert.Equal(400, (await part.CallAsync(part.Admin, HttpMethod.Get, $"/v1/tenants/other-corp/tokens?cursor={page.Json.GetProperty("next_cursor").GetString()}")).Status);
    }

    [Fact]
    public async Task Names_the_issuer_of_each()
    {
        await using var part = await IssuancePart.StartAsync();
        await part.MakeTenantAsync();
        var admin = await part.TenantAdminAsync();
        var token = await part.IssueAsync(admin, null, "read");
        var metadata = JsonSerializer.Deserialize((await part.CallAsync(admin, HttpMethod.Get, $"/v1/tokens/{token.TokenId}")).Text, WireJson.Default.TokenMetadata)!;
        Assert.Equal(new TokenMetadata(token.TokenId, "acme-corp", "read", token.SubjectPubkey, token.IssuedAt, token.ExpiresAt, admin.TokenId, "active"), metadata);
    }
}

public sealed class VerifiedCapability
{
    [Theory, MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task Is_refused_for_the_reason_that_a_gateway_would_give(string store)
    {
        await using var part = await IssuancePart.StartAsync(store);
        await part.MakeTenantAsync();
        var issued = await part.IssueAsync(part.Admin, "acme-corp", "read", 60);
        using var stranger = SigningKey.Generate();
        Assert.True(SigningKey.TryImport((await File.ReadAllTextAsync(Directory.GetFiles(Path.Combine(part.Folder, "tokens.keys")).Single(), TestContext.Current.CancellationToken)).TrimEnd('\n'), out var ours));
        Assert.True(CapabilityToken.TryVerify(issued.Token, await part.JwksAsync(), out var token, out _));
        var parts = issued.Token.Split('.');

        Assert.Null(await part.ReasonAsync(issued.Token));
        Assert.Equal("missing", await part.ReasonAsync(""));
        Assert.Equal("malformed", await part.ReasonAsync("x"));
        Assert.Equal("malformed", await part.ReasonAsync(issued.Token + "="));
        Assert.Equal("unsupported_algorithm", await part.ReasonAsync($"{Base64UrlText.Encode("{\"alg\":\"none\",\"typ\":\"foundry-cap+jwt\",\"kid\":\"x\"}"u8)}.{parts[1]}.{parts[2]}"));
        Assert.Equal("unknown_key", await part.ReasonAsync(token.Sign(stranger)));
        Assert.Equal("bad_signature", await part.ReasonAsync($"{parts[0]}.{parts[1]}.{Base64UrlText.Encode(new byte[64])}"));
        Assert.Equal("wrong_audience", await part.ReasonAsync((token with { Aud = "billing" }).Sign(ours)));
        Assert.Equal("wrong_issuer", await part.ReasonAsync((token with { Iss = "http://elsewhere" }).Sign(ours)));
        Assert.Equal("not_yet_valid", await part.ReasonAsync((token with { Nbf = token.Nbf + 31 }).Sign(ours)));
        Assert.Null(await part.ReasonAsync((token with { Nbf = token.Nbf + 30 }).Sign(ours)));
        await part.CallAsync(part.Admin, HttpMethod.Patch, "/v1/tenants/acme-corp", new { status = "suspended" });
        Assert.Equal("tenant_suspended", await part.ReasonAsync(issued.Token));
        await part.CallAsync(part.Admin, HttpMethod.Patch, "/v1/tenants/acme-corp", new { status = "active" });
        part.Time.Advance(TimeSpan.FromSeconds(59));
        Assert.Null(await part.ReasonAsync(issued.Token));
        part.Time.Advance(TimeSpan.FromSeconds(1));
        Assert.Equal("expired", await part.ReasonAsync(issued.Token));
    }

    [Fact]
    public async Task Is_described_to_anyone_who_holds_it()
    {
        await using var part = await IssuancePart.StartAsync();
        await part.MakeTenantAsync();
        var issued = await part.IssueAsync(part.Admin, "acme-corp", "read");
        var answer = await part.CallAsync(null, HttpMethod.Post, "/v1/tokens/verify", new { token = issued.Token });
        Assert.Equal(new VerifiedToken(true, "read", "acme-corp", issued.SubjectPubkey, issued.ExpiresAt, issued.TokenId), JsonSerializer.Deserialize(answer.Text, WireJson.Default.VerifiedToken));
        Assert.True(answer.Headers.CacheControl!.NoStore);
    }

    [Fact]
    public async Task Challenges_as_rfc_6750_has_it_and_is_bounded()
    {
        await using var part = await IssuancePart.StartAsync();
        var missing = await part.CallAsync(null, HttpMethod.Post, "/v1/tokens/verify", "{}");
        var malformed = await part.CallAsync(null, HttpMethod.Post, "/v1/tokens/verify", new { token = "x" });
        Assert.Equal((401, "Bearer"), (missing.Status, missing.Headers.WwwAuthenticate.ToString()));
        Assert.Equal((401, "Bearer error=\"invalid_token\""), (malformed.Status, malformed.Headers.WwwAuthenticate.ToString()));
        var large = await part.CallAsync(null, HttpMethod.Post, "/v1/tokens/verify", new { token = new string('a', 8192) });
        Assert.Equal((413, "body_too_large"), (large.Status, large.Code));
    }
}
