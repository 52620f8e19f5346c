using System.Text.Json;
using Dapper;
using Foundry.Contracts;
using Foundry.Issuance.Changes;
using Foundry.ServiceDefaults;
using Foundry.ServiceDefaults.Trust;
using Foundry.Storage;
using Foundry.Tokens;

namespace Foundry.Issuance.Trust;

/// <summary>
/// The trust set, where it is made (docs/architecture.md, Trust between parts): every key that anyone may believe, signed
/// by the root. Its <c>seq</c> is stored with the set, so it never goes back, whatever happens to the process.
/// </summary>
internal sealed class PlatformTrust : ITrustSource
{
    /// <summary>The name of this part, reserved for its own keys: whoever bore it could sign the change feed.</summary>
    public const string PartName = "issuance";
    /// <summary>Keys of other parts at most; the set goes to every part, whole.</summary>
    public const int TrustedKeysMax = 1000;

    private readonly SigningKey _root;
    private readonly Database _database;
    private readonly Lock _adopting = new();
    private volatile State _state;
    private TaskCompletionSource _newer = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private int _waiting;

    private PlatformTrust(SigningKey root, Database database, State state) => (_root, _database, _state) = (root, database, state);

    /// <inheritdoc/>
    public TrustSet Current => _state.Set;

    /// <summary>The set as others fetch it.</summary>
    public TrustAnswer Answer => _state.Answer;

    /// <summary>The keys whose tokens are accepted.</summary>
    public KeySet TokenKeys => _state.TokenKeys;

    /// <summary>The root's thumbprint, which every part pins.</summary>
    public string RootThumbprint => _root.Kid;

    /// <summary>Reads the stored set.</summary>
    /// <exception cref="StateCorruptException">The root did not sign what is stored.</exception>
    public static async Task<PlatformTrust> LoadAsync(SigningKey root, Database database, CancellationToken cancellationToken) =>
        new(root, database, await ReadAsync(root, database, cancellationToken));

    /// <summary>Signs the set anew from the tables of keys; part of the transaction that changed them.</summary>
    /// <param name="root">The root.</param>
    /// <param name="entry">That transaction.</param>
    public static async Task<TrustAnswer> SignAsync(SigningKey root, JournalEntry entry)
    {
        var platform = await entry.SingleAsync<PlatformRow>("UPDATE platform SET trust_seq = trust_seq + 1 WHERE id = 1 RETURNING trust_seq AS TrustSeq, issuer AS Issuer, trust AS Trust");
        var keys = await entry.QueryAsync<KeyRow>("""
            SELECT kid AS Kid, 'token' AS Kind, 'issuance' AS Name, x AS X, status AS Status FROM signing_keys WHERE status IN ('active', 'next', 'retired')
            UNION ALL
            SELECT kid AS Kid, kind AS Kind, name AS Name, x AS X, 'active' AS Status FROM trusted_keys WHERE removed_at IS NULL
            ORDER BY 2, 3, 1
            """);
        var set = new TrustSet(1, platform!.TrustSeq, entry.NowSeconds, platform.Issuer, [.. keys.Select(key => new TrustedKey(key.Kid, key.Kind, key.Name, key.X, key.Status))]);
        var answer = new TrustAnswer(1, root.Public.X, set.Sign(root));
        await entry.ExecuteAsync("UPDATE platform SET trust = @Trust WHERE id = 1", new { answer.Trust });
        await entry.ChangeAsync(new Change("trust", Trust: JsonSerializer.Serialize(answer, WireJson.Default.TrustAnswer)));
        return answer;
    }

    /// <summary>Signs the set anew and, once that is committed, goes by it.</summary>
    /// <param name="entry">The transaction that changed the keys.</param>
    public async Task SignAsync(JournalEntry entry)
    {
        var answer = await SignAsync(_root, entry);
        entry.WhenCommitted(() => Adopt(Read(_root, answer)!));
    }

    /// <summary>Takes over what another process of the same platform has committed.</summary>
    public async Task ReloadAsync(CancellationToken cancellationToken) => Adopt(await ReadAsync(_root, _database, cancellationToken));

    /// <summary>Nothing to ask for: nobody knows it sooner than the one who makes it.</summary>
    public Task RefreshAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    /// <summary>Those who wait in <see cref="NewerAsync"/>.</summary>
    public int Waiting => Volatile.Read(ref _waiting);

    /// <summary>The set as soon as it is newer than one that a part has, or the one in force when the wait is over.</summary>
    /// <param name="seq">What the part has.</param>
    /// <param name="atMost">How long it waits.</param>
    /// <param name="time">The clock.</param>
    /// <param name="cancellationToken">Ends the wait, as time does.</param>
    public async Task<TrustAnswer> NewerAsync(long seq, TimeSpan atMost, TimeProvider time, CancellationToken cancellationToken)
    {
        Interlocked.Increment(ref _waiting);
        Task newer;
        lock (_adopting)
            newer = _state.Set.Seq > seq ? Task.CompletedTask : _newer.Task;
        try
        {
            await newer.WaitAsync(atMost, time, cancellationToken);
        }
        catch (Exception ended) when (ended is TimeoutException or OperationCanceledException)
        {
            // Nothing new; the part asks again.
        }
        finally
        {
            Interlocked.Decrement(ref _waiting);
        }
        return Answer;
    }

    private void Adopt(State state)
    {
        lock (_adopting)
        {
            if (state.Set.Seq <= _state.Set.Seq)
                return;
            _state = state;
            _newer.TrySetResult();
            _newer = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        }
    }

    private static async Task<State> ReadAsync(SigningKey root, Database database, CancellationToken cancellationToken)
    {
        await using var connection = await database.OpenConnectionAsync(cancellationToken);
        var stored = await connection.QuerySingleAsync<PlatformRow>(new CommandDefinition("SELECT trust_seq AS TrustSeq, issuer AS Issuer, trust AS Trust FROM platform WHERE id = 1", cancellationToken: cancellationToken));
        return Read(root, new TrustAnswer(1, root.Public.X, stored.Trust)) is { } state && state.Set.Seq == stored.TrustSeq
            ? state
            : throw new StateCorruptException(database.Where, "the trust set in it is not one that root.key signed");
    }

    private static State? Read(SigningKey root, TrustAnswer answer) =>
        TrustSet.TryVerify(answer.Trust, root.Public, out var set) ? new State(set, answer, set.KeysOf(TrustedKey.Token)) : null;

    private sealed record State(TrustSet Set, TrustAnswer Answer, KeySet TokenKeys);

    private sealed record PlatformRow
    {
        public long TrustSeq { get; init; }
        public string Issuer { get; init; } = "";
        public string Trust { get; init; } = "";
    }

    private sealed record KeyRow
    {
        public string Kid { get; init; } = "";
        public string Kind { get; init; } = "";
        public string Name { get; init; } = "";
        public string X { get; init; } = "";
        public string Status { get; init; } = "";
    }
}
