using System.Text.Json;
using Foundry.Contracts;
using Foundry.Testing;
using Foundry.Tokens;

namespace Foundry.Issuance.Tests.Trust;

public sealed class JoinCode
{
    [Theory, MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task Lets_the_part_it_was_made_for_join_once(string store)
    {
        await using var part = await IssuancePart.StartAsync(store);
        var code = await MakeAsync(part, "gateway", "gateway-two");
        Assert.Equal(("gateway", "gateway-two", IssuancePart.Start.AddHours(1), part.Setup.RootThumbprint), (code.Kind, code.Name, code.ExpiresAt, code.RootThumbprint));
        using var key = SigningKey.Generate();
        using var other = SigningKey.Generate();
        Assert.Equal(200, await JoinAsync(part, code, key));
        Assert.Contains(new TrustedKey(key.Kid, "gateway", "gateway-two", key.Public.X), (await part.TrustAsync()).Keys);
        // Its answer may have been lost; another key's turn it is not.
        Assert.Equal((200, 401), (await JoinAsync(part, code, key), await JoinAsync(part, code, other)));
        var record = Assert.Single(await JoinsAsync(part, 2), join => Member(join, "kid") == key.Kid);
        Assert.Equal(("gateway", "gateway-two", part.Admin.TokenId), (Member(record, "kind"), Member(record, "name"), Member(record, "code_issued_by")));
        Assert.Equal((key.Public.X, "join_code:one_use"), (Member(record.GetProperty("actor"), "subject_pubkey"), Member(record.GetProperty("actor"), "scope")));
    }

    [Theory, MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task Of_the_deployment_lets_every_part_join_and_is_recorded_once_for_each_of_their_keys(string store)
    {
        await using var part = await IssuancePart.StartAsync(store);
        using var first = SigningKey.Generate();
        using var second = SigningKey.Generate();
        foreach (var key in (SigningKey[])[first, second, first])
        {
            using var joined = await part.JoinAsync("service", "ledger", key.Public.X, IssuancePart.JoinCode);
            Assert.Equal(200, (int)joined.StatusCode);
        }
        await part.RestartAsync(); // Its gateway joins again.
        // A code of its own makes no second join of a key that is believed already.
        Assert.Equal(200, await JoinAsync(part, await MakeAsync(part, "service", "ledger"), first));
        await part.MakeTenantAsync(); // Whatever else there is to tell comes before this.
        await part.Ledger.LogAsync("acme-corp", 1, TestContext.Current.CancellationToken);

        var joins = await JoinsAsync(part, 3);
        Assert.Equal(["gateway-one", "ledger", "ledger"], joins.Select(join => Member(join, "name")));
        Assert.Equal([first.Kid, second.Kid], joins.Skip(1).Select(join => Member(join, "kid")));
        Assert.Equal([first.Public.X, second.Public.X], joins.Skip(1).Select(join => Member(join.GetProperty("actor"), "subject_pubkey")));
        Assert.All(joins, join => Assert.Equal("join_code:deployment", Member(join.GetProperty("actor"), "scope")));
        Assert.All(joins, join => Assert.False(join.TryGetProperty("code_issued_by", out _)));
        Assert.All(part.Ledger.Bodies, body => Assert.DoesNotContain(IssuancePart.JoinCode, body, StringComparison.Ordinal));
    }

    [Fact]
    public async Task Is_refused_for_another_kind_or_name_and_good_afterwards()
    {
        await using var part = await IssuancePart.StartAsync();
        var code = await MakeAsync(part, "service", "ledger");
        using var key = SigningKey.Generate();
        Assert.Equal(401, await JoinAsync(part, code with { Kind = "gateway" }, key));
        Assert.Equal(401, await JoinAsync(part, code with { Name = "fleet" }, key));
        Assert.Equal(422, await JoinAsync(part, code with { Name = "issuance" }, key));
        Assert.Equal(200, await JoinAsync(part, code, key));
    }

    [Fact]
    public async Task Ends_with_its_time()
    {
        await using var part = await IssuancePart.StartAsync();
        using var key = SigningKey.Generate();
        var (late, early) = (await MakeAsync(part, "service", "ledger", 60), await MakeAsync(part, "service", "ledger", 61));
        part.Time.Advance(TimeSpan.FromSeconds(60));
        Assert.Equal((401, 200), (await JoinAsync(part, late, key), await JoinAsync(part, early, key)));
    }

    [Theory, MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task Used_by_many_at_once_lets_one_in(string store)
    {
        await using var part = await IssuancePart.StartAsync(store);
        var code = await MakeAsync(part, "gateway", "gateway-two");
        var keys = Enumerable.Range(0, 8).Select(_ => SigningKey.Generate()).ToList();
        var answers = await Task.WhenAll(keys.Select(key => JoinAsync(part, code, key)));
        Assert.Equal((1, 7), (answers.Count(status => status == 200), answers.Count(status => status == 401)));
        Assert.Single((await part.TrustAsync()).Keys, key => key.Name == "gateway-two");
        keys.ForEach(key => key.Dispose());
    }

    [Fact]
    public async Task Is_kept_as_a_hash_and_shown_once()
    {
        await using var part = await IssuancePart.StartAsync();
        var answer = await part.CallAsync(part.Admin, HttpMethod.Post, "/v1/parts/codes", new { kind = "service", name = "fleet" });
        Assert.Equal((201, true), (answer.Status, answer.Headers.CacheControl?.NoStore));
        var code = answer.Json.GetProperty("code").GetString()!;
        await part.StopAsync();
        Assert.All(Directory.GetFiles(part.Folder, "*", SearchOption.AllDirectories), file => Assert.DoesNotContain(code, File.ReadAllText(file), StringComparison.Ordinal));
        await part.OpenAsync();
    }

    [Theory]
    [InlineData("token", "ledger", null)]
    [InlineData(null, "ledger", null)]
    [InlineData("service", "issuance", null)]
    [InlineData("service", "Ledger", null)]
    [InlineData("service", null, null)]
    [InlineData("service", "ledger", 59L)]
    [InlineData("service", "ledger", 604_801L)]
    public async Task Is_made_for_nothing_that_could_not_join(string? kind, string? name, long? seconds)
    {
        await using var part = await IssuancePart.StartAsync();
        Assert.Equal(422, (await part.CallAsync(part.Admin, HttpMethod.Post, "/v1/parts/codes", new { kind = kind ?? "", name = name ?? "", expires_in_seconds = seconds ?? 60 })).Status);
    }

    [Fact]
    public async Task Of_which_a_thousand_are_open_is_made_no_more_until_one_expires()
    {
        await using var part = await IssuancePart.StartAsync();
        await part.App.Services.GetRequiredJournal().WriteAsync(async entry =>
        {
            for (var n = 0; n < 999; n++)
                await entry.ExecuteAsync("INSERT INTO join_codes (code_hash, kind, name, expires_at) VALUES (@hash, 'gateway', 'gw', @at)", new { hash = $"h{n}", at = entry.NowSeconds + 60 });
            return 0;
        }, TestContext.Current.CancellationToken);
        await MakeAsync(part, "service", "ledger");
        Assert.Equal(422, (await part.CallAsync(part.Admin, HttpMethod.Post, "/v1/parts/codes", new { kind = "service", name = "ledger" })).Status);
        part.Time.Advance(TimeSpan.FromSeconds(60));
        await MakeAsync(part, "service", "ledger");
    }

    [Fact]
    public async Task Of_the_first_gateway_lies_beside_the_administrators_token_until_there_is_one()
    {
        await using var part = await IssuancePart.StartAsync();
        var file = Path.Combine(part.Folder, "gateway.code");
        Assert.False(File.Exists(file)); // The deployment has a code.
        await part.StopAsync();
        var folder = Path.Combine(part.Folder, "..", "alone");
        part.Settings["Trust:JoinCode"] = null;
        var (app, setup) = await part.BuildAsync(folder);
        await app.DisposeAsync();
        var lost = await File.ReadAllTextAsync(setup.GatewayCodeFile!, TestContext.Current.CancellationToken);
        if (!OperatingSystem.IsWindows())
            Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(setup.GatewayCodeFile!));

        (app, setup) = await part.BuildAsync(folder);
        await using (app)
        {
            await app.StartAsync(TestContext.Current.CancellationToken);
            using var key = SigningKey.Generate();
            using var caller = new GatewayCaller(key, "gateway", Issuance.Name, new Uri(app.Urls.First()), part.Clock);
            async Task<int> TryAsync(string code)
            {
                using var answer = await caller.Client.PostAsync("/internal/v1/join", new StringContent(JsonSerializer.Serialize(new JoinRequest(1, "gateway", "gateway", key.Public.X, code.TrimEnd('\n')), WireJson.Default.JoinRequest),
                    System.Text.Encoding.UTF8, "application/json"), TestContext.Current.CancellationToken);
                return (int)answer.StatusCode;
            }
            Assert.Equal((401, 200), (await TryAsync(lost), await TryAsync(await File.ReadAllTextAsync(setup.GatewayCodeFile!, TestContext.Current.CancellationToken))));
            await app.StopAsync(TestContext.Current.CancellationToken);
        }
        (app, var after) = await part.BuildAsync(folder);
        await app.DisposeAsync();
        Assert.Null(after.GatewayCodeFile);
        Assert.False(File.Exists(setup.GatewayCodeFile));
    }

    internal static async Task<PartCode> MakeAsync(IssuancePart part, string kind, string name, long? seconds = null)
    {
        var answer = await part.CallAsync(part.Admin, HttpMethod.Post, "/v1/parts/codes", seconds is null ? new { kind, name } : new { kind, name, expires_in_seconds = seconds });
        Assert.True(answer.Status == 201, answer.Text);
        return JsonSerializer.Deserialize(answer.Text, WireJson.Default.PartCode)!;
    }

    internal static async Task<int> JoinAsync(IssuancePart part, PartCode code, SigningKey key)
    {
        using var answer = await part.JoinAsync(code.Kind, code.Name, key.Public.X, code.Code);
        return (int)answer.StatusCode;
    }

    /// <summary>The joins in the ledger, as soon as there are so many.</summary>
    private static async Task<IReadOnlyList<JsonElement>> JoinsAsync(IssuancePart part, int count)
    {
        static bool IsJoin(FakeEntry entry) => entry.Type == EventTypes.KeyRotated && entry.Payload.TryGetProperty("kind", out _);
        await part.Ledger.WaitAsync(ledger => ledger.Entries.Count(IsJoin) >= count, TestContext.Current.CancellationToken);
        return [.. part.Ledger.Entries.Where(IsJoin).Select(entry => entry.Payload)];
    }

    private static string? Member(JsonElement payload, string name) => payload.GetProperty(name).GetString();
}

public sealed class Part
{
    [Theory, MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task That_is_removed_is_refused_at_once_told_to_all_and_never_comes_back(string store)
    {
        await using var part = await IssuancePart.StartAsync(store);
        using var key = SigningKey.Generate();
        Assert.Equal(200, await JoinCode.JoinAsync(part, await JoinCode.MakeAsync(part, "gateway", "gateway-two"), key));
        using var removed = new GatewayCaller(key, "gateway-two", Issuance.Name, new Uri(part.App.Urls.First()), part.Clock);
        var head = await part.SnapshotAsync();
        using var its = await removed.SendAsItselfAsync(HttpMethod.Get, "/internal/v1/snapshot", null, TestContext.Current.CancellationToken);
        Assert.Equal(200, (int)its.StatusCode);
        using var feed = await part.FollowAsync(head);

        Assert.Equal(204, (await part.CallAsync(part.Admin, HttpMethod.Delete, $"/v1/parts/{key.Kid}")).Status);
        using var refused = await removed.SendAsItselfAsync(HttpMethod.Get, "/internal/v1/snapshot", null, TestContext.Current.CancellationToken);
        Assert.Equal(401, (int)refused.StatusCode);
        Assert.Equal("trust", Assert.Single((await feed.NewsAsync()).Changes).Type);
        Assert.DoesNotContain((await part.TrustAsync()).Keys, known => known.Kid == key.Kid);
        // Neither with a new code, nor with the deployment's.
        Assert.Equal(422, await JoinCode.JoinAsync(part, await JoinCode.MakeAsync(part, "gateway", "gateway-two"), key));
        using var again = await part.JoinAsync("gateway", "gateway-two", key.Public.X, IssuancePart.JoinCode);
        Assert.Equal(422, (int)again.StatusCode);
        Assert.Equal((204, 404), ((await part.CallAsync(part.Admin, HttpMethod.Delete, $"/v1/parts/{key.Kid}")).Status, (await part.CallAsync(part.Admin, HttpMethod.Delete, "/v1/parts/unknown")).Status));
        var records = (await part.Ledger.LogAsync(Logs.Platform, 4, TestContext.Current.CancellationToken)).Where(entry => entry.Type == EventTypes.KeyRotated && entry.Payload.GetProperty("name").GetString() == "gateway-two").ToList();
        Assert.Equal(2, records.Count);
        Assert.Equal((key.Kid, "gateway-two", part.Admin.TokenId), (records[1].Payload.GetProperty("withdrawn_kids")[0].GetString(), records[1].Payload.GetProperty("name").GetString(), records[1].Payload.GetProperty("actor").GetProperty("token_id").GetString()));
        await part.RestartAsync();
        Assert.DoesNotContain((await part.TrustAsync()).Keys, known => known.Kid == key.Kid);
    }

    [Fact]
    public async Task That_is_removed_hears_no_more_of_the_feed_it_is_following()
    {
        await using var part = await IssuancePart.StartAsync();
        using var key = SigningKey.Generate();
        Assert.Equal(200, await JoinCode.JoinAsync(part, await JoinCode.MakeAsync(part, "gateway", "gateway-two"), key));
        using var removed = new GatewayCaller(key, "gateway-two", Issuance.Name, new Uri(part.App.Urls.First()), part.Clock);
        var head = await part.SnapshotAsync();
        using var answer = await removed.SendAsItselfAsync(HttpMethod.Get, $"/internal/v1/changes?since={head.To}&hash={head.Hash}", null, TestContext.Current.CancellationToken);
        using var feed = new Following(part, answer, new StreamReader(await answer.Content.ReadAsStreamAsync(TestContext.Current.CancellationToken)));
        Assert.Empty((await feed.NextAsync())!.Changes);
        await part.CallAsync(part.Admin, HttpMethod.Delete, $"/v1/parts/{key.Kid}");
        Assert.Null(await feed.NextAsync());
    }

    [Fact]
    public async Task That_is_issuance_itself_stays()
    {
        await using var part = await IssuancePart.StartAsync();
        var own = (await part.TrustAsync()).Keys.Single(key => key is { Name: "issuance", Kind: "service" });
        Assert.Equal(422, (await part.CallAsync(part.Admin, HttpMethod.Delete, $"/v1/parts/{own.Kid}")).Status);
        Assert.Contains(own, (await part.TrustAsync()).Keys);
    }

    [Theory, MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task Is_listed_by_name_in_pages(string store)
    {
        await using var part = await IssuancePart.StartAsync(store);
        using var first = SigningKey.Generate();
        using var second = SigningKey.Generate();
        await JoinCode.JoinAsync(part, await JoinCode.MakeAsync(part, "service", "ledger"), first);
        await JoinCode.JoinAsync(part, await JoinCode.MakeAsync(part, "service", "fleet"), second);
        var all = JsonSerializer.Deserialize((await part.CallAsync(part.Admin, HttpMethod.Get, "/v1/parts")).Text, WireJson.Default.PartList)!;
        Assert.Equal(["fleet", "gateway-one", "issuance", "ledger"], all.Parts.Select(item => item.Name));
        Assert.Equal(new PartRecord(second.Kid, "service", "fleet", IssuancePart.Start), all.Parts[0]);
        Assert.Null(all.NextCursor);
        var names = new List<string>();
        for (string? cursor = ""; cursor is not null;)
        {
            var page = JsonSerializer.Deserialize((await part.CallAsync(part.Admin, HttpMethod.Get, $"/v1/parts?limit=3{(cursor.Length > 0 ? $"&cursor={cursor}" : "")}")).Text, WireJson.Default.PartList)!;
            names.AddRange(page.Parts.Select(item => item.Name));
            cursor = page.NextCursor;
        }
        Assert.Equal(all.Parts.Select(item => item.Name), names);
    }

    [Theory]
    [InlineData("GET", "/v1/parts")]
    [InlineData("POST", "/v1/parts/codes")]
    [InlineData("DELETE", "/v1/parts/some")]
    public async Task Is_the_platform_administrators_to_manage(string method, string path)
    {
        await using var part = await IssuancePart.StartAsync();
        var body = method == "POST" ? new { kind = "gateway", name = "gateway-two" } : null;
        foreach (var caller in new[] { null, CallerFacts.Of("acme-corp", "service:tenant-admin", IssuancePart.Start.AddDays(1)), CallerFacts.Of("acme-corp", "input", IssuancePart.Start.AddDays(1)) })
            Assert.Equal((403, "insufficient_scope"), (await part.CallAsync(caller, new HttpMethod(method), path, body)) is { } answer ? (answer.Status, answer.Code) : default);
    }
}

internal static class Journals
{
    public static Foundry.Issuance.Changes.Journal GetRequiredJournal(this IServiceProvider services) =>
        (Foundry.Issuance.Changes.Journal)services.GetService(typeof(Foundry.Issuance.Changes.Journal))!;
}
