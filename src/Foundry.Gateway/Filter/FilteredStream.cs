using System.Buffers;
using System.IO.Pipelines;

namespace Foundry.Gateway.Filter;

/// <summary>The backend's body with <see cref="ListFilter"/> in it: read it, and only what passes comes out.</summary>
internal sealed class FilteredStream(Stream source, ListFilter filter) : ReadOnlyStream
{
    private readonly PipeReader _input = PipeReader.Create(source, new StreamPipeReaderOptions(bufferSize: 16 * 1024));
    private readonly ArrayBufferWriter<byte> _output = new(16 * 1024);
    private int _taken;

    /// <summary>What the filter has counted.</summary>
    public ListFilter Filter => filter;

    /// <inheritdoc/>
    public override async ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
    {
        while (_taken == _output.WrittenCount && !filter.IsComplete)
        {
            _output.ResetWrittenCount();
            _taken = 0;
            var read = await _input.ReadAsync(cancellationToken);
            var consumed = filter.Read(read.Buffer, read.IsCompleted, _output);
            _input.AdvanceTo(consumed, read.Buffer.End);
        }
        var count = Math.Min(buffer.Length, _output.WrittenCount - _taken);
        _output.WrittenMemory.Slice(_taken, count).CopyTo(buffer);
        _taken += count;
        return count;
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            _input.Complete();
            source.Dispose();
        }
        base.Dispose(disposing);
    }
}

/// <summary>A body for YARP to copy to the client: what was read ahead, then the rest of the stream.</summary>
internal sealed class FilteredContent(ReadOnlyMemory<byte> head, Stream? rest, HttpContent backend) : HttpContent
{
    /// <inheritdoc/>
    protected override Task<Stream> CreateContentReadStreamAsync() => Task.FromResult<Stream>(new ConcatenatedStream(head, rest));

    /// <inheritdoc/>
    protected override Task SerializeToStreamAsync(Stream stream, System.Net.TransportContext? context) => throw new NotSupportedException("The proxy reads this body as a stream.");

    /// <inheritdoc/>
    protected override bool TryComputeLength(out long length)
    {
        length = head.Length;
        return rest is null;
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            rest?.Dispose();
            backend.Dispose();
        }
        base.Dispose(disposing);
    }

    private sealed class ConcatenatedStream(ReadOnlyMemory<byte> head, Stream? rest) : ReadOnlyStream
    {
        private ReadOnlyMemory<byte> _head = head;

        public override ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
        {
            if (_head.IsEmpty)
                return rest is null ? ValueTask.FromResult(0) : rest.ReadAsync(buffer, cancellationToken);
            var count = Math.Min(buffer.Length, _head.Length);
            _head[..count].CopyTo(buffer);
            _head = _head[count..];
            return ValueTask.FromResult(count);
        }
    }
}
