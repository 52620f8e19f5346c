using Foundry.Gateway;
using Foundry.ServiceDefaults;

return await ServiceHost.RunAsync(async () =>
{
    var builder = ServiceHost.CreateBuilder("gateway");
    using var folder = ServiceHost.DataFolder(builder.Configuration, "Gateway").Lock();
    await builder.AddGatewayAsync();
    var app = builder.Build();
    await app.MapGatewayAsync();
    await app.StartAsync(Gateway.Listens(builder.Configuration));
    await app.WaitForShutdownAsync();
});
