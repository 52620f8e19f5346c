using Foundry.Ledger.Recovery;
using Foundry.Proofs;
using Foundry.ServiceDefaults;
using Npgsql;

namespace Foundry.Ledger.Storage;

/// <summary>A log in PostgreSQL's rows. A commit publishes; there is nothing beside it to bring up to date.</summary>
internal sealed class LogRows : IStoredLog
{
    // Set for the transaction, since a pooler may give each one another session. A process that is paused inside a commit keeps
    // others waiting until the server ends its session; one that waits for such a one gives up later than that.
    private const string Begin = """
        SET LOCAL synchronous_commit = on;
        SET LOCAL idle_in_transaction_session_timeout = '5s';
        SET LOCAL lock_timeout = '10s';
        """;

    private readonly NpgsqlDataSource _source;
    private readonly LogVerifier _verifier;
    private readonly long _id;

    // The connection of the commit under way.
    private NpgsqlConnection? _committing;

    private LogRows(NpgsqlDataSource source, string where, LogVerifier verifier, long id) =>
        (_source, Where, _verifier, _id) = (source, where, verifier, id);

    /// <inheritdoc/>
    public LogHead Opened { get; private set; } = null!;

    /// <inheritdoc/>
    public string Where { get; }

    /// <inheritdoc/>
    public bool IsShared => true;

    /// <inheritdoc/>
    public bool IsPublished => true;

    /// <summary>Opens a log; null where there is none.</summary>
    /// <exception cref="StateCorruptException">The edge of its tree does not fit its signed checkpoint.</exception>
    public static LogRows? TryOpen(NpgsqlDataSource source, string where, ModuleId module, LogVerifier verifier)
    {
        using var connection = source.OpenConnection();
        using var transaction = connection.BeginTransaction(System.Data.IsolationLevel.RepeatableRead);
        if (Scalar<long>(connection, "SELECT id FROM logs WHERE module = $1", module.Name) is not { } id)
            return null;
        var log = new LogRows(source, where, verifier, id);
        var (size, note) = log.Row(connection, "");
        log.Opened = log.Load(connection, size, note);
        return log;
    }

    /// <inheritdoc/>
    public LogHead Commit(LogHead? known, Func<LogHead, LogCommit?> prepare)
    {
        using var connection = _source.OpenConnection();
        using var transaction = connection.BeginTransaction();
        using (var begin = new NpgsqlCommand(Begin, connection))
            begin.ExecuteNonQuery();
        // Whoever commits to this log next waits here, and then sees what we did. Is it still the log that our tree is of?
        var (size, note) = Row(connection, " FOR UPDATE");
        var head = known is not null && known.State.Size == size && known.State.Note.AsSpan().SequenceEqual(note) ? known : Load(connection, size, note);
        LogCommit? commit;
        try
        {
            _committing = connection;
            commit = prepare(head);
        }
        finally
        {
            _committing = null;
        }
        if (commit is null)
            return head;
        Write(connection, head, commit, note);
        // The commit point: PostgreSQL has entries, tiles, terms and the checkpoint on disk together when this returns.
        transaction.Commit();
        return new LogHead(new LogState(head.Tree.Size, commit.Note, head.Tree.Edge(), this), head.Tree);
    }

    /// <inheritdoc/>
    public LogState? Newer(LogState known)
    {
        using var connection = _source.OpenConnection();
        using var transaction = connection.BeginTransaction(System.Data.IsolationLevel.RepeatableRead);
        var (size, note) = Row(connection, "");
        if (size == known.Size)
            return null;
        return size > known.Size ? Load(connection, size, note).State : throw new StateCorruptException(Where, $"it has {size} entries, and had {known.Size}");
    }

    /// <inheritdoc/>
    public IReadOnlyDictionary<long, List<long>> Find(IReadOnlyCollection<long> terms)
    {
        using var command = Command(_committing ?? throw new InvalidOperationException("Asked for outside a commit."),
            "SELECT term, cursor FROM terms WHERE log = $1 AND term = ANY($2) ORDER BY cursor", _id, terms.ToArray());
        using var reader = command.ExecuteReader();
        var found = new Dictionary<long, List<long>>();
        while (reader.Read())
        {
            if (!found.TryGetValue(reader.GetInt64(0), out var cursors))
                found[reader.GetInt64(0)] = cursors = [];
            cursors.Add(reader.GetInt64(1));
        }
        return found;
    }

    /// <inheritdoc/>
    public ITermLists OpenTerms() => new TermRows(_source.OpenConnection(), _id);

    /// <inheritdoc/>
    public IEnumerable<ReadOnlyMemory<byte>> Leaves(long start, long end)
    {
        while (start < end)
        {
            // A bundle's worth at a time, so that nobody who stops reading leaves a cursor open.
            var part = Math.Min(end, (start / Tile.WidthMax + 1) * Tile.WidthMax);
            List<byte[]> leaves;
            using (var connection = _source.OpenConnection())
                leaves = Leaves(connection, start, part);
            foreach (var leaf in leaves)
                yield return leaf;
            start = part;
        }
    }

    /// <inheritdoc/>
    public byte[] FullTile(Tile tile)
    {
        using var connection = _source.OpenConnection();
        using var command = Command(connection, "SELECT hashes FROM tiles WHERE log = $1 AND level = $2 AND place = $3", _id, tile.Level, tile.Index);
        return command.ExecuteScalar() as byte[] is { Length: Tile.BytesMax } hashes ? hashes : throw new StateCorruptException($"{Where}/{tile.Path}", "the tile is gone or damaged");
    }

    /// <inheritdoc/>
    public void Publish()
    {
    }

    /// <summary>Recomputes the tree from its first entries and compares with it every full tile, and the root where these are all that the tail was.</summary>
    /// <exception cref="StateCorruptException">Something is gone or damaged.</exception>
    public void Recompute(long end, VerifiedTail tail, CancellationToken cancellation)
    {
        var tree = new TreeFrontier((tile, hashes) =>
        {
            var stored = TreeHash.FromTile(FullTile(tile));
            for (var i = 0; i < Tile.WidthMax; i++)
            {
                if (stored[i] != hashes[i])
                    throw new StateCorruptException($"{Where}/{tile.Path}", $"its hash {i}, which covers entry {((tile.Index * Tile.WidthMax + i) << (Tile.Height * tile.Level)) + 1}, is not that of the entries");
            }
        });
        foreach (var leaf in Leaves(0, end))
        {
            cancellation.ThrowIfCancellationRequested();
            tree.Append(TreeHash.OfLeaf(leaf.Span));
        }
        if (end == tail.First && tree.Root != tail.FirstRoot)
            throw new StateCorruptException(Where, $"the root of its {end} entries is not the one that its checkpoint signs");
    }

    /// <inheritdoc/>
    public void Dispose()
    {
    }

    // Everything that one commit changes, in one round trip.
    private void Write(NpgsqlConnection connection, LogHead head, LogCommit commit, byte[] oldNote)
    {
        var start = head.State.Size;
        var rows = commit.Terms.SelectMany((terms, i) => terms.Distinct().Select(term => (Term: term, Cursor: start + i + 1))).ToList();
        var tiles = commit.Completed.ToList();
        using var batch = new NpgsqlBatch(connection);
        batch.BatchCommands.Add(Part("INSERT INTO entries SELECT $1, place, leaf FROM unnest($2, $3) AS new (place, leaf)",
            _id, Enumerable.Range(0, commit.Leaves.Count).Select(i => start + i).ToArray(), commit.Leaves.Select(leaf => leaf.ToArray()).ToArray()));
        batch.BatchCommands.Add(Part("INSERT INTO terms SELECT $1, term, cursor FROM unnest($2, $3) AS new (term, cursor)",
            _id, rows.Select(row => row.Term).ToArray(), rows.Select(row => row.Cursor).ToArray()));
        if (tiles.Count > 0)
        {
            batch.BatchCommands.Add(Part("INSERT INTO tiles SELECT $1, level, place, hashes, root FROM unnest($2, $3, $4, $5) AS new (level, place, hashes, root)",
                _id, tiles.Select(tile => tile.Key.Level).ToArray(), tiles.Select(tile => tile.Key.Index).ToArray(),
                tiles.Select(tile => TreeHash.ToTile(tile.Value).ToArray()).ToArray(), tiles.Select(tile => LogRecovery.RootOf(tile.Value).Bytes.ToArray()).ToArray()));
        }
        // Compare and swap. The row is locked, so only something that ignores locks could make this fail; then nothing is committed.
        var swap = Part("UPDATE logs SET size = $1, note = $2 WHERE id = $3 AND size = $4 AND note = $5", head.Tree.Size, commit.Note, _id, start, oldNote);
        batch.BatchCommands.Add(swap);
        batch.ExecuteNonQuery();
        if (swap.RecordsAffected != 1)
            throw new StateCorruptException(Where, $"its checkpoint of {start} entries was replaced while it was locked");
    }

    private (long Size, byte[] Note) Row(NpgsqlConnection connection, string locking)
    {
        using var command = Command(connection, $"SELECT size, note FROM logs WHERE id = $1{locking}", _id);
        using var reader = command.ExecuteReader();
        return reader.Read() ? (reader.GetInt64(0), reader.GetFieldValue<byte[]>(1)) : throw new StateCorruptException(Where, "the log is gone");
    }

    // The edge of the tree: the hashes of the last entries, and the roots of the full tiles that the partial ones above are made of.
    private LogHead Load(NpgsqlConnection connection, long size, byte[] note)
    {
        if (!Checkpoint.TryOpen(note, _verifier, out var checkpoint) || checkpoint.Size != size)
            throw new StateCorruptException(Where, $"its checkpoint is not one of {_verifier.Name} over {size} entries signed by this ledger's key");
        var tree = TreeFrontier.FromTiles(size, tile =>
        {
            var start = tile.Index * Tile.WidthMax;
            var hashes = tile.Level == 0
                ? Leaves(connection, start, size).ConvertAll(leaf => TreeHash.OfLeaf(leaf))
                : Roots(connection, tile.Level - 1, start, start + tile.Width);
            return hashes.Count == tile.Width ? [.. hashes] : throw new StateCorruptException($"{Where}/{tile.Path}", $"something under it is gone, but the checkpoint covers {size} entries");
        });
        if (tree.Root != checkpoint.Root)
            throw new StateCorruptException(Where, $"the root of the {size} entries is {tree.Root}, not the {checkpoint.Root} that its checkpoint signs");
        return new LogHead(new LogState(size, note, tree.Edge(), this), tree);
    }

    private List<byte[]> Leaves(NpgsqlConnection connection, long start, long end)
    {
        using var command = Command(connection, "SELECT place, leaf FROM entries WHERE log = $1 AND place >= $2 AND place < $3 ORDER BY place", _id, start, end);
        using var reader = command.ExecuteReader();
        var leaves = new List<byte[]>();
        while (reader.Read() && reader.GetInt64(0) == start + leaves.Count)
            leaves.Add(reader.GetFieldValue<byte[]>(1));
        return leaves.Count == end - start ? leaves : throw new StateCorruptException(Where, $"entry {start + leaves.Count + 1} is gone");
    }

    private List<TreeHash> Roots(NpgsqlConnection connection, int level, long start, long end)
    {
        using var command = Command(connection, "SELECT root FROM tiles WHERE log = $1 AND level = $2 AND place >= $3 AND place < $4 ORDER BY place", _id, level, start, end);
        using var reader = command.ExecuteReader();
        var roots = new List<TreeHash>();
        while (reader.Read())
            roots.Add(reader.GetFieldValue<byte[]>(0) is { Length: TreeHash.Length } root ? new TreeHash(root) : throw new StateCorruptException(Where, $"a root at level {level} is damaged"));
        return roots;
    }

    private static T? Scalar<T>(NpgsqlConnection connection, string text, params object[] values) where T : struct
    {
        using var command = Command(connection, text, values);
        return command.ExecuteScalar() is T value ? value : null;
    }

    private static NpgsqlCommand Command(NpgsqlConnection connection, string text, params object[] values)
    {
#pragma warning disable CA2100 // Called with the constants above.
        var command = new NpgsqlCommand(text, connection);
#pragma warning restore CA2100
        foreach (var value in values)
            command.Parameters.Add(new() { Value = value });
        return command;
    }

    private static NpgsqlBatchCommand Part(string text, params object[] values)
    {
#pragma warning disable CA2100 // Called with the constants above.
        var command = new NpgsqlBatchCommand(text);
#pragma warning restore CA2100
        foreach (var value in values)
            command.Parameters.Add(new() { Value = value });
        return command;
    }

    private sealed class TermRows(NpgsqlConnection connection, long id) : ITermLists
    {
        public List<long> Cursors(long term, long from, int limit)
        {
            using var command = Command(connection, "SELECT cursor FROM terms WHERE log = $1 AND term = $2 AND cursor >= $3 ORDER BY cursor LIMIT $4", id, term, from, (long)limit);
            using var reader = command.ExecuteReader();
            var cursors = new List<long>();
            while (reader.Read())
                cursors.Add(reader.GetInt64(0));
            return cursors;
        }

        public void Dispose() => connection.Dispose();
    }
}
