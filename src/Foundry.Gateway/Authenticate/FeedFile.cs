using System.Text;
using Foundry.Contracts;
using Foundry.ServiceDefaults;

namespace Foundry.Gateway.Authenticate;

/// <summary>
/// The feed on disk, as it came: a snapshot's lines, then the lines since. A new snapshot is written beside it and takes its
/// place when it is whole; a line is durable before it counts.
/// </summary>
internal sealed class FeedFile(StateFolder folder, ILogger log) : IDisposable
{
    /// <summary>Its name in the gateway's folder.</summary>
    public const string Name = "feed.state";
    /// <summary>What will take its place.</summary>
    public const string NewName = "feed.state.new";

    private FileStream? _appending;

    private StateFolder Folder => folder;

    /// <summary>Lines in it that followed the snapshot.</summary>
    public int LinesSince { get; private set; }

    /// <summary>Whether the disk did not take a line, so that what is new is not all in it.</summary>
    public bool IsBehind { get; private set; }

    /// <summary>Reads what is there, line by line.</summary>
    /// <param name="apply">Takes a line; null where it is not issuance's, or does not follow the one before it, else its message.</param>
    /// <exception cref="StateCorruptException">It is not whole.</exception>
    public void Restore(Func<string, FeedMessage?> apply)
    {
        var path = folder.File(Name);
        if (!File.Exists(path))
            return;
        var (number, more) = (0, true);
        using var file = new FileStream(path, FileMode.Open, FileAccess.ReadWrite, FileShare.Read);
        var lines = new FeedLines(file);
        try
        {
            while (lines.Read() is { } line)
            {
                number++;
                if (apply(line) is not { } message)
                    throw new StateCorruptException(path, $"line {number} is not a message that issuance signed, or does not follow the one before it");
                if (message.Kind == FeedMessage.Snapshot && !more)
                    throw new StateCorruptException(path, $"line {number} begins a second snapshot");
                more &= message.More;
                LinesSince += message.Kind == FeedMessage.Snapshot ? 0 : 1;
            }
        }
        catch (IOException fault)
        {
            throw new StateCorruptException(path, fault.Message, fault);
        }
        if (more)
            throw new StateCorruptException(path, "it holds no whole snapshot");
        if (!lines.IsTorn)
            return;
        // A crash while a line was being written; it was not applied, and the feed brings it again.
        file.SetLength(lines.BytesTaken);
        file.Flush(flushToDisk: true);
    }

    /// <summary>Adds a line that follows; what is refused from here on is refused after a restart too.</summary>
    /// <param name="line">The line.</param>
    public void Append(string line)
    {
        if (IsBehind)
            return; // A line is missing, so none can follow; a new snapshot takes the file's place as soon as it can.
        try
        {
            _appending ??= new FileStream(folder.File(Name), FileMode.Append, FileAccess.Write, FileShare.Read);
            _appending.Write(Encoding.ASCII.GetBytes(line + "\n"));
            // The commit point.
            _appending.Flush(flushToDisk: true);
            LinesSince++;
        }
        catch (IOException fault)
        {
            CannotKeep(fault);
        }
    }

    /// <summary>Begins what will take this file's place.</summary>
    public Replacement Replace() => new(this);

    /// <inheritdoc/>
    public void Dispose() => _appending?.Dispose();

    /// <summary>The disk does not take it: what is new counts all the same.</summary>
    private void CannotKeep(IOException fault)
    {
        log.LogError("The feed cannot be kept on disk, so a restart without issuance would not know what is new: {Reason}", fault.Message);
        IsBehind = true;
    }

    /// <summary>A file that is written beside the one in use.</summary>
    internal sealed class Replacement : IDisposable
    {
        private readonly FeedFile _file;
        private readonly FileStream? _stream;
        private IOException? _fault;
        private int _linesSince;

        public Replacement(FeedFile file)
        {
            _file = file;
            var options = new FileStreamOptions { Mode = FileMode.Create, Access = FileAccess.Write, Share = FileShare.None };
            if (!OperatingSystem.IsWindows())
                options.UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite;
            try
            {
                _stream = new FileStream(_file.Folder.File(NewName), options);
            }
            catch (IOException fault)
            {
                _fault = fault;
            }
        }

        /// <summary>Writes a line.</summary>
        /// <param name="line">The line.</param>
        /// <param name="isSince">Whether it follows the snapshot, rather than being a part of it.</param>
        public void Write(string line, bool isSince = false)
        {
            if (_fault is not null)
                return;
            try
            {
                _stream!.Write(Encoding.ASCII.GetBytes(line + "\n"));
                _linesSince += isSince ? 1 : 0;
            }
            catch (IOException fault)
            {
                _fault = fault;
            }
        }

        /// <summary>Takes the file's place; where the disk does not take it, the old file stays, and is behind.</summary>
        public void Commit()
        {
            try
            {
                if (_fault is not null)
                    throw _fault;
                _stream!.Flush(flushToDisk: true);
                _stream.Dispose();
                _file._appending?.Dispose();
                _file._appending = null;
                File.Move(_file.Folder.File(NewName), _file.Folder.File(Name), overwrite: true);
                // The commit point: the new name is durable once the folder is.
                StateFolder.FlushFolder(_file.Folder.Path);
                (_file.LinesSince, _file.IsBehind) = (_linesSince, false);
            }
            catch (IOException fault)
            {
                _file.CannotKeep(fault);
            }
        }

        /// <inheritdoc/>
        public void Dispose() => _stream?.Dispose();
    }
}
