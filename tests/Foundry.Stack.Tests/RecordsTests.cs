using System.Data.Common;
using System.Text.Json;
using Foundry.Contracts;
using Foundry.Testing;
using Foundry.Tokens;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.Data.Sqlite;
using Npgsql;

namespace Foundry.Stack.Tests;

/// <summary>
/// CONTRACT section 3, Records: every fact is in the ledger exactly once and in order, wherever issuance was killed and however long the
/// ledger was away. The ledger and issuance are the real programs, in processes of their own; between them is a door that holds a request
/// where the test wants the kill to be.
/// </summary>
/// <param name="processes">How many issuances there are: with SQLite one, with PostgreSQL any number.</param>
public abstract class RecordsTests(int processes) : IAsyncDisposable
{
    private const string JoinCode = "a-join-code-of-thirty-two-characters-and-more";
    private const string Tenant = "acme-corp";
    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    private readonly TempFolder _folder = new();
    private readonly string _schema = $"t{Guid.NewGuid():N}";
    private readonly SigningKey _gatewayKey = SigningKey.Generate();
    private readonly List<IssuanceProcess> _issuances = [];
    private readonly int _ledgerPort = LoopbackPort.Free();
    private string? _postgres;
    private PartProcess? _ledger;
    private string _root = "";
    private int _facts;

    [Fact]
    public async Task Every_fact_is_in_the_ledger_once_and_in_order_whatever_was_killed_when()
    {
        if (processes > 1)
        {
            _postgres = Environment.GetEnvironmentVariable("FOUNDRY_TEST_POSTGRES");
            Assert.SkipWhen(string.IsNullOrEmpty(_postgres), "FOUNDRY_TEST_POSTGRES is not set.");
            _postgres += $";Search Path={_schema}";
        }
        await StartAsync();
        var victim = _issuances[0];
        Assert.Equal(201, await CallAsync(victim, HttpMethod.Post, "/v1/tenants", $$"""{"tenant_id":"{{Tenant}}","display_name":"Acme","max_vms":0,"storage_quota_gb":1,"api_rate_limit_rpm":1}"""));
        await MakeFactsAsync(victim, 2);

        // Before the commit: the transaction has begun, and waits for the store when the process dies.
        await using (await LockStoreAsync())
        {
            var unfinished = CallAsync(victim, HttpMethod.Patch, $"/v1/tenants/{Tenant}", """{"max_vms":99999}""");
            await WaitForStoreAsync();
            await victim.Process.KillAsync();
            Assert.Null(await unfinished);
        }
        await victim.StartAsync();
        Assert.DoesNotContain(await ChangesAsync(), change => change == "max_vms 99999");

        // After the commit, before anything is sent; and the ledger away for a while.
        foreach (var issuance in _issuances)
            issuance.Door.IsShut = true;
        await _ledger!.KillAsync();
        foreach (var issuance in _issuances)
            await MakeFactsAsync(issuance, 2);
        await victim.Process.KillAsync();
        await victim.StartAsync();
        await MakeFactsAsync(victim, 1);
        await StartLedgerAsync();
        foreach (var issuance in _issuances)
            issuance.Door.IsShut = false;

        // After it was sent: before the ledger has it, and when the ledger has it and the answer is on its way.
        foreach (var isAnswered in (bool[])[false, true])
        {
            var held = victim.Door.Hold(1, isAnswered);
            while (!held.IsCompleted)
                await MakeFactsAsync(victim, 1);
            await held;
            await victim.Process.KillAsync();
            await victim.StartAsync();
        }

        // After the answer, before the row is deleted: of several rows some are answered, and rows go together.
        foreach (var issuance in _issuances)
            issuance.Door.IsShut = true;
        await MakeFactsAsync(victim, 3);
        var third = victim.Door.Hold(3, isAnswered: false);
        victim.Door.IsShut = false;
        while (!third.IsCompleted)
            await MakeFactsAsync(victim, 1);
        await third;
        await victim.Process.KillAsync();
        await victim.StartAsync();
        foreach (var issuance in _issuances)
            issuance.Door.IsShut = false;

        // All of them at once, and the ledger dies among it.
        var busy = _issuances.Select(issuance => MakeFactsAsync(issuance, 6)).ToList();
        await _ledger.KillAsync();
        await StartLedgerAsync();
        await Task.WhenAll(busy);

        await Eventually.TrueAsync(async () => (await QueryAsync("SELECT CAST(COUNT(*) AS TEXT) FROM outbox"))[0] == "0");
        await CompareAsync();
        Assert.True(_issuances.Sum(issuance => issuance.Door.Repeats) > 0, "Nothing was ever sent twice.");
    }

    private async Task CompareAsync()
    {
        var facts = await ChangesAsync();
        Assert.True(facts.Count > 20);
        var log = await EntriesAsync(Tenant);
        // Event by event: what the store says happened, in its order, is what the ledger says.
        Assert.Equal(facts, log.Select(FactOf).Where(fact => fact is not null));
        Assert.Equal(facts.Where(fact => fact.StartsWith("max_vms", StringComparison.Ordinal)), (await EntriesAsync("foundry.platform")).Select(FactOf).Where(fact => fact?.StartsWith("max_vms", StringComparison.Ordinal) == true));
        var tokens = await QueryAsync($"SELECT token_id FROM tokens WHERE tenant_id = '{Tenant}'");
        var issued = log.Where(entry => TypeOf(entry) == "TOKEN_ISSUED").Select(entry => entry.GetProperty("payload").GetProperty("token_id").GetString()!).ToList();
        Assert.Equal(tokens.Order(StringComparer.Ordinal), issued.Order(StringComparer.Ordinal));
        Assert.Equal(log.Count, log.Select(entry => entry.GetProperty("payload_id").GetString()).Distinct().Count());
        var times = log.Select(entry => entry.GetProperty("payload").GetProperty("time").GetDateTimeOffset()).ToList();
        Assert.Equal(times.Order(), times);
        foreach (var revoked in facts.Where(fact => fact.StartsWith("revoked", StringComparison.Ordinal)).Select(fact => fact.Split(' ')[1]))
            Assert.True(log.FindIndex(entry => TypeOf(entry) == "TOKEN_ISSUED" && entry.GetProperty("payload").GetProperty("token_id").GetString() == revoked)
                < log.FindIndex(entry => FactOf(entry) == $"revoked {revoked}"));
    }

    /// <summary>So many quotas, tokens and revocations. What a killed process did not answer may be or not: the store says.</summary>
    private async Task MakeFactsAsync(IssuanceProcess issuance, int count)
    {
        for (var number = 0; number < count; number++)
        {
            await CallAsync(issuance, HttpMethod.Patch, $"/v1/tenants/{Tenant}", $$"""{"max_vms":{{Interlocked.Increment(ref _facts)}}}""");
            using var subject = SigningKey.Generate();
            string? token = null;
            await CallAsync(issuance, HttpMethod.Post, "/v1/tokens", $$"""{"tenant_id":"{{Tenant}}","subject_pubkey":"{{subject.Public.X}}","scope":"read","expires_in_seconds":3600}""",
                json => token = json.GetProperty("token_id").GetString());
            if (number % 2 == 0)
                await CallAsync(issuance, HttpMethod.Delete, $"/v1/tokens/{token}");
        }
    }

    private async Task<int?> CallAsync(IssuanceProcess issuance, HttpMethod method, string path, string? json = null, Action<JsonElement>? read = null)
    {
        try
        {
            using var gateway = new GatewayCaller(_gatewayKey, "gateway-one", "issuance", issuance.Url, TimeProvider.System);
            using var answer = await gateway.SendAsync(issuance.Admin, method, path, json, Cancellation);
            using var text = await answer.Content.ReadAsStreamAsync(Cancellation);
            if (answer.IsSuccessStatusCode && read is not null)
                read((await JsonDocument.ParseAsync(text, cancellationToken: Cancellation)).RootElement);
            return (int)answer.StatusCode;
        }
        catch (HttpRequestException)
        {
            return null;
        }
    }

    /// <summary>The facts in the order in which they were committed.</summary>
    private async Task<List<string>> ChangesAsync() =>
    [
        .. (await QueryAsync("SELECT body FROM changes ORDER BY seq")).Select(body => JsonSerializer.Deserialize(body, WireJson.Default.Change)!)
            .Select(change => change switch { { Tenant: { } tenant } => $"max_vms {tenant.MaxVms}", { Revoked: { } revoked } => $"revoked {revoked.Jti}", _ => null }).OfType<string>(),
    ];

    private static string? FactOf(JsonElement entry)
    {
        var payload = entry.GetProperty("payload");
        return TypeOf(entry) switch
        {
            "TENANT_CREATED" => $"max_vms {payload.GetProperty("quotas").GetProperty("max_vms").GetInt32()}",
            "QUOTA_CHANGED" => $"max_vms {payload.GetProperty("new").GetProperty("max_vms").GetInt32()}",
            "TOKEN_REVOKED" => $"revoked {payload.GetProperty("token_id").GetString()}",
            _ => null,
        };
    }

    private static string TypeOf(JsonElement entry) => entry.GetProperty("payload").GetProperty("event_type").GetString()!;

    private async Task<List<JsonElement>> EntriesAsync(string log)
    {
        using var gateway = new GatewayCaller(_gatewayKey, "gateway-one", "ledger", new Uri(LoopbackPort.Url(_ledgerPort)), TimeProvider.System);
        using var answer = await gateway.SendAsync(_issuances[0].Admin, HttpMethod.Get, "/v1/entries?since=0&limit=10000", null, Cancellation, request => request.Headers.TryAddWithoutValidation(FoundryHeaders.ModuleId, log));
        var text = await answer.Content.ReadAsStringAsync(Cancellation);
        Assert.True(answer.IsSuccessStatusCode, text);
        return [.. JsonDocument.Parse(text).RootElement.GetProperty("entries").EnumerateArray()];
    }

    private async Task StartAsync()
    {
        var first = new IssuanceProcess(this, _folder.File("issuance-1"));
        _issuances.Add(first);
        await first.StartAsync();
        using var client = Http.NewClient(first.Url);
        var trust = JsonSerializer.Deserialize(await client.GetStringAsync("/internal/v1/trust", Cancellation), WireJson.Default.TrustAnswer)!;
        Assert.True(VerifyingKey.TryCreate(trust.Root, out var root));
        _root = root.Kid;
        using var joined = await client.PostAsync("/internal/v1/join", new StringContent(JsonSerializer.Serialize(new JoinRequest(1, "gateway", "gateway-one", _gatewayKey.Public.X, JoinCode), WireJson.Default.JoinRequest), System.Text.Encoding.UTF8, "application/json"), Cancellation);
        joined.EnsureSuccessStatusCode();
        for (var number = 2; number <= processes; number++)
        {
            // Another process has copies of the root key and of the keys of tokens.
            var folder = _folder.File($"issuance-{number}");
            Directory.CreateDirectory(Path.Combine(folder, "tokens.keys"));
            foreach (var file in Directory.GetFiles(Path.Combine(first.Folder, "tokens.keys")).Append(Path.Combine(first.Folder, "root.key")).Append(Path.Combine(first.Folder, "admin.key")).Append(Path.Combine(first.Folder, "admin.token")))
                File.Copy(file, Path.Combine(folder, Path.GetRelativePath(first.Folder, file)));
            _issuances.Add(new IssuanceProcess(this, folder));
            await _issuances[^1].StartAsync();
        }
        await StartLedgerAsync();
    }

    private async Task StartLedgerAsync() => _ledger = await PartProcess.StartAsync("Foundry.Ledger", LoopbackPort.Url(_ledgerPort), new()
    {
        ["Ledger:Listen"] = LoopbackPort.Url(_ledgerPort),
        ["Ledger:Data"] = _folder.File("ledger"),
        ["Issuance:Url"] = _issuances[0].Url.ToString(),
        ["Trust:RootThumbprint"] = _root,
        ["Trust:JoinCode"] = JoinCode,
    }, Cancellation);

    /// <summary>While it is held no transaction gets as far as its commit.</summary>
    private async Task<DbConnection> LockStoreAsync()
    {
        var connection = await OpenAsync();
        await using var command = connection.CreateCommand();
        // PostgreSQL: the fact and the change are written, the event cannot be. SQLite has one writer, and it is this one.
        command.CommandText = _postgres is null ? "BEGIN IMMEDIATE" : "BEGIN; LOCK TABLE outbox IN EXCLUSIVE MODE";
        await command.ExecuteNonQueryAsync(Cancellation);
        return connection;
    }

    /// <summary>SQLite does not say who waits; what is killed then may not have come so far.</summary>
    private Task WaitForStoreAsync() => _postgres is null ? Task.CompletedTask :
        Eventually.TrueAsync(async () => (await QueryAsync("SELECT CAST(COUNT(*) AS TEXT) FROM pg_locks WHERE NOT granted AND mode = 'RowExclusiveLock' AND relation = 'outbox'::regclass"))[0] != "0");

    private async Task<List<string>> QueryAsync(string sql)
    {
        await using var connection = await OpenAsync();
        await using var command = connection.CreateCommand();
        command.CommandText = sql;
        await using var rows = await command.ExecuteReaderAsync(Cancellation);
        var texts = new List<string>();
        while (await rows.ReadAsync(Cancellation))
            texts.Add(rows.GetString(0));
        return texts;
    }

    private async Task<DbConnection> OpenAsync()
    {
        DbConnection connection = _postgres is null
            ? new SqliteConnection(new SqliteConnectionStringBuilder { DataSource = Path.Combine(_issuances[0].Folder, "issuance.db"), Pooling = false }.ToString())
            : new NpgsqlConnection(_postgres + ";Pooling=false");
        await connection.OpenAsync(Cancellation);
        return connection;
    }

    public async ValueTask DisposeAsync()
    {
        foreach (var issuance in _issuances)
            await issuance.DisposeAsync();
        if (_ledger is not null)
            await _ledger.DisposeAsync();
        if (_postgres is not null && _issuances.Count > 0)
        {
            await using var connection = await OpenAsync();
            await using var command = connection.CreateCommand();
            command.CommandText = $"DROP SCHEMA IF EXISTS {_schema} CASCADE";
            await command.ExecuteNonQueryAsync(CancellationToken.None);
        }
        _gatewayKey.Dispose();
        _folder.Dispose();
    }

    /// <summary>An issuance, killed and started again on the same port and folder, and its own way to the ledger.</summary>
    private sealed class IssuanceProcess(RecordsTests test, string folder) : IAsyncDisposable
    {
        private readonly int _port = LoopbackPort.Free();
        private CallerFacts? _admin;

        public string Folder => folder;
        public Uri Url => new(LoopbackPort.Url(_port));
        public PartProcess Process { get; private set; } = null!;
        public Door Door { get; } = new(test._ledgerPort);
        public CallerFacts Admin => _admin ??= ReadAdmin();

        public async Task StartAsync()
        {
            await Door.OpenAsync();
            Process = await PartProcess.StartAsync("Foundry.Issuance", Url.ToString(), new()
            {
                ["Issuance:Listen"] = LoopbackPort.Url(_port),
                ["Issuance:Data"] = folder,
                ["Issuance:Database"] = test._postgres,
                ["Trust:JoinCode"] = JoinCode,
                ["Ledger:Url"] = Door.Url.ToString(),
                ["Fleet:Url"] = "http://127.0.0.1:1",
            }, Cancellation);
        }

        public async ValueTask DisposeAsync()
        {
            if (Process is not null)
                await Process.DisposeAsync();
            await Door.DisposeAsync();
        }

        private CallerFacts ReadAdmin()
        {
            Assert.True(Jws.TryParse(File.ReadAllText(Path.Combine(folder, "admin.token")).Trim(), CapabilityToken.Typ, out var jws, out _));
            var claims = JsonDocument.Parse(jws.Payload).RootElement;
            return new(null, claims.GetProperty("scope").GetString()!, claims.GetProperty("subject_pubkey").GetString()!, claims.GetProperty("jti").GetString()!, claims.GetProperty("exp").GetInt64());
        }
    }

    /// <summary>Between issuance and the ledger: passes on, turns away, or holds one request before or after the ledger has it.</summary>
    private sealed class Door(int ledgerPort) : IAsyncDisposable
    {
        private readonly Lock _lock = new();
        private readonly HashSet<string> _passed = new(StringComparer.Ordinal);
        private readonly HttpClient _ledger = Http.NewClient(new Uri(LoopbackPort.Url(ledgerPort)));
        private (int Left, bool IsAnswered, TaskCompletionSource Held)? _hold;
        private LoopbackHost? _host;

        public Uri Url => _host!.BaseAddress;
        public volatile bool IsShut;
        public int Repeats { get; private set; }

        public async Task OpenAsync() => _host ??= await LoopbackHost.StartAsync(_ => { }, app => app.Run(PassAsync), Cancellation);

        /// <summary>Ends when the so-manyth request from now on is held; it is never let go.</summary>
        public Task Hold(int requests, bool isAnswered)
        {
            var held = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
            lock (_lock)
                _hold = (requests, isAnswered, held);
            return held.Task;
        }

        public async ValueTask DisposeAsync()
        {
            if (_host is not null)
                await _host.DisposeAsync();
            _ledger.Dispose();
        }

        private async Task PassAsync(HttpContext context)
        {
            if (IsShut)
            {
                context.Abort();
                return;
            }
            var body = new MemoryStream();
            await context.Request.Body.CopyToAsync(body, context.RequestAborted);
            (int Left, bool IsAnswered, TaskCompletionSource Held)? mine = null;
            lock (_lock)
            {
                if (!_passed.Add($"{context.Request.Headers[FoundryHeaders.ModuleId]} {System.Text.Encoding.UTF8.GetString(body.ToArray())}"))
                    Repeats++;
                if (_hold is { Left: 1 })
                    (mine, _hold) = (_hold, null);
                else if (_hold is { } hold)
                    _hold = (hold.Left - 1, hold.IsAnswered, hold.Held);
            }
            if (mine is { IsAnswered: false } before)
            {
                await HoldAsync(before.Held, context);
                return;
            }
            using var request = new HttpRequestMessage(HttpMethod.Post, context.Request.Path) { Content = new ByteArrayContent(body.ToArray()) };
            request.Content.Headers.TryAddWithoutValidation("Content-Type", context.Request.ContentType);
            foreach (var name in (string[])[FoundryHeaders.ModuleId, FoundryHeaders.Assertion])
                request.Headers.TryAddWithoutValidation(name, context.Request.Headers[name].ToString());
            try
            {
                using var answer = await _ledger.SendAsync(request, context.RequestAborted);
                if (mine is { } after)
                {
                    await HoldAsync(after.Held, context);
                    return;
                }
                context.Response.StatusCode = (int)answer.StatusCode;
                await context.Response.WriteAsync(await answer.Content.ReadAsStringAsync(context.RequestAborted), context.RequestAborted);
            }
            catch (HttpRequestException)
            {
                context.Abort();
            }
        }

        private static async Task HoldAsync(TaskCompletionSource held, HttpContext context)
        {
            held.SetResult();
            var gone = new TaskCompletionSource();
            await using var registered = context.RequestAborted.Register(gone.SetResult);
            await gone.Task;
        }
    }
}

/// <summary>With SQLite there is no second process.</summary>
public sealed class RecordsOfOneProcess() : RecordsTests(1);

/// <summary>Two at once on one PostgreSQL, one of them killed again and again.</summary>
public sealed class RecordsOfTwoProcesses() : RecordsTests(2);
