using System.Globalization;
using Dapper;
using Foundry.Storage;
using Foundry.Testing;
using Microsoft.Extensions.DependencyInjection;

namespace Foundry.Gateway.Tests.Record;

/// <summary>CONTRACT section 7, the producer's outbox: a ledger that is away holds up nobody while there is room, and then changes alone.</summary>
public sealed class LedgerAwayTests
{
    private const string Create = """{"vm_type":"micro","ram_mb":512,"vcpu_count":1}""";

    /// <summary>As if it were stopped with SIGSTOP, and later killed and started again.</summary>
    [Fact]
    public async Task A_ledger_that_takes_requests_and_answers_none_holds_up_nobody_and_gets_everything_in_order_when_it_is_back()
    {
        await using var host = await GatewayHost.StartAsync();
        host.Ledger.Override = _ => BackendAnswer.Silence;
        var token = host.Token("input");
        var made = new List<string>();
        for (var i = 0; i < 20; i++)
        {
            var created = await host.SendAsync("POST", "/v1/vms", token, Create);
            Assert.Equal(201, created.Status);
            made.Add(created.Json.GetProperty("vm_id").GetString()!);
        }
        Assert.Equal(20, (await host.GetAsync("/v1/vms", token)).Json.GetArrayLength());
        Assert.Equal(204, (await host.SendAsync("DELETE", $"/v1/vms/{made[0]}", token)).Status);
        // It waits with one request at a time, and not with one for each event.
        await host.UntilAsync(() => !host.Ledger.Backend.Requests.IsEmpty);
        Assert.InRange(host.Ledger.Backend.Requests.Count(request => request.Path == OutboxLines.Path), 1, made.Count - 1);
        Assert.Empty(host.Ledger.Events);

        await host.Ledger.Backend.StopAsync();
        host.Ledger.Override = _ => null;
        host.Ledger.Backend.Start();

        await host.RecordedAsync("VM_DESTROYED");
        // A producer sends at least once, and the ledger keeps it once.
        Assert.Equal([.. made.Select(vm => $"VM_CREATED:{vm}"), $"VM_DESTROYED:{made[0]}"], host.Ledger.Events.Select(recorded => recorded.PayloadId).Distinct());
    }

    [Fact]
    public async Task A_full_outbox_turns_changes_away_and_reads_deletes_and_nodes_reports_go_on()
    {
        await using var host = await GatewayHost.StartAsync();
        host.Ledger.Override = _ => BackendAnswer.Json("{}", 503);
        var (token, outbox) = (host.Token("input"), host.Services.GetRequiredService<Outbox>());
        Assert.Equal(201, (await host.SendAsync("POST", "/v1/vms", token, Create)).Status);
        await WriteAsync(host, string.Create(CultureInfo.InvariantCulture, $$"""
            INSERT INTO outbox (module_id, payload_id, payload)
            WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {{Outbox.EventsMax}}) SELECT 'filler', 'filler:' || i, '{}' FROM n
            """));
        outbox.Wake();
        await host.UntilAsync(() => !outbox.HasRoom);

        var refused = await host.SendAsync("POST", "/v1/vms", token, Create);
        Assert.Equal((503, "record_unavailable"), (refused.Status, refused.Code));
        Assert.NotNull(refused["Retry-After"]);
        Assert.Equal(200, (await host.GetAsync("/v1/vms", token)).Status);
        Assert.Equal(200, (await host.GetAsync("/v1/status", token)).Status);
        // Nothing was done, and nothing is held for it.
        Assert.Single(host.Fleet.Vms);
        Assert.Equal(1, (await host.GetAsync("/v1/status", token)).Json.GetProperty("vms_running").GetInt32());
        Assert.NotEqual("record_unavailable", (await host.SendAsync("POST", "/v1/nodes/heartbeat", host.Token("service:fleet-node"), """{"node_id":"n-1"}""")).Code);
        Assert.Equal(204, (await host.SendAsync("DELETE", $"/v1/vms/{host.Fleet.Vms.Keys.Single()}", token)).Status);

        await WriteAsync(host, "DELETE FROM outbox WHERE module_id = 'filler'");
        host.Ledger.Override = _ => null;
        outbox.Wake();
        await host.UntilAsync(async () => (await host.SendAsync("POST", "/v1/vms", token, Create)).Status == 201);
        await host.RecordedAsync("VM_CREATED", atLeast: 2);
    }

    private static Task WriteAsync(GatewayHost host, string sql) =>
        host.Services.GetRequiredService<Database>().WriteAsync(async transaction => await transaction.Connection!.ExecuteAsync(sql, transaction: transaction), TestContext.Current.CancellationToken);
}
