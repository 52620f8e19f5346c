using System.Diagnostics;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using Foundry.Testing;
using Foundry.Tokens;

namespace Foundry.Stack.Tests;

/// <summary>
/// npm's jose, which knows nothing of us, in Node: <c>Jose/interop.mjs</c>, run in the folder that FOUNDRY_TEST_JOSE names, where
/// <c>npm ci</c> has put what <c>Jose/package-lock.json</c> pins.
/// </summary>
public static class Jose
{
    public static string? Folder { get; } = Environment.GetEnvironmentVariable("FOUNDRY_TEST_JOSE") is { Length: > 0 } folder ? folder : null;

    /// <summary>Tests that need it are skipped as a whole where it is not there.</summary>
    public static bool IsAbsent => Folder is null;

    public static async Task<JsonElement> AskAsync(JsonObject asked, CancellationToken cancellationToken)
    {
        // From standard input, so that its import is looked for where npm has put it.
        var start = new ProcessStartInfo("node", ["--input-type=module"]) { WorkingDirectory = Folder, RedirectStandardInput = true, RedirectStandardOutput = true, RedirectStandardError = true };
        start.Environment["ASKED"] = asked.ToJsonString();
        using var node = Process.Start(start)!;
        await node.StandardInput.WriteAsync(await File.ReadAllTextAsync(Path.Combine(Repository.Root, "tests/Foundry.Stack.Tests/Jose/interop.mjs"), cancellationToken));
        node.StandardInput.Close();
        var answer = node.StandardOutput.ReadToEndAsync(cancellationToken);
        var errors = node.StandardError.ReadToEndAsync(cancellationToken);
        await node.WaitForExitAsync(cancellationToken);
        Assert.True(node.ExitCode == 0, await errors);
        return JsonElement.Parse(await answer);
    }

    /// <summary>A JWS by jose.</summary>
    public static async Task<string> SignAsync(JsonNode claims, JsonObject header, SigningKey key, CancellationToken cancellationToken) =>
        (await AskAsync(new JsonObject { ["what"] = "sign", ["claims"] = claims, ["header"] = header, ["d"] = key.ExportSeed(), ["x"] = key.Public.X }, cancellationToken)).GetProperty("jwt").GetString()!;
}

public sealed class JoseOnCi
{
    /// <summary>Without this, a runner that lost its Node would go on being green.</summary>
    [Fact]
    public void Is_there() => Assert.True(Environment.GetEnvironmentVariable("CI") != "true" || !Jose.IsAbsent, "FOUNDRY_TEST_JOSE is not set");
}

/// <summary>Tokens of a running platform, and a stranger's library.</summary>
public sealed class JoseTests(Walk walk)
{
    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    private static JsonObject ClaimsOf(string token)
    {
        Assert.True(Base64UrlText.TryDecode(token.Split('.')[1], out var payload));
        return JsonNode.Parse(payload)!.AsObject();
    }

    private Task<JsonElement> VerifyAsync(string token) => Jose.AskAsync(new JsonObject
    {
        ["what"] = "verify",
        ["token"] = token,
        ["jwks"] = new Uri(walk.Process.Gateway, "/.well-known/jwks.json").ToString(),
        ["issuer"] = ClaimsOf(token)["iss"]!.GetValue<string>(),
    }, Cancellation);

    /// <summary>The platform's own key, from where issuance keeps it.</summary>
    private SigningKey TokenKey()
    {
        var file = Assert.Single(Directory.GetFiles(Path.Combine(walk.Data, "issuance", "tokens.keys"), "*.key"));
        Assert.True(SigningKey.TryImport(File.ReadAllText(file).Trim(), out var key));
        return key;
    }

    [Fact(Skip = "FOUNDRY_TEST_JOSE is not set", SkipType = typeof(Jose), SkipWhen = nameof(Jose.IsAbsent))]
    public async Task A_token_of_ours_is_verified_by_jose_with_the_published_keys()
    {
        foreach (var token in new[] { walk.Admin, walk.Acme.Admin, walk.Acme.Read, walk.Acme.Node })
        {
            var verified = await VerifyAsync(token);
            Assert.True(verified.TryGetProperty("payload", out var payload), verified.ToString());
            Assert.True(JsonNode.DeepEquals(ClaimsOf(token), JsonNode.Parse(payload.GetRawText())));
        }
    }

    [Fact(Skip = "FOUNDRY_TEST_JOSE is not set", SkipType = typeof(Jose), SkipWhen = nameof(Jose.IsAbsent))]
    public async Task A_token_that_was_changed_is_refused_by_jose()
    {
        var parts = walk.Acme.Read.Split('.');
        var claims = ClaimsOf(walk.Acme.Read);
        claims["scope"] = "input";
        var changed = $"{parts[0]}.{Base64UrlText.Encode(Encoding.UTF8.GetBytes(claims.ToJsonString()))}.{parts[2]}";
        Assert.Equal("ERR_JWS_SIGNATURE_VERIFICATION_FAILED", (await VerifyAsync(changed)).GetProperty("refused").GetString());
    }

    [Fact(Skip = "FOUNDRY_TEST_JOSE is not set", SkipType = typeof(Jose), SkipWhen = nameof(Jose.IsAbsent))]
    public async Task A_token_that_jose_signs_with_our_key_is_accepted_by_our_library_and_by_the_gateway()
    {
        using var key = TokenKey();
        var claims = ClaimsOf(walk.Acme.Read);
        claims["jti"] = Guid.CreateVersion7().ToString();
        var minted = await Jose.SignAsync(claims, Header(key), key, Cancellation);

        Assert.True(CapabilityToken.TryVerify(minted, new KeySet([key.Public]), out var token, out var refusal), refusal.ToString());
        Assert.Equal((walk.Acme.TenantId, "read"), (token.TenantId, token.Scope));
        var status = await walk.Client.GetAsync(minted, "/v1/status", Cancellation);
        Assert.True(status.Status == 200, status.Body);
        Assert.Equal(walk.Acme.TenantId, status.Text("tenant_id"));
    }

    [Fact(Skip = "FOUNDRY_TEST_JOSE is not set", SkipType = typeof(Jose), SkipWhen = nameof(Jose.IsAbsent))]
    public async Task A_token_that_jose_signs_with_another_key_in_our_keys_name_is_refused()
    {
        using var key = TokenKey();
        using var other = SigningKey.Generate();
        var forged = await Jose.SignAsync(ClaimsOf(walk.Acme.Read), Header(key), other, Cancellation);
        Assert.False(CapabilityToken.TryVerify(forged, new KeySet([key.Public]), out _, out var refusal));
        Assert.Equal(TokenRefusal.BadSignature, refusal);
        var refused = await walk.Client.GetAsync(forged, "/v1/status", Cancellation);
        Assert.Equal((401, "bad_signature"), (refused.Status, refused.Text("reason")));
    }

    [Fact(Skip = "FOUNDRY_TEST_JOSE is not set", SkipType = typeof(Jose), SkipWhen = nameof(Jose.IsAbsent))]
    public async Task A_proof_that_jose_signs_is_accepted_for_its_request_alone()
    {
        using var key = SigningKey.Generate();
        var proof = await ProofAsync(key, "POST", "https://gateway.example/v1/vms", walk.Acme.Input);
        Assert.True(DpopProof.TryParse(proof, out var parsed));
        Assert.Equal(key.Public, parsed.Key);
        Assert.True(HttpTarget.TryParse("https://gateway.example/v1/vms", out var target));
        Assert.True(HttpTarget.TryParse("https://gateway.example/v1/status", out var other));
        var now = TimeProvider.System.GetUtcNow();
        Assert.True(parsed.Proves("POST", [target], walk.Acme.Input, now));
        Assert.False(parsed.Proves("GET", [target], walk.Acme.Input, now));
        Assert.False(parsed.Proves("POST", [other], walk.Acme.Input, now));
        Assert.False(parsed.Proves("POST", [target], walk.Acme.Read, now));
    }

    private static Task<string> ProofAsync(SigningKey key, string method, string url, string token) => Jose.SignAsync(
        new JsonObject
        {
            ["jti"] = Guid.NewGuid().ToString(),
            ["htm"] = method,
            ["htu"] = url,
            ["iat"] = TimeProvider.System.GetUtcNow().ToUnixTimeSeconds(),
            ["ath"] = Base64UrlText.Encode(SHA256.HashData(Encoding.ASCII.GetBytes(token))),
        },
        new JsonObject { ["typ"] = DpopProof.Typ, ["alg"] = "EdDSA", ["jwk"] = new JsonObject { ["kty"] = "OKP", ["crv"] = "Ed25519", ["x"] = key.Public.X } },
        key, Cancellation);

    private static JsonObject Header(SigningKey key) => new() { ["alg"] = "EdDSA", ["typ"] = CapabilityToken.Typ, ["kid"] = key.Kid };
}
