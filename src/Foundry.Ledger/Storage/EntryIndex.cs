using System.Buffers.Binary;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using Foundry.Ledger.Append;
using Microsoft.Data.Sqlite;

namespace Foundry.Ledger.Storage;

/// <summary>
/// Finds entries by payload ID and by the string members at the top of their payloads. It holds hashes and cursors, never
/// content, and is never believed: whatever it finds is read from the log and compared. It is written after the commit and can
/// be made again from the entries, so it is not flushed with each; after a power cut it is as it was some commits ago, and catches
/// up. What it does not find nobody compares, so it keeps a checksum over all its rows; a damaged one is thrown away.
/// </summary>
internal sealed class EntryIndex : IDisposable
{
    /// <summary>String members of one payload that are indexed one by one; an entry with more is looked at by every search.</summary>
    public const int FieldsMax = 24;

    private const long Version = 2;
    private const string Schema = """
        PRAGMA journal_mode = WAL;
        PRAGMA synchronous = NORMAL;
        PRAGMA cache_size = -256;
        CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
        CREATE TABLE IF NOT EXISTS terms (term INTEGER NOT NULL, cursor INTEGER NOT NULL, PRIMARY KEY (term, cursor)) WITHOUT ROWID;
        INSERT OR IGNORE INTO meta VALUES ('version', 2), ('size', 0), ('checksum', 0);
        """;

    /// <summary>The term of entries that have more fields than are indexed.</summary>
    public static long ManyFields { get; } = Hash("many", "");

    private readonly SqliteConnection _connection;
    private readonly SqliteCommand _find;
    private readonly SqliteCommand _add;
    private readonly SqliteCommand _resize;
    private long _checksum;

    private EntryIndex(SqliteConnection connection)
    {
        _connection = connection;
        _find = Command("SELECT cursor FROM terms WHERE term = $term ORDER BY cursor", "$term");
        _add = Command("INSERT OR IGNORE INTO terms VALUES ($term, $cursor)", "$term", "$cursor");
        _resize = Command("UPDATE meta SET value = CASE name WHEN 'size' THEN $size ELSE $checksum END WHERE name IN ('size', 'checksum')", "$size", "$checksum");
        Size = Meta(_connection, "size");
        _checksum = Meta(_connection, "checksum");
    }

    /// <summary>Entries indexed.</summary>
    public long Size { get; private set; }

    /// <summary>Opens the index, made anew where it is missing, damaged or of another version.</summary>
    public static EntryIndex Open(string path)
    {
        try
        {
            var index = TryOpen(path);
            if (Meta(index._connection, "version") == Version)
                return index;
            index.Dispose();
        }
        catch (SqliteException)
        {
            // Not a database, or a damaged one: it holds nothing that the entries do not.
        }
        Discard(path);
        return TryOpen(path);
    }

    /// <summary>
    /// Entries that an index has seen; 0 where it cannot be read. It is written after the commit, so no log is ever smaller,
    /// unless something was taken from it.
    /// </summary>
    public static long SizeOf(string path)
    {
        if (!File.Exists(path))
            return 0;
        try
        {
            using var connection = Connect(path, SqliteOpenMode.ReadOnly);
            return Meta(connection, "version") == Version ? Meta(connection, "size") : 0;
        }
        catch (SqliteException)
        {
            return 0;
        }
    }

    /// <summary>Whether an index has all the rows that were put in it, and no others. Reads them all; may run beside appends.</summary>
    public static bool IsWhole(string path, CancellationToken cancellation)
    {
        if (!File.Exists(path))
            return true;
        try
        {
            using var connection = Connect(path, SqliteOpenMode.ReadOnly);
            // One snapshot for the rows and their checksum.
            using var transaction = connection.BeginTransaction(deferred: true);
            using var command = connection.CreateCommand();
            command.Transaction = transaction;
            command.CommandText = "SELECT term, cursor FROM terms";
            var checksum = 0L;
            using (var reader = command.ExecuteReader())
            {
                while (reader.Read())
                {
                    cancellation.ThrowIfCancellationRequested();
                    checksum ^= RowHash(reader.GetInt64(0), reader.GetInt64(1));
                }
            }
            return Meta(connection, "version") != Version || checksum == Meta(connection, "checksum");
        }
        catch (SqliteException)
        {
            return false;
        }
    }

    /// <summary>Throws the index away, to be made anew when the log is next opened.</summary>
    public static void Discard(string path)
    {
        foreach (var suffix in (string[])["", "-wal", "-shm"])
            File.Delete(path + suffix);
    }

    /// <summary>Cursors of entries that may have this term.</summary>
    public List<long> Find(long term)
    {
        _find.Parameters[0].Value = term;
        var cursors = new List<long>();
        using var reader = _find.ExecuteReader();
        while (reader.Read())
            cursors.Add(reader.GetInt64(0));
        return cursors;
    }

    /// <summary>Adds entries in one transaction. <paramref name="entries"/> follow those that are in it.</summary>
    public void Add(IEnumerable<Entry> entries)
    {
        using var transaction = _connection.BeginTransaction();
        _add.Transaction = transaction;
        _resize.Transaction = transaction;
        var (size, checksum) = (Size, _checksum);
        foreach (var entry in entries)
        {
            size++;
            foreach (var term in TermsOf(entry))
            {
                _add.Parameters[0].Value = term;
                _add.Parameters[1].Value = size;
                if (_add.ExecuteNonQuery() == 1)
                    checksum ^= RowHash(term, size);
            }
        }
        _resize.Parameters[0].Value = size;
        _resize.Parameters[1].Value = checksum;
        _resize.ExecuteNonQuery();
        transaction.Commit();
        (Size, _checksum) = (size, checksum);
    }

    /// <summary>Looks terms up, on a connection of its own, so that a search never waits for an append.</summary>
    internal sealed class Reader : ITermLists
    {
        private readonly SqliteConnection _connection;
        private readonly SqliteCommand _command;

        /// <summary>Opens the index of a log.</summary>
        public Reader(string path)
        {
            _connection = Connect(path, SqliteOpenMode.ReadOnly);
            _command = _connection.CreateCommand();
            _command.CommandText = "SELECT cursor FROM terms WHERE term = $term AND cursor >= $from ORDER BY cursor LIMIT $limit";
            foreach (var name in (string[])["$term", "$from", "$limit"])
                _command.Parameters.Add(name, SqliteType.Integer);
        }

        /// <inheritdoc/>
        public List<long> Cursors(long term, long from, int limit)
        {
            (_command.Parameters[0].Value, _command.Parameters[1].Value, _command.Parameters[2].Value) = (term, from, limit);
            var cursors = new List<long>();
            using var reader = _command.ExecuteReader();
            while (reader.Read())
                cursors.Add(reader.GetInt64(0));
            return cursors;
        }

        /// <inheritdoc/>
        public void Dispose()
        {
            _command.Dispose();
            _connection.Dispose();
        }
    }

    /// <summary>Whether a payload has all these string members at its top.</summary>
    public static bool Matches(ReadOnlyMemory<byte> payload, IReadOnlyList<KeyValuePair<string, string>> fields)
    {
        using var document = JsonDocument.Parse(payload);
        return document.RootElement.ValueKind == JsonValueKind.Object && fields.All(field =>
            document.RootElement.TryGetProperty(field.Key, out var value) && value.ValueKind == JsonValueKind.String && value.ValueEquals(field.Value));
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _find.Dispose();
        _add.Dispose();
        _resize.Dispose();
        _connection.Dispose();
    }

    private static EntryIndex TryOpen(string path)
    {
        var connection = Connect(path, SqliteOpenMode.ReadWriteCreate);
        try
        {
            using var command = connection.CreateCommand();
            command.CommandText = Schema;
            command.ExecuteNonQuery();
            return new EntryIndex(connection);
        }
        catch
        {
            connection.Dispose();
            throw;
        }
    }

    private static SqliteConnection Connect(string path, SqliteOpenMode mode)
    {
        // Reading a file that nobody has open must leave nothing beside it, so that a start which is refused changes nothing.
        if (mode == SqliteOpenMode.ReadOnly && !File.Exists(path + "-wal"))
            path = $"file:{Uri.EscapeDataString(path)}?immutable=1";
        var connection = new SqliteConnection(new SqliteConnectionStringBuilder { DataSource = path, Mode = mode, Pooling = false }.ToString());
        connection.Open();
        return connection;
    }

    /// <summary>The term of a writer's payload ID.</summary>
    public static long TermOfId(string writer, string payloadId) => Hash(writer, payloadId);

    /// <summary>The term of a field and its value.</summary>
    public static long TermOfField(KeyValuePair<string, string> field) => Hash(field.Key, "=" + field.Value);

    /// <summary>What an entry is found by; some terms may come twice.</summary>
    public static IEnumerable<long> TermsOf(Entry entry)
    {
        yield return TermOfId(entry.Writer, entry.PayloadId);
        using var document = JsonDocument.Parse(entry.Payload);
        if (document.RootElement.ValueKind != JsonValueKind.Object)
            yield break;
        var count = 0;
        foreach (var member in document.RootElement.EnumerateObject())
        {
            if (member.Value.ValueKind != JsonValueKind.String)
                continue;
            if (++count > FieldsMax)
            {
                yield return ManyFields;
                yield break;
            }
            if (TermOf(member) is { } term)
                yield return term;
        }
    }

    // JSON can escape half of a surrogate pair, which no query can ask for.
    private static long? TermOf(JsonProperty member)
    {
        try
        {
            return TermOfField(new(member.Name, member.Value.GetString()!));
        }
        catch (InvalidOperationException)
        {
            return null;
        }
    }

    // Both parts with a length in front, so that no two pairs are one text. 64 bits collide now and then; hits are compared.
    private static long Hash(string first, string second)
    {
        var text = Encoding.UTF8.GetBytes($"{first.Length}:{first}{second}");
        Span<byte> hash = stackalloc byte[SHA256.HashSizeInBytes];
        SHA256.HashData(text, hash);
        return BinaryPrimitives.ReadInt64BigEndian(hash);
    }

    // A checksum against loss, not malice (splitmix64's mixing). Rows are summed up by exclusive or, in whatever order they are read.
    private static long RowHash(long term, long cursor)
    {
        unchecked
        {
            var hash = (ulong)term + (ulong)cursor * 0x9E3779B97F4A7C15;
            hash = (hash ^ (hash >> 30)) * 0xBF58476D1CE4E5B9;
            hash = (hash ^ (hash >> 27)) * 0x94D049BB133111EB;
            return (long)(hash ^ (hash >> 31));
        }
    }

    private static long Meta(SqliteConnection connection, string name)
    {
        using var command = connection.CreateCommand();
        command.CommandText = "SELECT value FROM meta WHERE name = $name";
        command.Parameters.AddWithValue("$name", name);
        return (long)(command.ExecuteScalar() ?? throw new SqliteException($"{connection.DataSource} has no {name}.", 1));
    }

    private SqliteCommand Command(string text, params string[] parameters)
    {
        var command = _connection.CreateCommand();
#pragma warning disable CA2100 // Called with the constants above.
        command.CommandText = text;
#pragma warning restore CA2100
        foreach (var parameter in parameters)
            command.Parameters.Add(parameter, SqliteType.Integer);
        return command;
    }
}
