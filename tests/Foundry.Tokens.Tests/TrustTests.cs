using System.Text;

namespace Foundry.Tokens.Tests;

public sealed class SignedAssertion : IDisposable
{
    private readonly SigningKey _key = SigningKey.Generate();

    private TrustedKey Trusted(string name = "gateway") => new(_key.Kid, TrustedKey.Gateway, name, _key.Public.X);

    private static Assertion Made => new()
    {
        Iss = "gateway",
        Aud = "fleet",
        Iat = 1_781_257_320,
        Exp = 1_781_257_350,
        Jti = "j1",
        Use = Assertion.WriteUse,
        Htm = "POST",
        Htu = "/v1/vms?tenant_id=acme-corp",
        Bh = Assertion.BodyHash("{}"u8),
        TenantId = "acme-corp",
        Scope = "input",
        Sub = "u1",
        SubjectPubkey = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
        TokenId = "t1",
        TokenExp = 1_781_260_000,
        RequestId = "r1",
    };

    private bool Verify(string text, TrustedKey? trusted, out Assertion? assertion) =>
        Assertion.TryVerify(text, kid => trusted?.Kid == kid ? trusted : null, out assertion, out _);

    [Fact]
    public void Comes_back_as_it_was_made_with_whose_key_it_was()
    {
        Assert.True(Assertion.TryVerify(Made.Sign(_key), _ => Trusted(), out var read, out var signer));
        Assert.Equal(Made, read);
        Assert.Equal(Trusted(), signer);
    }

    [Fact]
    public void Of_a_sender_who_is_not_whom_the_key_belongs_to_is_refused() =>
        Assert.False(Verify((Made with { Iss = "issuance" }).Sign(_key), Trusted(), out _));

    [Fact]
    public void Of_a_key_that_is_not_known_is_refused() => Assert.False(Verify(Made.Sign(_key), null, out _));

    [Fact]
    public void Of_another_key_under_a_known_kid_is_refused()
    {
        using var other = SigningKey.Generate();
        var (good, bad) = (Made.Sign(_key).Split('.'), Made.Sign(other).Split('.'));
        Assert.False(Verify($"{good[0]}.{bad[1]}.{bad[2]}", Trusted(), out _));
    }

    [Fact]
    public void Is_refused_where_the_trusted_keys_kid_is_not_its_own_thumbprint()
    {
        using var other = SigningKey.Generate();
        // The list says "this kid", but holds the key of somebody else: neither may pass for the other.
        Assert.False(Verify(Made.Sign(_key), Trusted() with { X = other.Public.X }, out _));
        Assert.False(Assertion.TryVerify(Made.Sign(other), _ => Trusted(), out _, out _));
    }

    [Theory]
    [InlineData(CapabilityToken.Typ)]
    [InlineData(TrustSet.Typ)]
    [InlineData("foundry-feed+jwt")]
    [InlineData("JWT")]
    public void Of_another_typ_is_refused(string typ)
    {
        Assert.True(Jws.TryParse(Made.Sign(_key), Assertion.Typ, out var jws, out _));
        Assert.False(Verify(Jws.Sign(_key, typ, jws.Payload), Trusted(), out _));
    }

    [Theory]
    [InlineData("\"v\":1", "\"v\":2")]
    [InlineData("\"v\":1", "\"v\":0")]
    [InlineData("\"v\":1,", "")]
    [InlineData("\"v\":1", "\"v\":1,\"v\":1")]
    [InlineData("\"aud\":\"fleet\",", "")]
    [InlineData("\"use\":\"write\",", "")]
    [InlineData("\"jti\":\"j1\"", "\"jti\":1")]
    [InlineData("\"exp\":1781257350", "\"exp\":\"1781257350\"")]
    [InlineData("\"iss\":\"gateway\"", "\"iss\":null")]
    public void Of_another_version_or_shape_is_refused(string what, string with)
    {
        Assert.True(Jws.TryParse(Made.Sign(_key), Assertion.Typ, out var jws, out _));
        var payload = Encoding.UTF8.GetString(jws.Payload);
        Assert.Contains(what, payload, StringComparison.Ordinal);
        Assert.False(Verify(Jws.Sign(_key, Assertion.Typ, Encoding.UTF8.GetBytes(payload.Replace(what, with, StringComparison.Ordinal))), Trusted(), out var read));
        Assert.Null(read);
    }

    [Fact]
    public void Body_hash_is_base64url_SHA256() => Assert.Equal("47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU", Assertion.BodyHash([]));

    public void Dispose() => _key.Dispose();
}

public sealed class SignedTrustSet : IDisposable
{
    private readonly SigningKey _root = SigningKey.Generate();
    private readonly SigningKey _token = SigningKey.Generate();
    private readonly SigningKey _gateway = SigningKey.Generate();

    private TrustSet Made => new(1, 7, 1_781_257_320, "http://127.0.0.1:9221",
    [
        new TrustedKey(_token.Kid, TrustedKey.Token, "tokens", _token.Public.X, "next"),
        new TrustedKey(_gateway.Kid, TrustedKey.Gateway, "gateway", _gateway.Public.X),
    ]);

    [Fact]
    public void Comes_back_as_it_was_made()
    {
        Assert.True(TrustSet.TryVerify(Made.Sign(_root), _root.Public, out var read));
        Assert.Equal(Made.Keys, read.Keys);
        Assert.Equal(Made with { Keys = [] }, read with { Keys = [] });
    }

    [Fact]
    public void Gives_the_keys_of_one_kind_alone()
    {
        Assert.Equal([_token.Kid], Made.KeysOf(TrustedKey.Token).Keys.Select(key => key.Kid));
        Assert.Equal([_gateway.Kid], Made.KeysOf(TrustedKey.Gateway).Keys.Select(key => key.Kid));
        Assert.Empty(Made.KeysOf(TrustedKey.Service).Keys);
    }

    [Fact]
    public void Of_another_root_is_refused()
    {
        Assert.False(TrustSet.TryVerify(Made.Sign(_gateway), _root.Public, out _));
        var (good, bad) = (Made.Sign(_root).Split('.'), Made.Sign(_gateway).Split('.'));
        Assert.False(TrustSet.TryVerify($"{good[0]}.{bad[1]}.{bad[2]}", _root.Public, out _));
    }

    [Theory]
    [InlineData(CapabilityToken.Typ)]
    [InlineData(Assertion.Typ)]
    public void Of_another_typ_is_refused(string typ)
    {
        Assert.True(Jws.TryParse(Made.Sign(_root), TrustSet.Typ, out var jws, out _));
        Assert.False(TrustSet.TryVerify(Jws.Sign(_root, typ, jws.Payload), _root.Public, out _));
    }

    [Theory]
    [InlineData("""{"v":2,"seq":1,"iat":1,"issuer":"i","keys":[]}""")]
    [InlineData("""{"seq":1,"iat":1,"issuer":"i","keys":[]}""")]
    [InlineData("""{"v":1,"seq":1,"iat":1,"issuer":"i"}""")]
    [InlineData("""{"v":1,"seq":1,"iat":1,"issuer":"i","keys":null}""")]
    [InlineData("""{"v":1,"seq":1,"iat":1,"issuer":null,"keys":[]}""")]
    [InlineData("""{"v":1,"seq":1,"seq":2,"iat":1,"issuer":"i","keys":[]}""")]
    [InlineData("""{"v":1,"seq":"1","iat":1,"issuer":"i","keys":[]}""")]
    [InlineData("null")]
    [InlineData("")]
    public void Of_another_version_or_shape_is_refused(string payload) =>
        Assert.False(TrustSet.TryVerify(Jws.Sign(_root, TrustSet.Typ, Encoding.UTF8.GetBytes(payload)), _root.Public, out _));

    [Fact]
    public void Leaves_out_a_key_that_is_none()
    {
        var set = Made with { Keys = [new TrustedKey("k", TrustedKey.Token, "tokens", Base64UrlText.Encode(new byte[32]))] };
        Assert.Empty(set.KeysOf(TrustedKey.Token).Keys);
    }

    [Fact]
    public void May_be_larger_than_a_token()
    {
        var set = Made with { Keys = [.. Enumerable.Repeat(Made.Keys[0], 100)] };
        var text = set.Sign(_root);
        Assert.True(text.Length > Jws.CharsMax);
        Assert.True(TrustSet.TryVerify(text, _root.Public, out _));
    }

    public void Dispose()
    {
        _root.Dispose();
        _token.Dispose();
        _gateway.Dispose();
    }
}
