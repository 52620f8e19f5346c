using System.Security.Cryptography;
using System.Text;
using Foundry.Contracts;
using Foundry.Issuance.Changes;
using Foundry.ServiceDefaults;
using Foundry.Tokens;
using Microsoft.Extensions.Logging;

namespace Foundry.Issuance.Trust;

/// <summary>
/// Takes a part's key into the trust set when the part knows the join code. The same name with another key is a second
/// process of that part, or the part after it lost its key: the new key is added beside the old one, which stays believed.
/// </summary>
internal sealed class JoinDesk
{
    /// <summary>A shorter code is refused, so that guessing is hopeless whatever the rate.</summary>
    public const int CodeCharsMin = 32;
    /// <summary>Failed attempts a minute, from wherever, before every attempt is turned away for the rest of it.</summary>
    public const int FailuresMax = 10;
    private static readonly TimeSpan Window = TimeSpan.FromMinutes(1);

    private static readonly Refused WrongCode = new(ErrorCode.JoinRefused, "The join code is not the one that issuance was started with (Trust:JoinCode, at least 32 characters).");

    private readonly byte[]? _codeHash;
    private readonly Journal _journal;
    private readonly PlatformTrust _trust;
    private readonly TimeProvider _time;
    private readonly ILogger<JoinDesk> _log;
    private readonly Queue<long> _failures = new();

    /// <summary>Makes one.</summary>
    /// <param name="code">The code in force; absent or too short, nobody joins.</param>
    /// <param name="journal">Where keys are written.</param>
    /// <param name="trust">The set they go into.</param>
    /// <param name="time">The clock.</param>
    /// <param name="log">The log.</param>
    public JoinDesk(string? code, Journal journal, PlatformTrust trust, TimeProvider time, ILogger<JoinDesk> log)
    {
        (_journal, _trust, _time, _log) = (journal, trust, time, log);
        if (code is { Length: >= CodeCharsMin })
            _codeHash = SHA256.HashData(Encoding.UTF8.GetBytes(code));
        else if (code is { Length: > 0 })
            log.LogWarning("Trust:JoinCode has fewer than {CodeCharsMin} characters, so no part can join", CodeCharsMin);
    }

    /// <summary>Lets a part in, or says why not.</summary>
    /// <param name="request">What it says of itself.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <returns>The trust set with its key.</returns>
    public async Task<Outcome<TrustAnswer>> JoinAsync(JoinRequest request, CancellationToken cancellationToken)
    {
        if (!MayTry())
            return new Refused(ErrorCode.RateLimited, "Too many joins have failed within a minute. Try again in a minute.");
        // Hashes, so that neither the code nor its length shows in the time that the comparison takes.
        var presented = SHA256.HashData(Encoding.UTF8.GetBytes(request.Code ?? ""));
        if (_codeHash is null || !CryptographicOperations.FixedTimeEquals(presented, _codeHash))
        {
            Failed();
            return WrongCode;
        }
        if (request.V != 1)
            return Callers.Invalid("v: this issuance speaks version 1.");
        if (request.Kind is not (TrustedKey.Gateway or TrustedKey.Service))
            return Callers.Invalid("kind: gateway or service.");
        if (!Names.IsWellFormed(request.Name))
            return Callers.Invalid($"name: {Names.Grammar}.");
        if (request.Name == PlatformTrust.PartName)
            return Callers.Invalid("name: 'issuance' is issuance's own.");
        if (!VerifyingKey.TryCreate(request.X, out var key))
            return Callers.Invalid("x: an Ed25519 public key, 43 characters of base64url.");
        return await _journal.WriteAsync<Outcome<TrustAnswer>>(entry => AdmitAsync(entry, request.Kind, request.Name!, key), cancellationToken) is { Refusal: { } refusal }
            ? Outcome<TrustAnswer>.Refused(refusal)
            : _trust.Answer;
    }

    private async Task<Outcome<TrustAnswer>> AdmitAsync(JournalEntry entry, string kind, string name, VerifyingKey key)
    {
        var known = await entry.SingleAsync<string>("SELECT kind || ' ' || name FROM trusted_keys WHERE kid = @Kid", new { key.Kid });
        if (known == $"{kind} {name}")
            return _trust.Answer;
        if (known is not null || await entry.SingleAsync<long>("SELECT COUNT(*) FROM signing_keys WHERE kid = @Kid", new { key.Kid }) > 0)
            return Callers.Invalid("x: this key is another part's. Each part makes its own.");
        if (await entry.SingleAsync<long>("SELECT COUNT(*) FROM trusted_keys") >= PlatformTrust.TrustedKeysMax)
            return Callers.Invalid($"x: the trust set holds {PlatformTrust.TrustedKeysMax} keys of parts and takes no more.");
        await entry.ExecuteAsync("INSERT INTO trusted_keys (kid, kind, name, x, joined_at) VALUES (@Kid, @kind, @name, @X, @NowSeconds)", new { key.Kid, kind, name, key.X, entry.NowSeconds });
        await _trust.SignAsync(entry);
        entry.WhenCommitted(() => _log.LogInformation("{Kind} {Name} joined with key {Kid}", kind, name, key.Kid));
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

    private void Failed()
    {
        lock (_failures)
            _failures.Enqueue(_time.GetTimestamp());
        _log.LogWarning("A join was refused: wrong code");
    }
}
