using System.CommandLine;
using System.Diagnostics.CodeAnalysis;
using System.Text;

namespace Foundry.Cli;

/// <summary><c>foundry request</c>: any request, as the holder of the token; for what no other command does.</summary>
internal static class RequestCommand
{
    private const int HeadersMax = 32;
    private const int HeaderCharsMax = 8 * 1024;
    private const int PathCharsMax = 8 * 1024;
    private const int DataBytesMax = 16 * 1024 * 1024;
    private static readonly string[] Methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];
    // What says who is calling, and what frames the message, is made here.
    private static readonly HashSet<string> Ours = new(StringComparer.OrdinalIgnoreCase) { "Authorization", "DPoP", "Host", "Content-Length", "Transfer-Encoding", "Connection" };

    public static Command Create(GlobalOptions globals)
    {
        var method = new Argument<string>("METHOD") { Description = string.Join(", ", Methods) };
        var path = new Argument<string>("PATH") { Description = "From the first slash on, with the query" };
        var data = new Option<string?>("--data") { HelpName = "TEXT", Description = "The body" };
        var dataFile = new Option<string?>("--data-file") { HelpName = "FILE", Description = "Take the body from this file ('-': standard input)" };
        var headers = new Option<string[]>("--header") { HelpName = "NAME:VALUE", Description = "A header; may be repeated. A body is application/json unless Content-Type says otherwise" };
        var keyFile = new Option<string?>("--key-file") { HelpName = "FILE", Description = $"The token's own key, to make a proof with. Default: {GlobalOptions.KeyFileVariable}" };
        var verb = new Verb("request", "Send any request, with the token and a proof of its key",
            "foundry request GET /v1/quota",
            "foundry request PATCH /v1/tenants/acme-corp --data '{\"max_vms\":20}' --header 'If-Match: \"5\"'",
            "foundry request POST /v1/append --data-file entry.json --key-file alice.key")
        {
            Details = ["Standard output gets the answer's body as it came. A refusal is explained on standard error, and the exit code is 1."],
        };
        verb.Arguments.Add(method);
        verb.Arguments.Add(path);
        foreach (var option in new Option[] { data, dataFile, headers, keyFile })
            verb.Options.Add(option);
        verb.Validators.Add(result =>
        {
            if (result.GetValue(method) is { } name && !Methods.Contains(name.ToUpperInvariant()))
                result.AddError($"METHOD: '{name}' is none of {string.Join(", ", Methods)}");
            if (result.GetValue(path) is { } text && (text.Length > PathCharsMax || text[..Math.Min(1, text.Length)] != "/" || text.Any(c => c is <= ' ' or > '~' or '#')))
                result.AddError("PATH: begins with '/', as /v1/status?tenant_id=acme-corp; what is not ASCII is percent-encoded");
            if (result.GetResult(data) is not null && result.GetResult(dataFile) is not null)
                result.AddError("Give one body: either --data or --data-file.");
        });
        return verb.Runs(globals, keyFile: keyFile, body: async (session, cancellationToken) =>
        {
            var (parse, output) = (session.Parse, session.Output);
            if (!TryReadHeaders(parse.GetValue(headers) ?? [], out var named, out var complaint)
                || !TryReadBody(parse.GetValue(data), parse.GetValue(dataFile), globals.TokenFileOf(parse), session.Surroundings, out var body, out complaint))
                return output.Misused(complaint.Value);
            var answer = await session.Gateway.RequestAsync(new HttpMethod(parse.GetValue(method)!.ToUpperInvariant()), parse.GetValue(path)!, named, body, cancellationToken);
            if (!answer.IsAccepted)
                return output.Refused(answer);
            if (answer.Body.Length == 0)
                output.Note($"status {answer.Status}, and no body");
            // Whatever it is: a pipe gets its bytes, a terminal nothing that it would act on.
            else if (session.Surroundings.OutputIsTerminal)
                output.Line(string.Join('\n', Encoding.UTF8.GetString(answer.Body).TrimEnd('\n').Split('\n').Select(Plain.Text)));
            else
                output.Json(answer.Body);
            return ExitCode.Done;
        });
    }

    private static bool TryReadHeaders(string[] given, [NotNullWhen(true)] out List<(string Name, string Value)>? headers, [NotNullWhen(false)] out Complaint? complaint)
    {
        headers = null;
        complaint = null;
        if (given.Length > HeadersMax)
            complaint = new Complaint($"there are {given.Length} headers", $"give at most {HeadersMax}");
        var read = new List<(string Name, string Value)>();
        foreach (var header in given)
        {
            var at = header.IndexOf(':', StringComparison.Ordinal);
            var name = at > 0 ? header[..at] : "";
            var value = header[(at + 1)..].Trim();
            if (Ours.Contains(name))
                complaint = new Complaint($"--header: {name} is not yours to set here", "the token comes from the environment or from --token-file, and the rest is made to fit");
            else if (name.Length == 0 || header.Length > HeaderCharsMax || !name.All(c => char.IsAsciiLetterOrDigit(c) || "!#$%&'*+-.^_`|~".Contains(c)) || value.Any(c => c is < ' ' or > '~'))
                complaint = new Complaint("--header: this is not a header", "write it as --header 'If-Match: \"5\"'");
            read.Add((name, value));
        }
        headers = complaint is null ? read : null;
        return headers is not null;
    }

    private static bool TryReadBody(string? data, string? file, string? tokenFile, Surroundings surroundings, out byte[]? body, [NotNullWhen(false)] out Complaint? complaint)
    {
        complaint = null;
        body = data is null ? null : Encoding.UTF8.GetBytes(data);
        if (file is null)
            return true;
        if (file != TokenSource.StandardInput)
            return BoundedFile.TryRead(file, DataBytesMax, out body, out complaint);
        if (tokenFile == TokenSource.StandardInput)
        {
            complaint = new Complaint("standard input cannot be both the token and the body", "name a file for one of them");
            return false;
        }
        var characters = new char[DataBytesMax + 1];
        var read = surroundings.Input.ReadBlock(characters);
        body = Encoding.UTF8.GetBytes(characters, 0, read);
        if (body.Length > DataBytesMax)
            complaint = new Complaint($"standard input is longer than {DataBytesMax / 1024 / 1024} MiB", "send less at once");
        return complaint is null;
    }
}
