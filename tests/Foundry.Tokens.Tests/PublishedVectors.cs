using System.Globalization;
using System.Text;
using System.Text.Json;

namespace Foundry.Tokens.Tests;

/// <summary>RFC 8032 section 7.1: secret key, public key, message, signature.</summary>
public sealed class Rfc8032
{
    public static TheoryData<string, string, string, string> Vectors { get; } = new()
    {
        {
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
        },
        {
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "72",
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
        },
        {
            "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
            "af82",
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"
        },
        {
            "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
            "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
            "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
            "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704"
        },
    };

    [Theory]
    [MemberData(nameof(Vectors))]
    public void Keys_and_signatures_are_the_published_ones(string seed, string publicKey, string message, string signature)
    {
        Assert.True(SigningKey.TryImport(Base64UrlText.Encode(Convert.FromHexString(seed)), out var key));
        using (key)
        {
            Assert.Equal(Base64UrlText.Encode(Convert.FromHexString(publicKey)), key.Public.X);
            Assert.Equal(signature, Convert.ToHexStringLower(key.Sign(Convert.FromHexString(message))));
            Assert.True(key.Public.Verify(Convert.FromHexString(message), Convert.FromHexString(signature)));
        }
    }

    [Theory]
    [MemberData(nameof(Vectors))]
    public void Another_message_or_a_changed_signature_is_refused(string seed, string publicKey, string message, string signature)
    {
        Assert.NotNull(seed);
        Assert.True(VerifyingKey.TryCreate(Convert.FromHexString(publicKey), out var key));
        var good = Convert.FromHexString(signature);
        Assert.False(key.Verify([.. Convert.FromHexString(message), 0], good));
        for (var bit = 0; bit < good.Length * 8; bit++)
        {
            var bad = (byte[])good.Clone();
            bad[bit / 8] ^= (byte)(1 << (bit % 8));
            Assert.False(key.Verify(Convert.FromHexString(message), bad), $"bit {bit}");
        }
    }
}

/// <summary>RFC 8037 appendix A: the key of RFC 8032's first vector as a JWK.</summary>
public sealed class Rfc8037
{
    private const string D = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A";
    private const string X = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

    [Fact]
    public void A2_public_key_is_the_JWKs_x()
    {
        using var key = Import();
        Assert.Equal(X, key.Public.X);
        Assert.Equal(D, key.ExportSeed());
    }

    [Fact]
    public void A3_thumbprint_is_the_kid()
    {
        Assert.True(VerifyingKey.TryCreate(X, out var key));
        Assert.Equal("kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k", key.Kid);
    }

    [Fact]
    public void A4_and_A5_signature_of_a_JWS()
    {
        using var key = Import();
        var signed = Encoding.ASCII.GetBytes("eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc");
        const string signature = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
        Assert.Equal(signature, Base64UrlText.Encode(key.Sign(signed)));
        Assert.True(Base64UrlText.TryDecode(signature, out var bytes));
        Assert.True(key.Public.Verify(signed, bytes));
    }

    private static SigningKey Import()
    {
        Assert.True(SigningKey.TryImport(D, out var key));
        return key;
    }
}

/// <summary>Google's Wycheproof, Ed25519. There are no exceptions: each verdict is the one that we want.</summary>
public sealed class Wycheproof
{
    [Fact]
    public void Every_verdict_is_ours()
    {
        using var stream = typeof(Wycheproof).Assembly.GetManifestResourceStream("wycheproof_ed25519_test.json")!;
        using var document = JsonDocument.Parse(stream);
        var (wrong, count) = (new List<string>(), 0);
        foreach (var group in document.RootElement.GetProperty("testGroups").EnumerateArray())
        {
            Assert.True(VerifyingKey.TryCreate(Hex(group.GetProperty("publicKey"), "pk"), out var key));
            foreach (var test in group.GetProperty("tests").EnumerateArray())
            {
                count++;
                var expected = test.GetProperty("result").GetString() switch { "valid" => true, "invalid" => false, var other => throw new InvalidDataException(other) };
                if (key.Verify(Hex(test, "msg"), Hex(test, "sig")) != expected)
                    wrong.Add(string.Create(CultureInfo.InvariantCulture, $"tcId {test.GetProperty("tcId")}: {test.GetProperty("comment")}"));
            }
        }
        Assert.Empty(wrong);
        Assert.Equal(document.RootElement.GetProperty("numberOfTests").GetInt32(), count);
        Assert.Equal(151, count);
    }

    private static byte[] Hex(JsonElement element, string name) => Convert.FromHexString(element.GetProperty(name).GetString()!);
}
