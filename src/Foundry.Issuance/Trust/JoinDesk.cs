using System.Security.Cryptography;
using System.Text;
using Foundry.Contracts;
using Foundry.Issuance.Changes;
using Foundry.ServiceDefaults;
using Foundry.Tokens;
using Microsoft.Extensions.Logging;

namespace Foundry.Issuance.Trust;

/// <summary>
/// Takes a part's key into the trust set when the part knows a code: one made for it, once, or the deployment's own. The same name with another key is a second
/// process of that part, or the part after it lost its key: the new key is added beside the old one, which stays believed.
/// </summary>
internal sealed class JoinDesk
{
    /// <summary>A shorter code is refused, so that guessing is hopeless whatever the rate.</summary>
    public const int CodeCharsMin = 32;
    /// <summary>Failed attempts a minute, from wherever, before every attempt is turned away for the rest of it.</summary>
    public const int FailuresMax = 10;
    private static readonly TimeSpan Window = TimeSpan.FromMinutes(1);

    // One answer for all of it, so that nobody learns which codes there are or were.
    private static readonly Refused WrongCode = new(ErrorCode.JoinRefused, "The join code is neither an unused one that was made for this kind and name ('foundry part code'), nor the one that issuance was started with (Trust:JoinCode, at least 32 characters).");
    private static readonly Refused AnothersKey = Callers.Invalid("x: this key is another part's. Each part makes its own.");

    private readonly byte[]? _codeHash;
    private readonly Journal _journal;
    private readonly PlatformTrust _trust;
    private readonly TimeProvider _time;
    private readonly ILogger<JoinDesk> _log;
    private readonly Queue<long> _failures = new();

    /// <summary>Makes one.</summary>
    /// <param name="code">The deployment's code; absent, parts join with codes made for them.</param>
    /// <param name="journal">Where keys are written.</param>
    /// <param name="trust">The set they go into.</param>
    /// <param name="time">The clock.</param>
    /// <param name="log">The log.</param>
    public JoinDesk(string? code, Journal journal, PlatformTrust trust, TimeProvider time, ILogger<JoinDesk> log)
    {
        (_journal, _trust, _time, _log) = (journal, trust, time, log);
        if (code is { Length: > 0 })
            _codeHash = SHA256.HashData(Encoding.UTF8.GetBytes(code));
    }

    /// <summary>Lets a part in, or says why not.</summary>
    /// <param name="request">What it says of itself.</param>
    /// <param name="requestId">The request.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <returns>The trust set with its key.</returns>
    public async Task<Outcome<TrustAnswer>> JoinAsync(JoinRequest request, string requestId, CancellationToken cancellationToken)
    {
        if (!MayTry())
            return new Refused(ErrorCode.RateLimited, "Too many joins have failed within a minute. Try again in a minute.") { RetryAfter = Window };
        // Hashes, so that neither the code nor its length shows in the time that the comparison takes.
        var presented = SHA256.HashData(Encoding.UTF8.GetBytes(request.Code ?? ""));
        var isDeployments = _codeHash is not null && CryptographicOperations.FixedTimeEquals(presented, _codeHash);
        var hash = isDeployments ? null : PartBook.Stored(presented);
        if (hash is not null && await _journal.Database.ReadOneAsync<string>("SELECT code_hash FROM join_codes WHERE code_hash = @hash", new { hash }, cancellationToken) is null)
            return Failed();
        if (request.V != 1)
            return Callers.Invalid("v: this issuance speaks version 1.");
        if (PartBook.RefuseName(request.Kind, request.Name) is { } refused)
            return refused;
        if (!VerifyingKey.TryCreate(request.X, out var key))
            return Callers.Invalid("x: an Ed25519 public key, 43 characters of base64url.");
        var joined = await _journal.WriteAsync(entry => AdmitAsync(entry, hash, request.Kind!, request.Name!, key, requestId), cancellationToken);
        if (joined.Refusal is Refused { Error: var error } && error == ErrorCode.JoinRefused)
            Failed();
        return joined.Refusal is { } refusal ? Outcome<TrustAnswer>.Refused(refusal) : _trust.Answer;
    }

    /// <summary>The code's use and the key's admission are one transaction: two parts with one code, at two processes, are one part.</summary>
    private async Task<Outcome<TrustAnswer>> AdmitAsync(JournalEntry entry, string? codeHash, string kind, string name, VerifyingKey key, string requestId)
    {
        PartBook.CodeRow? code = null;
        if (codeHash is not null)
        {
            code = await entry.SingleAsync<PartBook.CodeRow>($"SELECT {PartBook.CodeRow.Columns} FROM join_codes WHERE code_hash = @codeHash", new { codeHash });
            if (code is null || code.ExpiresAt <= entry.NowSeconds || code.Kind != kind || code.Name != name)
                return WrongCode;
            // Its own key may say the code again: the answer to the first time may have been lost.
            if (code.UsedBy is not null && code.UsedBy != key.Kid)
                return WrongCode;
        }
        var known = await entry.SingleAsync<KnownRow>("SELECT kind AS Kind, name AS Name, removed_at AS RemovedAt FROM trusted_keys WHERE kid = @Kid", new { key.Kid });
        if (known?.RemovedAt is not null)
            return Callers.Invalid("x: this key was removed and never comes back. Make a new one.");
        if (known is null)
        {
            if (await entry.SingleAsync<long>("SELECT COUNT(*) FROM signing_keys WHERE kid = @Kid", new { key.Kid }) > 0)
                return AnothersKey;
            if (await entry.SingleAsync<long>("SELECT COUNT(*) FROM trusted_keys WHERE removed_at IS NULL") >= PlatformTrust.TrustedKeysMax)
                return Callers.Invalid($"x: the trust set holds {PlatformTrust.TrustedKeysMax} keys of parts and takes no more.");
            await entry.ExecuteAsync("INSERT INTO trusted_keys (kid, kind, name, x, joined_at) VALUES (@Kid, @kind, @name, @X, @NowSeconds)", new { key.Kid, kind, name, key.X, entry.NowSeconds });
            await _trust.SignAsync(entry);
            // It asked by itself, and by what right is the kind of code that it knew.
            var doer = new Doer(new EventActor(key.X, null, codeHash is null ? "join_code:deployment" : "join_code:one_use"), requestId);
            await entry.RecordAsync([Logs.Platform], EventTypes.KeyRotated, null, doer, ("kid", key.Kid), ("kind", kind), ("name", name), ("code_issued_by", code?.MadeBy));
            entry.WhenCommitted(() => _log.LogInformation("{Kind} {Name} joined with key {Kid}", kind, name, key.Kid));
        }
        else if (known.Kind != kind || known.Name != name)
        {
            return AnothersKey;
        }
        if (code is { UsedBy: null })
            await entry.ExecuteAsync("UPDATE join_codes SET used_by = @Kid WHERE code_hash = @codeHash", new { key.Kid, codeHash });
        return _trust.Answer;
    }

    private bool MayTry()
    {
        lock (_failures)
        {
            while (_failures.TryPeek(out var oldest) && _time.GetElapsedTime(oldest) >= Window)
                _failures.Dequeue();
            return _failures.Count < FailuresMax;
        }
    }

    private Refused Failed()
    {
        lock (_failures)
            _failures.Enqueue(_time.GetTimestamp());
        _log.LogWarning("A join was refused: wrong code");
        return WrongCode;
    }

    private sealed record KnownRow
    {
        public string Kind { get; init; } = "";
        public string Name { get; init; } = "";
        public long? RemovedAt { get; init; }
    }
}
