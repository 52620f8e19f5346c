using Foundry.Ledger.Storage;
using Microsoft.Win32.SafeHandles;

namespace Foundry.Ledger.Tests.Recovery;

/// <summary>What a disk keeps of that which was never flushed, when the power is cut. All of these are allowed to it.</summary>
public enum Kept
{
    /// <summary>Neither bytes nor names.</summary>
    Nothing,

    /// <summary>Names, but not the bytes behind them.</summary>
    Names,

    /// <summary>Half of the bytes, but no names.</summary>
    HalfOfTheBytes,
}

/// <summary>
/// A disk that knows what was flushed: the contents of files by <see cref="Flush"/>, the names in a folder by
/// <see cref="FlushFolder"/>. From a call on, by its number, nothing works any more; what a machine then finds is put into another folder.
/// </summary>
internal sealed class PowerCutDisk : Disk
{
    private readonly Lock _gate = new();
    private readonly string _root;
    private readonly Folder _tree;
    private readonly Dictionary<SafeFileHandle, Contents> _open = [];
    private int _at;
    private int _calls = -1;

    public PowerCutDisk(string root, int at)
    {
        (_root, _at) = (root, at);
        _tree = Load(root);
    }

    /// <summary>Calls so far.</summary>
    public int Calls => Volatile.Read(ref _calls) + 1;

    /// <summary>The next process finds what this one left in memory, and works.</summary>
    public void Revive() => _at = int.MaxValue;

    /// <summary>What is there after the power was cut.</summary>
    public void CopyTo(string target, Kept kept)
    {
        lock (_gate)
            Write(_tree, target, kept);
    }

    public override SafeFileHandle Open(string path)
    {
        lock (_gate)
        {
            var file = base.Open(path);
            _open[file] = (Contents)Find(Path.GetDirectoryName(path)!).Names[Path.GetFileName(path)];
            return file;
        }
    }

    public override SafeFileHandle Create(string path) => Do(() =>
    {
        var file = base.Create(path);
        var contents = new Contents();
        Find(Path.GetDirectoryName(path)!).Names[Path.GetFileName(path)] = contents;
        _open[file] = contents;
        return file;
    });

    public override void Write(SafeFileHandle file, ReadOnlySpan<byte> bytes, long offset)
    {
        var copy = bytes.ToArray();
        Do(() =>
        {
            base.Write(file, copy, offset);
            var contents = _open[file];
            contents.Bytes = [.. contents.Bytes[..(int)offset], .. copy];
            return 0;
        });
    }

    public override void Flush(SafeFileHandle file) => Do(() => _open[file].Durable = _open[file].Bytes);

    public override void Rename(string from, string to) => Do(() =>
    {
        base.Rename(from, to);
        Find(Path.GetDirectoryName(from)!).Names.Remove(Path.GetFileName(from), out var moved);
        Find(Path.GetDirectoryName(to)!).Names[Path.GetFileName(to)] = moved!;
        return 0;
    });

    public override void CreateFolder(string path) => Do(() =>
    {
        base.CreateFolder(path);
        Find(Path.GetDirectoryName(path)!).Names.TryAdd(Path.GetFileName(path), new Folder());
        return 0;
    });

    public override void FlushFolder(string path) => Do(() => Find(path).Durable = new(Find(path).Names));

    public override void Delete(string path) => Do(() =>
    {
        base.Delete(path);
        return Find(Path.GetDirectoryName(path)!).Names.Remove(Path.GetFileName(path));
    });

    private T Do<T>(Func<T> call)
    {
        lock (_gate)
        {
            if (Interlocked.Increment(ref _calls) >= _at)
                throw new IOException("The power is off.");
            return call();
        }
    }

    private Folder Find(string path) => path == _root ? _tree : (Folder)Find(Path.GetDirectoryName(path)!).Names[Path.GetFileName(path)];

    private static Folder Load(string path)
    {
        var folder = new Folder();
        foreach (var sub in Directory.EnumerateDirectories(path))
            folder.Names.Add(Path.GetFileName(sub), Load(sub));
        foreach (var file in Directory.EnumerateFiles(path))
        {
            var bytes = File.ReadAllBytes(file);
            folder.Names.Add(Path.GetFileName(file), new Contents { Bytes = bytes, Durable = bytes });
        }
        folder.Durable = new(folder.Names);
        return folder;
    }

    private static void Write(Folder folder, string target, Kept kept)
    {
        Directory.CreateDirectory(target);
        foreach (var (name, node) in kept == Kept.Names ? folder.Names : folder.Durable)
        {
            var path = Path.Combine(target, name);
            if (node is Folder sub)
                Write(sub, path, kept);
            else
                File.WriteAllBytes(path, ((Contents)node).After(kept));
        }
    }

    private abstract class Node;

    private sealed class Folder : Node
    {
        public Dictionary<string, Node> Names { get; } = [];

        public Dictionary<string, Node> Durable { get; set; } = [];
    }

    private sealed class Contents : Node
    {
        public byte[] Bytes { get; set; } = [];

        public byte[] Durable { get; set; } = [];

        public byte[] After(Kept kept) =>
            kept == Kept.HalfOfTheBytes && Bytes.Length > Durable.Length ? Bytes[..((Bytes.Length + Durable.Length) / 2)] : Durable;
    }
}
