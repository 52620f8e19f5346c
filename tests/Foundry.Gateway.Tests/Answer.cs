using System.Text;
using System.Text.Json;

namespace Foundry.Gateway.Tests;

/// <summary>A whole answer of the gateway.</summary>
internal sealed record Answer(int Status, IReadOnlyList<(string Name, string Value)> Headers, byte[] Body)
{
    public string Text => Encoding.UTF8.GetString(Body);

    public JsonElement Json => JsonDocument.Parse(Body).RootElement;

    /// <summary>The problem's <c>code</c>, or null where the answer is none.</summary>
    public string? Code => Member("code");

    public string? Reason => Member("reason");

    public string? this[string name] => Headers.Where(header => header.Name.Equals(name, StringComparison.OrdinalIgnoreCase)).Select(header => header.Value).SingleOrDefault();

    public static async Task<Answer> OfAsync(HttpResponseMessage response, CancellationToken cancellationToken) => new((int)response.StatusCode,
        [.. response.Headers.NonValidated.Concat(response.Content.Headers.NonValidated).Select(header => (header.Key, header.Value.ToString()))],
        await response.Content.ReadAsByteArrayAsync(cancellationToken));

    /// <summary>The answer as bytes came over a socket.</summary>
    public static Answer OfRaw(byte[] bytes)
    {
        var end = bytes.AsSpan().IndexOf("\r\n\r\n"u8);
        if (end < 0)
            throw new InvalidDataException($"No answer came, but: {Encoding.Latin1.GetString(bytes)}");
        var head = Encoding.Latin1.GetString(bytes, 0, end).Split("\r\n");
        return new Answer(int.Parse(head[0].Split(' ')[1]), [.. head.Skip(1).Select(line => (line[..line.IndexOf(':', StringComparison.Ordinal)], line[(line.IndexOf(':', StringComparison.Ordinal) + 1)..].Trim()))], bytes[(end + 4)..]);
    }

    private string? Member(string name)
    {
        if (this["Content-Type"] is not "application/problem+json")
            return null;
        return Json.TryGetProperty(name, out var value) ? value.GetString() : null;
    }
}
