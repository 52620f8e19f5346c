using System.Buffers;
using System.Globalization;
using System.Text.Json;
using Foundry.Ledger.Append;
using Foundry.Ledger.Storage;
using Foundry.Proofs;

namespace Foundry.Ledger.Read;

/// <summary>A page of entries, found and put together.</summary>
/// <param name="Found">The entries, with their cursors.</param>
/// <param name="Next">Where to go on: behind the last entry given, or behind all that were looked at. It does not move once there is nothing more.</param>
internal sealed record EntryPage(IReadOnlyList<(long Cursor, Entry Entry)> Found, long Next)
{
    /// <summary>Payload bytes after which a page of <c>GET /v1/entries</c> ends, however many entries were asked for.</summary>
    public const int BytesMax = 4 * 1024 * 1024;

    /// <summary>Entries that are read for one page although they are not in it. Short of them the page ends early, and the next goes on there.</summary>
    public const int LooksMax = 10_000;

    /// <summary>So few entries are looked at one by one: sooner done than the index is opened.</summary>
    private const int ScanMax = Tile.WidthMax;

    private const string TimeFormat = "yyyy-MM-dd'T'HH:mm:ss.fff'Z'";

    /// <summary>Finds a page.</summary>
    /// <param name="log">The log.</param>
    /// <param name="query">What is asked for.</param>
    /// <param name="bytesMax">Payload bytes after which the page ends.</param>
    public static async Task<EntryPage> FindAsync(LogShelf.OpenLog log, EntryQuery query, int bytesMax)
    {
        // Asked for before the search: what is committed after it is the next page's.
        var end = log.State.Size;
        if (query.Since >= end)
            return new EntryPage([], query.Since);
        if (query.Fields.Count == 0)
            return await log.ReadAsync(state => Take(Scan(state, query.Since, Math.Min(end, query.Since + query.Limit)), query, bytesMax, end));
        if (end - query.Since <= ScanMax)
            return await log.ReadAsync(state => Take(Scan(state, query.Since, end), query, bytesMax, end));
        return await log.ReadAsync(state =>
        {
            using var index = log.OpenTerms();
            var search = new EntrySearch(index.Cursors, query.Fields);
            var page = Take(Candidates(state, search, query.Since, end), query, bytesMax, end);
            // The search may have given up before the end, and the page before the search.
            return page.Next == end ? page with { Next = Math.Min(search.LookedTo, end) } : page;
        });
    }

    /// <summary>The page as <c>GET /v1/entries</c> answers it.</summary>
    public ReadOnlyMemory<byte> ToJson(ModuleId module)
    {
        var page = new ArrayBufferWriter<byte>();
        using var json = new Utf8JsonWriter(page);
        json.WriteStartObject();
        json.WriteString("module_id", module.Name);
        json.WriteNumber("next_cursor", Next);
        json.WriteStartArray("entries");
        foreach (var (cursor, entry) in Found)
            WriteEntry(json, cursor, entry, entry.Payload.Span);
        json.WriteEndArray();
        json.WriteEndObject();
        json.Flush();
        return page.WrittenMemory;
    }

    /// <summary>One entry as readers get it.</summary>
    /// <param name="json">Where to.</param>
    /// <param name="cursor">Its cursor.</param>
    /// <param name="entry">The entry.</param>
    /// <param name="payload">Its payload: the bytes as they were sent, which were checked to be JSON before they were appended.</param>
    public static void WriteEntry(Utf8JsonWriter json, long cursor, Entry entry, ReadOnlySpan<byte> payload)
    {
        json.WriteStartObject();
        json.WriteNumber("cursor", cursor);
        json.WriteString("payload_id", entry.PayloadId);
        json.WriteString("writer", entry.Writer);
        json.WriteString("time", entry.Time.UtcDateTime.ToString(TimeFormat, CultureInfo.InvariantCulture));
        json.WritePropertyName("payload");
        json.WriteRawValue(payload, skipInputValidation: true);
        json.WriteEndObject();
    }

    private static IEnumerable<(long Cursor, Entry Entry)> Scan(LogState state, long since, long end) =>
        LogReader.Entries(state, since, end).Select((entry, i) => (since + i + 1, entry));

    // Those of one bundle are read together.
    private static IEnumerable<(long Cursor, Entry Entry)> Candidates(LogState state, EntrySearch search, long since, long end)
    {
        var ahead = search.Next(since, end);
        while (ahead is { } first)
        {
            var together = new List<long>();
            var bundleEnd = (((first - 1) / Tile.WidthMax) + 1) * Tile.WidthMax;
            for (; ahead <= bundleEnd; ahead = search.Next(ahead.Value, end))
                together.Add(ahead.Value);
            var wanted = together.ToHashSet();
            foreach (var one in Scan(state, first - 1, together[^1]).Where(one => wanted.Contains(one.Cursor)))
                yield return one;
        }
    }

    private static EntryPage Take(IEnumerable<(long Cursor, Entry Entry)> entries, EntryQuery query, int bytesMax, long end)
    {
        var found = new List<(long, Entry)>();
        var (bytes, looks) = (0, 0);
        foreach (var (cursor, entry) in entries)
        {
            if (query.Fields.Count == 0 || EntryTerms.Matches(entry.Payload, query.Fields))
            {
                found.Add((cursor, entry));
                bytes += entry.Payload.Length;
            }
            else
            {
                looks++;
            }
            if (found.Count == query.Limit || bytes >= bytesMax || looks == LooksMax)
                return new EntryPage(found, cursor);
        }
        return new EntryPage(found, end);
    }
}
