// Ed25519 in PKCS#8: RFC 8410 section 7. Encrypted: RFC 5958, with PBES2 of RFC 8018. PEM: RFC 7468.
using System.Diagnostics.CodeAnalysis;
using System.Formats.Asn1;
using System.Security.Cryptography;
using System.Security.Cryptography.Pkcs;
using Foundry.Tokens;
using Microsoft.Extensions.Configuration;

namespace Foundry.ServiceDefaults;

/// <summary>
/// What private keys are encrypted with at rest (<c>Keys:PassphraseFile</c>, a mounted secret): PKCS#8 in PEM, as openssl reads and
/// writes it. Without one, keys are plain seeds that only their owner can read.
/// </summary>
public sealed class KeyPassphrase
{
    /// <summary>The setting that names the file.</summary>
    public const string Setting = "Keys:PassphraseFile";
    /// <summary>Rounds of PBKDF2 with SHA-256 in what is written: what OWASP asks for.</summary>
    public const int Iterations = 600_000;
    /// <summary>Characters of the longest key that is looked at, whatever its form.</summary>
    public const int KeyCharsMax = 8 * 1024;
    /// <summary>Bytes of the shortest passphrase.</summary>
    public const int BytesMin = 12;
    /// <summary>Bytes of the longest passphrase; openssl takes no more.</summary>
    public const int BytesMax = 1000;

    private const string EncryptedLabel = "ENCRYPTED PRIVATE KEY";
    private const string PlainLabel = "PRIVATE KEY";
    private static readonly Oid Ed25519 = new("1.3.101.112");
    private static readonly PbeParameters Pbes2 = new(PbeEncryptionAlgorithm.Aes256Cbc, HashAlgorithmName.SHA256, Iterations);

    private readonly byte[] _secret;

    private KeyPassphrase(string file, byte[] secret) => (File, _secret) = (file, secret);

    /// <summary>Where it was read.</summary>
    public string File { get; }

    /// <summary>Reads the passphrase that the settings name.</summary>
    /// <param name="configuration">The settings.</param>
    /// <returns>Null where they name none.</returns>
    /// <exception cref="StartupException">The file cannot be read, or holds no passphrase.</exception>
    public static KeyPassphrase? Read(IConfiguration configuration)
    {
        ArgumentNullException.ThrowIfNull(configuration);
        // A misspelt setting must not become keys in the clear.
        if (configuration.GetSection("Keys").GetChildren().FirstOrDefault(child => !string.Equals($"Keys:{child.Key}", Setting, StringComparison.OrdinalIgnoreCase)) is { } unknown)
            throw new StartupException($"Keys:{unknown.Key} is no setting; {Setting} is.");
        if (configuration[Setting] is not { Length: > 0 } file)
            return null;
        byte[] content;
        try
        {
            using var stream = System.IO.File.OpenRead(file);
            var buffer = new byte[BytesMax + 3];
            content = buffer[..stream.ReadAtLeast(buffer, buffer.Length, throwOnEndOfStream: false)];
        }
        catch (Exception fault) when (fault is IOException or UnauthorizedAccessException)
        {
            throw new StartupException($"{Setting} is '{file}', which cannot be read: {fault.Message}", fault);
        }
        // One line, as openssl's file: takes it.
        var length = content.AsSpan().TrimEnd("\r\n"u8).Length;
        if (length is < BytesMin or > BytesMax || content.AsSpan(0, length).IndexOfAny("\r\n\0"u8) >= 0)
            throw new StartupException($"{Setting} is '{file}', which should hold one line of {BytesMin} to {BytesMax} bytes.");
        return new KeyPassphrase(file, content[..length]);
    }

    /// <summary>The key, encrypted: PEM.</summary>
    /// <param name="key">The key.</param>
    public string Encrypt(SigningKey key)
    {
        ArgumentNullException.ThrowIfNull(key);
        Base64UrlText.TryDecode(key.ExportSeed(), out var seed);
        var writer = new AsnWriter(AsnEncodingRules.DER);
        writer.WriteOctetString(seed);
        var curveKey = writer.Encode();
        try
        {
            return PemEncoding.WriteString(EncryptedLabel, new Pkcs8PrivateKeyInfo(Ed25519, null, curveKey, skipCopies: true).Encrypt(_secret, Pbes2)) + "\n";
        }
        finally
        {
            CryptographicOperations.ZeroMemory(seed);
            CryptographicOperations.ZeroMemory(curveKey);
        }
    }

    /// <summary>Whether it is a key in the clear: a seed, or PKCS#8 without a passphrase.</summary>
    /// <param name="text">The key's text.</param>
    public static bool IsPlain(string text) => !text.Contains(EncryptedLabel, StringComparison.Ordinal);

    /// <summary>Reads a private key in any of its forms: a seed (one line of base64url), or PKCS#8 in PEM, encrypted or not.</summary>
    /// <param name="text">The key's text.</param>
    /// <param name="passphrase">What opens an encrypted one.</param>
    /// <param name="key">The key.</param>
    /// <param name="why">Why there is none.</param>
    public static bool TryOpen(string text, KeyPassphrase? passphrase, [NotNullWhen(true)] out SigningKey? key, [NotNullWhen(false)] out string? why)
    {
        ArgumentNullException.ThrowIfNull(text);
        key = null;
        why = "this is not an Ed25519 key (one line of 43 base64url characters, or PKCS#8 in PEM)";
        if (text.Length > KeyCharsMax)
            return false;
        if (!PemEncoding.TryFind(text, out var pem))
            return SigningKey.TryImport(text.TrimEnd('\n'), out key);
        var label = text[pem.Label];
        if (label is not (EncryptedLabel or PlainLabel))
            return false;
        var encrypted = label == EncryptedLabel;
        if (encrypted && passphrase is null)
        {
            why = $"it is encrypted: set {Setting} ({ListenAddress.EnvironmentName(Setting)}) to the file with its passphrase";
            return false;
        }
        var der = Convert.FromBase64String(text[pem.Base64Data]);
        try
        {
            var info = encrypted ? Pkcs8PrivateKeyInfo.DecryptAndDecode(passphrase!._secret, der, out _) : Pkcs8PrivateKeyInfo.Decode(der, out _);
            if (info.AlgorithmId.Value != Ed25519.Value)
                return false;
            var seed = AsnDecoder.ReadOctetString(info.PrivateKeyBytes.Span, AsnEncodingRules.DER, out _);
            var opened = SigningKey.TryImport(Base64UrlText.Encode(seed), out key);
            CryptographicOperations.ZeroMemory(seed);
            return opened;
        }
        catch (Exception fault) when (fault is CryptographicException or AsnContentException)
        {
            if (encrypted)
                why = $"the passphrase in {passphrase!.File} does not open it: it is another one, or the file is damaged, or not encrypted with PBES2 and PBKDF2";
            return false;
        }
        finally
        {
            CryptographicOperations.ZeroMemory(der);
        }
    }
}
