using System.Text.Json;
using Foundry.Contracts;
using Foundry.Issuance.Changes;
using Foundry.ServiceDefaults;
using Foundry.Testing;
using Foundry.Tokens;
using Microsoft.Extensions.DependencyInjection;

namespace Foundry.Issuance.Tests.Changes;

public sealed class Follower
{
    [Theory, MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task Gets_everything_in_the_snapshot_and_then_each_change_in_order(string store)
    {
        await using var part = await IssuancePart.StartAsync(store);
        await part.MakeTenantAsync();
        var old = await part.IssueAsync(part.Admin, "acme-corp", "read");
        await part.CallAsync(part.Admin, HttpMethod.Delete, $"/v1/tokens/{old.TokenId}");

        var snapshot = await part.SnapshotAsync();
        Assert.Equal((1, "snapshot", 0L, IssuancePart.Start), (snapshot.V, snapshot.Kind, snapshot.From, snapshot.Time));
        Assert.Equal(["trust", "tenant", "revoked"], snapshot.Changes.Select(change => change.Type));
        var trust = JsonSerializer.Deserialize(snapshot.Changes[0].Trust!, WireJson.Default.TrustAnswer)!;
        Assert.True(VerifyingKey.TryCreate(trust.Root, out var root) && root.Kid == part.Setup.RootThumbprint && TrustSet.TryVerify(trust.Trust, root, out _));

        using var feed = await part.FollowAsync(snapshot);
        var upToDate = (await feed.NextAsync())!;
        Assert.Equal(("changes", snapshot.To, snapshot.To, 0), (upToDate.Kind, upToDate.From, upToDate.To, upToDate.Changes.Count));
        await part.CallAsync(part.Admin, HttpMethod.Patch, "/v1/tenants/acme-corp", new { max_vms = 3 });
        var changed = await feed.NewsAsync();
        Assert.Equal((snapshot.To, snapshot.To + 1, 3), (changed.From, changed.To, Assert.Single(changed.Changes).Tenant!.MaxVms));
        await part.CallAsync(part.Admin, HttpMethod.Delete, "/v1/tenants/acme-corp");
        var deleted = await feed.NewsAsync();
        Assert.Equal((changed.To, new Change("tenant_deleted", TenantId: "acme-corp")), (deleted.From, Assert.Single(deleted.Changes)));
    }

    [Theory, MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task Reaches_the_same_state_from_any_number_as_from_a_snapshot(string store)
    {
        await using var part = await IssuancePart.StartAsync(store);
        await part.MakeTenantAsync();
        await part.MakeTenantAsync("other-corp");
        await part.CallAsync(part.Admin, HttpMethod.Patch, "/v1/tenants/other-corp", new { status = "suspended" });
        await part.CallAsync(part.Admin, HttpMethod.Delete, "/v1/tenants/acme-corp");
        var snapshot = await part.SnapshotAsync();
        var hashes = await part.HashesAsync();
        Assert.Equal(snapshot.To, hashes.Keys.Max());
        for (var since = 0L; since < snapshot.To; since++)
        {
            using var feed = await part.FollowAsync(since, hashes[since]);
            var (at, hash, changes) = (since, hashes[since], new List<Change>());
            while (at < snapshot.To)
            {
                var message = await feed.NewsAsync();
                Assert.Equal((at, hash), (message.From, message.After));
                (at, hash) = (message.To, message.Hash);
                changes.AddRange(message.Changes);
            }
            Assert.Equal((snapshot.To - since, snapshot.Hash), (changes.Count, hash));
        }
    }

    [Fact]
    public async Task Hears_a_heartbeat_each_second()
    {
        await using var part = await IssuancePart.StartAsync();
        var snapshot = await part.SnapshotAsync();
        var head = snapshot.To;
        using var feed = await part.FollowAsync(snapshot);
        Assert.Empty((await feed.NextAsync())!.Changes);
        for (var beat = 1; beat <= 3; beat++)
        {
            // The stream may not have begun to wait when the clock is turned, so the clock is turned until it has.
            var next = feed.NextAsync();
            while (!next.IsCompleted)
            {
                part.Time.Advance(TimeSpan.FromMilliseconds(100));
                await Task.Yield();
            }
            var message = (await next)!;
            Assert.Equal((head, head, 0), (message.From, message.To, message.Changes.Count));
        }
    }

    [Fact]
    public async Task Gets_lines_of_at_most_500_changes()
    {
        await using var part = await IssuancePart.StartAsync();
        var snapshot = await part.SnapshotAsync();
        await part.RevokeUnissuedAsync(1200);
        using var feed = await part.FollowAsync(snapshot);
        var hash = snapshot.Hash;
        foreach (var count in (int[])[500, 500, 200])
        {
            var message = await feed.NewsAsync();
            Assert.Equal((count, hash), (message.Changes.Count, message.After));
            hash = message.Hash;
        }
        Assert.Equal((await part.SnapshotAsync()).Hash, hash);
    }

    [Theory, MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task That_was_away_for_too_long_or_is_ahead_takes_a_snapshot(string store)
    {
        await using var part = await IssuancePart.StartAsync(store, settings: new() { ["Issuance:ChangesKept"] = "100" });
        await part.RevokeUnissuedAsync(150);
        var head = (await part.SnapshotAsync()).To;
        var hashes = await part.HashesAsync();
        foreach (var (since, status) in new[] { (0L, 410), (head - 101, 410), (head - 100, 200), (head, 200), (head + 1, 410), (long.MaxValue, 410) })
        {
            using var feed = await part.FollowAsync(since, hashes.GetValueOrDefault(since, ""));
            Assert.True(status == feed.Status, $"since {since} of {head}: {feed.Status}");
            if (status == 200 && since < head)
                Assert.Equal(since, (await feed.NewsAsync()).From);
        }
    }

    /// <summary>A database restored from an older copy gives numbers out twice.</summary>
    [Theory, MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task That_followed_a_history_which_is_no_more_takes_a_snapshot(string store)
    {
        await using var part = await IssuancePart.StartAsync(store);
        await part.MakeTenantAsync();
        var hashes = await part.HashesAsync();
        var head = hashes.Keys.Max();
        foreach (var since in hashes.Keys)
        {
            using var ours = await part.FollowAsync(since, hashes[since]);
            Assert.Equal(200, ours.Status);
            foreach (var hash in (string[])[hashes[since == head ? since - 1 : since + 1], "", new string('A', 43)])
            {
                using var another = await part.FollowAsync(since, hash);
                Assert.True((since == 0 && hash.Length == 0 ? 200 : 410) == another.Status, $"{since} with '{hash}': {another.Status}");
            }
        }
    }

    /// <summary>The store goes back while the gateway listens: the connection ends, and the next one is answered 410.</summary>
    [Theory, MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task Is_let_go_when_the_store_is_another(string store)
    {
        await using var part = await IssuancePart.StartAsync(store);
        await part.MakeTenantAsync();
        var snapshot = await part.SnapshotAsync();
        using var feed = await part.FollowAsync(snapshot);
        Assert.Empty((await feed.NextAsync())!.Changes);
        var journal = part.App.Services.GetRequiredService<Journal>();
        await journal.WriteAsync(async entry => await entry.ExecuteAsync("UPDATE platform SET feed_hash = 'another'"), TestContext.Current.CancellationToken);
        journal.Signal.Raise();
        Assert.Null(await feed.NextAsync());
        using var again = await part.FollowAsync(snapshot);
        Assert.Equal(410, again.Status);
    }

    [Theory, MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task Gets_a_large_snapshot_in_parts_that_hold_each_tenant_and_token_once(string store)
    {
        await using var part = await IssuancePart.StartAsync(store);
        var (tenants, revoked) = (FeedMessage.TenantsPerPart + 3, FeedMessage.RevokedPerPart + 5);
        await part.MakeTenantAsync();
        await part.App.Services.GetRequiredService<Journal>().WriteAsync(async entry =>
        {
            // In one statement each, since they are many.
            const string numbers = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < @count)";
            await entry.ExecuteAsync($"""
                {numbers} INSERT INTO tenants (tenant_id, display_name, max_vms, storage_quota_gb, api_rate_limit_rpm, require_proof, status, created_at_ms, version)
                SELECT 'tenant-' || i, 'T', 1, 1, 1, 0, 'active', 0, 1 FROM n
                """, new { count = tenants - 1 });
            await entry.ExecuteAsync($"""
                {numbers} INSERT INTO tokens (token_id, tenant_id, scope, subject_pubkey, issued_at, expires_at, kid, revoked_at, in_admin_file)
                SELECT SUBSTR('00000000-0000-7000-8000-000000000000', 1, 36 - LENGTH(CAST(i AS TEXT))) || i, 'acme-corp', 'read', 'k', 0, @exp + i, (SELECT kid FROM signing_keys), 1, 0 FROM n
                """, new { count = revoked, exp = IssuancePart.Start.ToUnixTimeSeconds() - 60 });
            return 0;
        }, TestContext.Current.CancellationToken);

        var parts = await part.SnapshotPartsAsync();
        // The trust set takes a tenant's place in the first; the second holds the last tenants and the first tokens.
        Assert.Equal([FeedMessage.TenantsPerPart, 4, 0], parts.Select(message => message.Changes.Count));
        Assert.Equal([0, FeedMessage.RevokedPerPart, 5], parts.Select(message => message.Revoked.GetValueOrDefault().Length / RevokedToken.PackedBytes));
        var snapshot = await part.SnapshotAsync();
        Assert.Equal(tenants, snapshot.Changes.Where(change => change.Type == "tenant").Select(change => change.Tenant!.TenantId).Distinct().Count());
        var tokens = snapshot.Changes.Where(change => change.Type == "revoked").Select(change => change.Revoked!).ToList();
        Assert.Equal(revoked, tokens.Select(token => token.Jti).Distinct().Count());
        Assert.All(tokens, token => Assert.Equal(IssuancePart.Start.ToUnixTimeSeconds() - 60 + long.Parse(token.Jti[^6..]), token.Exp));
    }

    [Theory]
    [InlineData("")]
    [InlineData("?since=&hash=")]
    [InlineData("?since=-1&hash=")]
    [InlineData("?since=x&hash=")]
    [InlineData("?since=0")]
    [InlineData("?since=1&since=2&hash=")]
    [InlineData("?since=0&hash=&hash=")]
    [InlineData("?since=99999999999999999999&hash=")]
    public async Task That_says_no_number_or_no_hash_is_told_so(string query)
    {
        await using var part = await IssuancePart.StartAsync();
        using var answer = await part.Gateway.SendAsItselfAsync(HttpMethod.Get, $"/internal/v1/changes{query}", null, TestContext.Current.CancellationToken);
        Assert.Equal(400, (int)answer.StatusCode);
    }

    [Fact]
    public async Task Is_a_gateway_that_speaks_for_itself_and_nobody_else()
    {
        await using var part = await IssuancePart.StartAsync();
        using var ledger = SigningKey.Generate();
        (await part.JoinAsync("service", "ledger", ledger.Public.X, IssuancePart.JoinCode)).EnsureSuccessStatusCode();
        using var service = new GatewayCaller(ledger, "ledger", Issuance.Name, part.Gateway.Client.BaseAddress!, part.Clock);
        foreach (var path in (string[])["/internal/v1/snapshot", "/internal/v1/changes?since=0&hash="])
        {
            using var other = await service.SendAsItselfAsync(HttpMethod.Get, path, null, TestContext.Current.CancellationToken);
            Assert.Equal(403, (int)other.StatusCode);
            Assert.Equal(403, (await part.CallAsync(part.Admin, HttpMethod.Get, path)).Status);
            Assert.Equal(403, (await part.CallAsync(null, HttpMethod.Get, path)).Status);
        }
    }

    [Fact]
    public async Task Is_let_go_when_issuance_stops()
    {
        await using var part = await IssuancePart.StartAsync();
        using var feed = await part.FollowAsync(await part.SnapshotAsync());
        await feed.NextAsync();
        var stopping = part.App.StopAsync(TestContext.Current.CancellationToken);
        await stopping.WaitAsync(TimeSpan.FromSeconds(5), TestContext.Current.CancellationToken);
    }

    [Fact]
    public async Task Wakes_every_process_of_the_database_when_it_has_news_and_not_otherwise()
    {
        Assert.SkipWhen(Stores.ConnectionString is null, "FOUNDRY_TEST_POSTGRES is not set.");
        await using var part = await IssuancePart.StartAsync(Stores.Postgres);
        await using var other = await part.App.Services.GetRequiredService<Journal>().Database.ListenAsync(TestContext.Current.CancellationToken);
        await part.MakeTenantAsync();
        Assert.True(await other.WaitAsync(TimeSpan.FromSeconds(60), TestContext.Current.CancellationToken));
        // A refused change tells nobody, so that the next notice is the next change's.
        Assert.Equal(409, (await part.CallAsync(part.Admin, HttpMethod.Post, "/v1/tenants", new { tenant_id = "acme-corp", display_name = "Acme", max_vms = 1, storage_quota_gb = 1, api_rate_limit_rpm = 60 })).Status);
        Assert.False(await other.WaitAsync(TimeSpan.FromMilliseconds(1), TestContext.Current.CancellationToken));
    }

    [Fact]
    public async Task Of_another_process_on_the_same_database_hears_the_change_too()
    {
        Assert.SkipWhen(Stores.ConnectionString is null, "FOUNDRY_TEST_POSTGRES is not set.");
        await using var part = await IssuancePart.StartAsync(Stores.Postgres, TimeProvider.System);
        await part.MakeTenantAsync();
        var (second, setup, gatewayKey) = await part.SecondAsync();
        await using var running = second;
        await second.StartAsync(setup.Listens, TestContext.Current.CancellationToken);
        Assert.Equal(part.Setup.RootThumbprint, setup.RootThumbprint);
        using var gateway = new GatewayCaller(gatewayKey, "gateway-one", Issuance.Name, new Uri(second.Urls.First()), TimeProvider.System);
        var head = await part.SnapshotAsync();
        using var answer = await gateway.SendAsItselfAsync(HttpMethod.Get, $"/internal/v1/changes?since={head.To}&hash={head.Hash}", null, TestContext.Current.CancellationToken);
        using var feed = new Following(part, answer, new StreamReader(await answer.Content.ReadAsStreamAsync(TestContext.Current.CancellationToken)));
        await part.CallAsync(part.Admin, HttpMethod.Patch, "/v1/tenants/acme-corp", new { max_vms = 3 });
        Assert.Equal(3, Assert.Single((await feed.NewsAsync()).Changes).Tenant!.MaxVms);
        // The first believes the second's key, and both sign with the same key of tokens.
        Assert.Equal(2, (await part.TrustAsync()).Keys.Count(key => key.Name == "issuance" && key.Kind == "service"));
        await second.StopAsync(TestContext.Current.CancellationToken);
    }
}
