using BenchmarkDotNet.Attributes;
using Foundry.Gateway.Authenticate;
using Foundry.Tokens;
using NSec.Cryptography;

namespace Foundry.Benchmarks;

/// <summary>What one thread does with one token: the arithmetic alone, then all that is done with it.</summary>
public class TokenBenchmarks
{
    private const string Issuer = "http://127.0.0.1:9221";
    private static readonly DateTimeOffset Now = new(2026, 6, 12, 9, 41, 7, TimeSpan.Zero);

    private readonly SigningKey _platform = SigningKey.Generate();
    private readonly SigningKey _subject = SigningKey.Generate();
    private readonly VerdictCache _verdicts = new();
    private KeySet _keys = KeySet.Empty;
    private CapabilityToken _claims = null!;
    private string _token = "";
    private string _proof = "";
    private HttpTarget[] _targets = [];
    private PublicKey _bareKey = null!;
    private byte[] _signed = [];
    private byte[] _signature = [];

    [GlobalSetup]
    public void Prepare()
    {
        _keys = new KeySet([_platform.Public]);
        _claims = new CapabilityToken
        {
            Iss = Issuer,
            Aud = CapabilityToken.Audience,
            Jti = Guid.CreateVersion7(Now).ToString(),
            Iat = Now.ToUnixTimeSeconds(),
            Nbf = Now.ToUnixTimeSeconds(),
            Exp = Now.AddDays(1).ToUnixTimeSeconds(),
            TenantId = "acme-corp",
            Sub = _subject.Public.X,
            Scope = "input",
            SubjectPubkey = _subject.Public.X,
        };
        _token = _claims.Sign(_platform);
        _proof = DpopProof.Create(_subject, "POST", Issuer + "/v1/vms", _token, Now);
        _targets = HttpTarget.TryParse(Issuer + "/v1/vms", out var target) ? [target] : throw new InvalidOperationException("This is a URL.");
        // The cache learns which keys are in force by being asked.
        _verdicts.Find(_token, _keys);
        _verdicts.Add(_token, _keys, _claims);

        Base64UrlText.TryDecode(_platform.Public.X, out var key);
        _bareKey = PublicKey.Import(SignatureAlgorithm.Ed25519, key, KeyBlobFormat.RawPublicKey);
        var dot = _token.LastIndexOf('.');
        _signed = System.Text.Encoding.ASCII.GetBytes(_token, 0, dot);
        Base64UrlText.TryDecode(_token.AsSpan(dot + 1), out var signature);
        _signature = signature!;
        foreach (var works in new[] { Bare(), Cold(), Warm(), Proof() })
            if (!works)
                throw new InvalidOperationException("What is measured does not work.");
    }

    [Benchmark(Description = "Ed25519 verify alone (NSec)", Baseline = true)]
    public bool Bare() => SignatureAlgorithm.Ed25519.Verify(_bareKey, _signed, _signature);

    [Benchmark(Description = "token verified, never seen before")]
    public bool Cold() => CapabilityToken.TryVerify(_token, _keys, out var token, out _) && token.Check(Issuer, Now) is null;

    [Benchmark(Description = "token verified, seen before (the gateway's cache)")]
    public bool Warm() => _verdicts.Find(_token, _keys) is { } token && token.Check(Issuer, Now) is null;

    [Benchmark(Description = "DPoP proof verified (each is new)")]
    public bool Proof() => DpopProof.TryParse(_proof, out var proof) && proof.Proves("POST", _targets, _token, Now);

    [Benchmark(Description = "DPoP proof made")]
    public string Prove() => DpopProof.Create(_subject, "POST", Issuer + "/v1/vms", _token, Now);

    [Benchmark(Description = "token signed")]
    public string Sign() => _claims.Sign(_platform);
}
