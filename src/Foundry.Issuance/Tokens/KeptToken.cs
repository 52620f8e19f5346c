using System.Text.Json;
using Foundry.Contracts;
using Foundry.Issuance.Changes;
using Foundry.Issuance.Keys;
using Foundry.ServiceDefaults;
using Foundry.Tokens;

namespace Foundry.Issuance.Tokens;

/// <summary>
/// What an Idempotency-Key keeps of an issued token: its claims and who signed them, not the signature, without which it opens
/// nothing. Ed25519 is deterministic (RFC 8032 section 5.1.6), so the same claims under the same key are the same token again.
/// </summary>
/// <param name="Kid">Who signed.</param>
/// <param name="Claims">The payload's bytes, base64.</param>
/// <param name="Answer">The answer, its token left out.</param>
internal sealed record KeptToken(string Kid, byte[] Claims, IssuedToken Answer)
{
    /// <summary>What is kept of an answer.</summary>
    public static string Of(IssuedToken issued) =>
        Jws.TryParse(issued.Token, CapabilityToken.Typ, out var jws, out _)
            ? JsonSerializer.Serialize(new KeptToken(jws.Kid, jws.Payload, issued with { Token = "" }))
            : throw new InvalidOperationException("An issued token is a JWS.");

    /// <summary>The answer again; refused where the key that signed it signs no more, and so is gone.</summary>
    public static async Task<Outcome<IssuedToken>> AgainAsync(JournalEntry entry, SigningKeys keys, string text)
    {
        var kept = JsonSerializer.Deserialize<KeptToken>(text)!;
        if (await keys.CurrentAsync(entry) is not { } key)
            return TokenMint.NoKey;
        return key.Kid == kept.Kid
            ? kept.Answer with { Token = Jws.Sign(key, CapabilityToken.Typ, kept.Claims) }
            : new Refused(ErrorCode.AnswerGone, $"The token {kept.Answer.TokenId} was issued with this Idempotency-Key, and the signing keys have changed since. Revoke it if nobody has it, and use a new key.");
    }
}
