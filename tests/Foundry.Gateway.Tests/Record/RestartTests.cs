using Foundry.Testing;

namespace Foundry.Gateway.Tests.Record;

/// <summary>HAZARDS 77: between the fleet's yes and the record there may be a kill -9; the event is there exactly once nevertheless.</summary>
public sealed class RestartTests
{
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_decision_whose_outcome_nobody_saw_is_settled_from_the_fleets_list_after_a_restart(bool wasMade)
    {
        var time = new MovableTime();
        await using var host = await GatewayHost.StartAsync(new GatewaySetup { Time = time });
        var listIsAway = true;
        host.Fleet.Override = request =>
        {
            if (request is { IsOwn: true, Path: "/internal/v1/vms" })
                return listIsAway ? BackendAnswer.Json("{}", 500) : null;
            if (request is not { IsOwn: false, Method: "POST" })
                return null;
            if (wasMade)
                host.Fleet.Make(request);
            return BackendAnswer.ResetAtOnce;
        };
        Assert.Equal(502, (await host.SendAsync("POST", "/v1/vms", host.Token("input"), """{"vm_type":"micro","ram_mb":512,"vcpu_count":1}""")).Status);
        await host.StopGatewayAsync();
        Assert.DoesNotContain(host.Ledger.Events, recorded => recorded.Type == "VM_CREATED");
        var made = host.Fleet.Vms.Values.SingleOrDefault();

        await host.StartGatewayAsync();
        // As long as the fleet could still make it, absence says nothing.
        Assert.Equal(1, await CreateOutcomeTests.IntentsAsync(host, host.Acme));
        listIsAway = false;
        if (!wasMade)
            time.Move(TimeSpan.FromSeconds(31));

        await host.UntilAsync(async () => await CreateOutcomeTests.IntentsAsync(host, host.Acme) == 0);
        // Once more round, with nothing left to settle; what is recorded after it shows that nothing else was.
        await host.StopGatewayAsync();
        await host.StartGatewayAsync();
        await host.GetAsync("/v1/tenants", host.Token("read"));
        await host.RecordedAsync("ACCESS_DENIED");
        Assert.Equal(wasMade ? [$"VM_CREATED:{made!.VmId}"] : [], host.Ledger.Events.Where(recorded => recorded.Type == "VM_CREATED").Select(recorded => recorded.PayloadId));
    }

    [Fact]
    public async Task Events_that_the_ledger_has_not_taken_wait_on_disk()
    {
        await using var host = await GatewayHost.StartAsync();
        await host.Ledger.Backend.StopAsync();
        Assert.Equal(201, (await host.SendAsync("POST", "/v1/vms", host.Token("input"), """{"vm_type":"micro","ram_mb":512,"vcpu_count":1}""")).Status);
        var made = Assert.Single(host.Fleet.Vms.Values);
        await host.StopGatewayAsync();
        host.Ledger.Backend.Start();

        await host.StartGatewayAsync();

        Assert.Equal($"VM_CREATED:{made.VmId}", Assert.Single((await host.RecordedAsync("VM_CREATED")).DistinctBy(recorded => recorded.PayloadId)).PayloadId);
    }
}
