using System.Collections.Concurrent;
using System.Text.Json;
using Microsoft.Extensions.DependencyInjection;
using As = Foundry.Ledger.Tests.LedgerHost.As;

namespace Foundry.Ledger.Tests.Recovery;

public sealed class AProcessKilledWhileItAppends : IDisposable
{
    private const int Writers = 16;
    private const int AcknowledgedMin = 150;

    private readonly string _folder = Directory.CreateTempSubdirectory("foundry-ledger-").FullName;
    private readonly ServiceProvider _clients = new ServiceCollection().AddHttpClient().BuildServiceProvider();

    public void Dispose()
    {
        _clients.Dispose();
        Directory.Delete(_folder, recursive: true);
    }

    [Fact]
    public async Task Has_every_acknowledged_entry_afterwards_once_and_under_its_cursor()
    {
        var acknowledged = new ConcurrentDictionary<string, long>();
        for (var round = 0; round < 3; round++)
            await AppendUntilKilledAsync(round, acknowledged);

        await using var ledger = await LedgerHost.StartAsync(_folder);
        var entries = new Dictionary<long, string>();
        for (long since = 0, before = -1; since != before;)
        {
            var page = await ledger.GetJsonAsync(As.Admin, $"/v1/entries?since={since}&limit=10000", "acme");
            foreach (var entry in page.GetProperty("entries").EnumerateArray())
                entries.Add(entry.GetProperty("cursor").GetInt64(), entry.GetProperty("payload_id").GetString()!);
            (before, since) = (since, page.GetProperty("next_cursor").GetInt64());
        }
        Assert.All(acknowledged, one => Assert.Equal(one.Key, entries[one.Value]));
        Assert.Equal(entries.Count, entries.Values.Distinct().Count());
        Assert.True(acknowledged.Count >= 3 * AcknowledgedMin);
        // A repeat of what was under way when the process died gets one place, as if nothing had happened.
        foreach (var (id, cursor) in acknowledged.Take(20))
            Assert.Equal(cursor, await ledger.CursorAsync(As.Acme, "acme", id, Payload(id)));
    }

    private async Task AppendUntilKilledAsync(int round, ConcurrentDictionary<string, long> acknowledged)
    {
        using var process = LedgerProcess.Start(_folder);
        using var client = _clients.GetRequiredService<IHttpClientFactory>().CreateClient();
        client.BaseAddress = process.Address;
        await process.ReadyAsync(client);

        var enough = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        var count = 0;
        var writers = Enumerable.Range(0, Writers).Select(writer => Task.Run(async () =>
        {
            for (var i = 0; ; i++)
            {
                var id = $"{round}-{writer}-{i}";
                try
                {
                    using var answer = await LedgerHost.SendAsync(client, As.Acme, HttpMethod.Post, "/v1/append", "acme", $$"""{"payload_id":"{{id}}","payload":{{Payload(id)}}}""");
                    Assert.Equal(200, (int)answer.StatusCode);
                    var cursor = (await LedgerHost.JsonAsync(answer)).GetProperty("cursor").GetInt64();
                    Assert.True(acknowledged.TryAdd(id, cursor));
                }
                catch (Exception fault) when (fault is HttpRequestException or IOException or JsonException)
                {
                    return; // Killed before the answer was whole: nothing was acknowledged.
                }
                if (Interlocked.Increment(ref count) == AcknowledgedMin)
                    enough.SetResult();
            }
        })).ToArray();
        await Task.WhenAny(enough.Task, Task.WhenAll(writers));
        await process.KillAsync();
        await Task.WhenAll(writers);
        await enough.Task.WaitAsync(TestContext.Current.CancellationToken);
    }

    private static string Payload(string id) => $$"""{"event_type":"KILLED","id":"{{id}}"}""";
}
