using System.Collections.Concurrent;
using System.Text.Json;
using Foundry.Contracts;
using Foundry.Testing;

namespace Foundry.Gateway.Tests;

/// <summary>An event as the ledger took it.</summary>
internal sealed record Recorded(string Log, string PayloadId, JsonElement Payload)
{
    public string Type => Payload.GetProperty("event_type").GetString()!;
}

/// <summary>A ledger that keeps each payload ID once, as ours does, and shows what it has.</summary>
internal sealed class FakeLedger : IAsyncDisposable
{
    private readonly ConcurrentDictionary<(string Log, string Id), long> _cursors = [];

    public FakeLedger() => Backend = new FaultyBackend(request => Task.FromResult(Override(request) ?? Answer(request)));

    public FaultyBackend Backend { get; }

    public Func<BackendRequest, BackendAnswer?> Override { get; set; } = _ => null;

    /// <summary>What was appended, in order; a repeat shows as the second one it is.</summary>
    public ConcurrentQueue<Recorded> Events { get; } = [];

    public ValueTask DisposeAsync() => Backend.DisposeAsync();

    private BackendAnswer Answer(BackendRequest request)
    {
        if (request is not { Method: "POST", Path: "/v1/append", IsOwn: true })
            return BackendAnswer.Json("{}");
        var append = JsonSerializer.Deserialize(request.Body, WireJson.Default.AppendRequest)!;
        var log = request[FoundryHeaders.ModuleId]!;
        Events.Enqueue(new Recorded(log, append.PayloadId!, append.Payload.Clone()));
        return BackendAnswer.Json(JsonSerializer.Serialize(new Appended(_cursors.GetOrAdd((log, append.PayloadId!), _ => _cursors.Count + 1), append.PayloadId!), WireJson.Default.Appended));
    }
}
