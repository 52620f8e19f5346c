using System.Xml.Linq;

namespace Foundry.Tidy.Tests;

/// <summary>The repository that these tests are part of, without what is built or generated in it.</summary>
internal static class Repository
{
    private static readonly string[] NotOurs = [".git", "artifacts", "data", "node_modules", "bin", "obj", ".vs", ".idea"];

    public static string Root { get; } = FindRoot();

    /// <summary>Every file, relative to the root, with forward slashes.</summary>
    public static IReadOnlyList<string> Files { get; } = [.. FilesBelow(Root).Select(file => Path.GetRelativePath(Root, file).Replace('\\', '/')).Order(StringComparer.Ordinal)];

    public static IEnumerable<string> Projects => Files.Where(file => file.EndsWith(".csproj", StringComparison.Ordinal));

    public static IEnumerable<string> Sources => Files.Where(file => file.EndsWith(".cs", StringComparison.Ordinal));

    public static string NameOf(string project) => Path.GetFileNameWithoutExtension(project);

    public static string Read(string file) => File.ReadAllText(Path.Combine(Root, file));

    public static XDocument Xml(string file) => XDocument.Parse(Read(file));

    /// <summary>What a project includes of one kind, such as <c>ProjectReference</c>.</summary>
    public static IEnumerable<string> Includes(string project, string kind) =>
        Xml(project).Descendants(kind).Select(item => item.Attribute("Include")?.Value ?? item.Attribute("Update")!.Value);

    private static IEnumerable<string> FilesBelow(string folder) => Directory.EnumerateFiles(folder)
        .Concat(Directory.EnumerateDirectories(folder).Where(inner => !NotOurs.Contains(Path.GetFileName(inner))).SelectMany(FilesBelow));

    private static string FindRoot()
    {
        var folder = AppContext.BaseDirectory;
        while (!File.Exists(Path.Combine(folder, "Foundry.Gateway.sln")))
            folder = Path.GetDirectoryName(folder) ?? throw new InvalidOperationException("The tests do not run within the repository.");
        return folder;
    }
}
