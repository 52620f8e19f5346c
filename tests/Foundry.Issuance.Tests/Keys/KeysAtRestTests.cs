using System.Security.Cryptography;
using System.Text.Json;
using Foundry.Contracts;
using Foundry.ServiceDefaults;
using Foundry.Testing;
using Foundry.Tokens;

namespace Foundry.Issuance.Tests.Keys;

public sealed class EncryptedKeys
{
    [Theory, MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task Are_those_of_a_platform_that_has_a_passphrase_from_the_start(string store)
    {
        using var passphrase = new Secret();
        await using var part = await IssuancePart.StartAsync(store, settings: passphrase.Settings);
        Assert.Equal(["admin.key"], InTheClear(part));
        // With PostgreSQL the keys that sign tokens are in the database, for all processes.
        Assert.Equal(store == Stores.Sqlite ? 1 : 0, Directory.GetFiles(Path.Combine(part.Folder, "tokens.keys")).Length);
        var token = part.ReadAdminTokenText();
        await part.RestartAsync();
        Assert.Null(await part.ReasonAsync(token));
        Assert.Null(await part.ReasonAsync((await part.IssueAsync(part.Admin, null, "service:platform-admin")).Token));
    }

    [Theory, MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task Are_those_of_a_platform_that_is_given_a_passphrase_later_and_never_the_other_way(string store)
    {
        using var passphrase = new Secret();
        await using var part = await IssuancePart.StartAsync(store);
        var (token, root) = (part.ReadAdminTokenText(), part.Setup.RootThumbprint);
        await part.StopAsync();
        part.Settings["Keys:PassphraseFile"] = passphrase.File;
        await part.OpenAsync();
        using (var look = new PeriodicTimer(TimeSpan.FromMilliseconds(50)))
        {
            // Into the database they go once the process runs.
            for (var attempt = 0; attempt < 1200 && InTheClear(part).Count > 1; attempt++)
                await look.WaitForNextTickAsync(TestContext.Current.CancellationToken);
        }
        Assert.Equal(["admin.key"], InTheClear(part));
        Assert.Equal(root, part.Setup.RootThumbprint);
        await part.RestartAsync();
        Assert.Null(await part.ReasonAsync(token));
        Assert.Null(await part.ReasonAsync((await part.IssueAsync(part.Admin, null, "service:platform-admin")).Token));

        await part.StopAsync();
        part.Settings.Remove("Keys:PassphraseFile");
        var refused = await Assert.ThrowsAsync<StateCorruptException>(part.OpenAsync);
        Assert.Contains("Keys:PassphraseFile", refused.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("root.key")]
    [InlineData("service.key")]
    [InlineData("tokens.keys/*.key")]
    public async Task With_a_wrong_passphrase_stop_the_start_by_name_and_nothing_is_encrypted_with_it(string file)
    {
        using var passphrase = new Secret();
        using var wrong = new Secret("another passphrase of some length");
        await using var part = await IssuancePart.StartAsync(settings: passphrase.Settings);
        await part.StopAsync();
        // All but this one are in the clear, as from an old backup.
        var encrypted = Directory.GetFiles(part.Folder, "*.key", SearchOption.AllDirectories).Single(path => Matches(path, file));
        foreach (var path in Directory.GetFiles(part.Folder, "*.key", SearchOption.AllDirectories).Where(path => path != encrypted && !path.EndsWith("admin.key", StringComparison.Ordinal)))
        {
            Assert.True(KeyPassphrase.TryOpen(await File.ReadAllTextAsync(path, TestContext.Current.CancellationToken), passphrase.Read(), out var key, out _));
            await File.WriteAllTextAsync(path, key.ExportSeed() + "\n", TestContext.Current.CancellationToken);
        }
        var before = Content(part.Folder);
        part.Settings["Keys:PassphraseFile"] = wrong.File;
        var refused = await Assert.ThrowsAsync<StateCorruptException>(part.OpenAsync);
        Assert.Equal(encrypted, refused.File);
        Assert.Equal(before, Content(part.Folder));

        static bool Matches(string path, string file) => file.Contains('*', StringComparison.Ordinal) ? path.Contains("tokens.keys", StringComparison.Ordinal) : Path.GetFileName(path) == file;
    }

    [Fact]
    public async Task In_PostgreSQL_let_every_process_sign_after_a_rotation()
    {
        Assert.SkipWhen(Stores.ConnectionString is null, "FOUNDRY_TEST_POSTGRES is not set.");
        using var passphrase = new Secret();
        await using var part = await IssuancePart.StartAsync(Stores.Postgres, settings: passphrase.Settings);
        var (app, setup, gatewayKey) = await part.SecondAsync();
        await using var second = app;
        await second.StartAsync(setup.Listens, TestContext.Current.CancellationToken);
        using var gateway = new GatewayCaller(gatewayKey, "gateway-one", Issuance.Name, new Uri(second.Urls.First()), part.Clock);

        // Each way round, and the first again after the second's.
        await RotateAsync(part.Gateway);
        var made = await CurrentAsync(part);
        Assert.Equal((made, made), (KidOf(await IssueAsync(part.Gateway)), KidOf(await IssueAsync(gateway))));
        await RotateAsync(gateway);
        var next = await CurrentAsync(part);
        Assert.NotEqual(made, next);
        Assert.Equal((next, next), (KidOf(await IssueAsync(gateway)), KidOf(await IssueAsync(part.Gateway))));
        await second.StopAsync(TestContext.Current.CancellationToken);

        async Task RotateAsync(GatewayCaller through)
        {
            using var answer = await through.SendAsync(part.Admin, HttpMethod.Post, "/v1/keys/rotate", null, TestContext.Current.CancellationToken);
            Assert.Equal(200, (int)answer.StatusCode);
            part.Time.Advance(TimeSpan.FromSeconds(6));
        }

        async Task<string> IssueAsync(GatewayCaller through)
        {
            using var subject = SigningKey.Generate();
            using var answer = await through.SendAsync(part.Admin, HttpMethod.Post, "/v1/tokens",
                JsonSerializer.Serialize(new { subject_pubkey = subject.Public.X, scope = "service:platform-admin", expires_in_seconds = 60 }), TestContext.Current.CancellationToken);
            Assert.Equal(201, (int)answer.StatusCode);
            return JsonSerializer.Deserialize(await answer.Content.ReadAsStringAsync(TestContext.Current.CancellationToken), WireJson.Default.IssuedToken)!.Token;
        }

        static async Task<string> CurrentAsync(IssuancePart part) => KidOf((await part.IssueAsync(part.Admin, null, "service:platform-admin")).Token);
    }

    private static string KidOf(string token) => Jws.TryParse(token, CapabilityToken.Typ, out var jws, out _) ? jws.Kid : throw new InvalidOperationException();

    private static List<string?> InTheClear(IssuancePart part) =>
        [.. Directory.GetFiles(part.Folder, "*.key", SearchOption.AllDirectories).Where(file => KeyPassphrase.IsPlain(File.ReadAllText(file))).Select(Path.GetFileName).Order()];

    private static List<string> Content(string folder) =>
        [.. Directory.GetFiles(folder, "*", SearchOption.AllDirectories).Order(StringComparer.Ordinal).Select(file => $"{file} {Convert.ToHexString(SHA256.HashData(File.ReadAllBytes(file)))}")];
}

public sealed class MountedKeys : IDisposable
{
    private readonly TempFolder _mounted = new();

    [Theory, MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task Are_known_by_what_is_in_them_and_a_new_file_is_what_a_rotation_takes(string store)
    {
        var first = Mount("whatever.pem");
        await using var part = await IssuancePart.StartAsync(store, settings: Settings());
        Assert.Equal(first, Assert.Single((await part.JwksAsync()).Keys).Kid);
        var none = await part.CallAsync(part.Admin, HttpMethod.Post, "/v1/keys/rotate", "{}");
        Assert.Equal((409, "no_new_key"), (none.Status, none.Code));
        none = await part.CallAsync(part.Admin, HttpMethod.Post, "/v1/keys/rotate", """{"compromised":true}""");
        Assert.Equal((409, "no_new_key"), (none.Status, none.Code));

        await part.StopAsync();
        File.Move(_mounted.File("whatever.pem"), _mounted.File("..renamed"));
        File.Move(_mounted.File("..renamed"), _mounted.File("renamed"));
        await part.OpenAsync();
        var second = Mount("another");
        Assert.Equal(200, (await part.CallAsync(part.Admin, HttpMethod.Post, "/v1/keys/rotate")).Status);
        Assert.Equal(new[] { first, second }.Order(), (await part.JwksAsync()).Keys.Select(key => key.Kid).Order());
        part.Time.Advance(TimeSpan.FromSeconds(6));
        var token = await part.IssueAsync(part.Admin, null, "service:platform-admin");
        Assert.True(CapabilityToken.TryVerify(token.Token, await part.JwksAsync(), out _, out _));
        Assert.Equal(second, KidOf(token.Token));
        Assert.Equal(409, (await part.CallAsync(part.Admin, HttpMethod.Post, "/v1/keys/rotate")).Status);
        // The folder is somebody else's: nothing in it is written or taken away, and nothing is kept elsewhere.
        Assert.Equal(["another", "renamed"], Directory.GetFiles(_mounted.Path).Select(Path.GetFileName).Order());
        Assert.False(Directory.Exists(Path.Combine(part.Folder, "tokens.keys")) && Directory.GetFiles(Path.Combine(part.Folder, "tokens.keys")).Length > 0);
    }

    [Fact]
    public async Task That_are_no_keys_stop_a_rotation_and_change_nothing()
    {
        var first = Mount("1");
        await using var part = await IssuancePart.StartAsync(settings: Settings());
        await File.WriteAllTextAsync(_mounted.File("2"), "half of a ke", TestContext.Current.CancellationToken);
        var refused = await part.CallAsync(part.Admin, HttpMethod.Post, "/v1/keys/rotate");
        Assert.Equal((409, "no_new_key"), (refused.Status, refused.Code));
        Assert.DoesNotContain(_mounted.Path, refused.Text, StringComparison.Ordinal);
        Assert.Equal(first, Assert.Single((await part.JwksAsync()).Keys).Kid);
    }

    [Fact]
    public async Task That_are_not_there_stop_the_start()
    {
        var refused = await Assert.ThrowsAsync<StartupException>(() => IssuancePart.StartAsync(settings: Settings()));
        Assert.Contains("Issuance:KeysFolder", refused.Message, StringComparison.Ordinal);
        var kid = Mount("1");
        await using var part = await IssuancePart.StartAsync(settings: Settings());
        await part.StopAsync();
        File.Delete(_mounted.File("1"));
        Mount("2");
        Assert.Contains(kid, (await Assert.ThrowsAsync<StateCorruptException>(part.OpenAsync)).Message, StringComparison.Ordinal);
    }

    public void Dispose() => _mounted.Dispose();

    private Dictionary<string, string?> Settings() => new() { ["Issuance:KeysFolder"] = _mounted.Path };

    private string Mount(string name)
    {
        using var key = SigningKey.Generate();
        File.WriteAllText(_mounted.File(name), key.ExportSeed() + "\n");
        return key.Kid;
    }

    private static string KidOf(string token) => Jws.TryParse(token, CapabilityToken.Typ, out var jws, out _) ? jws.Kid : throw new InvalidOperationException();
}

/// <summary>A passphrase in a file.</summary>
internal sealed class Secret : IDisposable
{
    private readonly TempFolder _temp = new();

    public Secret(string text = "a passphrase of some length") => System.IO.File.WriteAllText(File, text + "\n");

    public string File => _temp.File("passphrase");

    public Dictionary<string, string?> Settings => new() { ["Keys:PassphraseFile"] = File };

    public KeyPassphrase? Read() => KeyPassphrase.Read(new Microsoft.Extensions.Configuration.ConfigurationManager { ["Keys:PassphraseFile"] = File });

    public void Dispose() => _temp.Dispose();
}
