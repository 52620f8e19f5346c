using Foundry.Testing;

namespace Foundry.Stack.Tests;

/// <summary>HAZARDS 77: between the fleet's yes and the record there may be a kill -9.</summary>
public sealed class KillTests : IAsyncDisposable
{
    private const int AtOnce = 4;

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    private readonly Walk _walk = new();

    [Theory]
    [InlineData(1)]
    [InlineData(12)]
    public async Task Every_vm_that_the_fleet_made_is_in_the_record_once_whenever_it_was_killed(int createdBefore)
    {
        await _walk.InitializeAsync();
        var team = await _walk.NewTeamAsync("killers", 200, Cancellation, rpm: 60_000);
        await _walk.BeatAsync(team.Node, "compute-north-01", Cancellation);
        var created = 0;
        var enough = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        var creators = Enumerable.Range(0, AtOnce).Select(async _ =>
        {
            try
            {
                while (true)
                {
                    var answer = await _walk.Client.PostAsync(team.Input, "/v1/vms", """{"vm_type":"micro","ram_mb":64,"vcpu_count":1,"disk_gb":1}""", Cancellation);
                    if (answer.Status == 201 && Interlocked.Increment(ref created) == createdBefore)
                        enough.SetResult();
                }
            }
            catch (HttpRequestException)
            {
                // Killed.
            }
        }).ToList();
        await enough.Task;

        await _walk.Process.KillAsync();
        await Task.WhenAll(creators);
        await using var again = await StandaloneProcess.StartAsync(_walk.Data, Cancellation);
        using var client = Http.NewClient(again.Gateway);

        // What the fleet has is in the record, and the other way round; after a kill the bucket begins empty, and quotas are rebuilt.
        using var poll = new PeriodicTimer(TimeSpan.FromMilliseconds(200));
        using var patience = CancellationTokenSource.CreateLinkedTokenSource(Cancellation);
        patience.CancelAfter(TimeSpan.FromSeconds(60));
        while (true)
        {
            var (list, entries) = (await client.GetAsync(team.Read, "/v1/vms", Cancellation), await client.GetAsync(team.Read, "/v1/entries?event_type=VM_CREATED&limit=1000", Cancellation));
            if (list.Status == 200 && entries.Status == 200)
            {
                var vms = list.Json.EnumerateArray().Select(vm => vm.GetProperty("vm_id").GetString()).Order().ToList();
                var recorded = entries.Json.GetProperty("entries").EnumerateArray().Select(entry => entry.GetProperty("payload").GetProperty("vm_id").GetString()).Order().ToList();
                Assert.Equal(recorded.Distinct(), recorded);
                Assert.True(vms.Count >= createdBefore);
                if (vms.SequenceEqual(recorded))
                    return;
            }
            await poll.WaitForNextTickAsync(patience.Token);
        }
    }

    public ValueTask DisposeAsync() => _walk.DisposeAsync();
}
