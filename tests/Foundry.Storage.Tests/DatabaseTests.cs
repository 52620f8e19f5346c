using Dapper;
using Foundry.ServiceDefaults;
using Foundry.Testing;
using Microsoft.Data.Sqlite;

namespace Foundry.Storage.Tests;

public sealed class Migrations
{
    private const string First = "CREATE TABLE a (id {serial}, name TEXT NOT NULL, data {bytes})";
    private const string Second = "ALTER TABLE a ADD COLUMN age BIGINT; CREATE TABLE b (id {serial})";

    [Theory]
    [MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task Run_once_each_in_order_and_keep_what_is_there(string kind)
    {
        await using var store = new Store(kind);
        await using (var database = await store.OpenAsync(First))
            await WriteAsync(database, "INSERT INTO a (name, data) VALUES ('one', @data)");
        await using (var database = await store.OpenAsync(First, Second))
            await WriteAsync(database, "INSERT INTO a (name, age, data) VALUES ('two', 2, @data)");
        await using (var database = await store.OpenAsync(First, Second))
        {
            await using var connection = await database.OpenConnectionAsync(TestContext.Current.CancellationToken);
            Assert.Equal([(1L, "one", null), (2L, "two", 2L)], await connection.QueryAsync<(long, string, long?)>("SELECT id, name, age FROM a ORDER BY id"));
            Assert.Equal([1, 2], (await connection.QueryAsync<long>("SELECT version FROM schema_version ORDER BY version")).Select(version => (int)version));
            Assert.Equal([1, 2, 3], await connection.ExecuteScalarAsync<byte[]>("SELECT data FROM a WHERE id = 1"));
        }
    }

    [Theory]
    [MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task That_this_program_does_not_know_stop_the_start_and_nothing_is_changed(string kind)
    {
        await using var store = new Store(kind);
        await using (await store.OpenAsync(First, Second))
        {
        }
        var fault = await Assert.ThrowsAsync<StateCorruptException>(() => store.OpenAsync(First));
        Assert.Contains("written by a newer version", fault.Message, StringComparison.Ordinal);
        await using (await store.OpenAsync(First, Second))
        {
        }
    }

    [Theory]
    [MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task That_fail_in_the_middle_leave_the_version_before(string kind)
    {
        await using var store = new Store(kind);
        await using (await store.OpenAsync(First))
        {
        }
        await Assert.ThrowsAnyAsync<StartupException>(() => store.OpenAsync(First, "CREATE TABLE c (id {serial}); CREATE TABLE a (id {serial})"));
        await using var database = await store.OpenAsync(First, "CREATE TABLE c (id {serial})");
        await WriteAsync(database, "INSERT INTO a (name, data) VALUES ('one', @data)");
    }

    /// <summary>Two issuance processes share one PostgreSQL; a SQLite folder is locked by its one process.</summary>
    [Fact]
    public async Task Of_several_processes_that_start_at_once_run_once()
    {
        if (Stores.Postgres is null)
            return; // ContinuousIntegration.Tests_on_PostgreSQL_too fails where this would matter.
        await using var store = new Store("PostgreSQL");
        var databases = await Task.WhenAll(Enumerable.Range(0, 4).Select(_ => Task.Run(() => store.OpenAsync(First, Second))));
        foreach (var database in databases)
            await database.DisposeAsync();
    }

    /// <summary>Issuance and fleet may be given the same server and database; neither may see the other's tables or version.</summary>
    [Fact]
    public async Task Of_two_parts_in_one_PostgreSQL_database_do_not_meet()
    {
        if (Stores.Postgres is null)
            return;
        await using var one = new Store("PostgreSQL");
        await using var other = new Store("PostgreSQL");
        await using var first = await one.OpenAsync(First, Second);
        await using var second = await other.OpenAsync("CREATE TABLE a (other TEXT)");
        Assert.NotEqual(first.Where, second.Where);
    }

    private static Task WriteAsync(Database database, string sql) => database.WriteAsync(
        transaction => transaction.Connection!.ExecuteAsync(sql, new { data = new byte[] { 1, 2, 3 } }, transaction), TestContext.Current.CancellationToken);
}

public sealed class DatabaseFile
{
    [Fact]
    public async Task Is_its_owners_alone_with_what_lies_beside_it()
    {
        await using var store = new Store("SQLite");
        await using var database = await store.OpenAsync("CREATE TABLE a (name TEXT)");
        await database.WriteAsync(transaction => transaction.Connection!.ExecuteAsync("INSERT INTO a (name) VALUES ('x')", null, transaction), TestContext.Current.CancellationToken);
        foreach (var suffix in (string[])["", "-wal", "-shm"])
            Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, new FileInfo(store.FilePath + suffix).UnixFileMode);
    }
}

public sealed class DamagedDatabaseFile
{
    private const string Migration = "CREATE TABLE a (id {serial}, name TEXT NOT NULL)";

    public static TheoryData<string> Damages { get; } = new("empty", "half", "one byte short", "one page", "garbage", "text", "zeros", "header overwritten", "a page overwritten");

    [Theory]
    [MemberData(nameof(Damages))]
    public async Task Stops_the_start_with_its_name_and_its_bytes_stay(string damage)
    {
        await using var store = new Store("SQLite");
        await FillAsync(store);
        var good = await File.ReadAllBytesAsync(store.FilePath, TestContext.Current.CancellationToken);
        Assert.True(good.Length > 16 * 4096);
        var bad = Damaged(good, damage);
        await File.WriteAllBytesAsync(store.FilePath, bad, TestContext.Current.CancellationToken);

        var fault = await Assert.ThrowsAsync<StateCorruptException>(() => store.OpenAsync(Migration));

        Assert.Equal(store.FilePath, fault.File);
        Assert.StartsWith(store.FilePath, fault.Message, StringComparison.Ordinal);
        Assert.Equal(bad, await File.ReadAllBytesAsync(store.FilePath, TestContext.Current.CancellationToken));
    }

    /// <summary>After a crash there is a log beside the file; closing the file must not write it into what is damaged.</summary>
    [Theory]
    [InlineData("garbage")]
    [InlineData("a page overwritten")]
    public async Task Keeps_its_bytes_also_when_a_write_ahead_log_lies_beside_it(string damage)
    {
        await using var store = new Store("SQLite");
        await FillAsync(store);
        byte[] log;
        await using (var open = await store.OpenAsync(Migration))
        {
            await open.WriteAsync(transaction => transaction.Connection!.ExecuteAsync("INSERT INTO a (name) VALUES ('last')", null, transaction), TestContext.Current.CancellationToken);
            await using var file = new FileStream(store.FilePath + "-wal", FileMode.Open, FileAccess.Read, FileShare.ReadWrite);
            log = new byte[file.Length];
            await file.ReadExactlyAsync(log, TestContext.Current.CancellationToken);
        }
        Assert.NotEmpty(log);
        var bad = Damaged(await File.ReadAllBytesAsync(store.FilePath, TestContext.Current.CancellationToken), damage);
        await File.WriteAllBytesAsync(store.FilePath, bad, TestContext.Current.CancellationToken);
        await File.WriteAllBytesAsync(store.FilePath + "-wal", log, TestContext.Current.CancellationToken);

        await Assert.ThrowsAsync<StateCorruptException>(() => store.OpenAsync(Migration));

        Assert.Equal(bad, await File.ReadAllBytesAsync(store.FilePath, TestContext.Current.CancellationToken));
        Assert.Equal(log, await File.ReadAllBytesAsync(store.FilePath + "-wal", TestContext.Current.CancellationToken));
    }

    private static async Task FillAsync(Store store)
    {
        await using var database = await store.OpenAsync(Migration);
        await database.WriteAsync(async transaction =>
        {
            for (var row = 0; row < 1000; row++)
                await transaction.Connection!.ExecuteAsync("INSERT INTO a (name) VALUES (@name)", new { name = $"{row}:{new string('n', 100)}" }, transaction);
            return 0;
        }, TestContext.Current.CancellationToken);
    }

    private static byte[] Damaged(byte[] good, string damage)
    {
        var bad = (byte[])good.Clone();
        switch (damage)
        {
            case "empty": return [];
            case "half": return good[..(good.Length / 2)];
            case "one byte short": return good[..^1];
            case "one page": return good[..4096];
            case "garbage":
                for (var at = 0; at < bad.Length; at++)
                    bad[at] = (byte)(at * 31 + 7);
                return bad;
            case "text": return "not a database\n"u8.ToArray();
            case "zeros": return new byte[good.Length];
            case "header overwritten":
                bad.AsSpan(0, 100).Fill(0x55);
                return bad;
            case "a page overwritten":
                bad.AsSpan(8 * 4096, 4096).Fill(0x55);
                return bad;
            default: throw new ArgumentOutOfRangeException(nameof(damage));
        }
    }
}

public sealed class Writes
{
    [Theory]
    [MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task At_the_same_time_lose_nothing(string kind)
    {
        await using var store = new Store(kind);
        await using var database = await store.OpenAsync("CREATE TABLE counter (n BIGINT NOT NULL); INSERT INTO counter (n) VALUES (0)");
        var suffix = database.IsPostgres ? " FOR UPDATE" : "";
        await Task.WhenAll(Enumerable.Range(0, 8).Select(_ => Task.Run(async () =>
        {
            for (var i = 0; i < 25; i++)
                await database.WriteAsync(async transaction =>
                {
                    var n = await transaction.Connection!.ExecuteScalarAsync<long>($"SELECT n FROM counter{suffix}", null, transaction);
                    return await transaction.Connection!.ExecuteAsync("UPDATE counter SET n = @n", new { n = n + 1 }, transaction);
                }, TestContext.Current.CancellationToken);
        })));
        await using var connection = await database.OpenConnectionAsync(TestContext.Current.CancellationToken);
        Assert.Equal(200, await connection.ExecuteScalarAsync<long>("SELECT n FROM counter"));
    }

    [Theory]
    [MemberData(nameof(Stores.All), MemberType = typeof(Stores))]
    public async Task That_fail_leave_nothing_behind_and_do_not_stop_the_next(string kind)
    {
        await using var store = new Store(kind);
        await using var database = await store.OpenAsync("CREATE TABLE a (name TEXT NOT NULL PRIMARY KEY)");
        await Assert.ThrowsAsync<InvalidOperationException>(() => database.WriteAsync<int>(async transaction =>
        {
            await transaction.Connection!.ExecuteAsync("INSERT INTO a (name) VALUES ('x')", null, transaction);
            throw new InvalidOperationException("the change's own fault");
        }, TestContext.Current.CancellationToken));
        await database.WriteAsync(transaction => transaction.Connection!.ExecuteAsync("INSERT INTO a (name) VALUES ('x')", null, transaction), TestContext.Current.CancellationToken);
    }

    [Fact]
    public async Task Of_a_caller_who_gave_up_waiting_do_not_happen()
    {
        await using var store = new Store("SQLite");
        await using var database = await store.OpenAsync("CREATE TABLE a (name TEXT NOT NULL PRIMARY KEY)");
        var (begun, goOn) = (new TaskCompletionSource(), new TaskCompletionSource());
        var first = database.WriteAsync(async _ =>
        {
            begun.SetResult();
            await goOn.Task;
            return 0;
        }, TestContext.Current.CancellationToken);
        await begun.Task;
        using var patience = new CancellationTokenSource();
        var second = database.WriteAsync<int>(_ => throw new InvalidOperationException("it ran"), patience.Token);
        await patience.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => second);
        goOn.SetResult();
        await first;
    }

    /// <summary>The writer's turn is SQLite's own too: a second process waits for it rather than failing.</summary>
    [Fact]
    public async Task Are_not_stopped_by_readers()
    {
        await using var store = new Store("SQLite");
        await using var database = await store.OpenAsync("CREATE TABLE a (name TEXT NOT NULL PRIMARY KEY)");
        await using var reader = await database.OpenConnectionAsync(TestContext.Current.CancellationToken);
        await using var reading = ((SqliteConnection)reader).BeginTransaction(deferred: true);
        Assert.Equal(0, await reader.ExecuteScalarAsync<long>("SELECT COUNT(*) FROM a", transaction: reading));
        await database.WriteAsync(transaction => transaction.Connection!.ExecuteAsync("INSERT INTO a (name) VALUES ('x')", null, transaction), TestContext.Current.CancellationToken);
        Assert.Equal(0, await reader.ExecuteScalarAsync<long>("SELECT COUNT(*) FROM a", transaction: reading));
    }
}

public sealed class ConnectionString
{
    [Theory]
    [InlineData("Nonsense=1")]
    [InlineData("Host=127.0.0.1;Port=1;Database=d;Username=u;Password=not-to-be-seen;Timeout=2")]
    public async Task That_leads_nowhere_stops_the_start_without_showing_the_password(string text)
    {
        using var folder = new TempFolder();
        var fault = await Assert.ThrowsAsync<StartupException>(() => Database.OpenAsync(text, StateFolder.Open(folder.Path), "a.db", []));
        Assert.DoesNotContain("not-to-be-seen", fault.Message, StringComparison.Ordinal);
        Assert.Contains("PostgreSQL", fault.Message, StringComparison.Ordinal);
    }
}
