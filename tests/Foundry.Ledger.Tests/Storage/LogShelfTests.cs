using CsCheck;
using Foundry.Ledger.Append;
using Foundry.Ledger.Storage;

namespace Foundry.Ledger.Tests.Storage;

public sealed class MoreLogsThanMayBeOpen : IDisposable
{
    private const int Logs = 40;
    private readonly LedgerFolder _ledger = new() { Options = { OpenLogsMax = 4 } };

    public void Dispose() => _ledger.Dispose();

    [Fact]
    public async Task Are_closed_when_quiet_and_lose_nothing()
    {
        for (var round = 0; round < 3; round++)
        {
            for (var log = 0; log < Logs; log++)
                Assert.Equal(round + 1, (await _ledger.AppendAsync($"tenant-{log}", $"id-{round}", "{}")).Cursor);
            Assert.InRange(_ledger.Shelf.OpenCount, 1, 4);
        }
        for (var log = 0; log < Logs; log++)
            Assert.Equal(["id-0", "id-1", "id-2"], (await _ledger.EntriesAsync($"tenant-{log}")).Select(entry => entry.PayloadId));
    }

    [Fact]
    public async Task Used_all_at_once_are_all_served()
    {
        await Task.WhenAll(Enumerable.Range(0, Logs * 10).Select(i => Task.Run(async () =>
            Assert.Equal(AppendStatus.Appended, (await _ledger.AppendAsync($"tenant-{i % Logs}", $"id-{i}", "{}")).Status))));
        _ledger.Close();
        for (var log = 0; log < Logs; log++)
        {
            Assert.Equal(10, (await _ledger.EntriesAsync($"tenant-{log}")).Count);
            _ledger.Close();
            await _ledger.VerifyAsStrangerAsync($"tenant-{log}");
        }
    }

    [Fact]
    public async Task That_are_closed_hold_no_file()
    {
        for (var log = 0; log < Logs; log++)
            await _ledger.AppendAsync($"tenant-{log}", "id", "{}");
        if (!OperatingSystem.IsLinux())
            Assert.Skip("Open files are counted by way of /proc.");
        var held = Directory.EnumerateFiles("/proc/self/fd").Select(OpenFile)
            .Where(file => file.StartsWith(_ledger.Path, StringComparison.Ordinal))
            .Select(file => Path.GetRelativePath(_ledger.Path, file).Split('/')[0]).Distinct().ToList();
        Assert.InRange(held.Count, 1, 4);
    }

    // The whole process is listed: what other tests open and close meanwhile may be gone when it is looked at.
    private static string OpenFile(string link)
    {
        try
        {
            return File.ResolveLinkTarget(link, false)?.FullName ?? "";
        }
        catch (IOException)
        {
            return "";
        }
    }
}

public sealed class ALogThatIsMade : IDisposable
{
    private readonly LedgerFolder _ledger = new();

    public void Dispose() => _ledger.Dispose();

    [Fact]
    public async Task Half_before_a_crash_is_made_anew()
    {
        Directory.CreateDirectory(_ledger.Log("acme").Unfinished);
        await File.WriteAllTextAsync(Path.Combine(_ledger.Log("acme").Unfinished, "journal"), "half", TestContext.Current.CancellationToken);
        Assert.Equal(1, (await _ledger.AppendAsync("acme", "a", "{}")).Cursor);
        Assert.False(Directory.Exists(_ledger.Log("acme").Unfinished));
    }

    [Theory]
    [InlineData("abc", true)]
    [InlineData("a-1", true)]
    [InlineData("lock", true)]
    [InlineData("foundry.platform", true)]
    [InlineData("acme.audit", true)]
    [InlineData("foundry.platform.audit", true)]
    [InlineData("ab", false)]
    [InlineData("-ab", false)]
    [InlineData("abc-", false)]
    [InlineData("1abc", false)]
    [InlineData("Abc", false)]
    [InlineData("abc\n", false)]
    [InlineData("a/b", false)]
    [InlineData("..", false)]
    [InlineData(".new-acme", false)]
    [InlineData("acme.audit.audit", false)]
    [InlineData("foundry.other", false)]
    [InlineData("", false)]
    [InlineData(null, false)]
    public void Has_a_name_that_can_be_no_other_folder(string? name, bool isName) => Assert.Equal(isName, ModuleId.TryParse(name, out _));
}

public sealed class TheJournal
{
    [Fact]
    public void Has_the_checksum_that_its_specification_gives() =>
        // RFC 3720, B.4: 32 bytes of zeros, of ones, and ascending.
        Assert.Equal([0x8A9136AAu, 0x62A8AB43u, 0x46DD794Eu],
            [Crc32C.Of(new byte[32]), Crc32C.Of(Enumerable.Repeat((byte)0xFF, 32).ToArray()), Crc32C.Of(Enumerable.Range(0, 32).Select(i => (byte)i).ToArray())]);

    [Fact]
    public void Reads_back_the_frame_that_it_wrote() =>
        Check.Sample(Gen.Byte.Array[0, 200].Array[0, 20], leaves =>
        {
            var frame = new JournalFrame(512, [.. leaves.Select(leaf => (ReadOnlyMemory<byte>)leaf)], [1, 2, 3]);
            var bytes = frame.Encode().Bytes;
            Assert.True(JournalFrame.TryReadHeader(bytes, out var header));
            Assert.True(JournalFrame.TryReadBody(header, bytes[JournalFrame.HeaderBytes..], out var read));
            Assert.Equal(leaves, read!.Leaves.Select(leaf => leaf.ToArray()));
            Assert.Equal((512, 3), (read.Start, read.Note.Length));
            Assert.Equal(bytes.Length, JournalFrame.HeaderBytes + header.BodyBytes);
        }, iter: 200);

    [Fact]
    public void Of_arbitrary_bytes_reads_nothing_and_never_fails() =>
        Check.Sample(Gen.Byte.Array[JournalFrame.HeaderBytes, 300], bytes => !JournalFrame.TryReadHeader(bytes, out _));
}
