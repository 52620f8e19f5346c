using System.Text.RegularExpressions;

namespace Foundry.Tidy.Tests;

public sealed class SourceText
{
    // Put together here, so that this file is not the only offender. What needs a server of CI's own says so, and CI itself refuses to do without.
    private static readonly Regex LeftForLater = new(@"\b(TO" + "DO|FIX" + "ME|HA" + @"CK)\b|\bfor " + @"now\b|\bSki" + @"p\s*=\s*""(?!FOUNDRY_TEST_\w+ is not set"")", RegexOptions.Compiled);
    private static readonly Regex VagueClass = new(@"\b(?:class|record|struct|interface|enum)\s+(\w+(?:Manager|Helper|Helpers|Util|Utils|Utility|Utilities))\b", RegexOptions.Compiled);
    private static readonly string[] Drawers = ["Common", "Core", "Abstractions", "Infrastructure", "Helpers", "Utils", "Misc", "Shared"];

    private static List<string> Lines(Regex pattern, IEnumerable<string>? files = null) =>
    [
        .. from file in files ?? Repository.Sources
           from line in Repository.Read(file).Split('\n').Select((text, at) => (Text: text, Number: at + 1))
           where pattern.IsMatch(line.Text)
           select $"{file}:{line.Number}: {line.Text.Trim()}",
    ];

    [Fact]
    public void Leaves_nothing_for_later_and_skips_no_test() => Assert.Empty(Lines(LeftForLater));

    [Fact]
    public void Has_no_drawers_for_the_rest()
    {
        Assert.DoesNotContain(Repository.Files, file => file.Split('/')[..^1].Any(folder => folder.Split('.').Any(Drawers.Contains)));
        Assert.Empty(Lines(new Regex($@"^namespace .*\b({string.Join('|', Drawers)})\b")));
    }

    [Fact]
    public void Names_classes_after_what_they_are() => Assert.Empty(Lines(VagueClass));

    /// <summary>Keys and tokens in a repository are everybody's. Published vectors are in folders named Vectors.</summary>
    [Fact]
    public void Holds_no_secret()
    {
        var secret = new Regex("-----BEGIN [A-Z ]*PRIVATE " + @"KEY-----|\beyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{40,}", RegexOptions.Compiled);
        Assert.Empty(Lines(secret, Repository.Files.Where(file => !file.Contains("/Vectors/", StringComparison.Ordinal) && new FileInfo(Path.Combine(Repository.Root, file)).Length < 4 * 1024 * 1024)));
        Assert.DoesNotContain(Repository.Files, file => Path.GetFileName(file) is "admin.token" or "admin.key" or "service.key" or "root.key" || Path.GetExtension(file) is ".pem" or ".pfx" or ".p12");
    }
}

public sealed class Documents
{
    [Fact]
    public void Link_to_what_exists()
    {
        var broken =
            from file in Repository.Files.Where(file => file.EndsWith(".md", StringComparison.Ordinal))
            from Match link in Regex.Matches(Repository.Read(file), @"\]\(([^)\s]+)(?:\s+""[^""]*"")?\)")
            let target = link.Groups[1].Value.Split('#')[0]
            where target.Length > 0 && !target.Contains("://", StringComparison.Ordinal) && !target.StartsWith("mailto:", StringComparison.Ordinal)
            let path = Path.Combine(Repository.Root, Path.GetDirectoryName(file)!, target)
            where !File.Exists(path) && !Directory.Exists(path)
            select $"{file}: {target}";
        Assert.Empty(broken);
    }

    [Fact]
    public void Of_decisions_are_numbered_without_a_gap()
    {
        var numbers = Repository.Files.Where(file => file.StartsWith("docs/decisions/", StringComparison.Ordinal)).Select(file => Path.GetFileName(file)).ToList();
        Assert.All(numbers, name => Assert.Matches(@"^\d{4}-[a-z0-9-]+\.md$", name));
        Assert.Equal(Enumerable.Range(1, numbers.Count), numbers.Select(name => int.Parse(name[..4], System.Globalization.CultureInfo.InvariantCulture)));
    }

    /// <summary>CONTRIBUTING speaks of make's targets; each must be there, and check must be what it says.</summary>
    [Fact]
    public void Name_targets_that_make_has()
    {
        var makefile = Repository.Read("Makefile");
        foreach (Match target in Regex.Matches(Repository.Read("CONTRIBUTING.md"), @"\bmake (\w+)"))
            Assert.Matches($@"(?m)^{target.Groups[1].Value}:", makefile);
        var check = Regex.Match(makefile, @"(?m)^check:.*\n((?:\t.*\n)+)").Groups[1].Value;
        foreach (var step in (string[])["restore --locked-mode", "dotnet build", "format --verify-no-changes", "dotnet test\n"])
            Assert.Contains(step, check, StringComparison.Ordinal);
        Assert.Contains("make check", Repository.Read(".ci/run"), StringComparison.Ordinal);
    }
}
