// The yardstick: YARP with one route to one destination, and nothing else done to a request. Arguments: port, backend's address.
using Yarp.ReverseProxy.Configuration;

var (port, backend) = (args[0], args[1]);
var builder = WebApplication.CreateSlimBuilder();
builder.Logging.ClearProviders();
builder.WebHost.UseUrls($"http://127.0.0.1:{port}");
builder.Services.AddReverseProxy().LoadFromMemory(
    [new RouteConfig { RouteId = "everything", ClusterId = "backend", Match = new RouteMatch { Path = "/{**path}" } }],
    [new ClusterConfig { ClusterId = "backend", Destinations = new Dictionary<string, DestinationConfig> { ["backend"] = new() { Address = backend } } }]);
var app = builder.Build();
app.MapReverseProxy();
await app.RunAsync();
