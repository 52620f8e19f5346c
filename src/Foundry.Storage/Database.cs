using System.Data;
using System.Data.Common;
using Dapper;
using Foundry.ServiceDefaults;
using Microsoft.Data.Sqlite;
using Npgsql;

namespace Foundry.Storage;

/// <summary>
/// A part's SQL store: SQLite in its own folder, or PostgreSQL where a connection string says so. SQL in this project and in
/// the services is written in the part of the language that both speak.
/// </summary>
public sealed class Database : IAsyncDisposable
{
    private readonly Func<DbConnection> _connect;
    private readonly NpgsqlDataSource? _postgres;
    private readonly SemaphoreSlim? _writer;
    private readonly string _schema;

    private Database(Func<DbConnection> connect, NpgsqlDataSource? postgres, string where, string schema = "")
    {
        _connect = connect;
        _postgres = postgres;
        _schema = schema;
        Where = where;
        // SQLite has one writer; waiting for it here is fair and, unlike its busy handler, asynchronous.
        _writer = postgres is null ? new SemaphoreSlim(1, 1) : null;
    }

    /// <summary>The file, or the server's name: for messages, without credentials.</summary>
    public string Where { get; }

    /// <summary>Whether this is PostgreSQL.</summary>
    public bool IsPostgres => _postgres is not null;

    /// <summary>Opens the store and brings it to the newest version. Migrations only go forward.</summary>
    /// <param name="connectionString">PostgreSQL's, or null for SQLite.</param>
    /// <param name="folder">Where SQLite's file is.</param>
    /// <param name="fileName">Its name.</param>
    /// <param name="migrations">SQL scripts, oldest first; never edited once released. <c>{serial}</c> stands for an automatic 64-bit primary key, <c>{bytes}</c> for the binary type.</param>
    /// <exception cref="StateCorruptException">The file is not a database, or is damaged, or is newer than this program.</exception>
    public static async Task<Database> OpenAsync(string? connectionString, StateFolder folder, string fileName, IReadOnlyList<string> migrations)
    {
        ArgumentNullException.ThrowIfNull(folder);
        ArgumentNullException.ThrowIfNull(migrations);
        var database = connectionString is { Length: > 0 } ? Postgres(connectionString, Path.GetFileNameWithoutExtension(fileName)) : Sqlite(folder.File(fileName));
        // What SQLite makes beside a database as soon as it looks at it, and leaves there when it cannot read it.
        var sidecars = database.IsPostgres ? [] : ((string[])["-wal", "-shm"]).Select(suffix => database.Where + suffix).Where(file => !File.Exists(file)).ToList();
        try
        {
            await database.MigrateAsync(migrations);
            database.KeepToOwner();
            return database;
        }
        catch (StateCorruptException)
        {
            await database.DisposeAsync();
            RemoveNew(sidecars);
            throw;
        }
        catch (SqliteException fault)
        {
            await database.DisposeAsync();
            RemoveNew(sidecars);
            throw new StateCorruptException(database.Where, $"SQLite cannot read it ({fault.Message.TrimEnd('.')})", fault);
        }
        catch (NpgsqlException fault)
        {
            await database.DisposeAsync();
            throw new StartupException($"PostgreSQL ({database.Where}) cannot be used: {fault.Message}", fault);
        }
    }

    /// <summary>Opens a connection to read with.</summary>
    /// <param name="cancellationToken">Ends the wait.</param>
    public async Task<DbConnection> OpenConnectionAsync(CancellationToken cancellationToken)
    {
        var connection = _connect();
        await connection.OpenAsync(cancellationToken);
        if (!IsPostgres)
            await connection.ExecuteAsync("PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON; PRAGMA busy_timeout=5000;");
        return connection;
    }

    /// <summary>Reads several things as they were at one moment, without holding up any writer.</summary>
    /// <typeparam name="T">What is read.</typeparam>
    /// <param name="read">The reads, all in this transaction.</param>
    /// <param name="cancellationToken">Ends the wait for a connection.</param>
    public async Task<T> ReadAsync<T>(Func<DbTransaction, Task<T>> read, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(read);
        await using var connection = await OpenConnectionAsync(cancellationToken);
        // SQLite: deferred, so that it takes a snapshot and never the writer's lock. PostgreSQL: the level that has snapshots.
        await using DbTransaction transaction = connection is SqliteConnection sqlite
            ? sqlite.BeginTransaction(deferred: true)
            : await connection.BeginTransactionAsync(IsolationLevel.RepeatableRead, cancellationToken);
        return await read(transaction);
    }

    /// <summary>Runs a change in one transaction; when the returned task ends well, the change is durable.</summary>
    /// <typeparam name="T">What the change answers.</typeparam>
    /// <param name="change">The change. It is run again where PostgreSQL asks for it, so it must do nothing outside its transaction.</param>
    /// <param name="cancellationToken">Ends the wait for a turn; a change that has begun is finished.</param>
    public async Task<T> WriteAsync<T>(Func<DbTransaction, Task<T>> change, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(change);
        const int attemptsMax = 5;
        if (_writer is not null)
            await _writer.WaitAsync(cancellationToken);
        try
        {
            await using var connection = await OpenConnectionAsync(cancellationToken);
            for (var attempt = 1; ; attempt++)
            {
                await using var transaction = await connection.BeginTransactionAsync(IsPostgres ? IsolationLevel.ReadCommitted : IsolationLevel.Serializable, CancellationToken.None);
                try
                {
                    var answer = await change(transaction);
                    // The commit point: SQLite in WAL mode with synchronous=FULL, and PostgreSQL, have it on disk when this returns.
                    await transaction.CommitAsync(CancellationToken.None);
                    return answer;
                }
                catch (PostgresException fault) when (fault.IsTransient && attempt < attemptsMax)
                {
                    await transaction.RollbackAsync(CancellationToken.None);
                }
            }
        }
        finally
        {
            _writer?.Release();
        }
    }

    /// <summary>Wakes the processes that listen (<see cref="ListenAsync"/>), this one too, once the transaction has committed. PostgreSQL only: SQLite's file is one process's.</summary>
    /// <param name="transaction">The transaction.</param>
    public Task NotifyAsync(DbTransaction transaction)
    {
        ArgumentNullException.ThrowIfNull(transaction);
        return transaction.Connection!.ExecuteAsync("SELECT pg_notify(@_schema, '')", new { _schema }, transaction);
    }

    /// <summary>Listens for <see cref="NotifyAsync"/>. PostgreSQL only.</summary>
    /// <param name="cancellationToken">Ends the wait for a connection.</param>
    public async Task<CommitListener> ListenAsync(CancellationToken cancellationToken)
    {
        var connection = (NpgsqlConnection)await OpenConnectionAsync(cancellationToken);
        // The channel is the schema: notices are a database's, and each part of it has one.
        await connection.ExecuteAsync($"LISTEN {Quoted(_schema)}");
        return new CommitListener(connection);
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        if (_postgres is not null)
            await _postgres.DisposeAsync();
        else
            SqliteConnection.ClearPool((SqliteConnection)_connect());
        _writer?.Dispose();
    }

    private void KeepToOwner()
    {
        if (IsPostgres || OperatingSystem.IsWindows())
            return;
        // What SQLite makes later beside the database gets the database's own mode.
        foreach (var file in ((string[])["", "-wal", "-shm"]).Select(suffix => Where + suffix).Where(File.Exists))
            File.SetUnixFileMode(file, UnixFileMode.UserRead | UnixFileMode.UserWrite);
    }

    private static string Quoted(string name) => $"\"{name.Replace("\"", "\"\"", StringComparison.Ordinal)}\"";

    private static void RemoveNew(List<string> sidecars)
    {
        // Nothing was committed, so they hold nothing: the folder is as it was.
        foreach (var file in sidecars)
            File.Delete(file);
    }

    private static Database Sqlite(string file)
    {
        // What SQLite does not mind: it takes an empty file for a new database, and reads a cut-off page as if zeros followed.
        // Where a write-ahead log lies beside it, the page may be in there (a power cut while it was being copied).
        const int pageBytesMin = 512;
        if (File.Exists(file) && new FileInfo(file).Length is var length && (length == 0 || (length % pageBytesMin != 0 && !File.Exists(file + "-wal"))))
            throw new StateCorruptException(file, length == 0 ? "this database is empty" : "this database is cut off");
        var connectionString = new SqliteConnectionStringBuilder { DataSource = file, ForeignKeys = true, Pooling = true }.ToString();
        return new Database(() => new SqliteConnection(connectionString), null, file);
    }

    private static Database Postgres(string connectionString, string schema)
    {
        NpgsqlConnectionStringBuilder parsed;
        NpgsqlDataSource source;
        try
        {
            parsed = new NpgsqlConnectionStringBuilder(connectionString);
            // Each part has a schema of its own, so that several may be given one database.
            if (string.IsNullOrEmpty(parsed.SearchPath))
                parsed.SearchPath = schema;
            source = NpgsqlDataSource.Create(parsed);
        }
        catch (ArgumentException fault)
        {
            throw new StartupException("The database's connection string is not one that PostgreSQL's driver reads: Host=…;Database=…;Username=…;Password=….", fault);
        }
        return new Database(source.CreateConnection, source, $"{parsed.Host}/{parsed.Database}/{parsed.SearchPath}", parsed.SearchPath);
    }

    /// <summary>Touches every page: a damaged file is found now, and not by the first request that needs the page.</summary>
    private async Task CheckFileAsync()
    {
        // Read-only: closing a connection that may write would copy the write-ahead log into the damaged file.
        await using var connection = new SqliteConnection(new SqliteConnectionStringBuilder { DataSource = Where, Mode = SqliteOpenMode.ReadOnly, Pooling = false }.ToString());
        await connection.OpenAsync();
        var verdict = await connection.ExecuteScalarAsync<string>("PRAGMA integrity_check(1)");
        if (verdict != "ok")
            throw new StateCorruptException(Where, $"SQLite's integrity check says: {verdict}");
    }

    private async Task MigrateAsync(IReadOnlyList<string> migrations)
    {
        if (!IsPostgres)
        {
            if (File.Exists(Where))
                await CheckFileAsync();
            await using var connection = await OpenConnectionAsync(CancellationToken.None);
            await connection.ExecuteAsync("PRAGMA journal_mode=WAL");
        }
        await WriteAsync(async transaction =>
        {
            var connection = transaction.Connection!;
            if (IsPostgres)
            {
                await connection.ExecuteAsync("SELECT pg_advisory_xact_lock(7302291)", transaction: transaction);
                // Asked first, because IF NOT EXISTS wants the right to create schemas even where there is nothing to create.
                if (await connection.ExecuteScalarAsync<bool>("SELECT to_regnamespace(quote_ident(@schema)) IS NULL", new { schema = _schema }, transaction))
                    await connection.ExecuteAsync($"CREATE SCHEMA {Quoted(_schema)}", transaction: transaction);
            }
            await connection.ExecuteAsync("CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL PRIMARY KEY)", transaction: transaction);
            var version = await connection.ExecuteScalarAsync<int?>("SELECT MAX(version) FROM schema_version", transaction: transaction) ?? 0;
            if (version > migrations.Count)
                throw new StateCorruptException(Where, $"it was written by a newer version of this program (schema {version}, this one knows {migrations.Count})");
            for (; version < migrations.Count; version++)
            {
                await connection.ExecuteAsync(migrations[version]
                    .Replace("{serial}", IsPostgres ? "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY" : "INTEGER PRIMARY KEY AUTOINCREMENT", StringComparison.Ordinal)
                    .Replace("{bytes}", IsPostgres ? "BYTEA" : "BLOB", StringComparison.Ordinal), transaction: transaction);
                await connection.ExecuteAsync("INSERT INTO schema_version (version) VALUES (@version)", new { version = version + 1 }, transaction);
            }
            return version;
        }, CancellationToken.None);
    }
}
