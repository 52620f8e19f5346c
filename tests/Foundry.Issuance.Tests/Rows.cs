using Dapper;
using Foundry.Storage;
using Microsoft.Extensions.DependencyInjection;

namespace Foundry.Issuance.Tests;

/// <summary>What is in the store, for tests of what must not have got there.</summary>
internal static class Rows
{
    private static readonly string[] Tables = ["tenants", "tokens", "signing_keys", "trusted_keys", "changes", "idempotency_keys", "vm_removals"];

    /// <summary>The rows of each table, the place of the feed, and the last event that was ever given to the outbox.</summary>
    public static async Task<string> CountAsync(IssuancePart part)
    {
        var counts = new List<string>();
        foreach (var table in Tables)
            counts.Add($"{table} {await CountAsync(part, table)}");
        counts.Add($"feed {await ReadAsync<long>(part, "SELECT feed_seq FROM platform")}");
        // The sender takes events out again; their serial numbers stay used up.
        var last = part.App.Services.GetRequiredService<Outbox>().Database.IsPostgres
            ? "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM outbox_id_seq"
            : "SELECT seq FROM sqlite_sequence WHERE name = 'outbox'";
        counts.Add($"events {await ReadAsync<long>(part, last)}");
        return string.Join(", ", counts);
    }

    public static Task<long> CountAsync(IssuancePart part, string table) => ReadAsync<long>(part, $"SELECT COUNT(*) FROM {table}");

    public static async Task<T?> ReadAsync<T>(IssuancePart part, string sql, object? values = null)
    {
        await using var connection = await part.App.Services.GetRequiredService<Outbox>().Database.OpenConnectionAsync(TestContext.Current.CancellationToken);
        return await connection.ExecuteScalarAsync<T>(sql, values);
    }
}
