using System.Text;
using System.Text.Json;
using Foundry.Contracts;
using Foundry.Issuance.Tests.Tokens;
using Foundry.ServiceDefaults;
using Foundry.Testing;
using Foundry.Tokens;
using Microsoft.AspNetCore.Builder;

namespace Foundry.Issuance.Tests;

/// <summary>Two processes of issuance on one PostgreSQL are one issuance.</summary>
public sealed class TwoProcesses
{
    private const int AtOnce = 12;

    [Fact]
    public async Task Issue_one_token_for_one_idempotency_key()
    {
        await using var both = await StartAsync();
        var body = IdempotentRequest.IssueBody();
        var answers = await both.AtOnceAsync(_ => new("POST", "/v1/tenants/acme-corp/tokens", body, ("Idempotency-Key", "a-key")));
        Assert.All(answers, answer => Assert.Equal((201, answers[0].Text), (answer.Status, answer.Text)));
        Assert.Equal(AtOnce - 1, answers.Count(answer => answer.Headers.Contains("Idempotency-Replayed")));
        Assert.Equal(1, await Rows.ReadAsync<long>(both.First, "SELECT COUNT(*) FROM tokens WHERE tenant_id = 'acme-corp'"));
        // And each its own without one.
        answers = await both.AtOnceAsync(_ => new("POST", "/v1/tenants/acme-corp/tokens", IdempotentRequest.IssueBody()));
        Assert.Equal(AtOnce, answers.Where(answer => answer.Status == 201).Select(answer => answer.Json.GetProperty("token_id").GetString()).Distinct().Count());
        foreach (var answer in answers)
            Assert.Null(await both.First.ReasonAsync(answer.Json.GetProperty("token").GetString()!));
    }

    [Fact]
    public async Task Let_one_of_several_changes_to_the_same_version_win()
    {
        await using var both = await StartAsync();
        for (var round = 1; round <= 5; round++)
        {
            var version = round;
            var answers = await both.AtOnceAsync(number => new("PATCH", "/v1/tenants/acme-corp", $$"""{"max_vms":{{(version * 100) + number}}}""", ("If-Match", $"\"{version}\"")));
            var won = Assert.Single(answers, answer => answer.Status == 200);
            Assert.Equal(AtOnce - 1, answers.Count(answer => (answer.Status, answer.Code) == (412, "precondition_failed")));
            Assert.Equal($"\"{version + 1}\"", won.Headers.ETag!.Tag);
            Assert.Equal(won.Text, (await both.First.CallAsync(both.First.Admin, HttpMethod.Get, "/v1/tenants/acme-corp")).Text);
        }
    }

    [Fact]
    public async Task Make_a_tenant_once()
    {
        await using var both = await StartAsync();
        var answers = await both.AtOnceAsync(_ => new("POST", "/v1/tenants", """{"tenant_id":"new-corp","display_name":"New","max_vms":1,"storage_quota_gb":1,"api_rate_limit_rpm":60}"""));
        Assert.Single(answers, answer => answer.Status == 201);
        Assert.Equal(AtOnce - 1, answers.Count(answer => answer.Code == "tenant_exists"));
    }

    [Fact]
    public async Task Revoke_a_token_once_now_or_when_it_is_due()
    {
        await using var both = await StartAsync();
        var part = both.First;
        var (now, due) = (await part.IssueAsync(part.Admin, "acme-corp", "read"), await part.IssueAsync(part.Admin, "acme-corp", "read"));
        Assert.All(await both.AtOnceAsync(_ => new("DELETE", $"/v1/tokens/{now.TokenId}", null)), answer => Assert.Equal(204, answer.Status));
        Assert.Equal(201, (await part.CallAsync(part.Admin, HttpMethod.Post, "/v1/tenants/acme-corp/tokens", new { subject_pubkey = due.SubjectPubkey, scope = "input", expires_in_seconds = 60, max_overlap_seconds = 1 })).Status);
        await part.UntilAsync(async () => await part.ReasonAsync(due.Token) == "revoked");
        // Whatever else the two would still tell comes before this.
        await part.CallAsync(part.Admin, HttpMethod.Patch, "/v1/tenants/acme-corp", new { max_vms = 99 });
        await part.Ledger.WaitAsync(ledger => ledger.Entries.Any(entry => entry.Log == "acme-corp" && entry.Type == "QUOTA_CHANGED"), TestContext.Current.CancellationToken);
        Assert.Equal([now.TokenId, due.TokenId], part.Ledger.Entries.Where(entry => entry.Type == "TOKEN_REVOKED").Select(entry => entry.Payload.GetProperty("token_id").GetString()!));
    }

    [Fact]
    public async Task Let_one_of_several_that_know_the_same_code_join()
    {
        await using var both = await StartAsync();
        var code = await Trust.JoinCode.MakeAsync(both.First, "gateway", "gateway-two");
        var keys = Enumerable.Range(0, AtOnce).Select(_ => SigningKey.Generate()).ToList();
        var answers = await both.JoinAtOnceAsync(code, keys);
        Assert.Equal(AtOnce - 1, answers.Count(answer => (answer.Status, answer.Code) == (401, "join_refused")));
        var winner = keys[Array.FindIndex(answers, answer => answer.Status == 200)];
        Assert.Equal(winner.Kid, await Rows.ReadAsync<string>(both.First, "SELECT kid FROM trusted_keys WHERE name = 'gateway-two'"));
        // It has it still, at either.
        Assert.All(await both.JoinAtOnceAsync(code, [winner, winner]), answer => Assert.Equal(200, answer.Status));
        keys.ForEach(key => key.Dispose());
    }

    [Fact]
    public async Task Take_a_tenant_down_and_record_each_vm_once()
    {
        await using var both = await StartAsync();
        var part = both.First;
        part.Fleet.Fill("acme-corp", 120);
        Assert.Equal(202, (await part.CallAsync(part.Admin, HttpMethod.Delete, "/v1/tenants/acme-corp?force=true")).Status);
        await part.UntilAsync(async () => (await part.CallAsync(part.Admin, HttpMethod.Get, "/v1/tenants/acme-corp")).Status == 404);
        await part.Ledger.WaitAsync(ledger => ledger.Entries.Any(entry => entry.Log == "acme-corp" && entry.Type == "TENANT_DELETED"), TestContext.Current.CancellationToken);
        // One event each. (Both processes send what is in the outbox; the ledger takes the same event once.)
        foreach (var number in Enumerable.Range(0, 120))
            Assert.Single(part.Ledger.Bodies.Where(body => body.Contains($"VM_DESTROYED:vm-acme-corp-{number:000}\"", StringComparison.Ordinal)).Distinct());
        Assert.Single(part.Ledger.Entries, entry => entry.Log == "acme-corp" && entry.Type == "TENANT_DELETED");
    }

    private static async Task<Both> StartAsync()
    {
        Assert.SkipWhen(Stores.ConnectionString is null, "FOUNDRY_TEST_POSTGRES is not set.");
        var part = await IssuancePart.StartAsync(Stores.Postgres, TimeProvider.System);
        await part.MakeTenantAsync();
        var (second, setup, key) = await part.SecondAsync();
        await second.StartAsync(setup.Listens, TestContext.Current.CancellationToken);
        return new Both(part, second, new GatewayCaller(key, "gateway-one", Issuance.Name, new Uri(second.Urls.First()), TimeProvider.System));
    }

    private sealed record Call(string Method, string Path, string? Body, params (string Name, string Value)[] Headers);

    private sealed class Both(IssuancePart first, WebApplication second, GatewayCaller toSecond) : IAsyncDisposable
    {
        public IssuancePart First => first;

        /// <summary>The administrator's calls, half of them to each process, at once.</summary>
        public Task<Answer[]> AtOnceAsync(Func<int, Call> call) => Task.WhenAll(Enumerable.Range(0, AtOnce).Select(async number =>
        {
            var (method, path, body, headers) = call(number);
            using var answer = await (number % 2 == 0 ? first.Gateway : toSecond).SendAsync(first.Admin, new HttpMethod(method), path, body, TestContext.Current.CancellationToken, request =>
            {
                foreach (var (name, value) in headers)
                    request.Headers.TryAddWithoutValidation(name, value);
            });
            return new Answer((int)answer.StatusCode, await answer.Content.ReadAsStringAsync(TestContext.Current.CancellationToken), answer.Headers);
        }));

        /// <summary>Parts that say one code, half of them to each process, at once.</summary>
        public Task<Answer[]> JoinAtOnceAsync(PartCode code, IReadOnlyList<SigningKey> keys) => Task.WhenAll(keys.Select(async (key, number) =>
        {
            using var body = new StringContent(JsonSerializer.Serialize(new JoinRequest(1, code.Kind, code.Name, key.Public.X, code.Code), WireJson.Default.JoinRequest), Encoding.UTF8, "application/json");
            using var answer = await (number % 2 == 0 ? first.Gateway : toSecond).Client.PostAsync("/internal/v1/join", body, TestContext.Current.CancellationToken);
            return new Answer((int)answer.StatusCode, await answer.Content.ReadAsStringAsync(TestContext.Current.CancellationToken), answer.Headers);
        }));

        public async ValueTask DisposeAsync()
        {
            toSecond.Dispose();
            await second.StopAsync(CancellationToken.None);
            await second.DisposeAsync();
            await first.DisposeAsync();
        }
    }
}
