using System.Diagnostics.CodeAnalysis;

namespace Foundry.Cli;

/// <summary>A file that a command writes its result to; it replaces none.</summary>
internal static class NewFile
{
    /// <summary>Makes it.</summary>
    public static bool TryCreate(string path, [NotNullWhen(true)] out FileStream? file, [NotNullWhen(false)] out Complaint? complaint)
    {
        try
        {
            file = new FileStream(path, FileMode.CreateNew, FileAccess.Write, FileShare.Read);
            complaint = null;
            return true;
        }
        catch (Exception fault) when (fault is IOException or UnauthorizedAccessException or ArgumentException or NotSupportedException)
        {
            file = null;
            complaint = File.Exists(path)
                ? new Complaint($"{path} exists, and nothing is overwritten", "name another file, or move that one away")
                : new Complaint($"{path} cannot be made: {fault.Message}", "name a file in a folder that you may write to");
            return false;
        }
    }
}
