using System.Collections.Concurrent;
using System.Text.Json;
using Foundry.Contracts;
using Foundry.Testing;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;

namespace Foundry.Issuance.Tests;

/// <summary>A ledger as its clients see it: takes each payload once, answers a repeat alike, and can be away.</summary>
internal sealed class FakeLedger : IAsyncDisposable
{
    private readonly List<FakeEntry> _entries = [];
    private readonly List<string> _bodies = [];
    private LoopbackHost? _host;
    private TaskCompletionSource _heard = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private int _attempts;

    public string Url => _host!.BaseAddress.ToString();

    /// <summary>Breaks every connection off before anything is kept.</summary>
    public bool Away { get; set; }

    /// <summary>Keeps the next so many, but breaks off before it says so.</summary>
    public int KeptUnanswered { get; set; }

    public IReadOnlyList<FakeEntry> Entries
    {
        get
        {
            lock (_entries)
                return [.. _entries];
        }
    }

    /// <summary>Every body there was, also those of repeats.</summary>
    public IReadOnlyList<string> Bodies
    {
        get
        {
            lock (_entries)
                return [.. _bodies];
        }
    }

    public int Attempts => Volatile.Read(ref _attempts);

    public static async Task<FakeLedger> StartAsync(CancellationToken cancellationToken)
    {
        var ledger = new FakeLedger();
        ledger._host = await LoopbackHost.StartAsync(_ => { }, app => app.MapPost(OutboxLines.Path, ledger.AppendAsync), cancellationToken);
        return ledger;
    }

    /// <summary>Waits until the ledger's state is as said.</summary>
    public async Task WaitAsync(Func<FakeLedger, bool> until, CancellationToken cancellationToken)
    {
        while (true)
        {
            var heard = Volatile.Read(ref _heard).Task;
            if (until(this))
                return;
            await heard.WaitAsync(TimeSpan.FromSeconds(30), cancellationToken);
        }
    }

    /// <summary>The events of one log, as soon as there are so many.</summary>
    public async Task<IReadOnlyList<FakeEntry>> LogAsync(string log, int count, CancellationToken cancellationToken)
    {
        await WaitAsync(ledger => ledger.Entries.Count(entry => entry.Log == log) >= count, cancellationToken);
        return [.. Entries.Where(entry => entry.Log == log)];
    }

    public async ValueTask DisposeAsync() => await _host!.DisposeAsync();

    private async Task AppendAsync(HttpContext context)
    {
        using var bytes = new MemoryStream();
        await context.Request.Body.CopyToAsync(bytes, context.RequestAborted);
        var log = context.Request.Headers[FoundryHeaders.ModuleId].ToString();
        var (taken, answer) = (0, true);
        foreach (var request in OutboxLines.Read(bytes.ToArray()))
        {
            lock (_entries)
            {
                _attempts++;
                answer = !Away;
                if (!Away)
                {
                    _bodies.Add(JsonSerializer.Serialize(request, WireJson.Default.AppendRequest));
                    answer = KeptUnanswered-- <= 0;
                    if (!_entries.Any(entry => entry.Log == log && entry.PayloadId == request.PayloadId))
                        _entries.Add(new FakeEntry(log, request.PayloadId!, request.Payload.Clone()));
                }
            }
            if (!answer)
                break;
            taken++;
        }
        if (answer)
            await context.Response.Body.WriteAsync(OutboxLines.Answer(taken), context.RequestAborted);
        else
            context.Abort();
        Interlocked.Exchange(ref _heard, new(TaskCreationOptions.RunContinuationsAsynchronously)).TrySetResult();
    }
}

internal sealed record FakeEntry(string Log, string PayloadId, JsonElement Payload)
{
    public string Type => Payload.GetProperty("event_type").GetString()!;
}

/// <summary>A fleet as issuance sees it: which VMs a tenant has, seals, and an end of each VM.</summary>
internal sealed class FakeFleet : IAsyncDisposable
{
    private LoopbackHost? _host;

    public string Url => _host!.BaseAddress.ToString();

    /// <summary>The VMs there are, and whose.</summary>
    public ConcurrentDictionary<string, string> Vms { get; } = new(StringComparer.Ordinal);

    /// <summary>Every seal that was asked for, in order.</summary>
    public ConcurrentQueue<(string TenantId, long Seconds)> Seals { get; } = [];

    /// <summary>Every VM that it was asked to destroy, in order.</summary>
    public ConcurrentQueue<string> Asked { get; } = [];

    /// <summary>Answers nothing but 500.</summary>
    public bool Away { get; set; }

    /// <summary>Another controller with the wire format alone.</summary>
    public bool IsForeign { get; set; }

    /// <summary>Destroys the next so many, but breaks off before it says so.</summary>
    public int DestroyedUnanswered;

    /// <summary>Called before a VM is destroyed.</summary>
    public Func<string, Task> BeforeDestroying { get; set; } = _ => Task.CompletedTask;

    /// <summary>Called before a seal is answered.</summary>
    public Action BeforeSealing { get; set; } = () => { };

    public static async Task<FakeFleet> StartAsync(CancellationToken cancellationToken)
    {
        var fleet = new FakeFleet();
        fleet._host = await LoopbackHost.StartAsync(_ => { }, app =>
        {
            app.MapPost("/internal/v1/seals", (Delegate)fleet.SealAsync);
            app.MapGet("/v1/vms", fleet.List);
            app.MapDelete("/v1/vms/{id}", fleet.DestroyAsync);
        }, cancellationToken);
        return fleet;
    }

    /// <summary>Gives a tenant so many VMs.</summary>
    public void Fill(string tenantId, int count)
    {
        for (var number = 0; number < count; number++)
            Vms[$"vm-{tenantId}-{number:000}"] = tenantId;
    }

    public async ValueTask DisposeAsync() => await _host!.DisposeAsync();

    private async Task<IResult> SealAsync(HttpContext context)
    {
        if (Away || IsForeign)
            return Results.StatusCode(Away ? 500 : 404);
        var seal = (await context.Request.ReadFromJsonAsync(WireJson.Default.Seal, context.RequestAborted))!;
        Seals.Enqueue((seal.TenantId, seal.Seconds));
        BeforeSealing();
        return Results.Json(new HeldVms(1, 1, 0, VmsOf(seal.TenantId)), WireJson.Default.HeldVms);
    }

    // A fleet that takes the filter for a hint.
    private IResult List(string tenant_id) => Away ? Results.StatusCode(500) : Results.Json([.. Vms.Values.Distinct(StringComparer.Ordinal).SelectMany(VmsOf)], WireJson.Default.IReadOnlyListVmRecord);

    private async Task<IResult> DestroyAsync(string id, HttpContext context)
    {
        if (Away)
            return Results.StatusCode(500);
        Asked.Enqueue(id);
        await BeforeDestroying(id);
        var there = Vms.TryRemove(id, out _);
        if (Interlocked.Decrement(ref DestroyedUnanswered) >= 0)
            context.Abort();
        return there ? Results.NoContent() : Results.NotFound();
    }

    private IReadOnlyList<VmRecord> VmsOf(string tenantId) => [.. Vms.Where(vm => vm.Value == tenantId).OrderBy(vm => vm.Key, StringComparer.Ordinal).Select(vm => new VmRecord
    {
        VmId = vm.Key,
        VmType = "small",
        State = "Running",
        RamAllocMb = 512,
        VcpuCount = 1,
        TenantId = tenantId,
    })];
}
