using System.Text.RegularExpressions;
using YamlDotNet.Core;
using YamlDotNet.Serialization;

namespace Foundry.Tidy.Tests;

/// <summary>docker-compose.yml is run by nobody here, so it is held against the sources it configures.</summary>
public sealed class Compose
{
    private static readonly Dictionary<string, int> Ports = new(StringComparer.Ordinal) { ["gateway"] = 9222, ["issuance"] = 9210, ["ledger"] = 9100, ["fleet"] = 9203 };

    private static readonly IDictionary<object, object> Document = Parse();

    private static IDictionary<object, object> Services => Map(Document["services"]);

    private static IDictionary<object, object> Map(object? value) => (IDictionary<object, object>)value!;

    private static IEnumerable<(string Service, string Key, string Value)> Environment =>
        from service in Services
        where Map(service.Value).ContainsKey("environment")
        from setting in Map(Map(service.Value)["environment"])
        select ((string)service.Key, (string)setting.Key, (string)setting.Value);

    private static IDictionary<object, object> Parse()
    {
        using var reader = new StringReader(Repository.Read("docker-compose.yml"));
        return new DeserializerBuilder().Build().Deserialize<Dictionary<object, object>>(new MergingParser(new Parser(reader)));
    }

    [Fact]
    public void Has_every_part_and_what_they_need() =>
        Assert.Equal(["fleet", "gateway", "issuance", "ledger", "postgres", "redis"], Services.Keys.Cast<string>().Order(StringComparer.Ordinal));

    [Fact]
    public void Sets_only_what_the_parts_read()
    {
        foreach (var (service, key, _) in Environment.Where(setting => setting.Key.StartsWith("FOUNDRY_", StringComparison.Ordinal)))
        {
            var match = Regex.Match(key, @"^FOUNDRY_(\w+)__(\w+)$");
            Assert.True(match.Success, $"{service}: {key} is not FOUNDRY_<Section>__<Key>");
            var (section, name) = (match.Groups[1].Value, match.Groups[2].Value);
            Assert.True(
                Repository.Sources.Where(file => file.StartsWith("src/", StringComparison.Ordinal)).Select(Repository.Read).Any(source =>
                    source.Contains($"class {section}Options", StringComparison.Ordinal) && Regex.IsMatch(source, $@"public [\w?<>]+ {name} \{{ get; set; \}}")),
                $"{service}: {key} is no property of src's {section}Options");
        }
    }

    [Fact]
    public void Lets_each_part_listen_on_its_own_port_and_finds_it_there()
    {
        foreach (var (part, port) in Ports)
        {
            var section = char.ToUpperInvariant(part[0]) + part[1..];
            var options = Repository.Sources.Where(file => file.StartsWith($"src/Foundry.{section}/", StringComparison.Ordinal)).Select(Repository.Read).Single(source => source.Contains($"class {section}Options", StringComparison.Ordinal));
            Assert.Contains($"http://127.0.0.1:{port}", options, StringComparison.Ordinal);
            var listen = part == "gateway" ? "FOUNDRY_Gateway__OpsListen" : $"FOUNDRY_{section}__Listen";
            Assert.Contains((part, listen, $"http://0.0.0.0:{port}"), Environment);
            Assert.Contains($"/dev/tcp/127.0.0.1/{port} ", Map(Map(Services[part])["healthcheck"])["test"] is List<object> test ? string.Join(' ', test) : "", StringComparison.Ordinal);
            Assert.Equal(section, Map(Map(Map(Services[part])["build"])["args"])["SERVICE"]);
        }
        Assert.Contains(("gateway", "FOUNDRY_Gateway__Listen", "http://0.0.0.0:9221"), Environment);
        Assert.All(Environment.Where(setting => setting.Key.EndsWith("__Url", StringComparison.Ordinal)), setting =>
        {
            var part = setting.Key["FOUNDRY_".Length..^"__Url".Length].ToLowerInvariant();
            Assert.Equal($"http://{part}:{Ports[part]}", setting.Value);
        });
    }

    [Fact]
    public void Publishes_the_gateway_alone_and_its_ops_port_on_loopback() => Assert.Equal(
        [("gateway", "9221:9221"), ("gateway", "127.0.0.1:9222:9222")],
        Services.Where(service => Map(service.Value).ContainsKey("ports")).SelectMany(service => ((List<object>)Map(service.Value)["ports"]).Select(port => ((string)service.Key, (string)port))));

    [Fact]
    public void Holds_no_secret()
    {
        foreach (var (service, key, value) in Environment)
            if (Regex.IsMatch(key + value, "password|joincode|secret|token", RegexOptions.IgnoreCase))
                Assert.True(Regex.IsMatch(value, @"(^|Password=)\$\{[A-Z_]+:\?[^}]+\}$"), $"{service}: {key} is not taken from the environment");
    }

    [Fact]
    public void Watches_every_service_and_keeps_its_state_in_a_volume_with_a_name()
    {
        var volumes = Map(Document["volumes"]).Keys.Cast<string>().ToHashSet(StringComparer.Ordinal);
        Assert.All(Services, service =>
        {
            Assert.True(Map(service.Value).ContainsKey("healthcheck"), $"{service.Key} has no health check");
            Assert.Contains(((List<object>)Map(service.Value)["volumes"]).Cast<string>().Single().Split(':')[0], volumes);
            if (Map(service.Value).TryGetValue("image", out var image))
                Assert.Matches(@":\d", (string)image);
        });
    }

    [Fact]
    public void Runs_images_of_our_own_without_root_on_the_runtime_that_we_build_for()
    {
        var dockerfile = Repository.Read("Dockerfile");
        Assert.Matches(@"(?m)^USER \$\{APP_UID\}$", dockerfile);
        var version = Regex.Match(Repository.Read("global.json"), "\"version\": \"(\\d+\\.\\d+)").Groups[1].Value;
        Assert.Contains($"ARG DOTNET={version}\n", dockerfile, StringComparison.Ordinal);
        Assert.Contains($"<TargetFramework>net{version}<", Repository.Read("Directory.Build.props"), StringComparison.Ordinal);
    }
}
