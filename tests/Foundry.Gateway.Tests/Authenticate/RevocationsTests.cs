using System.Security.Cryptography;
using CsCheck;
using Foundry.Gateway.Authenticate;

namespace Foundry.Gateway.Tests.Authenticate;

/// <summary>The set of revoked tokens, beside one that is obviously right.</summary>
public sealed class RevocationsTests
{
    private static readonly DateTimeOffset Start = new(2026, 3, 1, 12, 0, 0, TimeSpan.Zero);

    /// <summary>IDs that differ in one of their halves only, so that chains and near misses happen; the last ones are as issuance makes them.</summary>
    private static readonly Gen<Guid> Ids = Gen.OneOf(
        Gen.Int[0, 40].Select(number => new Guid(number, 0, 0, new byte[8])),
        Gen.Int[0, 40].Select(number => new Guid(0, 0, 0, [0, 0, 0, 0, 0, 0, 0, (byte)number])),
        Gen.Int[0, 1000].Select(number => new Guid(1, 2, 0x7000, [0x80, 0, 0, 0, 0, 0, (byte)(number >> 8), (byte)number])));

    [Fact]
    public void Holds_what_a_plain_set_holds_until_a_minute_after_it_expired() =>
        Gen.Select(Gen.Select(Ids, Gen.Int[-100, 400]).Array[0, 300], Gen.Int[0, 200].Array[1, 30]).Sample((added, steps) =>
        {
            var (revocations, model, now) = (new Revocations(), new Dictionary<Guid, long>(), Start.ToUnixTimeSeconds());
            var all = added.Select(add => add.Item1).Distinct().ToList();
            for (var step = 0; step < steps.Length; step++)
            {
                foreach (var (jti, left) in added.Skip(step * 10).Take(10))
                {
                    revocations.Add(jti, now + left);
                    model[jti] = Math.Max(model.GetValueOrDefault(jti), now + left);
                }
                now += steps[step];
                revocations.Forget(DateTimeOffset.FromUnixTimeSeconds(now));
                foreach (var jti in all)
                    if (!model.TryGetValue(jti, out var exp))
                        Assert.False(revocations.Contains(jti));
                    else if (exp + 60 >= now)
                        Assert.True(revocations.Contains(jti));
            }
            // Two minutes of looking later nothing that expired is left, and nothing else is gone.
            for (var second = 0; second < 120; second++)
                revocations.Forget(DateTimeOffset.FromUnixTimeSeconds(++now));
            Assert.All(all, jti => Assert.True(revocations.Contains(jti) || model.GetValueOrDefault(jti) + 60 < now));
            Assert.All(all, jti => Assert.False(revocations.Contains(jti) && model[jti] + 120 < now));
            Assert.Equal(all.Count(revocations.Contains), revocations.Count);
        }, iter: 300);

    /// <summary>
    /// One writer, readers without a lock, while tables grow and are built anew: what was added is found from then on.
    /// </summary>
    [Fact]
    public async Task Shows_readers_what_was_added_while_it_is_written()
    {
        const int count = 200_000;
        var (revocations, ids, added) = (new Revocations(), new Guid[count], 0);
        for (var number = 0; number < count; number++)
            ids[number] = Guid.NewGuid();
        var ended = false;
        var readers = Enumerable.Range(0, 2).Select(_ => Task.Run(() =>
        {
            var found = 0;
            while (!Volatile.Read(ref ended))
            {
                var there = Volatile.Read(ref added);
                if (there > 0)
                    Assert.True(revocations.Contains(ids[RandomNumberGenerator.GetInt32(there)]));
                if (there > 0)
                    Assert.True(revocations.Contains(ids[there - 1]));
                found++;
            }
            return found;
        }, TestContext.Current.CancellationToken)).ToArray();

        var now = Start;
        for (var number = 0; number < count; number++)
        {
            // Every other one has expired long ago, in other IDs, so that shards are built anew all the time.
            revocations.Add(ids[number], Start.ToUnixTimeSeconds() + 1_000_000);
            Volatile.Write(ref added, number + 1);
            if (number % 2 == 0)
                revocations.Add(Guid.NewGuid(), now.ToUnixTimeSeconds() - 61);
            if (number % 100 == 0)
                revocations.Forget(now += TimeSpan.FromSeconds(1));
        }
        Volatile.Write(ref ended, true);

        Assert.All(await Task.WhenAll(readers), found => Assert.True(found > 0));
        for (var second = 0; second < 180; second++)
            revocations.Forget(now += TimeSpan.FromSeconds(1));
        Assert.Equal(count, revocations.Count);
    }

    /// <summary>Memory: the limit is 64 MB a gateway, with an old and a new set side by side while a snapshot arrives.</summary>
    [Fact]
    public void Takes_at_most_32_bytes_a_token_at_a_million()
    {
        const int count = 1_000_000;
        var before = GC.GetAllocatedBytesForCurrentThread();
        var revocations = new Revocations();
        Assert.True(GC.GetAllocatedBytesForCurrentThread() - before < 32 * 1024);
        for (var number = 0; number < count; number++)
            revocations.Add(Guid.NewGuid(), 1);
        Assert.Equal(count, revocations.Count);
        Assert.InRange(revocations.SlotBytes, 20L * count, 32L * count);
    }

    /// <summary>
    /// What a reader would find in a slot that is half written: an ID of which both halves, or one, are still zero. It is looked for where it
    /// would be, beside the writer of those that it is half of, as they come into new tables again and again. (A processor keeps stores in their
    /// order on x64, so what fails here is stores in the wrong order in the code; on Arm also a mark that is no release.)
    /// </summary>
    [Theory]
    [InlineData(false, false)]
    [InlineData(true, false)]
    [InlineData(false, true)]
    public async Task Shows_readers_no_half_of_what_is_being_added(bool high, bool low)
    {
        const int rounds = 40_000;
        var half = With(Guid.Empty, AnyId(), high, low);
        var wholes = Enumerable.Range(0, 12).Select(_ => WholeBeside(half, high, low)).ToArray();
        var (current, ended) = (new Revocations(), false);
        var readers = Enumerable.Range(0, 2).Select(_ => Task.Run(() =>
        {
            var looks = 0L;
            for (; !Volatile.Read(ref ended); looks++)
                Assert.False(Volatile.Read(ref current).Contains(half));
            return looks;
        }, TestContext.Current.CancellationToken)).ToArray();
        for (var round = 0; round < rounds; round++)
        {
            var next = new Revocations();
            Volatile.Write(ref current, next);
            RandomNumberGenerator.Shuffle<Guid>(wholes);
            foreach (var whole in wholes)
                next.Add(whole, 1_000_000);
        }
        Volatile.Write(ref ended, true);
        Assert.All(await Task.WhenAll(readers), looks => Assert.True(looks > 0));
    }

    /// <summary>An ID with these halves of the given one, and whatever else, that is kept where the given one would be.</summary>
    private static Guid WholeBeside(Guid half, bool high, bool low)
    {
        while (true)
        {
            var (whole, table) = (With(AnyId(), half, high, low), new Revocations());
            table.Add(half, 1);
            var alone = table.SlotBytes;
            table.Add(whole, 1);
            // The second of two in one table needs no other.
            if (table.SlotBytes == alone)
                return whole;
        }
    }

    /// <summary>An ID with halves of another.</summary>
    private static Guid With(Guid id, Guid other, bool high, bool low)
    {
        var (bytes, others) = (id.ToByteArray(bigEndian: true), other.ToByteArray(bigEndian: true));
        if (high)
            others.AsSpan(0, 8).CopyTo(bytes);
        if (low)
            others.AsSpan(8).CopyTo(bytes.AsSpan(8));
        return new Guid(bytes, bigEndian: true);
    }

    private static Guid AnyId() => new(RandomNumberGenerator.GetBytes(16));
}
