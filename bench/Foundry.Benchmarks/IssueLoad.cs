using System.Diagnostics;
using Foundry.Testing;
using Foundry.Tokens;

namespace Foundry.Benchmarks;

/// <summary>
/// Tokens issued by the standalone program, a process of its own, asked over HTTP through its gateway as clients ask: every answer means
/// that the token's record and its ledger event are on the disk.
/// </summary>
internal static class IssueLoad
{
    private static readonly TimeSpan WarmUp = TimeSpan.FromSeconds(3);
    private static readonly TimeSpan Measured = TimeSpan.FromSeconds(10);
    private static readonly int[] ClientCounts = [1, 8, 32];

    internal sealed record Row(string Store, int Clients, double PerSecond, double P50, double P99);

    /// <summary>With SQLite; and with PostgreSQL where FOUNDRY_TEST_POSTGRES names a database that may be written to.</summary>
    public static async Task<IReadOnlyList<Row>> RunAsync()
    {
        var rows = await RunAsync("SQLite", new Dictionary<string, string>());
        if (Environment.GetEnvironmentVariable("FOUNDRY_TEST_POSTGRES") is { Length: > 0 } postgres)
            rows.AddRange(await RunAsync("PostgreSQL", new Dictionary<string, string> { ["FOUNDRY_Issuance__Database"] = postgres }));
        return rows;
    }

    private static async Task<List<Row>> RunAsync(string store, Dictionary<string, string> environment)
    {
        environment["FOUNDRY_Log__Level"] = "Warning";
        using var folder = new TempFolder();
        await using var platform = await StandaloneProcess.StartAsync(folder.File("data"), CancellationToken.None, environment: environment);
        using var client = Http.NewClient(platform.Gateway);
        var admin = (await File.ReadAllTextAsync(folder.File("data/admin.token"))).Trim();
        var tenant = $"bench-{Guid.NewGuid():N}"[..20];
        await ExpectAsync(client.PostAsync(admin, "/v1/tenants", $$"""{"tenant_id":"{{tenant}}","display_name":"Bench","max_vms":1,"storage_quota_gb":1,"api_rate_limit_rpm":10000000}""", CancellationToken.None));
        using var key = SigningKey.Generate();
        var issuer = (await ExpectAsync(client.PostAsync(admin, $"/v1/tenants/{tenant}/tokens", Body(key, "service:tenant-admin"), CancellationToken.None))).Text("token")!;
        // The tenant reaches the gateway by the feed.
        while ((await client.GetAsync(issuer, "/v1/status", CancellationToken.None)).Status == 401)
            await Task.Yield();

        var rows = new List<Row>();
        foreach (var clients in ClientCounts)
        {
            await LoadAsync(client, issuer, clients, WarmUp);
            var (times, seconds) = await LoadAsync(client, issuer, clients, Measured);
            rows.Add(new Row(store, clients, times.Count / seconds, times[times.Count / 2], times[times.Count * 99 / 100]));
        }
        return rows;
    }

    private static async Task<(List<double> Milliseconds, double Seconds)> LoadAsync(HttpClient client, string issuer, int clients, TimeSpan length)
    {
        var watch = Stopwatch.StartNew();
        var times = await Task.WhenAll(Enumerable.Range(0, clients).Select(_ => Task.Run(async () =>
        {
            using var subject = SigningKey.Generate();
            var body = Body(subject, "user");
            var own = new List<double>();
            while (watch.Elapsed < length)
            {
                var begun = watch.Elapsed;
                await ExpectAsync(client.PostAsync(issuer, "/v1/tokens", body, CancellationToken.None));
                own.Add((watch.Elapsed - begun).TotalMilliseconds);
            }
            return own;
        })));
        return ([.. times.SelectMany(own => own).Order()], watch.Elapsed.TotalSeconds);
    }

    // One error voids the run.
    private static async Task<Answer> ExpectAsync(Task<Answer> asking)
    {
        var answer = await asking;
        return answer.Status == 201 ? answer : throw new InvalidOperationException($"{answer.Status}: {answer.Body}");
    }

    private static string Body(SigningKey subject, string scope) => $$"""{"subject_pubkey":"{{subject.Public.X}}","scope":"{{scope}}","expires_in_seconds":86400}""";
}
