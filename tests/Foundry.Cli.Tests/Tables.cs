namespace Foundry.Cli.Tests;

public sealed class Tables
{
    [Fact]
    public async Task Show_vms_under_the_names_they_have_on_the_wire()
    {
        await using var gateway = await StandInGateway.StartAsync(Said.Json("""
            [{"vm_id":"vmtotebox-1","vm_type":"VmTotebox","state":"Running","ram_alloc_mb":4096,"vcpu_count":2,"started_at":"2026-06-12T09:41:07.123456789Z","tenant_id":"acme-corp","host_ports":[]},
             {"vm_id":"vm-2","vm_type":"VmMediaKit","state":"Provisioning","ram_alloc_mb":2048,"vcpu_count":1,"started_at":null,"tenant_id":"acme-corp","host_ports":[],"disk_gb":8,"node_id":"n1"}]
            """));
        using var line = new CommandLine();
        var ran = await line.RunAsync(gateway, "vm", "list");
        Assert.Equal([
            "vm_id tenant_id vm_type state ram_alloc_mb vcpu_count disk_gb node_id started_at",
            "vmtotebox-1 acme-corp VmTotebox Running 4096 2 - - 2026-06-12T09:41:07.123456789Z",
            "vm-2 acme-corp VmMediaKit Provisioning 2048 1 8 n1 -",
        ], Lines(ran));
    }

    [Fact]
    public async Task Show_who_made_an_entry_and_where_to_go_on()
    {
        await using var gateway = await StandInGateway.StartAsync(Said.Json("""
            {"module_id":"acme-corp","next_cursor":8,"entries":[{"cursor":7,"payload_id":"TENANT_CREATED:acme-corp","payload":
            {"event_type":"TENANT_CREATED","time":"2026-06-12T09:00:00Z","tenant_id":"acme-corp","actor":{"scope":"service:platform-admin","token_id":"admin-1"}}}]}
            """));
        using var line = new CommandLine();
        var ran = await line.RunAsync(gateway, "ledger", "read");
        Assert.Equal([
            "cursor payload.time payload.event_type payload.tenant_id payload.actor.scope payload.actor.token_id payload_id",
            "7 2026-06-12T09:00:00Z TENANT_CREATED acme-corp service:platform-admin admin-1 TENANT_CREATED:acme-corp",
        ], Lines(ran));
        Assert.Equal("foundry: log acme-corp; what follows is after --since 8\n", ran.Error);
    }

    [Fact]
    public async Task Show_a_record_member_by_member_as_it_came()
    {
        await using var gateway = await StandInGateway.StartAsync(Said.Json("""{"tenant_id":"acme-corp","display_name":"[red]Acme[/] \u001b[31m","max_vms":10,"require_proof":false,"a.b":[1]}"""));
        using var line = new CommandLine();
        Assert.Equal(["tenant_id acme-corp", @"display_name [red]Acme[/] \u{1b}[31m", "max_vms 10", "require_proof false", "a.b [1]"],
            Lines(await line.RunAsync(gateway, "tenant", "show", "acme-corp")));
    }

    [Fact]
    public async Task Gather_all_pages()
    {
        await using var gateway = await StandInGateway.StartAsync(
            Said.Json("""{"items":[{"tenant_id":"t1"}],"next_cursor":"a b"}"""),
            Said.Json("""{"items":[{"tenant_id":"t2"}]}"""));
        using var line = new CommandLine();
        var ran = await line.RunAsync(gateway, "tenant", "list");
        Assert.Equal(["tenant_id", "t1", "t2"], Lines(ran).Select(text => text.Split(' ')[0]));
        Assert.Equal(["/v1/tenants", "/v1/tenants?cursor=a%20b"], gateway.Requests.Select(asked => asked.Target));
        Assert.Equal("", ran.Error);
    }

    [Fact]
    public async Task As_json_are_one_page_and_the_way_to_the_next()
    {
        const string page = """{"items":[{"tenant_id":"t1"}],"next_cursor":"abc"}""";
        await using var gateway = await StandInGateway.StartAsync(Said.Json(page));
        using var line = new CommandLine();
        var ran = await line.RunAsync(gateway, "tenant", "list", "-o", "json");
        Assert.Equal((page, "foundry: there is more: --cursor abc\n"), (ran.Output, ran.Error));
    }

    [Fact]
    public async Task A_page_that_is_refused_shows_none()
    {
        await using var gateway = await StandInGateway.StartAsync(Said.Json("""{"items":[{"tenant_id":"t1"}],"next_cursor":"abc"}"""), Said.Problem(429, "rate_limited"));
        using var line = new CommandLine();
        var ran = await line.RunAsync(gateway, "tenant", "list");
        Assert.Equal((ExitCode.Failed, ""), (ran.Exit, ran.Output));
    }

    /// <summary>A pipe gets every column whole, however long, and no escape sequences.</summary>
    [Fact]
    public async Task Are_neither_cut_nor_folded_nor_coloured_in_a_pipe()
    {
        var name = new string('x', 5000);
        await using var gateway = await StandInGateway.StartAsync(Said.Json($$"""{"items":[{"tenant_id":"t1","display_name":"{{name}}"}]}"""));
        using var line = new CommandLine();
        var ran = await line.RunAsync(gateway, "tenant", "list");
        Assert.Contains(name, ran.Output, StringComparison.Ordinal);
        Assert.DoesNotContain('\u001b', ran.Output);
        Assert.All(ran.Output, character => Assert.True(char.IsAscii(character)));
    }

    [Fact]
    public async Task Too_wide_for_a_terminal_are_a_block_for_each_row()
    {
        await using var gateway = await StandInGateway.StartAsync(Said.Json("""
            [{"vm_id":"vm-00fef29dc7d2d0f81c67aaf8302d34b9","vm_type":"VmTotebox","state":"Running","ram_alloc_mb":4096,"vcpu_count":2,"started_at":"2026-06-12T09:41:07.123456789Z","tenant_id":"acme-corp","node_id":"compute-west-01"},
             {"vm_id":"vm-a7398cbc9b154b67d51adde21736f8bb","vm_type":"VmTotebox","state":"Running","ram_alloc_mb":4096,"vcpu_count":2,"started_at":"2026-06-12T09:41:07.123456789Z","tenant_id":"acme-corp","node_id":"compute-west-01"}]
            """));
        using var line = new CommandLine { OutputIsTerminal = true };
        var ran = await line.RunAsync(gateway, "vm", "list");
        Assert.All(ran.Output.Split('\n'), text => Assert.InRange(text.Length, 0, Surroundings.WidthDefault));
        // Each ID whole, on one line: it is there to be copied.
        Assert.Equal(["vm_id vm-00fef29dc7d2d0f81c67aaf8302d34b9", "vm_id vm-a7398cbc9b154b67d51adde21736f8bb"],
            Lines(ran).Select(text => text.Trim()).Where(text => text.StartsWith("vm_id", StringComparison.Ordinal)));
    }

    [Fact]
    public async Task Narrow_enough_for_a_terminal_are_tables()
    {
        await using var gateway = await StandInGateway.StartAsync(Said.Json("""{"items":[{"tenant_id":"t01","display_name":"T"}]}"""));
        using var line = new CommandLine { OutputIsTerminal = true, Width = 120 };
        var ran = await line.RunAsync(gateway, "tenant", "list");
        Assert.All(ran.Output.Split('\n'), text => Assert.InRange(text.Length, 0, line.Width));
        Assert.Single(Lines(ran), text => text.Contains("tenant_id display_name status", StringComparison.Ordinal));
    }

    [Fact]
    public async Task Have_columns_two_spaces_apart_and_lines_without_tails()
    {
        await using var gateway = await StandInGateway.StartAsync(Said.Json("""{"tenant_id":"acme-corp","display_name":"Acme Corporation","max_vms":10}"""));
        using var line = new CommandLine();
        Assert.Equal("""
            tenant_id     acme-corp
            display_name  Acme Corporation
            max_vms       10

            """, (await line.RunAsync(gateway, "tenant", "show", "acme-corp")).Output);
    }

    [Fact]
    public async Task Without_rows_are_their_header()
    {
        await using var gateway = await StandInGateway.StartAsync(Said.Json("[]"));
        using var line = new CommandLine();
        Assert.Equal("vm_id  tenant_id  vm_type  state  ram_alloc_mb  vcpu_count  disk_gb  node_id  started_at\n", (await line.RunAsync(gateway, "vm", "list")).Output);
    }

    // What is in the columns, however far apart they are.
    private static string[] Lines(Ran ran)
    {
        Assert.Equal(ExitCode.Done, ran.Exit);
        return [.. ran.Output.Split('\n', StringSplitOptions.RemoveEmptyEntries)
            .Select(text => string.Join(' ', text.Split(' ', StringSplitOptions.RemoveEmptyEntries)))];
    }
}
