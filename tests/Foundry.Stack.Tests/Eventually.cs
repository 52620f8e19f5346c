namespace Foundry.Stack.Tests;

/// <summary>Waits for what must come, however long a busy machine takes; ends with the test.</summary>
internal static class Eventually
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    /// <summary>Asks until it is so.</summary>
    public static async Task TrueAsync(Func<Task<bool>> condition)
    {
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(TestContext.Current.CancellationToken);
        limit.CancelAfter(Patience);
        using var poll = new PeriodicTimer(TimeSpan.FromMilliseconds(20));
        while (!await condition())
            await poll.WaitForNextTickAsync(limit.Token);
    }
}
