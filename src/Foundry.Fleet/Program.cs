using Foundry.Fleet;
using Foundry.ServiceDefaults;
using Microsoft.Extensions.Hosting;

// The fleet on its own: lock its folder, read its registry, listen, run until SIGTERM.
return await ServiceHost.RunAsync(async () =>
{
    var builder = ServiceHost.CreateBuilder(Fleet.Name);
    using var folder = ServiceHost.DataFolder(builder.Configuration, "Fleet").Lock();
    var listens = await builder.AddFleetAsync();
    await using var app = builder.Build();
    app.MapFleet();
    await app.StartAsync(listens);
    await app.WaitForShutdownAsync();
});
