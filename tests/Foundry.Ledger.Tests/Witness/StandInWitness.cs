using System.Collections.Concurrent;
using System.Globalization;
using System.Net;
using System.Text;
using Foundry.Proofs;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;

namespace Foundry.Ledger.Tests.Witness;

/// <summary>A witness of every log, which remembers in memory and can be told to misbehave.</summary>
internal sealed class StandInWitness : IAsyncDisposable
{
    private readonly WebApplication _app;
    private readonly Lock _gate = new();

    private StandInWitness(WebApplication app, string name, byte seed)
    {
        _app = app;
        Name = name;
        Key = NoteKey.FromSeed([seed, .. new byte[NoteKey.SeedBytes - 1]]);
    }

    public string Name { get; }

    public NoteKey Key { get; }

    public CosignatureVerifier Verifier => Key.CosignerFor(Name);

    public string Url { get; private set; } = "";

    /// <summary>What it remembers, by origin.</summary>
    public ConcurrentDictionary<string, Checkpoint> Remembered { get; } = [];

    /// <summary>In place of an answer of its own, when it returns one.</summary>
    public Func<AddCheckpoint, (int Status, byte[] Body)?> Misbehaves { get; set; } = _ => null;

    /// <summary>An answer waits for it.</summary>
    public Task Pause { get; set; } = Task.CompletedTask;

    public ConcurrentQueue<AddCheckpoint> Asked { get; } = [];

    public static async Task<StandInWitness> StartAsync(string name = "witness.example/w1", byte seed = 1)
    {
        var builder = WebApplication.CreateEmptyBuilder(new WebApplicationOptions());
        builder.WebHost.UseKestrelCore().ConfigureKestrel(kestrel => kestrel.Listen(IPAddress.Loopback, 0));
        var app = builder.Build();
        var witness = new StandInWitness(app, name, seed);
        app.Run(witness.AnswerAsync);
        await app.StartAsync(TestContext.Current.CancellationToken);
        witness.Url = app.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses.Single() + "/prefix";
        return witness;
    }

    /// <summary>The settings that make a ledger ask these.</summary>
    public static (string, string)[] Settings(params StandInWitness[] witnesses) =>
        [.. witnesses.SelectMany((witness, i) => new[] { ($"Ledger:Witnesses:{i}:Vkey", witness.Verifier.VerifierKey), ($"Ledger:Witnesses:{i}:Url", witness.Url) })];

    public async ValueTask DisposeAsync()
    {
        await _app.DisposeAsync();
        Key.Dispose();
    }

    private async Task AnswerAsync(HttpContext context)
    {
        using var body = new MemoryStream();
        await context.Request.Body.CopyToAsync(body, context.RequestAborted);
        Assert.Equal(("POST", "/prefix/add-checkpoint"), (context.Request.Method, context.Request.Path.Value));
        Assert.True(AddCheckpoint.TryParse(body.ToArray(), out var asked));
        Asked.Enqueue(asked);
        await Pause.WaitAsync(context.RequestAborted);
        var (status, answer) = Misbehaves(asked) ?? Answer(asked);
        context.Response.StatusCode = status;
        if (status == 409)
            context.Response.ContentType = AddCheckpoint.SizeType;
        await context.Response.Body.WriteAsync(answer, context.RequestAborted);
    }

    private (int, byte[]) Answer(AddCheckpoint asked)
    {
        lock (_gate)
        {
            Assert.True(Checkpoint.TryParse(asked.Checkpoint.Text, out var checkpoint));
            var remembered = Remembered.GetValueOrDefault(checkpoint.Origin);
            var verdict = asked.Judge(checkpoint, remembered);
            if (verdict is WitnessVerdict.Stale or WitnessVerdict.Forked)
                return (409, Size(remembered?.Size ?? 0));
            if (verdict != WitnessVerdict.Cosign)
                return (422, []);
            Remembered[checkpoint.Origin] = checkpoint;
            return (200, SignedNote.Encode([Key.Cosign(Name, asked.Checkpoint, TimeProvider.System.GetUtcNow())]));
        }
    }

    public static byte[] Size(long size) => Encoding.ASCII.GetBytes(size.ToString(CultureInfo.InvariantCulture) + "\n");
}
