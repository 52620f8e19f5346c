using System.Globalization;
using System.Reflection;
using System.Text;
using System.Text.RegularExpressions;
using System.Xml.Linq;

namespace Foundry.Contracts.Tests;

public sealed partial class ErrorCodeList
{
    private static readonly FieldInfo[] Fields = [.. typeof(ErrorCode).GetFields(BindingFlags.Public | BindingFlags.Static).Where(field => field.FieldType == typeof(ErrorCode))];

    [Fact]
    public void Has_each_code_once()
    {
        var codes = Fields.Select(field => ((ErrorCode)field.GetValue(null)!).Code).ToList();
        Assert.Equal(codes.Count, codes.Distinct(StringComparer.OrdinalIgnoreCase).Count());
        Assert.Equal(codes.Order(StringComparer.Ordinal), ErrorCode.All.Keys.Order(StringComparer.Ordinal));
        Assert.All(ErrorCode.All, pair => Assert.Equal(pair.Key, pair.Value.Code));
    }

    [Fact]
    public void Has_codes_of_lower_case_words_and_titles_that_are_sentences_without_a_stop() => Assert.All(ErrorCode.All.Values, error =>
    {
        Assert.Matches(CodeShape(), error.Code);
        Assert.InRange(error.Status, 400, 599);
        Assert.Matches(TitleShape(), error.Title);
    });

    /// <summary>What clients may rely on, so written down here once more: a change of a status is a change of the contract.</summary>
    [Theory]
    [InlineData(400, "invalid_body", "invalid_header", "invalid_path", "invalid_query", "module_required")]
    [InlineData(401, "gateway_required", "invalid_token", "join_refused")]
    [InlineData(403, "event_type_reserved", "insufficient_scope", "scope_not_grantable", "tenant_mismatch")]
    [InlineData(404, "not_found")]
    [InlineData(405, "method_not_allowed")]
    [InlineData(408, "request_timeout")]
    [InlineData(409, "in_progress", "node_conflict", "payload_conflict", "stale_reservation", "tenant_exists", "tenant_not_empty")]
    [InlineData(410, "cursor_gone")]
    [InlineData(412, "precondition_failed")]
    [InlineData(413, "body_too_large", "entry_too_large")]
    [InlineData(415, "unsupported_media_type")]
    [InlineData(422, "expiry_exceeds_issuer", "idempotency_key_reused", "invalid_value", "tenant_required")]
    [InlineData(429, "quota_exceeded", "rate_limited")]
    [InlineData(431, "headers_too_large")]
    [InlineData(500, "internal_error")]
    [InlineData(502, "backend_error", "backend_unavailable", "unfilterable_response")]
    [InlineData(503, "feed_stale", "no_capacity", "not_ready", "quota_unavailable", "record_unavailable")]
    [InlineData(504, "backend_timeout")]
    public void Has_these_codes_with_this_status(int status, params string[] codes) => Assert.Subset(
        ErrorCode.All.Values.Where(error => error.Status == status).Select(error => error.Code).ToHashSet(StringComparer.Ordinal),
        codes.ToHashSet(StringComparer.Ordinal));

    [Fact]
    public async Task Is_what_docs_errors_md_says()
    {
        var file = Path.Combine(Root(), "docs", "errors.md");
        var expected = Page();
        if (Environment.GetEnvironmentVariable("FOUNDRY_UPDATE") == "1")
            await File.WriteAllTextAsync(file, expected, TestContext.Current.CancellationToken);
        var found = File.Exists(file) ? await File.ReadAllTextAsync(file, TestContext.Current.CancellationToken) : "";
        Assert.True(expected == found, "docs/errors.md is not what src/Foundry.Contracts/ErrorCode.cs says: run `FOUNDRY_UPDATE=1 dotnet test --project tests/Foundry.Contracts.Tests` and commit the file.");
    }

    private static string Page()
    {
        var summaries = XDocument.Load(Path.ChangeExtension(typeof(ErrorCode).Assembly.Location, ".xml")).Descendants("member")
            .ToDictionary(member => member.Attribute("name")!.Value, member => member.Element("summary"), StringComparer.Ordinal);
        var page = new StringBuilder("""
            # Errors

            Every error is an RFC 9457 `application/problem+json` document with a stable `code`; clients decide by `code`, people read
            `title` and `detail`. This is the closed list, made from `src/Foundry.Contracts/ErrorCode.cs` by its test; do not edit it here.

            | code | status | title | meaning |
            |---|---|---|---|

            """);
        foreach (var (field, error) in Fields.Select(field => (field, (ErrorCode)field.GetValue(null)!)).OrderBy(pair => pair.Item2.Status).ThenBy(pair => pair.Item2.Code, StringComparer.Ordinal))
            page.Append(CultureInfo.InvariantCulture, $"| `{error.Code}` | {error.Status} | {error.Title} | {Text(summaries[$"F:{typeof(ErrorCode).FullName}.{field.Name}"]!)} |\n");
        return page.ToString();
    }

    private static string Text(XElement summary) => Space().Replace(string.Concat(summary.Nodes().Select(node => node switch
    {
        XElement { Name.LocalName: "c" } code => $"`{code.Value}`",
        XElement other => other.Attribute("cref")?.Value.Split('.')[^1] ?? other.Value,
        _ => node.ToString(),
    })), " ").Trim();

    private static string Root()
    {
        var folder = AppContext.BaseDirectory;
        while (!File.Exists(Path.Combine(folder, "Foundry.Gateway.sln")))
            folder = Path.GetDirectoryName(folder) ?? throw new InvalidOperationException("The test does not run within the repository.");
        return folder;
    }

    [GeneratedRegex("^[a-z]+(_[a-z]+)*$")]
    private static partial Regex CodeShape();

    [GeneratedRegex(@"^[A-Z].*[^.\s]$")]
    private static partial Regex TitleShape();

    [GeneratedRegex(@"\s+")]
    private static partial Regex Space();
}
