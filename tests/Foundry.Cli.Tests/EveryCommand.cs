using System.Text;

namespace Foundry.Cli.Tests;

/// <summary>What holds for each command that calls the gateway.</summary>
public sealed class EveryCommand
{
    private const string PublicKey = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"; // RFC 8032 section 7.1, test 1

    // args, method, target, body
    public static TheoryData<string, string, string, string> Calls => new()
    {
        { "tenant create acme-corp --display-name Acme --max-vms 10 --storage-quota-gb 100 --api-rate-limit-rpm 600", "POST", "/v1/tenants",
            """{"tenant_id":"acme-corp","display_name":"Acme","max_vms":10,"storage_quota_gb":100,"api_rate_limit_rpm":600}""" },
        { "tenant create acme-corp --display-name Acme --max-vms 0 --storage-quota-gb 0 --api-rate-limit-rpm 1 --max-ram-mb 2048", "POST", "/v1/tenants",
            """{"tenant_id":"acme-corp","display_name":"Acme","max_vms":0,"storage_quota_gb":0,"api_rate_limit_rpm":1,"max_ram_mb":2048}""" },
        { "tenant list", "GET", "/v1/tenants", "" },
        { "tenant list --cursor abc", "GET", "/v1/tenants?cursor=abc", "" },
        { "tenant show acme-corp", "GET", "/v1/tenants/acme-corp", "" },
        { $"token issue --scope INPUT --pubkey {PublicKey} --tenant acme-corp --expires 24h --user-id alice", "POST", "/v1/tokens",
            $$"""{"subject_pubkey":"{{PublicKey}}","scope":"INPUT","expires_in_seconds":86400,"tenant_id":"acme-corp","user_id":"alice"}""" },
        { $"token issue --scope read --pubkey d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a --expires 90", "POST", "/v1/tokens",
            $$"""{"subject_pubkey":"{{PublicKey}}","scope":"read","expires_in_seconds":90}""" },
        { "token revoke 019a2b3c-0000-7000-8000-000000000000", "DELETE", "/v1/tokens/019a2b3c-0000-7000-8000-000000000000", "" },
        { "token revoke 11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=", "DELETE", $"/v1/tokens/{PublicKey}", "" },
        { "token revoke some-id --descendants", "DELETE", "/v1/tokens/some-id?descendants=true", "" },
        { $"token issue --scope user --pubkey {PublicKey} --proof", "POST", "/v1/tokens", $$"""{"subject_pubkey":"{{PublicKey}}","scope":"user","expires_in_seconds":86400,"proof":true}""" },
        { "request get /v1/quota?tenant_id=acme-corp", "GET", "/v1/quota?tenant_id=acme-corp", "" },
        { "request PATCH /v1/tenants/acme-corp --data {\"max_vms\":20}", "PATCH", "/v1/tenants/acme-corp", """{"max_vms":20}""" },
        { "token list --tenant globex --include revoked,expired", "GET", "/v1/tenants/globex/tokens?include=revoked%2Cexpired", "" },
        { "token list", "GET", "/v1/tenants/acme-corp/tokens", "" }, // the tenant that the caller's own token names
        { "token show some-id", "GET", "/v1/tokens/some-id", "" },
        { "vm list", "GET", "/v1/vms", "" },
        { "vm list --tenant acme-corp", "GET", "/v1/vms?tenant_id=acme-corp", "" },
        { "vm create --type VmTotebox --ram-mb 4096 --vcpu-count 2 --idempotency-key k", "POST", "/v1/vms", """{"vm_type":"VmTotebox","ram_mb":4096,"vcpu_count":2}""" },
        { "vm create --type VmTotebox --ram-mb 4096 --vcpu-count 2 --disk-gb 20 --prefer-kvm --preferred-node n1 --tenant t01 --idempotency-key k", "POST", "/v1/vms",
            """{"vm_type":"VmTotebox","ram_mb":4096,"vcpu_count":2,"prefer_kvm":true,"preferred_node":"n1","disk_gb":20,"tenant_id":"t01"}""" },
        { "vm delete vm-1", "DELETE", "/v1/vms/vm-1", "" },
        { "node list", "GET", "/v1/nodes", "" },
        { "status", "GET", "/v1/status", "" },
        { "part code gw-2", "POST", "/v1/parts/codes", """{"kind":"gateway","name":"gw-2"}""" },
        { "part code ledger --expires 10m", "POST", "/v1/parts/codes", """{"kind":"service","name":"ledger","expires_in_seconds":600}""" },
        { "part list", "GET", "/v1/parts", "" },
        { "part list --cursor abc", "GET", "/v1/parts?cursor=abc", "" },
        { "part remove kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k", "DELETE", "/v1/parts/kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k", "" },
        { "status --tenant acme-corp", "GET", "/v1/status?tenant_id=acme-corp", "" },
        { "ledger read", "GET", "/v1/entries", "" },
        { "ledger read --filter tenant-id=acme-corp --event-type TENANT_CREATED --limit 1", "GET", "/v1/entries?tenant_id=acme-corp&event_type=TENANT_CREATED&module_id=acme-corp&limit=1", "" },
        { "ledger read --filter vm-id=v&x --since 12 --module-id foundry.platform", "GET", "/v1/entries?vm_id=v%26x&module_id=foundry.platform&since=12", "" },
    };

    [Theory]
    [MemberData(nameof(Calls))]
    public async Task Makes_the_call_that_the_contract_names(string args, string method, string target, string body)
    {
        await using var gateway = await StandInGateway.StartAsync();
        using var line = new CommandLine();
        await line.RunAsync(gateway, [.. args.Split(' '), "--output", "json"]);
        Assert.Equal((method, target, body), (gateway.Only.Method, gateway.Only.Target, gateway.Only.Body));
        Assert.Equal($"Bearer {CommandLine.Canary}", gateway.Only.Authorization);
    }

    [Theory]
    [MemberData(nameof(Calls))]
    public async Task Passes_json_on_byte_for_byte(string args, string method, string target, string body)
    {
        Assert.NotNull((method, target, body).ToString());
        // Odd spacing, escapes, member order, a number beyond double: all of it must survive.
        const string json = "{ \"b\":1.10, \"a\":[ {\"n\":12345678901234567890.5, \"s\":\"\\u00e9 é\"} ],\n\t\"z\" : null }";
        await using var gateway = await StandInGateway.StartAsync(Said.Json(json));
        using var line = new CommandLine();
        var ran = await line.RunAsync(gateway, [.. args.Split(' '), "-o", "json"]);
        Assert.Equal((ExitCode.Done, json), (ran.Exit, ran.Output));
    }

    [Theory]
    [MemberData(nameof(Calls))]
    public async Task Refused_ends_with_1_and_says_why_and_what_next(string args, string method, string target, string body)
    {
        Assert.NotNull((method, target, body).ToString());
        await using var gateway = await StandInGateway.StartAsync(Said.Problem(403, "insufficient_scope", title: "The token's scope does not allow this", detail: "This needs input."));
        using var line = new CommandLine();
        var ran = await line.RunAsync(gateway, args.Split(' '));
        Assert.Equal((ExitCode.Failed, ""), (ran.Exit, ran.Output));
        Assert.Equal("""
            foundry: The token's scope does not allow this
              detail      This needs input.
              code        insufficient_scope
              request id  req-1
              next        use a token of the scope that is needed ('foundry token issue --scope …')

            """, ran.Error);
    }

    [Theory]
    [MemberData(nameof(Calls))]
    public async Task Never_shows_the_callers_token(string args, string method, string target, string body)
    {
        Assert.NotNull((method, target, body).ToString());
        using var line = new CommandLine();
        await using var gateway = await StandInGateway.StartAsync(Said.Json("""{"items":[]}"""));
        var shown = new StringBuilder();
        foreach (var form in new[] { "table", "json" })
        {
            gateway.Answers.Clear();
            gateway.Answers.Enqueue(Said.Json("""{"items":[]}"""));
            Append(await line.RunAsync(gateway, [.. args.Split(' '), "-o", form]));
            gateway.Answers.Enqueue(Said.Problem(401, "invalid_token", "expired"));
            gateway.Answers.TryDequeue(out _);
            Append(await line.RunAsync(gateway, [.. args.Split(' '), "-o", form]));
            Append(await line.RunAsync([.. args.Split(' '), "-o", form, "--gateway", "http://127.0.0.1:1"]));
            Append(await line.RunAsync([.. args.Split(' '), "-o", form, "--nonsense"]));
            Append(await line.RunAsync([.. args.Split(' '), "-o", form, "--help"]));
        }
        Assert.NotEqual(0, shown.Length);
        foreach (var part in CommandLine.Canary.Split('.'))
            Assert.DoesNotContain(part, shown.ToString(), StringComparison.Ordinal);

        void Append(Ran ran) => shown.Append(ran.Output).Append(ran.Error);
    }
}
