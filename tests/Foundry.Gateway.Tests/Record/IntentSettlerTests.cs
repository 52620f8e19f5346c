using Foundry.Testing;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;

namespace Foundry.Gateway.Tests.Record;

/// <summary>What a fleet does while it is asked what became of a create ends neither the settling nor the host.</summary>
public sealed class IntentSettlerTests
{
    [Theory]
    [InlineData("breaks off")]
    [InlineData("unknown charset")]
    public async Task A_list_that_cannot_be_read_leaves_the_decision_open_until_one_can(string fault)
    {
        await using var host = await GatewayHost.StartAsync();
        var stopping = host.Services.GetRequiredService<IHostApplicationLifetime>().ApplicationStopping;
        var isFaulty = true;
        var lists = 0;
        host.Fleet.Override = request =>
        {
            if (request is { IsOwn: false, Method: "POST" })
            {
                host.Fleet.Make(request);
                return BackendAnswer.ResetAtOnce;
            }
            if (!isFaulty || request is not { IsOwn: true, Path: "/internal/v1/vms" })
                return null;
            Interlocked.Increment(ref lists);
            return fault == "breaks off"
                ? BackendAnswer.Chunked(["""{"epoch":1,"""u8.ToArray()], whole: false)
                : BackendAnswer.Of("{}"u8.ToArray(), 200, "application/json; charset=nonsense");
        };
        Assert.Equal(502, (await host.SendAsync("POST", "/v1/vms", host.Token("input"), """{"vm_type":"micro","ram_mb":512,"vcpu_count":1}""")).Status);

        await host.UntilAsync(() => Volatile.Read(ref lists) >= 4 || stopping.IsCancellationRequested);
        Assert.False(stopping.IsCancellationRequested);
        Assert.Equal(1, await CreateOutcomeTests.IntentsAsync(host, host.Acme));

        isFaulty = false;
        await host.UntilAsync(async () => await CreateOutcomeTests.IntentsAsync(host, host.Acme) == 0);
        Assert.Equal($"VM_CREATED:{Assert.Single(host.Fleet.Vms.Values).VmId}", Assert.Single(await host.RecordedAsync("VM_CREATED")).PayloadId);
    }
}
