using Foundry.Issuance.Trust;
using Foundry.ServiceDefaults;
using Foundry.Tokens;
using Microsoft.Extensions.DependencyInjection;

namespace Foundry.Issuance.Tests.Trust;

public sealed class Joining
{
    [Theory, MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task Adds_the_key_to_the_trust_set_and_again_changes_nothing(string store)
    {
        await using var part = await IssuancePart.StartAsync(store);
        using var key = SigningKey.Generate();
        var before = await part.TrustAsync();
        Assert.Equal(200, await JoinAsync(part, "service", "ledger", key.Public.X));
        var after = await part.TrustAsync();
        Assert.Equal(before.Seq + 1, after.Seq);
        Assert.Contains(new TrustedKey(key.Kid, "service", "ledger", key.Public.X), after.Keys);
        Assert.Equal(200, await JoinAsync(part, "service", "ledger", key.Public.X));
        Assert.Equal(after.Seq, (await part.TrustAsync()).Seq);
    }

    [Fact]
    public async Task With_another_key_by_a_known_name_keeps_both()
    {
        await using var part = await IssuancePart.StartAsync();
        using var first = SigningKey.Generate();
        using var second = SigningKey.Generate();
        await JoinAsync(part, "service", "ledger", first.Public.X);
        Assert.Equal(200, await JoinAsync(part, "service", "ledger", second.Public.X));
        Assert.Equal(new[] { first.Kid, second.Kid }.Order(), (await part.TrustAsync()).Keys.Where(key => key.Name == "ledger").Select(key => key.Kid).Order());
    }

    [Fact]
    public async Task Is_refused_where_anything_is_not_as_it_should_be()
    {
        await using var part = await IssuancePart.StartAsync();
        using var key = SigningKey.Generate();
        var x = key.Public.X;
        var before = await part.TrustAsync();
        var rows = new (string? Kind, string? Name, string? X, string? Code, int Status)[]
        {
            ("gateway", "gateway-two", x, "wrong-join-code-of-thirty-two-characters", 401),
            ("gateway", "gateway-two", x, "", 401),
            ("gateway", "gateway-two", x, null, 401),
            ("gateway", "gateway-two", x, IssuancePart.JoinCode + " ", 401),
            ("token", "issuance", x, IssuancePart.JoinCode, 422),
            (null, "gateway-two", x, IssuancePart.JoinCode, 422),
            ("service", "issuance", x, IssuancePart.JoinCode, 422),
            ("gateway", "issuance", x, IssuancePart.JoinCode, 422),
            ("gateway", "Gateway", x, IssuancePart.JoinCode, 422),
            ("gateway", "g", x, IssuancePart.JoinCode, 422),
            ("gateway", "gateway-two", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", IssuancePart.JoinCode, 422),
            ("gateway", "gateway-two", null, IssuancePart.JoinCode, 422),
            ("service", "ledger", before.Keys.Single(known => known.Kind == "gateway").X, IssuancePart.JoinCode, 422),
            ("service", "ledger", before.Keys.Single(known => known.Kind == "token").X, IssuancePart.JoinCode, 422),
        };
        foreach (var row in rows)
        {
            using var answer = await part.JoinAsync(row.Kind, row.Name, row.X, row.Code);
            Assert.True(row.Status == (int)answer.StatusCode, $"{row}: {await answer.Content.ReadAsStringAsync(TestContext.Current.CancellationToken)}");
        }
        Assert.Equal(before.Seq, (await part.TrustAsync()).Seq);
    }

    [Fact]
    public async Task Is_turned_away_for_a_minute_after_ten_wrong_codes()
    {
        await using var part = await IssuancePart.StartAsync();
        using var key = SigningKey.Generate();
        for (var attempt = 0; attempt < 10; attempt++)
            Assert.Equal(401, await JoinAsync(part, "service", "ledger", key.Public.X, "wrong"));
        Assert.Equal(429, await JoinAsync(part, "service", "ledger", key.Public.X));
        part.Time.Advance(TimeSpan.FromSeconds(59));
        Assert.Equal(429, await JoinAsync(part, "service", "ledger", key.Public.X));
        part.Time.Advance(TimeSpan.FromSeconds(1));
        Assert.Equal(200, await JoinAsync(part, "service", "ledger", key.Public.X));
    }

    [Theory]
    [InlineData(null)]
    [InlineData("")]
    public async Task Is_refused_to_everyone_where_no_code_is_configured(string? code)
    {
        await using var part = await IssuancePart.StartAsync();
        await part.StopAsync();
        part.Settings["Trust:JoinCode"] = code;
        using var key = SigningKey.Generate();
        // The harness's gateway is known already, but has to say the code to hear so.
        var refused = await Assert.ThrowsAsync<HttpRequestException>(part.OpenAsync);
        Assert.Equal(System.Net.HttpStatusCode.Unauthorized, refused.StatusCode);
        Assert.Equal(401, await JoinAsync(part, "service", "ledger", key.Public.X, code));
    }

    [Fact]
    public async Task By_a_code_that_could_be_guessed_is_not_begun_with()
    {
        await using var part = await IssuancePart.StartAsync();
        await part.StopAsync();
        part.Settings["Trust:JoinCode"] = "thirty-one-characters-of-code-x";
        var refused = await Assert.ThrowsAsync<StartupException>(part.OpenAsync);
        Assert.Contains("Trust:JoinCode (FOUNDRY_Trust__JoinCode) has fewer than 32 characters", refused.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Is_not_waited_for_by_a_stop()
    {
        await using var part = await IssuancePart.StartAsync();
        var (trust, seq) = (part.App.Services.GetRequiredService<PlatformTrust>(), (await part.TrustAsync()).Seq);
        var newer = part.Gateway.Client.GetStringAsync($"/internal/v1/trust?after={seq}", TestContext.Current.CancellationToken);
        // The clock stands still, so nothing but the stop ends the wait.
        while (trust.Waiting == 0)
            await Task.Delay(TimeSpan.FromMilliseconds(20), TestContext.Current.CancellationToken);
        await part.App.StopAsync(TestContext.Current.CancellationToken);
        Assert.NotEmpty(await newer);
    }

    [Fact]
    public async Task Is_bounded()
    {
        await using var part = await IssuancePart.StartAsync();
        Assert.Equal(413, await JoinAsync(part, "service", "ledger", new string('a', 5000)));
    }

    private static async Task<int> JoinAsync(IssuancePart part, string kind, string name, string x, string? code = IssuancePart.JoinCode)
    {
        using var answer = await part.JoinAsync(kind, name, x, code);
        return (int)answer.StatusCode;
    }
}

public sealed class CallsRoundTheGateway
{
    [Theory]
    [InlineData("GET", "/v1/tenants")]
    [InlineData("POST", "/v1/tenants")]
    [InlineData("POST", "/v1/tokens")]
    [InlineData("POST", "/v1/tokens/verify")]
    [InlineData("GET", "/v1/keys")]
    [InlineData("GET", "/internal/v1/snapshot")]
    [InlineData("GET", "/internal/v1/changes?since=0")]
    [InlineData("GET", "/no/such/path")]
    public async Task Are_refused_and_told_of_the_gateway(string method, string path)
    {
        await using var part = await IssuancePart.StartAsync();
        using var request = new HttpRequestMessage(new HttpMethod(method), path);
        request.Headers.TryAddWithoutValidation("X-Foundry-Scope", "service:platform-admin");
        using var answer = await part.Gateway.Client.SendAsync(request, TestContext.Current.CancellationToken);
        Assert.Equal(401, (int)answer.StatusCode);
        Assert.Contains("9221", await answer.Content.ReadAsStringAsync(TestContext.Current.CancellationToken), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("/livez")]
    [InlineData("/healthz")]
    [InlineData("/readyz")]
    public async Task Are_answered_about_health(string path)
    {
        await using var part = await IssuancePart.StartAsync();
        using var answer = await part.Gateway.Client.GetAsync(path, TestContext.Current.CancellationToken);
        Assert.Equal(200, (int)answer.StatusCode);
    }
}
