using Foundry.Issuance.Changes;
using Foundry.Issuance.Keys;
using Foundry.Issuance.Tokens;
using Foundry.ServiceDefaults;
using Foundry.Tokens;

namespace Foundry.Issuance.Admin;

/// <summary>
/// The platform administrator's token, in a file that only its owner can read (CONTRACT section 1, Standalone): good for
/// 30 days, renewed with a week left, the old one revoked a day later. One call finds out what is to be done and does it,
/// at the start and ever after.
/// </summary>
internal sealed class AdminToken : IDisposable
{
    public const string KeyFile = "admin.key";
    public const string TokenFile = "admin.token";
    public static readonly TimeSpan Lifetime = TimeSpan.FromDays(30);
    public static readonly TimeSpan RenewedBefore = TimeSpan.FromDays(7);
    public static readonly TimeSpan OldOneKept = TimeSpan.FromDays(1);

    private readonly StateFolder _folder;
    private readonly Journal _journal;
    private readonly TokenMint _mint;
    private readonly SigningKeys _keys;
    private readonly SigningKey _subject;
    private readonly SemaphoreSlim _turn = new(1, 1);

    /// <summary>Reads admin.key, or makes one where there is none.</summary>
    /// <exception cref="StateCorruptException">The file does not hold a key.</exception>
    public AdminToken(StateFolder folder, Journal journal, TokenMint mint, SigningKeys keys)
    {
        (_folder, _journal, _mint, _keys) = (folder, journal, mint, keys);
        _subject = folder.SigningKey(KeyFile);
    }

    /// <summary>Where the token is.</summary>
    public string Path => _folder.File(TokenFile);

    /// <summary>Makes sure that the file holds a token that is good and will be for a while; the one before it has its day (<see cref="DueRevocations"/>).</summary>
    /// <returns>Why a new one was written, or null.</returns>
    /// <exception cref="StateCorruptException">The file holds something that this platform never issued.</exception>
    public async Task<string?> EnsureAsync(CancellationToken cancellationToken)
    {
        await _turn.WaitAsync(cancellationToken);
        try
        {
            CapabilityToken? held = null;
            if (_folder.Read(TokenFile) is { } text && !CapabilityToken.TryVerify(text.TrimEnd('\n'), await _keys.EverAsync(cancellationToken), out held, out _))
                throw new StateCorruptException(Path, "this is not a token that this platform issued; without the file, a new one is written");
            var (token, why) = await _journal.WriteAsync(entry => RenewAsync(entry, held), cancellationToken);
            // Committed first: after a crash in between the old token is good for a day, and the next call writes the new one.
            if (token is not null)
                _folder.Write(TokenFile, token + "\n");
            return why;
        }
        finally
        {
            _turn.Release();
        }
    }

    /// <summary>Revokes every platform administrator's token, whoever has it, and every code that one of them had made for a part; writes a new one.</summary>
    public async Task ResetAsync(CancellationToken cancellationToken)
    {
        var token = await _journal.WriteAsync(async entry =>
        {
            await TokenMint.RevokeAsync(entry, await entry.QueryAsync<TokenRow>(
                $"SELECT {TokenRow.Columns} FROM tokens WHERE scope = @Scope AND revoked_at IS NULL AND expires_at > @NowSeconds ORDER BY token_id", new { Scope = Scope.PlatformAdmin.Text, entry.NowSeconds }), Doer.Itself);
            await entry.ExecuteAsync("DELETE FROM join_codes WHERE used_by IS NULL");
            return await MintAsync(entry);
        }, cancellationToken);
        // Committed first: where this fails, the next start finds a revoked token here and writes another.
        _folder.Write(TokenFile, token + "\n");
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _subject.Dispose();
        _turn.Dispose();
    }

    private async Task<(string? Token, string? Why)> RenewAsync(JournalEntry entry, CapabilityToken? held)
    {
        var good = (await entry.QueryAsync<TokenRow>(
            $"SELECT {TokenRow.Columns} FROM tokens WHERE in_admin_file = 1 AND (subject_pubkey = @X OR token_id = @Jti) AND revoked_at IS NULL AND expires_at > @NowSeconds ORDER BY token_id",
            new { _subject.Public.X, Jti = held?.Jti ?? "", entry.NowSeconds })).ToList();
        var inFile = good.FirstOrDefault(row => row.TokenId == held?.Jti);
        var why = held is null ? "there was none"
            : inFile is null ? "the one that was there is no longer accepted"
            : held.SubjectPubkey != _subject.Public.X ? $"{KeyFile} is another than its own"
            : inFile.RevokeAt is not null ? "its renewal had been cut short"
            : inFile.ExpiresAt - entry.NowSeconds <= (long)RenewedBefore.TotalSeconds ? "it would expire within a week"
            : null;
        // Of the same key and for a file, but not in this one: where there is none here, it was lost; else it was made before a crash,
        // or by another process whose folder began as a copy of this one, and is good for this one too.
        var lasting = good.Where(row => row.TokenId != inFile?.TokenId && row.SubjectPubkey == _subject.Public.X && row.RevokeAt is null).ToList();
        var key = await _keys.CurrentAsync(entry);
        var found = why is null || held is null ? null : lasting.FirstOrDefault(row => row.Kid == key?.Kid && row.ExpiresAt - entry.NowSeconds > (long)RenewedBefore.TotalSeconds);
        foreach (var row in good.Where(row => row.TokenId != found?.TokenId))
        {
            if (row.SubjectPubkey != _subject.Public.X || (held is null && lasting.Contains(row)))
                await TokenMint.RevokeAsync(entry, [row], Doer.Itself);
            else if (why is not null && row.RevokeAt is null)
                await entry.ExecuteAsync("UPDATE tokens SET revoke_at = @at WHERE token_id = @TokenId", new { row.TokenId, at = entry.NowSeconds + (long)OldOneKept.TotalSeconds });
        }
        return why is null ? (null, null) : (found is null ? await MintAsync(entry) : _mint.Sign(found, key!).Token, why);
    }

    private async Task<string> MintAsync(JournalEntry entry) =>
        (await _mint.MintAsync(entry, new TokenGrant(null, Scope.PlatformAdmin, _subject.Public, null, (long)Lifetime.TotalSeconds, InAdminFile: true), Doer.Itself)).Value?.Token
            ?? throw new IOException("The key that signs tokens is not held by this process.");
}
