using Foundry.Contracts;
using Foundry.ServiceDefaults.Trust;
using Foundry.Testing;
using Foundry.Tokens;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Time.Testing;

namespace Foundry.ServiceDefaults.Tests.Trust;

/// <summary>Issuance's two calls about trust, on loopback.</summary>
internal sealed class FakeIssuance : IAsyncDisposable
{
    public const string Code = "join-code-of-a-test";
    private int _fetches;

    public SigningKey Root { get; set; } = SigningKey.Generate();

    public List<TrustedKey> Keys { get; } = [];

    public long Seq { get; set; } = 1;

    public bool Away { get; set; }

    public int Fetches => Volatile.Read(ref _fetches);

    public int Joins { get; private set; }

    public LoopbackHost Host { get; private set; } = null!;

    public TrustAnswer Answer => new(1, Root.Public.X, FixedTrust.SetOf(Keys, Seq).Sign(Root));

    public static async Task<FakeIssuance> StartAsync()
    {
        var issuance = new FakeIssuance();
        issuance.Host = await LoopbackHost.StartAsync(_ => { }, app =>
        {
            app.MapGet("/internal/v1/trust", (HttpContext context) =>
            {
                Interlocked.Increment(ref issuance._fetches);
                return issuance.Away ? Results.StatusCode(503) : Results.Text(System.Text.Json.JsonSerializer.Serialize(issuance.Answer, WireJson.Default.TrustAnswer), "application/json");
            });
            app.MapPost("/internal/v1/join", async (HttpContext context) =>
            {
                var (join, refusal) = await Problems.ReadBodyAsync(context, WireJson.Default.JoinRequest);
                issuance.Joins++;
                if (refusal is not null || join!.Code != Code)
                    return refusal ?? Results.StatusCode(401);
                Assert.True(VerifyingKey.TryCreate(join.X, out var key));
                issuance.Keys.Add(new TrustedKey(key.Kid, join.Kind!, join.Name!, key.X));
                issuance.Seq++;
                return Results.NoContent();
            });
        }, TestContext.Current.CancellationToken);
        return issuance;
    }

    public async ValueTask DisposeAsync()
    {
        await Host.DisposeAsync();
        Root.Dispose();
    }
}

public sealed class FollowerOfTrust : IAsyncLifetime
{
    private readonly TempFolder _temp = new();
    private readonly FakeTimeProvider _time = new(new DateTimeOffset(2026, 6, 12, 9, 42, 0, TimeSpan.Zero));
    private readonly SigningKey _own = SigningKey.Generate();
    private readonly SigningKey _other = SigningKey.Generate();
    private readonly List<TrustFollower> _followers = [];
    private FakeIssuance _issuance = null!;
    private Readiness _readiness = null!;

    public async ValueTask InitializeAsync()
    {
        _issuance = await FakeIssuance.StartAsync();
        _issuance.Keys.Add(FixedTrust.Entry(_other, TrustedKey.Gateway, "gateway"));
    }

    private TrustFollower New(string? joinCode = null, string? pinned = null)
    {
        _readiness = new Readiness(_time);
        var follower = new TrustFollower(new ServiceIdentity(TrustedKey.Service, "fleet", _own),
            new TrustOptions { RootThumbprint = pinned ?? _issuance.Root.Kid, JoinCode = joinCode },
            StateFolder.Open(_temp.Path), _issuance.Host.NewClient(), _time, _readiness, NullLogger<TrustFollower>.Instance);
        _followers.Add(follower);
        return follower;
    }

    /// <summary>Lets time pass, as long as it takes for what is under way in the background to come to it.</summary>
    private async Task PassTimeUntilAsync(Func<bool> there)
    {
        while (!there())
        {
            TestContext.Current.CancellationToken.ThrowIfCancellationRequested();
            _time.Advance(TimeSpan.FromSeconds(1));
            await Task.Yield();
        }
    }

    [Fact]
    public async Task Believes_a_set_of_the_pinned_root_and_keeps_it_for_the_next_start()
    {
        var follower = New();
        Assert.Null(follower.Current);
        await follower.RefreshAsync(TestContext.Current.CancellationToken);
        Assert.Equal("gateway", follower.Find(_other.Kid)?.Name);

        _issuance.Away = true;
        var restarted = New();
        Assert.Equal("gateway", restarted.Find(_other.Kid)?.Name);
    }

    [Fact]
    public async Task Does_not_believe_a_set_of_another_root()
    {
        using var another = SigningKey.Generate();
        var follower = New(pinned: another.Kid);
        await follower.RefreshAsync(TestContext.Current.CancellationToken);
        Assert.Null(follower.Current);
        Assert.False(File.Exists(Path.Combine(_temp.Path, TrustFollower.FileName)));
        // Nor one that shows the pinned root but was signed by another.
        Assert.False(New(pinned: another.Kid).Offer(new TrustAnswer(1, another.Public.X, FixedTrust.SetOf([]).Sign(_issuance.Root))));
        Assert.False(New().Offer(_issuance.Answer with { V = 2 }));
    }

    [Fact]
    public void Does_not_go_back_to_an_older_set()
    {
        var follower = New();
        var old = _issuance.Answer;
        _issuance.Seq = 5;
        Assert.True(follower.Offer(_issuance.Answer));
        Assert.False(follower.Offer(old));
        Assert.Equal(5, follower.Current!.Seq);
        // Not after a restart either.
        var restarted = New();
        Assert.False(restarted.Offer(old));
        Assert.Equal(5, restarted.Current!.Seq);
    }

    [Fact]
    public void Does_not_take_a_token_key_for_a_parts()
    {
        using var token = SigningKey.Generate();
        _issuance.Keys.Add(FixedTrust.Entry(token, TrustedKey.Token, "tokens"));
        var follower = New();
        Assert.True(follower.Offer(_issuance.Answer));
        Assert.Null(follower.Find(token.Kid));
    }

    public static TheoryData<string> Damages { get; } = new("", "{", "null", "[]", "half", "signature", "root", "text behind");

    [Theory]
    [MemberData(nameof(Damages))]
    public void Stops_the_start_when_its_file_is_damaged_and_leaves_it(string damage)
    {
        Assert.True(New().Offer(_issuance.Answer));
        var file = Path.Combine(_temp.Path, TrustFollower.FileName);
        var good = File.ReadAllText(file);
        var bad = damage switch
        {
            "half" => good[..(good.Length / 2)],
            "signature" => good[..^4] + (good[^4] == 'A' ? 'B' : 'A') + good[^3..],
            "root" => good.Replace(_issuance.Root.Public.X, _other.Public.X, StringComparison.Ordinal),
            "text behind" => good + "x",
            _ => damage,
        };
        File.WriteAllText(file, bad);
        var fault = Assert.Throws<StateCorruptException>(() => New());
        Assert.Equal(file, fault.File);
        Assert.Equal(bad, File.ReadAllText(file));
    }

    [Fact]
    public async Task Joins_with_its_code_and_is_ready_when_it_is_known()
    {
        var follower = New(FakeIssuance.Code);
        Assert.False(_readiness.IsReady);
        await follower.StartAsync(TestContext.Current.CancellationToken);
        await follower.Joined.WaitAsync(TestContext.Current.CancellationToken);
        Assert.True(_readiness.IsReady);
        Assert.Equal(("fleet", TrustedKey.Service), follower.Find(_own.Kid) is { } own ? (own.Name, own.Kind) : default);
        Assert.Equal(1, _issuance.Joins);
        await follower.StopAsync(TestContext.Current.CancellationToken);
    }

    [Theory]
    [InlineData(null, false)]
    [InlineData("wrong", true)]
    public async Task Is_not_ready_without_a_code_that_is_right(string? code, bool asks)
    {
        var follower = New(code);
        await follower.StartAsync(TestContext.Current.CancellationToken);
        await PassTimeUntilAsync(() => _issuance.Fetches >= 3);
        await follower.StopAsync(TestContext.Current.CancellationToken);
        Assert.False(follower.Joined.IsCompleted);
        Assert.False(_readiness.IsReady);
        Assert.Equal(asks, _issuance.Joins > 0);
        // It believes others all the same.
        Assert.NotNull(follower.Find(_other.Kid));
    }

    [Fact]
    public async Task Waits_for_issuance_and_joins_when_it_is_there()
    {
        _issuance.Away = true;
        var follower = New(FakeIssuance.Code);
        await follower.StartAsync(TestContext.Current.CancellationToken);
        await PassTimeUntilAsync(() => _issuance.Fetches >= 3);
        Assert.Null(follower.Current);
        _issuance.Away = false;
        await PassTimeUntilAsync(() => follower.Joined.IsCompleted);
        await follower.StopAsync(TestContext.Current.CancellationToken);
    }

    [Fact]
    public async Task That_was_known_is_ready_at_once_with_issuance_away()
    {
        _issuance.Keys.Add(FixedTrust.Entry(_own, TrustedKey.Service, "fleet"));
        Assert.True(New().Offer(_issuance.Answer));
        _issuance.Away = true;
        var restarted = New();
        Assert.True(restarted.Joined.IsCompletedSuccessfully);
        Assert.True(_readiness.IsReady);
        await restarted.StartAsync(TestContext.Current.CancellationToken);
        await PassTimeUntilAsync(() => _issuance.Fetches >= 2);
        await restarted.StopAsync(TestContext.Current.CancellationToken);
        Assert.True(_readiness.IsReady);
        Assert.NotNull(restarted.Find(_other.Kid));
    }

    [Fact]
    public async Task Follows_by_itself()
    {
        _issuance.Keys.Add(FixedTrust.Entry(_own, TrustedKey.Service, "fleet"));
        var follower = New();
        await follower.StartAsync(TestContext.Current.CancellationToken);
        await follower.Joined.WaitAsync(TestContext.Current.CancellationToken);
        _issuance.Keys.RemoveAll(key => key.Kid == _other.Kid);
        _issuance.Seq++;
        await PassTimeUntilAsync(() => follower.Current!.Seq == 2);
        Assert.Null(follower.Find(_other.Kid));
        await follower.StopAsync(TestContext.Current.CancellationToken);
    }

    /// <summary>However many unknown keys come, and whether issuance answers or not.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Asks_for_a_newer_set_at_most_every_10_s(bool away)
    {
        var follower = New();
        _issuance.Away = away;
        var gate = new AssertionGate("ledger", follower, _time);
        async Task FloodAsync()
        {
            for (var n = 0; n < 20; n++)
            {
                using var stranger = SigningKey.Generate();
                var context = new DefaultHttpContext();
                context.Request.Method = "GET";
                context.Request.Headers[FoundryHeaders.Assertion] = new Assertion { Iss = "x", Aud = "ledger", Iat = 0, Exp = 0, Jti = "j", Use = Assertion.ReadUse }.Sign(stranger);
                Assert.Equal(ErrorCode.GatewayRequired, (await gate.TryEnterAsync(context))?.Error);
            }
        }
        await FloodAsync();
        Assert.Equal(1, _issuance.Fetches);
        _time.Advance(TimeSpan.FromSeconds(9.9));
        await FloodAsync();
        Assert.Equal(1, _issuance.Fetches);
        _time.Advance(TimeSpan.FromSeconds(0.1));
        await FloodAsync();
        Assert.Equal(2, _issuance.Fetches);
    }

    public async ValueTask DisposeAsync()
    {
        foreach (var follower in _followers)
            follower.Dispose();
        await _issuance.DisposeAsync();
        _own.Dispose();
        _other.Dispose();
        _temp.Dispose();
    }
}
