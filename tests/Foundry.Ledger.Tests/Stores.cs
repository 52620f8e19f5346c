using Npgsql;

namespace Foundry.Ledger.Tests;

/// <summary>
/// What each test of a log runs on: files always; PostgreSQL where FOUNDRY_TEST_POSTGRES is a connection string of a server that
/// tests may write to.
/// </summary>
public static class Stores
{
    public const string Files = "files";
    public const string Postgres = "PostgreSQL";

    public static string? ConnectionString { get; } = Environment.GetEnvironmentVariable("FOUNDRY_TEST_POSTGRES") is { Length: > 0 } text ? text : null;

    public static TheoryData<string> All { get; } = ConnectionString is null ? new(Files) : new(Files, Postgres);

    /// <summary>PostgreSQL's connection string with a schema of the test's own.</summary>
    public static string Of(string schema) => $"{ConnectionString};Search Path={schema};Maximum Pool Size=12;Application Name={schema}";

    public static async Task ExecuteAsync(string schema, string sql)
    {
        await using var connection = new NpgsqlConnection(Of(schema) + ";Pooling=false");
        await connection.OpenAsync(TestContext.Current.CancellationToken);
        await using var command = new NpgsqlCommand(sql, connection);
        await command.ExecuteNonQueryAsync(TestContext.Current.CancellationToken);
    }

    public static void Drop(string schema)
    {
        using var connection = new NpgsqlConnection(ConnectionString);
        connection.Open();
        using var command = new NpgsqlCommand($"DROP SCHEMA IF EXISTS {schema} CASCADE", connection);
        command.ExecuteNonQuery();
    }
}

public sealed class ContinuousIntegration
{
    /// <summary>Without this, a runner that lost its PostgreSQL would go on being green.</summary>
    [Fact]
    public void Tests_on_PostgreSQL_too() =>
        Assert.True(Stores.ConnectionString is not null || Environment.GetEnvironmentVariable("CI") != "true", "CI=true, but FOUNDRY_TEST_POSTGRES is not set.");
}
