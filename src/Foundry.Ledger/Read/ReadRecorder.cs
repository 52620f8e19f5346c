using System.Text.Json;
using Foundry.Contracts;
using Foundry.Ledger.Append;
using Foundry.Ledger.Storage;
using Foundry.ServiceDefaults;

namespace Foundry.Ledger.Read;

/// <summary>Records who reads a log's entries, in the log beside it, before the first byte is given (CONTRACT section 7).</summary>
internal sealed class ReadRecorder(LogShelf shelf, TimeProvider time)
{
    /// <summary>The type of the event; the ledger's own, and nobody else's to append.</summary>
    public const string EventType = "ENTRIES_READ";

    /// <summary>Makes a read known. Nothing may be read unless it says true.</summary>
    /// <param name="context">The request.</param>
    /// <param name="access">Who reads which log. A read of an audit log is not recorded again: that would never end.</param>
    /// <param name="what">What is asked for: the path, and the query as far as it says what is looked for.</param>
    public async Task<bool> TryRecordAsync(HttpContext context, Access access, string what)
    {
        if (access.Module.IsAudit)
            return true;
        var now = time.GetUtcNow();
        var id = Guid.CreateVersion7(now).ToString();
        var who = access.Who;
        var read = new PlatformEvent
        {
            EventType = EventType,
            EventId = id,
            Time = now,
            TenantId = who.TenantId,
            Actor = new EventActor(who.IsOwn ? null : who.SubjectPubkey, who.IsOwn ? null : who.TokenId, who.IsOwn ? $"service:{who.Part}" : who.Scope?.Text ?? "none"),
            RequestId = RequestId.Of(context),
            Others = new Dictionary<string, JsonElement>
            {
                ["module_id"] = JsonSerializer.SerializeToElement(access.Module.Name, WireJson.Default.String),
                ["read"] = JsonSerializer.SerializeToElement(what, WireJson.Default.String),
            },
        };
        using var log = await shelf.OpenOrCreateAsync(access.Module.Audit);
        var payload = JsonSerializer.SerializeToUtf8Bytes(read, WireJson.Default.PlatformEvent);
        return (await log.AppendAsync(Ledger.Part, id, payload, context.RequestAborted)).Status == AppendStatus.Appended;
    }

    /// <summary>The answer when a read could not be recorded.</summary>
    public static Refused Unrecorded { get; } = new(ErrorCode.RecordUnavailable, "This read cannot be recorded at the moment, so it is not answered.");
}
