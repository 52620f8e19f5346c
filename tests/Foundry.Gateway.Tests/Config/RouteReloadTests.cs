using System.Text.Json;
using Foundry.Gateway.Config;
using Foundry.ServiceDefaults;
using Foundry.Testing;

namespace Foundry.Gateway.Tests.Config;

/// <summary>HAZARDS B7: an edit is live when it is sound, however it was written; otherwise nothing changes, and that is said.</summary>
public sealed class RouteReloadTests : IAsyncLifetime
{
    private readonly TempFolder _folder = new();
    private GatewayHost? _host;

    private GatewayHost Host => _host!;

    private string Routes => _folder.File("routes");

    private string Extra => Path.Combine(Routes, "zz-extra.json");

    public async ValueTask InitializeAsync()
    {
        Directory.CreateDirectory(Routes);
        foreach (var file in Directory.GetFiles(Path.Combine(ServiceHost.ConfigFolder(), "routes")))
            File.Copy(file, Path.Combine(Routes, Path.GetFileName(file)));
        _host = await GatewayHost.StartAsync(new GatewaySetup { Routes = Routes });
    }

    public async ValueTask DisposeAsync()
    {
        if (_host is not null)
            await _host.DisposeAsync();
        _folder.Dispose();
    }

    [Fact]
    public async Task A_good_edit_is_live_a_bad_one_changes_nothing_and_the_next_good_one_is_live_again()
    {
        await WriteAsync(Route("one"));
        await AppliedAsync();
        Assert.Equal(200, await StatusAsync("/v1/one"));
        var running = (await Host.OpsAsync("/config/status")).GetProperty("running_hash").GetString();

        await WriteAsync(Route("two").Replace("foundry.scope", "foundry.scop", StringComparison.Ordinal));
        await Host.UntilAsync(async () => (await ErrorsAsync()).GetArrayLength() > 0);
        var status = await Host.OpsAsync("/config/status");
        var errors = status.GetProperty("errors").EnumerateArray().ToArray();
        Assert.Contains(errors, error => error.GetProperty("file").GetString() == "zz-extra.json" && error.GetProperty("line").GetInt32() == 1 && error.GetProperty("field").GetString()!.Contains("foundry.scop", StringComparison.Ordinal));
        Assert.Equal(running, status.GetProperty("running_hash").GetString());
        Assert.NotEqual(running, status.GetProperty("on_disk_hash").GetString());
        Assert.Equal((200, 404), (await StatusAsync("/v1/one"), await StatusAsync("/v1/two")));
        Assert.Equal(200, await StatusAsync("/v1/vms"));

        await WriteAsync(Route("two"));
        await AppliedAsync();
        Assert.Equal((404, 200), (await StatusAsync("/v1/one"), await StatusAsync("/v1/two")));
    }

    [Fact]
    public async Task A_policy_changes_with_its_route()
    {
        await WriteAsync(Route("one"));
        await AppliedAsync();
        Assert.Equal(200, await StatusAsync("/v1/one"));

        await WriteAsync(Route("one").Replace("\"any\"", "\"input\"", StringComparison.Ordinal));
        await AppliedAsync();

        Assert.Equal(403, await StatusAsync("/v1/one"));
    }

    [Theory]
    [InlineData("rename over")]
    [InlineData("symlink swap")]
    [InlineData("deleted and written")]
    [InlineData("in place")]
    public async Task It_does_not_matter_how_an_edit_is_written(string how)
    {
        var ct = TestContext.Current.CancellationToken;
        foreach (var name in new[] { "one", "two" })
        {
            switch (how)
            {
                case "rename over":
                    await File.WriteAllTextAsync(Extra + ".tmp", Route(name), ct);
                    File.Move(Extra + ".tmp", Extra, overwrite: true);
                    break;
                case "symlink swap":
                    var version = _folder.File($"version-{name}.json");
                    await File.WriteAllTextAsync(version, Route(name), ct);
                    File.CreateSymbolicLink(Extra + ".tmp", version);
                    File.Move(Extra + ".tmp", Extra, overwrite: true);
                    break;
                case "deleted and written":
                    File.Delete(Extra);
                    await WriteAsync(Route(name));
                    break;
                default:
                    await WriteAsync(Route(name));
                    break;
            }
            await Host.UntilAsync(async () => await StatusAsync($"/v1/{name}") == 200);
        }
        Assert.Equal(404, await StatusAsync("/v1/one"));
    }

    [Fact]
    public async Task A_file_that_is_half_written_is_not_applied()
    {
        await WriteAsync(Route("one"));
        await AppliedAsync();
        var next = Route("two");

        await WriteAsync(next[..(next.Length / 2)]);
        await Host.UntilAsync(async () => (await ErrorsAsync()).GetArrayLength() > 0);
        Assert.Equal(200, await StatusAsync("/v1/one"));

        await WriteAsync(next);
        await AppliedAsync();
        Assert.Equal((404, 200), (await StatusAsync("/v1/one"), await StatusAsync("/v1/two")));
    }

    [Fact]
    public async Task A_file_that_is_deleted_takes_its_routes_with_it_and_all_files_nothing()
    {
        await WriteAsync(Route("one"));
        await AppliedAsync();

        File.Delete(Extra);
        await Host.UntilAsync(async () => await StatusAsync("/v1/one") == 404);
        Assert.Equal(200, await StatusAsync("/v1/vms"));

        foreach (var file in Directory.GetFiles(Routes))
            File.Delete(file);
        await Host.UntilAsync(async () => (await ErrorsAsync()).GetArrayLength() > 0);
        Assert.Equal(200, await StatusAsync("/v1/vms"));

        Directory.Delete(Routes);
        await Host.UntilAsync(async () => (await Host.OpsAsync("/config/status")).GetProperty("on_disk_hash").GetString() == "unreadable");
        Assert.Equal(200, await StatusAsync("/v1/vms"));
    }

    [Fact]
    public async Task An_edit_that_the_proxy_itself_refuses_changes_nothing()
    {
        await WriteAsync(Route("one").Replace("\"ClusterId\"", "\"Transforms\": [{ \"NoSuchTransform\": \"x\" }], \"ClusterId\"", StringComparison.Ordinal));

        await Host.UntilAsync(async () => (await ErrorsAsync()).GetArrayLength() > 0);

        var error = (await ErrorsAsync())[0];
        Assert.Equal(("zz-extra.json", 1), (error.GetProperty("file").GetString(), error.GetProperty("line").GetInt32()));
        Assert.Equal((404, 200), (await StatusAsync("/v1/one"), await StatusAsync("/v1/vms")));
    }

    [Theory]
    [InlineData("{ \"Routes\": {", "{ \"Clusters\": { \"mine\": null }, \"Routes\": {")]
    [InlineData("{ \"Routes\": {", "{ \"Clusters\": { \"mine\": { \"Destinations\": { \"a\": null } } }, \"Routes\": {")]
    public async Task An_edit_with_a_null_where_a_value_belongs_leaves_the_old_routes_in_force(string find, string replace)
    {
        await WriteAsync(Route("one"));
        await AppliedAsync();
        var edit = Route("two").Replace(find, replace, StringComparison.Ordinal);
        Assert.NotEqual(Route("two"), edit);

        await WriteAsync(edit);
        await Host.UntilAsync(async () => (await ErrorsAsync()).GetArrayLength() > 0);

        var error = (await ErrorsAsync())[0];
        Assert.Equal(("zz-extra.json", 1), (error.GetProperty("file").GetString(), error.GetProperty("line").GetInt32()));
        Assert.Equal((200, 404, 200), (await StatusAsync("/v1/one"), await StatusAsync("/v1/two"), await StatusAsync("/v1/vms")));
    }

    private static string Route(string name) =>
        $$$"""{ "ReverseProxy": { "Routes": { "{{{name}}}": { "ClusterId": "ledger", "Match": { "Path": "/v1/{{{name}}}", "Methods": ["GET"] }, "Metadata": { "foundry.scope": "any" } } } } }""";

    private Task WriteAsync(string text) => File.WriteAllTextAsync(Extra, text, TestContext.Current.CancellationToken);

    private async Task<int> StatusAsync(string target) => (await Host.GetAsync(target, Host.Token("read"))).Status;

    private async Task<JsonElement> ErrorsAsync() => (await Host.OpsAsync("/config/status")).GetProperty("errors");

    /// <summary>Waits until what is on disk now is in force.</summary>
    private Task AppliedAsync()
    {
        var hash = new RouteFiles(Routes, []).ReadBytes().Hash;
        return Host.UntilAsync(async () => (await Host.OpsAsync("/config/status")).GetProperty("running_hash").GetString() == hash);
    }
}
