using System.Buffers;
using System.IO.Pipelines;
using System.Net;
using System.Net.Http.Headers;
using System.Net.Mime;
using System.Text.Json;
using System.Text.Json.Serialization.Metadata;
using Foundry.Contracts;
using Foundry.Proofs;
using Foundry.Tokens;

namespace Foundry.Cli;

/// <summary>
/// The gateway's API as this program uses it: one method for each call. Answers come back as values, refusals and broken
/// connections included; only cancellation is thrown.
/// </summary>
internal sealed class GatewayClient : IDisposable
{
    /// <summary>How long a call may take, all told.</summary>
    public static readonly TimeSpan CallTimeout = TimeSpan.FromSeconds(30);
    /// <summary>How long a stream may be silent; its heartbeats come every few seconds.</summary>
    public static readonly TimeSpan SilenceMax = TimeSpan.FromSeconds(45);
    /// <summary>Bytes of a stream's longest line: an entry with all its escapes.</summary>
    public const int LineBytesMax = 512 * 1024;
    /// <summary>Bytes of the longest answer taken.</summary>
    public const int AnswerBytesMax = 128 * 1024 * 1024;

    private readonly HttpMessageInvoker _http;
    private readonly string _address;
    private readonly TokenSource? _token;
    private readonly SigningKey? _key;
    private readonly TimeProvider _time;

    /// <summary>Speaks to a gateway as the holder of a token.</summary>
    /// <param name="gateway">Where it is.</param>
    /// <param name="token">The caller's token; null for the few calls that need no caller.</param>
    /// <param name="key">The caller's key, where it is at hand: proofs are made with it. Stays its owner's to dispose.</param>
    /// <param name="time">The clock.</param>
    public GatewayClient(Uri gateway, TokenSource? token, SigningKey? key, TimeProvider time)
    {
        _address = gateway.AbsoluteUri.TrimEnd('/');
        _token = token;
        _key = key;
        _time = time;
        _http = new HttpMessageInvoker(new SocketsHttpHandler
        {
            // A redirect would carry the token to an address that nobody named.
            AllowAutoRedirect = false,
            UseCookies = false,
            // What stays on this machine has no business with a proxy.
            UseProxy = !gateway.IsLoopback,
            ConnectTimeout = TimeSpan.FromSeconds(10),
            PooledConnectionLifetime = TimeSpan.FromMinutes(2),
        });
    }

    /// <summary>Where the gateway is.</summary>
    public string Address => _address;

    public Task<Answer> CreateTenantAsync(TenantRequest tenant, CancellationToken cancellationToken) =>
        SendAsync(HttpMethod.Post, "/v1/tenants", Json(tenant, WireJson.Default.TenantRequest), cancellationToken);

    public Task<Answer> ListTenantsAsync(string? cursor, CancellationToken cancellationToken) =>
        GetAsync("/v1/tenants" + Query(("cursor", cursor)), cancellationToken);

    public Task<Answer> GetTenantAsync(string id, CancellationToken cancellationToken) =>
        GetAsync($"/v1/tenants/{Segment(id)}", cancellationToken);

    public Task<Answer> IssueTokenAsync(TokenRequest token, string? idempotencyKey, CancellationToken cancellationToken) =>
        SendAsync(HttpMethod.Post, "/v1/tokens", Json(token, WireJson.Default.TokenRequest), cancellationToken, idempotencyKey);

    public Task<Answer> RenewTokenAsync(CancellationToken cancellationToken) =>
        SendAsync(HttpMethod.Post, "/v1/tokens/renew", null, cancellationToken);

    public Task<Answer> VerifyTokenAsync(string token, CancellationToken cancellationToken) =>
        SendAsync(HttpMethod.Post, "/v1/tokens/verify", Json(new VerifyRequest(token), WireJson.Default.VerifyRequest), cancellationToken);

    public Task<Answer> RevokeTokenAsync(string idOrKey, bool descendants, CancellationToken cancellationToken) =>
        SendAsync(HttpMethod.Delete, $"/v1/tokens/{Segment(idOrKey)}" + Query(("descendants", descendants ? "true" : null)), null, cancellationToken);

    public Task<Answer> ListTokensAsync(string tenant, string? include, string? cursor, CancellationToken cancellationToken) =>
        GetAsync($"/v1/tenants/{Segment(tenant)}/tokens" + Query(("include", include), ("cursor", cursor)), cancellationToken);

    public Task<Answer> GetTokenAsync(string id, CancellationToken cancellationToken) =>
        GetAsync($"/v1/tokens/{Segment(id)}", cancellationToken);

    public Task<Answer> StatusAsync(string? tenant, CancellationToken cancellationToken) =>
        GetAsync("/v1/status" + Query(("tenant_id", tenant)), cancellationToken);

    public Task<Answer> ListNodesAsync(string? tenant, CancellationToken cancellationToken) =>
        GetAsync("/v1/nodes" + Query(("tenant_id", tenant)), cancellationToken);

    public Task<Answer> ListVmsAsync(string? tenant, CancellationToken cancellationToken) =>
        GetAsync("/v1/vms" + Query(("tenant_id", tenant)), cancellationToken);

    public Task<Answer> CreateVmAsync(CreateVm vm, string idempotencyKey, CancellationToken cancellationToken) =>
        SendAsync(HttpMethod.Post, "/v1/vms", Json(vm, WireJson.Default.CreateVm), cancellationToken, idempotencyKey);

    public Task<Answer> DeleteVmAsync(string id, string? tenant, CancellationToken cancellationToken) =>
        SendAsync(HttpMethod.Delete, $"/v1/vms/{Segment(id)}" + Query(("tenant_id", tenant)), null, cancellationToken);

    public Task<Answer> ReadEntriesAsync(IReadOnlyDictionary<string, string> parameters, CancellationToken cancellationToken) =>
        GetAsync("/v1/entries" + Query([.. parameters.Select(parameter => (parameter.Key, (string?)parameter.Value))]), cancellationToken);

    public Task<Answer> MakePartCodeAsync(PartCodeRequest part, CancellationToken cancellationToken) =>
        SendAsync(HttpMethod.Post, "/v1/parts/codes", Json(part, WireJson.Default.PartCodeRequest), cancellationToken);

    public Task<Answer> ListPartsAsync(string? cursor, CancellationToken cancellationToken) =>
        GetAsync("/v1/parts" + Query(("cursor", cursor)), cancellationToken);

    public Task<Answer> RemovePartAsync(string kid, CancellationToken cancellationToken) =>
        SendAsync(HttpMethod.Delete, $"/v1/parts/{Segment(kid)}", null, cancellationToken);

    public Task<Answer> LedgerContractAsync(string? module, CancellationToken cancellationToken) =>
        GetAsync("/v1/contract" + Query(("module_id", module)), cancellationToken);

    public Task<Answer> LedgerCheckpointAsync(string? module, CancellationToken cancellationToken) =>
        GetFileAsync("/v1/checkpoint" + Query(("module_id", module)), SignedNote.BytesMax, cancellationToken);

    /// <summary>A file of a log's, as c2sp.org/tlog-tiles names them: the body is its bytes.</summary>
    public Task<Answer> LedgerFileAsync(string module, string file, bool witnessed, CancellationToken cancellationToken) =>
        GetFileAsync($"/ledger/{Segment(module)}/{file}" + Query(("module_id", module), ("witnessed", witnessed ? "true" : null)), EntryBundle.BytesMax, cancellationToken);

    /// <summary>A file of a log, of the bytes that it may have.</summary>
    public Task<Answer> GetFileAsync(string path, int bytesMax, CancellationToken cancellationToken) =>
        SendAsync(HttpMethod.Get, path, null, cancellationToken, fileBytesMax: bytesMax);

    /// <summary>
    /// Follows a log, and ends when the server ends it: accepted, or broken off. The parameters are those of reading, less the limit.
    /// </summary>
    /// <param name="parameters">The query.</param>
    /// <param name="take">Takes a line.</param>
    /// <param name="cancellationToken">Ends it.</param>
    public async Task<Answer> TailAsync(IReadOnlyDictionary<string, string> parameters, Action<ReadOnlyMemory<byte>> take, CancellationToken cancellationToken)
    {
        using var request = new HttpRequestMessage(HttpMethod.Get, _address + "/v1/tail" + Query([.. parameters.Select(parameter => (parameter.Key, (string?)parameter.Value))]));
        request.Headers.Accept.ParseAdd($"application/x-ndjson, {Problem.MediaType}");
        Authorize(request);
        using var silence = new CancellationTokenSource(SilenceMax, _time);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(silence.Token, cancellationToken);
        try
        {
            using var response = await _http.SendAsync(request, either.Token);
            if (!response.IsSuccessStatusCode)
                return await ReadAsync(response, null, either.Token);
            var lines = PipeReader.Create(await response.Content.ReadAsStreamAsync(either.Token));
            while (true)
            {
                var read = await lines.ReadAsync(either.Token);
                silence.CancelAfter(SilenceMax);
                var rest = read.Buffer;
                while (rest.PositionOf((byte)'\n') is { } end)
                {
                    take(rest.Slice(0, end).ToArray());
                    rest = rest.Slice(rest.GetPosition(1, end));
                }
                if (rest.Length > LineBytesMax)
                    return Answer.Broken($"a line of {_address} is longer than {LineBytesMax / 1024} KiB", mayHaveHappened: false);
                lines.AdvanceTo(rest.Start, rest.End);
                if (read.IsCompleted)
                    return new Answer { Status = (int)response.StatusCode };
            }
        }
        catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
        {
            return Answer.Broken($"the gateway at {_address} has been silent for {SilenceMax.TotalSeconds:0} s", mayHaveHappened: false);
        }
        catch (Exception fault) when (fault is HttpRequestException or IOException)
        {
            return Answer.Broken($"the connection to the gateway at {_address} failed: {fault.InnerException?.Message ?? fault.Message}", mayHaveHappened: false);
        }
    }

    public Task<Answer> HeartbeatAsync(byte[] heartbeat, CancellationToken cancellationToken) =>
        SendAsync(HttpMethod.Post, "/v1/nodes/heartbeat", heartbeat, cancellationToken);

    /// <summary>Any request: the answer's body is whatever came.</summary>
    /// <param name="method">The method.</param>
    /// <param name="pathAndQuery">From the first slash on.</param>
    /// <param name="headers">Headers beside ours, or in place of ours.</param>
    /// <param name="body">The body, if there is one.</param>
    /// <param name="cancellationToken">Ends it.</param>
    public Task<Answer> RequestAsync(HttpMethod method, string pathAndQuery, IReadOnlyList<(string Name, string Value)> headers, byte[]? body, CancellationToken cancellationToken) =>
        SendAsync(method, pathAndQuery, body, cancellationToken, fileBytesMax: AnswerBytesMax, headers: headers);

    public void Dispose() => _http.Dispose();

    private Task<Answer> GetAsync(string pathAndQuery, CancellationToken cancellationToken) =>
        SendAsync(HttpMethod.Get, pathAndQuery, null, cancellationToken);

    private async Task<Answer> SendAsync(HttpMethod method, string pathAndQuery, byte[]? body, CancellationToken cancellationToken, string? idempotencyKey = null, int? fileBytesMax = null,
        IReadOnlyList<(string Name, string Value)>? headers = null)
    {
        using var request = new HttpRequestMessage(method, _address + pathAndQuery);
        request.Headers.Accept.ParseAdd(fileBytesMax is null ? $"{MediaTypeNames.Application.Json}, {Problem.MediaType}" : "*/*");
        Authorize(request);
        if (idempotencyKey is not null)
            request.Headers.TryAddWithoutValidation("Idempotency-Key", idempotencyKey);
        if (body is not null)
            request.Content = new ByteArrayContent(body) { Headers = { ContentType = new MediaTypeHeaderValue(MediaTypeNames.Application.Json) } };
        foreach (var (name, value) in headers ?? [])
        {
            HttpHeaders target = name.StartsWith("Content-", StringComparison.OrdinalIgnoreCase) && request.Content is { } content ? content.Headers : request.Headers;
            target.Remove(name);
            target.TryAddWithoutValidation(name, value);
        }

        var changesSomething = method != HttpMethod.Get && method != HttpMethod.Head;
        using var timeout = new CancellationTokenSource(CallTimeout, _time);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(timeout.Token, cancellationToken);
        try
        {
            using var response = await _http.SendAsync(request, either.Token);
            return await ReadAsync(response, fileBytesMax, either.Token);
        }
        catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
        {
            return Answer.Broken($"the gateway at {_address} did not answer within {CallTimeout.TotalSeconds:0} s", mayHaveHappened: changesSomething);
        }
        catch (HttpRequestException fault)
        {
            var sent = fault.HttpRequestError is not (HttpRequestError.ConnectionError or HttpRequestError.NameResolutionError or HttpRequestError.SecureConnectionError or HttpRequestError.ProxyTunnelError);
            return Answer.Broken($"the gateway at {_address} cannot be reached: {fault.InnerException?.Message ?? fault.Message}", mayHaveHappened: sent && changesSomething);
        }
        catch (IOException fault)
        {
            return Answer.Broken($"the connection to the gateway at {_address} broke off: {fault.Message}", mayHaveHappened: changesSomething);
        }
    }

    // A proof (RFC 9449) goes with every request where the key at hand is the token's: a bound token is good for nothing without one, and
    // a tenant or a route may ask for one with any token. Whether it is bound is read anew each time, since a token file may be renewed.
    private void Authorize(HttpRequestMessage request)
    {
        if (_token is null)
            return;
        var key = _key is not null && _token.IsOf(_key.Public) ? _key : null;
        request.Headers.Authorization = new AuthenticationHeaderValue(key is null ? "Bearer" : "DPoP", _token.Current);
        if (key is not null)
            request.Headers.Add("DPoP", DpopProof.Create(key, request.Method.Method, request.RequestUri!.AbsoluteUri, _token.Current, _time.GetUtcNow()));
    }

    private async Task<Answer> ReadAsync(HttpResponseMessage response, int? fileBytesMax, CancellationToken cancellationToken)
    {
        var answer = new Answer
        {
            Status = (int)response.StatusCode,
            RequestId = response.Headers.TryGetValues(FoundryHeaders.RequestId, out var ids) ? ids.First() : null,
            RetryAfter = RetryAfter(response.Headers.RetryAfter),
        };
        // A refusal explains itself in more bytes than a tile may have.
        var bytesMax = response.IsSuccessStatusCode && fileBytesMax is { } file ? file : AnswerBytesMax;
        var body = await ReadBoundedAsync(response.Content, bytesMax, cancellationToken);
        if (body is null)
            return answer with { Failure = $"the answer is longer than {bytesMax:N0} bytes" };
        var mediaType = response.Content.Headers.ContentType?.MediaType;
        var isJson = mediaType is not null && (mediaType == MediaTypeNames.Application.Json || mediaType.EndsWith("+json", StringComparison.Ordinal));
        if (response.IsSuccessStatusCode)
        {
            if (fileBytesMax is not null)
                return answer with { Body = body };
            if (body.Length == 0 && response.StatusCode is HttpStatusCode.NoContent or HttpStatusCode.Accepted)
                return answer;
            return isJson && IsJson(body)
                ? answer with { Body = body }
                : answer with { Failure = $"what answers at {_address} is not a Foundry gateway: it sent no JSON (status {answer.Status})" };
        }
        return TryReadProblem(mediaType, body, out var problem)
            ? answer with { Body = body, Problem = problem, RequestId = problem.RequestId ?? answer.RequestId }
            : answer with { Failure = $"{_address} answered with status {answer.Status} and no explanation" };
    }

    private static async Task<byte[]?> ReadBoundedAsync(HttpContent content, int bytesMax, CancellationToken cancellationToken)
    {
        using var whole = new MemoryStream();
        await using var stream = await content.ReadAsStreamAsync(cancellationToken);
        var buffer = new byte[64 * 1024];
        int read;
        while ((read = await stream.ReadAsync(buffer, cancellationToken)) > 0)
        {
            if (whole.Length + read > bytesMax)
                return null;
            whole.Write(buffer, 0, read);
        }
        return whole.ToArray();
    }

    private static bool IsJson(byte[] body)
    {
        try
        {
            var reader = new Utf8JsonReader(body);
            while (reader.Read())
                reader.Skip();
            return true;
        }
        catch (JsonException)
        {
            return false;
        }
    }

    private static bool TryReadProblem(string? mediaType, byte[] body, out Problem problem)
    {
        problem = null!;
        if (mediaType != Problem.MediaType)
            return false;
        try
        {
            problem = JsonSerializer.Deserialize(body, WireJson.Default.Problem)!;
            return problem is { Code: not null, Title: not null };
        }
        catch (JsonException)
        {
            return false;
        }
    }

    private TimeSpan? RetryAfter(RetryConditionHeaderValue? header) =>
        header?.Delta ?? (header?.Date is { } date ? date - _time.GetUtcNow() : null);

    private static byte[] Json<T>(T value, JsonTypeInfo<T> type) => JsonSerializer.SerializeToUtf8Bytes(value, type);

    // Taken apart from everything else before it gets here: an escape would be another path, or one that the gateway refuses.
    private static string Segment(string id) => Take.IsId(id) ? id : throw new ArgumentException("This cannot stand in a path.", nameof(id));

    private static string Query(params (string Name, string? Value)[] parameters)
    {
        var present = parameters.Where(parameter => parameter.Value is not null)
            .Select(parameter => $"{Uri.EscapeDataString(parameter.Name)}={Uri.EscapeDataString(parameter.Value!)}");
        var query = string.Join('&', present);
        return query.Length == 0 ? "" : "?" + query;
    }
}

/// <summary>What came of a call: an accepted answer, a refusal with its problem document, or no usable answer at all.</summary>
internal sealed record Answer
{
    /// <summary>The HTTP status, where there was an answer.</summary>
    public int? Status { get; init; }
    /// <summary>The body as it came, without a byte changed.</summary>
    public byte[] Body { get; init; } = [];
    /// <summary>Why it was refused, in the server's words.</summary>
    public Problem? Problem { get; init; }
    /// <summary>The request's ID, to find it in logs by.</summary>
    public string? RequestId { get; init; }
    /// <summary>How long the server asks to wait.</summary>
    public TimeSpan? RetryAfter { get; init; }
    /// <summary>Why there is no usable answer.</summary>
    public string? Failure { get; init; }
    /// <summary>Whether the request may have been carried out although no answer came.</summary>
    public bool MayHaveHappened { get; init; }

    /// <summary>Whether it was done as asked.</summary>
    public bool IsAccepted => Status is >= 200 and < 300 && Failure is null && Problem is null;

    public static Answer Broken(string failure, bool mayHaveHappened) => new() { Failure = failure, MayHaveHappened = mayHaveHappened };
}
