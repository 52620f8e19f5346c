using Foundry.Contracts;
using Microsoft.AspNetCore.Http;

namespace Foundry.ServiceDefaults;

/// <summary>A request's ID: the sender's if well formed, else new (CONTRACT section 4). Always 36 characters when it is ours.</summary>
public static class RequestId
{
    /// <summary>Characters of the longest ID that is taken over.</summary>
    public const int CharsMax = 64;

    private static readonly object ItemKey = new();
    private static readonly System.Buffers.SearchValues<char> Characters =
        System.Buffers.SearchValues.Create("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.");

    /// <summary>The ID of this request, decided once.</summary>
    /// <param name="context">The request.</param>
    public static string Of(HttpContext context)
    {
        ArgumentNullException.ThrowIfNull(context);
        if (context.Items.TryGetValue(ItemKey, out var known))
            return (string)known!;
        var sent = context.Request.Headers[FoundryHeaders.RequestId];
        var id = sent.Count == 1 && IsWellFormed(sent[0]) ? sent[0]! : Guid.CreateVersion7().ToString();
        context.Items[ItemKey] = id;
        return id;
    }

    private static bool IsWellFormed(string? id) =>
        id is { Length: > 0 and <= CharsMax } && !id.AsSpan().ContainsAnyExcept(Characters);
}
