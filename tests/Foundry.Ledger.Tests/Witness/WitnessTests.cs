using System.Text.Json;
using Foundry.Ledger.Witness;
using Foundry.Proofs;
using Foundry.ServiceDefaults;
using As = Foundry.Ledger.Tests.LedgerHost.As;

namespace Foundry.Ledger.Tests.Witness;

/// <summary>A ledger with a witness, or several, on loopback.</summary>
public sealed class WitnessedLedger : IDisposable
{
    private const string Origin = "foundry.local/acme";
    private static readonly TimeSpan _patience = TimeSpan.FromSeconds(60);
    private readonly string _folder = Directory.CreateTempSubdirectory("foundry-ledger-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private Task<LedgerHost> StartAsync(params (string, string)[] settings) =>
        LedgerHost.StartAsync(_folder, null, [("Ledger:PublishInterval", "00:00:00.02"), ("Log:Level", "Fatal"), .. settings]);

    private static async Task<SignedNote?> CheckpointAsync(LedgerHost ledger, string path = "/v1/checkpoint", string module = "acme")
    {
        using var answer = await ledger.GetAsync(As.Acme, path, module);
        if ((int)answer.StatusCode == 404)
            return null;
        Assert.Equal(200, (int)answer.StatusCode);
        Assert.True(SignedNote.TryParse(await answer.Content.ReadAsByteArrayAsync(TestContext.Current.CancellationToken), out var note));
        return note;
    }

    private static bool IsCosigned(SignedNote? note, params StandInWitness[] witnesses) =>
        note is not null && witnesses.All(witness => witness.Verifier.HasCosigned(note, out _));

    private static async Task UntilAsync(Func<Task<bool>> isSo)
    {
        using var end = new CancellationTokenSource(_patience);
        while (!await isSo())
        {
            end.Token.ThrowIfCancellationRequested();
            await Task.Delay(20, TestContext.Current.CancellationToken);
        }
    }

    private static Task UntilCosignedAsync(LedgerHost ledger, params StandInWitness[] witnesses) =>
        UntilAsync(async () => IsCosigned(await CheckpointAsync(ledger), witnesses));

    private static async Task<JsonElement> NeedAsync(LedgerHost ledger) =>
        (await ledger.GetJsonAsync(As.Nobody, "/readyz", "acme")).GetProperty("needs").GetProperty("witnesses");

    [Fact]
    public async Task Serves_the_checkpoint_with_the_witness_s_cosignature_however_it_grows()
    {
        await using var witness = await StandInWitness.StartAsync();
        await using var ledger = await StartAsync(StandInWitness.Settings(witness));
        var cursor = 0L;
        for (var round = 0; round < 4; round++)
        {
            for (var i = 0; i < 90; i++)
                cursor = await ledger.CursorAsync(As.Acme, "acme", $"id-{round}-{i}", "{}");
            await UntilCosignedAsync(ledger, witness);
            var note = (await CheckpointAsync(ledger, "/ledger/acme/checkpoint"))!;
            Assert.True(IsCosigned(note, witness));
            var key = Vkey(await ledger.GetJsonAsync(As.Acme, "/v1/contract", "acme"));
            Assert.True(Checkpoint.TryOpen(note.Encode(), key, out var checkpoint));
            Assert.Equal(cursor, checkpoint.Size);
        }
        Assert.Equal(witness.Verifier.VerifierKey, (await ledger.GetJsonAsync(As.Acme, "/v1/contract", "acme")).GetProperty("witnesses")[0].GetString());
        Assert.True((await NeedAsync(ledger)).GetProperty("met").GetBoolean());
    }

    [Fact]
    public async Task Keeps_cosignatures_over_a_restart_without_its_witness()
    {
        SignedNote before;
        await using var witness = await StandInWitness.StartAsync();
        await using (var ledger = await StartAsync(StandInWitness.Settings(witness)))
        {
            await ledger.CursorAsync(As.Acme, "acme", "a", "{}");
            await UntilCosignedAsync(ledger, witness);
            before = (await CheckpointAsync(ledger))!;
        }
        witness.Misbehaves = _ => (503, []);
        await using (var ledger = await StartAsync(StandInWitness.Settings(witness)))
        {
            Assert.Equal(before.Encode(), (await CheckpointAsync(ledger))!.Encode());
            Assert.Equal(before.Encode(), (await CheckpointAsync(ledger, "/v1/checkpoint?witnessed=true"))!.Encode());
        }
        // Of a witness that is none any more nothing is served, and nothing of what was changed on the disk.
        await using (var ledger = await StartAsync())
            Assert.False(IsCosigned(await CheckpointAsync(ledger), witness));
        var file = Directory.EnumerateFiles(Path.Combine(_folder, CosignedNotes.FolderName), "acme.witnessed").Single();
        File.WriteAllText(file, File.ReadAllText(file).Replace("— witness.example/w1 ", "— witness.example/w1 A", StringComparison.Ordinal));
        await using (var ledger = await StartAsync(StandInWitness.Settings(witness)))
            Assert.False(IsCosigned(await CheckpointAsync(ledger), witness));
    }

    [Fact]
    public async Task Waits_for_no_witness_and_asks_one_that_was_away_again()
    {
        var hold = new TaskCompletionSource();
        await using var slow = await StandInWitness.StartAsync("witness.example/slow", 2);
        await using var away = await StandInWitness.StartAsync("witness.example/away", 3);
        await using var there = await StandInWitness.StartAsync();
        slow.Pause = hold.Task;
        var refusals = 0;
        away.Misbehaves = _ => Interlocked.Increment(ref refusals) <= 2 ? (503, []) : null;
        await using var ledger = await StartAsync(StandInWitness.Settings(slow, away, there));
        await ledger.CursorAsync(As.Acme, "acme", "a", "{}");
        await UntilCosignedAsync(ledger, there);
        Assert.Equal(2, await ledger.CursorAsync(As.Acme, "acme", "b", "{}"));
        Assert.False(IsCosigned(await CheckpointAsync(ledger), slow));
        hold.SetResult();
        await UntilCosignedAsync(ledger, slow, away, there);
        Assert.True(refusals > 2);
    }

    [Fact]
    public async Task Shows_as_witnessed_what_a_quorum_has_cosigned_and_nothing_less()
    {
        await using var first = await StandInWitness.StartAsync();
        await using var second = await StandInWitness.StartAsync("witness.example/w2", 2);
        second.Misbehaves = _ => (404, []);
        await using var ledger = await StartAsync([.. StandInWitness.Settings(first, second), ("Ledger:WitnessQuorum", "2")]);
        await ledger.CursorAsync(As.Acme, "acme", "a", "{}");
        await UntilCosignedAsync(ledger, first);
        Assert.Null(await CheckpointAsync(ledger, "/v1/checkpoint?witnessed=true"));
        Assert.Equal(2, (await ledger.GetJsonAsync(As.Acme, "/v1/contract", "acme")).GetProperty("witness_quorum").GetInt32());
    }

    [Fact]
    public async Task Keeps_showing_the_last_that_a_quorum_has_cosigned()
    {
        await using var first = await StandInWitness.StartAsync();
        await using var second = await StandInWitness.StartAsync("witness.example/w2", 2);
        await using var ledger = await StartAsync([.. StandInWitness.Settings(first, second), ("Ledger:WitnessQuorum", "2")]);
        await ledger.CursorAsync(As.Acme, "acme", "a", "{}");
        await UntilAsync(async () => IsCosigned(await CheckpointAsync(ledger, "/v1/checkpoint?witnessed=true"), first, second));
        second.Misbehaves = _ => (503, []);
        await ledger.CursorAsync(As.Acme, "acme", "b", "{}");
        await UntilCosignedAsync(ledger, first);
        var witnessed = (await CheckpointAsync(ledger, "/v1/checkpoint?witnessed=true"))!;
        Assert.True(IsCosigned(witnessed, first, second));
        Assert.True(Checkpoint.TryParse(witnessed.Text, out var checkpoint) && checkpoint.Size == 1);
    }

    [Theory]
    [InlineData("under its name by another key")]
    [InlineData("of another checkpoint")]
    [InlineData("a true one beside a false one")]
    [InlineData("a true one of another witness")]
    [InlineData("none at all")]
    public async Task Takes_no_cosignature_that_is_false_or_another_s(string given)
    {
        await using var witness = await StandInWitness.StartAsync();
        using var stranger = NoteKey.FromSeed(new byte[NoteKey.SeedBytes]);
        var at = TimeProvider.System.GetUtcNow();
        var ofAnother = witness.Key.Cosign(witness.Name, stranger.Sign("o", "another text\n"), at);
        witness.Misbehaves = asked => (200, given switch
        {
            "under its name by another key" => SignedNote.Encode([stranger.Cosign(witness.Name, asked.Checkpoint, at) with { KeyId = witness.Verifier.KeyId }]),
            "of another checkpoint" => SignedNote.Encode([ofAnother]),
            "a true one beside a false one" => SignedNote.Encode([witness.Key.Cosign(witness.Name, asked.Checkpoint, at), ofAnother]),
            "a true one of another witness" => SignedNote.Encode([stranger.Cosign("witness.example/other", asked.Checkpoint, at)]),
            _ => "nonsense"u8.ToArray(),
        });
        await using var ledger = await StartAsync(StandInWitness.Settings(witness));
        await ledger.CursorAsync(As.Acme, "acme", "a", "{}");
        // The second is asked for when the first has been judged.
        await UntilAsync(async () =>
        {
            Assert.Single((await CheckpointAsync(ledger))!.Signatures);
            return witness.Asked.Count >= 2;
        });
        Assert.False((await NeedAsync(ledger)).GetProperty("met").GetBoolean());
    }

    public static TheoryData<string> Histories => ["another root for the same size", "another root for a smaller size", "a larger log"];

    [Theory, MemberData(nameof(Histories))]
    public async Task Never_hides_that_a_witness_has_seen_another_history(string history)
    {
        await using var witness = await StandInWitness.StartAsync();
        await using (var ledger = await StartAsync())
        {
            for (var i = 0; i < 5; i++)
                await ledger.CursorAsync(As.Acme, "acme", $"id-{i}", "{}");
        }
        witness.Remembered[Origin] = new Checkpoint(Origin, history switch { "a larger log" => 900, "another root for the same size" => 5, _ => 3 }, TreeHash.OfLeaf("another"u8));
        for (var start = 0; start < 2; start++)
        {
            await using var ledger = await StartAsync(StandInWitness.Settings(witness));
            await UntilAsync(async () => (await NeedAsync(ledger)).GetProperty("detail").GetString()!.Contains("another history of 1 logs", StringComparison.Ordinal));
            var need = await NeedAsync(ledger);
            Assert.Equal((false, false), (need.GetProperty("met").GetBoolean(), need.GetProperty("required").GetBoolean()));
            Assert.DoesNotContain("acme", need.GetRawText(), StringComparison.Ordinal);
            Assert.Single((await CheckpointAsync(ledger))!.Signatures);
            Assert.True(await ledger.CursorAsync(As.Acme, "acme", "goes on", "{}") > 5);
            var kept = File.ReadAllBytes(Directory.EnumerateFiles(Path.Combine(_folder, CosignedNotes.FolderName), "acme.*.fork").Single());
            Assert.True(AddCheckpoint.TryParse(kept.AsSpan(kept.AsSpan().IndexOf("\n\n"u8) + 2), out var asked));
            Assert.StartsWith(Origin, asked.Checkpoint.Text, StringComparison.Ordinal);
            // What is said once is said after the next start too, whatever the witness says then.
            witness.Misbehaves = _ => (503, []);
        }
        await using var without = await StartAsync();
        await UntilAsync(async () => (await without.GetJsonAsync(As.Nobody, "/readyz", "acme")).GetProperty("needs").TryGetProperty("witnesses", out var need) && !need.GetProperty("met").GetBoolean());
    }

    [Fact]
    public async Task Learns_at_its_start_that_it_was_restored_from_a_backup()
    {
        await using var witness = await StandInWitness.StartAsync();
        await using (var ledger = await StartAsync(StandInWitness.Settings(witness)))
        {
            await ledger.CursorAsync(As.Acme, "acme", "a", "{}");
            await UntilCosignedAsync(ledger, witness);
        }
        // As if it had gone on since the backup was made.
        witness.Remembered[Origin] = new Checkpoint(Origin, 2, TreeHash.OfLeaf("the second"u8));
        await using (var ledger = await StartAsync(StandInWitness.Settings(witness)))
            await UntilAsync(async () => (await NeedAsync(ledger)).GetProperty("detail").GetString()!.Contains("another history of 1 logs", StringComparison.Ordinal));
    }

    [Fact]
    public async Task Finds_out_where_a_witness_is_that_knows_more_than_the_ledger_remembers()
    {
        await using var witness = await StandInWitness.StartAsync();
        await using (var ledger = await StartAsync(StandInWitness.Settings(witness)))
        {
            for (var i = 0; i < 300; i++)
                await ledger.CursorAsync(As.Acme, "acme", $"id-{i}", "{}");
            await UntilCosignedAsync(ledger, witness);
        }
        Directory.Delete(Path.Combine(_folder, CosignedNotes.FolderName), recursive: true);
        witness.Asked.Clear();
        await using (var ledger = await StartAsync(StandInWitness.Settings(witness)))
        {
            await UntilCosignedAsync(ledger, witness);
            Assert.Equal([0, 300], witness.Asked.Select(asked => asked.OldSize));
        }
    }

    [Fact]
    public async Task Asks_once_for_what_was_published_many_times()
    {
        var hold = new TaskCompletionSource();
        await using var witness = await StandInWitness.StartAsync();
        witness.Pause = hold.Task;
        await using var ledger = await StartAsync(StandInWitness.Settings(witness));
        await ledger.CursorAsync(As.Acme, "acme", "first", "{}");
        await UntilAsync(() => Task.FromResult(!witness.Asked.IsEmpty));
        var published = Path.Combine(_folder, "acme", "checkpoint");
        for (var i = 0; i < 10; i++)
        {
            var before = File.ReadAllText(published);
            await ledger.CursorAsync(As.Acme, "acme", $"id-{i}", "{}");
            await UntilAsync(() => Task.FromResult(File.ReadAllText(published) != before));
        }
        hold.SetResult();
        await UntilCosignedAsync(ledger, witness);
        Assert.InRange(witness.Asked.Count, 2, 3);
    }

    public static TheoryData<string, string, string> Mistakes => new()
    {
        { "Ledger:Witnesses:0:Vkey", "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", "Witnesses:0:Vkey" },
        { "Ledger:Witnesses:0:Url", "http://witness.example/", "Witnesses:0:Url" },
        { "Ledger:Witnesses:0:Url", "https://user@witness.example/", "Witnesses:0:Url" },
        { "Ledger:Witnesses:0:Url", "", "Witnesses:0:Url" },
        { "Ledger:Witnesses:0:Nonsense", "x", "settings of the ledger cannot be read" },
        { "Ledger:WitnessQuorum", "2", "WitnessQuorum" },
        { "Ledger:WitnessQuorum", "-1", "WitnessQuorum" },
        { "Ledger:KeyOverlap", "-1.00:00:00", "KeyOverlap" },
    };

    [Theory, MemberData(nameof(Mistakes))]
    public async Task Starts_with_no_setting_that_cannot_be_meant(string key, string value, string named)
    {
        using var witness = NoteKey.FromSeed(new byte[NoteKey.SeedBytes]);
        var fault = await Assert.ThrowsAsync<StartupException>(() => StartAsync(
            ("Ledger:Witnesses:0:Vkey", witness.CosignerFor("w").VerifierKey), ("Ledger:Witnesses:0:Url", "https://witness.example/"), (key, value)));
        Assert.Contains(named, fault.Message, StringComparison.Ordinal);
    }

    private static NoteVerifier Vkey(JsonElement contract) =>
        NoteVerifier.TryParse(contract.GetProperty("vkey").GetString(), out var verifier) ? verifier : throw new InvalidOperationException(contract.ToString());
}
