namespace Foundry.Tokens.Tests;

public sealed class ScopeText
{
    [Theory]
    [InlineData("read", "read")]
    [InlineData("User", "user")]
    [InlineData("INPUT", "input")]
    [InlineData("service:platform-admin", "service:platform-admin")]
    [InlineData("SERVICE:Fleet-Node", "service:fleet-node")]
    [InlineData("service:a", "service:a")]
    [InlineData("service:a-1", "service:a-1")]
    public void In_any_case_becomes_the_one_that_is_stored(string text, string stored)
    {
        Assert.True(Scope.TryParse(text, out var scope));
        Assert.Equal(stored, scope.Text);
        Assert.Equal(text == stored, Scope.TryParseStored(text, out _));
    }

    [Theory]
    [InlineData(null)]
    [InlineData("")]
    [InlineData(" read")]
    [InlineData("read ")]
    [InlineData("read user")]
    [InlineData("read,user")]
    [InlineData("reader")]
    [InlineData("write")]
    [InlineData("none")]
    [InlineData("any")]
    [InlineData("anonymous")]
    [InlineData("service")]
    [InlineData("service:")]
    [InlineData("service:-a")]
    [InlineData("service:a-")]
    [InlineData("service:1a")]
    [InlineData("service:a_b")]
    [InlineData("service:a b")]
    [InlineData("service:a:b")]
    [InlineData("service:é")]
    [InlineData("\u0131nput")]
    [InlineData("service:\u212Aey")]
    public void That_is_not_exactly_one_scope_is_refused(string? text) => Assert.False(Scope.TryParse(text, out _));

    [Fact]
    public void Over_the_bound_is_refused_and_up_to_it_is_read()
    {
        var longest = Scope.ServicePrefix + new string('a', Scope.CharsMax - Scope.ServicePrefix.Length);
        Assert.True(Scope.TryParse(longest, out _));
        Assert.False(Scope.TryParse(longest + "a", out _));
    }

    [Fact]
    public void Of_no_scope_at_all_opens_nothing_but_any()
    {
        Assert.True(ScopeRule.TryParse("read,service:tenant-admin,service:platform-admin", out var rule, out _));
        Assert.False(rule.Allows(default));
    }
}

public sealed class ScopeRuleTable
{
    private static readonly string[] Scopes =
        ["read", "user", "input", "service:tenant-admin", "service:platform-admin", "service:fleet-node", "service:other"];

    /// <summary>A rule and, for each of <see cref="Scopes"/> in order, whether it opens the route.</summary>
    [Theory]
    [InlineData("read", "1110000")]
    [InlineData("user", "0110000")]
    [InlineData("input", "0010000")]
    [InlineData("input,read", "1110000")]
    [InlineData("input, service:tenant-admin", "0011000")]
    [InlineData("input,service:tenant-admin,service:platform-admin", "0011100")]
    [InlineData("service:fleet-node", "0000010")]
    [InlineData("service:platform-admin", "0000100")]
    [InlineData("any", "1111111")]
    [InlineData("anonymous", "1111111")]
    public void Opens_a_route_to_these_scopes_and_no_others(string text, string opens)
    {
        Assert.True(ScopeRule.TryParse(text, out var rule, out _));
        var found = string.Concat(Scopes.Select(name => Scope.TryParse(name, out var scope) && rule.Allows(scope) ? '1' : '0'));
        Assert.Equal(opens, found);
        Assert.Equal(text == "any", rule.AllowsAny);
        Assert.Equal(text == "anonymous", rule.AllowsAnonymous);
    }

    [Theory]
    [InlineData(null, "say who may use the route")]
    [InlineData("", "say who may use the route")]
    [InlineData(" ", "say who may use the route")]
    [InlineData("read,", "say who may use the route")]
    [InlineData(",read", "say who may use the route")]
    [InlineData("read;user", "'read;user' is no scope")]
    [InlineData("Read", "'Read' is no scope")]
    [InlineData("read,writer", "'writer' is no scope")]
    [InlineData("*", "'*' is no scope")]
    [InlineData("any,read", "'any' stands alone")]
    [InlineData("read,anonymous", "'anonymous' stands alone")]
    [InlineData("any,anonymous", "'any' stands alone")]
    [InlineData("Anonymous", "'Anonymous' is no scope")]
    [InlineData("service:*", "'service:*' is no scope")]
    public void That_does_not_say_who_is_refused_and_says_what_would_be_right(string? text, string error)
    {
        Assert.False(ScopeRule.TryParse(text, out _, out var said));
        Assert.StartsWith(error, said);
    }
}
