using Foundry.Issuance;
using Foundry.ServiceDefaults;
using Microsoft.Extensions.Hosting;

return await ServiceHost.RunAsync(async () =>
{
    var builder = ServiceHost.CreateBuilder(Issuance.Name);
    using var held = ServiceHost.DataFolder(builder.Configuration, "Issuance").Lock();
    var setup = await builder.AddIssuanceAsync();
    await using var app = builder.Build();
    app.MapIssuance();
    await app.StartAsync(setup.Listens);
    Console.WriteLine($"Issuance listens on {setup.Listens[0].EndPoint}.");
    Console.WriteLine($"Every other part pins its root: Trust:RootThumbprint={setup.RootThumbprint}");
    Console.WriteLine($"The platform administrator's token is in {setup.AdminTokenFile}.");
    if (setup.GatewayCodeFile is { } code)
        Console.WriteLine($"No gateway has joined yet. The first one's code, for the name 'gateway', is in {code}: foundry gateway join --name gateway --issuance http://{setup.Listens[0].EndPoint} --root {setup.RootThumbprint} --code-file {code}");
    await app.WaitForShutdownAsync();
});
