using System.Collections.Concurrent;
using Foundry.Contracts;
using Foundry.Issuance.Changes;
using Foundry.Issuance.Trust;
using Foundry.ServiceDefaults;
using Foundry.ServiceDefaults.Trust;
using Foundry.Tokens;

namespace Foundry.Issuance.Keys;

/// <summary>
/// The keys that sign tokens: their private halves where <see cref="IPrivateHalves"/> says, everything else in the store. A new key
/// is published first and signs <see cref="Lead"/> later, so that whoever follows the key set has it before its first token.
/// </summary>
internal sealed class SigningKeys : IDisposable
{
    /// <summary>The folder of private halves in files.</summary>
    public const string FolderName = "tokens.keys";
    /// <summary>How long a key is published before it signs; also how long the JWKS may be cached.</summary>
    public static readonly TimeSpan Lead = TimeSpan.FromSeconds(5);

    private const string Columns = "kid AS Kid, x AS X, status AS Status, created_at AS CreatedAt, signs_from AS SignsFrom, retired_at AS RetiredAt, verifies_until AS VerifiesUntil, private_half AS PrivateHalf";

    private readonly IPrivateHalves _halves;
    private readonly Journal _journal;
    private readonly PlatformTrust _trust;
    private readonly ConcurrentDictionary<string, SigningKey> _private = new(StringComparer.Ordinal);
    private long _dueAt = long.MaxValue;

    private SigningKeys(IPrivateHalves halves, Journal journal, PlatformTrust trust) => (_halves, _journal, _trust) = (halves, journal, trust);

    /// <summary>Opens the private halves of all keys that sign or will sign.</summary>
    /// <exception cref="StateCorruptException">One is missing, or is not that key's.</exception>
    public static async Task<SigningKeys> LoadAsync(IPrivateHalves halves, Journal journal, PlatformTrust trust, CancellationToken cancellationToken)
    {
        var keys = new SigningKeys(halves, journal, trust);
        var rows = await keys.RowsAsync(cancellationToken);
        foreach (var row in rows.Where(row => row.Signs))
            _ = keys.PrivateHalf(row) ?? throw new StateCorruptException(halves.Where(row.Kid), $"the key {row.Kid} is missing, though the database says that it signs tokens{(journal.Database.IsPostgres ? $". Where several processes share a database, all of them need {KeyPassphrase.Setting}: then the keys are in there" : "")}");
        // Left behind where the process ended between a commit and this: a key that signs no more has no private half.
        foreach (var row in rows.Where(row => !row.Signs))
            keys.Forget(row.Kid);
        await keys.LookWhatIsDueAsync(cancellationToken);
        return keys;
    }

    /// <summary>Puts into the database, encrypted, what files held until there was a passphrase.</summary>
    /// <returns>The keys that were moved.</returns>
    public async Task<IReadOnlyList<string>> ShareAsync(CancellationToken cancellationToken)
    {
        var moved = new List<string>();
        foreach (var row in _halves is SharedHalves ? await RowsAsync(cancellationToken) : [])
        {
            if (!row.Signs || row.PrivateHalf is not null || PrivateHalf(row) is not { } key)
                continue;
            var stored = ((SharedHalves)_halves).Encrypt(key);
            await _journal.WriteAsync(entry => entry.ExecuteAsync("UPDATE signing_keys SET private_half = @stored WHERE kid = @Kid AND status IN ('active', 'next')", new { stored, row.Kid }), cancellationToken);
            _halves.Forget(row.Kid);
            moved.Add(row.Kid);
        }
        return moved;
    }

    /// <summary>Every key there ever was, for telling who made a token that may no longer be accepted.</summary>
    public async Task<KeySet> EverAsync(CancellationToken cancellationToken) =>
        new((await RowsAsync(cancellationToken)).Select(row => VerifyingKey.TryCreate(row.X, out var key) ? key : null).OfType<VerifyingKey>());

    /// <summary>The key that signs now.</summary>
    /// <param name="entry">The transaction of what is to be signed.</param>
    /// <returns>Null where another process holds the private half.</returns>
    public async Task<SigningKey?> CurrentAsync(JournalEntry entry)
    {
        await TurnAsync(entry);
        return await entry.SingleAsync<KeyRow>($"SELECT {Columns} FROM signing_keys WHERE status = 'active'") is { } active ? PrivateHalf(active) : null;
    }

    /// <summary>Makes a new key. While one is waiting already, an ordinary rotation is that one and makes no other.</summary>
    /// <param name="caller">Who asks.</param>
    /// <param name="compromised">Whether everything that signed before is to be cut off at once.</param>
    /// <param name="doer">Who asks, for the record.</param>
    /// <param name="cancellationToken">Ends the wait for a turn.</param>
    public async Task<Outcome<IReadOnlyList<SigningKeyRecord>>> RotateAsync(Asserted caller, bool compromised, Doer doer, CancellationToken cancellationToken)
    {
        // Outside the transaction: encrypting a key is slow on purpose.
        var made = _halves.New((await RowsAsync(cancellationToken)).Select(row => row.Kid).ToHashSet(StringComparer.Ordinal));
        var used = false;
        var answer = await _journal.WriteForAsync<IReadOnlyList<SigningKeyRecord>>(caller, async entry =>
        {
            await TurnAsync(entry);
            var rows = await entry.QueryAsync<KeyRow>($"SELECT {Columns} FROM signing_keys");
            if (compromised || rows.All(row => row.Status != "next"))
            {
                // Another process with the same folder may have taken it a moment ago.
                if (made is null || rows.Any(row => row.Kid == made.Key.Kid))
                    return new Refused(ErrorCode.NoNewKey, "The folder of mounted keys holds no key that has not signed before. Put a new one there, then rotate again.");
                await AddAsync(entry, made, compromised ? [.. rows.Where(row => row.Signs || row.Status == "retired")] : [], compromised, doer);
                entry.WhenCommitted(() => used = true);
            }
            return new(Shown(await entry.QueryAsync<KeyRow>($"SELECT {Columns} FROM signing_keys ORDER BY created_at DESC, kid")), null);
        }, cancellationToken);
        if (!used && made is not null)
            Forget(made.Key.Kid);
        return answer;
    }

    /// <summary>All keys, newest first.</summary>
    public async Task<IReadOnlyList<SigningKeyRecord>> ListAsync(CancellationToken cancellationToken) => Shown(await RowsAsync(cancellationToken));

    /// <summary>Does what is due by the clock: the next key begins to sign, one whose last token has expired is dropped.</summary>
    public async Task TurnWhenDueAsync(DateTimeOffset now, CancellationToken cancellationToken)
    {
        if (now.ToUnixTimeSeconds() < Interlocked.Read(ref _dueAt))
            return;
        await _journal.WriteAsync(async entry =>
        {
            await TurnAsync(entry);
            return 0;
        }, cancellationToken);
        await LookWhatIsDueAsync(cancellationToken);
    }

    /// <summary>Looks anew when something falls due; another process may have rotated.</summary>
    public async Task LookWhatIsDueAsync(CancellationToken cancellationToken)
    {
        var rows = await RowsAsync(cancellationToken);
        Interlocked.Exchange(ref _dueAt, rows.Select(row => row.Status switch
        {
            "next" => row.SignsFrom,
            "retired" => row.VerifiesUntil ?? long.MaxValue,
            _ => long.MaxValue,
        }).DefaultIfEmpty(long.MaxValue).Min());
        // Another process's new key is opened before it is needed, which is slow where it is encrypted.
        foreach (var row in rows.Where(row => row.Signs))
            PrivateHalf(row);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (var key in _private.Values)
            key.Dispose();
    }

    private async Task AddAsync(JournalEntry entry, NewKey made, IReadOnlyList<KeyRow> withdrawn, bool atOnce, Doer doer)
    {
        foreach (var row in withdrawn)
            await WithdrawAsync(entry, row);
        var signsFrom = entry.NowSeconds + (atOnce ? 0 : (long)Lead.TotalSeconds);
        await entry.ExecuteAsync("INSERT INTO signing_keys (kid, x, status, created_at, signs_from, private_half) VALUES (@Kid, @X, @status, @NowSeconds, @signsFrom, @Stored)",
            new { made.Key.Kid, made.Key.Public.X, status = atOnce ? "active" : "next", entry.NowSeconds, signsFrom, made.Stored });
        await _trust.SignAsync(entry);
        await entry.RecordAsync([Logs.Platform], EventTypes.KeyRotated, null, doer,
            ("kid", made.Key.Kid), ("signs_from", DateTimeOffset.FromUnixTimeSeconds(signsFrom)), ("compromised", atOnce), ("withdrawn_kids", withdrawn.Select(row => row.Kid).ToArray()));
        entry.WhenCommitted(() =>
        {
            _private[made.Key.Kid] = made.Key;
            Interlocked.Exchange(ref _dueAt, Math.Min(signsFrom, Interlocked.Read(ref _dueAt)));
        });
    }

    private async Task TurnAsync(JournalEntry entry)
    {
        var rows = await entry.QueryAsync<KeyRow>($"SELECT {Columns} FROM signing_keys WHERE status IN ('active', 'next', 'retired')");
        var turned = false;
        if (rows.FirstOrDefault(row => row.Status == "next" && row.SignsFrom <= entry.NowSeconds) is { } next)
        {
            foreach (var active in rows.Where(row => row.Status == "active"))
            {
                // It signs no more, so its last token is known, and its private half has no further use.
                await entry.ExecuteAsync("""
                    UPDATE signing_keys SET status = 'retired', retired_at = @NowSeconds, private_half = NULL,
                        verifies_until = COALESCE((SELECT MAX(expires_at) FROM tokens WHERE tokens.kid = signing_keys.kid), @NowSeconds)
                    WHERE kid = @Kid
                    """, new { active.Kid, entry.NowSeconds });
                entry.WhenCommitted(() => Forget(active.Kid));
            }
            await entry.ExecuteAsync("UPDATE signing_keys SET status = 'active' WHERE kid = @Kid", new { next.Kid });
            turned = true;
        }
        foreach (var spent in rows.Where(row => row.Status == "retired" && row.VerifiesUntil <= entry.NowSeconds))
        {
            await entry.ExecuteAsync("UPDATE signing_keys SET status = 'expired' WHERE kid = @Kid", new { spent.Kid });
            turned = true;
        }
        if (turned)
            await _trust.SignAsync(entry);
    }

    private async Task WithdrawAsync(JournalEntry entry, KeyRow row)
    {
        await entry.ExecuteAsync("UPDATE signing_keys SET status = 'withdrawn', private_half = NULL, retired_at = COALESCE(retired_at, @NowSeconds), verifies_until = @NowSeconds WHERE kid = @Kid", new { row.Kid, entry.NowSeconds });
        // Gateways hear of the key and need not hear of each token; here they are shown as what they are.
        await entry.ExecuteAsync("UPDATE tokens SET revoked_at = @NowSeconds WHERE kid = @Kid AND revoked_at IS NULL", new { row.Kid, entry.NowSeconds });
        entry.WhenCommitted(() => Forget(row.Kid));
    }

    private SigningKey? PrivateHalf(KeyRow row)
    {
        if (_private.TryGetValue(row.Kid, out var known))
            return known;
        return _halves.Open(row.Kid, row.PrivateHalf) is { } key ? _private.GetOrAdd(row.Kid, key) : null;
    }

    private void Forget(string kid)
    {
        _private.TryRemove(kid, out _);
        _halves.Forget(kid);
    }

    private async Task<IReadOnlyList<KeyRow>> RowsAsync(CancellationToken cancellationToken) =>
        await _journal.Database.ReadAllAsync<KeyRow>($"SELECT {Columns} FROM signing_keys ORDER BY created_at DESC, kid", null, cancellationToken);

    private static IReadOnlyList<SigningKeyRecord> Shown(IReadOnlyList<KeyRow> rows) => [.. rows.Select(row => new SigningKeyRecord(
        row.Kid, row.X, row.Status, DateTimeOffset.FromUnixTimeSeconds(row.CreatedAt), DateTimeOffset.FromUnixTimeSeconds(row.SignsFrom), At(row.RetiredAt), At(row.VerifiesUntil)))];

    private static DateTimeOffset? At(long? seconds) => seconds is { } known ? DateTimeOffset.FromUnixTimeSeconds(known) : null;

    private sealed record KeyRow
    {
        public string Kid { get; init; } = "";
        public string X { get; init; } = "";
        public string Status { get; init; } = "";
        public long CreatedAt { get; init; }
        public long SignsFrom { get; init; }
        public long? RetiredAt { get; init; }
        public long? VerifiesUntil { get; init; }
        public string? PrivateHalf { get; init; }

        /// <summary>Whether it signs or will sign.</summary>
        public bool Signs => Status is "active" or "next";
    }
}
