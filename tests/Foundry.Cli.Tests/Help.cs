namespace Foundry.Cli.Tests;

/// <summary>The help is the documentation, so a change of it is a change to be looked at. The files in Golden are what it should be.</summary>
public sealed class Help
{
    [Theory]
    [InlineData("foundry.txt", "--help")]
    [InlineData("foundry-token-issue.txt", "token issue --help")]
    [InlineData("foundry-token-promote.txt", "token promote --help")]
    [InlineData("foundry-request.txt", "request --help")]
    [InlineData("foundry-node-run.txt", "node run -h")]
    public async Task Reads_as_it_is_meant_to(string golden, string args)
    {
        using var line = new CommandLine();
        var ran = await line.RunAsync(args.Split(' '));
        var expected = await File.ReadAllTextAsync(Path.Combine(AppContext.BaseDirectory, "Golden", golden), TestContext.Current.CancellationToken);
        Assert.Equal(expected, string.Join('\n', ran.Output.Split('\n').Select(text => text.TrimEnd())));
    }

    [Fact]
    public async Task Of_every_command_has_an_example_of_itself()
    {
        var seen = 0;
        using var line = new CommandLine();
        foreach (var noun in new[] { "tenant", "token", "keys", "node", "vm", "ledger", "witness", "status", "request", "part", "gateway", "admin" })
        {
            var group = await line.RunAsync(noun, "--help");
            var verbs = group.Output.Split("Commands:\n") is [_, var list]
                ? list.Split('\n').Where(text => text.StartsWith("  ", StringComparison.Ordinal) && text[2] != ' ').Select(text => text.Trim().Split(' ')[0])
                : [""];
            foreach (var verb in verbs)
            {
                var help = await line.RunAsync([.. $"{noun} {verb}".Trim().Split(' '), "--help"]);
                var examples = help.Output.Split("Examples:\n")[1].Split('\n', StringSplitOptions.RemoveEmptyEntries);
                Assert.All(examples, example => Assert.Contains($"foundry {noun} {verb}".Trim(), example, StringComparison.Ordinal));
                seen++;
            }
        }
        Assert.Equal(33, seen);
    }

    [Fact]
    public async Task Version_is_the_programs()
    {
        using var line = new CommandLine();
        Assert.Equal("foundry 0.1.0\n", (await line.RunAsync("--version")).Output);
    }

    [Theory]
    [InlineData("", "'foundry' does nothing by itself", "say which: tenant, token, keys, node, vm, ledger, witness, status, request, part, gateway, admin; foundry --help explains them")]
    [InlineData("token", "'foundry token' does nothing by itself", "say which: issue, promote, renew, verify, revoke, list, show; foundry token --help explains them")]
    [InlineData("token isue", "'isue' is nothing that 'foundry token' does", "say which: issue, promote, renew, verify, revoke, list, show; foundry token --help explains them")]
    [InlineData("vm create --type T --ram-mb 1", "Option '--vcpu-count' is required.", "see foundry vm create --help")]
    [InlineData("vm create --type T --ram-mb 1 --vcpu-count x", "--vcpu-count: 'x' is not a whole number from 1 to 65536", "see foundry vm create --help")]
    public async Task Is_pointed_to_by_a_line_that_makes_no_sense(string args, string what, string next)
    {
        using var line = new CommandLine();
        var ran = await line.RunAsync(args.Split(' ', StringSplitOptions.RemoveEmptyEntries));
        Assert.Equal($"foundry: {what}\n  next        {next}\n", ran.Error);
    }
}
