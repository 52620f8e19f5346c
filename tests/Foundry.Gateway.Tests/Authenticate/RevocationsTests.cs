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
    /// One writer, readers without a lock, while tables grow and are built anew: what was added is found from then on, by its ID alone;
    /// nothing is ever found that was not.
    /// </summary>
    [Fact]
    public async Task Shows_readers_what_was_added_and_nothing_else_while_it_is_written()
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
                // One half of one token's ID with the other half of another's: what a torn read would find.
                Assert.False(revocations.Contains(Mixed(ids[RandomNumberGenerator.GetInt32(count)], ids[RandomNumberGenerator.GetInt32(count)])));
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

    private static Guid Mixed(Guid first, Guid second)
    {
        if (first == second)
            return Guid.Empty;
        Span<byte> bytes = stackalloc byte[16];
        Span<byte> others = stackalloc byte[16];
        first.TryWriteBytes(bytes, bigEndian: true, out _);
        second.TryWriteBytes(others, bigEndian: true, out _);
        others[8..].CopyTo(bytes[8..]);
        return new Guid(bytes, bigEndian: true);
    }
}
