using System.Collections.Concurrent;
using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using Foundry.Ledger.Append;
using Foundry.Proofs;
using Microsoft.Extensions.DependencyInjection;
using As = Foundry.Ledger.Tests.LedgerHost.As;

namespace Foundry.Ledger.Tests.Recovery;

/// <summary>The crash sweep: a process under load is killed at random moments, again and again (bench/README.md says how to do it a thousand times).</summary>
public sealed class AProcessKilledWhileItAppends : IDisposable
{
    /// <summary>How often, where it is not the usual number.</summary>
    private const string KillsVariable = "FOUNDRY_TEST_KILLS";
    private const int KillsUsual = 20;
    private const int Writers = 16;
    private const int AcknowledgedMax = 120;
    private const int StartPollsMax = 200;

    private readonly string _folder = Directory.CreateTempSubdirectory("foundry-ledger-").FullName;
    private readonly ServiceProvider _clients = new ServiceCollection().AddHttpClient().BuildServiceProvider();
    private readonly ConcurrentDictionary<string, long> _acknowledged = new();
    private readonly ConcurrentDictionary<string, byte[]> _shown = new();

    // The log as it was read so far: IDs by cursor, and the root at each size.
    private readonly Dictionary<string, long> _entries = [];
    private readonly TreeFrontier _tree = new();
    private readonly List<TreeHash> _roots = [TreeHash.EmptyRoot];

    public void Dispose()
    {
        _clients.Dispose();
        Directory.Delete(_folder, recursive: true);
    }

    [Fact]
    public async Task Has_every_acknowledged_entry_afterwards_once_and_every_checkpoint_it_showed_is_of_that_log()
    {
        var kills = int.Parse(Environment.GetEnvironmentVariable(KillsVariable) is { Length: > 0 } text ? text : KillsUsual.ToString(CultureInfo.InvariantCulture), CultureInfo.InvariantCulture);
        for (var kill = 0; kill < kills; kill++)
        {
            using var process = LedgerProcess.Start(_folder);
            using var client = _clients.GetRequiredService<IHttpClientFactory>().CreateClient();
            client.BaseAddress = process.Address;
            // Now and then while it starts: recovery is killed too.
            if (RandomNumberGenerator.GetInt32(8) == 0)
            {
                await process.PollAsync(client, RandomNumberGenerator.GetInt32(StartPollsMax));
            }
            else
            {
                await process.ReadyAsync(client);
                await ReadOnAsync(client);
                AssertTrue();
                await AppendAsync(kill, client, process, RandomNumberGenerator.GetInt32(1, AcknowledgedMax));
            }
            await process.KillAsync();
            Show(await PublishedAsync());
        }

        await using var ledger = await LedgerHost.StartAsync(_folder);
        using var last = ledger.NewClient();
        await ReadOnAsync(last);
        AssertTrue();
        Assert.True(_acknowledged.Count >= kills / 2);
        Assert.NotEmpty(_shown);
        // A repeat of what was under way when a process died gets one place, as if nothing had happened.
        foreach (var (id, cursor) in _acknowledged.Take(20))
            Assert.Equal(cursor, await ledger.CursorAsync(As.Acme, "acme", id, Payload(id)));
        TestContext.Current.TestOutputHelper?.WriteLine($"{kills} kills, {_acknowledged.Count} entries acknowledged, {_entries.Count} in the log, {_shown.Count} checkpoints shown.");
    }

    private void AssertTrue()
    {
        Assert.All(_acknowledged, one => Assert.Equal(one.Value, _entries.GetValueOrDefault(one.Key)));
        foreach (var note in _shown.Values)
        {
            Assert.True(SignedNote.TryParse(note, out var signed) && Checkpoint.TryParse(signed.Text, out var checkpoint) && checkpoint.Size < _roots.Count && checkpoint.Root == _roots[(int)checkpoint.Size]);
        }
    }

    private async Task AppendAsync(int round, HttpClient client, LedgerProcess process, int acknowledgedMax)
    {
        var enough = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        var count = 0;
        var writers = Enumerable.Range(0, Writers).Select(writer => UntilKilledAsync(async i =>
        {
            var id = $"{round}-{writer}-{i}";
            using var answer = await LedgerHost.SendAsync(client, As.Acme, HttpMethod.Post, "/v1/append", "acme", $$"""{"payload_id":"{{id}}","payload":{{Payload(id)}}}""");
            Assert.Equal(200, (int)answer.StatusCode);
            Assert.True(_acknowledged.TryAdd(id, (await LedgerHost.JsonAsync(answer)).GetProperty("cursor").GetInt64()));
            if (Interlocked.Increment(ref count) == acknowledgedMax)
                enough.SetResult();
        })).Append(UntilKilledAsync(async _ =>
        {
            using var answer = await LedgerHost.SendAsync(client, As.Acme, HttpMethod.Get, "/v1/checkpoint", "acme");
            if (answer.IsSuccessStatusCode)
                Show(await answer.Content.ReadAsByteArrayAsync(TestContext.Current.CancellationToken));
        })).ToArray();
        await Task.WhenAny(enough.Task, Task.WhenAll(writers));
        await process.KillAsync();
        await Task.WhenAll(writers);
        await enough.Task.WaitAsync(TestContext.Current.CancellationToken);
    }

    private static Task UntilKilledAsync(Func<int, Task> request) => Task.Run(async () =>
    {
        for (var i = 0; ; i++)
        {
            try
            {
                await request(i);
            }
            catch (Exception fault) when (fault is HttpRequestException or IOException or JsonException)
            {
                return; // Killed before the answer was whole: nothing was acknowledged.
            }
        }
    });

    private async Task ReadOnAsync(HttpClient client)
    {
        while (true)
        {
            using var answer = await LedgerHost.SendAsync(client, As.Admin, HttpMethod.Get, $"/v1/entries?since={_tree.Size}&limit=10000", "acme");
            Assert.Equal(200, (int)answer.StatusCode);
            var page = (await LedgerHost.JsonAsync(answer)).GetProperty("entries");
            if (page.GetArrayLength() == 0)
                return;
            foreach (var one in page.EnumerateArray())
            {
                var entry = new Entry(one.GetProperty("writer").GetString()!, one.GetProperty("payload_id").GetString()!, one.GetProperty("time").GetDateTimeOffset(), Encoding.UTF8.GetBytes(one.GetProperty("payload").GetRawText()));
                _tree.Append(TreeHash.OfLeaf(entry.Encode()));
                _roots.Add(_tree.Root);
                // Adding it a second time would fail here.
                _entries.Add(entry.PayloadId, one.GetProperty("cursor").GetInt64());
                Assert.Equal(_tree.Size, _entries[entry.PayloadId]);
            }
        }
    }

    private async Task<byte[]?> PublishedAsync()
    {
        var file = Path.Combine(_folder, "acme", "checkpoint");
        return File.Exists(file) ? await File.ReadAllBytesAsync(file, TestContext.Current.CancellationToken) : null;
    }

    private void Show(byte[]? note)
    {
        if (note is not null)
            _shown.TryAdd(Convert.ToBase64String(note), note);
    }

    private static string Payload(string id) => $$"""{"event_type":"KILLED","id":"{{id}}"}""";
}
