using System.Text.Json;
using Foundry.Contracts;
using Foundry.Testing;
using Foundry.Tokens;

namespace Foundry.Issuance.Tests.Tokens;

/// <summary>CONTRACT section 2: a token is bound to its key where the request or the tenant says so.</summary>
public sealed class BoundToken
{
    [Theory]
    [InlineData("", false, false)]
    [InlineData("\"proof\":false,", false, false)]
    [InlineData("\"proof\":true,", false, true)]
    [InlineData("", true, true)]
    [InlineData("\"proof\":false,", true, true)]
    public async Task Names_the_key_that_must_prove_itself(string asked, bool tenantRequires, bool bound)
    {
        await using var part = await IssuancePart.StartAsync();
        await part.MakeTenantAsync();
        if (tenantRequires)
            Assert.Equal(200, (await part.CallAsync(part.Admin, HttpMethod.Patch, "/v1/tenants/acme-corp", """{"require_proof":true}""")).Status);
        using var subject = SigningKey.Generate();
        var answer = await part.CallAsync(part.Admin, HttpMethod.Post, "/v1/tenants/acme-corp/tokens", $$"""{{{asked}}"subject_pubkey":"{{subject.Public.X}}","scope":"read","expires_in_seconds":60}""");
        Assert.Equal(201, answer.Status);
        Assert.True(CapabilityToken.TryVerify(answer.Json.GetProperty("token").GetString()!, await part.JwksAsync(), out var token, out _));
        Assert.Equal(bound ? subject.Kid : null, token.Cnf?.Jkt);
        var recorded = (await part.Ledger.LogAsync("acme-corp", tenantRequires ? 3 : 2, TestContext.Current.CancellationToken)).Last(entry => entry.Type == EventTypes.TokenIssued);
        Assert.Equal(bound, recorded.Payload.TryGetProperty("proof", out _));
    }
}

/// <summary>CONTRACT section 3: the holder, with a proof, gets the same rights or fewer until the same end.</summary>
public sealed class RenewedToken
{
    private static readonly TimeSpan Turned = TimeSpan.FromSeconds(6);

    [Theory, MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task Is_the_same_text_while_nothing_has_changed(string store)
    {
        await using var part = await IssuancePart.StartAsync(store);
        await part.MakeTenantAsync();
        foreach (var issued in new[] { await part.IssueAsync(part.Admin, "acme-corp", "service:tenant-admin"), await part.IssueAsync(part.Admin, null, "service:fleet-node"), await NamedAsync(part) })
        {
            part.Time.Advance(TimeSpan.FromSeconds(10));
            var (status, renewed) = await RenewAsync(part, Proved(issued));
            Assert.Equal((200, issued), (status, renewed));
        }
        Assert.Equal(2, await CountAsync(part, "acme-corp"));
    }

    [Theory, MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task Is_one_new_token_of_the_same_end_once_the_signing_key_has_changed(string store)
    {
        await using var part = await IssuancePart.StartAsync(store);
        await part.MakeTenantAsync();
        var issued = await NamedAsync(part);
        await TurnKeyAsync(part);

        var (_, renewed) = await RenewAsync(part, Proved(issued));
        var (_, again) = await RenewAsync(part, Proved(issued));
        var (_, ofRenewed) = await RenewAsync(part, Proved(renewed!));

        Assert.NotEqual(issued.TokenId, renewed!.TokenId);
        Assert.Equal((renewed, renewed), (again, ofRenewed));
        Assert.Equal(issued with { Token = renewed.Token, TokenId = renewed.TokenId, IssuedAt = renewed.IssuedAt }, renewed);
        Assert.Equal((null, null), (await part.ReasonAsync(issued.Token), await part.ReasonAsync(renewed.Token)));
        Assert.True(CapabilityToken.TryVerify(issued.Token, await part.JwksAsync(), out var before, out _));
        Assert.True(CapabilityToken.TryVerify(renewed.Token, await part.JwksAsync(), out var after, out _));
        Assert.NotEqual(before.Kid, after.Kid);
        Assert.Equal(before with { Jti = after.Jti, Iat = after.Iat, Nbf = after.Nbf, Kid = after.Kid }, after);
        var recorded = (await part.Ledger.LogAsync("acme-corp", 3, TestContext.Current.CancellationToken)).Where(entry => entry.Type == EventTypes.TokenIssued).Select(entry => entry.Payload).ToArray();
        Assert.Equal(2, recorded.Length);
        Assert.Equal((renewed.TokenId, issued.TokenId, issued.TokenId), (recorded[1].GetProperty("token_id").GetString(), recorded[1].GetProperty("renews").GetString(), recorded[1].GetProperty("actor").GetProperty("token_id").GetString()));
    }

    [Fact]
    public async Task After_another_turn_of_the_key_is_a_renewal_of_the_first_and_no_chain()
    {
        await using var part = await IssuancePart.StartAsync();
        await part.MakeTenantAsync();
        var issued = await part.IssueAsync(part.Admin, "acme-corp", "read", 86_400);
        await TurnKeyAsync(part);
        var (_, second) = await RenewAsync(part, Proved(issued));
        await TurnKeyAsync(part);
        var (_, third) = await RenewAsync(part, Proved(second!));
        Assert.Equal(third, (await RenewAsync(part, Proved(issued))).Renewed);
        Assert.Equal(third!.ExpiresAt, issued.ExpiresAt);
        var events = await part.Ledger.LogAsync("acme-corp", 4, TestContext.Current.CancellationToken);
        Assert.Equal(issued.TokenId, events[^1].Payload.GetProperty("renews").GetString());
    }

    [Fact]
    public async Task Is_bound_where_the_tenant_has_come_to_require_it_and_stays_so()
    {
        await using var part = await IssuancePart.StartAsync();
        await part.MakeTenantAsync();
        var issued = await part.IssueAsync(part.Admin, "acme-corp", "read");
        await part.CallAsync(part.Admin, HttpMethod.Patch, "/v1/tenants/acme-corp", """{"require_proof":true}""");
        var (_, renewed) = await RenewAsync(part, Proved(issued));
        Assert.True(CapabilityToken.TryVerify(renewed!.Token, await part.JwksAsync(), out var token, out _));
        Assert.NotNull(token.Cnf);
        await part.CallAsync(part.Admin, HttpMethod.Patch, "/v1/tenants/acme-corp", """{"require_proof":false}""");
        Assert.Equal(renewed, (await RenewAsync(part, Proved(renewed))).Renewed);
        Assert.Equal(issued, (await RenewAsync(part, Proved(issued))).Renewed);
    }

    /// <summary>Whichever of a grant's tokens is revoked, by ID or by key, none of them is left.</summary>
    [Theory]
    [InlineData("first")]
    [InlineData("renewal")]
    [InlineData("key")]
    public async Task Dies_with_its_grant_and_is_recorded_once(string which)
    {
        await using var part = await IssuancePart.StartAsync();
        await part.MakeTenantAsync();
        var issued = await part.IssueAsync(part.Admin, "acme-corp", "read");
        var bystander = await part.IssueAsync(part.Admin, "acme-corp", "read");
        await TurnKeyAsync(part);
        var (_, renewed) = await RenewAsync(part, Proved(issued));
        using var feed = await part.FollowAsync(await part.SnapshotAsync());

        var named = which switch { "first" => issued.TokenId, "renewal" => renewed!.TokenId, _ => issued.SubjectPubkey };
        Assert.Equal(204, (await part.CallAsync(part.Admin, HttpMethod.Delete, $"/v1/tokens/{named}")).Status);

        Assert.Equal(("revoked", "revoked", null), (await part.ReasonAsync(issued.Token), await part.ReasonAsync(renewed!.Token), await part.ReasonAsync(bystander.Token)));
        Assert.Equal(new[] { issued.TokenId, renewed.TokenId }.Order(StringComparer.Ordinal), (await feed.NewsAsync()).Changes.Select(change => change.Revoked!.Jti).Order(StringComparer.Ordinal));
        Assert.Equal(2, (await part.Ledger.LogAsync("acme-corp", 6, TestContext.Current.CancellationToken)).Count(entry => entry.Type == EventTypes.TokenRevoked));
        Assert.Equal((401, "revoked"), await ReasonAsync(part, Proved(issued)));
        Assert.Equal((401, "revoked"), await ReasonAsync(part, Proved(renewed)));
    }

    /// <summary>What a renewal issued was issued under the grant, whichever of the grant's tokens is named.</summary>
    [Theory]
    [InlineData(false, "first")]
    [InlineData(false, "renewal")]
    [InlineData(true, "first")]
    [InlineData(true, "renewal")]
    public async Task Takes_along_what_was_issued_with_it(bool issuedByRenewal, string named)
    {
        await using var part = await IssuancePart.StartAsync();
        await part.MakeTenantAsync();
        var first = await part.IssueAsync(part.Admin, "acme-corp", "service:tenant-admin", 86_400);
        await TurnKeyAsync(part);
        var (_, renewed) = await RenewAsync(part, Proved(first));
        var issued = await part.IssueAsync(Proved(issuedByRenewal ? renewed! : first), "acme-corp", "read");

        Assert.Equal(204, (await part.CallAsync(part.Admin, HttpMethod.Delete, $"/v1/tokens/{(named == "first" ? first : renewed!).TokenId}?descendants=true")).Status);

        Assert.Equal(("revoked", "revoked", "revoked"), (await part.ReasonAsync(first.Token), await part.ReasonAsync(renewed!.Token), await part.ReasonAsync(issued.Token)));
    }

    [Fact]
    public async Task Is_refused_to_who_has_not_proved_it_or_whose_token_is_not_what_was_issued()
    {
        await using var part = await IssuancePart.StartAsync();
        await part.MakeTenantAsync();
        await part.MakeTenantAsync("other-corp");
        var issued = await part.IssueAsync(part.Admin, "acme-corp", "read", 60);
        var good = Proved(issued);
        using var other = SigningKey.Generate();

        Assert.Equal((401, "invalid_proof"), await ReasonAsync(part, good with { Proved = false }));
        Assert.Equal((401, "invalid_proof"), await ReasonAsync(part, null));
        // What a signing key that leaked could have said.
        Assert.Equal((401, "revoked"), await ReasonAsync(part, good with { SubjectPubkey = other.Public.X }));
        Assert.Equal((401, "revoked"), await ReasonAsync(part, good with { Scope = "input" }));
        Assert.Equal((401, "revoked"), await ReasonAsync(part, good with { TenantId = "other-corp" }));
        Assert.Equal((401, "revoked"), await ReasonAsync(part, good with { TokenId = Guid.CreateVersion7().ToString() }));
        await part.CallAsync(part.Admin, HttpMethod.Patch, "/v1/tenants/acme-corp", """{"status":"suspended"}""");
        Assert.Equal((401, "tenant_suspended"), await ReasonAsync(part, good));
        await part.CallAsync(part.Admin, HttpMethod.Patch, "/v1/tenants/acme-corp", """{"status":"active"}""");
        Assert.Equal(200, (await RenewAsync(part, good)).Status);
        part.Time.Advance(TimeSpan.FromSeconds(60));
        Assert.Equal((401, "expired"), await ReasonAsync(part, good));
    }

    [Theory, MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task Is_refused_as_every_change_is_in_a_tenant_that_is_being_deleted(string store)
    {
        await using var part = await IssuancePart.StartAsync(store);
        await part.MakeTenantAsync();
        var issued = await part.IssueAsync(part.Admin, "acme-corp", "read");
        var ofPlatform = await part.IssueAsync(part.Admin, null, "service:fleet-node");
        part.Fleet.Away = true;
        Assert.Equal(202, (await part.CallAsync(part.Admin, HttpMethod.Delete, "/v1/tenants/acme-corp?force=true")).Status);

        var answer = await part.CallAsync(Proved(issued), HttpMethod.Post, "/v1/tokens/renew");

        Assert.Equal((409, "tenant_deleting"), (answer.Status, answer.Code));
        Assert.Equal(200, (await RenewAsync(part, Proved(ofPlatform))).Status);
    }

    private static CallerFacts Proved(IssuedToken token) => IssuancePart.FactsOf(token) with { Proved = true };

    private static async Task<IssuedToken> NamedAsync(IssuancePart part)
    {
        using var subject = SigningKey.Generate();
        var answer = await part.CallAsync(part.Admin, HttpMethod.Post, "/v1/tokens", new { subject_pubkey = subject.Public.X, scope = "input", expires_in_seconds = 3600, tenant_id = "acme-corp", user_id = "jwoodfine", proof = true });
        return JsonSerializer.Deserialize(answer.Text, WireJson.Default.IssuedToken)!;
    }

    private static async Task<(int Status, IssuedToken? Renewed)> RenewAsync(IssuancePart part, CallerFacts? caller)
    {
        var answer = await part.CallAsync(caller, HttpMethod.Post, "/v1/tokens/renew");
        return (answer.Status, answer.Status == 200 ? JsonSerializer.Deserialize(answer.Text, WireJson.Default.IssuedToken) : null);
    }

    private static async Task<(int, string?)> ReasonAsync(IssuancePart part, CallerFacts? caller)
    {
        var answer = await part.CallAsync(caller, HttpMethod.Post, "/v1/tokens/renew");
        if (answer.Status == 401 && answer.Json.GetProperty("reason").GetString() == "invalid_proof")
            Assert.Equal(["Bearer error=\"invalid_token\"", "DPoP algs=\"EdDSA\", error=\"invalid_dpop_proof\""], answer.Headers.NonValidated["WWW-Authenticate"]);
        return (answer.Status, answer.Status == 200 ? null : answer.Json.GetProperty("reason").GetString());
    }

    private static async Task<int> CountAsync(IssuancePart part, string tenant) =>
        (await part.CallAsync(part.Admin, HttpMethod.Get, $"/v1/tenants/{tenant}/tokens")).Json.GetProperty("items").GetArrayLength();

    private static async Task TurnKeyAsync(IssuancePart part)
    {
        Assert.Equal(200, (await part.CallAsync(part.Admin, HttpMethod.Post, "/v1/keys/rotate")).Status);
        part.Time.Advance(Turned);
    }
}
