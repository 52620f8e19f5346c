using System.Collections.Concurrent;
using System.Net;
using Foundry.Proofs;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;

namespace Foundry.Cli.Tests.Witness;

/// <summary>A log, and the gateway before it: its checkpoint and its tiles, of a history that can be changed.</summary>
internal sealed class StandInLog : IAsyncDisposable
{
    public const string Module = "acme-corp";
    public const string Origin = "ledger.example/acme-corp";

    private readonly WebApplication _app;
    private readonly Lock _gate = new();
    private Dictionary<Tile, byte[]> _tiles = [];

    private StandInLog(WebApplication app) => _app = app;

    public NoteKey Key { get; set; } = NoteKey.FromSeed(new byte[NoteKey.SeedBytes]);

    public string Vkey => Key.VerifierFor(Origin).VerifierKey;

    public Checkpoint Checkpoint { get; private set; } = new(Origin, 0, TreeHash.EmptyRoot);

    public string Address { get; private set; } = "";

    public ConcurrentQueue<string> Asked { get; } = [];

    /// <summary>Paths that are answered with something else.</summary>
    public Func<string, (int Status, byte[] Body)?> Misbehaves { get; set; } = _ => null;

    public static async Task<StandInLog> StartAsync(int size = 0)
    {
        var builder = WebApplication.CreateEmptyBuilder(new WebApplicationOptions());
        builder.WebHost.UseKestrelCore().ConfigureKestrel(kestrel => kestrel.Listen(IPAddress.Loopback, 0));
        var app = builder.Build();
        var log = new StandInLog(app);
        app.Run(log.AnswerAsync);
        await app.StartAsync(TestContext.Current.CancellationToken);
        log.Address = app.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses.Single();
        log.Become(size);
        return log;
    }

    /// <summary>Has so many entries, of which one may be another than it was.</summary>
    public void Become(int size, int changed = -1)
    {
        var tiles = new Dictionary<Tile, byte[]>();
        var tree = new TreeFrontier((tile, hashes) => tiles[tile] = TreeHash.ToTile(hashes).ToArray());
        for (var i = 0; i < size; i++)
            tree.Append(TreeHash.OfLeaf(BitConverter.GetBytes(i == changed ? -1 : i)));
        var edge = tree.Edge();
        foreach (var tile in Tile.PartialsOf(size).Where(tile => !tile.IsEntries))
            tiles[tile] = TreeHash.ToTile(edge[tile.Level]).ToArray();
        lock (_gate)
            (_tiles, Checkpoint) = (tiles, new Checkpoint(Origin, size, tree.Root));
    }

    /// <summary>What it would ask a witness.</summary>
    public async Task<AddCheckpoint> RequestAsync(long oldSize)
    {
        var tiles = _tiles;
        var reader = new TreeReader(Checkpoint.Size, (tile, _) => ValueTask.FromResult<ReadOnlyMemory<byte>>(tiles[tile]));
        return new AddCheckpoint(oldSize, await TreeProof.ConsistencyAsync(reader, oldSize, TestContext.Current.CancellationToken), Checkpoint.Sign(Key));
    }

    public ValueTask DisposeAsync() => _app.DisposeAsync();

    private async Task AnswerAsync(HttpContext context)
    {
        var path = context.Request.Path.Value!;
        Asked.Enqueue(path);
        Assert.Equal($"Bearer {CommandLine.Canary}", context.Request.Headers.Authorization.ToString());
        var (status, body) = Misbehaves(path) ?? Answer(path);
        context.Response.StatusCode = status;
        await context.Response.Body.WriteAsync(body);
    }

    private (int, byte[]) Answer(string path)
    {
        lock (_gate)
        {
            if (path == $"/ledger/{Module}/checkpoint")
                return (200, Checkpoint.Sign(Key).Encode());
            return Tile.TryParse(path[$"/ledger/{Module}/".Length..], out var tile) && _tiles.TryGetValue(tile, out var bytes) ? (200, bytes) : (404, []);
        }
    }
}
