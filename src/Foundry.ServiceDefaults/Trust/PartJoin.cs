using System.Net.Http.Json;
using System.Text.Json;
using Foundry.Contracts;

namespace Foundry.ServiceDefaults.Trust;

/// <summary>
/// Joins a part from outside, before it first starts: its key and the trust set are then in its folder, as
/// <see cref="TrustFollower"/> would have put them there, and the part itself never needs a code.
/// </summary>
public static class PartJoin
{
    private const int AnswerBytesMax = 2 * Tokens.TrustSet.CharsMax;
    private static readonly TimeSpan TimeMax = TimeSpan.FromSeconds(30);

    /// <summary>Makes the part's key where it has none, has it let in, and keeps the trust set.</summary>
    /// <param name="folder">The part's folder, which the caller has locked.</param>
    /// <param name="kind">See <see cref="Tokens.TrustedKey"/>.</param>
    /// <param name="name">The part's name.</param>
    /// <param name="http">What calls are made with.</param>
    /// <param name="issuance">Issuance's address.</param>
    /// <param name="rootThumbprint">The root that the part will pin.</param>
    /// <param name="code">The code.</param>
    /// <param name="cancellationToken">Ends the attempt.</param>
    /// <returns>The part's key and, where it was not let in, why not.</returns>
    /// <exception cref="StateCorruptException">The folder holds what is no key, or a trust set of another root.</exception>
    public static async Task<(string Kid, string? Why)> JoinAsync(StateFolder folder, string kind, string name, HttpMessageInvoker http, Uri issuance, string rootThumbprint, string code, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(folder);
        ArgumentNullException.ThrowIfNull(issuance);
        var options = new TrustOptions { RootThumbprint = rootThumbprint };
        TrustFollower.ReadStored(folder, options);
        using var key = folder.SigningKey(ServiceIdentity.KeyFile);
        try
        {
            using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
            limit.CancelAfter(TimeMax);
            // Looked at before the code is sent: whoever is not the platform that was meant has no business with it.
            using var known = await SendAsync(http, HttpMethod.Get, new Uri(issuance, "/internal/v1/trust"), null, limit.Token);
            if (!known.IsSuccessStatusCode || await known.Content.ReadFromJsonAsync(WireJson.Default.TrustAnswer, limit.Token) is not { } trust || TrustFollower.TryRead(trust, options) is null)
                return (key.Kid, $"what answers at {issuance} is not the platform with the root {rootThumbprint}; the code was not sent");
            using var response = await SendAsync(http, HttpMethod.Post, new Uri(issuance, "/internal/v1/join"),
                JsonContent.Create(new JoinRequest(1, kind, name, key.Public.X, code), WireJson.Default.JoinRequest), limit.Token);
            if (!response.IsSuccessStatusCode)
            {
                var problem = await response.Content.ReadFromJsonAsync(WireJson.Default.Problem, limit.Token);
                return (key.Kid, problem?.Detail ?? $"issuance answered with status {(int)response.StatusCode}");
            }
            if (await response.Content.ReadFromJsonAsync(WireJson.Default.TrustAnswer, limit.Token) is not { } answer
                || TrustFollower.TryRead(answer, options) is not { } set || !set.Keys.Any(trusted => trusted.Kid == key.Kid && trusted.Kind == kind && trusted.Name == name))
                return (key.Kid, "issuance answered with a trust set that does not hold this part's key");
            TrustFollower.Keep(folder, answer);
            return (key.Kid, null);
        }
        catch (Exception fault) when (fault is HttpRequestException or IOException or JsonException || (fault is OperationCanceledException && !cancellationToken.IsCancellationRequested))
        {
            return (key.Kid, $"issuance at {issuance} does not answer as it should: {fault.InnerException?.Message ?? fault.Message}");
        }
    }

    private static async Task<HttpResponseMessage> SendAsync(HttpMessageInvoker http, HttpMethod method, Uri url, HttpContent? content, CancellationToken cancellationToken)
    {
        using var request = new HttpRequestMessage(method, url) { Content = content };
        if (content is not null)
            await content.LoadIntoBufferAsync(cancellationToken); // A body of known length.
        var response = await http.SendAsync(request, cancellationToken);
        await response.Content.LoadIntoBufferAsync(AnswerBytesMax, cancellationToken);
        return response;
    }
}
