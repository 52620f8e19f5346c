using System.Runtime.InteropServices;

namespace Foundry.Ledger.Storage;

/// <summary>One row of the index: an entry has a term.</summary>
/// <param name="Term">The term; its lowest bit says whether it is a payload ID's.</param>
/// <param name="Offset">Which entry of its run.</param>
[StructLayout(LayoutKind.Sequential, Pack = 4)]
internal readonly record struct TermRow(ulong Term, uint Offset) : IComparable<TermRow>
{
    /// <summary>Bytes of a row, in memory as in files.</summary>
    public const int Bytes = sizeof(ulong) + sizeof(uint);

    /// <summary>By term, then by entry.</summary>
    public int CompareTo(TermRow other) => Term != other.Term ? Term.CompareTo(other.Term) : Offset.CompareTo(other.Offset);

    /// <summary>The form in which a term of <see cref="EntryTerms"/> is in rows.</summary>
    public static ulong OfId(long term) => (ulong)term | 1;

    /// <inheritdoc cref="OfId"/>
    public static ulong OfField(long term) => (ulong)term & ~1UL;
}

/// <summary>The rows of some entries that follow each other, sorted.</summary>
/// <param name="first">Index of the first of the entries.</param>
/// <param name="end">Index behind the last.</param>
/// <param name="rows">How many rows there are.</param>
internal abstract class TermRun(long first, long end, int rows)
{
    private const int BlockRows = 256;

    /// <summary>Index of the first of the entries.</summary>
    public long First { get; } = first;

    /// <summary>Index behind the last of the entries.</summary>
    public long End { get; } = end;

    /// <summary>How many rows there are.</summary>
    public int Rows { get; } = rows;

    /// <summary>Reads rows from one on; as many as there is room for.</summary>
    public abstract void Read(int at, Span<TermRow> rows);

    /// <summary>Adds the cursors of entries that have a term, from a cursor on, until there are so many.</summary>
    public void Find(ulong term, long from, int limit, List<long> found)
    {
        if (from > End)
            return;
        var at = LowerBound(new TermRow(term, (uint)Math.Max(0, from - 1 - First)));
        Span<TermRow> block = stackalloc TermRow[BlockRows];
        while (at < Rows && found.Count < limit)
        {
            var part = block[..Math.Min(Math.Min(BlockRows, limit - found.Count), Rows - at)];
            Read(at, part);
            foreach (var row in part)
            {
                if (row.Term != term)
                    return;
                // Two members of an entry may have one term.
                if (First + row.Offset + 1 is var cursor && (found.Count == 0 || found[^1] != cursor))
                    found.Add(cursor);
            }
            at += part.Length;
        }
    }

    private int LowerBound(TermRow row)
    {
        var (low, high) = (0, Rows);
        TermRow middle = default;
        while (high - low > BlockRows)
        {
            var at = low + (high - low) / 2;
            Read(at, new Span<TermRow>(ref middle));
            if (middle.CompareTo(row) < 0)
                low = at + 1;
            else
                high = at;
        }
        Span<TermRow> block = stackalloc TermRow[BlockRows];
        block = block[..(high - low)];
        Read(low, block);
        var found = block.BinarySearch(row);
        return low + (found < 0 ? ~found : found);
    }
}

/// <summary>A run that no file has yet. It is sorted when somebody looks, which is seldom, and never while an append waits.</summary>
internal sealed class MemoryRun(long first, long end, TermRow[] rows) : TermRun(first, end, rows.Length)
{
    private readonly Lock _sorting = new();
    private bool _isSorted;

    /// <summary>One run of two that follow each other.</summary>
    public static MemoryRun Join(MemoryRun left, MemoryRun right)
    {
        var rows = new TermRow[left.Rows + right.Rows];
        left.CopyTo(rows);
        right.CopyTo(rows.AsSpan(left.Rows));
        var shift = (uint)(right.First - left.First);
        foreach (ref var row in rows.AsSpan(left.Rows))
            row = row with { Offset = row.Offset + shift };
        return new MemoryRun(left.First, right.End, rows);
    }

    /// <inheritdoc/>
    public override void Read(int at, Span<TermRow> target)
    {
        lock (_sorting)
        {
            if (!_isSorted)
                Array.Sort(rows);
            _isSorted = true;
        }
        rows.AsSpan(at, target.Length).CopyTo(target);
    }

    // Not while they are being put in another order.
    private void CopyTo(Span<TermRow> target)
    {
        lock (_sorting)
            rows.CopyTo(target);
    }
}
