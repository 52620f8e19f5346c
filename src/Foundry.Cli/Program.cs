// The command `foundry`: the platform from a shell. FoundryCommand.cs is the table of contents.
using Foundry.Cli;

return await FoundryCommand.RunAsync(args, Surroundings.OfThisProcess());
