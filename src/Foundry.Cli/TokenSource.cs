using System.Diagnostics.CodeAnalysis;
using System.Text.Json;
using Foundry.Tokens;

namespace Foundry.Cli;

/// <summary>Where the caller's token comes from. A file is read anew when asked, so that a renewed token needs no restart.</summary>
internal sealed class TokenSource
{
    public const string EnvironmentVariable = "PLATFORM_TOKEN";
    public const string StandardInput = "-";

    private readonly string? _file;

    private TokenSource(string current, string? file, string? warning)
    {
        Current = current;
        _file = file;
        Warning = warning;
    }

    /// <summary>The token, as last read.</summary>
    public string Current { get; private set; }

    /// <summary>What its owner should know about the file, if anything.</summary>
    public string? Warning { get; }

    /// <summary>Reads the file again, if there is one; an unreadable one changes nothing.</summary>
    /// <returns>Whether the token is another one now.</returns>
    public bool Refresh()
    {
        if (_file is null || !SecretFile.TryRead(_file, Jws.CharsMax, out var secret, out _) || !IsToken(secret.Text) || secret.Text == Current)
            return false;
        Current = secret.Text;
        return true;
    }

    /// <summary>
    /// What the token says of itself. Not verified: good for shaping a request or warning of a mix-up, never for a decision.
    /// </summary>
    public JsonElement? Claims() => ClaimsOf(Current);

    /// <summary>A claim of the token that is text.</summary>
    public string? Claim(string name) =>
        Claims() is { } claims && claims.TryGetProperty(name, out var value) && value.ValueKind == JsonValueKind.String ? value.GetString() : null;

    /// <summary>Whether it is bound to its key, and so good only with a proof of that key.</summary>
    public bool IsBound => Claims() is { } claims && claims.TryGetProperty("cnf", out _);

    /// <summary>Whether it was issued to this key.</summary>
    public bool IsOf(VerifyingKey key) => Claim("subject_pubkey") == key.X;

    public static bool TryOpen(string? file, Surroundings surroundings, [NotNullWhen(true)] out TokenSource? source, [NotNullWhen(false)] out Complaint? complaint)
    {
        source = null;
        complaint = null;
        string? warning = null;
        string origin;
        string? text;
        if (file == StandardInput)
        {
            origin = "standard input";
            text = ReadInput(surroundings.Input);
            file = null;
        }
        else if (file is not null)
        {
            origin = file;
            if (!SecretFile.TryRead(file, Jws.CharsMax, out var secret, out complaint))
                return false;
            text = secret.Text;
            warning = secret.Warning;
            // A named pipe would be waited for in vain.
            file = secret.CanBeReadAgain ? file : null;
        }
        else
        {
            origin = EnvironmentVariable;
            text = surroundings.VariableOrNull(EnvironmentVariable)?.Trim();
            if (text is null)
            {
                complaint = new Complaint(
                    "no token was given",
                    $"set {EnvironmentVariable}, or name a file that holds the token with --token-file. " +
                    "A standalone platform keeps its administrator's in data/admin.token: --token-file data/admin.token");
                return false;
            }
        }
        if (!IsToken(text))
        {
            complaint = new Complaint($"what is in {origin} is not a token", "a token is one line, three parts joined by dots, as 'foundry token issue' gives it");
            return false;
        }
        source = new TokenSource(text, file, warning);
        return true;
    }

    /// <summary>Reads a bounded token from standard input.</summary>
    public static string ReadInput(TextReader input)
    {
        var characters = new char[Jws.CharsMax + 2];
        var read = input.ReadBlock(characters);
        return new string(characters, 0, read).Trim();
    }

    /// <summary>Whether it can be sent in a header at all; whether it is valid, the gateway says.</summary>
    public static bool IsToken([NotNullWhen(true)] string? text) =>
        text is { Length: > 0 and <= Jws.CharsMax } && text.All(c => char.IsAsciiLetterOrDigit(c) || c is '-' or '_' or '.') && text.Count(c => c == '.') == 2;

    private static JsonElement? ClaimsOf(string token)
    {
        if (!Base64UrlText.TryDecode(token.Split('.')[1], out var payload))
            return null;
        try
        {
            var claims = JsonElement.Parse(payload);
            return claims.ValueKind == JsonValueKind.Object ? claims : null;
        }
        catch (JsonException)
        {
            return null;
        }
    }
}
