// docs/formats/ledger.md, "Index, version 3".

using System.Buffers.Binary;
using System.Diagnostics.CodeAnalysis;
using System.Runtime.InteropServices;
using System.Text;
using Microsoft.Win32.SafeHandles;

namespace Foundry.Ledger.Storage;

/// <summary>
/// A run as a file, written once: the rows, a filter over the payload IDs among them, and a footer. The filter is held in memory, so that
/// an ID that is new, which almost all are, costs no reading.
/// </summary>
internal sealed class TermFile : TermRun, IDisposable
{
    private const int FooterBytes = 48;
    private const int BufferRows = 16 * 1024;
    private const int FilterBitsPerEntry = 12;
    private const int FilterHashes = 6;
    private const int WordBits = 64;
    private static readonly byte[] _magic = Encoding.ASCII.GetBytes("foundry-index-v3");

    private readonly SafeFileHandle _file;
    private readonly ulong[] _filter;

    private TermFile(string path, SafeFileHandle file, Footer footer, ulong[] filter) : base(footer.First, footer.End, footer.Rows) =>
        (Path, _file, _filter) = (path, file, filter);

    /// <summary>Where it is.</summary>
    public string Path { get; }

    /// <summary>Bytes of the file.</summary>
    public long Bytes => (long)Rows * TermRow.Bytes + _filter.Length * sizeof(ulong) + FooterBytes;

    /// <summary>Whether one of its entries may have this payload ID.</summary>
    public bool MayHaveId(ulong id)
    {
        for (var i = 0u; i < FilterHashes; i++)
        {
            var bit = BitOf(id, i, _filter.Length);
            if ((_filter[bit / WordBits] & (1UL << (int)(bit % WordBits))) == 0)
                return false;
        }
        return true;
    }

    /// <inheritdoc/>
    public override void Read(int at, Span<TermRow> rows)
    {
        if (!Disk.TryReadAll(_file, MemoryMarshal.AsBytes(rows), (long)at * TermRow.Bytes))
            throw new IOException($"{Path} could not be read back.");
    }

    /// <summary>Writes runs that follow each other as one file, which is durable once this returns, but for its name.</summary>
    public static void Write(Disk disk, string path, IReadOnlyList<TermRun> runs)
    {
        var (first, end) = (runs[0].First, runs[^1].End);
        var filter = new ulong[((end - first) * FilterBitsPerEntry + WordBits - 1) / WordBits];
        using var file = new Writer(disk, path);
        var merge = runs.Select(run => new Head(run, (uint)(run.First - first))).ToList();
        var rows = 0;
        var last = new TermRow(0, uint.MaxValue);
        while (merge.Count > 0)
        {
            var least = merge[0];
            for (var i = 1; i < merge.Count; i++)
            {
                // Of equal terms the earlier run's come first.
                if (merge[i].Row.Term < least.Row.Term)
                    least = merge[i];
            }
            var row = least.Row;
            if (!least.TryMove())
                merge.Remove(least);
            if (row == last)
                continue;
            last = row;
            file.Add(row);
            rows++;
            if ((row.Term & 1) == 0)
                continue;
            for (var i = 0u; i < FilterHashes; i++)
            {
                var bit = BitOf(row.Term, i, filter.Length);
                filter[bit / WordBits] |= 1UL << (int)(bit % WordBits);
            }
        }
        file.End(filter, first, end, rows);
    }

    /// <summary>Opens one; false where it is not whole as far as its footer and length say.</summary>
    public static bool TryOpen(Disk disk, string path, [NotNullWhen(true)] out TermFile? run)
    {
        run = null;
        var file = disk.Open(path);
        try
        {
            if (!TryReadFooter(file, out var footer))
                return false;
            var filter = new ulong[footer.FilterBytes / sizeof(ulong)];
            if (!Disk.TryReadAll(file, MemoryMarshal.AsBytes(filter.AsSpan()), (long)footer.Rows * TermRow.Bytes))
                return false;
            run = new TermFile(path, file, footer, filter);
            return true;
        }
        finally
        {
            if (run is null)
                file.Dispose();
        }
    }

    /// <summary>Whether every byte of a file is as it was written. Reads all of it.</summary>
    public static bool IsWhole(string path, CancellationToken cancellation)
    {
        using var file = File.OpenHandle(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
        if (!TryReadFooter(file, out var footer))
            return false;
        var buffer = new byte[BufferRows * TermRow.Bytes];
        var crc = 0u;
        var bytes = (long)footer.Rows * TermRow.Bytes + footer.FilterBytes;
        for (var at = 0L; at < bytes;)
        {
            cancellation.ThrowIfCancellationRequested();
            var part = buffer.AsSpan(0, (int)Math.Min(buffer.Length, bytes - at));
            if (!Disk.TryReadAll(file, part, at))
                return false;
            crc = Crc32C.Of(part, crc);
            at += part.Length;
        }
        return crc == footer.BodyChecksum;
    }

    /// <inheritdoc/>
    public void Dispose() => _file.Dispose();

    // Terms are hashes: their bits are as good as any other hash of them.
    private static long BitOf(ulong id, uint number, int words) =>
        (long)(((ulong)((uint)(id >> 1) + number * ((uint)(id >> 33) | 1)) * (ulong)words * WordBits) >> 32);

    private readonly record struct Footer(long First, long End, int Rows, int FilterBytes, uint BodyChecksum);

    private static bool TryReadFooter(SafeFileHandle file, out Footer footer)
    {
        footer = default;
        var length = RandomAccess.GetLength(file);
        Span<byte> bytes = stackalloc byte[FooterBytes];
        if (length < FooterBytes || !Disk.TryReadAll(file, bytes, length - FooterBytes)
            || !bytes[..16].SequenceEqual(_magic) || BinaryPrimitives.ReadUInt32BigEndian(bytes[44..]) != Crc32C.Of(bytes[..44]))
            return false;
        footer = new Footer(BinaryPrimitives.ReadInt64BigEndian(bytes[16..]), BinaryPrimitives.ReadInt64BigEndian(bytes[24..]),
            BinaryPrimitives.ReadInt32BigEndian(bytes[32..]), BinaryPrimitives.ReadInt32BigEndian(bytes[36..]), BinaryPrimitives.ReadUInt32BigEndian(bytes[40..]));
        return (long)footer.Rows * TermRow.Bytes + footer.FilterBytes + FooterBytes == length;
    }

    /// <summary>Where a merge is in one of its runs.</summary>
    private sealed class Head
    {
        private readonly TermRun _run;
        private readonly uint _shift;
        private readonly TermRow[] _block;
        private int _read;
        private int _at;

        public Head(TermRun run, uint shift)
        {
            (_run, _shift) = (run, shift);
            _block = new TermRow[Math.Min(BufferRows, run.Rows)];
            TryMove();
        }

        /// <summary>The row it is at.</summary>
        public TermRow Row { get; private set; }

        /// <summary>Goes to the next row; false where there is none.</summary>
        public bool TryMove()
        {
            if (_at == _run.Rows)
                return false;
            if (_at == _read)
            {
                var part = _block.AsSpan(0, Math.Min(_block.Length, _run.Rows - _at));
                _run.Read(_at, part);
                _read += part.Length;
            }
            var row = _block[_at++ % _block.Length];
            Row = row with { Offset = row.Offset + _shift };
            return true;
        }
    }

    /// <summary>The file while it is made, under a temporary name.</summary>
    private sealed class Writer(Disk disk, string path) : IDisposable
    {
        private readonly SafeFileHandle _file = disk.Create(path + Disk.TemporarySuffix);
        private readonly TermRow[] _buffer = new TermRow[BufferRows];
        private int _buffered;
        private long _written;
        private uint _crc;

        public void Add(TermRow row)
        {
            _buffer[_buffered++] = row;
            if (_buffered == _buffer.Length)
                Flush();
        }

        public void End(ulong[] filter, long first, long end, int rows)
        {
            Flush();
            var filterBytes = MemoryMarshal.AsBytes(filter.AsSpan());
            Write(filterBytes);
            var footer = new byte[FooterBytes];
            _magic.CopyTo(footer, 0);
            BinaryPrimitives.WriteInt64BigEndian(footer.AsSpan(16), first);
            BinaryPrimitives.WriteInt64BigEndian(footer.AsSpan(24), end);
            BinaryPrimitives.WriteInt32BigEndian(footer.AsSpan(32), rows);
            BinaryPrimitives.WriteInt32BigEndian(footer.AsSpan(36), filterBytes.Length);
            BinaryPrimitives.WriteUInt32BigEndian(footer.AsSpan(40), _crc);
            BinaryPrimitives.WriteUInt32BigEndian(footer.AsSpan(44), Crc32C.Of(footer.AsSpan(0, 44)));
            Write(footer);
            disk.Flush(_file);
            _file.Dispose();
            disk.Rename(path + Disk.TemporarySuffix, path);
        }

        public void Dispose() => _file.Dispose();

        private void Flush()
        {
            if (_buffered > 0)
                Write(MemoryMarshal.AsBytes(_buffer.AsSpan(0, _buffered)));
            _buffered = 0;
        }

        private void Write(ReadOnlySpan<byte> bytes)
        {
            disk.Write(_file, bytes, _written);
            _written += bytes.Length;
            _crc = Crc32C.Of(bytes, _crc);
        }
    }
}
