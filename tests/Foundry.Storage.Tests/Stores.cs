using Dapper;
using Foundry.ServiceDefaults;
using Foundry.Testing;

namespace Foundry.Storage.Tests;

/// <summary>
/// What each test runs on: SQLite always; PostgreSQL where FOUNDRY_TEST_POSTGRES is a connection string of a server that
/// tests may write to.
/// </summary>
public static class Stores
{
    public static string? Postgres { get; } = Environment.GetEnvironmentVariable("FOUNDRY_TEST_POSTGRES") is { Length: > 0 } text ? text : null;

    public static TheoryData<string> All { get; } = Postgres is null ? new("SQLite") : new("SQLite", "PostgreSQL");
}

/// <summary>A store that a test has to itself, and that it can open again.</summary>
internal sealed class Store(string kind) : IAsyncDisposable
{
    private readonly TempFolder _folder = new();
    private readonly string _name = $"t{Guid.NewGuid():N}";

    public string FilePath => _folder.File($"{_name}.db");

    public StateFolder Folder => StateFolder.Open(_folder.Path);

    public Task<Database> OpenAsync(params IReadOnlyList<string> migrations) =>
        Database.OpenAsync(kind == "PostgreSQL" ? Stores.Postgres : null, Folder, $"{_name}.db", migrations);

    public async ValueTask DisposeAsync()
    {
        if (kind == "PostgreSQL")
        {
            await using var database = await Database.OpenAsync(Stores.Postgres, Folder, "public.db", []);
            await using var connection = await database.OpenConnectionAsync(CancellationToken.None);
            await connection.ExecuteAsync($"DROP SCHEMA IF EXISTS \"{_name}\" CASCADE");
        }
        _folder.Dispose();
    }
}

public sealed class ContinuousIntegration
{
    /// <summary>Without this, a runner that lost its PostgreSQL would go on being green.</summary>
    [Fact]
    public void Tests_on_PostgreSQL_too() =>
        Assert.True(Stores.Postgres is not null || Environment.GetEnvironmentVariable("CI") != "true", "CI=true, but FOUNDRY_TEST_POSTGRES is not set.");
}
