using System.Collections.Concurrent;

namespace Foundry.Ledger.Append;

/// <summary>
/// The threads that wait for the store, so that the pool's, which serve requests, never do. A fixed number however many logs
/// there are; each log is run by one of them at a time and goes to the back of the line after each commit.
/// </summary>
internal sealed class DiskThreads : IDisposable
{
    private readonly BlockingCollection<Action> _work = [];
    private readonly Thread[] _threads;

    /// <summary>Starts the threads.</summary>
    public DiskThreads(int count)
    {
        _threads = new Thread[count];
        for (var i = 0; i < count; i++)
        {
            _threads[i] = new Thread(Run) { IsBackground = true, Name = $"ledger disk {i}" };
            _threads[i].Start();
        }
    }

    /// <summary>Puts work in line. It must not throw.</summary>
    /// <returns>False where the threads have ended, or are about to: the work is not done.</returns>
    public bool TryEnqueue(Action work)
    {
        try
        {
            _work.Add(work);
            return true;
        }
        catch (InvalidOperationException)
        {
            return false;
        }
    }

    /// <summary>Puts work in line, to be awaited.</summary>
    /// <exception cref="ObjectDisposedException">The threads have ended, or are about to.</exception>
    public Task<T> RunAsync<T>(Func<T> work)
    {
        var done = new TaskCompletionSource<T>(TaskCreationOptions.RunContinuationsAsynchronously);
        ObjectDisposedException.ThrowIf(!TryEnqueue(() =>
        {
            try
            {
                done.SetResult(work());
            }
            catch (Exception fault)
            {
                done.SetException(fault);
            }
        }), this);
        return done.Task;
    }

    /// <summary>Ends the threads once the line is empty.</summary>
    public void Dispose()
    {
        _work.CompleteAdding();
        foreach (var thread in _threads)
            thread.Join();
        _work.Dispose();
    }

    private void Run()
    {
        foreach (var work in _work.GetConsumingEnumerable())
            work();
    }
}
