namespace Foundry.Cli.Bulk;

/// <summary>How far a bulk run is, on standard error: a bar that redraws itself for a person, a line now and then for a log.</summary>
internal sealed class Progress(Surroundings surroundings, Output output, string doing, int total, int before)
{
    private const int BarChars = 30;
    private static readonly TimeSpan Redraw = TimeSpan.FromMilliseconds(100);
    private static readonly TimeSpan LineEvery = TimeSpan.FromSeconds(10);

    private readonly Lock _lock = new();
    private readonly long _begun = surroundings.Time.GetTimestamp();
    private readonly int _before = before;
    private long _shownAt = surroundings.Time.GetTimestamp();
    private int _shownChars;

    /// <summary>Lines of the list that are done, earlier runs' included.</summary>
    public int Done { get; private set; } = before;

    /// <summary>One more is done.</summary>
    public void Step()
    {
        lock (_lock)
        {
            Done++;
            if (surroundings.Time.GetElapsedTime(_shownAt) < (surroundings.ErrorIsTerminal ? Redraw : LineEvery))
                return;
            _shownAt = surroundings.Time.GetTimestamp();
            if (surroundings.ErrorIsTerminal)
                Draw();
            else
                output.Note($"{Done} of {total} {doing}");
        }
    }

    /// <summary>Says something else, above the bar.</summary>
    public void Aside(Action say)
    {
        lock (_lock)
        {
            Erase();
            say();
        }
    }

    private void Draw()
    {
        var rate = (Done - _before) / surroundings.Time.GetElapsedTime(_begun).TotalSeconds;
        var filled = (int)((long)BarChars * Done / total);
        var text = $"[{new string('#', filled)}{new string('-', BarChars - filled)}] {Done}/{total} {doing}, {rate:0} a second, {(total - Done) / rate:0} s left";
        // Never as wide as the terminal: a line that wraps is not erased by going back to its beginning.
        text = text.Length < surroundings.Width ? text : text[..(surroundings.Width - 1)];
        Erase();
        surroundings.Error.Write(text);
        surroundings.Error.Flush();
        _shownChars = text.Length;
    }

    private void Erase()
    {
        if (_shownChars == 0)
            return;
        surroundings.Error.Write($"\r{new string(' ', _shownChars)}\r");
        _shownChars = 0;
    }
}
