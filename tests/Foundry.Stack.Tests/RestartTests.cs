using Foundry.Testing;

namespace Foundry.Stack.Tests;

/// <summary>Each test has a process and a state folder of its own.</summary>
public sealed class RestartTests : IAsyncDisposable
{
    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    private readonly Walk _walk = new();

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Everything_is_still_so_after_a_stop_or_a_kill(bool kill)
    {
        await _walk.InitializeAsync();
        var revoked = await _walk.IssueAsync(_walk.Acme.Admin, "/v1/tokens", "read", Cancellation);
        var id = (await _walk.Client.PostAsync(null, "/v1/tokens/verify", $$"""{"token":"{{revoked}}"}""", Cancellation)).Text("token_id");
        Assert.Equal(204, (await _walk.Client.SendAsync(_walk.Acme.Admin, HttpMethod.Delete, $"/v1/tokens/{id}", null, Cancellation)).Status);
        await _walk.EntriesAsync(_walk.Acme.Read, "VM_CREATED", Walk.AcmeVmsMax, Cancellation);
        await WaitUntilRefusedAsync(_walk.Client, revoked);

        if (kill)
            await _walk.Process.KillAsync();
        else
            Assert.Equal(0, await _walk.Process.StopAsync(Cancellation));
        await using var again = await StandaloneProcess.StartAsync(_walk.Data, Cancellation);
        using var client = Http.NewClient(again.Gateway);

        // After a kill the buckets' history is lost, and they begin empty.
        async Task<Answer> Admitted(Func<Task<Answer>> send)
        {
            using var poll = new PeriodicTimer(TimeSpan.FromMilliseconds(200));
            Answer answer;
            while ((answer = await send()).Code == "rate_limited")
                await poll.WaitForNextTickAsync(Cancellation);
            return answer;
        }
        Assert.Equal("revoked", (await client.GetAsync(revoked, "/v1/vms", Cancellation)).Text("reason"));
        var list = await Admitted(() => client.GetAsync(_walk.Acme.Read, "/v1/vms", Cancellation));
        Assert.Equal(_walk.AcmeVms, list.Json.EnumerateArray().Select(vm => vm.GetProperty("vm_id").GetString()!).Order(StringComparer.Ordinal));
        Assert.Equal(404, (await Admitted(() => client.GetAsync(_walk.Globex.Read, $"/v1/vms/{_walk.AcmeVms[0]}", Cancellation))).Status);
        var eleventh = await Admitted(() => client.PostAsync(_walk.Acme.Input, "/v1/vms", """{"vm_type":"VmTotebox","ram_mb":4096,"vcpu_count":2}""", Cancellation));
        Assert.Equal("quota_exceeded", eleventh.Code);
        Assert.Equal(Walk.AcmeVmsMax, eleventh.Json.GetProperty("used").GetInt64());
        var entries = await Admitted(() => client.GetAsync(_walk.Acme.Read, "/v1/entries?event_type=VM_CREATED&limit=100", Cancellation));
        Assert.Equal(Walk.AcmeVmsMax, entries.Json.GetProperty("entries").GetArrayLength());
        Assert.Equal(_walk.Admin, (await File.ReadAllTextAsync(Path.Combine(_walk.Data, "admin.token"), Cancellation)).Trim());
    }

    private static async Task WaitUntilRefusedAsync(HttpClient client, string token)
    {
        using var poll = new PeriodicTimer(TimeSpan.FromMilliseconds(20));
        while ((await client.GetAsync(token, "/v1/status", Cancellation)).Status != 401)
            await poll.WaitForNextTickAsync(Cancellation);
    }

    public ValueTask DisposeAsync() => _walk.DisposeAsync();
}
