using System.Text.Json;
using Foundry.Tokens;

namespace Foundry.Cli.Tests;

public sealed class Keys
{
    private const UnixFileMode OwnerOnly = UnixFileMode.UserRead | UnixFileMode.UserWrite;

    // RFC 8032 section 7.1, test 1; the thumbprint is RFC 8037 appendix A.3's.
    private const string Seed = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A";
    private const string PublicKey = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

    [Fact]
    public async Task New_writes_a_seed_that_only_its_owner_can_read()
    {
        using var line = new CommandLine();
        var path = line.File("alice.key");
        var ran = await line.RunAsync("keys", "new", "--out", path);
        Assert.Equal(ExitCode.Done, ran.Exit);
        Assert.Equal(OwnerOnly, CommandLine.ModeOf(path));
        var text = await File.ReadAllTextAsync(path, TestContext.Current.CancellationToken);
        Assert.Equal(44, text.Length);
        Assert.EndsWith("\n", text, StringComparison.Ordinal);
        Assert.True(SigningKey.TryImport(text.TrimEnd('\n'), out var key));
        using (key)
            Assert.Contains(key.Public.X, ran.Output, StringComparison.Ordinal);
        Assert.DoesNotContain(text.TrimEnd('\n'), ran.Output + ran.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task New_makes_another_key_each_time()
    {
        using var line = new CommandLine();
        var first = await line.RunAsync("keys", "new", "--out", line.File("1"));
        var second = await line.RunAsync("keys", "new", "--out", line.File("2"));
        Assert.NotEqual(first.Output, second.Output);
    }

    [Fact]
    public async Task New_overwrites_nothing()
    {
        using var line = new CommandLine();
        var path = line.Write("alice.key", "what was there");
        var ran = await line.RunAsync("keys", "new", "--out", path);
        Assert.Equal((ExitCode.Failed, ""), (ran.Exit, ran.Output));
        Assert.Contains("exists, and nothing is overwritten", ran.Error, StringComparison.Ordinal);
        Assert.Equal("what was there", await File.ReadAllTextAsync(path, TestContext.Current.CancellationToken));
    }

    [Fact]
    public async Task New_where_nothing_can_be_written_says_so()
    {
        using var line = new CommandLine();
        var ran = await line.RunAsync("keys", "new", "--out", line.File("no/such/folder/key"));
        Assert.Equal(ExitCode.Failed, ran.Exit);
        Assert.Contains("cannot be made", ran.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Show_prints_the_public_half_in_every_spelling()
    {
        using var line = new CommandLine();
        var path = line.Write("alice.key", Seed + "\n");
        var ran = await line.RunAsync("keys", "show", path);
        Assert.Equal("""
            public key  11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo
            hex         d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a
            thumbprint  kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k

            """, ran.Output);
        Assert.Equal("", ran.Error);
    }

    [Fact]
    public async Task Show_as_json()
    {
        using var line = new CommandLine();
        var ran = await line.RunAsync("keys", "show", line.Write("alice.key", Seed), "-o", "json");
        Assert.Equal(PublicKey, JsonElement.Parse(ran.Output).GetProperty("public_key").GetString());
    }

    [Fact]
    public async Task A_file_that_others_can_read_is_warned_of()
    {
        using var line = new CommandLine();
        var path = line.Write("alice.key", Seed, OwnerOnly | UnixFileMode.OtherRead);
        var ran = await line.RunAsync("keys", "show", path);
        Assert.Equal(ExitCode.Done, ran.Exit);
        Assert.Equal($"foundry: {path} can be read by others: chmod 600 {path}\n", ran.Error);
    }

    [Theory]
    [InlineData("")]
    [InlineData("not a key")]
    [InlineData(Seed + "\n" + Seed)]
    public async Task A_file_that_holds_no_key_is_refused_and_not_shown(string content)
    {
        using var line = new CommandLine();
        var ran = await line.RunAsync("keys", "show", line.Write("alice.key", content));
        Assert.Equal(ExitCode.Usage, ran.Exit);
        Assert.Contains("does not hold a key", ran.Error, StringComparison.Ordinal);
        Assert.DoesNotContain(Seed, ran.Error, StringComparison.Ordinal);
    }
}
