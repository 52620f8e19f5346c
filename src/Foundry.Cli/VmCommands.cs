using System.CommandLine;
using Foundry.Contracts;

namespace Foundry.Cli;

/// <summary><c>foundry vm …</c> (CONTRACT section 6).</summary>
internal static class VmCommands
{
    private static readonly string[] Columns = ["vm_id", "tenant_id", "vm_type", "state", "ram_alloc_mb", "vcpu_count", "disk_gb", "node_id", "started_at"];

    public static Command Create(GlobalOptions globals) => new Command("vm", "Virtual machines")
    {
        List(globals),
        CreateOne(globals),
        Delete(globals),
    };

    private static Verb List(GlobalOptions globals)
    {
        var tenant = Take.Tenant("Only this tenant's; a tenant's own token sees its own anyway");
        var verb = new Verb("list", "List VMs", "foundry vm list", "foundry vm list --output json") { tenant };
        return verb.Runs(globals, async (session, cancellationToken) =>
            session.Output.Finish(await session.Gateway.ListVmsAsync(session.Parse.GetValue(tenant), cancellationToken),
                list => session.Output.Rows(Output.Elements(list), Columns)));
    }

    private static Verb CreateOne(GlobalOptions globals)
    {
        var type = new Option<string>("--type") { HelpName = "TYPE", Description = "What kind of VM", Required = true };
        var ram = Take.Number("--ram-mb", "RAM, MiB", 1, int.MaxValue, required: true);
        var cpus = Take.Number("--vcpu-count", "Virtual CPUs", 1, 65_536, required: true);
        var disk = Take.Number("--disk-gb", "Disk, GiB. Default: as much as RAM, at least 8", 1, int.MaxValue);
        var kvm = new Option<bool>("--prefer-kvm") { Description = "Prefer nodes with KVM" };
        var node = Take.Id("--preferred-node", "NODE", "Prefer this node");
        var tenant = Take.Tenant();
        var key = new Option<string?>("--idempotency-key") { HelpName = "KEY", Description = "Repeat a create whose answer was lost: the same key gets the first answer and no second VM. Default: a new one" };
        var verb = new Verb("create", "Create a VM", "foundry vm create --type VmTotebox --ram-mb 4096 --vcpu-count 2")
        { type, ram, cpus, disk, kvm, node, tenant, key };
        verb.Validators.Add(result =>
        {
            if (result.GetValue(key) is { } text && (text.Length is 0 or > 128 || text.Any(c => c is <= ' ' or > '~')))
                result.AddError("--idempotency-key: 1 to 128 visible ASCII characters");
        });
        return verb.Runs(globals, async (session, cancellationToken) =>
        {
            var parse = session.Parse;
            // Always with a key, so that a lost answer can be asked for again without a second VM.
            var idempotencyKey = parse.GetValue(key) ?? Guid.CreateVersion7(session.Surroundings.Time.GetUtcNow()).ToString();
            var answer = await session.Gateway.CreateVmAsync(new CreateVm
            {
                VmType = parse.GetValue(type),
                RamMb = parse.GetValue(ram),
                VcpuCount = (int?)parse.GetValue(cpus),
                DiskGb = parse.GetValue(disk),
                PreferKvm = parse.GetValue(kvm) ? true : null,
                PreferredNode = parse.GetValue(node),
                TenantId = parse.GetValue(tenant),
            }, idempotencyKey, cancellationToken);
            var exit = session.Output.Finish(answer, session.Output.Members);
            if (!answer.IsAccepted && (answer.MayHaveHappened || answer.Status is 502 or 504))
                session.Output.Note($"whether the VM was created is not known: repeat the command with --idempotency-key {idempotencyKey} to find out safely");
            return exit;
        });
    }

    private static Verb Delete(GlobalOptions globals)
    {
        var id = Take.Id("ID", "The VM's ID");
        var tenant = Take.Tenant();
        var verb = new Verb("delete", "Delete a VM", "foundry vm delete vmtotebox-1781000000") { id, tenant };
        return verb.Runs(globals, async (session, cancellationToken) =>
        {
            var vm = session.Parse.GetValue(id)!;
            return session.Output.Finish(await session.Gateway.DeleteVmAsync(vm, session.Parse.GetValue(tenant), cancellationToken), _ => session.Output.Note($"deleted {vm}"));
        });
    }
}
