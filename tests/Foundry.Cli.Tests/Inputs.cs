using System.Globalization;
using System.Text;

namespace Foundry.Cli.Tests;

public sealed class Inputs
{
    [Theory]
    [InlineData("3600", 3600)]
    [InlineData("0", 0)]
    [InlineData("0.5", 0.5)]
    [InlineData("45s", 45)]
    [InlineData("90m", 5400)]
    [InlineData("24h", 86400)]
    [InlineData("30d", 2592000)]
    [InlineData("1.5h", 5400)]
    [InlineData("36500d", 3153600000)]
    public void A_length_of_time_is_seconds_or_has_a_unit(string text, double seconds)
    {
        Assert.True(Take.TryParseDuration(text, out var duration));
        Assert.Equal(seconds, duration.TotalSeconds);
    }

    [Theory]
    [InlineData("")]
    [InlineData("h")]
    [InlineData("-1")]
    [InlineData("+1")]
    [InlineData(" 1")]
    [InlineData("1 h")]
    [InlineData("1e3")]
    [InlineData("1,5")]
    [InlineData("1w")]
    [InlineData("24H")]
    [InlineData("1h30m")]
    [InlineData("NaN")]
    [InlineData("36501d")]
    [InlineData("999999999999d")] // beyond what a TimeSpan holds
    [InlineData("99999999999999999999999999999999999999")] // and a decimal
    public void Anything_else_is_none(string text) => Assert.False(Take.TryParseDuration(text, out _));

    [Theory]
    [InlineData("acme-corp", true)]
    [InlineData("019a2b3c-0000-7000-8000-000000000000", true)]
    [InlineData("_-:.", true)]
    [InlineData("a..b", true)]
    [InlineData("", false)]
    [InlineData(".", false)]
    [InlineData("..", false)]
    [InlineData("a/b", false)]
    [InlineData("a\\b", false)]
    [InlineData("a%2e", false)]
    [InlineData("a?b", false)]
    [InlineData("a#b", false)]
    [InlineData("a;b", false)]
    [InlineData("a b", false)]
    [InlineData("é", false)]
    public void An_id_can_stand_in_a_path_as_it_is(string text, bool expected) => Assert.Equal(expected, Take.IsId(text));

    [Fact]
    public void Shown_text_has_no_character_that_a_terminal_acts_on()
    {
        for (var code = 0; code <= char.MaxValue; code++)
        {
            var shown = Plain.Text($"a{(char)code}b");
            Assert.StartsWith("a", shown, StringComparison.Ordinal);
            Assert.EndsWith("b", shown, StringComparison.Ordinal);
            Assert.DoesNotContain(shown, c => char.GetUnicodeCategory(c) is UnicodeCategory.Control or UnicodeCategory.Format or UnicodeCategory.Surrogate
                or UnicodeCategory.LineSeparator or UnicodeCategory.ParagraphSeparator or UnicodeCategory.PrivateUse);
        }
    }

    [Theory]
    [InlineData("Acme GmbH & Søn 株式会社 😀", "Acme GmbH & Søn 株式会社 😀")]
    [InlineData("", "")]
    [InlineData("\u001b]0;x\u0007", @"\u{1b}]0;x\u{7}")]
    [InlineData("\U000e0041", @"\u{e0041}")]
    public void Shown_text_stays_as_it_is_otherwise(string text, string expected) => Assert.Equal(expected, Plain.Text(text));

    [Fact]
    public async Task A_named_pipe_is_read_once()
    {
        Assert.SkipWhen(OperatingSystem.IsWindows(), "Windows has no FIFOs in its file system.");
        using var line = new CommandLine();
        var path = line.File("fifo");
        using var make = System.Diagnostics.Process.Start("mkfifo", [path]);
        await make.WaitForExitAsync(TestContext.Current.CancellationToken);
        var writing = Task.Run(() => File.WriteAllBytes(path, Encoding.ASCII.GetBytes("eyJh.eyJi.c2ln\n")), TestContext.Current.CancellationToken);
        await using var gateway = await StandInGateway.StartAsync(Said.Json("{}"));
        line.Write("proc/meminfo", "MemTotal: 1024000 kB\n");
        var ran = await line.RunAsync(gateway, "node", "run", "--node-id", "n1", "--once", "--token-file", path);
        await writing;
        Assert.Equal((ExitCode.Done, "Bearer eyJh.eyJi.c2ln"), (ran.Exit, gateway.Only.Authorization));
    }
}
