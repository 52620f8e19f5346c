using Foundry.ServiceDefaults;
using Foundry.Storage;

namespace Foundry.Issuance.Tests;

/// <summary>
/// What each test runs on: SQLite always; PostgreSQL where FOUNDRY_TEST_POSTGRES is a connection string of a server that
/// tests may write to.
/// </summary>
public static class Stores
{
    public const string Sqlite = "SQLite";
    public const string Postgres = "PostgreSQL";

    public static string? ConnectionString { get; } = Environment.GetEnvironmentVariable("FOUNDRY_TEST_POSTGRES") is { Length: > 0 } text ? text : null;

    public static TheoryData<string> All { get; } = ConnectionString is null ? new(Sqlite) : new(Sqlite, Postgres);

    /// <summary>PostgreSQL's connection string with a schema of the test's own, or null on SQLite.</summary>
    public static string? Of(string store, string schema) => store == Postgres ? $"{ConnectionString};Search Path={schema}" : null;

    public static async Task DropAsync(string schema, StateFolder anywhere)
    {
        await using var database = await Database.OpenAsync(ConnectionString, anywhere, "public.db", []);
        await using var connection = await database.OpenConnectionAsync(CancellationToken.None);
        await using var command = connection.CreateCommand();
        command.CommandText = $"DROP SCHEMA IF EXISTS {schema} CASCADE";
        await command.ExecuteNonQueryAsync();
    }
}

public sealed class ContinuousIntegration
{
    /// <summary>Without this, a runner that lost its PostgreSQL would go on being green.</summary>
    [Fact]
    public void Tests_on_PostgreSQL_too() =>
        Assert.True(Stores.ConnectionString is not null || Environment.GetEnvironmentVariable("CI") != "true", "CI=true, but FOUNDRY_TEST_POSTGRES is not set.");
}
