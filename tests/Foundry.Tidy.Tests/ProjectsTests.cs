using System.Text.RegularExpressions;

namespace Foundry.Tidy.Tests;

/// <summary>docs/architecture.md, Levels.</summary>
public sealed class Levels
{
    private static readonly Dictionary<string, int> LevelOf = new(StringComparer.Ordinal)
    {
        ["Foundry.Tokens"] = 0,
        ["Foundry.Proofs"] = 0,
        ["Foundry.Contracts"] = 0,
        ["Foundry.ServiceDefaults"] = 1,
        ["Foundry.Storage"] = 1,
        ["Foundry.Gateway"] = 2,
        ["Foundry.Issuance"] = 2,
        ["Foundry.Ledger"] = 2,
        ["Foundry.Fleet"] = 2,
        ["Foundry.Standalone"] = 3,
        ["Foundry.Cli"] = 4,
    };

    private static IEnumerable<string> Sources => Repository.Projects.Where(project => project.StartsWith("src/", StringComparison.Ordinal));

    private static IEnumerable<string> References(string project) => Repository.Includes(project, "ProjectReference").Select(Repository.NameOf);

    [Fact]
    public void Are_said_of_every_project() =>
        Assert.Equal(LevelOf.Keys.Order(StringComparer.Ordinal), Sources.Select(Repository.NameOf).Order(StringComparer.Ordinal));

    [Fact]
    public void Are_what_the_references_keep_to()
    {
        var breaches =
            from project in Sources
            let name = Repository.NameOf(project)
            from reference in References(project)
            where LevelOf[reference] >= LevelOf[name] && (name, reference) is not ("Foundry.Storage", "Foundry.ServiceDefaults")
            select $"{name} (level {LevelOf[name]}) references {reference} (level {LevelOf[reference]})";
        Assert.Empty(breaches);
    }

    [Fact]
    public void Zero_has_no_web_server_and_does_not_read_or_write()
    {
        foreach (var project in Sources.Where(project => LevelOf[Repository.NameOf(project)] == 0))
        {
            Assert.Empty(Repository.Includes(project, "FrameworkReference"));
            var folder = Path.GetDirectoryName(project)!.Replace('\\', '/') + "/";
            Assert.DoesNotContain(Repository.Sources, file => file.StartsWith(folder, StringComparison.Ordinal)
                && Regex.IsMatch(Repository.Read(file), @"\b(File|Directory|FileStream|HttpClient|Socket|Console)\b[.(]"));
        }
    }

    [Fact]
    public void Are_a_compile_error_to_breach() =>
        Assert.Contains("<DisableTransitiveProjectReferences>true</DisableTransitiveProjectReferences>", Repository.Read("Directory.Build.props"), StringComparison.Ordinal);
}

public sealed class Projects
{
    [Fact]
    public void Are_all_in_the_solution()
    {
        var solution = Regex.Matches(Repository.Read("Foundry.Gateway.sln"), "\"([^\"]+\\.csproj)\"").Select(match => match.Groups[1].Value.Replace('\\', '/'));
        Assert.Equal(Repository.Projects.Order(StringComparer.Ordinal), solution.Order(StringComparer.Ordinal));
    }

    [Fact]
    public void Have_tests_of_their_own_name()
    {
        var missing = Repository.Projects.Where(project => project.StartsWith("src/", StringComparison.Ordinal)).Select(Repository.NameOf)
            .Where(name => !Repository.Projects.Contains($"tests/{name}.Tests/{name}.Tests.csproj"));
        Assert.Empty(missing);
    }

    [Fact]
    public void Have_a_lock_file_each() =>
        Assert.Empty(Repository.Projects.Select(project => $"{Path.GetDirectoryName(project)!.Replace('\\', '/')}/packages.lock.json").Except(Repository.Files));

    [Fact]
    public void Use_every_package_that_has_a_version_and_each_version_is_exact()
    {
        var groups = Repository.Xml("Directory.Packages.props").Descendants("ItemGroup").ToList();
        Assert.All(groups.SelectMany(group => group.Elements("PackageVersion")), package => Assert.Matches(@"^\d+\.\d+\.\d+(-[a-z0-9.]+)?$", package.Attribute("Version")!.Value));

        var used = Repository.Projects.Append("Directory.Build.props").SelectMany(project => Repository.Includes(project, "PackageReference")).ToHashSet(StringComparer.Ordinal);
        var named = groups.Where(group => group.Attribute("Label")?.Value.StartsWith("Transitive pins", StringComparison.Ordinal) != true)
            .SelectMany(group => group.Elements("PackageVersion")).Select(package => package.Attribute("Include")!.Value);
        Assert.Empty(named.Except(used));
        // And none says a version of its own.
        Assert.DoesNotContain(Repository.Projects, project => Repository.Xml(project).Descendants("PackageReference").Any(package => package.Attribute("Version") is not null || package.Attribute("VersionOverride") is not null));
    }
}
