using System.Security.Cryptography;
using Foundry.Contracts;
using Foundry.Issuance.Changes;
using Foundry.Issuance.Keys;
using Foundry.Issuance.Tokens;
using Foundry.ServiceDefaults;
using Foundry.Testing;
using Foundry.Tokens;
using Microsoft.Extensions.DependencyInjection;

namespace Foundry.Issuance.Tests;

public sealed class FirstStart
{
    [Theory, MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task Makes_keys_and_an_administrators_token_that_only_their_owner_can_read(string store)
    {
        await using var part = await IssuancePart.StartAsync(store);
        var files = Directory.GetFiles(part.Folder, "*.key", SearchOption.AllDirectories).Append(Path.Combine(part.Folder, "admin.token")).ToList();
        Assert.Equal(5, files.Count);
        if (!OperatingSystem.IsWindows())
        {
            foreach (var file in files)
                Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(file));
            Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute, File.GetUnixFileMode(part.Folder));
        }

        var text = part.ReadAdminTokenText();
        Assert.Null(await part.ReasonAsync(text));
        var token = part.ReadAdminToken();
        Assert.True(SigningKey.TryImport((await File.ReadAllTextAsync(Path.Combine(part.Folder, "admin.key"), TestContext.Current.CancellationToken)).TrimEnd('\n'), out var subject));
        Assert.Equal((null, "service:platform-admin", subject.Public.X, 30 * 86_400L), (token.TenantId, token.Scope, token.SubjectPubkey, token.Exp - token.Iat));
        Assert.Equal(Path.Combine(part.Folder, "admin.token"), part.Setup.AdminTokenFile);
    }

    [Fact]
    public async Task Puts_the_administrators_files_where_it_is_told()
    {
        var admin = Directory.CreateTempSubdirectory("foundry-test-").FullName;
        await using var part = await IssuancePart.StartAsync(settings: new() { ["Issuance:AdminFolder"] = admin });
        Assert.Equal(["admin.key", "admin.token"], Directory.GetFiles(admin).Select(Path.GetFileName).Order());
        Assert.False(File.Exists(Path.Combine(part.Folder, "admin.token")));
        Directory.Delete(admin, recursive: true);
    }
}

public sealed class Restart
{
    [Theory, MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task Keeps_everything(string store)
    {
        await using var part = await IssuancePart.StartAsync(store);
        var made = await part.MakeTenantAsync();
        var (good, bad) = (await part.IssueAsync(part.Admin, "acme-corp", "read"), await part.IssueAsync(part.Admin, "acme-corp", "read"));
        await part.CallAsync(part.Admin, HttpMethod.Delete, $"/v1/tokens/{bad.TokenId}");
        var (snapshot, trust, admin, keys) = (await part.SnapshotAsync(), await part.TrustAsync(), part.ReadAdminTokenText(), await part.JwksAsync());

        await part.RestartAsync();

        Assert.Equal(made.Text, (await part.CallAsync(part.Admin, HttpMethod.Get, "/v1/tenants/acme-corp")).Text);
        Assert.Null(await part.ReasonAsync(good.Token));
        Assert.Equal("revoked", await part.ReasonAsync(bad.Token));
        Assert.Equal(admin, part.ReadAdminTokenText());
        Assert.Equal(keys.ToJwks(), (await part.JwksAsync()).ToJwks());
        Assert.Equal(trust.Keys, (await part.TrustAsync()).Keys);
        Assert.Equal(trust.Seq, (await part.TrustAsync()).Seq);
        var after = await part.SnapshotAsync();
        Assert.Equal(snapshot.To, after.To);
        Assert.Equal(snapshot.Changes, after.Changes);
    }

    [Fact]
    public async Task As_another_issuer_is_refused_by_name()
    {
        await using var part = await IssuancePart.StartAsync(settings: new() { ["Issuance:Issuer"] = "https://api.example.org" });
        await part.StopAsync();
        part.Settings["Issuance:Issuer"] = "https://api.example.com";
        var refused = await Assert.ThrowsAsync<StartupException>(part.OpenAsync);
        Assert.Contains("https://api.example.org", refused.Message, StringComparison.Ordinal);
        part.Settings["Issuance:Issuer"] = "https://api.example.org";
        await part.OpenAsync();
    }

    [Theory]
    [InlineData("Issuance:Issuer", "not a url")]
    [InlineData("Issuance:Issuer", "ftp://example.org")]
    [InlineData("Issuance:ChangesKept", "1")]
    [InlineData("Issuance:ChangesKept", "many")]
    [InlineData("Issuance:TokensKept", "00:59:00")]
    [InlineData("Issuance:TokensKept", "forever")]
    [InlineData("Issuance:DefaultTenant", "Acme")]
    [InlineData("Issuance:Listen", "http://0.0.0.0:9210")]
    [InlineData("Issuance:Lisen", "http://127.0.0.1:9210")]
    public async Task With_a_setting_that_will_not_do_is_refused_by_its_name(string key, string value)
    {
        await using var part = await IssuancePart.StartAsync();
        await part.StopAsync();
        part.Settings[key] = value;
        var refused = await Assert.ThrowsAnyAsync<StartupException>(part.OpenAsync);
        Assert.Contains(key.Split(':')[1], refused.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Cut_short_at_the_first_start_founds_the_same_platform()
    {
        await using var part = await IssuancePart.StartAsync();
        var root = part.Setup.RootThumbprint;
        await part.StopAsync();
        // As the process that founded it would have left it just before the last step.
        File.Move(Path.Combine(part.Folder, "root.key"), Path.Combine(part.Folder, "root.key.first"));
        await part.OpenAsync();
        Assert.Equal(root, part.Setup.RootThumbprint);
        Assert.True(File.Exists(Path.Combine(part.Folder, "root.key")));
    }
}

public sealed class DamagedState
{
    private static readonly string OtherKey = SigningKey.Generate().ExportSeed() + "\n";

    public static TheoryData<string, string> Damages => new()
    {
        { "root.key", "missing" },
        { "root.key", "garbage" },
        { "root.key", "cut" },
        { "root.key", "empty" },
        { "root.key", "other" },
        { "service.key", "missing" },
        { "service.key", "garbage" },
        { "service.key", "empty" },
        { "tokens.keys/*.key", "missing" },
        { "tokens.keys/*.key", "garbage" },
        { "tokens.keys/*.key", "other" },
        { "admin.key", "garbage" },
        { "admin.token", "garbage" },
        { "admin.token", "cut" },
        { "issuance.db", "missing" },
        { "issuance.db", "garbage" },
        { "issuance.db", "empty" },
        { "issuance.db", "cut" },
    };

    [Theory, MemberData(nameof(Damages))]
    public async Task Stops_the_start_with_the_files_name_and_changes_nothing(string file, string damage)
    {
        await using var part = await IssuancePart.StartAsync();
        await part.MakeTenantAsync();
        await part.StopAsync();
        var path = file.Contains('*', StringComparison.Ordinal) ? Directory.GetFiles(Path.Combine(part.Folder, "tokens.keys")).Single() : Path.Combine(part.Folder, file);
        var bytes = await File.ReadAllBytesAsync(path, TestContext.Current.CancellationToken);
        if (damage == "missing")
            File.Delete(path);
        else
            await File.WriteAllBytesAsync(path, damage switch
            {
                "garbage" => RandomNumberGenerator.GetBytes(bytes.Length),
                "empty" => [],
                "cut" => bytes[..(bytes.Length / 2 + 1)],
                _ => System.Text.Encoding.ASCII.GetBytes(OtherKey),
            }, TestContext.Current.CancellationToken);
        var before = Content(part.Folder);

        var refused = await Assert.ThrowsAsync<StateCorruptException>(part.OpenAsync);

        Assert.Equal(path, refused.File);
        Assert.Equal(before, Content(part.Folder));
        // Mended, it is all there again.
        await File.WriteAllBytesAsync(path, bytes, TestContext.Current.CancellationToken);
        await part.OpenAsync();
        Assert.Equal(200, (await part.CallAsync(part.Admin, HttpMethod.Get, "/v1/tenants/acme-corp")).Status);
    }

    [Fact]
    public async Task Of_an_emptied_postgres_is_not_taken_for_a_new_platform()
    {
        Assert.SkipWhen(Stores.ConnectionString is null, "FOUNDRY_TEST_POSTGRES is not set.");
        await using var part = await IssuancePart.StartAsync(Stores.Postgres);
        await part.StopAsync();
        var schema = $"t{Guid.NewGuid():N}";
        part.Settings["Issuance:Database"] = Stores.Of(Stores.Postgres, schema);
        await Assert.ThrowsAsync<StateCorruptException>(part.OpenAsync);
        await Stores.DropAsync(schema, StateFolder.Open(part.Folder));
    }

    private static List<string> Content(string folder) =>
        [.. Directory.GetFiles(folder, "*", SearchOption.AllDirectories).Order(StringComparer.Ordinal).Select(file => $"{file} {Convert.ToHexString(SHA256.HashData(File.ReadAllBytes(file)))}")];
}

public sealed class AdministratorsToken
{
    [Theory, MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task Is_renewed_with_a_week_left_and_the_old_one_revoked_a_day_later(string store)
    {
        await using var part = await IssuancePart.StartAsync(store);
        var old = (Text: part.ReadAdminTokenText(), Token: part.ReadAdminToken());
        using var feed = await part.FollowAsync(await part.SnapshotAsync());
        part.Time.Advance(TimeSpan.FromDays(22));
        await LookAsync(part);
        Assert.Equal(old.Text, part.ReadAdminTokenText());
        part.Time.Advance(TimeSpan.FromDays(1));
        await LookAsync(part);
        var renewed = part.ReadAdminToken();
        Assert.NotEqual(old.Token.Jti, renewed.Jti);
        Assert.Equal((old.Token.SubjectPubkey, 30 * 86_400L), (renewed.SubjectPubkey, renewed.Exp - renewed.Iat));
        Assert.Null(await part.ReasonAsync(old.Text));
        await LookAsync(part);
        Assert.Equal(renewed.Jti, part.ReadAdminToken().Jti);
        // By the clock alone.
        part.Time.Advance(TimeSpan.FromHours(24));
        Assert.Equal(new Change("revoked", Revoked: new RevokedToken(old.Token.Jti, old.Token.Exp)), Assert.Single((await feed.NewsAsync()).Changes));
        Assert.Equal("revoked", await part.ReasonAsync(old.Text));
        Assert.Equal(renewed.Jti, part.ReadAdminToken().Jti);
    }

    [Fact]
    public async Task That_is_missing_is_written_anew_and_the_lost_one_revoked()
    {
        await using var part = await IssuancePart.StartAsync();
        var lost = part.ReadAdminTokenText();
        await part.StopAsync();
        File.Delete(Path.Combine(part.Folder, "admin.token"));
        await part.OpenAsync();
        Assert.Equal("revoked", await part.ReasonAsync(lost));
        Assert.Null(await part.ReasonAsync(part.ReadAdminTokenText()));
    }

    [Fact]
    public async Task That_was_revoked_is_written_anew()
    {
        await using var part = await IssuancePart.StartAsync();
        var revoked = part.Admin.TokenId;
        Assert.Equal(204, (await part.CallAsync(part.Admin, HttpMethod.Delete, $"/v1/tokens/{revoked}")).Status);
        await part.RestartAsync();
        Assert.NotEqual(revoked, part.Admin.TokenId);
        Assert.Null(await part.ReasonAsync(part.ReadAdminTokenText()));
    }

    [Fact]
    public async Task That_has_expired_while_nothing_ran_is_written_anew()
    {
        await using var part = await IssuancePart.StartAsync();
        var expired = part.Admin.TokenId;
        await part.StopAsync();
        part.Time.Advance(TimeSpan.FromDays(40));
        await part.OpenAsync();
        Assert.NotEqual(expired, part.Admin.TokenId);
        Assert.Null(await part.ReasonAsync(part.ReadAdminTokenText()));
    }

    [Fact]
    public async Task Whose_key_was_lost_is_replaced_together_with_it()
    {
        await using var part = await IssuancePart.StartAsync();
        var (old, subject) = (part.ReadAdminTokenText(), part.Admin.SubjectPubkey);
        await part.StopAsync();
        File.Delete(Path.Combine(part.Folder, "admin.key"));
        await part.OpenAsync();
        Assert.NotEqual(subject, part.Admin.SubjectPubkey);
        Assert.Equal("revoked", await part.ReasonAsync(old));
        Assert.Null(await part.ReasonAsync(part.ReadAdminTokenText()));
    }

    [Fact]
    public async Task Whose_renewal_was_cut_short_before_the_file_was_written_is_written_then()
    {
        await using var part = await IssuancePart.StartAsync();
        var old = part.ReadAdminTokenText();
        part.Time.Advance(TimeSpan.FromDays(24));
        await LookAsync(part);
        var renewed = part.ReadAdminTokenText();
        await part.StopAsync();
        await File.WriteAllTextAsync(Path.Combine(part.Folder, "admin.token"), old + "\n", TestContext.Current.CancellationToken);
        await part.OpenAsync();
        Assert.Equal(renewed, part.ReadAdminTokenText());
        Assert.Null(await part.ReasonAsync(renewed));
        part.Time.Advance(TimeSpan.FromDays(1));
        await part.UntilAsync(async () => await part.ReasonAsync(old) == "revoked");
        Assert.Null(await part.ReasonAsync(renewed));
    }

    [Fact]
    public async Task Of_two_processes_whose_folders_were_copied_is_one_for_both()
    {
        await using var part = await IssuancePart.StartAsync();
        using var copy = new TempFolder();
        foreach (var file in (string[])["admin.key", "admin.token"])
            File.Copy(Path.Combine(part.Folder, file), Path.Combine(copy.Path, file));
        var services = part.App.Services;
        using var others = new Foundry.Issuance.Admin.AdminToken(StateFolder.Open(copy.Path), services.GetRequiredService<Journal>(), services.GetRequiredService<TokenMint>(), services.GetRequiredService<SigningKeys>());
        var old = part.ReadAdminTokenText();
        part.Time.Advance(TimeSpan.FromDays(24));
        await LookAsync(part);
        Assert.NotEqual(old, part.ReadAdminTokenText());
        for (var round = 0; round < 3; round++)
        {
            await others.EnsureAsync(TestContext.Current.CancellationToken);
            await LookAsync(part);
            Assert.Equal(part.ReadAdminTokenText(), File.ReadAllText(others.Path).TrimEnd('\n'));
            Assert.Null(await part.ReasonAsync(part.ReadAdminTokenText()));
        }
        Assert.Equal(2, await Rows.ReadAsync<long>(part, "SELECT COUNT(*) FROM tokens WHERE in_admin_file = 1"));
    }

    private static Task LookAsync(IssuancePart part) =>
        ((Foundry.Issuance.Admin.AdminRenewal)part.App.Services.GetService(typeof(Foundry.Issuance.Admin.AdminRenewal))!).LookAsync(TestContext.Current.CancellationToken);
}

public sealed class AdministratorsReset
{
    [Theory, MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task Revokes_every_platform_administrators_token_and_every_open_code_and_writes_a_new_token(string store)
    {
        await using var part = await IssuancePart.StartAsync(store);
        await part.MakeTenantAsync();
        var own = part.ReadAdminTokenText();
        var stolen = await part.IssueAsync(part.Admin, null, "service:platform-admin");
        var tenants = await part.IssueAsync(part.Admin, "acme-corp", "service:tenant-admin");
        var code = (await part.CallAsync(part.Admin, HttpMethod.Post, "/v1/parts/codes", new { kind = "gateway", name = "gateway-two" })).Json.GetProperty("code").GetString();
        var head = await part.SnapshotAsync();
        await part.StopAsync();

        Assert.Equal(Path.Combine(part.Folder, "admin.token"), await Issuance.ResetAdministratorAsync(part.Configuration(part.Folder), part.Clock));

        await part.OpenAsync();
        Assert.Equal(("revoked", "revoked", null, null), (await part.ReasonAsync(own), await part.ReasonAsync(stolen.Token), await part.ReasonAsync(tenants.Token), await part.ReasonAsync(part.ReadAdminTokenText())));
        Assert.Equal(200, (await part.CallAsync(part.Admin, HttpMethod.Get, "/v1/tenants")).Status);
        // Gateways hear of it, and the ledger has it.
        using var feed = await part.FollowAsync(head);
        var revoked = new List<string>();
        while (revoked.Count < 2)
            revoked.AddRange((await feed.NewsAsync()).Changes.Where(change => change.Type == "revoked").Select(change => change.Revoked!.Jti));
        Assert.Contains(stolen.TokenId, revoked);
        await part.Ledger.WaitAsync(ledger => ledger.Entries.Count(entry => entry.Log == Logs.Platform && entry.Type == EventTypes.TokenRevoked) == 2, TestContext.Current.CancellationToken);
        using var key = SigningKey.Generate();
        using var joined = await part.JoinAsync("gateway", "gateway-two", key.Public.X, code);
        Assert.Equal(401, (int)joined.StatusCode);
    }

    [Fact]
    public async Task Mends_a_token_file_that_stops_the_start()
    {
        await using var part = await IssuancePart.StartAsync();
        await part.StopAsync();
        await File.WriteAllTextAsync(Path.Combine(part.Folder, "admin.token"), "not a token\n", TestContext.Current.CancellationToken);
        await Assert.ThrowsAsync<StateCorruptException>(part.OpenAsync);
        await Issuance.ResetAdministratorAsync(part.Configuration(part.Folder), part.Clock);
        await part.OpenAsync();
        Assert.Null(await part.ReasonAsync(part.ReadAdminTokenText()));
    }

    [Fact]
    public async Task Is_refused_where_there_is_no_platform_or_another_process_has_it()
    {
        await using var part = await IssuancePart.StartAsync();
        var nowhere = Path.Combine(part.Folder, "..", "nowhere");
        Assert.Contains("no platform", (await Assert.ThrowsAsync<StartupException>(() => Issuance.ResetAdministratorAsync(part.Configuration(nowhere), part.Clock))).Message, StringComparison.Ordinal);
        Assert.DoesNotContain(Directory.GetFiles(nowhere), file => file.EndsWith(".key", StringComparison.Ordinal));
        await part.StopAsync();
        var before = part.ReadAdminTokenText();
        using (StateFolder.Open(part.Folder).Lock())
            Assert.Contains("in use", (await Assert.ThrowsAsync<StartupException>(() => Issuance.ResetAdministratorAsync(part.Configuration(part.Folder), part.Clock))).Message, StringComparison.Ordinal);
        Assert.Equal(before, part.ReadAdminTokenText());
    }
}
