return await Foundry.ServiceDefaults.ServiceHost.RunAsync(Foundry.Standalone.Standalone.RunAsync);
