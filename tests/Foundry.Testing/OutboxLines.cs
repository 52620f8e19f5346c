using System.Text;
using System.Text.Json;
using Foundry.Contracts;

namespace Foundry.Testing;

/// <summary>What an outbox sends to <c>POST /internal/v1/append</c>, for ledgers that are not real.</summary>
public static class OutboxLines
{
    /// <summary>Where it is sent.</summary>
    public const string Path = "/internal/v1/append";

    /// <summary>The events of a request, in order.</summary>
    /// <param name="body">Its body.</param>
    public static IReadOnlyList<AppendRequest> Read(ReadOnlySpan<byte> body) =>
        [.. Encoding.UTF8.GetString(body).TrimEnd('\n').Split('\n').Select(line => JsonSerializer.Deserialize(line, WireJson.Default.AppendRequest)!)];

    /// <summary>The answer that so many lines were taken and, with a status, why the next was not.</summary>
    /// <param name="taken">How many.</param>
    /// <param name="status">The status that the next was refused with.</param>
    public static byte[] Answer(int taken, int? status = null) => JsonSerializer.SerializeToUtf8Bytes(
        new AppendedLines(taken, status is { } refused ? new Problem("/problems/refused", "Refused", refused, "Refused by a test.", "refused", "test") : null), WireJson.Default.AppendedLines);
}
