using System.Buffers;
using System.Globalization;
using System.Text.Json;
using Foundry.Gateway.Config;

namespace Foundry.Gateway.Filter;

/// <summary>The backend's answer is not what the filter can vouch for. Nothing of it may pass.</summary>
internal sealed class UnfilterableException(string why) : Exception(why);

/// <summary>
/// Lets pass, of a JSON list, the elements whose owner is the caller's tenant, as the bytes arrive: one pass, no document in
/// memory, bounded by one element. Decides per element, never per list. What it does not understand, it does not pass.
/// </summary>
internal sealed class ListFilter(FilterRule rule, string? tenant)
{
    /// <summary>Bytes of the largest element, and of the largest envelope member that passes.</summary>
    public const int ElementBytesMax = 1024 * 1024;
    private const int DepthMax = 64;

    private JsonReaderState _state = new(new JsonReaderOptions { MaxDepth = DepthMax });
    private Place _place = Place.Start;
    private bool _commaNeeded;
    private bool _memberCommaNeeded;
    private bool _itemsSeen;
    private readonly HashSet<string> _membersSeen = new(StringComparer.OrdinalIgnoreCase);
    private string? _newest;

    private enum Place { Start, Envelope, List, AfterRoot }

    /// <summary>Elements that passed.</summary>
    public long Kept { get; private set; }
    /// <summary>Elements that belong to others or to nobody.</summary>
    public long Dropped { get; private set; }
    /// <summary>Whether the whole answer has been read.</summary>
    public bool IsComplete { get; private set; }

    /// <summary>Reads as much as there is.</summary>
    /// <param name="input">What has arrived and was not consumed yet.</param>
    /// <param name="final">Whether nothing will follow.</param>
    /// <param name="output">Takes what passes.</param>
    /// <returns>Up to where the input is consumed.</returns>
    /// <exception cref="UnfilterableException">The answer is not the list that the rule describes.</exception>
    public SequencePosition Read(ReadOnlySequence<byte> input, bool final, IBufferWriter<byte> output)
    {
        var reader = new Utf8JsonReader(input, final, _state);
        var consumed = input.Start;
        try
        {
            while (true)
            {
                var before = reader;
                if (!reader.Read() || !TryStep(ref reader, input, output))
                {
                    if (_place == Place.AfterRoot && final)
                    {
                        IsComplete = true;
                        return input.End;
                    }
                    if (final)
                        throw new UnfilterableException("the answer ends in the middle");
                    if (input.Slice(before.Position).Length > ElementBytesMax)
                        throw new UnfilterableException($"an element is over {ElementBytesMax} bytes");
                    _state = before.CurrentState;
                    return consumed;
                }
                consumed = reader.Position;
            }
        }
        catch (JsonException)
        {
            throw new UnfilterableException("the answer is not JSON");
        }
        catch (InvalidOperationException)
        {
            throw new UnfilterableException("the answer has a string that is not UTF-8");
        }
    }

    /// <summary>Handles the token just read; false where the element it begins has not wholly arrived.</summary>
    private bool TryStep(ref Utf8JsonReader reader, in ReadOnlySequence<byte> input, IBufferWriter<byte> output)
    {
        switch (_place)
        {
            case Place.Start when rule.Items is null && reader.TokenType == JsonTokenType.StartArray:
                _place = Place.List;
                Write(output, "["u8);
                return true;
            case Place.Start when rule.Items is not null && reader.TokenType == JsonTokenType.StartObject:
                _place = Place.Envelope;
                Write(output, "{"u8);
                return true;
            case Place.Envelope when reader.TokenType == JsonTokenType.EndObject:
                if (!_itemsSeen)
                    throw new UnfilterableException($"the answer has no '{rule.Items}'");
                _place = Place.AfterRoot;
                Write(output, "}"u8);
                return true;
            case Place.Envelope when reader.TokenType == JsonTokenType.PropertyName:
                return TryMember(ref reader, input, output);
            case Place.List when reader.TokenType == JsonTokenType.EndArray:
                _place = rule.Items is null ? Place.AfterRoot : Place.Envelope;
                Write(output, "]"u8);
                return true;
            case Place.List:
                return TryElement(ref reader, input, output);
            default:
                throw new UnfilterableException("the answer is not the list that the route's filter describes");
        }
    }

    private bool TryMember(ref Utf8JsonReader reader, in ReadOnlySequence<byte> input, IBufferWriter<byte> output)
    {
        var name = reader.GetString()!;
        if (!reader.Read())
            return false;
        if (name == rule.Items)
        {
            if (reader.TokenType != JsonTokenType.StartArray)
                throw new UnfilterableException($"'{rule.Items}' is not a list");
            Remember(name);
            _itemsSeen = true;
            _place = Place.List;
            BeginMember(output, name);
            Write(output, "["u8);
            return true;
        }
        var start = reader.TokenStartIndex;
        if (!reader.TrySkip())
            return false;
        Remember(name);
        if (rule.Keep.Contains(name) || tenant is null)
        {
            BeginMember(output, name);
            Copy(input.Slice(start, reader.BytesConsumed - start), output);
        }
        // Before the list a count or a newest cannot be known yet: dropped, rather than passed on or guessed.
        else if (_itemsSeen && rule.Counts.Contains(name))
        {
            BeginMember(output, name);
            Write(output, System.Text.Encoding.ASCII.GetBytes(Kept.ToString(CultureInfo.InvariantCulture)));
        }
        else if (_itemsSeen && name == rule.NewestMember && _newest is not null)
        {
            BeginMember(output, name);
            Write(output, JsonSerializer.SerializeToUtf8Bytes(_newest, JsonSerializerOptions.Default));
        }
        return true;
    }

    private bool TryElement(ref Utf8JsonReader reader, in ReadOnlySequence<byte> input, IBufferWriter<byte> output)
    {
        var start = reader.TokenStartIndex;
        if (!reader.TrySkip())
            return false;
        var element = input.Slice(start, reader.BytesConsumed - start);
        if (element.Length > ElementBytesMax)
            throw new UnfilterableException($"an element is over {ElementBytesMax} bytes");
        if (!Belongs(element))
        {
            Dropped++;
            return true;
        }
        Kept++;
        if (_commaNeeded)
            Write(output, ","u8);
        _commaNeeded = true;
        Copy(element, output);
        return true;
    }

    /// <summary>Whether the element's owner member is there once, in this spelling, a string, and the tenant, compared ordinally.</summary>
    private bool Belongs(in ReadOnlySequence<byte> element)
    {
        if (!IsUtf8(element))
            return false;
        var reader = new Utf8JsonReader(element, new JsonReaderOptions { MaxDepth = DepthMax });
        if (!reader.Read() || reader.TokenType != JsonTokenType.StartObject)
            return tenant is null;
        var owners = 0;
        var own = false;
        string? newest = null;
        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            if (reader.ValueTextEquals(rule.Owner))
            {
                owners++;
                reader.Read();
                own = tenant is not null && reader.TokenType == JsonTokenType.String && reader.ValueTextEquals(tenant);
                reader.Skip();
                continue;
            }
            if (reader.HasValueSequence || reader.ValueIsEscaped || reader.ValueSpan.Length == rule.Owner.Length)
            {
                var name = reader.GetString()!;
                if (name.Equals(rule.Owner, StringComparison.OrdinalIgnoreCase))
                    owners++; // TENANT_ID beside tenant_id: readers differ in which one wins.
            }
            var isNewest = rule.NewestOf is not null && reader.ValueTextEquals(rule.NewestOf);
            reader.Read();
            if (isNewest && reader.TokenType == JsonTokenType.String)
                newest = reader.GetString();
            reader.Skip();
        }
        if (tenant is not null && (owners != 1 || !own))
            return false;
        if (newest is not null && IsNewer(newest))
            _newest = newest;
        return true;
    }

    private bool IsNewer(string candidate) =>
        DateTimeOffset.TryParse(candidate, CultureInfo.InvariantCulture, DateTimeStyles.RoundtripKind, out var time)
        && (_newest is null || time > DateTimeOffset.Parse(_newest, CultureInfo.InvariantCulture, DateTimeStyles.RoundtripKind));

    private void Remember(string name)
    {
        if (!_membersSeen.Add(name))
            throw new UnfilterableException("the answer has a member twice, or in two spellings");
    }

    private void BeginMember(IBufferWriter<byte> output, string name)
    {
        if (_memberCommaNeeded)
            Write(output, ","u8);
        _memberCommaNeeded = true;
        Write(output, JsonSerializer.SerializeToUtf8Bytes(name, JsonSerializerOptions.Default));
        Write(output, ":"u8);
    }

    private static bool IsUtf8(in ReadOnlySequence<byte> bytes)
    {
        if (bytes.IsSingleSegment)
            return System.Text.Unicode.Utf8.IsValid(bytes.FirstSpan);
        var rented = ArrayPool<byte>.Shared.Rent((int)bytes.Length);
        bytes.CopyTo(rented);
        var valid = System.Text.Unicode.Utf8.IsValid(rented.AsSpan(0, (int)bytes.Length));
        ArrayPool<byte>.Shared.Return(rented);
        return valid;
    }

    private static void Copy(in ReadOnlySequence<byte> bytes, IBufferWriter<byte> output)
    {
        foreach (var segment in bytes)
            output.Write(segment.Span);
    }

    private static void Write(IBufferWriter<byte> output, ReadOnlySpan<byte> bytes) => output.Write(bytes);
}
