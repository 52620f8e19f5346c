using System.Diagnostics.CodeAnalysis;

namespace Foundry.Ledger.Read;

/// <summary>How many follow at once: so many of one log, so that no tenant takes what others need, and so many in all.</summary>
internal sealed class TailSeats(LedgerOptions options)
{
    private readonly Lock _gate = new();
    private readonly Dictionary<ModuleId, int> _taken = [];
    private int _all;

    /// <summary>Takes a seat; disposing it gives it back.</summary>
    public bool TryTake(ModuleId module, [NotNullWhen(true)] out IDisposable? seat)
    {
        seat = null;
        lock (_gate)
        {
            var taken = _taken.GetValueOrDefault(module);
            if (_all >= options.TailsMax || taken >= options.TailsPerLogMax)
                return false;
            _all++;
            _taken[module] = taken + 1;
        }
        seat = new Seat(this, module);
        return true;
    }

    private void Return(ModuleId module)
    {
        lock (_gate)
        {
            _all--;
            if (--_taken[module] == 0)
                _taken.Remove(module);
        }
    }

    private sealed class Seat(TailSeats seats, ModuleId module) : IDisposable
    {
        private int _isReturned;

        public void Dispose()
        {
            if (Interlocked.Exchange(ref _isReturned, 1) == 0)
                seats.Return(module);
        }
    }
}
