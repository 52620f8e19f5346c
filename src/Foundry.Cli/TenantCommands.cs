using System.CommandLine;
using System.Text.Json;
using Foundry.Contracts;

namespace Foundry.Cli;

/// <summary><c>foundry tenant …</c> (CONTRACT section 3).</summary>
internal static class TenantCommands
{
    private static readonly string[] Columns = ["tenant_id", "display_name", "status", "max_vms", "max_ram_mb", "storage_quota_gb", "api_rate_limit_rpm", "created_at"];

    public static Command Create(GlobalOptions globals) => new Command("tenant", "Tenants: who may use the platform, and how much of it")
    {
        CreateOne(globals),
        List(globals),
        Show(globals),
    };

    private static Verb CreateOne(GlobalOptions globals)
    {
        var id = Take.Id("ID", "The tenant's ID, for ever: a-z, 0-9 and '-', 3 to 63 characters, a letter first");
        var displayName = new Option<string>("--display-name") { HelpName = "NAME", Description = "What people call it", Required = true };
        var maxVms = Take.Number("--max-vms", "VMs it may hold at once", 0, 100_000, required: true);
        var storage = Take.Number("--storage-quota-gb", "Disk its VMs may hold together, GiB", 0, int.MaxValue, required: true);
        var rate = Take.Number("--api-rate-limit-rpm", "Requests a minute, over all gateways", 1, 10_000_000, required: true);
        var ram = Take.Number("--max-ram-mb", "RAM its VMs may hold together, MiB. Default: no limit", 0, int.MaxValue);
        var verb = new Verb("create", "Register a tenant",
            "foundry tenant create acme-corp --display-name 'Acme Corporation' --max-vms 10 --storage-quota-gb 100 --api-rate-limit-rpm 600")
        { id, displayName, maxVms, storage, rate, ram };
        return verb.Runs(globals, async (session, cancellationToken) =>
        {
            var parse = session.Parse;
            var answer = await session.Gateway.CreateTenantAsync(new TenantRequest(
                parse.GetValue(id), parse.GetValue(displayName), (int?)parse.GetValue(maxVms), (int?)parse.GetValue(storage),
                (int?)parse.GetValue(rate), (int?)parse.GetValue(ram)), cancellationToken);
            return session.Output.Finish(answer, session.Output.Members);
        });
    }

    private static Verb List(GlobalOptions globals)
    {
        var cursor = Paging.Cursor();
        var verb = new Verb("list", "List tenants", "foundry tenant list") { cursor };
        return verb.Runs(globals, (session, cancellationToken) =>
            Paging.RunAsync(session, session.Parse.GetValue(cursor), session.Gateway.ListTenantsAsync, Columns, cancellationToken));
    }

    private static Verb Show(GlobalOptions globals)
    {
        var id = Take.Id("ID", "The tenant's ID");
        var verb = new Verb("show", "Show one tenant", "foundry tenant show acme-corp") { id };
        return verb.Runs(globals, async (session, cancellationToken) =>
            session.Output.Finish(await session.Gateway.GetTenantAsync(session.Parse.GetValue(id)!, cancellationToken), session.Output.Members));
    }
}

/// <summary>Lists that come in pages.</summary>
internal static class Paging
{
    /// <summary>Pages that one table is gathered from at most; a server that never stops is a broken one.</summary>
    public const int PagesMax = 1000;

    public static Option<string?> Cursor() => new("--cursor") { HelpName = "CURSOR", Description = "Begin at this page. Default: the first; a table then shows all pages, JSON one at a time" };

    /// <summary>Shows a table of all pages, or one page of JSON as it came, and says where the next begins.</summary>
    public static async Task<int> RunAsync(Session session, string? cursor, Func<string?, CancellationToken, Task<Answer>> page, string[] columns, CancellationToken cancellationToken)
    {
        var one = session.Output.AsJson || cursor is not null;
        var rows = new List<JsonElement>();
        for (var pages = 1; ; pages++)
        {
            var answer = await page(cursor, cancellationToken);
            if (!answer.IsAccepted)
                return session.Output.Refused(answer);
            var list = JsonElement.Parse(answer.Body);
            cursor = NextCursor(list);
            rows.AddRange(Output.Elements(list));
            if (session.Output.AsJson)
                session.Output.Json(answer.Body);
            if (cursor is not null && !one && pages < PagesMax)
                continue;
            if (!session.Output.AsJson)
                session.Output.Rows(rows, columns);
            if (cursor is not null)
                session.Output.Note($"there is more: --cursor {cursor}");
            return ExitCode.Done;
        }
    }

    private static string? NextCursor(JsonElement list) =>
        list.ValueKind == JsonValueKind.Object && list.TryGetProperty("next_cursor", out var next) && next.ValueKind == JsonValueKind.String ? next.GetString() : null;
}
