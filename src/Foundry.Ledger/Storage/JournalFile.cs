// docs/formats/ledger.md, "Journal, version 1".

using System.Buffers.Binary;
using System.Text;
using Foundry.Proofs;
using Foundry.ServiceDefaults;
using Microsoft.Win32.SafeHandles;

namespace Foundry.Ledger.Storage;

/// <summary>
/// The file that an append is durable in. It holds the entries from <see cref="First"/> on, which is where the last full
/// bundle it does not need to hold ends. It only grows; when it is long, a new one takes its place whole.
/// </summary>
internal sealed class JournalFile : IDisposable
{
    /// <summary>Bytes in front of the first frame.</summary>
    public const int HeaderBytes = 32;

    private const int PlacesLengthFirst = 256;
    private const int LengthBits = 16;
    private static readonly byte[] _magic = Encoding.ASCII.GetBytes("foundry-journal1");

    private readonly string _path;
    private readonly SafeFileHandle _file;

    // Of each entry its offset, shifted, and its length. Readers see a place no later than the state that counts it.
    private long[] _places = new long[PlacesLengthFirst];
    private int _count;

    private JournalFile(string path, SafeFileHandle file, long first)
    {
        _path = path;
        _file = file;
        First = first;
        Length = HeaderBytes;
    }

    /// <summary>Index of the first entry in it, a multiple of 256.</summary>
    public long First { get; }

    /// <summary>Index behind its last entry.</summary>
    public long End => First + _count;

    /// <summary>Bytes of whole frames.</summary>
    public long Length { get; private set; }

    /// <summary>Bytes behind the last whole frame: a commit that was cut off, and so never acknowledged.</summary>
    public long TornBytes { get; private set; }

    /// <summary>The bytes of a journal that begins at <paramref name="first"/> with one frame, or none.</summary>
    public static byte[] Compose(long first, JournalFrame? frame)
    {
        var header = new byte[HeaderBytes];
        _magic.CopyTo(header, 0);
        BinaryPrimitives.WriteInt64BigEndian(header.AsSpan(16), first);
        BinaryPrimitives.WriteUInt32BigEndian(header.AsSpan(28), Crc32C.Of(header.AsSpan(0, 28)));
        return frame is null ? header : [.. header, .. frame.Encode().Bytes];
    }

    /// <summary>
    /// Opens a journal and gives each whole frame to <paramref name="replay"/>, in order. Nothing is written. A frame that the
    /// file ends in the middle of is counted in <see cref="TornBytes"/>; anything else that is not a frame is damage.
    /// </summary>
    /// <param name="disk">The file system.</param>
    /// <param name="path">The file.</param>
    /// <param name="opened">Told of the journal before its frames are read.</param>
    /// <param name="replay">Given each frame.</param>
    /// <param name="name">What the file will be called, where that is not its name yet.</param>
    /// <exception cref="StateCorruptException">The file is missing or damaged.</exception>
    public static JournalFile Open(Disk disk, string path, Action<JournalFile> opened, Action<JournalFrame> replay, string? name = null)
    {
        SafeFileHandle file;
        try
        {
            file = disk.Open(path);
        }
        catch (Exception fault) when (fault is FileNotFoundException or DirectoryNotFoundException)
        {
            throw new StateCorruptException(path, "the journal is missing", fault);
        }
        try
        {
            var length = RandomAccess.GetLength(file);
            var header = new byte[HeaderBytes];
            if (length < HeaderBytes || !Disk.TryReadAll(file, header, 0)
                || !header.AsSpan(0, _magic.Length).SequenceEqual(_magic)
                || BinaryPrimitives.ReadUInt32BigEndian(header.AsSpan(28)) != Crc32C.Of(header.AsSpan(0, 28)))
                throw new StateCorruptException(path, "its header is damaged");
            var first = BinaryPrimitives.ReadInt64BigEndian(header.AsSpan(16));
            if (first < 0 || first % Tile.WidthMax != 0)
                throw new StateCorruptException(path, $"it begins at entry {first}, which is not the first of a bundle");
            var journal = new JournalFile(name ?? path, file, first);
            opened(journal);
            journal.Replay(path, length, replay);
            return journal;
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    /// <summary>Adds a frame and makes it durable.</summary>
    /// <exception cref="IOException">Whether the frame is durable is not known, and this file must not be appended to again.</exception>
    /// <exception cref="StateCorruptException">Others have changed the file.</exception>
    public void Append(Disk disk, JournalFrame frame)
    {
        // Nobody else writes here. Where somebody did, or cut it, this tree is not what is in the file any more.
        if (RandomAccess.GetLength(_file) != Length)
            throw new StateCorruptException(_path, $"it is {RandomAccess.GetLength(_file)} bytes long, not the {Length} that were written");
        var (bytes, places) = frame.Encode();
        disk.Write(_file, bytes, Length);
        // The commit point: once this returns, the entries and the checkpoint that covers them survive anything but the disk's loss.
        disk.Flush(_file);
        Place(places, frame.Leaves);
        Length += bytes.Length;
    }

    /// <summary>Adds frames of another journal and makes them durable.</summary>
    /// <exception cref="IOException">Whether they are durable is not known, and this file must not be appended to again.</exception>
    public void Append(Disk disk, byte[] frames)
    {
        disk.Write(_file, frames, Length);
        disk.Flush(_file);
        Replay(_path, Length + frames.Length, _ => { });
    }

    /// <summary>Reads an entry in it.</summary>
    /// <exception cref="ObjectDisposedException">A newer journal has taken this one's place.</exception>
    public byte[] Entry(long index)
    {
        var place = Volatile.Read(ref _places)[checked((int)(index - First))];
        var leaf = new byte[place & ushort.MaxValue];
        return Disk.TryReadAll(_file, leaf, place >> LengthBits) ? leaf : throw new IOException($"Entry {index} could not be read back from the journal.");
    }

    /// <summary>The bytes of frames in it from one byte towards the last whole frame's end, at most so many.</summary>
    public byte[] Frames(long start, int bytesMax)
    {
        var frames = new byte[Math.Min(Length - start, bytesMax)];
        return Disk.TryReadAll(_file, frames, start) ? frames : throw new IOException($"{_path} could not be read back.");
    }

    /// <inheritdoc/>
    public void Dispose() => _file.Dispose();

    private void Replay(string path, long length, Action<JournalFrame> replay)
    {
        var header = new byte[JournalFrame.HeaderBytes];
        while (Length < length)
        {
            var rest = length - Length;
            if (rest < JournalFrame.HeaderBytes || IsZero(rest))
                break;
            if (!Disk.TryReadAll(_file, header, Length) || !JournalFrame.TryReadHeader(header, out var read))
                throw new StateCorruptException(path, $"the frame at byte {Length}, which begins with entry {End}, is damaged");
            if (rest < JournalFrame.HeaderBytes + read.BodyBytes)
                break;
            var body = new byte[read.BodyBytes];
            if (read.Start != End || !Disk.TryReadAll(_file, body, Length + JournalFrame.HeaderBytes)
                || !JournalFrame.TryReadBody(read, body, out var frame) || frame is null)
                throw new StateCorruptException(path, $"the frame at byte {Length}, entries {End} to {End + read.Count - 1}, is damaged");
            replay(frame);
            var at = JournalFrame.HeaderBytes;
            var places = new int[frame.Leaves.Count];
            for (var i = 0; i < places.Length; i++)
            {
                places[i] = at + EntryBundle.PrefixBytes;
                at = places[i] + frame.Leaves[i].Length;
            }
            Place(places, frame.Leaves);
            Length += JournalFrame.HeaderBytes + read.BodyBytes;
        }
        TornBytes = length - Length;
    }

    // A file can grow before its bytes arrive; such a tail was never flushed, and no frame begins with a zero.
    private bool IsZero(long rest)
    {
        var buffer = new byte[4096];
        for (var at = Length; rest > 0;)
        {
            var part = buffer.AsSpan(0, (int)Math.Min(buffer.Length, rest));
            if (!Disk.TryReadAll(_file, part, at) || part.ContainsAnyExcept((byte)0))
                return false;
            at += part.Length;
            rest -= part.Length;
        }
        return true;
    }

    private void Place(int[] places, IReadOnlyList<ReadOnlyMemory<byte>> leaves)
    {
        var known = _places;
        if (_count + places.Length > known.Length)
            Array.Resize(ref known, Math.Max(known.Length * 2, _count + places.Length));
        for (var i = 0; i < places.Length; i++)
            known[_count + i] = ((Length + places[i]) << LengthBits) | (uint)leaves[i].Length;
        _count += places.Length;
        Volatile.Write(ref _places, known);
    }
}
