using Foundry.Ledger;
using Foundry.Ledger.Recovery;
using Foundry.ServiceDefaults;

return await ServiceHost.RunAsync(async () =>
{
    var builder = ServiceHost.CreateBuilder(Ledger.Part);
    if (args is ["rotate"])
    {
        await Console.Out.WriteLineAsync(Ledger.RotateKey(builder.Configuration, TimeProvider.System));
        return;
    }
    var listens = builder.AddLedger();
    await using var app = builder.Build();
    app.MapLedger();
    await app.StartAsync(listens);
    await app.WaitForShutdownAsync();
    app.Services.GetRequiredService<StartVerifier>().ThrowIfCorrupt();
});
