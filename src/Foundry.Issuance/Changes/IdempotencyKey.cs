using System.Security.Cryptography;
using System.Text;
using Foundry.Contracts;
using Foundry.ServiceDefaults;
using Foundry.ServiceDefaults.Trust;
using Microsoft.AspNetCore.Http;

namespace Foundry.Issuance.Changes;

/// <summary>An answer, and whether it had been given before.</summary>
/// <param name="Value">The answer.</param>
/// <param name="IsReplay">Whether an Idempotency-Key brought it back.</param>
internal readonly record struct Answered<T>(T Value, bool IsReplay);

/// <summary>
/// A request's <c>Idempotency-Key</c> (CONTRACT section 5): whoever repeats a request with it gets the first answer, and
/// nothing is made twice. Looked up and kept in the transaction of what it guards, and those run one after the other in all
/// processes: a repeat comes before the first request, and is the first, or behind it. So it never finds one in progress.
/// </summary>
/// <param name="Route">The route that it counts on.</param>
/// <param name="Key">1 to 128 visible characters.</param>
/// <param name="RequestHash">Of the path and the body: what makes a repeat the same request.</param>
internal sealed record IdempotencyKey(string Route, string Key, string RequestHash)
{
    public const string Header = "Idempotency-Key";
    public const string ReplayedHeader = "Idempotency-Replayed";
    /// <summary>How long a key counts.</summary>
    public const long SecondsKept = 24 * 60 * 60;
    /// <summary>Keys that count of one tenant at a time; the platform's own callers together are as one.</summary>
    public const int LiveMax = 10_000;
    private const int CharsMax = 128;

    /// <summary>Reads the header of a request whose body has been read.</summary>
    /// <param name="context">The request.</param>
    /// <param name="route">Its route.</param>
    /// <returns>The key, null where there is none; or why it is refused.</returns>
    public static async Task<(IdempotencyKey? Key, Refused? Refusal)> ReadAsync(HttpContext context, string route)
    {
        var header = context.Request.Headers[Header];
        if (header.Count == 0)
            return (null, null);
        if (header.Count > 1 || header[0] is not { Length: >= 1 and <= CharsMax } key || !key.All(character => character is > ' ' and <= '~'))
            return (null, new Refused(ErrorCode.InvalidHeader, $"{Header} is 1 to {CharsMax} visible characters, once."));
        // The gate has bound these bytes to the assertion, and so holds them all in memory.
        context.Request.Body.Position = 0;
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        hash.AppendData(Encoding.UTF8.GetBytes($"{context.Request.Path}\n"));
        var body = new byte[context.Request.Body.Length];
        await context.Request.Body.ReadExactlyAsync(body, context.RequestAborted);
        hash.AppendData(body);
        return (new IdempotencyKey(route, key, Convert.ToHexStringLower(hash.GetHashAndReset())), null);
    }

    /// <summary>Does something the first time, and gives its answer again afterwards. A refusal is not kept.</summary>
    /// <param name="key">The key; without one, it is the first time.</param>
    /// <param name="entry">The transaction.</param>
    /// <param name="caller">Whose key it is.</param>
    /// <param name="first">What is done.</param>
    /// <param name="kept">What is kept of the answer, never a token.</param>
    /// <param name="again">Makes the answer of what was kept.</param>
    public static async Task<Outcome<Answered<T>>> OnceAsync<T>(IdempotencyKey? key, JournalEntry entry, Asserted caller, Func<Task<Outcome<T>>> first, Func<T, string> kept, Func<string, Task<Outcome<T>>> again)
    {
        var floor = entry.NowSeconds - SecondsKept;
        var values = new { tenant = caller.TenantId ?? "", subject = caller.SubjectPubkey ?? "", key?.Route, key?.Key, key?.RequestHash, floor, entry.NowSeconds };
        const string thisOne = "tenant_id = @tenant AND subject_pubkey = @subject AND route = @Route AND idempotency_key = @Key";
        if (key is not null)
        {
            if (await entry.SingleAsync<KeptRow>($"SELECT request_hash AS RequestHash, answer AS Answer FROM idempotency_keys WHERE {thisOne} AND created_at > @floor", values) is { } known)
                return known.RequestHash == key.RequestHash
                    ? Of(await again(known.Answer), isReplay: true)
                    : new Refused(ErrorCode.IdempotencyKeyReused, "This Idempotency-Key belonged to another request within the last 24 hours. Use a new key for a new request.");
            var live = (await entry.SingleAsync<LiveRow>("SELECT COUNT(*) AS Count, COALESCE(MIN(created_at), 0) AS OldestAt FROM idempotency_keys WHERE tenant_id = @tenant AND created_at > @floor", values))!;
            if (live.Count >= LiveMax)
                return new Refused(ErrorCode.RateLimited, $"{LiveMax} Idempotency-Keys of the last 24 hours are kept for a tenant, and no more. Try again later, or without a key.") { RetryAfter = TimeSpan.FromSeconds(live.OldestAt - floor) };
        }
        var answer = await first();
        if (key is not null && answer.Refusal is null)
        {
            // One that counts no more may still be there.
            await entry.ExecuteAsync($"DELETE FROM idempotency_keys WHERE {thisOne}", values);
            await entry.ExecuteAsync("""
                INSERT INTO idempotency_keys (tenant_id, subject_pubkey, route, idempotency_key, request_hash, answer, created_at)
                VALUES (@tenant, @subject, @Route, @Key, @RequestHash, @answer, @NowSeconds)
                """, new { values.tenant, values.subject, values.Route, values.Key, values.RequestHash, values.NowSeconds, answer = kept(answer.Value!) });
        }
        return Of(answer, isReplay: false);
    }

    private static Outcome<Answered<T>> Of<T>(Outcome<T> answer, bool isReplay) =>
        answer.Refusal is { } refusal ? Outcome<Answered<T>>.Refused(refusal) : new Answered<T>(answer.Value!, isReplay);

    private sealed record LiveRow
    {
        public long Count { get; init; }
        public long OldestAt { get; init; }
    }

    private sealed record KeptRow
    {
        public string RequestHash { get; init; } = "";
        public string Answer { get; init; } = "";
    }
}
