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
/// be made again from the entries, so it is not flushed; a damaged one is thrown away.
/// </summary>
internal sealed class EntryIndex : IDisposable
{
    /// <summary>String members of one payload that are indexed one by one; an entry with more is looked at by every search.</summary>
    public const int FieldsMax = 24;

    private const long Version = 1;
    private const string Schema = """
        PRAGMA journal_mode = WAL;
        PRAGMA synchronous = OFF;
        PRAGMA cache_size = -256;
        CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
        CREATE TABLE IF NOT EXISTS terms (term INTEGER NOT NULL, cursor INTEGER NOT NULL, PRIMARY KEY (term, cursor)) WITHOUT ROWID;
        INSERT OR IGNORE INTO meta VALUES ('version', 1), ('size', 0);
        """;

    /// <summary>The term of entries with more fields than are indexed one by one.</summary>
    public static readonly long ManyFields = Hash("many", "");

    private readonly string _path;
    private readonly SqliteConnection _connection;
    private readonly SqliteCommand _find;
    private readonly SqliteCommand _add;
    private readonly SqliteCommand _resize;

    private EntryIndex(string path, SqliteConnection connection)
    {
        _path = path;
        _connection = connection;
        _find = Command("SELECT cursor FROM terms WHERE term = $term ORDER BY cursor", "$term");
        _add = Command("INSERT OR IGNORE INTO terms VALUES ($term, $cursor)", "$term", "$cursor");
        _resize = Command("UPDATE meta SET value = $size WHERE name = 'size'", "$size");
        Size = Meta("size");
    }

    /// <summary>Entries indexed.</summary>
    public long Size { get; private set; }

    /// <summary>Opens the index, made anew where it is missing, damaged, of another version, or of more entries than the log has.</summary>
    public static EntryIndex Open(string path, long logSize)
    {
        try
        {
            var index = TryOpen(path);
            if (index.Meta("version") == Version && index.Size <= logSize)
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

    /// <summary>Throws the index away, to be made anew when the log is next opened.</summary>
    public static void Discard(string path)
    {
        foreach (var suffix in (string[])["", "-wal", "-shm"])
            File.Delete(path + suffix);
    }

    /// <summary>Cursors that may be of this payload ID.</summary>
    public List<long> FindId(string writer, string payloadId)
    {
        _find.Parameters[0].Value = Hash(writer, payloadId);
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
        var size = Size;
        foreach (var entry in entries)
        {
            size++;
            foreach (var term in TermsOf(entry))
            {
                _add.Parameters[0].Value = term;
                _add.Parameters[1].Value = size;
                _add.ExecuteNonQuery();
            }
        }
        _resize.Parameters[0].Value = size;
        _resize.ExecuteNonQuery();
        transaction.Commit();
        Size = size;
    }

    /// <summary>Looks terms up, on a connection of its own, so that a search never waits for an append.</summary>
    internal sealed class Reader : IDisposable
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

        /// <summary>The first cursors of a term, in order, from one on.</summary>
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
            return new EntryIndex(path, connection);
        }
        catch
        {
            connection.Dispose();
            throw;
        }
    }

    private static SqliteConnection Connect(string path, SqliteOpenMode mode)
    {
        var connection = new SqliteConnection(new SqliteConnectionStringBuilder { DataSource = path, Mode = mode, Pooling = false }.ToString());
        connection.Open();
        return connection;
    }

    /// <summary>The term of a field and its value.</summary>
    public static long TermOfField(KeyValuePair<string, string> field) => Hash(field.Key, "=" + field.Value);

    private static IEnumerable<long> TermsOf(Entry entry)
    {
        yield return Hash(entry.Writer, entry.PayloadId);
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
            return Hash(member.Name, "=" + member.Value.GetString());
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

    private long Meta(string name)
    {
        using var command = _connection.CreateCommand();
        command.CommandText = "SELECT value FROM meta WHERE name = $name";
        command.Parameters.AddWithValue("$name", name);
        return (long)(command.ExecuteScalar() ?? throw new SqliteException($"{_path} has no {name}.", 1));
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
