using Foundry.Ledger.Recovery;
using Microsoft.Extensions.DependencyInjection;
using As = Foundry.Ledger.Tests.LedgerHost.As;

namespace Foundry.Ledger.Tests.Recovery;

public sealed class AStart : IAsyncLifetime
{
    private readonly string _folder = Directory.CreateTempSubdirectory("foundry-ledger-").FullName;

    public async ValueTask InitializeAsync()
    {
        await using var ledger = await LedgerHost.StartAsync(_folder, null, ("Ledger:JournalBytesMax", "1"));
        await Task.WhenAll(Enumerable.Range(0, 600).Select(i => ledger.CursorAsync(As.Acme, "acme", $"id-{i}", $$"""{"n":{{i}}}""")));
        await ledger.CursorAsync(As.Rival, "rival", "id", "{}");
    }

    public ValueTask DisposeAsync()
    {
        Directory.Delete(_folder, recursive: true);
        return ValueTask.CompletedTask;
    }

    public static TheoryData<string> Files => ["acme/checkpoint", "acme/journal", "acme/tile/entries/000", "acme/tile/0/001", "acme/tile/1/000.p/2", "ledger.key", "ledger.pub", "rival/checkpoint", "rival/journal"];

    [Theory, MemberData(nameof(Files))]
    public async Task On_a_damaged_file_is_refused_with_its_name_and_changes_nothing(string name)
    {
        var path = await DamageAsync(name);
        var before = Hash();
        var refusal = await Assert.ThrowsAsync<ServiceDefaults.StateCorruptException>(() => LedgerHost.StartAsync(_folder));
        Assert.Equal(name == "ledger.pub" ? Path.Combine(_folder, "ledger.key") : path, refusal.File);
        Assert.Equal(before, Hash());
    }

    [Fact]
    public async Task On_a_damaged_file_ends_the_process_with_code_1()
    {
        var path = await DamageAsync("acme/tile/entries/000");
        var before = Hash();
        using var process = LedgerProcess.Start(_folder);
        var (code, error) = await process.EndAsync();
        Assert.Equal(1, code);
        Assert.Contains(path, error, StringComparison.Ordinal);
        Assert.Equal(before, Hash());
    }

    [Theory]
    [InlineData("ledger.key")]
    [InlineData("ledger.pub")]
    [InlineData("acme/checkpoint")]
    [InlineData("acme/journal")]
    public async Task Without_a_file_of_a_log_that_exists_is_refused_and_makes_no_new_one(string name)
    {
        File.Delete(Path.Combine(_folder, name));
        var refusal = await Assert.ThrowsAsync<ServiceDefaults.StateCorruptException>(() => LedgerHost.StartAsync(_folder));
        Assert.Equal(Path.Combine(_folder, name), refusal.File);
        Assert.False(File.Exists(Path.Combine(_folder, name)));
    }

    [Theory]
    [InlineData("rival/tile/entries/000.p/1")]
    [InlineData("acme/tile/entries/002.p/88")]
    [InlineData("acme/tile/0/002.p/88")]
    public async Task Looks_at_the_files_over_a_journal_of_any_log_before_it_serves(string name)
    {
        var path = await DamageAsync(name);
        var refusal = await Assert.ThrowsAsync<ServiceDefaults.StateCorruptException>(() => LedgerHost.StartAsync(_folder, null, ("Ledger:EntriesVerifiedBeforeReady", "0")));
        Assert.Equal(path, refusal.File);
    }

    [Fact]
    public async Task In_a_folder_that_another_process_holds_is_refused()
    {
        await using var ledger = await LedgerHost.StartAsync(_folder);
        await Assert.ThrowsAsync<ServiceDefaults.StartupException>(() => LedgerHost.StartAsync(_folder));
    }

    [Fact]
    public async Task Behind_its_first_entries_recomputes_the_rest_while_it_serves_and_stops_on_damage()
    {
        // Behind the first 256, and no longer in the journal, whose files are looked at before.
        var bundle = Path.Combine(_folder, "acme/tile/entries/001");
        var bytes = await File.ReadAllBytesAsync(bundle, TestContext.Current.CancellationToken);
        bytes[^5] ^= 1;
        await File.WriteAllBytesAsync(bundle, bytes, TestContext.Current.CancellationToken);
        await using var ledger = await LedgerHost.StartAsync(_folder, null, ("Ledger:EntriesVerifiedBeforeReady", "256"));
        var stopping = new TaskCompletionSource();
        await using var stopped = ledger.Services.GetRequiredService<Microsoft.Extensions.Hosting.IHostApplicationLifetime>().ApplicationStopping.Register(stopping.SetResult);
        await stopping.Task.WaitAsync(TestContext.Current.CancellationToken);
        var fault = Assert.Throws<ServiceDefaults.StateCorruptException>(ledger.Services.GetRequiredService<StartVerifier>().ThrowIfCorrupt);
        Assert.Equal(bundle, fault.File);
        Environment.ExitCode = 0;
    }

    private async Task<string> DamageAsync(string name)
    {
        // Settles what a start may write before it looks at a log: the trust set that the test puts there.
        LedgerHost.Settings(_folder);
        var path = Path.Combine(_folder, name);
        var bytes = await File.ReadAllBytesAsync(path, TestContext.Current.CancellationToken);
        bytes[bytes.Length / 2] = bytes[bytes.Length / 2] == (byte)'A' ? (byte)'B' : (byte)'A';
        await File.WriteAllBytesAsync(path, bytes, TestContext.Current.CancellationToken);
        return path;
    }

    private string Hash() => string.Join('\n', Directory.EnumerateFiles(_folder, "*", SearchOption.AllDirectories).Order(StringComparer.Ordinal)
        .Where(file => Path.GetFileName(file) is not ("ledger.lock" or "trust.json"))
        .Select(file => $"{file} {Convert.ToHexString(System.Security.Cryptography.SHA256.HashData(File.ReadAllBytes(file)))}"));
}
