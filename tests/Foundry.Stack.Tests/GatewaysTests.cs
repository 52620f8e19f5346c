using System.Diagnostics;
using System.Text.Json;
using Foundry.Contracts;
using Foundry.Testing;
using Foundry.Tokens;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;

namespace Foundry.Stack.Tests;

/// <summary>
/// CONTRACT sections 1 and 3: what issuance decides is in force at every gateway. Three of them, the standalone program's and two in processes of
/// their own, which hear of issuance through a door each.
/// </summary>
public sealed class ThreeGateways : IAsyncDisposable
{
    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    private readonly TempFolder _folder = new();
    private readonly List<IAsyncDisposable> _started = [];
    private readonly List<HttpClient> _gateways = [];
    private readonly List<Door> _doors = [];
    private StandaloneProcess _platform = null!;

    private string Admin => File.ReadAllText(Path.Combine(_platform.Data, "admin.token")).Trim();

    /// <summary>Nothing is restarted in between, and from the compromise on the doors let the feed alone pass: nobody has to ask.</summary>
    [Fact]
    public async Task Believe_a_new_key_at_once_a_compromised_one_never_again_and_a_removed_gateway_reaches_nothing()
    {
        await StartAsync();
        Assert.Equal(201, (await _gateways[0].PostAsync(Admin, "/v1/tenants", """{"tenant_id":"acme-corp","display_name":"Acme","max_vms":1,"storage_quota_gb":1,"api_rate_limit_rpm":1000000}""", Cancellation)).Status);
        var before = await IssueAsync();
        await EverywhereAsync("a token", before, "200");

        // Published a moment ago: what it signs is good before it signs anything, after one question at most.
        var rotated = await _gateways[1].PostAsync(Admin, "/v1/keys/rotate", "{}", Cancellation);
        var made = rotated.Json.GetProperty("keys").EnumerateArray().Single(key => key.GetProperty("status").GetString() == "next").GetProperty("kid").GetString();
        Assert.True(SigningKey.TryImport((await File.ReadAllTextAsync(Path.Combine(_platform.Data, "issuance", "tokens.keys", $"{made}.key"), Cancellation)).Trim(), out var key));
        using (key)
        {
            var asked = _doors.Select(door => door.Questions).ToArray();
            await EverywhereAsync("a new key", Resigned(before, key), "200");
            Assert.All(_doors, (door, number) => Assert.InRange(door.Questions - asked[number], 0, 1));
        }

        foreach (var door in _doors)
            await door.LetFeedAloneAsync();
        Assert.Equal(200, (await _gateways[0].PostAsync(Admin, "/v1/keys/rotate", """{"compromised":true}""", Cancellation)).Status);
        await EverywhereAsync("a compromised key", before, "401 unknown_key");
        await EverywhereAsync("the administrator's new token", Admin, "200");

        // A gateway that is removed goes on by what it knows, and nobody behind it listens any more.
        var parts = await _gateways[1].GetAsync(Admin, "/v1/parts", Cancellation);
        var removed = parts.Json.GetProperty("parts").EnumerateArray().Single(part => part.GetProperty("name").GetString() == "gateway-3").GetProperty("kid").GetString();
        var token = await IssueAsync();
        string[] reads = ["/v1/nodes", "/v1/entries", "/v1/tenants/acme-corp"];
        foreach (var read in reads)
            await Eventually.TrueAsync(async () => (await Task.WhenAll(_gateways.Select(gateway => gateway.GetAsync(token, read, Cancellation)))).All(answer => answer.Status == 200));
        Assert.Equal(204, (await _gateways[0].SendAsync(Admin, HttpMethod.Delete, $"/v1/parts/{removed}", null, Cancellation)).Status);
        var watch = Stopwatch.StartNew();
        foreach (var read in reads)
        {
            await Eventually.TrueAsync(async () => (await _gateways[2].GetAsync(token, read, Cancellation)).Status != 200);
            Say($"{read} through the removed gateway", watch);
            Assert.Equal([200, 200], (await Task.WhenAll(_gateways.Take(2).Select(gateway => gateway.GetAsync(token, read, Cancellation)))).Select(answer => answer.Status));
        }
        // Nor does anything change through it.
        Assert.NotInRange((await _gateways[2].SendAsync(Admin, HttpMethod.Patch, "/v1/tenants/acme-corp", """{"max_vms":2}""", Cancellation)).Status, 200, 299);
    }

    /// <summary>Until all of them say so.</summary>
    private async Task EverywhereAsync(string what, string token, string verdict)
    {
        var watch = Stopwatch.StartNew();
        await Task.WhenAll(_gateways.Select((gateway, number) => Eventually.TrueAsync(async () =>
        {
            var isSo = await VerdictAsync(gateway, token) == verdict;
            if (isSo)
                Say($"{what}, gateway {number + 1}", watch);
            return isSo;
        })));
    }

    private static void Say(string what, Stopwatch watch) => TestContext.Current.TestOutputHelper?.WriteLine($"{what}: {watch.ElapsedMilliseconds} ms");

    private static async Task<string> VerdictAsync(HttpClient gateway, string token)
    {
        var answer = await gateway.GetAsync(token, "/v1/parts", Cancellation);
        // Whoever is no administrator was authenticated all the same.
        return answer.Status is 200 or 403 ? "200" : $"{answer.Status} {answer.Text("reason") ?? answer.Code}";
    }

    private async Task<string> IssueAsync()
    {
        using var subject = SigningKey.Generate();
        var issued = await _gateways[0].PostAsync(Admin, "/v1/tokens", $$"""{"subject_pubkey":"{{subject.Public.X}}","scope":"service:tenant-admin","expires_in_seconds":3600,"tenant_id":"acme-corp"}""", Cancellation);
        Assert.True(issued.Status == 201, issued.Body);
        return issued.Text("token")!;
    }

    private static string Resigned(string token, SigningKey key)
    {
        Assert.True(Jws.TryParse(token, CapabilityToken.Typ, out var jws, out _));
        return Jws.Sign(key, CapabilityToken.Typ, jws.Payload);
    }

    private async Task StartAsync()
    {
        _platform = await StandaloneProcess.StartAsync(_folder.File("data"), Cancellation);
        _started.Add(_platform);
        _gateways.Add(Http.NewClient(_platform.Gateway));
        using var issuance = Http.NewClient(new Uri(LoopbackPort.Url(_platform.PortsInUse.Issuance)));
        var trust = JsonSerializer.Deserialize((await issuance.GetAsync(null, "/internal/v1/trust", Cancellation)).Body, WireJson.Default.TrustAnswer)!;
        Assert.True(VerifyingKey.TryCreate(trust.Root, out var root));
        foreach (var name in (string[])["gateway-2", "gateway-3"])
        {
            var code = await _gateways[0].PostAsync(Admin, "/v1/parts/codes", $$"""{"kind":"gateway","name":"{{name}}"}""", Cancellation);
            Assert.True(code.Status == 201, code.Body);
            var door = await Door.OpenAsync(LoopbackPort.Url(_platform.PortsInUse.Issuance));
            _doors.Add(door);
            _started.Add(door);
            var (listen, ops) = (LoopbackPort.Free(), LoopbackPort.Free());
            _started.Add(await PartProcess.StartAsync("Foundry.Gateway", LoopbackPort.Url(ops), new()
            {
                ["DATA"] = _folder.File(name),
                ["Gateway:Name"] = name,
                ["Gateway:Listen"] = LoopbackPort.Url(listen),
                ["Gateway:OpsListen"] = LoopbackPort.Url(ops),
                // None: what is asked here needs no counters.
                ["Gateway:Redis"] = $"127.0.0.1:{LoopbackPort.Free()}",
                ["Issuance:Url"] = door.Url,
                ["Ledger:Url"] = LoopbackPort.Url(_platform.PortsInUse.Ledger),
                ["Fleet:Url"] = LoopbackPort.Url(_platform.PortsInUse.Fleet),
                ["Trust:RootThumbprint"] = root.Kid,
                ["Trust:JoinCode"] = code.Text("code"),
            }, Cancellation, "/livez"));
            _gateways.Add(Http.NewClient(new Uri(LoopbackPort.Url(listen))));
        }
    }

    public async ValueTask DisposeAsync()
    {
        foreach (var started in Enumerable.Reverse(_started))
            await started.DisposeAsync();
        _gateways.ForEach(gateway => gateway.Dispose());
        _folder.Dispose();
    }

    /// <summary>Between a gateway and issuance: passes on, and counts how often it is asked whom to believe.</summary>
    private sealed class Door : IAsyncDisposable
    {
        private readonly HttpClient _issuance;
        private readonly CancellationTokenSource _feedAlone = new();
        private LoopbackHost _host = null!;
        private int _questions;

        private Door(string issuance) => _issuance = Http.NewClient(new Uri(issuance));

        public string Url => _host.BaseAddress.ToString();
        /// <summary>How often the trust set was asked for that is in force now.</summary>
        public int Questions => Volatile.Read(ref _questions);
        /// <summary>Lets nobody ask for the trust set any more, and breaks off those who wait for an answer.</summary>
        public Task LetFeedAloneAsync() => _feedAlone.CancelAsync();

        public static async Task<Door> OpenAsync(string issuance)
        {
            var door = new Door(issuance);
            door._host = await LoopbackHost.StartAsync(_ => { }, app => app.Run(door.PassAsync), Cancellation);
            return door;
        }

        public async ValueTask DisposeAsync()
        {
            await _host.DisposeAsync();
            _issuance.Dispose();
            _feedAlone.Dispose();
        }

        private async Task PassAsync(HttpContext context)
        {
            var isQuestion = context.Request.Path == "/internal/v1/trust";
            if (isQuestion && !context.Request.Query.ContainsKey("after"))
                Interlocked.Increment(ref _questions);
            using var end = CancellationTokenSource.CreateLinkedTokenSource(context.RequestAborted, isQuestion ? _feedAlone.Token : CancellationToken.None);
            using var request = new HttpRequestMessage(new HttpMethod(context.Request.Method), $"{context.Request.Path}{context.Request.QueryString}");
            if (context.Request.ContentLength > 0 || context.Request.Headers.TransferEncoding.Count > 0)
            {
                var body = new MemoryStream();
                await context.Request.Body.CopyToAsync(body, end.Token);
                request.Content = new ByteArrayContent(body.ToArray());
                request.Content.Headers.TryAddWithoutValidation("Content-Type", context.Request.ContentType);
            }
            foreach (var (name, value) in context.Request.Headers.Where(header => header.Key.StartsWith("X-", StringComparison.OrdinalIgnoreCase)))
                request.Headers.TryAddWithoutValidation(name, value.ToString());
            try
            {
                using var answer = await _issuance.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, end.Token);
                context.Response.StatusCode = (int)answer.StatusCode;
                context.Response.ContentType = answer.Content.Headers.ContentType?.ToString();
                await using var content = await answer.Content.ReadAsStreamAsync(end.Token);
                var buffer = new byte[16 * 1024];
                // What has come goes on at once: the feed never ends.
                for (int read; (read = await content.ReadAsync(buffer, end.Token)) > 0;)
                {
                    await context.Response.Body.WriteAsync(buffer.AsMemory(0, read), end.Token);
                    await context.Response.Body.FlushAsync(end.Token);
                }
            }
            catch (Exception fault) when (fault is HttpRequestException or IOException or OperationCanceledException)
            {
                context.Abort();
            }
        }
    }
}
