namespace Foundry.Ledger.Tests;

/// <summary>Where a ledger that is started as a program keeps its logs: in its folder or, beside it, in PostgreSQL.</summary>
internal sealed class HostStore : IDisposable
{
    private readonly string? _schema;

    public HostStore(string store)
    {
        Assert.SkipWhen(store == Stores.Postgres && Stores.ConnectionString is null, "FOUNDRY_TEST_POSTGRES is not set.");
        _schema = store == Stores.Postgres ? $"t{Guid.NewGuid():N}" : null;
    }

    public string Folder { get; } = Directory.CreateTempSubdirectory("foundry-ledger-").FullName;

    public bool IsFiles => _schema is null;

    /// <summary>What a ledger needs to be told of it, beside its folder.</summary>
    public (string Key, string Value)[] Settings => _schema is null ? [] : [("Ledger:Database", Stores.Of(_schema))];

    public void Dispose()
    {
        if (_schema is not null)
            Stores.Drop(_schema);
        Directory.Delete(Folder, recursive: true);
    }
}
