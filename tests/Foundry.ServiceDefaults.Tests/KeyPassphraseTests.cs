using System.Diagnostics;
using System.Security.Cryptography;
using Foundry.Testing;
using Foundry.Tokens;
using Microsoft.Extensions.Configuration;

namespace Foundry.ServiceDefaults.Tests;

public sealed class KeyAtRest : IDisposable
{
    // RFC 8032 section 7.1, test 1, as OpenSSL 3.0 wrote it: in PKCS#8, and that with its own defaults and the passphrase below.
    private const string Seed = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A";
    private const string Secret = "a passphrase of some length";
    private const string Plain = "MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g";
    private const string Encrypted = "MIGbMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAiqWd2ZWyTw7AICCAAwDAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEEPHq19nceP/eFNYGZGdZUOUEQIV9"
        + "diu8ke6de1DuTapMZmD2g5575+6BIRjJmmtJuy8NbTyn7zG422N7Kb+ngYU7rbjiF/hh96xCt+6qzBEKUhE=";
    private static readonly string PlainPem = PemEncoding.WriteString("PRIVATE KEY", Convert.FromBase64String(Plain)) + "\n";
    private static readonly string EncryptedPem = PemEncoding.WriteString("ENCRYPTED PRIVATE KEY", Convert.FromBase64String(Encrypted)) + "\n";

    public static TheoryData<string> Forms => new(Seed + "\n", PlainPem, EncryptedPem);

    private readonly TempFolder _temp = new();

    [Theory, MemberData(nameof(Forms))]
    public void Is_read_in_each_of_its_forms(string content)
    {
        var folder = StateFolder.Open(_temp.File("state"), Passphrase(Secret));
        File.WriteAllText(folder.File("service.key"), content);
        using var key = folder.SigningKey("service.key");
        Assert.Equal(Seed, key.ExportSeed());
    }

    [Fact]
    public void Is_written_encrypted_for_its_owner_alone()
    {
        var folder = StateFolder.Open(_temp.File("state"), Passphrase(Secret));
        using var made = folder.SigningKey("service.key");
        using var read = folder.SigningKey("service.key");
        Assert.Equal(made.Kid, read.Kid);
        var text = File.ReadAllText(folder.File("service.key"));
        Assert.StartsWith("-----BEGIN ENCRYPTED", text, StringComparison.Ordinal);
        Assert.DoesNotContain(made.ExportSeed(), text, StringComparison.Ordinal);
        var der = Convert.ToHexString(Convert.FromBase64String(string.Concat(text.Split('\n')[1..^2])));
        Assert.Contains("2A864886F70D01050D", der, StringComparison.Ordinal); // PBES2
        Assert.Contains("02030927C0", der, StringComparison.Ordinal); // INTEGER 600,000
        Assert.Contains("2A864886F70D0209", der, StringComparison.Ordinal); // hmacWithSHA256
        Assert.Contains("60864801650304012A", der, StringComparison.Ordinal); // aes256-CBC
        if (!OperatingSystem.IsWindows())
            Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(folder.File("service.key")));
    }

    [Fact]
    public async Task Goes_to_openssl_and_comes_back()
    {
        Assert.SkipWhen(OpenSsl is null && Environment.GetEnvironmentVariable("CI") != "true", "There is no openssl on this machine.");
        var folder = StateFolder.Open(_temp.File("state"), Passphrase(Secret));
        using var made = folder.SigningKey("ours.key");
        await OpenSslAsync($"pkey -in {folder.File("ours.key")} -passin file:{_temp.File("passphrase")} -out {_temp.File("plain.pem")}");
        Assert.True(KeyPassphrase.TryOpen(await File.ReadAllTextAsync(_temp.File("plain.pem"), TestContext.Current.CancellationToken), null, out var ours, out _));
        using (ours)
            Assert.Equal(made.Kid, ours.Kid);

        await OpenSslAsync($"genpkey -algorithm ed25519 -aes-256-cbc -pass file:{_temp.File("passphrase")} -out {folder.File("theirs.key")}");
        using var theirs = folder.ReadKey("theirs.key");
        await OpenSslAsync($"pkey -in {folder.File("theirs.key")} -passin file:{_temp.File("passphrase")} -pubout -outform DER -out {_temp.File("public.der")}");
        Assert.Equal(theirs!.Public.X, Base64UrlText.Encode((await File.ReadAllBytesAsync(_temp.File("public.der"), TestContext.Current.CancellationToken)).AsSpan(^VerifyingKey.KeyBytes..)));
    }

    [Theory]
    [InlineData("another passphrase of some length", "does not open it")]
    [InlineData(null, "Keys:PassphraseFile")]
    public void With_another_passphrase_or_none_stops_the_start_with_its_name_and_stays(string? secret, string says)
    {
        File.WriteAllText(StateFolder.Open(_temp.File("state")).File("service.key"), EncryptedPem);
        var folder = StateFolder.Open(_temp.File("state"), secret is null ? null : Passphrase(secret));
        var fault = Assert.Throws<StateCorruptException>(() => folder.SigningKey("service.key"));
        Assert.Equal(folder.File("service.key"), fault.File);
        Assert.Contains(says, fault.Message, StringComparison.Ordinal);
        Assert.DoesNotContain(Secret, fault.Message, StringComparison.Ordinal);
        Assert.Equal(EncryptedPem, File.ReadAllText(folder.File("service.key")));
    }

    [Fact]
    public void Of_another_kind_is_refused()
    {
        using var other = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        Assert.False(KeyPassphrase.TryOpen(other.ExportPkcs8PrivateKeyPem(), null, out _, out var why));
        Assert.Contains("not an Ed25519 key", why, StringComparison.Ordinal);
        Assert.False(KeyPassphrase.TryOpen(new string('A', KeyPassphrase.KeyCharsMax + 1), null, out _, out _));
    }

    [Fact]
    public void In_the_clear_is_encrypted_where_there_is_a_passphrase_and_never_the_other_way()
    {
        var plain = StateFolder.Open(_temp.File("state"));
        using var service = plain.SigningKey("service.key");
        using var admin = plain.SigningKey("admin.key");
        Assert.Empty(plain.EncryptKeys());

        var folder = StateFolder.Open(plain.Path, Passphrase(Secret));
        Assert.Equal([folder.File("service.key")], folder.EncryptKeys("admin.key"));
        Assert.StartsWith("-----BEGIN ENCRYPTED", folder.Read("service.key"), StringComparison.Ordinal);
        Assert.Equal(admin.ExportSeed() + "\n", folder.Read("admin.key"));
        using var again = folder.SigningKey("service.key");
        Assert.Equal(service.Kid, again.Kid);
        Assert.Empty(folder.EncryptKeys("admin.key"));
        Assert.Equal(["admin.key", "service.key"], Directory.GetFiles(folder.Path).Select(Path.GetFileName).Order());
    }

    [Theory]
    [InlineData("")]
    [InlineData("too short\n")]
    [InlineData("a passphrase of\ntwo lines\n")]
    [InlineData(null)]
    public void Has_no_passphrase_that_is_not_one_line_of_a_sensible_length(string? content)
    {
        if (content is not null)
            File.WriteAllText(_temp.File("passphrase"), content);
        var refused = Assert.Throws<StartupException>(() => KeyPassphrase.Read(Settings("Keys:PassphraseFile", _temp.File("passphrase"))));
        Assert.Contains(_temp.File("passphrase"), refused.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Has_no_passphrase_by_a_misspelt_setting() =>
        Assert.Contains("Keys:PassphraseFile", Assert.Throws<StartupException>(() => KeyPassphrase.Read(Settings("Keys:PassphrasFile", "x"))).Message, StringComparison.Ordinal);

    public void Dispose() => _temp.Dispose();

    private static string? OpenSsl => (Environment.GetEnvironmentVariable("PATH") ?? "").Split(Path.PathSeparator).Select(folder => Path.Combine(folder, "openssl")).FirstOrDefault(File.Exists);

    private KeyPassphrase Passphrase(string secret)
    {
        File.WriteAllText(_temp.File("passphrase"), secret + "\n");
        return KeyPassphrase.Read(Settings("Keys:PassphraseFile", _temp.File("passphrase")))!;
    }

    private static IConfiguration Settings(string name, string value) => new ConfigurationBuilder().AddInMemoryCollection([new(name, value)]).Build();

    private static async Task OpenSslAsync(string arguments)
    {
        using var process = Process.Start(new ProcessStartInfo(OpenSsl!, arguments) { RedirectStandardError = true })!;
        var said = await process.StandardError.ReadToEndAsync(TestContext.Current.CancellationToken);
        await process.WaitForExitAsync(TestContext.Current.CancellationToken);
        Assert.True(process.ExitCode == 0, said);
    }
}
