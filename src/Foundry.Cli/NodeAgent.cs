using System.Buffers;
using System.Diagnostics.CodeAnalysis;
using System.Security.Cryptography;
using System.Text.Encodings.Web;
using System.Text.Json;

namespace Foundry.Cli;

/// <summary>How a node presents itself.</summary>
internal sealed record NodeIdentity(string NodeId, string WgIp, string Hostname, bool Reserved);

/// <summary>
/// A node's agent: says every few seconds what the machine has and which VMs run on it, and takes up what the fleet assigns.
/// It survives everything that time can mend (CONTRACT sections 3 and 6): whatever goes wrong in between, its VMs stay its VMs.
/// </summary>
internal sealed class NodeAgent(
    GatewayClient gateway, TokenSource token, Machine machine, NodeIdentity identity, TimeSpan interval, TimeProvider time, Output output)
{
    public static readonly TimeSpan IntervalMin = TimeSpan.FromSeconds(0.5);
    public static readonly TimeSpan IntervalMax = TimeSpan.FromSeconds(60);
    public static readonly TimeSpan IntervalDefault = TimeSpan.FromSeconds(10);
    /// <summary>The first pause after a failure, at most.</summary>
    public static readonly TimeSpan BackOffMin = TimeSpan.FromSeconds(1);
    /// <summary>The longest pause after many; well below the 30 s after which a node is stale.</summary>
    public static readonly TimeSpan BackOffMax = TimeSpan.FromSeconds(10);

    private static readonly JsonDocumentOptions Strict = new() { AllowDuplicateProperties = false, MaxDepth = 32 };
    private static readonly JsonWriterOptions Relaxed = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    private readonly HeldVms _vms = new();
    private MachineReading? _lastReading;
    private bool _enrolled;
    private int _failures;
    private string? _lastFailure;

    /// <summary>Beats until told to stop, or until the token is at its end.</summary>
    /// <param name="once">Beat once, and return what came of it.</param>
    /// <param name="cancellationToken">Ends it, cleanly: the exit code is 0.</param>
    public async Task<int> RunAsync(bool once, CancellationToken cancellationToken)
    {
        try
        {
            while (true)
            {
                token.Refresh();
                // What is there to say?
                if (!TryCompose(out var heartbeat, out var complaint))
                    return output.Failed(complaint.Value);
                // What does the fleet answer?
                var answer = await gateway.HeartbeatAsync(heartbeat, cancellationToken);
                var accepted = TryTake(answer, out var pause);
                if (once)
                    return accepted ? ExitCode.Done : output.Refused(answer.IsAccepted ? Unusable(answer) : answer);
                // Can waiting mend it?
                if (!accepted && IsFinal(answer) && !token.Refresh())
                {
                    output.Explain(answer);
                    output.Note(_enrolled ? $"stopped; {_vms.Count} VMs are no longer reported" : "stopped: the node was not accepted");
                    return ExitCode.Failed;
                }
                if (!accepted)
                    Tell(answer, pause);
                // When is the next one due?
                await Task.Delay(pause, time, cancellationToken);
            }
        }
        catch (OperationCanceledException) when (cancellationToken.IsCancellationRequested)
        {
            output.Note("stopped");
            return ExitCode.Done;
        }
    }

    private bool TryCompose([NotNullWhen(true)] out byte[]? heartbeat, [NotNullWhen(false)] out Complaint? complaint)
    {
        heartbeat = null;
        // A reading that fails later is no reason to fall silent: the last one will do.
        if (!machine.TryRead(out var reading, out complaint) && (reading = _lastReading) is null)
            return false;
        complaint = null;
        _lastReading = reading;
        var bytes = new ArrayBufferWriter<byte>();
        using (var writer = new Utf8JsonWriter(bytes, Relaxed))
        {
            writer.WriteStartObject();
            writer.WriteString("node_id", identity.NodeId);
            writer.WriteString("wg_ip", identity.WgIp);
            writer.WriteString("hostname", identity.Hostname);
            writer.WriteNumber("ram_total_mb", reading.RamTotalMb);
            writer.WriteNumber("ram_used_mb", reading.RamUsedMb);
            writer.WriteNumber("cpu_cores", reading.CpuCores);
            writer.WriteNumber("cpu_load_pct", reading.CpuLoadPct);
            writer.WriteBoolean("kvm_available", reading.KvmAvailable);
            writer.WriteBoolean("reserved", identity.Reserved);
            writer.WritePropertyName("vms");
            _vms.WriteTo(writer);
            writer.WriteString("boot_id", reading.BootId);
            writer.WriteString("timestamp_utc", HeldVms.Nanoseconds(time.GetUtcNow()));
            writer.WriteEndObject();
        }
        heartbeat = bytes.WrittenSpan.ToArray();
        return true;
    }

    private bool TryTake(Answer answer, out TimeSpan pause)
    {
        if (!answer.IsAccepted || !TryParse(answer.Body, out var body))
        {
            pause = BackOff(answer.RetryAfter);
            _failures++;
            return false;
        }
        using (body)
        {
            if (!_vms.TryAssign(body.RootElement, time.GetUtcNow(), out var change, out var complaint))
                output.Note($"the fleet's list of VMs was left alone: {complaint}");
            pause = NextHeartbeat(body.RootElement);
            TellAccepted(answer, change.Taken, change.Dropped);
        }
        _enrolled = true;
        _failures = 0;
        _lastFailure = null;
        return true;
    }

    private static bool TryParse(byte[] body, [NotNullWhen(true)] out JsonDocument? parsed)
    {
        parsed = null;
        try
        {
            var document = JsonDocument.Parse(body, Strict);
            if (document.RootElement.ValueKind == JsonValueKind.Object)
            {
                parsed = document;
                return true;
            }
            document.Dispose();
            return false;
        }
        catch (JsonException)
        {
            return false;
        }
    }

    /// <summary>Whether no amount of waiting helps: the token is at its end, or the node was never let in.</summary>
    private bool IsFinal(Answer answer) => answer.Problem switch
    {
        null => false,
        { Reason: "expired" or "revoked" or "missing" or "malformed" or "unsupported_algorithm" } => true,
        // Once in, a refusal may be an operator's mistake that gets mended; at the door it is the answer.
        _ => !_enrolled && answer.Status is >= 400 and < 500 and not (408 or 425 or 429),
    };

    private TimeSpan NextHeartbeat(JsonElement body) =>
        body.TryGetProperty("next_heartbeat_s", out var next) && next.ValueKind == JsonValueKind.Number && next.TryGetDouble(out var seconds) && double.IsFinite(seconds)
            ? TimeSpan.FromSeconds(Math.Clamp(seconds, IntervalMin.TotalSeconds, IntervalMax.TotalSeconds))
            : interval;

    /// <summary>
    /// Doubles from <see cref="BackOffMin"/> to <see cref="BackOffMax"/>, half of it by chance, so that the nodes of a gateway
    /// that comes back do not come back all at once. Never sooner than the server asks, within <see cref="IntervalMax"/>.
    /// </summary>
    private TimeSpan BackOff(TimeSpan? retryAfter)
    {
        var whole = Math.Min(BackOffMax.TotalMilliseconds, BackOffMin.TotalMilliseconds * (1 << Math.Min(_failures, 10)));
        var pause = TimeSpan.FromMilliseconds((whole / 2) + RandomNumberGenerator.GetInt32((int)(whole / 2) + 1));
        var asked = retryAfter is { } wait ? TimeSpan.FromTicks(Math.Clamp(wait.Ticks, 0, IntervalMax.Ticks)) : TimeSpan.Zero;
        return pause > asked ? pause : asked;
    }

    private static Answer Unusable(Answer answer) => answer with { Failure = "the answer to the heartbeat makes no sense" };

    // Each failure is told once, not every few seconds, and so is its end.
    private void Tell(Answer answer, TimeSpan pause)
    {
        var shown = answer.IsAccepted ? Unusable(answer) : answer;
        var failure = $"{shown.Problem?.Code} {shown.Problem?.Reason} {shown.Failure}";
        if (failure == _lastFailure)
            return;
        _lastFailure = failure;
        output.Explain(shown);
        output.Note($"keeping {_vms.Count} VMs and trying again, next in {pause.TotalSeconds:0.0} s");
    }

    private void TellAccepted(Answer answer, IReadOnlyList<string> taken, IReadOnlyList<string> dropped)
    {
        if (!_enrolled)
            output.Note($"node {identity.NodeId} is known to the fleet");
        else if (_failures > 0)
            output.Note($"accepted again after {_failures} failed heartbeats");
        foreach (var vm in taken)
            output.Note($"taken up: {vm}");
        foreach (var vm in dropped)
            output.Note($"dropped: {vm}");
        if (output.AsJson)
            output.Json(answer.Body);
    }
}
