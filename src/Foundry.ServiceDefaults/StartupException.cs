namespace Foundry.ServiceDefaults;

/// <summary>The process cannot start, for a reason that its operator can mend. Ends it with exit code 1 and this message alone.</summary>
public class StartupException : Exception
{
    /// <summary>Makes one.</summary>
    /// <param name="message">What is wrong and what would be right.</param>
    /// <param name="inner">The fault behind it.</param>
    public StartupException(string message, Exception? inner = null)
        : base(message, inner)
    {
    }
}

/// <summary>State on disk cannot be read. Nothing has been written.</summary>
public sealed class StateCorruptException : StartupException
{
    /// <summary>Makes one.</summary>
    /// <param name="file">Which file.</param>
    /// <param name="why">What is wrong with it.</param>
    /// <param name="inner">The fault behind it.</param>
    public StateCorruptException(string file, string why, Exception? inner = null)
        : base($"{file}: {why}. Nothing was changed. Restore this file from a backup, or move it away if you know that you can do without it.", inner) =>
        File = file;

    /// <summary>Which file.</summary>
    public string File { get; }
}

/// <summary>A folder of state takes no new file; what is in it is as it was.</summary>
public sealed class StateUnwritableException : IOException
{
    /// <summary>Makes one.</summary>
    /// <param name="folder">Which folder.</param>
    /// <param name="inner">The fault behind it.</param>
    public StateUnwritableException(string folder, Exception inner)
        : base($"Nothing can be written to the folder {folder} ({inner?.Message}). Let this process write there (where it is mounted, mount it read-write), see that there is room, and try again.", inner)
    {
    }
}
