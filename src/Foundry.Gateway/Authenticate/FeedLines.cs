using System.Text;
using Foundry.Contracts;

namespace Foundry.Gateway.Authenticate;

/// <summary>Lines out of a stream, one at a time and none longer than <see cref="FeedMessage.LineCharsMax"/>.</summary>
/// <param name="stream">From a network or a disk.</param>
internal sealed class FeedLines(Stream stream)
{
    private byte[] _buffer = new byte[16 * 1024];
    private int _from;
    private int _to;

    /// <summary>Bytes of the whole lines so far.</summary>
    public long BytesTaken { get; private set; }

    /// <summary>Whether the stream went on for a while after its last whole line.</summary>
    public bool IsTorn => _to > _from;

    /// <summary>The next whole line, or null at the end.</summary>
    /// <exception cref="IOException">It is too long, or cannot be read.</exception>
    public string? Read()
    {
        while (true)
        {
            if (Take() is { } line)
                return line;
            var read = stream.Read(Room());
            if (read == 0)
                return null;
            _to += read;
        }
    }

    /// <summary>The next whole line, or null at the end.</summary>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <exception cref="IOException">It is too long, or cannot be read.</exception>
    public async ValueTask<string?> ReadAsync(CancellationToken cancellationToken)
    {
        while (true)
        {
            if (Take() is { } line)
                return line;
            Room();
            var read = await stream.ReadAsync(_buffer.AsMemory(_to), cancellationToken);
            if (read == 0)
                return null;
            _to += read;
        }
    }

    private string? Take()
    {
        var length = _buffer.AsSpan(_from.._to).IndexOf((byte)'\n');
        if (length < 0)
            return null;
        var line = Encoding.ASCII.GetString(_buffer, _from, length);
        _from += length + 1;
        BytesTaken += length + 1;
        return line;
    }

    /// <summary>Where the next bytes go; there is room for at least one.</summary>
    private Span<byte> Room()
    {
        if (_to - _from > FeedMessage.LineCharsMax)
            throw new IOException($"a line is longer than {FeedMessage.LineCharsMax} characters");
        if (_from > 0)
        {
            _buffer.AsSpan(_from.._to).CopyTo(_buffer);
            (_from, _to) = (0, _to - _from);
        }
        if (_to == _buffer.Length)
            Array.Resize(ref _buffer, _buffer.Length * 2);
        return _buffer.AsSpan(_to);
    }
}
