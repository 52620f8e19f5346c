using Dapper;
using Foundry.Storage;

namespace Foundry.Issuance.Changes;

/// <summary>Reads that need no transaction.</summary>
internal static class Reads
{
    /// <summary>All rows of a query.</summary>
    public static async Task<IReadOnlyList<T>> ReadAllAsync<T>(this Database database, string sql, object? values, CancellationToken cancellationToken)
    {
        await using var connection = await database.OpenConnectionAsync(cancellationToken);
        return (await connection.QueryAsync<T>(new CommandDefinition(sql, values, cancellationToken: cancellationToken))).AsList();
    }

    /// <summary>The one row of a query, or the default where there is none.</summary>
    public static async Task<T?> ReadOneAsync<T>(this Database database, string sql, object? values, CancellationToken cancellationToken)
    {
        await using var connection = await database.OpenConnectionAsync(cancellationToken);
        return await connection.QuerySingleOrDefaultAsync<T>(new CommandDefinition(sql, values, cancellationToken: cancellationToken));
    }
}
