using System.Buffers;
using System.Globalization;
using System.IO.Pipelines;
using System.Text;
using System.Text.Json;
using Foundry.Ledger.Storage;

namespace Foundry.Ledger.Read;

/// <summary>
/// One follower of a log. It reads a small page, hands it to the connection, and reads on when the connection has taken it: a
/// slow reader holds a page, never a queue.
/// </summary>
internal sealed class Tail(PipeWriter output, LogShelf shelf, ModuleId module, EntryQuery query, bool asEvents, LedgerOptions options, TimeProvider time)
{
    /// <summary>Entries in a page.</summary>
    private const int PageEntries = 256;

    /// <summary>Payload bytes after which a page ends.</summary>
    private const int PageBytes = 64 * 1024;

    /// <summary>How often a log is looked for that does not exist yet; there is nobody who would say.</summary>
    private static readonly TimeSpan _lookInterval = TimeSpan.FromMilliseconds(50);

    /// <summary>How often a log is asked for that other processes append to as well.</summary>
    private static readonly TimeSpan _sharedInterval = TimeSpan.FromMilliseconds(250);

    private long _lastSent;

    /// <summary>Serves until cancelled.</summary>
    /// <param name="since">The cursor behind which to begin; null begins with what is to come.</param>
    /// <param name="ending">Ends it.</param>
    public async Task RunAsync(long? since, CancellationToken ending)
    {
        var log = await shelf.TryOpenAsync(module);
        if (log is null)
        {
            await HeartbeatAsync(since ?? 0, ending);
            log = await WaitForLogAsync(since ?? 0, ending);
            since ??= 0;
        }
        using (log)
        {
            var at = since ?? log.State.Size;
            await HeartbeatAsync(at, ending);
            while (true)
            {
                // Asked for before looking: what is committed from here on ends it.
                var grown = log.Grown;
                var page = await EntryPage.FindAsync(log, query with { Since = at, Limit = PageEntries }, PageBytes);
                // What is written from here on would be sent, however late it was found.
                ending.ThrowIfCancellationRequested();
                foreach (var (cursor, entry) in page.Found)
                    Write(cursor, json => EntryPage.WriteEntry(json, cursor, entry, OnOneLine(entry.Payload)));
                if (page.Found.Count > 0)
                    await FlushAsync(ending);
                var hasMoved = page.Next > at;
                at = page.Next;
                if (!hasMoved)
                    await WaitAsync(log, grown, ending);
                if (time.GetElapsedTime(_lastSent) >= options.TailHeartbeat)
                    await HeartbeatAsync(at, ending);
            }
        }
    }

    private async Task<LogShelf.OpenLog> WaitForLogAsync(long since, CancellationToken ending)
    {
        LogShelf.OpenLog? log;
        while ((log = await shelf.TryOpenAsync(module)) is null)
        {
            await Task.Delay(_lookInterval, time, ending);
            if (time.GetElapsedTime(_lastSent) >= options.TailHeartbeat)
                await HeartbeatAsync(since, ending);
        }
        return log;
    }

    private async Task WaitAsync(LogShelf.OpenLog log, Task grown, CancellationToken ending)
    {
        var left = options.TailHeartbeat - time.GetElapsedTime(_lastSent);
        if (left <= TimeSpan.Zero)
            return;
        // Nobody says here what another process commits.
        if (log.IsShared && left > _sharedInterval)
            left = _sharedInterval;
        using var wait = CancellationTokenSource.CreateLinkedTokenSource(ending);
        await Task.WhenAny(grown, Task.Delay(left, time, wait.Token));
        await wait.CancelAsync();
        ending.ThrowIfCancellationRequested();
        if (log.IsShared)
            await log.RefreshAsync();
    }

    private async Task HeartbeatAsync(long next, CancellationToken ending)
    {
        ending.ThrowIfCancellationRequested();
        if (asEvents)
            // An event without data is given to nobody, but its ID is kept for Last-Event-ID.
            Encoding.ASCII.GetBytes(string.Create(CultureInfo.InvariantCulture, $":\nid: {next}\n\n"), output);
        else
            Write(next, json =>
            {
                json.WriteStartObject();
                json.WriteNumber("next_cursor", next);
                json.WriteEndObject();
            });
        await FlushAsync(ending);
    }

    private void Write(long cursor, Action<Utf8JsonWriter> write)
    {
        if (asEvents)
            Encoding.ASCII.GetBytes(string.Create(CultureInfo.InvariantCulture, $"id: {cursor}\ndata: "), output);
        using (var json = new Utf8JsonWriter(output))
            write(json);
        output.Write(asEvents ? "\n\n"u8 : "\n"u8);
    }

    private async Task FlushAsync(CancellationToken ending)
    {
        // Where the reader is slow, this is where its follower waits.
        await output.FlushAsync(ending);
        _lastSent = time.GetTimestamp();
    }

    // In JSON a line break is either between tokens, where it means nothing, or escaped.
    private static ReadOnlySpan<byte> OnOneLine(ReadOnlyMemory<byte> payload)
    {
        if (payload.Span.IndexOfAny((byte)'\n', (byte)'\r') < 0)
            return payload.Span;
        var line = payload.ToArray();
        line.AsSpan().Replace((byte)'\n', (byte)' ');
        line.AsSpan().Replace((byte)'\r', (byte)' ');
        return line;
    }
}
