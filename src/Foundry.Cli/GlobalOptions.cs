using System.CommandLine;
using System.Diagnostics.CodeAnalysis;
using Foundry.Tokens;

namespace Foundry.Cli;

/// <summary>The options that every command takes, and the session they open.</summary>
internal sealed class GlobalOptions(Surroundings surroundings)
{
    public const string GatewayDefault = "http://127.0.0.1:9221";
    public const string GatewayVariable = "FOUNDRY_GATEWAY";
    public const string KeyFileVariable = "PLATFORM_KEY_FILE";
    public const string AllowHttpVariable = "FOUNDRY_ALLOW_HTTP";

    private readonly Option<string?> _gateway = new("--gateway")
    {
        HelpName = "URL",
        Description = $"The gateway's address. Default: {GatewayVariable}, else {GatewayDefault}",
        Recursive = true,
    };

    private readonly Option<string?> _tokenFile = new("--token-file")
    {
        HelpName = "FILE",
        Description = $"Take the token from this file ('-': standard input) instead of {TokenSource.EnvironmentVariable}",
        Recursive = true,
    };

    private readonly Option<string?> _output = new("--output", "-o")
    {
        HelpName = "table|json",
        Description = "'json' passes the server's JSON on unchanged. Default: table",
        Recursive = true,
    };

    private readonly Option<bool> _allowHttp = new("--allow-http")
    {
        Description = $"Send the token over plain HTTP to an address that is not loopback (or {AllowHttpVariable}=1)",
        Recursive = true,
    };

    public Surroundings Surroundings => surroundings;

    public void AddTo(Command root)
    {
        _output.AcceptOnlyFromAmong("table", "json");
        root.Options.Add(_gateway);
        root.Options.Add(_tokenFile);
        root.Options.Add(_output);
        root.Options.Add(_allowHttp);
    }

    public Output OutputOf(ParseResult parse) => new(surroundings, asJson: parse.GetValue(_output) == "json");

    /// <summary>The token file named on the command line, for the one command that treats it as its subject.</summary>
    public string? TokenFileOf(ParseResult parse) => parse.GetValue(_tokenFile);

    public bool TryOpen(ParseResult parse, Output output, bool sendsToken, Option<string?>? keyFile, [NotNullWhen(true)] out Session? session, [NotNullWhen(false)] out Complaint? complaint)
    {
        session = null;
        if (!TryReadGateway(parse, sendsToken, out var gateway, out complaint))
            return false;
        TokenSource? token = null;
        if (sendsToken && !TokenSource.TryOpen(parse.GetValue(_tokenFile), surroundings, out token, out complaint))
            return false;
        if (token?.Warning is { } warning)
            output.Note(warning);
        SigningKey? key = null;
        if (token is not null && !TryReadKey(keyFile is null ? null : parse.GetValue(keyFile), token, output, out key, out complaint))
            return false;
        session = new Session(parse, new GatewayClient(gateway, token, key, surroundings.Time), output, token, key, surroundings);
        return true;
    }

    /// <summary>The key that the token was issued to, where its file is named; that of another token in the environment is let be.</summary>
    private bool TryReadKey(string? named, TokenSource token, Output output, out SigningKey? key, [NotNullWhen(false)] out Complaint? complaint)
    {
        key = null;
        complaint = null;
        if ((named ?? surroundings.VariableOrNull(KeyFileVariable)) is not { } file)
        {
            if (token.IsBound)
                complaint = new Complaint("the token is good only with a proof of its key, and the key is not at hand", $"name the key's file in {KeyFileVariable}");
            return complaint is null;
        }
        if (!SecretFile.TryReadKey(file, out var read, out var warning, out complaint))
            return false;
        if (warning is not null)
            output.Note(warning);
        if (token.IsOf(read.Public))
        {
            key = read;
            return true;
        }
        if (named is not null || token.IsBound)
            complaint = new Complaint($"the token was not issued to the key in {file}", $"name the key that it was issued to; or have one issued to this key: foundry token issue --pubkey {read.Public.X}");
        read.Dispose();
        return complaint is null;
    }

    /// <summary>Reads an address that a secret is to be sent to, or none.</summary>
    /// <param name="parse">The command line.</param>
    /// <param name="text">The address.</param>
    /// <param name="secret">What is sent there; null where nothing is that others may not read.</param>
    /// <param name="address">The address.</param>
    /// <param name="complaint">What is wrong with it.</param>
    public bool TryReadAddress(ParseResult parse, string text, string? secret, [NotNullWhen(true)] out Uri? address, [NotNullWhen(false)] out Complaint? complaint)
    {
        if (!IsAddress(text, out address))
        {
            complaint = new Complaint($"'{text}' is not an address", "give one like http://127.0.0.1:9210");
            return false;
        }
        var allowed = parse.GetValue(_allowHttp) || surroundings.VariableOrNull(AllowHttpVariable) == "1";
        if (secret is not null && address.Scheme == "http" && !address.IsLoopback && !allowed)
        {
            complaint = new Complaint(
                $"{secret} would travel to {address.Host} in the clear",
                $"use an https:// address, or --allow-http (or {AllowHttpVariable}=1) where the network itself is private");
            address = null;
            return false;
        }
        complaint = null;
        return true;
    }

    private bool TryReadGateway(ParseResult parse, bool sendsToken, [NotNullWhen(true)] out Uri? gateway, [NotNullWhen(false)] out Complaint? complaint)
    {
        var text = parse.GetValue(_gateway) ?? surroundings.VariableOrNull(GatewayVariable) ?? GatewayDefault;
        if (IsAddress(text, out gateway))
            return TryReadAddress(parse, text, sendsToken ? "the token" : null, out gateway, out complaint);
        complaint = new Complaint($"'{text}' is not a gateway's address", $"give one like {GatewayDefault} with --gateway or {GatewayVariable}");
        return false;
    }

    private static bool IsAddress(string text, [NotNullWhen(true)] out Uri? address)
    {
        if (Uri.TryCreate(text, UriKind.Absolute, out address) && address.Scheme is "http" or "https" && address is { UserInfo.Length: 0, Query.Length: 0, Fragment.Length: 0 })
            return true;
        address = null;
        return false;
    }
}

/// <summary>One command's dealings with the gateway.</summary>
internal sealed record Session(ParseResult Parse, GatewayClient Gateway, Output Output, TokenSource? Token, SigningKey? Key, Surroundings Surroundings) : IDisposable
{
    public void Dispose()
    {
        Gateway.Dispose();
        Key?.Dispose();
    }
}
