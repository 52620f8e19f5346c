using System.Collections.Concurrent;
using System.Text.Json;
using Foundry.Tokens;

namespace Foundry.Cli.Tests.Bulk;

/// <summary>What issuance promises of <c>Idempotency-Key</c>, in memory: a repeat gets the first answer and makes no second token.</summary>
internal sealed class FakeIssuance
{
    private readonly ConcurrentDictionary<string, Said> _answers = new();
    private int _issued;

    /// <summary>Tokens there are.</summary>
    public int Issued => _issued;

    /// <summary>Old tokens that each new one replaces.</summary>
    public int ReplacesEach { get; init; }

    public Said Answer(Asked asked)
    {
        if (asked.Method == "DELETE")
            return Said.Nothing();
        Assert.NotEqual("", asked.IdempotencyKey);
        return _answers.GetOrAdd(asked.IdempotencyKey, _ =>
        {
            var number = Interlocked.Increment(ref _issued);
            var body = JsonElement.Parse(asked.Body);
            var replaces = string.Join(',', Enumerable.Range(1, ReplacesEach).Select(old => $$"""{"token_id":"old-{{number}}-{{old}}","scope":"read","revokes_at":"2026-06-12T09:10:00Z"}"""));
            return Said.Json($$"""
                {"token":"e30.e30.{{number}}","token_id":"id-{{number}}","tenant_id":"acme-corp","scope":"{{body.GetProperty("scope")}}","subject_pubkey":"{{body.GetProperty("subject_pubkey")}}",
                 "issued_at":"2026-06-12T09:00:00Z","expires_at":"2026-07-12T09:00:00Z","replaces":[{{replaces}}]}
                """, 201);
        });
    }

    /// <summary>Public keys of nobody.</summary>
    public static string[] Keys(int count) => [.. Enumerable.Range(0, count).Select(_ =>
    {
        using var key = SigningKey.Generate();
        return key.Public.X;
    })];
}
