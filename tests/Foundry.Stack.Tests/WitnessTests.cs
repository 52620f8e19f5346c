using System.Diagnostics;
using System.Text.Json;
using Foundry.Testing;
using Foundry.Tokens;

namespace Foundry.Stack.Tests;

/// <summary>A customer's witness, a rotation of the ledger's key, and an operator who restores an old backup: real programs throughout.</summary>
public sealed class WitnessTests : IDisposable
{
    private readonly TempFolder _folder = new();

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    private string Data => _folder.File("data");

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task A_witness_holds_the_operator_to_the_history_over_a_new_key_and_an_old_backup()
    {
        // A tenant, its log, and the log's key.
        string tenant, vkey;
        await using (var stack = await StandaloneProcess.StartAsync(Data, Cancellation))
        {
            using var client = Http.NewClient(stack.Gateway);
            tenant = await NewTenantAsync(client);
            await AppendAsync(client, tenant, "first");
            vkey = (await client.GetAsync(tenant, "/v1/contract", Cancellation)).Text("vkey")!;
            await stack.StopAsync(Cancellation);
        }

        // A witness that knows this key.
        var key = await RunAsync("foundry.dll", "keys", "new", "--out", _folder.File("witness.key"));
        Assert.Equal(0, key.ExitCode);
        var port = LoopbackPort.Free();
        using var witness = Start("foundry.dll", "witness", "run", "--key", _folder.File("witness.key"), "--name", "customer.example/w1", "--log", vkey,
            "--state", _folder.File("witness"), "--begin", "--listen", $"127.0.0.1:{port}");
        var witnessVkey = await witness.StandardOutput.ReadLineAsync(Cancellation);
        var settings = new Dictionary<string, string> { ["FOUNDRY_Ledger__Witnesses__0__Vkey"] = witnessVkey!, ["FOUNDRY_Ledger__Witnesses__0__Url"] = $"http://127.0.0.1:{port}/" };
        try
        {
            await using (var stack = await StandaloneProcess.StartAsync(Data, Cancellation, environment: settings))
            {
                using var client = Http.NewClient(stack.Gateway);
                await CosignedAsync(client, tenant);
                await AppendAsync(client, tenant, "second");
                await CosignedAsync(client, tenant);
                Assert.Equal(witnessVkey, (await client.GetAsync(tenant, "/v1/contract", Cancellation)).Json.GetProperty("witnesses")[0].GetString());
                await stack.StopAsync(Cancellation);
            }
            CopyFolder(Data, _folder.File("backup"));

            // A new key: whoever knows the old one alone notices nothing yet.
            Assert.Equal(0, (await RunAsync("Foundry.Ledger.dll", "rotate")).ExitCode);
            var again = await RunAsync("Foundry.Ledger.dll", "rotate");
            Assert.Equal((1, true), (again.ExitCode, again.Error.Contains("A rotation is going on", StringComparison.Ordinal)));
            await using (var stack = await StandaloneProcess.StartAsync(Data, Cancellation, environment: settings))
            {
                using var client = Http.NewClient(stack.Gateway);
                await AppendAsync(client, tenant, "third");
                var checkpoint = await CosignedAsync(client, tenant);
                Assert.Equal(3, checkpoint.Split('\n').Count(line => line.StartsWith('\u2014')));
                var contract = await client.GetAsync(tenant, "/v1/contract", Cancellation);
                Assert.Equal((vkey, true), (contract.Text("previous_vkey"), contract.Text("vkey") != vkey));
                var announced = await client.GetAsync(tenant, "/v1/entries?event_type=KEY_ANNOUNCED", Cancellation);
                Assert.Equal(contract.Text("vkey"), announced.Json.GetProperty("entries")[0].GetProperty("payload").GetProperty("vkey").GetString());
                await stack.StopAsync(Cancellation);
            }

            // An old backup in place of what was: every file of it fits, and only the witness knows better.
            Directory.Delete(Path.Combine(Data, "ledger"), recursive: true);
            CopyFolder(Path.Combine(_folder.File("backup"), "ledger"), Path.Combine(Data, "ledger"));
            await using (var stack = await StandaloneProcess.StartAsync(Data, Cancellation, environment: settings))
            {
                using var ledger = Http.NewClient(new Uri($"http://127.0.0.1:{stack.PortsInUse.Ledger}"));
                await Eventually.TrueAsync(async () => JsonElement.Parse(await ledger.GetStringAsync("/readyz", Cancellation)).GetProperty("needs").GetProperty("witnesses") is var need
                    && !need.GetProperty("met").GetBoolean() && need.GetProperty("detail").GetString()!.Contains("another history of 1 logs", StringComparison.Ordinal));
                await Eventually.TrueAsync(() => Task.FromResult(stack.Errors.Any(line => line.Contains("has seen another history", StringComparison.Ordinal) && line.Contains("\"Fatal\"", StringComparison.Ordinal))));
            }
        }
        finally
        {
            witness.Kill();
        }
    }

    private static async Task<string> NewTenantAsync(HttpClient client, string admin)
    {
        Assert.Equal(201, (await client.PostAsync(admin, "/v1/tenants", """{"tenant_id":"acme-corp","display_name":"Acme","max_vms":1,"storage_quota_gb":1,"api_rate_limit_rpm":60000}""", Cancellation)).Status);
        using var key = SigningKey.Generate();
        var issued = await client.PostAsync(admin, "/v1/tenants/acme-corp/tokens", $$"""{"subject_pubkey":"{{key.Public.X}}","scope":"service:tenant-admin","expires_in_seconds":86400}""", Cancellation);
        Assert.Equal(201, issued.Status);
        return issued.Text("token")!;
    }

    private async Task<string> NewTenantAsync(HttpClient client) => await NewTenantAsync(client, (await File.ReadAllTextAsync(Path.Combine(Data, "admin.token"), Cancellation)).Trim());

    // A token or a bucket of this moment may not have reached the gateway yet.
    private static Task AppendAsync(HttpClient client, string token, string id) =>
        Eventually.TrueAsync(async () => (await client.PostAsync(token, "/v1/append", $$"""{"payload_id":"{{id}}","payload":{"event_type":"NOTE"} }""", Cancellation)).Status == 200);

    private static async Task<string> CosignedAsync(HttpClient client, string token)
    {
        var checkpoint = "";
        await Eventually.TrueAsync(async () => (checkpoint = (await client.GetAsync(token, "/ledger/acme-corp/checkpoint", Cancellation)).Body).Contains("\u2014 customer.example/w1 ", StringComparison.Ordinal));
        return checkpoint;
    }

    private Process Start(string program, params string[] args)
    {
        var start = new ProcessStartInfo("dotnet", [Path.Combine(AppContext.BaseDirectory, program), .. args]) { RedirectStandardOutput = true, RedirectStandardError = true };
        start.Environment["FOUNDRY_DATA"] = Data;
        return Process.Start(start)!;
    }

    private async Task<(int ExitCode, string Error)> RunAsync(string program, params string[] args)
    {
        using var process = Start(program, args);
        var output = process.StandardOutput.ReadToEndAsync(Cancellation);
        var error = await process.StandardError.ReadToEndAsync(Cancellation);
        await output;
        await process.WaitForExitAsync(Cancellation);
        return (process.ExitCode, error);
    }

    private static void CopyFolder(string from, string to)
    {
        Directory.CreateDirectory(to);
        foreach (var folder in Directory.EnumerateDirectories(from, "*", SearchOption.AllDirectories))
            Directory.CreateDirectory(folder.Replace(from, to, StringComparison.Ordinal));
        foreach (var file in Directory.EnumerateFiles(from, "*", SearchOption.AllDirectories))
            File.Copy(file, file.Replace(from, to, StringComparison.Ordinal));
    }
}
