using System.Buffers.Binary;
using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Foundry.Gateway.Authenticate;

/// <summary>
/// Which tokens are revoked: open-addressed tables of 20 bytes a slot, in shards, so that growing copies a shard and not the
/// whole. One thread writes; any number read, without a lock. No slot is ever emptied or used for another token: what has
/// expired goes when its shard is built anew.
/// </summary>
internal sealed class Revocations
{
    /// <summary>How long after its <c>exp</c> a revocation is kept (CONTRACT section 3).</summary>
    private const long SecondsKept = 60;
    /// <summary>A power of two. A million revocations make 30 KB each.</summary>
    private const int ShardsCount = 2048;
    /// <summary>A full shard is built anew with this many slots for two tokens, and is full at 4 of 5: 25 to 30 bytes a token.</summary>
    private const int SlotsForTwo = 3;
    private static readonly Slot[] Nothing = new Slot[1];

    private readonly Slot[][] _shards = new Slot[ShardsCount][];
    private readonly int[] _counts = new int[ShardsCount];
    private int _count;
    private int _nextToSweep;
    private long _sweptAt;

    /// <summary>Makes an empty one.</summary>
    public Revocations() => Array.Fill(_shards, Nothing);

    /// <summary>How many there are; those that have expired a moment ago still count.</summary>
    public int Count => Volatile.Read(ref _count);

    /// <summary>Bytes of the tables, without what the runtime adds to each.</summary>
    public long SlotBytes => _shards.Sum(slots => (long)slots.Length * Unsafe.SizeOf<Slot>());

    /// <summary>Whether a token was revoked.</summary>
    /// <param name="jti">Its ID.</param>
    public bool Contains(Guid jti)
    {
        var key = new Key(jti);
        var slots = Volatile.Read(ref _shards[key.Shard]);
        for (var at = key.First(slots.Length); ; at = at + 1 == slots.Length ? 0 : at + 1)
        {
            ref var slot = ref slots[at];
            // Read first, as it was written last: once it is not zero, the rest of the slot is there and stays as it is.
            if (Volatile.Read(ref slot.Expiry) == 0)
                return false;
            if (slot.High == key.High && slot.Low == key.Low)
                return true;
        }
    }

    /// <summary>Adds a token; again is no matter.</summary>
    /// <param name="jti">Its ID.</param>
    /// <param name="exp">When it expires, Unix seconds.</param>
    public void Add(Guid jti, long exp)
    {
        var key = new Key(jti);
        var slots = _shards[key.Shard];
        if ((_counts[key.Shard] + 1) * 5 > slots.Length * 4)
            slots = Rebuild(key.Shard, _sweptAt, room: 1);
        // Zero is the mark of an empty slot.
        if (!Put(slots, key, (uint)Math.Clamp(exp, 1, uint.MaxValue)))
            return;
        _counts[key.Shard]++;
        Volatile.Write(ref _count, _count + 1);
    }

    /// <summary>Drops what has expired, a shard after the other: all of them come by in a minute.</summary>
    /// <param name="now">Issuance's clock.</param>
    public void Forget(DateTimeOffset now)
    {
        const int secondsForAll = 60;
        var seconds = now.ToUnixTimeSeconds();
        var due = Math.Min(ShardsCount, (seconds - _sweptAt) * ShardsCount / secondsForAll);
        if (due <= 0)
            return;
        _sweptAt = seconds;
        for (; due > 0; due--, _nextToSweep = (_nextToSweep + 1) % ShardsCount)
            foreach (ref readonly var slot in _shards[_nextToSweep].AsSpan())
                if (slot.Expiry != 0 && slot.Expiry + SecondsKept < seconds)
                {
                    Rebuild(_nextToSweep, seconds, room: 0);
                    break;
                }
    }

    /// <summary>Copies what has not expired into a new table, which readers then find instead of the old one.</summary>
    private Slot[] Rebuild(int shard, long now, int room)
    {
        var old = _shards[shard];
        var live = 0;
        foreach (ref readonly var slot in old.AsSpan())
            if (slot.Expiry != 0 && slot.Expiry + SecondsKept >= now)
                live++;
        // Two slots more: however few there are, one is empty, where a search ends.
        var slots = live + room == 0 ? Nothing : new Slot[((live + room) * SlotsForTwo / 2) + 2];
        foreach (ref readonly var slot in old.AsSpan())
            if (slot.Expiry != 0 && slot.Expiry + SecondsKept >= now)
                Put(slots, new Key(slot.High, slot.Low), slot.Expiry);
        Volatile.Write(ref _count, _count - _counts[shard] + live);
        _counts[shard] = live;
        Volatile.Write(ref _shards[shard], slots);
        return slots;
    }

    /// <summary>Whether it was not there before.</summary>
    private static bool Put(Slot[] slots, Key key, uint expiry)
    {
        for (var at = key.First(slots.Length); ; at = at + 1 == slots.Length ? 0 : at + 1)
        {
            ref var slot = ref slots[at];
            if (slot.Expiry == 0)
            {
                (slot.High, slot.Low) = (key.High, key.Low);
                // The point from which readers find it; whoever sees this sees the two above.
                Volatile.Write(ref slot.Expiry, expiry);
                return true;
            }
            if (slot.High != key.High || slot.Low != key.Low)
                continue;
            if (slot.Expiry < expiry)
                Volatile.Write(ref slot.Expiry, expiry);
            return false;
        }
    }

    /// <summary>20 bytes: the expiry is aligned for one atomic read, and nothing else is read that could still change.</summary>
    [StructLayout(LayoutKind.Sequential, Pack = 4)]
    private struct Slot
    {
        public uint Expiry;
        public ulong High;
        public ulong Low;
    }

    private readonly struct Key
    {
        private readonly ulong _hash;

        public Key(Guid jti)
        {
            Span<byte> bytes = stackalloc byte[16];
            jti.TryWriteBytes(bytes, bigEndian: true, out _);
            this = new Key(BinaryPrimitives.ReadUInt64BigEndian(bytes), BinaryPrimitives.ReadUInt64BigEndian(bytes[8..]));
        }

        public Key(ulong high, ulong low)
        {
            (High, Low) = (high, low);
            // IDs are issuance's own and mostly random; this only spreads their fixed and their counting bits (the finaliser of SplitMix64).
            var mixed = (high ^ BitOperations.RotateLeft(low, 32)) * 0x9E3779B97F4A7C15;
            mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9;
            mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EB;
            _hash = mixed ^ (mixed >> 31);
        }

        public ulong High { get; }
        public ulong Low { get; }
        public int Shard => (int)(_hash % ShardsCount);

        /// <summary>Where a search begins: the hash's upper half as a fraction of the table.</summary>
        public int First(int slots) => (int)(((_hash >> 32) * (ulong)slots) >> 32);
    }
}
