using System.Diagnostics;
using Foundry.Proofs;
using Foundry.Testing;

namespace Foundry.Ledger.Tests.Read;

/// <summary>
/// A verifier that is not ours: <c>tests/stranger</c>, on the Go project's packages for transparency logs, built by the Go
/// command that FOUNDRY_TEST_GO names, with those packages where Debian's golang-golang-x-mod-dev puts them.
/// </summary>
public sealed class Stranger : IDisposable
{
    private const string DebianGoPath = "/usr/share/gocode";
    private static readonly TimeSpan _patience = TimeSpan.FromMinutes(2);

    private readonly TempFolder _folder = new();
    private readonly Process _process;

    internal Stranger(NoteVerifier verifier)
    {
        var program = _folder.File("stranger");
        var build = new ProcessStartInfo(Go!, ["build", "-o", program, Path.Combine(Repository.Root, "tests/stranger/main.go")]) { RedirectStandardError = true };
        foreach (var (key, value) in new[] { ("GO111MODULE", "off"), ("GOPATH", DebianGoPath), ("GOCACHE", _folder.File("cache")), ("GOFLAGS", "") })
            build.Environment[key] = value;
        using (var building = Process.Start(build)!)
        {
            var errors = building.StandardError.ReadToEnd();
            building.WaitForExit();
            Assert.True(building.ExitCode == 0, errors);
        }
        _process = Process.Start(new ProcessStartInfo(program, [verifier.VerifierKey]) { RedirectStandardInput = true, RedirectStandardOutput = true })!;
    }

    public static string? Go { get; } = Environment.GetEnvironmentVariable("FOUNDRY_TEST_GO") is { Length: > 0 } go ? go : null;

    /// <summary>Tests that need it are skipped as a whole where there is no Go.</summary>
    public static bool NoGo => Go is null;

    /// <summary>What it says of a log's folder.</summary>
    public async Task<string> SaysAsync(string folder)
    {
        await _process.StandardInput.WriteLineAsync(folder);
        await _process.StandardInput.FlushAsync(TestContext.Current.CancellationToken);
        return await _process.StandardOutput.ReadLineAsync(TestContext.Current.CancellationToken).AsTask().WaitAsync(_patience, TestContext.Current.CancellationToken)
            ?? throw new InvalidOperationException("The stranger has ended.");
    }

    public void Dispose()
    {
        _process.StandardInput.Close();
        if (!_process.WaitForExit(_patience))
            _process.Kill();
        _process.Dispose();
        _folder.Dispose();
    }
}

/// <summary>A log of 70,000 entries, as the engine leaves it, and both verifiers.</summary>
public sealed class LogForStrangers : IAsyncLifetime
{
    /// <summary>Every shape of the right edge: nothing partial, partial bundles and tiles alone and together, a first level 1 and 2.</summary>
    public static readonly int[] Sizes = [1, 2, 255, 256, 257, 600, 65_535, 65_536, 65_537, 70_000];

    private const int AtOnce = 4_000;
    private const int SmallSize = 600;
    private readonly LedgerFolder _folder = new();
    private readonly TempFolder _small = new();
    private Stranger? _stranger;

    /// <summary>What both said at each size.</summary>
    public List<(int Size, string Stranger, string Ours)> Grown { get; } = [];

    internal NoteVerifier Verifier => _folder.Verifier("acme").Keys[0];

    /// <summary>The log's folder at the end.</summary>
    public string Folder => _folder.Log("acme").Path;

    /// <summary>A copy of when it had 600 entries.</summary>
    public string Small => _small.Path;

    public async ValueTask InitializeAsync()
    {
        if (Stranger.NoGo)
            return;
        _stranger = new Stranger(Verifier);
        var size = 0;
        foreach (var next in Sizes)
        {
            for (; size < next; size += Math.Min(AtOnce, next - size))
                await _folder.AppendManyAsync("acme", Math.Min(AtOnce, next - size), size, payloadBytes: 10);
            // An orderly stop publishes; the files are then what a copied folder has.
            _folder.Close();
            if (size == SmallSize)
                Copy(Folder, Small);
            Grown.Add((size, await SaysAsync(Folder), await OursSaysAsync(Folder)));
        }
    }

    public ValueTask DisposeAsync()
    {
        _stranger?.Dispose();
        _small.Dispose();
        _folder.Dispose();
        return ValueTask.CompletedTask;
    }

    /// <summary>The stranger's word on a folder.</summary>
    public Task<string> SaysAsync(string folder) => _stranger!.SaysAsync(folder);

    /// <summary>Our own verifier's, in the same form.</summary>
    public async Task<string> OursSaysAsync(string folder)
    {
        if (!Checkpoint.TryOpen(await File.ReadAllBytesAsync(Path.Combine(folder, "checkpoint"), TestContext.Current.CancellationToken), Verifier, out var checkpoint))
            return "the checkpoint is not signed";
        var fault = await new LogCheck(checkpoint, (tile, _) => Read(folder, tile)).RunAsync(TestContext.Current.CancellationToken);
        return fault is null ? $"ok {checkpoint.Size}" : fault.What;
    }

    private static ValueTask<ReadOnlyMemory<byte>> Read(string folder, Tile tile) => File.Exists(Path.Combine(folder, tile.Path))
        ? ValueTask.FromResult<ReadOnlyMemory<byte>>(File.ReadAllBytes(Path.Combine(folder, tile.Path)))
        : throw new InvalidDataException(tile.Path);

    private static void Copy(string from, string to)
    {
        foreach (var file in Directory.EnumerateFiles(from, "*", SearchOption.AllDirectories))
        {
            var target = Path.Combine(to, Path.GetRelativePath(from, file));
            Directory.CreateDirectory(Path.GetDirectoryName(target)!);
            File.Copy(file, target);
        }
    }
}

public sealed class AStranger(LogForStrangers log) : IClassFixture<LogForStrangers>
{
    // Not the lowest bit: the last character of a signature's base64 has two that say nothing, and Go's reader does not look at them.
    private const byte Flipped = 0x10;
    private const int Size = 70_000;
    private const int SmallSize = 600;
    private const int EveryNth = 90;

    [Fact(Skip = "FOUNDRY_TEST_GO is not set", SkipType = typeof(Stranger), SkipWhen = nameof(Stranger.NoGo))]
    public void Accepts_a_log_at_every_shape_of_its_edge_and_that_each_continues_the_last() =>
        Assert.Equal(LogForStrangers.Sizes.Select(size => (size, $"ok {size}", $"ok {size}")), log.Grown);

    /// <summary>Every file of a log that the specification knows, each sampled; of the large log's full ones every ninetieth.</summary>
    public static TheoryData<bool, string> Files => [.. FilesOf(SmallSize, 1).Select(file => (false, file)).Concat(FilesOf(Size, EveryNth).Select(file => (true, file)))];

    [Theory(Skip = "FOUNDRY_TEST_GO is not set", SkipType = typeof(Stranger), SkipWhen = nameof(Stranger.NoGo)), MemberData(nameof(Files))]
    public async Task And_ours_find_a_flipped_byte(bool isLarge, string file)
    {
        var folder = isLarge ? log.Folder : log.Small;
        var path = Path.Combine(folder, file);
        var right = await File.ReadAllBytesAsync(path, TestContext.Current.CancellationToken);
        int[] offsets = isLarge ? [0, right.Length / 2, right.Length - 1] : [.. Enumerable.Range(0, right.Length).Where(at => at % 97 == 0 || at == right.Length - 1)];
        foreach (var at in file == "checkpoint" ? Enumerable.Range(0, right.Length) : offsets)
        {
            var wrong = right.ToArray();
            wrong[at] ^= Flipped;
            await File.WriteAllBytesAsync(path, wrong, TestContext.Current.CancellationToken);
            Assert.DoesNotMatch("^ok", await log.SaysAsync(folder));
            Assert.DoesNotMatch("^ok", await log.OursSaysAsync(folder));
        }
        await File.WriteAllBytesAsync(path, right, TestContext.Current.CancellationToken);
        Assert.Matches("^ok", await log.SaysAsync(folder));
    }

    private static IEnumerable<string> FilesOf(int size, int everyNth)
    {
        yield return "checkpoint";
        for (var level = Tile.EntriesLevel; Tile.CountAt(level, size) > 0; level++)
        {
            for (var index = 0L; Tile.WidthAt(level, index, size) is > 0 and var width; index++)
            {
                if (index % everyNth == 0 || width < Tile.WidthMax || Tile.WidthAt(level, index + 1, size) == 0)
                    yield return new Tile(level, index, width).Path;
            }
        }
    }
}

public sealed class ContinuousIntegration
{
    /// <summary>Without this, a runner that lost its Go would go on being green.</summary>
    [Fact]
    public void Asks_a_stranger_too() =>
        Assert.True(!Stranger.NoGo || Environment.GetEnvironmentVariable("CI") != "true", "CI=true, but FOUNDRY_TEST_GO is not set.");
}
