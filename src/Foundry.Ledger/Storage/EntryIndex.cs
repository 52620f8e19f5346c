// docs/formats/ledger.md, "Index, version 3".

using System.Buffers.Binary;
using System.Globalization;
using Microsoft.Win32.SafeHandles;

namespace Foundry.Ledger.Storage;

/// <summary>
/// Finds entries by their terms (<see cref="EntryTerms"/>). It holds hashes and cursors, never content, and is never believed: whatever
/// it finds is read from the log and compared. What is committed is in it at once, in memory; <see cref="Settle"/>, beside appends, turns
/// that into sorted files, and few large files out of many small ones. Files are written once and whole. What no file has yet is made again
/// from the entries when the log is next opened, as is a file that is damaged or gone.
/// </summary>
internal sealed class EntryIndex : IDisposable
{
    /// <summary>Rows in one file: 200 MB. Larger ones would take too long to merge, and save nothing.</summary>
    private const int FileRowsMax = 1 << 24;

    /// <summary>So many files of much the same size become one.</summary>
    private const int FilesMerged = 4;

    /// <summary>Rows in memory, 50 MB, above which an append waits until they are a file.</summary>
    private const int MemoryRowsMax = 1 << 22;

    private const string FilePrefix = "index.";
    private const int SeenBytes = 12;

    private readonly Disk _disk;
    private readonly LogFolder _folder;
    private readonly int _rowsSettled;
    private readonly SafeFileHandle _seen;

    // Held while runs take others' places; those who look take what is there.
    private readonly Lock _gate = new();
    private readonly Lock _settling = new();
    private volatile TermRun[] _runs;

    // Payload IDs in memory; those that are becoming a file are apart.
    private volatile HashSet<ulong> _ids = [];
    private volatile HashSet<ulong> _idsSettling = [];
    private long _settlingEnd;
    private volatile bool _isSettling;

    private EntryIndex(Disk disk, LogFolder folder, int rowsSettled, TermRun[] runs, SafeFileHandle seen)
    {
        (_disk, _folder, _rowsSettled, _runs, _seen) = (disk, folder, rowsSettled, runs, seen);
        Size = runs.Length == 0 ? 0 : runs[^1].End;
    }

    /// <summary>Entries indexed.</summary>
    public long Size { get; private set; }

    /// <summary>Its files and how long they must be.</summary>
    public IEnumerable<(string Path, long Bytes)> Files => _runs.OfType<TermFile>().Select(file => (file.Path, file.Bytes)).Append((_folder.IndexSeen, SeenBytes));

    /// <summary>Whether there is nothing for <see cref="Settle"/> to do.</summary>
    public bool IsSettled => !_isSettling && RowsInMemory < _rowsSettled;

    /// <summary>Opens the index of a log, as far as there are files of it. What is behind them is the caller's to add.</summary>
    /// <param name="disk">The file system.</param>
    /// <param name="folder">The log.</param>
    /// <param name="rowsSettled">Rows in memory from which on they become a file.</param>
    public static EntryIndex Open(Disk disk, LogFolder folder, int rowsSettled)
    {
        var runs = new List<TermRun>();
        SafeFileHandle? seen = null;
        try
        {
            var files = FilesOf(folder).ToList();
            for (var at = 0L; files.Where(file => file.First == at).OrderByDescending(file => file.End).FirstOrDefault() is { Path: not null } file; files.Remove(file))
            {
                if (!TermFile.TryOpen(disk, file.Path, out var run) || (run.First, run.End) != (file.First, file.End))
                {
                    run?.Dispose();
                    break;
                }
                runs.Add(run);
                at = file.End;
            }
            // Merged into others a moment before the end, behind one that is gone, or never finished; or the previous version's.
            foreach (var path in files.Select(file => file.Path).Concat(((string[])[$"{FilePrefix}*{Disk.TemporarySuffix}", "index.db*"]).SelectMany(names => Directory.EnumerateFiles(folder.Path, names))))
                disk.Delete(path);
            if (!File.Exists(folder.IndexSeen))
                disk.Create(folder.IndexSeen).Dispose();
            seen = disk.Open(folder.IndexSeen);
            var index = new EntryIndex(disk, folder, rowsSettled, [.. runs], seen);
            if (RandomAccess.GetLength(seen) != SeenBytes)
                index.WriteSeen();
            return index;
        }
        catch
        {
            seen?.Dispose();
            runs.OfType<IDisposable>().ToList().ForEach(run => run.Dispose());
            throw;
        }
    }

    /// <summary>
    /// Entries that an index has seen; 0 where that cannot be read. It is written after the commit, so no log is ever smaller,
    /// unless something was taken from it.
    /// </summary>
    public static long SizeOf(LogFolder folder)
    {
        var size = FilesOf(folder).Select(file => file.End).DefaultIfEmpty().Max();
        if (!File.Exists(folder.IndexSeen) || File.ReadAllBytes(folder.IndexSeen) is not { Length: SeenBytes } seen
            || BinaryPrimitives.ReadUInt32BigEndian(seen.AsSpan(8)) != Crc32C.Of(seen.AsSpan(0, 8)))
            return size;
        return Math.Max(size, BinaryPrimitives.ReadInt64BigEndian(seen));
    }

    /// <summary>The files that are not as they were written. Reads them all; may run beside appends.</summary>
    public static IReadOnlyList<string> Damaged(LogFolder folder, CancellationToken cancellation)
    {
        var damaged = new List<string>();
        foreach (var (path, _, _) in FilesOf(folder))
        {
            try
            {
                if (!TermFile.IsWhole(path, cancellation))
                    damaged.Add(path);
            }
            catch (FileNotFoundException)
            {
                // Merged into another meanwhile.
            }
        }
        return damaged;
    }

    /// <summary>Adds the terms of entries, the payload ID's first. They follow those that are in it. In one owner's hands.</summary>
    public void Add(IReadOnlyList<long[]> entries)
    {
        var rows = new TermRow[entries.Sum(terms => terms.Length)];
        var at = 0;
        for (var i = 0; i < entries.Count; i++)
        {
            var terms = entries[i];
            rows[at++] = new TermRow(TermRow.OfId(terms[0]), (uint)i);
            for (var j = 1; j < terms.Length; j++)
                rows[at++] = new TermRow(TermRow.OfField(terms[j]), (uint)i);
        }
        var run = new MemoryRun(Size, Size + entries.Count, rows);
        lock (_gate)
        {
            foreach (var terms in entries)
                _ids.Add(TermRow.OfId(terms[0]));
            // Runs double, so that there are never many of them and no row is copied often.
            var kept = _runs.Length;
            for (; kept > 0 && _runs[kept - 1] is MemoryRun last && last.First >= _settlingEnd && last.Rows <= run.Rows; kept--)
                run = MemoryRun.Join(last, run);
            _runs = [.. _runs.AsSpan(0, kept), run];
        }
        Size = run.End;
        WriteSeen();
    }

    /// <summary>Whether so much is in memory alone that appends had better wait until it is not.</summary>
    public bool IsCrowded => RowsInMemory > MemoryRowsMax;

    /// <summary>The cursors of entries that may have a payload ID. In one owner's hands.</summary>
    public List<long>? FindId(long term)
    {
        var id = TermRow.OfId(term);
        List<long>? found = null;
        var mayBeInMemory = _ids.Contains(id) || _idsSettling.Contains(id);
        Look(run =>
        {
            if (run is TermFile file ? file.MayHaveId(id) : mayBeInMemory)
                run.Find(id, 0, int.MaxValue, found ??= []);
            return true;
        }, () => found = null);
        return found;
    }

    /// <summary>The first cursors of entries that may have a field's term, in order, from one on.</summary>
    public List<long> FindField(long term, long from, int limit)
    {
        var field = TermRow.OfField(term);
        var found = new List<long>();
        Look(run =>
        {
            run.Find(field, from, limit, found);
            return found.Count < limit;
        }, found.Clear);
        return found;
    }

    /// <summary>
    /// Makes a file of what is in memory, where that is worth it, and one file of several. Appends and searches go on meanwhile.
    /// </summary>
    public void Settle()
    {
        lock (_settling)
        {
            if (RowsInMemory < _rowsSettled)
                return;
            _isSettling = true;
            List<TermRun> memory;
            lock (_gate)
            {
                memory = [.. _runs.OfType<MemoryRun>()];
                _settlingEnd = memory[^1].End;
                (_idsSettling, _ids) = (_ids, []);
            }
            Replace(memory);
            _idsSettling = [];
            while (Mergeable() is { Count: > 0 } files)
            {
                Replace(files);
                // What they hold is durable under its new name, so none of them is missed.
                foreach (var file in files.Cast<TermFile>())
                {
                    file.Dispose();
                    _disk.Delete(file.Path);
                }
            }
            _isSettling = false;
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _seen.Dispose();
        foreach (var run in _runs.OfType<TermFile>())
            run.Dispose();
    }

    private void WriteSeen()
    {
        Span<byte> seen = stackalloc byte[SeenBytes];
        BinaryPrimitives.WriteInt64BigEndian(seen, Size);
        BinaryPrimitives.WriteUInt32BigEndian(seen[8..], Crc32C.Of(seen[..8]));
        _disk.Write(_seen, seen, 0);
    }

    private int RowsInMemory => _runs.OfType<MemoryRun>().Sum(run => run.Rows);

    // The longest tail of files, the oldest of which is no larger than the rest together, so that a row is copied as often as its log has grown fourfold.
    private List<TermRun> Mergeable()
    {
        var files = _runs.OfType<TermFile>().ToList<TermRun>();
        var best = 0;
        var rows = 0L;
        for (var count = 1; count <= files.Count && rows + files[^count].Rows <= FileRowsMax; count++)
        {
            if (count >= FilesMerged && files[^count].Rows <= rows)
                best = count;
            rows += files[^count].Rows;
        }
        return files[^best..];
    }

    private void Replace(List<TermRun> runs)
    {
        var (first, end) = (runs[0].First, runs[^1].End);
        var path = Path.Combine(_folder.Path, string.Create(CultureInfo.InvariantCulture, $"{FilePrefix}{first}-{end}"));
        TermFile.Write(_disk, path, runs);
        _disk.FlushFolder(_folder.Path);
        if (!TermFile.TryOpen(_disk, path, out var file))
            throw new IOException($"{path} could not be read back.");
        lock (_gate)
            _runs = [.. _runs.TakeWhile(run => run.End <= first), file, .. _runs.SkipWhile(run => run.End <= end)];
    }

    // Oldest first. A run that is let go of while somebody reads it has another in its place: all over again.
    private void Look(Func<TermRun, bool> look, Action begin)
    {
        while (true)
        {
            var runs = _runs;
            begin();
            try
            {
                foreach (var run in runs)
                {
                    if (!look(run))
                        return;
                }
                return;
            }
            catch (ObjectDisposedException) when (runs != _runs)
            {
            }
        }
    }

    private static IEnumerable<(string Path, long First, long End)> FilesOf(LogFolder folder)
    {
        foreach (var path in Directory.EnumerateFiles(folder.Path, $"{FilePrefix}*-*"))
        {
            var range = Path.GetFileName(path)[FilePrefix.Length..].Split('-');
            if (range.Length == 2 && long.TryParse(range[0], NumberStyles.None, CultureInfo.InvariantCulture, out var first)
                && long.TryParse(range[1], NumberStyles.None, CultureInfo.InvariantCulture, out var end) && first < end)
                yield return (path, first, end);
        }
    }
}
