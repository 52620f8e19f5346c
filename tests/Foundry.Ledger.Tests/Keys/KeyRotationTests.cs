using System.Text;
using System.Text.Json;
using Foundry.Ledger.Append;
using Foundry.Ledger.Keys;
using Foundry.Ledger.Storage;
using Foundry.Proofs;
using Foundry.ServiceDefaults;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Time.Testing;
using As = Foundry.Ledger.Tests.LedgerHost.As;

namespace Foundry.Ledger.Tests.Keys;

/// <summary>A ledger's folder whose key is rotated; each test starts and stops ledgers in it.</summary>
public sealed class KeyRotationTests : IDisposable
{
    private static readonly TimeSpan _overlap = TimeSpan.FromDays(90);
    private readonly string _path = Directory.CreateTempSubdirectory("foundry-ledger-").FullName;
    private readonly FakeTimeProvider _time = new(TimeProvider.System.GetUtcNow());

    private StateFolder Folder => StateFolder.Open(_path);

    public void Dispose() => Directory.Delete(_path, recursive: true);

    private Task<LedgerHost> StartAsync() => LedgerHost.StartAsync(_path);

    // In place of moving the clock, by which callers' assertions would be too old.
    private void EndOverlap() => Rewrite(rotation => rotation with { Until = _time.GetUtcNow() });

    private void Rewrite(Func<KeyRotation, KeyRotation> change) =>
        File.WriteAllBytes(Folder.File(KeyRotation.File), JsonSerializer.SerializeToUtf8Bytes(change(KeyRotation.Read(Folder)!), RotationJson.Default.KeyRotation));

    private KeyRotation Decide() => KeyRotation.Decide(Folder, _time.GetUtcNow(), _overlap);

    private static async Task<(byte[] Note, JsonElement Contract)> LookAsync(LedgerHost ledger, string module = "acme")
    {
        using var answer = await ledger.GetAsync(As.Admin, "/v1/checkpoint", module);
        return (await answer.Content.ReadAsByteArrayAsync(TestContext.Current.CancellationToken), await ledger.GetJsonAsync(As.Admin, "/v1/contract", module));
    }

    private static NoteVerifier Vkey(JsonElement contract, string member = "vkey") =>
        NoteVerifier.TryParse(contract.GetProperty(member).GetString(), out var verifier) ? verifier : throw new InvalidOperationException(contract.ToString());

    private async Task<NoteVerifier> FirstKeyAsync(params string[] modules)
    {
        await using var ledger = await StartAsync();
        foreach (var module in modules)
            await ledger.CursorAsync(As.Gateway, module, "first", "{}");
        return Vkey((await LookAsync(ledger)).Contract);
    }

    [Fact]
    public async Task Is_announced_in_every_log_by_a_checkpoint_of_both_keys()
    {
        var old = await FirstKeyAsync("acme", "acme.audit", "foundry.platform");
        var rotation = Decide();
        await using var ledger = await StartAsync();
        foreach (var module in new[] { "acme", "acme.audit", "foundry.platform" })
        {
            var (note, contract) = await LookAsync(ledger, module);
            var entry = (await ledger.GetJsonAsync(As.Admin, "/v1/entries?event_type=KEY_ANNOUNCED", module)).GetProperty("entries")[0];
            Assert.Equal(2, entry.GetProperty("cursor").GetInt64());
            Assert.Equal(contract.GetProperty("vkey").GetString(), entry.GetProperty("payload").GetProperty("vkey").GetString());
            Assert.Equal(contract.GetProperty("previous_vkey").GetString(), entry.GetProperty("payload").GetProperty("previous_vkey").GetString());
            Assert.Equal(rotation.Until, contract.GetProperty("previous_vkey_until").GetDateTimeOffset());
            Assert.True(Checkpoint.TryOpen(note, Vkey(contract), out _));
            Assert.True(Checkpoint.TryOpen(note, Vkey(contract, "previous_vkey"), out var covering));
            Assert.True(covering.Size >= 2);
        }
        Assert.Equal(old.VerifierKey, (await LookAsync(ledger)).Contract.GetProperty("previous_vkey").GetString());
        // The old key's last checkpoint before the announcement had no other signature.
        Assert.NotEqual(old.VerifierKey, Vkey((await LookAsync(ledger)).Contract).VerifierKey);
    }

    [Fact]
    public async Task Lets_verifiers_of_the_old_key_be_until_the_overlap_is_over()
    {
        var old = await FirstKeyAsync("acme");
        Decide();
        await using (var ledger = await StartAsync())
        {
            await ledger.CursorAsync(As.Acme, "acme", "second", "{}");
            await ledger.CursorAsync(As.Rival, "rival", "born meanwhile", "{}");
            Assert.True(Checkpoint.TryOpen((await LookAsync(ledger)).Note, old, out _));
        }
        EndOverlap();
        var oldSeed = Folder.Read(LedgerKeys.KeyFile);
        for (var start = 0; start < 2; start++)
        {
            await using var ledger = await StartAsync();
            await ledger.CursorAsync(As.Acme, "acme", $"behind it {start}", "{}");
            Assert.NotEqual(oldSeed, Folder.Read(LedgerKeys.KeyFile));
            Assert.False(File.Exists(Folder.File(KeyRotation.File)) || File.Exists(Folder.File(KeyRotation.NextFile)));
            foreach (var module in new[] { "acme", "rival" })
            {
                var (note, contract) = await LookAsync(ledger, module);
                Assert.True(Checkpoint.TryOpen(note, Vkey(contract), out _));
                Assert.False(contract.TryGetProperty("previous_vkey", out _));
                Assert.True(module == "rival" || !Checkpoint.TryOpen(note, old, out _));
            }
        }
    }

    [Fact]
    public async Task Stops_signing_with_the_old_key_the_moment_the_overlap_is_over_once_it_is_announced()
    {
        await FirstKeyAsync("acme");
        Decide();
        using var keys = LedgerKeys.Open(Folder, _time);
        var checkpoint = new Checkpoint("o", 0, TreeHash.EmptyRoot);
        _time.Advance(_overlap);
        Assert.Equal(2, keys.Sign(checkpoint).Signatures.Count);
        keys.Announced(Folder);
        Assert.Single(keys.Sign(checkpoint).Signatures);
        Assert.True(new LogVerifier(keys.CurrentOf("o")).TryOpen(keys.Sign(checkpoint), out _));
        Assert.Null(keys.PreviousOf("o"));
    }

    [Fact]
    public async Task Is_announced_once_however_often_the_announcing_is_cut_short()
    {
        await FirstKeyAsync("acme", "beta-corp", "rival");
        var rotation = Decide();
        // As a kill between the first log and the second leaves it: one log has the announcement, the record says that not all have.
        using (var keys = LedgerKeys.Open(Folder, _time))
        using (var store = new FileStore(new Disk(), _path, int.MaxValue, int.MaxValue, Microsoft.Extensions.Logging.Abstractions.NullLogger.Instance))
        using (var shelf = new LogShelf(new LedgerOptions(), _time, Microsoft.Extensions.Logging.Abstractions.NullLoggerFactory.Instance, store, keys))
        using (var log = await shelf.OpenOrCreateAsync(LedgerFolder.Module("acme")))
        {
            var origin = new LedgerOptions().OriginOf(LedgerFolder.Module("acme"));
            var outcome = await log.AppendAsync("ledger", rotation.PayloadId, rotation.Announcement(keys.CurrentOf(origin).VerifierKey, keys.PreviousOf(origin)!.VerifierKey), TestContext.Current.CancellationToken);
            Assert.Equal(new AppendOutcome(AppendStatus.Appended, 2), outcome);
        }
        for (var start = 0; start < 3; start++)
        {
            await using var ledger = await StartAsync();
            foreach (var module in new[] { "acme", "beta-corp", "rival" })
                Assert.Single((await ledger.GetJsonAsync(As.Admin, "/v1/entries?event_type=KEY_ANNOUNCED", module)).GetProperty("entries").EnumerateArray());
            Assert.True(KeyRotation.Read(Folder)!.IsAnnounced);
            // A start that does not know how far the last one came announces again.
            Rewrite(rotation => rotation with { IsAnnounced = start == 1 });
        }
    }

    [Fact]
    public async Task Comes_through_whichever_of_its_writes_fails_done_or_not_done()
    {
        var old = await FirstKeyAsync("acme", "rival");
        Decide();
        var disk = new FaultyDisk();
        for (disk.FailsAt = 1; ; disk.FailsAt++)
        {
            disk.Writes = 0;
            try
            {
                await using var ledger = await LedgerHost.StartAsync(_path, builder => builder.Services.AddSingleton<Disk>(disk), ("Log:Level", "Fatal"));
                await ledger.CursorAsync(As.Gateway, "acme", $"at {disk.FailsAt}", "{}");
            }
            catch (Exception fault) when (fault is StartupException or IOException or Xunit.Sdk.EqualException)
            {
                // The start that could not go on, or the append behind it.
            }
            // Every folder that is left, a plain start takes up.
            var at = disk.FailsAt;
            if (disk.Writes < at)
                break;
            Rewrite(rotation => rotation with { IsAnnounced = at % 2 == 0 && rotation.IsAnnounced });
        }
        Assert.True(disk.FailsAt > 6, $"{disk.FailsAt} writes were tried");
        await using var last = await StartAsync();
        foreach (var module in new[] { "acme", "rival" })
        {
            var (note, contract) = await LookAsync(last, module);
            Assert.True(Checkpoint.TryOpen(note, Vkey(contract), out _));
            Assert.True(Checkpoint.TryOpen(note, Vkey(contract, "previous_vkey"), out _));
            Assert.Single((await last.GetJsonAsync(As.Admin, "/v1/entries?event_type=KEY_ANNOUNCED", module)).GetProperty("entries").EnumerateArray());
        }
        Assert.Equal(old.VerifierKey, (await LookAsync(last)).Contract.GetProperty("previous_vkey").GetString());
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public async Task Ends_however_far_the_end_got_before_a_crash(int steps)
    {
        await FirstKeyAsync("acme");
        Decide();
        NoteVerifier next;
        await using (var ledger = await StartAsync())
            next = Vkey((await LookAsync(ledger)).Contract);
        EndOverlap();
        // What KeyRotation.Retire does, as far as it got.
        if (steps > 0)
            File.Copy(Folder.File(KeyRotation.NextFile), Folder.File(LedgerKeys.KeyFile), overwrite: true);
        using (var key = Folder.SigningKey(KeyRotation.NextFile))
        {
            if (steps > 1)
                Folder.Write(LedgerKeys.PublicFile, key.Public.X + "\n");
        }
        if (steps > 2)
            File.Delete(Folder.File(KeyRotation.File));
        await using (var ledger = await StartAsync())
        {
            var (note, contract) = await LookAsync(ledger);
            Assert.Equal(next.VerifierKey, Vkey(contract).VerifierKey);
            Assert.True(Checkpoint.TryOpen(note, next, out _));
        }
        Assert.False(File.Exists(Folder.File(KeyRotation.File)) || File.Exists(Folder.File(KeyRotation.NextFile)));
        // And again from the beginning.
        Decide();
    }

    [Fact]
    public async Task Decided_but_for_its_last_file_has_not_happened_and_is_decided_again()
    {
        var old = await FirstKeyAsync("acme");
        string made;
        using (var key = Folder.SigningKey(KeyRotation.NextFile))
            made = key.Public.X;
        await using (var ledger = await StartAsync())
            Assert.Equal(old.VerifierKey, Vkey((await LookAsync(ledger)).Contract).VerifierKey);
        Assert.Equal(made, Decide().To);
    }

    [Fact]
    public async Task Is_refused_while_one_goes_on_while_the_ledger_runs_and_where_there_is_none()
    {
        Assert.Throws<StartupException>(Decide);
        await using (var ledger = await StartAsync())
        {
            var refused = Assert.Throws<StartupException>(() => Folder.Lock(LedgerState.LockFile));
            Assert.Contains("in use", refused.Message, StringComparison.Ordinal);
        }
        Decide();
        Assert.Contains("going on", Assert.Throws<StartupException>(Decide).Message, StringComparison.Ordinal);
    }

    public static TheoryData<string, string> Damages => new()
    {
        { KeyRotation.File, "{" }, { KeyRotation.File, "{\"v\":2}" }, { KeyRotation.NextFile, "nonsense\n" },
        { KeyRotation.NextFile, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n" }, { LedgerKeys.KeyFile, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n" },
        { LedgerKeys.PublicFile, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n" },
    };

    [Theory, MemberData(nameof(Damages))]
    public async Task With_a_damaged_file_stops_the_start_and_names_a_file(string file, string content)
    {
        await FirstKeyAsync("acme");
        Decide();
        File.WriteAllText(Folder.File(file), content, Encoding.UTF8);
        await Assert.ThrowsAsync<StateCorruptException>(StartAsync);
        Assert.Equal(content, File.ReadAllText(Folder.File(file)));
    }

    [Fact]
    public async Task Without_its_new_key_stops_the_start_and_makes_none()
    {
        await FirstKeyAsync("acme");
        Decide();
        File.Delete(Folder.File(KeyRotation.NextFile));
        await Assert.ThrowsAsync<StateCorruptException>(StartAsync);
        Assert.False(File.Exists(Folder.File(KeyRotation.NextFile)));
    }

    /// <summary>Fails at its nth write and every one after it, as a full disk does: every second time with the bytes there all the same.</summary>
    private sealed class FaultyDisk : Disk
    {
        public int FailsAt { get; set; }

        public int Writes { get; set; }

        public override void Write(Microsoft.Win32.SafeHandles.SafeFileHandle file, ReadOnlySpan<byte> bytes, long offset)
        {
            if (++Writes < FailsAt || FailsAt % 2 == 0)
                base.Write(file, bytes, offset);
            ThrowWhenDue();
        }

        public override void Rename(string from, string to)
        {
            if (++Writes < FailsAt || FailsAt % 2 == 0)
                base.Rename(from, to);
            ThrowWhenDue();
        }

        public override void FlushFolder(string path)
        {
            Writes++;
            base.FlushFolder(path);
            ThrowWhenDue();
        }

        private void ThrowWhenDue()
        {
            if (Writes >= FailsAt)
                throw new IOException("The disk is full.");
        }
    }
}
