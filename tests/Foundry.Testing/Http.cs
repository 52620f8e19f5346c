using System.Net.Http.Headers;
using System.Text;
using System.Text.Json;
using Microsoft.Extensions.DependencyInjection;

namespace Foundry.Testing;

/// <summary>Plain HTTP as a client of the gateway speaks it.</summary>
public static class Http
{
    private static readonly ServiceProvider Services = new ServiceCollection().AddHttpClient().BuildServiceProvider();

    /// <summary>A client with no opinion of its own.</summary>
    public static HttpClient NewClient(Uri baseAddress)
    {
        var client = Services.GetRequiredService<IHttpClientFactory>().CreateClient();
        client.BaseAddress = baseAddress;
        client.Timeout = TimeSpan.FromSeconds(30);
        return client;
    }

    /// <summary>Sends with a token and, where there is one, a JSON body.</summary>
    public static async Task<Answer> SendAsync(this HttpClient client, string? token, HttpMethod method, string path, string? json, CancellationToken cancellationToken,
        params (string Name, string Value)[] headers)
    {
        using var request = new HttpRequestMessage(method, path);
        if (token is not null)
            request.Headers.Authorization = new AuthenticationHeaderValue("Bearer", token);
        foreach (var (name, value) in headers)
            request.Headers.TryAddWithoutValidation(name, value);
        if (json is not null)
            request.Content = new StringContent(json, Encoding.UTF8, new MediaTypeHeaderValue("application/json"));
        using var answer = await client.SendAsync(request, cancellationToken);
        return new Answer((int)answer.StatusCode, await answer.Content.ReadAsStringAsync(cancellationToken),
            answer.Headers.Concat(answer.Content.Headers).ToDictionary(header => header.Key, header => string.Join(", ", header.Value), StringComparer.OrdinalIgnoreCase));
    }

    /// <summary>GET with a token.</summary>
    public static Task<Answer> GetAsync(this HttpClient client, string? token, string path, CancellationToken cancellationToken) =>
        client.SendAsync(token, HttpMethod.Get, path, null, cancellationToken);

    /// <summary>POST of JSON with a token.</summary>
    public static Task<Answer> PostAsync(this HttpClient client, string? token, string path, string json, CancellationToken cancellationToken) =>
        client.SendAsync(token, HttpMethod.Post, path, json, cancellationToken);
}

/// <summary>An answer, read whole.</summary>
public sealed record Answer(int Status, string Body, IReadOnlyDictionary<string, string> Headers)
{
    /// <summary>The body as JSON.</summary>
    public JsonElement Json
    {
        get
        {
            using var document = JsonDocument.Parse(Body);
            return document.RootElement.Clone();
        }
    }

    /// <summary>A string member of the body; null where there is none.</summary>
    public string? Text(string member) => Json.TryGetProperty(member, out var value) ? value.GetString() : null;

    /// <summary>The <c>code</c> of a problem document.</summary>
    public string? Code => Status >= 400 ? Text("code") : null;
}
