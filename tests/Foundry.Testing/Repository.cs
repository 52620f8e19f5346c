namespace Foundry.Testing;

/// <summary>The checkout that the tests were built from.</summary>
public static class Repository
{
    /// <summary>Its root: the folder that has the solution.</summary>
    public static string Root { get; } = Find(AppContext.BaseDirectory);

    private static string Find(string folder) =>
        File.Exists(Path.Combine(folder, "Foundry.Gateway.sln")) ? folder : Find(Path.GetDirectoryName(folder) ?? throw new InvalidOperationException("These tests run from within the checkout."));
}
