using System.Security.Cryptography;
using System.Text;
using Foundry.Contracts;
using Foundry.Issuance.Changes;
using Foundry.ServiceDefaults;
using Foundry.ServiceDefaults.Trust;
using Foundry.Tokens;

namespace Foundry.Issuance.Trust;

/// <summary>The parts that are believed, and the codes for those that are to be.</summary>
internal sealed class PartBook
{
    /// <summary>The file of the first gateway's code.</summary>
    public const string FirstCodeFile = "gateway.code";
    /// <summary>The name that it is made for: what a gateway is called that nobody named.</summary>
    public const string FirstGateway = "gateway";
    /// <summary>Codes that are neither used nor expired, at most.</summary>
    public const int OpenCodesMax = 1000;
    /// <summary>How long a code is good for where nothing is said.</summary>
    public static readonly TimeSpan CodeLifetime = TimeSpan.FromHours(1);
    /// <summary>The shortest that may be asked for.</summary>
    public static readonly TimeSpan CodeLifetimeMin = TimeSpan.FromMinutes(1);
    /// <summary>The longest that may be asked for.</summary>
    public static readonly TimeSpan CodeLifetimeMax = TimeSpan.FromDays(7);

    private readonly Journal _journal;
    private readonly PlatformTrust _trust;
    private readonly ServiceIdentity _own;

    /// <summary>Makes one.</summary>
    public PartBook(Journal journal, PlatformTrust trust, ServiceIdentity own) => (_journal, _trust, _own) = (journal, trust, own);

    /// <summary>What is kept of a code.</summary>
    /// <param name="hash">Its SHA-256.</param>
    public static string Stored(ReadOnlySpan<byte> hash) => Base64UrlText.Encode(hash);

    /// <summary>Why no part can be of this kind and name, or null.</summary>
    public static Refused? RefuseName(string? kind, string? name) =>
        kind is not (TrustedKey.Gateway or TrustedKey.Service) ? Callers.Invalid("kind: gateway or service.")
        : !Names.IsWellFormed(name) ? Callers.Invalid($"name: {Names.Grammar}.")
        : name == PlatformTrust.PartName ? Callers.Invalid("name: 'issuance' is issuance's own.")
        : null;

    /// <summary>Makes a code for one part, to be used once.</summary>
    public async Task<Outcome<PartCode>> MakeCodeAsync(Asserted caller, PartCodeRequest request, CancellationToken cancellationToken)
    {
        if (RefuseName(request.Kind, request.Name) is { } refused)
            return refused;
        var seconds = request.ExpiresInSeconds ?? (long)CodeLifetime.TotalSeconds;
        if (seconds < CodeLifetimeMin.TotalSeconds || seconds > CodeLifetimeMax.TotalSeconds)
            return Callers.Invalid($"expires_in_seconds: from {CodeLifetimeMin.TotalSeconds} to {CodeLifetimeMax.TotalSeconds}.");
        var code = NewCode();
        return await _journal.WriteForAsync<PartCode>(caller, async entry =>
        {
            await entry.ExecuteAsync("DELETE FROM join_codes WHERE expires_at <= @NowSeconds", new { entry.NowSeconds });
            if (await entry.SingleAsync<long>("SELECT COUNT(*) FROM join_codes WHERE used_by IS NULL") >= OpenCodesMax)
                return Callers.Invalid($"name: there are {OpenCodesMax} unused codes, and no more are made until one is used or expires.");
            var expiresAt = entry.NowSeconds + seconds;
            await InsertAsync(entry, code, request.Kind!, request.Name!, expiresAt, caller.TokenId);
            return new PartCode(code, request.Kind!, request.Name!, DateTimeOffset.FromUnixTimeSeconds(expiresAt), _trust.RootThumbprint);
        }, cancellationToken);
    }

    /// <summary>
    /// Codes are asked for through a gateway; the first gateway's is in a file of the administrator's, anew at each start until there
    /// is one. Where the deployment has a code of its own, none is needed.
    /// </summary>
    /// <param name="folder">The administrator's folder.</param>
    /// <param name="hasDeploymentCode">Whether parts join with <c>Trust:JoinCode</c>.</param>
    /// <returns>The file, or null.</returns>
    public async Task<string?> KeepFirstCodeAsync(StateFolder folder, bool hasDeploymentCode)
    {
        if (hasDeploymentCode || _trust.Current.Keys.Any(key => key.Kind == TrustedKey.Gateway))
        {
            File.Delete(folder.File(FirstCodeFile));
            return null;
        }
        var (code, before) = (NewCode(), folder.Read(FirstCodeFile)?.TrimEnd('\n') ?? "");
        await _journal.WriteAsync(async entry =>
        {
            await entry.ExecuteAsync("DELETE FROM join_codes WHERE code_hash = @hash", new { hash = HashOf(before) });
            await InsertAsync(entry, code, TrustedKey.Gateway, FirstGateway, entry.NowSeconds + (long)CodeLifetimeMax.TotalSeconds, null);
            return 0;
        }, CancellationToken.None);
        folder.Write(FirstCodeFile, code + "\n");
        return folder.File(FirstCodeFile);
    }

    /// <summary>Who is believed: a page by name, one longer than asked where there is more.</summary>
    public async Task<IReadOnlyList<PartRecord>> ListAsync(string after, int limit, CancellationToken cancellationToken) =>
        [.. (await _journal.Database.ReadAllAsync<PartRow>("""
            SELECT kid AS Kid, kind AS Kind, name AS Name, joined_at AS JoinedAt FROM trusted_keys
            WHERE removed_at IS NULL AND name || '/' || kid > @after
            ORDER BY name || '/' || kid LIMIT @limit
            """, new { after, limit = limit + 1 }, cancellationToken)).Select(row => new PartRecord(row.Kid, row.Kind, row.Name, DateTimeOffset.FromUnixTimeSeconds(row.JoinedAt)))];

    /// <summary>Takes a key out of the trust set, for good. Again is the same.</summary>
    public async Task<Outcome<bool>> RemoveAsync(Asserted caller, string kid, string requestId, CancellationToken cancellationToken)
    {
        if (kid == _own.Key.Kid)
            return Callers.Invalid("kid: this is issuance's own key, and without it nobody would hear of the change.");
        return await _journal.EndForAsync<bool>(caller, async entry =>
        {
            if (await entry.SingleAsync<PartRow>("SELECT kid AS Kid, kind AS Kind, name AS Name, joined_at AS JoinedAt, removed_at AS RemovedAt FROM trusted_keys WHERE kid = @kid", new { kid }) is not { } part)
                return Callers.NotFound;
            if (part.RemovedAt is not null)
                return true;
            await entry.ExecuteAsync("UPDATE trusted_keys SET removed_at = @NowSeconds WHERE kid = @kid", new { entry.NowSeconds, kid });
            await _trust.SignAsync(entry);
            await entry.RecordAsync([Logs.Platform], EventTypes.KeyRotated, null, Doer.Of(caller, requestId), ("kind", part.Kind), ("name", part.Name), ("withdrawn_kids", new[] { kid }));
            return true;
        }, cancellationToken);
    }

    // 256 bits: nothing is gained by guessing, so a plain hash of it is enough.
    private static string NewCode() => Base64UrlText.Encode(RandomNumberGenerator.GetBytes(32));

    private static Task InsertAsync(JournalEntry entry, string code, string kind, string name, long expiresAt, string? madeBy) =>
        entry.ExecuteAsync("INSERT INTO join_codes (code_hash, kind, name, expires_at, made_by) VALUES (@hash, @kind, @name, @expiresAt, @madeBy)",
            new { hash = HashOf(code), kind, name, expiresAt, madeBy });

    private static string HashOf(string code) => Stored(SHA256.HashData(Encoding.UTF8.GetBytes(code)));

    internal sealed record CodeRow
    {
        /// <summary>The columns, for SELECT.</summary>
        public const string Columns = "kind AS Kind, name AS Name, expires_at AS ExpiresAt, made_by AS MadeBy, used_by AS UsedBy";

        public string Kind { get; init; } = "";
        public string Name { get; init; } = "";
        public long ExpiresAt { get; init; }
        public string? MadeBy { get; init; }
        public string? UsedBy { get; init; }
    }

    private sealed record PartRow
    {
        public string Kid { get; init; } = "";
        public string Kind { get; init; } = "";
        public string Name { get; init; } = "";
        public long JoinedAt { get; init; }
        public long? RemovedAt { get; init; }
    }
}
