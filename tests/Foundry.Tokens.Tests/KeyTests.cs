namespace Foundry.Tokens.Tests;

public sealed class PublicKeyBytes
{
    /// <summary>Every encoding of the eight points of small order, canonical or not, as libsodium lists them.</summary>
    public static TheoryData<string> SmallOrder { get; } = new(
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0000000000000000000000000000000000000000000000000000000000000080",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000080",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff");

    [Theory]
    [MemberData(nameof(SmallOrder))]
    public void Of_small_order_are_refused(string hex) => AssertRefused(hex);

    /// <summary>RFC 8032's first public key plus the point of order 2, of order 4 and of order 8.</summary>
    [Theory]
    [InlineData("16a567fe7d4ef5482ab4012c369bf8c5f11e8d0c2559dcda50fde59708f8aee5")]
    [InlineData("40c7570f4dd54835b9131184410ed4a0cc93e7d9ad053cbc6d07a62426999582")]
    [InlineData("3b5b475c4b82dd1572799fc546f4c6c03e478c6654aa4c7f945b347ea32af60d")]
    public void Of_mixed_order_are_refused(string hex) => AssertRefused(hex);

    /// <summary>y from p to 2^255 - 1: each would be a second spelling of y - p.</summary>
    [Fact]
    public void Not_canonical_are_refused()
    {
        for (var low = 0xed; low <= 0xff; low++)
            foreach (var high in (byte[])[0x7f, 0xff])
                AssertRefused($"{low:x2}{new string('f', 60)}{high:x2}");
    }

    [Theory]
    [InlineData("0200000000000000000000000000000000000000000000000000000000000000")]
    [InlineData("0700000000000000000000000000000000000000000000000000000000000000")]
    public void Not_on_the_curve_are_refused(string hex) => AssertRefused(hex);

    [Theory]
    [InlineData("")]
    [InlineData("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f70751")]
    [InlineData("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a00")]
    public void Of_another_length_are_refused(string hex) => AssertRefused(hex);

    private static void AssertRefused(string hex)
    {
        var bytes = Convert.FromHexString(hex);
        Assert.False(VerifyingKey.TryCreate(bytes, out _), hex);
        Assert.False(VerifyingKey.TryCreate(Base64UrlText.Encode(bytes), out _), hex);
        Assert.False(VerifyingKey.TryParse(hex, out _), hex);
    }
}

public sealed class PublicKeyText
{
    // A key whose base64 has both + and / is rare enough that one is looked for rather than written down.
    private static readonly byte[] Bytes = WithBothSpecialCharacters();

    public static TheoryData<string, bool> Spellings { get; } = new()
    {
        { Base64UrlText.Encode(Bytes), true },
        { Convert.ToBase64String(Bytes), true },
        { Convert.ToBase64String(Bytes).TrimEnd('='), true },
        { Base64UrlText.Encode(Bytes) + "=", true },
        { Convert.ToHexStringLower(Bytes), true },
        { Convert.ToHexString(Bytes), true },
        { "", false },
        { " " + Base64UrlText.Encode(Bytes), false },
        { Base64UrlText.Encode(Bytes) + "==", false },
        { Base64UrlText.Encode(Bytes)[..42], false },
        { Base64UrlText.Encode(Bytes)[..42] + "=", false },
        { "0x" + Convert.ToHexStringLower(Bytes)[2..], false },
        { Convert.ToHexStringLower(Bytes) + "00", false },
        { Convert.ToHexStringLower(Bytes)[..63] + "g", false },
    };

    [Theory]
    [MemberData(nameof(Spellings))]
    public void Is_taken_as_base64_base64url_or_hex_and_stored_in_one_way(string text, bool taken)
    {
        Assert.Equal(taken, VerifyingKey.TryParse(text, out var key));
        Assert.Equal(taken ? Base64UrlText.Encode(Bytes) : null, key?.X);
    }

    [Fact]
    public void That_is_not_there_is_refused()
    {
        Assert.False(VerifyingKey.TryParse(null, out _));
        Assert.False(VerifyingKey.TryCreate((string?)null, out _));
    }

    [Fact]
    public void As_stored_is_read_only_as_stored()
    {
        Assert.True(VerifyingKey.TryCreate(Base64UrlText.Encode(Bytes), out _));
        Assert.False(VerifyingKey.TryCreate(Convert.ToBase64String(Bytes), out _));
        Assert.False(VerifyingKey.TryCreate(Convert.ToBase64String(Bytes).TrimEnd('='), out _));
    }

    private static byte[] WithBothSpecialCharacters()
    {
        while (true)
        {
            using var key = SigningKey.Generate();
            if (key.Public.X.Contains('-') && key.Public.X.Contains('_') && Base64UrlText.TryDecode(key.Public.X, out var bytes))
                return bytes;
        }
    }
}

public sealed class Seed
{
    [Fact]
    public void Survives_export_and_import()
    {
        using var made = SigningKey.Generate();
        Assert.True(SigningKey.TryImport(made.ExportSeed(), out var read));
        using (read)
            Assert.Equal(made.Kid, read.Kid);
    }

    [Theory]
    [InlineData(null)]
    [InlineData("")]
    [InlineData("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2")]
    [InlineData("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=")]
    [InlineData("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2B")]
    [InlineData("nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A")]
    [InlineData("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A\n")]
    public void That_is_not_32_bytes_of_canonical_base64url_is_refused(string? text) => Assert.False(SigningKey.TryImport(text, out _));
}

public sealed class Jwks
{
    [Fact]
    public void Is_what_any_JOSE_library_reads_and_has_no_private_half()
    {
        Assert.True(VerifyingKey.TryCreate("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", out var key));
        Assert.Equal(
            """{"keys":[{"kty":"OKP","crv":"Ed25519","use":"sig","alg":"EdDSA","kid":"kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}""",
            new KeySet([key, key]).ToJwks());
    }

    [Fact]
    public void Without_keys_is_an_empty_list() => Assert.Equal("""{"keys":[]}""", KeySet.Empty.ToJwks());
}
