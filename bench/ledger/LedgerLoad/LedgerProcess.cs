using System.Buffers;
using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Text;
using System.Text.Json;
using Foundry.Contracts;
using Foundry.ServiceDefaults;
using Foundry.ServiceDefaults.Trust;
using Foundry.Tokens;

namespace Foundry.Benchmarks.Ledger;

/// <summary>The ledger as operators run it, a process of its own, in a folder where the last trust set lies: nobody else need run.</summary>
internal sealed class LedgerProcess : IDisposable
{
    private static readonly TimeSpan _startMax = TimeSpan.FromMinutes(10);
    private readonly Process _process;

    private LedgerProcess(Process process, int port, SigningKey gateway, TimeSpan start) => (_process, Port, Gateway, Start) = (process, port, gateway, start);

    public int Port { get; }

    /// <summary>The key by which requests are a gateway's.</summary>
    public SigningKey Gateway { get; }

    /// <summary>From the process's start until it was ready.</summary>
    public TimeSpan Start { get; }

    /// <summary>Bytes of memory it holds.</summary>
    public long ResidentBytes => long.Parse(File.ReadLines($"/proc/{_process.Id}/status").First(line => line.StartsWith("VmRSS", StringComparison.Ordinal)).Split(' ', StringSplitOptions.RemoveEmptyEntries)[1], CultureInfo.InvariantCulture) * 1024;

    /// <summary>Processor time it has used.</summary>
    public TimeSpan Cpu
    {
        get
        {
            _process.Refresh();
            return _process.TotalProcessorTime;
        }
    }

    /// <summary>Starts it, and waits until it is ready.</summary>
    public static async Task<LedgerProcess> StartAsync(string folder)
    {
        var (root, gateway) = (SigningKey.Generate(), SigningKey.Generate());
        var state = StateFolder.Open(folder);
        using var own = state.SigningKey(ServiceIdentity.KeyFile);
        var trust = new TrustSet(1, 1, 0, "http://127.0.0.1:9221",
            [new TrustedKey(own.Kid, TrustedKey.Service, Foundry.Ledger.Ledger.Part, own.Public.X), new TrustedKey(gateway.Kid, TrustedKey.Gateway, "gateway", gateway.Public.X)]);
        state.Write(TrustFollower.FileName, JsonSerializer.SerializeToUtf8Bytes(new TrustAnswer(1, root.Public.X, trust.Sign(root)), WireJson.Default.TrustAnswer));
        var port = FreePort();
        var start = new ProcessStartInfo("dotnet", [typeof(Foundry.Ledger.Ledger).Assembly.Location]) { RedirectStandardOutput = true, RedirectStandardError = true };
        foreach (var (key, value) in new Dictionary<string, string>
        {
            ["Ledger__Listen"] = $"http://127.0.0.1:{port}",
            ["Ledger__Data"] = folder,
            ["Trust__RootThumbprint"] = root.Kid,
            ["Issuance__Url"] = "http://127.0.0.1:1",
            ["Log__Level"] = "Error",
        })
            start.Environment["FOUNDRY_" + key] = value;
        var watch = Stopwatch.StartNew();
        var process = Process.Start(start)!;
        process.OutputDataReceived += (_, _) => { };
        process.ErrorDataReceived += (_, line) => { if (line.Data is not null) Console.Error.WriteLine(line.Data); };
        process.BeginOutputReadLine();
        process.BeginErrorReadLine();
        using var client = new Client(port, gateway);
        while (!process.HasExited && watch.Elapsed < _startMax)
        {
            try
            {
                if (await client.GetAsync("/readyz", module: null) is not null)
                    return new LedgerProcess(process, port, gateway, watch.Elapsed);
            }
            catch (Exception fault) when (fault is SocketException or IOException)
            {
                await Task.Delay(5);
            }
        }
        throw new InvalidOperationException("The ledger did not start.");
    }

    public void Dispose()
    {
        // As an operator stops it: it publishes and closes.
        using var stop = Process.Start("kill", ["-TERM", _process.Id.ToString(CultureInfo.InvariantCulture)]);
        if (!_process.WaitForExit(TimeSpan.FromSeconds(60)))
            _process.Kill();
        _process.Dispose();
        Gateway.Dispose();
    }

    private static int FreePort()
    {
        using var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        socket.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        return ((IPEndPoint)socket.LocalEndPoint!).Port;
    }
}

/// <summary>
/// A gateway's kept connection, HTTP/1.1, as little as that needs: what a client costs is not what is measured, and both share the machine.
/// </summary>
internal sealed class Client(int port, SigningKey gateway) : IDisposable
{
    private readonly byte[] _buffer = new byte[64 * 1024];
    private Socket? _socket;

    /// <summary>The bytes of an append, or of so many in the lines of an outbox, signed: these are made before anything is measured.</summary>
    public static byte[] AppendOf(SigningKey gateway, string module, long number, int lines, DateTimeOffset now)
    {
        var body = new ArrayBufferWriter<byte>();
        for (var line = 0; line < lines; line++)
        {
            if (line > 0)
                body.Write("\n"u8);
            Encoding.UTF8.GetBytes($$"""{"payload_id":"{{Events.IdOf(number + line)}}","payload":""", body);
            body.Write(Events.PayloadOf(number + line));
            body.Write("}"u8);
        }
        return [.. Head(gateway, "POST", lines == 1 ? "/v1/append" : "/internal/v1/append", module, body.WrittenSpan.ToArray(), now), .. body.WrittenSpan];
    }

    /// <summary>Sends a request; true where it was answered with 200 and all of its lines were taken.</summary>
    public async Task<bool> SendAsync(ReadOnlyMemory<byte> request) => await AnswerAsync(request) is { } answer && answer.AsSpan().IndexOf("\"refused\":{"u8) < 0;

    /// <summary>Reads something; the body, or null where the answer was not 200.</summary>
    public Task<byte[]?> GetAsync(string path, string? module) => AnswerAsync(Head(gateway, "GET", path, module, [], DateTimeOffset.FromUnixTimeSeconds(Now)));

    public void Dispose() => _socket?.Dispose();

    /// <summary>The time, for assertions.</summary>
    public static long Now => TimeProvider.System.GetUtcNow().ToUnixTimeSeconds();

    private static byte[] Head(SigningKey gateway, string method, string path, string? module, byte[] body, DateTimeOffset now)
    {
        var isRead = method == "GET";
        var assertion = new Assertion
        {
            Iss = "gateway",
            Aud = Foundry.Ledger.Ledger.Part,
            Iat = now.ToUnixTimeSeconds(),
            Exp = now.ToUnixTimeSeconds() + 30,
            Jti = Guid.CreateVersion7(now).ToString("N"),
            Use = isRead ? Assertion.ReadUse : Assertion.WriteUse,
            Htm = isRead ? null : method,
            Htu = isRead ? null : path,
            Bh = isRead ? null : Assertion.BodyHash(body),
            Own = true,
        }.Sign(gateway);
        return Encoding.ASCII.GetBytes(string.Create(CultureInfo.InvariantCulture, $"{method} {path} HTTP/1.1\r\nHost: ledger\r\n")
            + (module is null ? "" : $"{FoundryHeaders.ModuleId}: {module}\r\n") + $"{FoundryHeaders.Assertion}: {assertion}\r\n"
            + (isRead ? "\r\n" : string.Create(CultureInfo.InvariantCulture, $"Content-Type: application/json\r\nContent-Length: {body.Length}\r\n\r\n")));
    }

    private async Task<byte[]?> AnswerAsync(ReadOnlyMemory<byte> request)
    {
        if (_socket is null)
        {
            _socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
            try
            {
                await _socket.ConnectAsync(IPAddress.Loopback, port);
            }
            catch (SocketException)
            {
                _socket.Dispose();
                _socket = null;
                throw;
            }
        }
        await _socket.SendAsync(request);
        var answer = new List<byte>();
        while (true)
        {
            var read = await _socket.ReceiveAsync(_buffer);
            if (read == 0)
                throw new IOException("The ledger hung up.");
            // The usual answer comes in one piece.
            if (answer.Count == 0 && TryBody(_buffer.AsSpan(0, read), out var whole))
                return whole;
            answer.AddRange(_buffer.AsSpan(0, read));
            if (TryBody(System.Runtime.InteropServices.CollectionsMarshal.AsSpan(answer), out whole))
                return whole;
        }
    }

    // False where there is more to come; null where the status is not 200.
    private static bool TryBody(ReadOnlySpan<byte> answer, out byte[]? body)
    {
        body = null;
        var end = answer.IndexOf("\r\n\r\n"u8);
        if (end < 0)
            return false;
        var rest = answer[(end + 4)..];
        var at = answer[..end].IndexOf("Content-Length: "u8);
        if (at >= 0)
        {
            var number = answer[(at + "Content-Length: ".Length)..];
            if (rest.Length < int.Parse(number[..number.IndexOf((byte)'\r')], CultureInfo.InvariantCulture))
                return false;
        }
        else if (!answer.EndsWith("\r\n0\r\n\r\n"u8))
        {
            return false;
        }
        if (answer.StartsWith("HTTP/1.1 200"u8))
            body = rest.ToArray();
        return true;
    }
}
