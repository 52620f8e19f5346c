using Foundry.Gateway.Config;

namespace Foundry.Gateway.Tests.Config;

/// <summary>CONTRACT section 5: what nobody knows the outcome of is settled within 30 s, so the two waits before it are bounded together.</summary>
public sealed class GatewayOptionsTests
{
    [Theory]
    [InlineData(15, 10, true)]
    [InlineData(28, 1, true)]
    [InlineData(1, 28, true)]
    [InlineData(19, 10, true)]
    [InlineData(20, 10, false)]
    [InlineData(29, 1, false)]
    [InlineData(1, 29, false)]
    [InlineData(15, 15, false)]
    public void A_create_is_settled_in_time_or_the_settings_are_refused(int createDeadline, int reconcileInterval, bool inTime)
    {
        var problems = new GatewayOptions { CreateDeadline = TimeSpan.FromSeconds(createDeadline), ReconcileInterval = TimeSpan.FromSeconds(reconcileInterval) }.Problems();

        if (inTime)
            Assert.Empty(problems);
        else
            Assert.Contains("together at most 00:00:29", Assert.Single(problems), StringComparison.Ordinal);
    }
}
