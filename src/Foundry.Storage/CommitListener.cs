using Npgsql;

namespace Foundry.Storage;

/// <summary>
/// A connection on which PostgreSQL passes on what other processes notify of (<see cref="Database.NotifyAsync"/>). Where something in
/// between swallows notices, as poolers do, nothing comes: whoever waits looks for itself now and then.
/// </summary>
public sealed class CommitListener : IAsyncDisposable
{
    private readonly NpgsqlConnection _connection;

    internal CommitListener(NpgsqlConnection connection) => _connection = connection;

    /// <summary>Waits for the next notice.</summary>
    /// <param name="atMost">How long.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <returns>False where none came.</returns>
    /// <exception cref="NpgsqlException">The connection is broken.</exception>
    public Task<bool> WaitAsync(TimeSpan atMost, CancellationToken cancellationToken) => _connection.WaitAsync(atMost, cancellationToken);

    /// <inheritdoc/>
    public ValueTask DisposeAsync() => _connection.DisposeAsync();
}
