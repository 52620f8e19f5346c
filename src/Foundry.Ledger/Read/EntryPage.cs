using System.Buffers;
using System.Globalization;
using System.Text.Json;
using Foundry.Ledger.Append;
using Foundry.Ledger.Storage;

namespace Foundry.Ledger.Read;

/// <summary>A page of entries, found and put together.</summary>
internal static class EntryPage
{
    /// <summary>Payload bytes after which a page ends, however many entries were asked for.</summary>
    public const int BytesMax = 4 * 1024 * 1024;

    private const string TimeFormat = "yyyy-MM-dd'T'HH:mm:ss.fff'Z'";

    /// <summary>The answer of <c>GET /v1/entries</c>. <c>next_cursor</c> is where to go on: behind the last entry given, or behind all that were looked at.</summary>
    public static ReadOnlyMemory<byte> Read(LogShelf.OpenLog log, EntryQuery query)
    {
        // Asked for before the search: what is committed after it is the next page's.
        var end = log.State.Size;
        var (found, next) = query.Fields.Count == 0 ? All(log, query, end) : Matching(log, query, end);
        return Write(log.Module, Math.Max(next, query.Since), found);
    }

    /// <summary>The page of a log that does not exist yet.</summary>
    public static ReadOnlyMemory<byte> Empty(ModuleId module, EntryQuery query) => Write(module, query.Since, []);

    private static (List<(long, Entry)> Found, long Next) All(LogShelf.OpenLog log, EntryQuery query, long end) =>
        log.Read(state =>
        {
            var last = Math.Min(end, query.Since > end ? 0 : query.Since + query.Limit);
            return Take(LogReader.Entries(state, query.Since, last).Select((entry, i) => (query.Since + i + 1, entry)), query.Limit, end);
        });

    private static (List<(long, Entry)> Found, long Next) Matching(LogShelf.OpenLog log, EntryQuery query, long end) =>
        log.Read(state => Take(Candidates(log, query, end)
            .Select(cursor => (cursor, LogReader.Entry(state, cursor - 1)))
            .Where(one => EntryIndex.Matches(one.Item2.Payload, query.Fields)), query.Limit, end));

    private static IEnumerable<long> Candidates(LogShelf.OpenLog log, EntryQuery query, long end)
    {
        var since = query.Since;
        while (true)
        {
            var cursors = log.Search(query.Fields, since, query.Limit);
            foreach (var cursor in cursors.TakeWhile(cursor => cursor <= end))
                yield return cursor;
            if (cursors.Count < query.Limit || cursors[^1] > end)
                yield break;
            since = cursors[^1];
        }
    }

    private static (List<(long, Entry)> Found, long Next) Take(IEnumerable<(long Cursor, Entry Entry)> entries, int limit, long end)
    {
        var found = new List<(long, Entry)>();
        var bytes = 0;
        foreach (var (cursor, entry) in entries)
        {
            found.Add((cursor, entry));
            bytes += entry.Payload.Length;
            if (found.Count == limit || bytes >= BytesMax)
                return (found, cursor);
        }
        return (found, end);
    }

    private static ReadOnlyMemory<byte> Write(ModuleId module, long next, List<(long Cursor, Entry Entry)> found)
    {
        var page = new ArrayBufferWriter<byte>();
        using var json = new Utf8JsonWriter(page);
        json.WriteStartObject();
        json.WriteString("module_id", module.Name);
        json.WriteNumber("next_cursor", next);
        json.WriteStartArray("entries");
        foreach (var (cursor, entry) in found)
        {
            json.WriteStartObject();
            json.WriteNumber("cursor", cursor);
            json.WriteString("payload_id", entry.PayloadId);
            json.WriteString("writer", entry.Writer);
            json.WriteString("time", entry.Time.UtcDateTime.ToString(TimeFormat, CultureInfo.InvariantCulture));
            json.WritePropertyName("payload");
            // Its bytes as they were sent; they were checked to be JSON before they were appended.
            json.WriteRawValue(entry.Payload.Span, skipInputValidation: true);
            json.WriteEndObject();
        }
        json.WriteEndArray();
        json.WriteEndObject();
        json.Flush();
        return page.WrittenMemory;
    }
}
