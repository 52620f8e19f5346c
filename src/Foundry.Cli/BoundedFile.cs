using System.Diagnostics.CodeAnalysis;

namespace Foundry.Cli;

/// <summary>Files that somebody names, read whole if they are not too long.</summary>
internal static class BoundedFile
{
    /// <summary>Reads a file, or a pipe that looks like one.</summary>
    /// <param name="path">Which.</param>
    /// <param name="bytesMax">Bytes it may have.</param>
    /// <param name="bytes">What is in it.</param>
    /// <param name="complaint">What is wrong.</param>
    public static bool TryRead(string path, int bytesMax, [NotNullWhen(true)] out byte[]? bytes, [NotNullWhen(false)] out Complaint? complaint)
    {
        bytes = null;
        complaint = null;
        try
        {
            using var file = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
            using var whole = new MemoryStream();
            var buffer = new byte[64 * 1024];
            for (int read; whole.Length <= bytesMax && (read = file.Read(buffer)) > 0;)
                whole.Write(buffer, 0, read);
            if (whole.Length <= bytesMax)
                bytes = whole.ToArray();
            else
                complaint = new Complaint($"{path} is longer than {bytesMax / 1024 / 1024} MiB", "split it");
        }
        catch (Exception fault) when (fault is IOException or UnauthorizedAccessException or ArgumentException or NotSupportedException)
        {
            complaint = new Complaint($"{path} cannot be read: {fault.Message}", "name a file that can");
        }
        return bytes is not null;
    }
}
