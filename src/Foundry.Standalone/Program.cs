using Foundry.ServiceDefaults;
using Foundry.Standalone;

// --config DIR: the configuration folder, where FOUNDRY_CONFIG does not name one.
if (args is ["--config", var folder, ..] && string.IsNullOrEmpty(Environment.GetEnvironmentVariable("FOUNDRY_CONFIG")))
    Environment.SetEnvironmentVariable("FOUNDRY_CONFIG", folder);
return await ServiceHost.RunAsync(Standalone.RunAsync);
