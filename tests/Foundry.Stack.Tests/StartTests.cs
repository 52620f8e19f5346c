using System.Security.Cryptography;
using Foundry.Testing;

namespace Foundry.Stack.Tests;

/// <summary>State on disk that cannot be read, and ports that cannot be had.</summary>
public sealed class StartTests : IAsyncLifetime
{
    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    private readonly TempFolder _folder = new();
    private string Data => _folder.File("data");

    public async ValueTask InitializeAsync()
    {
        await using var process = await StandaloneProcess.StartAsync(Data, Cancellation);
        Assert.Equal(0, await process.StopAsync(Cancellation));
    }

    [Theory]
    [InlineData("issuance/issuance.db", 100)]
    [InlineData("issuance/issuance.db", 5000)]
    [InlineData("issuance/root.key", 10)]
    [InlineData("issuance/service.key", 10)]
    [InlineData("fleet/fleet.db", 5000)]
    [InlineData("fleet/trust.json", 40)]
    [InlineData("ledger/ledger.key", 10)]
    [InlineData("ledger/foundry.platform/checkpoint", 10)]
    [InlineData("gateway/gateway.db", 5000)]
    [InlineData("gateway/feed.state", 100)]
    [InlineData("gateway/service.key", 10)]
    public async Task A_truncated_file_stops_the_start_with_its_name_and_nothing_is_overwritten(string file, int bytesLeft)
    {
        var path = Path.Combine(Data, file);
        Assert.True(File.Exists(path), $"there is no {file}: {string.Join(' ', Directory.GetFiles(Data, "*", SearchOption.AllDirectories))}");
        using (var stream = new FileStream(path, FileMode.Open))
            stream.SetLength(bytesLeft);
        var part = file.Split('/')[0];
        var before = Snapshot(part);

        var (exitCode, errors) = await StandaloneProcess.RunToEndAsync(Data, Cancellation);

        Assert.Equal(1, exitCode);
        Assert.Contains(Path.GetFileName(file), errors, StringComparison.Ordinal);
        Assert.Equal(before, Snapshot(part));
    }

    [Fact]
    public async Task A_port_in_use_is_named_with_the_setting_that_changes_it()
    {
        var ports = StandaloneProcess.Ports.Free();
        using var taken = new System.Net.Sockets.TcpListener(System.Net.IPAddress.Loopback, ports.Gateway);
        taken.Start();
        var (exitCode, errors) = await StandaloneProcess.RunToEndAsync(Data, Cancellation, ports);
        Assert.Equal(1, exitCode);
        Assert.Contains($"Port {ports.Gateway}", errors, StringComparison.Ordinal);
        Assert.Contains("Gateway:Listen", errors, StringComparison.Ordinal);
        Assert.Contains("FOUNDRY_Gateway__Listen", errors, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_second_process_on_the_same_folder_is_refused()
    {
        await using var first = await StandaloneProcess.StartAsync(Data, Cancellation);
        var (exitCode, errors) = await StandaloneProcess.RunToEndAsync(Data, Cancellation);
        Assert.Equal(1, exitCode);
        Assert.Contains("is in use by", errors, StringComparison.Ordinal);
    }

    /// <summary>Every file of a part, with a hash of its bytes; but for the lock, which says who held it last.</summary>
    private SortedDictionary<string, string> Snapshot(string part)
    {
        var files = new SortedDictionary<string, string>(StringComparer.Ordinal);
        foreach (var file in Directory.GetFiles(Path.Combine(Data, part), "*", SearchOption.AllDirectories).Where(file => Path.GetExtension(file) != ".lock"))
            files[Path.GetRelativePath(Data, file)] = Convert.ToHexString(SHA256.HashData(File.ReadAllBytes(file)));
        return files;
    }

    public ValueTask DisposeAsync()
    {
        _folder.Dispose();
        return ValueTask.CompletedTask;
    }
}
