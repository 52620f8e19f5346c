using Foundry.Gateway;
using Foundry.ServiceDefaults;

return await ServiceHost.RunAsync(async () =>
{
    var builder = ServiceHost.CreateBuilder("gateway");
    using var folder = ServiceHost.DataFolder(builder.Configuration, "Gateway").Lock();
    var listens = await builder.AddGatewayAsync();
    await using var app = builder.Build();
    await app.MapGatewayAsync();
    await app.StartAsync(listens);
    await app.WaitForShutdownAsync();
});
