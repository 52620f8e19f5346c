using System.Diagnostics.CodeAnalysis;
using Foundry.Contracts;
using Foundry.ServiceDefaults;
using Foundry.ServiceDefaults.Trust;

namespace Foundry.Ledger;

/// <summary>Who asks, and for which log. Made only for those who may reach that log.</summary>
/// <param name="Module">The log.</param>
/// <param name="Who">What the assertion says.</param>
internal sealed record Access(ModuleId Module, Asserted Who)
{
    private const string TenantWriter = "tenant:";
    private const string AdminWriter = "platform-admin";

    /// <summary>
    /// Which log is asked for, and may this caller reach it? Parts and platform administrators reach every log, a tenant its
    /// own alone; of all others it learns nothing, not even whether their name could be one.
    /// </summary>
    public static bool TryOf(HttpContext context, [NotNullWhen(true)] out Access? access, [NotNullWhen(false)] out Refused? refusal)
    {
        access = null;
        refusal = null;
        var header = context.Request.Headers[FoundryHeaders.ModuleId];
        if (header is not [{ Length: > 0 } name])
        {
            refusal = new Refused(ErrorCode.ModuleRequired, $"Name the log in {FoundryHeaders.ModuleId}, once.");
            return false;
        }
        var who = Asserted.Of(context);
        var mayReach = who.IsOwn || who.IsPlatformAdmin || (who.TenantId is not null && string.Equals(who.TenantId, name, StringComparison.Ordinal));
        if (!mayReach || !ModuleId.TryParse(name, out var module))
        {
            refusal = Unknown;
            return false;
        }
        access = new Access(module, who);
        return true;
    }

    /// <summary>The answer for a log, or a part of one, that the caller may not know of or that is not there.</summary>
    public static Refused Unknown { get; } = new(ErrorCode.NotFound, "There is no such resource.");

    /// <summary>Whether this is a part of the platform speaking for itself; only those write the platform's types of events.</summary>
    public bool IsPart => Who.IsOwn;

    /// <summary>Whose an entry appended now is.</summary>
    public string Writer => IsPart ? Who.Part : Who.TenantId is { } tenant ? TenantWriter + tenant : AdminWriter;
}
