using System.Text;
using Foundry.Gateway.Config;
using Foundry.ServiceDefaults;
using Foundry.Testing;

namespace Foundry.Gateway.Tests.Config;

/// <summary>Errors in route files name file, line, field and what would be right; all of them at once.</summary>
public sealed class RouteFilesTests
{
    private const string Good = """
        {
          // Comments are welcome, and a comma too many.
          "ReverseProxy": {
            "Routes": {
              "good": {
                "ClusterId": "fleet",
                "Match": { "Path": "/v1/good", "Methods": ["GET"] },
                "Metadata": { "foundry.scope": "any" },
              }
            }
          }
        }
        """;

    [Theory]
    [InlineData("\"ClusterId\": \"fleet\"", "\"ClusterId\": \"fleets\"", 6, "good: ClusterId", "there is no cluster 'fleets'")]
    [InlineData("\"foundry.scope\"", "\"foundry.scopes\": \"any\", \"foundry.scope\"", 8, "good: Metadata.foundry.scopes", "is not known")]
    [InlineData("\"Path\"", "\"Paths\"", 7, "$.ReverseProxy.Routes.good.Match.Paths", "")]
    [InlineData("\"ClusterId\"", "\"Cluster\"", 6, "$.ReverseProxy.Routes.good.Cluster", "")]
    [InlineData("\"good\": {", "\"good\": ", 6, "", "")]
    [InlineData("[\"GET\"]", "\"GET\"", 7, "$.ReverseProxy.Routes.good.Match.Methods", "")]
    [InlineData("\"any\"", "true", 8, "", "")]
    [InlineData("/v1/good", "v1/good", 7, "good: Match.Path", "/segments")]
    [InlineData("\"Match\"", "\"Order\": \"x\", \"Match\"", 7, "$.ReverseProxy.Routes.good.Order", "")]
    [InlineData("\"ReverseProxy\"", "\"ReverseProxies\"", 3, "$.ReverseProxies", "")]
    [InlineData("\"Match\": { \"Path\": \"/v1/good\", \"Methods\": [\"GET\"] },", "", 5, "good: Match", "is missing")]
    public void An_error_says_where_it_is(string find, string replace, int line, string field, string message)
    {
        var file = Good.Replace(find, replace, StringComparison.Ordinal);
        Assert.NotEqual(Good, file);

        var errors = Parse(("a.json", Good.Replace("good", "other", StringComparison.Ordinal)), ("b.json", file)).Errors;

        var error = errors[0];
        Assert.Equal(("b.json", line), (error.File, error.Line));
        Assert.Contains(field, error.Field, StringComparison.Ordinal);
        Assert.Contains(message, error.Message, StringComparison.Ordinal);
        Assert.Single(errors);
    }

    [Fact]
    public void Sound_files_are_read_with_comments_and_a_byte_order_mark() =>
        Assert.Equal(["good", "other"], Parse(("a.json", "\ufeff" + Good), ("b.json", Good.Replace("good", "other", StringComparison.Ordinal))).Set!.Policies.Keys.Order());

    [Theory]
    [InlineData("good")]
    [InlineData("GOOD")]
    public void A_route_is_in_one_file(string id)
    {
        var error = Assert.Single(Parse(("a.json", Good), ("b.json", Good.Replace("\"good\"", $"\"{id}\"", StringComparison.Ordinal))).Errors);
        Assert.Equal(("b.json", 5), (error.File, error.Line));
        Assert.Contains("in another file already", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_route_is_in_one_file_once() => Assert.NotEmpty(Parse(("a.json", Good.Replace("\"Routes\": {", "\"Routes\": { \"good\": {},", StringComparison.Ordinal))).Errors);

    [Theory]
    [InlineData("""{ "mine": { "Destinations": {} } }""", "at least one destination")]
    [InlineData("""{ "mine": { } }""", "at least one destination")]
    [InlineData("""{ "mine": { "Destinations": { "a": { "Address": "nowhere" } } } }""", "http://127.0.0.1:8080/")]
    [InlineData("""{ "mine": { "Destinations": { "a": { "Address": "file:///etc" } } } }""", "http://127.0.0.1:8080/")]
    [InlineData("""{ "fleet": { "Destinations": { "a": { "Address": "http://127.0.0.1:1/" } } } }""", "Fleet:Url")]
    [InlineData("""{ "Issuance": { "Destinations": { "a": { "Address": "http://127.0.0.1:1/" } } } }""", "Issuance:Url")]
    public void A_cluster_is_sound_and_not_one_of_ours(string clusters, string right)
    {
        var error = Assert.Single(Parse(("a.json", Good.Replace("\"Routes\": {", $"\"Clusters\": {clusters}, \"Routes\": {{", StringComparison.Ordinal))).Errors);
        Assert.Equal(4, error.Line);
        Assert.Contains(right, error.Message, StringComparison.Ordinal);
    }

    /// <summary>Read as JSON they are sound, and so they were taken for values.</summary>
    [Theory]
    [InlineData("\"Routes\": {", "\"Clusters\": {\n\"mine\": null }, \"Routes\": {", 5, "mine")]
    [InlineData("\"Routes\": {", "\"Clusters\": {\n\"mine\": { \"Destinations\": { \"a\": null } } }, \"Routes\": {", 5, "mine")]
    [InlineData("\"any\"", "null", 8, "good: Metadata")]
    [InlineData("\"any\"", "\"any\", \"foundry.own\": null", 8, "good: Metadata")]
    public void A_null_where_a_value_belongs_is_an_error_with_its_place(string find, string replace, int line, string field)
    {
        var file = Good.Replace(find, replace, StringComparison.Ordinal);
        Assert.NotEqual(Good, file);

        var error = Assert.Single(Parse(("a.json", Good.Replace("good", "other", StringComparison.Ordinal)), ("b.json", file)).Errors);

        Assert.Equal(("b.json", line, field), (error.File, error.Line, error.Field));
        Assert.Contains("null", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void An_object_is_looked_up_only_where_the_gateway_can_ask()
    {
        var file = Good.Replace("\"Routes\": {", """ "Clusters": { "mine": { "Destinations": { "a": { "Address": "http://127.0.0.1:1/" } } } }, "Routes": {""", StringComparison.Ordinal)
            .Replace("\"fleet\"", "\"mine\"", StringComparison.Ordinal).Replace("/v1/good", "/v1/{id}", StringComparison.Ordinal)
            .Replace("\"foundry.scope\": \"any\"", "\"foundry.scope\": \"any\", \"foundry.own\": \"object={id}; at=/v1/{id}; owner=tenant_id\"", StringComparison.Ordinal);

        var error = Assert.Single(Parse(("a.json", file)).Errors);

        Assert.Equal(("a.json", 8, "good: Metadata.foundry.own"), (error.File, error.Line, error.Field));
    }

    [Fact]
    public void No_file_is_a_mistake() => Assert.Single(Parse().Errors);

    [Fact]
    public async Task A_start_with_bad_files_names_all_that_is_wrong()
    {
        using var folder = new TempFolder();
        await File.WriteAllTextAsync(folder.File("a.json"), Good.Replace("any", "nobody", StringComparison.Ordinal), TestContext.Current.CancellationToken);
        await File.WriteAllTextAsync(folder.File("b.json"), "{ nonsense", TestContext.Current.CancellationToken);
        await File.WriteAllTextAsync(folder.File("c.json"), Good.Replace("\"fleet\"", "\"nowhere\"", StringComparison.Ordinal).Replace("good", "c", StringComparison.Ordinal), TestContext.Current.CancellationToken);

        var failure = await Assert.ThrowsAsync<StartupException>(() => GatewayHost.StartAsync(new GatewaySetup { Routes = folder.Path }));

        Assert.All(new[] { "a.json, line 8: good: Metadata.foundry.scope: 'nobody' is no scope", "b.json, line 1:", "c.json, line 6: c: ClusterId: there is no cluster 'nowhere'" }, part => Assert.Contains(part, failure.Message, StringComparison.Ordinal));
    }

    [Fact]
    public async Task An_error_that_the_proxy_finds_has_its_file_and_line_too()
    {
        using var folder = new TempFolder();
        await File.WriteAllTextAsync(folder.File("a.json"), Good.Replace("\"ClusterId\"", "\"Transforms\": [{ \"NoSuchTransform\": \"x\" }], \"ClusterId\"", StringComparison.Ordinal), TestContext.Current.CancellationToken);

        var failure = await Assert.ThrowsAsync<StartupException>(() => GatewayHost.StartAsync(new GatewaySetup { Routes = folder.Path }));

        Assert.Contains("a.json, line 5: good: ", failure.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_folder_that_is_not_there_stops_the_start() =>
        Assert.Contains("FOUNDRY_CONFIG", (await Assert.ThrowsAsync<StartupException>(() => GatewayHost.StartAsync(new GatewaySetup { Routes = "/nowhere/at/all" }))).Message, StringComparison.Ordinal);

    [Theory]
    [InlineData("Gateway:Listen", "nonsense", "http://ADDRESS:PORT")]
    [InlineData("Gateway:Listen", "http://0.0.0.0:9221", "AllowPublicListen")]
    [InlineData("Gateway:OpsListen", "http://0.0.0.0:9222", "AllowPublicOpsListen")]
    [InlineData("Gateway:Lisen", "http://127.0.0.1:1", "Lisen")]
    [InlineData("Gateway:StalenessLimit", "00:00:01", "at least 00:00:05")]
    [InlineData("Gateway:FeedLinesMax", "9", "10 to 1000000")]
    [InlineData("Gateway:GatewaysExpected", "0", "1 to 1000")]
    [InlineData("Gateway:GatewaysExpected", "many", "GatewaysExpected")]
    [InlineData("Gateway:Name", "Not A Name", "lower-case")]
    [InlineData("Trust:RootThumbprint", "short", "Trust:RootThumbprint")]
    [InlineData("Fleet:Url", "nowhere", "Fleet:Url")]
    public async Task A_setting_that_is_not_sound_stops_the_start_and_is_named(string key, string value, string named) =>
        Assert.Contains(named, (await Assert.ThrowsAsync<StartupException>(() => GatewayHost.StartAsync(new GatewaySetup { Settings = new Dictionary<string, string?> { [key] = value } }))).Message, StringComparison.Ordinal);

    private static (RouteSet? Set, IReadOnlyList<ConfigError> Errors) Parse(params (string Name, string Text)[] files)
    {
        var own = new[] { Clusters.Issuance, Clusters.Ledger, Clusters.Fleet }.Select(id => Clusters.Of(id, new Uri("http://127.0.0.1:1"), TimeSpan.FromSeconds(1))).ToArray();
        var set = new RouteFiles("folder", own).Parse([.. files.Select(file => (file.Name, Encoding.UTF8.GetBytes(file.Text)))], "hash", out var errors);
        Assert.Equal(set is null, errors.Count > 0);
        return (set, errors);
    }
}
