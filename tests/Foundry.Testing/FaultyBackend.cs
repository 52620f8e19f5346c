using System.Collections.Concurrent;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Text;
using System.Text.Json;
using Foundry.Contracts;
using Foundry.Tokens;

namespace Foundry.Testing;

/// <summary>A request as its bytes came in.</summary>
public sealed record BackendRequest(string Head, byte[] Body)
{
    public string Method { get; } = Head.Split(' ')[0];

    public string Target { get; } = Head.Split(' ')[1];

    public string Path => Target.Split('?')[0];

    public string Text => Encoding.UTF8.GetString(Body);

    /// <summary>Every header line, as it was spelt.</summary>
    public IReadOnlyList<(string Name, string Value)> Headers { get; } =
        [.. Head.Split("\r\n", StringSplitOptions.RemoveEmptyEntries).Skip(1).Select(line => (line[..line.IndexOf(':', StringComparison.Ordinal)], line[(line.IndexOf(':', StringComparison.Ordinal) + 1)..].Trim()))];

    /// <summary>The one value of a header, or null; a header that is there twice is an error.</summary>
    public string? this[string name] => Headers.SingleOrDefault(header => header.Name.Equals(name, StringComparison.OrdinalIgnoreCase)).Value;

    /// <summary>The claims of the assertion, believed as they are; undefined where there is none.</summary>
    public JsonElement Asserted => this[FoundryHeaders.Assertion] is { } jws && Base64UrlText.TryDecode(jws.Split('.')[1], out var payload)
        ? JsonDocument.Parse(payload).RootElement : default;

    /// <summary>Whether the gateway asks for itself, and not for a caller.</summary>
    public bool IsOwn => Asserted.ValueKind == JsonValueKind.Object && Asserted.TryGetProperty("own", out var own) && own.GetBoolean();
}

/// <summary>What happens to the connection after an answer's bytes.</summary>
public enum AnswerEnd
{
    /// <summary>It serves the next request.</summary>
    KeepOpen,
    /// <summary>It is closed in good order.</summary>
    Close,
    /// <summary>It is reset.</summary>
    Reset,
    /// <summary>It stays open, and silent.</summary>
    Hang,
}

/// <summary>An answer, byte by byte.</summary>
public sealed record BackendAnswer(IEnumerable<ReadOnlyMemory<byte>> Pieces, AnswerEnd End = AnswerEnd.KeepOpen)
{
    public static readonly BackendAnswer ResetAtOnce = new([], AnswerEnd.Reset);
    public static readonly BackendAnswer Silence = new([], AnswerEnd.Hang);

    public static BackendAnswer Json(string json, int status = 200, params (string Name, string Value)[] headers) =>
        Of(Encoding.UTF8.GetBytes(json), status, "application/json", headers);

    /// <summary>A sound answer: its length is its body's.</summary>
    public static BackendAnswer Of(byte[] body, int status = 200, string? contentType = "application/json", params (string Name, string Value)[] headers)
    {
        var head = new StringBuilder().Append(CultureInfo.InvariantCulture, $"HTTP/1.1 {status} Whatever\r\n");
        if (status is not (204 or 304))
            head.Append(CultureInfo.InvariantCulture, $"Content-Length: {body.Length}\r\n");
        if (contentType is not null)
            head.Append(CultureInfo.InvariantCulture, $"Content-Type: {contentType}\r\n");
        foreach (var (name, value) in headers)
            head.Append(CultureInfo.InvariantCulture, $"{name}: {value}\r\n");
        return new([Encoding.ASCII.GetBytes(head.Append("\r\n").ToString()), body]);
    }

    /// <summary>A chunked answer, a chunk per piece; without <paramref name="whole"/> its last chunk never comes and the connection ends.</summary>
    public static BackendAnswer Chunked(IEnumerable<ReadOnlyMemory<byte>> chunks, bool whole = true, string headers = "Content-Type: application/json\r\n") =>
        new(ChunkedPieces(chunks, whole, headers), whole ? AnswerEnd.KeepOpen : AnswerEnd.Close);

    /// <summary>Whatever a backend may say that no server would.</summary>
    public static BackendAnswer Raw(string text, AnswerEnd end = AnswerEnd.Close) => new([Encoding.UTF8.GetBytes(text)], end);

    private static IEnumerable<ReadOnlyMemory<byte>> ChunkedPieces(IEnumerable<ReadOnlyMemory<byte>> chunks, bool whole, string headers)
    {
        yield return Encoding.ASCII.GetBytes($"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n{headers}\r\n");
        foreach (var chunk in chunks)
        {
            yield return Encoding.ASCII.GetBytes($"{chunk.Length:x}\r\n");
            yield return chunk;
            yield return "\r\n"u8.ToArray();
        }
        if (whole)
            yield return "0\r\n\r\n"u8.ToArray();
    }
}

/// <summary>
/// A backend on a bare loopback socket, so that it can send what no web server would, and knows every byte it was sent. The test
/// says how each request is answered.
/// </summary>
public sealed class FaultyBackend : IAsyncDisposable
{
    private readonly ConcurrentDictionary<TcpClient, Task> _connections = new();
    private CancellationTokenSource _stopping = new();
    private TcpListener _listener = new(IPAddress.Loopback, 0);
    private Task _accepting = Task.CompletedTask;

    public FaultyBackend(Func<BackendRequest, Task<BackendAnswer>> answer)
    {
        Answer = answer;
        Start();
    }

    public Uri Url { get; private set; } = null!;

    /// <summary>How requests are answered.</summary>
    public Func<BackendRequest, Task<BackendAnswer>> Answer { get; set; }

    /// <summary>Every request, in the order in which they were complete.</summary>
    public ConcurrentQueue<BackendRequest> Requests { get; } = [];

    /// <summary>Those that were made for a caller.</summary>
    public IEnumerable<BackendRequest> Forwarded => Requests.Where(request => !request.IsOwn);

    /// <summary>Ends every connection and refuses new ones.</summary>
    public async Task StopAsync()
    {
        await _stopping.CancelAsync();
        _listener.Stop();
        await _accepting;
        foreach (var connection in _connections.Keys)
            connection.Dispose();
        await Task.WhenAll(_connections.Values);
        _connections.Clear();
        _stopping.Dispose();
    }

    /// <summary>Listens again, at the same address.</summary>
    public void Start()
    {
        if (Url is not null)
            (_stopping, _listener) = (new CancellationTokenSource(), new TcpListener(IPAddress.Loopback, Url.Port));
        _listener.Start();
        Url = new Uri($"http://127.0.0.1:{((IPEndPoint)_listener.LocalEndpoint).Port}");
        _accepting = AcceptAsync(_listener, _stopping.Token);
    }

    public async ValueTask DisposeAsync() => await StopAsync();

    private async Task AcceptAsync(TcpListener listener, CancellationToken stopping)
    {
        try
        {
            while (true)
            {
                var connection = await listener.AcceptTcpClientAsync(stopping);
                _connections[connection] = ServeAsync(connection, stopping);
            }
        }
        catch (Exception fault) when (fault is OperationCanceledException or SocketException or ObjectDisposedException)
        {
            // Stopped.
        }
    }

    private async Task ServeAsync(TcpClient connection, CancellationToken stopping)
    {
        await Task.Yield();
        try
        {
            connection.NoDelay = true;
            var stream = connection.GetStream();
            var input = new BufferedStream(stream, 64 * 1024);
            while (await ReadAsync(input, stopping) is { } request)
            {
                Requests.Enqueue(request);
                var answer = await Answer(request);
                foreach (var piece in answer.Pieces)
                {
                    await stream.WriteAsync(piece, stopping);
                    await stream.FlushAsync(stopping);
                }
                switch (answer.End)
                {
                    case AnswerEnd.Hang:
                        await Task.Delay(Timeout.Infinite, stopping);
                        break;
                    case AnswerEnd.Reset:
                        connection.LingerState = new LingerOption(true, 0);
                        connection.Close();
                        return;
                    case AnswerEnd.Close:
                        return;
                }
            }
        }
        catch (Exception fault) when (fault is IOException or OperationCanceledException or ObjectDisposedException)
        {
            // The other side, or the test, has had enough.
        }
        finally
        {
            connection.Dispose();
            _connections.TryRemove(connection, out _);
        }
    }

    private static async Task<BackendRequest?> ReadAsync(Stream input, CancellationToken stopping)
    {
        var head = new MemoryStream();
        var one = new byte[1];
        while (true)
        {
            if (await input.ReadAsync(one, stopping) == 0)
                return null;
            head.WriteByte(one[0]);
            if (one[0] == '\n' && head.Length >= 4 && head.GetBuffer().AsSpan((int)head.Length - 4, 4).SequenceEqual("\r\n\r\n"u8))
                break;
        }
        var request = new BackendRequest(Encoding.Latin1.GetString(head.ToArray()), []);
        if (request["Transfer-Encoding"] is not null)
            throw new IOException("The gateway sends bodies whole, with their length.");
        var body = new byte[int.Parse(request["Content-Length"] ?? "0", CultureInfo.InvariantCulture)];
        await input.ReadExactlyAsync(body, stopping);
        return request with { Body = body };
    }
}
