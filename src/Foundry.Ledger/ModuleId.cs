using System.Diagnostics.CodeAnalysis;
using System.Text.RegularExpressions;

namespace Foundry.Ledger;

/// <summary>
/// The name of a log: a tenant's ID, the platform's, or either with <c>.audit</c> behind it. It is also the name of the log's
/// folder, so nothing that could mean another folder is a name.
/// </summary>
internal readonly partial record struct ModuleId
{
    private const string AuditSuffix = ".audit";

    private ModuleId(string name) => Name = name;

    /// <summary>The name as it is on the wire and on disk.</summary>
    public string Name { get => field ?? throw new InvalidOperationException("No log is named."); }

    /// <summary>Whether this log records the reads of another.</summary>
    public bool IsAudit => Name.EndsWith(AuditSuffix, StringComparison.Ordinal);

    /// <summary>The log in which reads of this one are recorded.</summary>
    public ModuleId Audit => IsAudit ? throw new InvalidOperationException("Reads of an audit log are not recorded again.") : new(Name + AuditSuffix);

    /// <summary>Reads a name.</summary>
    public static bool TryParse([NotNullWhen(true)] string? text, out ModuleId module)
    {
        module = text is not null && Pattern().IsMatch(text) ? new ModuleId(text) : default;
        return module != default;
    }

    /// <inheritdoc/>
    public override string ToString() => Name;

    [GeneratedRegex(@"\A([a-z][a-z0-9-]{1,61}[a-z0-9]|foundry\.platform)(\.audit)?\z", RegexOptions.CultureInvariant)]
    private static partial Regex Pattern();
}
