using System.Collections.Concurrent;
using System.Net;
using System.Text.Json;
using Foundry.Contracts;
using Foundry.Gateway.Config;

namespace Foundry.Gateway.Authorize;

/// <summary>
/// Whose is the object that the path names? Asked of the backend by the gateway itself before the request is let through, so that
/// a foreign object and one that never existed take the same way out. A "yes" may be kept: an ID belongs to its owner for ever
/// (CONTRACT section 6). A "no" may not: the object may be made the next moment.
/// </summary>
internal sealed class OwnerLookup(IHttpClientFactory clients)
{
    private const int OwnersMax = 100_000;
    private const int AnswerBytesMax = 64 * 1024 * 1024;
    private readonly ConcurrentDictionary<(string Cluster, string At, string Id, string? TenantId), string> _owners = new();

    /// <summary>The owner of an object.</summary>
    /// <param name="clusterId">The backend.</param>
    /// <param name="rule">How it is asked.</param>
    /// <param name="id">The object, as the path has it.</param>
    /// <param name="tenantId">For whom it is asked, where that is known: node names belong to their tenant, and two may have the same.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <returns>The owner, or null where there is no such object or nobody owns it; or why the question could not be answered.</returns>
    public async ValueTask<(string? Owner, Refusal? Refusal)> FindAsync(string clusterId, OwnRule rule, string id, string? tenantId, CancellationToken cancellationToken)
    {
        var key = (clusterId, rule.At!, id, tenantId);
        if (_owners.TryGetValue(key, out var known))
            return (known, null);
        try
        {
            using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
            limit.CancelAfter(TimeSpan.FromSeconds(10));
            var client = clients.CreateClient(clusterId);
            using var answer = await client.GetAsync(Target(client.BaseAddress!, rule, id, tenantId), HttpCompletionOption.ResponseHeadersRead, limit.Token);
            if (answer.StatusCode == HttpStatusCode.NotFound)
                return (null, null);
            if (!answer.IsSuccessStatusCode || answer.Content.Headers.ContentLength > AnswerBytesMax)
                return (null, Unavailable);
            await using var body = await answer.Content.ReadAsStreamAsync(limit.Token);
            using var document = await JsonDocument.ParseAsync(body, new JsonDocumentOptions { AllowDuplicateProperties = false }, limit.Token);
            var owner = Owner(document.RootElement, rule, id);
            // Only what is the asker's own is kept: a foreign object must take as long to refuse as one that never existed.
            if (owner is not null && (tenantId is null || owner == tenantId))
            {
                if (_owners.Count >= OwnersMax)
                    _owners.Clear();
                _owners[key] = owner;
            }
            return (owner, null);
        }
        catch (Exception fault) when (fault is HttpRequestException or JsonException or IOException || (fault is OperationCanceledException && !cancellationToken.IsCancellationRequested))
        {
            return (null, Unavailable);
        }
    }

    /// <summary>The object is asked about in the very bytes in which the request names it, as the request itself is forwarded.</summary>
    private static Uri Target(Uri backend, OwnRule rule, string id, string? tenantId)
    {
        var path = rule.At!.Replace($"{{{rule.Parameter}}}", id, StringComparison.Ordinal);
        var query = tenantId is null ? "" : $"{(path.Contains('?', StringComparison.Ordinal) ? '&' : '?')}tenant_id={tenantId}";
        return new Uri($"{backend.ToString().TrimEnd('/')}{path}{query}", new UriCreationOptions { DangerousDisablePathAndQueryCanonicalization = true });
    }

    private static string? Owner(JsonElement answer, OwnRule rule, string id)
    {
        if (rule.Key is { } member)
        {
            if (answer.ValueKind != JsonValueKind.Array)
                return null;
            var decoded = Uri.UnescapeDataString(id);
            answer = answer.EnumerateArray().FirstOrDefault(item => item.ValueKind == JsonValueKind.Object
                && item.TryGetProperty(member, out var named) && named.ValueKind == JsonValueKind.String && named.ValueEquals(decoded));
        }
        return answer.ValueKind == JsonValueKind.Object && answer.TryGetProperty(rule.Owner, out var owner) && owner.ValueKind == JsonValueKind.String ? owner.GetString() : null;
    }

    private static readonly Refusal Unavailable = new(ErrorCode.BackendUnavailable, "The backend could not be asked.");
}
