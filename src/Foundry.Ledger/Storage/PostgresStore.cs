using Foundry.Ledger.Recovery;
using Foundry.Proofs;
using Foundry.ServiceDefaults;
using Npgsql;

namespace Foundry.Ledger.Storage;

/// <summary>The logs as rows of PostgreSQL, which several ledgers may share (docs/decisions/0013).</summary>
internal sealed class PostgresStore : ILogStore
{
    private const string DefaultSchema = "ledger";
    private const int Version = 1;

    // Two ledgers may start at once; any number that nobody else locks.
    private const string Prepare = """
        SELECT pg_advisory_xact_lock(7302294);
        CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL PRIMARY KEY);
        CREATE TABLE IF NOT EXISTS logs (id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, module TEXT NOT NULL UNIQUE, size BIGINT NOT NULL, note BYTEA NOT NULL);
        CREATE TABLE IF NOT EXISTS entries (log BIGINT NOT NULL REFERENCES logs, place BIGINT NOT NULL, leaf BYTEA NOT NULL, PRIMARY KEY (log, place));
        CREATE TABLE IF NOT EXISTS tiles (log BIGINT NOT NULL REFERENCES logs, level INTEGER NOT NULL, place BIGINT NOT NULL, hashes BYTEA NOT NULL, root BYTEA NOT NULL, PRIMARY KEY (log, level, place));
        CREATE TABLE IF NOT EXISTS terms (log BIGINT NOT NULL REFERENCES logs, term BIGINT NOT NULL, cursor BIGINT NOT NULL, PRIMARY KEY (log, term, cursor));
        INSERT INTO schema_version SELECT 1 WHERE NOT EXISTS (SELECT FROM schema_version);
        SELECT MAX(version) FROM schema_version;
        """;

    private readonly NpgsqlDataSource _source;

    // What the last look found; one thread looks.
    private string? _changes;
    private Dictionary<ModuleId, (long Size, string Note)> _claims = [];

    private PostgresStore(NpgsqlDataSource source, string where) => (_source, Where) = (source, where);

    /// <summary>The server, database and schema: for messages, without credentials.</summary>
    public string Where { get; }

    /// <summary>Connects, and makes the tables where there are none.</summary>
    /// <exception cref="StartupException">The connection string cannot be read, or the server cannot be used.</exception>
    public static PostgresStore Open(string connectionString)
    {
        NpgsqlConnectionStringBuilder parsed;
        try
        {
            parsed = new NpgsqlConnectionStringBuilder(connectionString);
            if (string.IsNullOrEmpty(parsed.SearchPath))
                parsed.SearchPath = DefaultSchema;
        }
        catch (ArgumentException fault)
        {
            throw new StartupException("Ledger:Database is not a connection string that PostgreSQL's driver reads: Host=…;Database=…;Username=…;Password=….", fault);
        }
        var store = new PostgresStore(NpgsqlDataSource.Create(parsed), $"{parsed.Host}/{parsed.Database}/{parsed.SearchPath}");
        try
        {
            store.MakeTables(parsed.SearchPath!);
            return store;
        }
        catch (NpgsqlException fault)
        {
            store.Dispose();
            throw new StartupException($"PostgreSQL ({store.Where}) cannot be used: {fault.Message}", fault);
        }
        catch
        {
            store.Dispose();
            throw;
        }
    }

    /// <inheritdoc/>
    public IReadOnlyList<ModuleId> Modules()
    {
        using var command = _source.CreateCommand("SELECT module FROM logs ORDER BY module");
        using var reader = command.ExecuteReader();
        var modules = new List<ModuleId>();
        while (reader.Read())
            modules.Add(ModuleId.TryParse(reader.GetString(0), out var module) ? module : throw new StateCorruptException($"{Where}.logs", $"'{reader.GetString(0)}' is no log's name"));
        return modules;
    }

    /// <inheritdoc/>
    public IStoredLog? Open(ModuleId module, LogVerifier verifier, Func<byte[]>? create)
    {
        if (create is not null)
        {
            using var make = _source.CreateCommand("INSERT INTO logs (module, size, note) VALUES ($1, 0, $2) ON CONFLICT (module) DO NOTHING");
            make.Parameters.Add(new() { Value = module.Name });
            make.Parameters.Add(new() { Value = create() });
            make.ExecuteNonQuery();
        }
        return LogRows.TryOpen(_source, $"{Where}/{module}", module, verifier);
    }

    /// <inheritdoc/>
    public VerifiedTail VerifyTail(ModuleId module, LogVerifier verifier, CancellationToken cancellation)
    {
        using var log = LogRows.TryOpen(_source, $"{Where}/{module}", module, verifier) ?? throw new StateCorruptException($"{Where}/{module}", "the log is gone");
        return new VerifiedTail(log.Opened.Tree.Size, log.Opened.Tree.Size, log.Opened.Tree.Root);
    }

    /// <inheritdoc/>
    public void Verify(ModuleId module, LogVerifier verifier, VerifiedTail tail, long entriesMax, CancellationToken cancellation)
    {
        using var log = LogRows.TryOpen(_source, $"{Where}/{module}", module, verifier) ?? throw new StateCorruptException($"{Where}/{module}", "the log is gone");
        log.Recompute(entriesMax >= tail.Size ? tail.Size : entriesMax / Tile.WidthMax * Tile.WidthMax, tail, cancellation);
    }

    /// <summary>
    /// Whether something was changed that nothing changes. PostgreSQL counts for each table the rows that were ever updated or deleted,
    /// and gives a table that was truncated another file: entries and tiles are only added, so that any difference is reason
    /// enough to recompute every log, which says what it is. What logs claim is compared with what they claimed before.
    /// </summary>
    public IEnumerable<(ModuleId Module, StateCorruptException Fault)> FindLosses(Func<ModuleId, LogVerifier> verifierOf, CancellationToken cancellation)
    {
        var losses = new List<(ModuleId, StateCorruptException)>();
        var (changes, claims) = (Changes(), Claims());
        var isChanged = _changes is { } before && before != changes;
        foreach (var (module, (size, note)) in _claims.Concat(claims.Where(claim => !_claims.ContainsKey(claim.Key))))
        {
            try
            {
                var (sizeNow, noteNow) = claims.TryGetValue(module, out var now) ? now : throw new StateCorruptException($"{Where}/{module}", "the log is gone");
                if (sizeNow < size)
                    throw new StateCorruptException($"{Where}/{module}", $"it has {sizeNow} entries, and had {size}");
                if (!isChanged && (sizeNow > size || noteNow == note))
                    continue;
                var tail = VerifyTail(module, verifierOf(module), cancellation);
                if (isChanged)
                    Verify(module, verifierOf(module), tail, long.MaxValue, cancellation);
            }
            catch (StateCorruptException fault)
            {
                losses.Add((module, fault));
            }
        }
        // Only now: what could not be looked at is looked at again.
        (_changes, _claims) = (changes, claims);
        return losses;
    }

    /// <inheritdoc/>
    public void Dispose() => _source.Dispose();

    private string Changes()
    {
        using var command = _source.CreateCommand("""
            SELECT string_agg(relname || ' ' || n_tup_upd + n_tup_del || ' ' || pg_relation_filenode(relid), ', ' ORDER BY relname)
            FROM pg_stat_user_tables WHERE schemaname = current_schema() AND relname IN ('entries', 'tiles')
            """);
        return command.ExecuteScalar() as string ?? "no tables";
    }

    private Dictionary<ModuleId, (long Size, string Note)> Claims()
    {
        using var command = _source.CreateCommand("SELECT module, size, md5(note) FROM logs");
        using var reader = command.ExecuteReader();
        var claims = new Dictionary<ModuleId, (long, string)>();
        while (reader.Read())
            if (ModuleId.TryParse(reader.GetString(0), out var module))
                claims[module] = (reader.GetInt64(1), reader.GetString(2));
        return claims;
    }

    private void MakeTables(string schema)
    {
        using var connection = _source.OpenConnection();
        using (var command = connection.CreateCommand())
        {
            // Asked first, because IF NOT EXISTS wants the right to create schemas even where there is nothing to create.
            command.CommandText = "SELECT to_regnamespace(quote_ident($1)) IS NULL";
            command.Parameters.Add(new() { Value = schema });
            if ((bool)command.ExecuteScalar()!)
            {
                using var make = connection.CreateCommand();
#pragma warning disable CA2100 // An operator's own setting, quoted.
                make.CommandText = $"SELECT pg_advisory_lock(7302294); CREATE SCHEMA IF NOT EXISTS \"{schema.Replace("\"", "\"\"", StringComparison.Ordinal)}\"; SELECT pg_advisory_unlock(7302294)";
#pragma warning restore CA2100
                make.ExecuteNonQuery();
            }
        }
        using var transaction = connection.BeginTransaction();
        using var prepare = new NpgsqlCommand(Prepare, connection, transaction);
        using (var reader = prepare.ExecuteReader())
        {
            reader.NextResult();
            if (reader.Read() && reader.GetInt32(0) > Version)
                throw new StateCorruptException(Where, $"it was written by a newer version of this program (schema {reader.GetInt32(0)}, this one knows {Version})");
        }
        transaction.Commit();
    }
}
