using System.Globalization;
using Foundry.Contracts;
using Microsoft.AspNetCore.Http;

namespace Foundry.Gateway.Tests;

/// <summary>How refusals tell clients to come back (HAZARDS 52 and 54).</summary>
public sealed class RefusedClients
{
    [Theory]
    [InlineData(0.001, 1, 3)]
    [InlineData(1, 1, 3)]
    [InlineData(6, 6, 8)]
    [InlineData(59.5, 60, 89)]
    public async Task Are_told_to_come_back_no_sooner_than_it_is_of_use_and_not_together(double wait, int soonest, int latest)
    {
        var told = new List<int>();
        for (var i = 0; i < 1000; i++)
        {
            var context = new DefaultHttpContext();
            await RefusalWriter.WriteAsync(context, new Refusal(ErrorCode.RateLimited, "") { RetryAfter = TimeSpan.FromSeconds(wait) });
            told.Add(int.Parse(context.Response.Headers.RetryAfter.ToString(), CultureInfo.InvariantCulture));
        }

        Assert.All(told, seconds => Assert.InRange(seconds, soonest, latest));
        Assert.InRange(told.CountBy(seconds => seconds).Max(second => second.Value), 0, 500);
    }
}
