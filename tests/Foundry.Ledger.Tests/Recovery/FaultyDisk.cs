using Foundry.Ledger.Storage;
using Microsoft.Win32.SafeHandles;

namespace Foundry.Ledger.Tests.Recovery;

/// <summary>What can become of a call that changes the file system.</summary>
public enum Fault
{
    /// <summary>It fails, and nothing of it happened.</summary>
    Failed,

    /// <summary>It fails, and all of it happened.</summary>
    FailedButPersisted,

    /// <summary>It fails, and half of the bytes are there.</summary>
    Torn,

    /// <summary>It fails, and so does every later write and everything that is to be made.</summary>
    DiskFull,

    /// <summary>The process ends before it: nothing of it, nor of anything later, happens.</summary>
    Killed,
}

/// <summary>A disk on which one call, by its number, goes wrong. Flushing is left out: these files need not outlive the machine.</summary>
internal sealed class FaultyDisk(Fault fault, int at) : Disk
{
    private int _calls = -1;

    /// <summary>Calls so far.</summary>
    public int Calls => Volatile.Read(ref _calls) + 1;

    public override SafeFileHandle Create(string path)
    {
        SafeFileHandle? made = null;
        try
        {
            Do(() => made = base.Create(path), needsRoom: true);
            return made!;
        }
        catch
        {
            made?.Dispose();
            throw;
        }
    }

    public override void Write(SafeFileHandle file, ReadOnlySpan<byte> bytes, long offset)
    {
        var copy = bytes.ToArray();
        Do(() => base.Write(file, copy, offset), () => base.Write(file, copy.AsSpan(0, copy.Length / 2), offset), needsRoom: true);
    }

    public override void Flush(SafeFileHandle file) => Do(() => { });

    public override void Rename(string from, string to) => Do(() => base.Rename(from, to));

    public override void CreateFolder(string path) => Do(() => base.CreateFolder(path), needsRoom: true);

    public override void FlushFolder(string path) => Do(() => { });

    public override void Delete(string path) => Do(() => base.Delete(path));

    private void Do(Action call, Action? half = null, bool needsRoom = false)
    {
        var number = Interlocked.Increment(ref _calls);
        var isHit = fault switch
        {
            Fault.Killed => number >= at,
            Fault.DiskFull => number >= at && needsRoom,
            _ => number == at,
        };
        if (!isHit)
        {
            call();
            return;
        }
        if (fault == Fault.FailedButPersisted)
            call();
        else if (fault is Fault.Torn or Fault.DiskFull)
            half?.Invoke();
        throw new IOException($"Call {number}: {fault}.");
    }
}
