using CsCheck;

namespace Foundry.Tokens.Tests;

public sealed class CanonicalText
{
    private const string Alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

    [Fact]
    public void What_is_encoded_decodes_to_the_same_bytes() => Gen.Byte.Array[0, 300].Sample(bytes =>
        Base64UrlText.TryDecode(Base64UrlText.Encode(bytes), out var decoded) && decoded.AsSpan().SequenceEqual(bytes));

    [Fact]
    public void Whatever_decodes_is_the_one_spelling_of_its_bytes() => Gen.Char[Alphabet + "=+/ \n.é"].Array[0, 12].Sample(chars =>
        !Base64UrlText.TryDecode(chars, out var decoded) || Base64UrlText.Encode(decoded) == new string(chars));

    /// <summary>Random text seldom comes near a canonical one, so this starts from one and changes one character or adds one.</summary>
    [Fact]
    public void A_canonical_text_with_one_character_changed_is_refused_or_stands_for_other_bytes() =>
        Gen.Select(Gen.Byte.Array[1, 70], Gen.Int[0, 1_000], Gen.Char[Alphabet + "=+/ \r\n\t."], Gen.Bool).Sample((bytes, at, with, add) =>
        {
            var text = Base64UrlText.Encode(bytes);
            at %= text.Length;
            var changed = add ? text.Insert(at, with.ToString()) : string.Concat(text.AsSpan(0, at), with.ToString(), text.AsSpan(at + 1));
            return changed == text || !Base64UrlText.TryDecode(changed, out var decoded) || !decoded.AsSpan().SequenceEqual(bytes);
        });

    [Theory]
    [InlineData("A", "one character holds no whole byte")]
    [InlineData("AB", "unused bits that are not zero")]
    [InlineData("AAB", "unused bits that are not zero")]
    [InlineData("AA==", "padding")]
    [InlineData("AAA=", "padding")]
    [InlineData("+AAA", "base64's own alphabet")]
    [InlineData("/AAA", "base64's own alphabet")]
    [InlineData(" AAA", "white space")]
    [InlineData("AA\nAA", "white space")]
    [InlineData("AAA\u0130", "a letter that is not ASCII")]
    public void Other_spellings_are_refused(string text, string why) => Assert.False(Base64UrlText.TryDecode(text, out _), why);

    [Fact]
    public void No_text_is_no_bytes()
    {
        Assert.True(Base64UrlText.TryDecode("", out var decoded));
        Assert.Empty(decoded);
    }
}
