using System.Text.Json;
using Foundry.Contracts;
using Foundry.Testing;
using Foundry.Tokens;

namespace Foundry.Issuance.Tests.Keys;

public sealed class Rotation
{
    [Theory, MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task Publishes_a_key_before_it_signs_and_keeps_the_old_one_until_its_last_token_expires(string store)
    {
        await using var part = await IssuancePart.StartAsync(store);
        await part.MakeTenantAsync();
        var before = await part.IssueAsync(part.Admin, "acme-corp", "read", 3600);
        var old = KidOf(before.Token);
        using var feed = await part.FollowAsync(await part.SnapshotAsync());

        var rotated = await part.CallAsync(part.Admin, HttpMethod.Post, "/v1/keys/rotate");
        Assert.Equal(200, rotated.Status);
        var made = Keys(rotated).Single(key => key.Status == "next").Kid;
        Assert.Equal("trust", Assert.Single((await feed.NewsAsync()).Changes).Type);
        Assert.Equal(new[] { old, made }.Order(), (await part.JwksAsync()).Keys.Select(key => key.Kid).Order());
        Assert.Equal(old, KidOf((await part.IssueAsync(part.Admin, "acme-corp", "read", 60)).Token));
        // Again, while one waits, makes no second.
        Assert.Equal(rotated.Text, (await part.CallAsync(part.Admin, HttpMethod.Post, "/v1/keys/rotate", "{}")).Text);

        part.Time.Advance(TimeSpan.FromSeconds(5));
        Assert.Equal(made, KidOf((await part.IssueAsync(part.Admin, "acme-corp", "read", 60)).Token));
        Assert.Null(await part.ReasonAsync(before.Token));
        var list = Keys(await part.CallAsync(part.Admin, HttpMethod.Get, "/v1/keys"));
        Assert.Equal("active", list.Single(key => key.Kid == made).Status);
        var retired = list.Single(key => key.Kid == old);
        // The administrator's own token is the last that it signed.
        Assert.Equal(("retired", DateTimeOffset.FromUnixTimeSeconds(part.Admin.TokenExp)), (retired.Status, retired.VerifiesUntil));
        Assert.False(File.Exists(Path.Combine(part.Folder, "tokens.keys", $"{old}.key")));
    }

    [Theory, MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task Drops_a_retired_key_when_its_last_token_has_expired(string store)
    {
        await using var part = await IssuancePart.StartAsync(store);
        await part.MakeTenantAsync();
        var old = Keys(await part.CallAsync(part.Admin, HttpMethod.Get, "/v1/keys")).Single().Kid;
        await part.CallAsync(part.Admin, HttpMethod.Post, "/v1/keys/rotate");
        part.Time.Advance(TimeSpan.FromSeconds(5));
        await part.IssueAsync(part.Admin, "acme-corp", "read", 60);
        using var feed = await part.FollowAsync(await part.SnapshotAsync());
        part.Time.Advance(TimeSpan.FromDays(31));
        // Done by the clock, with nobody asking.
        while ((await part.JwksAsync()).Find(old) is not null)
            await feed.NewsAsync();
        Assert.Equal("expired", Keys(await part.CallAsync(part.Admin, HttpMethod.Get, "/v1/keys")).Single(key => key.Kid == old).Status);
    }

    [Theory, MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task Keeps_a_retired_key_published_to_the_last_second_of_its_last_token(string store)
    {
        await using var part = await IssuancePart.StartAsync(store);
        await part.MakeTenantAsync();
        var last = await part.IssueAsync(part.Admin, "acme-corp", "read", 40 * 86_400);
        await part.CallAsync(part.Admin, HttpMethod.Post, "/v1/keys/rotate");
        part.Time.Advance(Foundry.Issuance.Keys.SigningKeys.Lead);
        await part.IssueAsync(part.Admin, "acme-corp", "read", 60);
        var old = KidOf(last.Token);
        Assert.Equal(("retired", last.ExpiresAt), Keys(await part.CallAsync(part.Admin, HttpMethod.Get, "/v1/keys")).Where(key => key.Kid == old).Select(key => (key.Status, key.VerifiesUntil!.Value)).Single());

        part.Time.Advance(last.ExpiresAt - part.Time.GetUtcNow() - TimeSpan.FromSeconds(1));
        // Whatever is due by now is done before a token is signed.
        await part.IssueAsync(part.Admin, "acme-corp", "read", 60);
        Assert.NotNull((await part.JwksAsync()).Find(old));
        Assert.Null(await part.ReasonAsync(last.Token));

        part.Time.Advance(TimeSpan.FromSeconds(1));
        await part.IssueAsync(part.Admin, "acme-corp", "read", 60);
        Assert.Null((await part.JwksAsync()).Find(old));
        Assert.Equal("expired", Keys(await part.CallAsync(part.Admin, HttpMethod.Get, "/v1/keys")).Single(key => key.Kid == old).Status);
    }

    [Fact]
    public async Task Into_a_folder_that_takes_no_file_is_refused_and_done_once_it_does()
    {
        await using var part = await IssuancePart.StartAsync();
        var folder = Path.Combine(part.Folder, "tokens.keys");
        var before = await part.JwksAsync();
        // What a test can take away from every user: the folder itself.
        Directory.Move(folder, folder + ".away");
        foreach (var body in (string[])["{}", """{"compromised":true}"""])
        {
            var refused = await part.CallAsync(part.Admin, HttpMethod.Post, "/v1/keys/rotate", body);
            Assert.Equal((409, "no_new_key"), (refused.Status, refused.Code));
            Assert.Contains("folder", refused.Detail, StringComparison.Ordinal);
            Assert.DoesNotContain(part.Folder, refused.Text, StringComparison.Ordinal);
        }
        Assert.Equal(before.Keys.Select(key => key.Kid), (await part.JwksAsync()).Keys.Select(key => key.Kid));
        Directory.Move(folder + ".away", folder);
        Assert.Equal(200, (await part.CallAsync(part.Admin, HttpMethod.Post, "/v1/keys/rotate")).Status);
    }

    [Theory, MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task Of_a_compromised_key_cuts_off_everything_before_it_at_once(string store)
    {
        await using var part = await IssuancePart.StartAsync(store);
        await part.MakeTenantAsync();
        var before = await part.IssueAsync(part.Admin, "acme-corp", "read");
        var admin = part.Admin;
        await part.CallAsync(admin, HttpMethod.Post, "/v1/keys/rotate");
        part.Time.Advance(TimeSpan.FromSeconds(5));
        var between = await part.IssueAsync(admin, "acme-corp", "read");
        await part.CallAsync(admin, HttpMethod.Post, "/v1/keys/rotate");

        var cut = await part.CallAsync(admin, HttpMethod.Post, "/v1/keys/rotate", """{"compromised":true}""");
        Assert.Equal(200, cut.Status);
        Assert.Equal(["active", "withdrawn", "withdrawn", "withdrawn"], Keys(cut).Select(key => key.Status).Order());
        Assert.Equal(Keys(cut).Single(key => key.Status == "active").Kid, Assert.Single((await part.JwksAsync()).Keys).Kid);
        Assert.Equal("unknown_key", await part.ReasonAsync(before.Token));
        Assert.Equal("unknown_key", await part.ReasonAsync(between.Token));
        // Whoever administers the platform finds a token that is good.
        Assert.NotEqual(admin.TokenId, part.Admin.TokenId);
        Assert.Null(await part.ReasonAsync(part.ReadAdminTokenText()));
        Assert.Single(Directory.GetFiles(Path.Combine(part.Folder, "tokens.keys")));
        await part.RestartAsync();
        Assert.Null(await part.ReasonAsync(part.ReadAdminTokenText()));
    }

    [Fact]
    public async Task Is_the_platform_administrators_alone()
    {
        await using var part = await IssuancePart.StartAsync();
        var admin = CallerFacts.Of("acme-corp", "service:tenant-admin", IssuancePart.Start.AddDays(1));
        Assert.Equal((403, "insufficient_scope"), ((await part.CallAsync(admin, HttpMethod.Post, "/v1/keys/rotate")).Status, (await part.CallAsync(admin, HttpMethod.Get, "/v1/keys")).Code));
        Assert.Equal(403, (await part.CallAsync(null, HttpMethod.Post, "/v1/keys/rotate")).Status);
        Assert.Equal(400, (await part.CallAsync(part.Admin, HttpMethod.Post, "/v1/keys/rotate", """{"compromised":"yes"}""")).Status);
        Assert.Single((await part.JwksAsync()).Keys);
    }

    [Fact]
    public async Task Is_seen_by_caches_of_the_key_set_before_the_new_key_signs()
    {
        await using var part = await IssuancePart.StartAsync();
        using var answer = await part.Gateway.Client.GetAsync("/.well-known/jwks.json", TestContext.Current.CancellationToken);
        Assert.Equal("application/jwk-set+json", answer.Content.Headers.ContentType!.MediaType);
        Assert.True(answer.Headers.CacheControl is { Public: true, MaxAge: { } age } && age <= Foundry.Issuance.Keys.SigningKeys.Lead);
    }

    [Fact]
    public async Task Changes_the_key_sets_tag_and_nothing_else_does()
    {
        await using var part = await IssuancePart.StartAsync();
        var (status, tag) = await AskAsync(null);
        Assert.Equal((200, true), (status, tag is { Length: > 0 }));
        Assert.Equal((304, tag), await AskAsync(tag));
        Assert.Equal((304, tag), await AskAsync($"\"other\", W/{tag}"));
        Assert.Equal((200, tag), await AskAsync("\"other\""));
        Assert.Equal((200, tag), await AskAsync("not a tag"));
        await part.MakeTenantAsync();
        Assert.Equal((304, tag), await AskAsync(tag));
        await part.CallAsync(part.Admin, HttpMethod.Post, "/v1/keys/rotate");
        var (after, other) = await AskAsync(tag);
        Assert.Equal((200, true), (after, other != tag));

        async Task<(int Status, string? Tag)> AskAsync(string? known)
        {
            using var request = new HttpRequestMessage(HttpMethod.Get, "/.well-known/jwks.json");
            if (known is not null)
                request.Headers.TryAddWithoutValidation("If-None-Match", known);
            using var answer = await part.Gateway.Client.SendAsync(request, TestContext.Current.CancellationToken);
            Assert.True(answer.Headers.CacheControl is { Public: true, MaxAge: not null });
            return ((int)answer.StatusCode, answer.Headers.ETag?.ToString());
        }
    }

    private static IReadOnlyList<SigningKeyRecord> Keys(Answer answer) => JsonSerializer.Deserialize(answer.Text, WireJson.Default.SigningKeyList)!.Keys;

    private static string KidOf(string token) => Jws.TryParse(token, CapabilityToken.Typ, out var jws, out _) ? jws.Kid : throw new InvalidOperationException();
}
