using System.Collections.Concurrent;
using System.Text;
using System.Text.Json;
using Foundry.Contracts;
using Foundry.Testing;

namespace Foundry.Gateway.Tests;

/// <summary>An event as the ledger took it.</summary>
internal sealed record Recorded(string Log, string PayloadId, JsonElement Payload)
{
    public string Type => Payload.GetProperty("event_type").GetString()!;
}

/// <summary>A ledger that takes everything, and shows what it was sent.</summary>
internal sealed class FakeLedger : IAsyncDisposable
{
    public FakeLedger() => Backend = new FaultyBackend(request => Task.FromResult(Override(request) ?? Answer(request)));

    public FaultyBackend Backend { get; }

    public Func<BackendRequest, BackendAnswer?> Override { get; set; } = _ => null;

    /// <summary>What was appended, in order; a repeat shows as the second one it is.</summary>
    public ConcurrentQueue<Recorded> Events { get; } = [];

    public ValueTask DisposeAsync() => Backend.DisposeAsync();

    private BackendAnswer Answer(BackendRequest request)
    {
        if (request is not { Method: "POST", Path: OutboxLines.Path, IsOwn: true })
            return BackendAnswer.Json("{}");
        var lines = OutboxLines.Read(request.Body);
        foreach (var append in lines)
            Events.Enqueue(new Recorded(request[FoundryHeaders.ModuleId]!, append.PayloadId!, append.Payload.Clone()));
        return BackendAnswer.Json(Encoding.UTF8.GetString(OutboxLines.Answer(lines.Count)));
    }
}
