using System.Buffers;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using CsCheck;
using Foundry.Gateway.Config;
using Foundry.Gateway.Filter;

namespace Foundry.Gateway.Tests.Filter;

/// <summary>The filter by itself: what it lets pass, and that it does not matter how the bytes arrive.</summary>
public sealed class ListFilterTests
{
    private const string Acme = "acme";
    private static readonly FilterRule Root = Rule("items=$[*]; owner=tenant_id");
    private static readonly FilterRule Envelope = Rule("items=$.nodes[*]; owner=tenant_id; keep=kept; counts=total; newest=last_updated:last_seen");

    [Theory]
    [InlineData("""[{"tenant_id":"acme","a":1},{"tenant_id":"globex"},{"a":2,"tenant_id":"acme"}]""", """[{"tenant_id":"acme","a":1},{"a":2,"tenant_id":"acme"}]""")]
    [InlineData("[]", "[]")]
    [InlineData(" [ ] ", "[]")]
    [InlineData("""[{"tenant_id":"globex"}]""", "[]")]
    [InlineData("""[ { "tenant_id" : "acme" } , {"tenant_id":"acme"} ]""", """[{ "tenant_id" : "acme" },{"tenant_id":"acme"}]""")]
    // The same owner in another spelling of the same string.
    [InlineData("""[{"tenant\u005fid":"acme"},{"tenant_id":"\u0061cme"}]""", """[{"tenant\u005fid":"acme"},{"tenant_id":"\u0061cme"}]""")]
    // Bytes stay as they came: big numbers, escapes, white space, order.
    [InlineData("""[{"tenant_id":"acme","n":1.0e+2,"u":"\u00e9é","d":12345678901234567890.123456789,"x":{"tenant_id":"globex"}}]""", """[{"tenant_id":"acme","n":1.0e+2,"u":"\u00e9é","d":12345678901234567890.123456789,"x":{"tenant_id":"globex"}}]""")]
    // Names that begin with, end with or look like the caller's.
    [InlineData("""[{"tenant_id":"acme-x"},{"tenant_id":"acm"},{"tenant_id":"ACME"},{"tenant_id":"acme\u200b"},{"tenant_id":" acme"},{"tenant_id":"acme "},{"tenant_id":"\u0430cme"},{"tenant_id":"acme\u0000"}]""", "[]")]
    // No owner, or none that is a string.
    [InlineData("""[{},{"tenant_id":null},{"tenant_id":1},{"tenant_id":true},{"tenant_id":["acme"]},{"tenant_id":{"tenant_id":"acme"}},{"tenant_id":""},1,"acme",null,["acme"],[{"tenant_id":"acme"}]]""", "[]")]
    // An owner twice, in one spelling or two: readers differ in which one counts.
    [InlineData("""[{"tenant_id":"acme","tenant_id":"acme"},{"tenant_id":"globex","tenant_id":"acme"},{"tenant_id":"acme","tenant_id":"globex"},{"tenant_id":"acme","TENANT_ID":"globex"},{"TENANT_ID":"globex","tenant_id":"acme"},{"Tenant_Id":"acme"},{"tenant_id":"acme","tenant\u005fid":"globex"},{"tenant_id":"acme","TENANT\u005fID":"globex"}]""", "[]")]
    public void A_root_list_passes_the_callers_own_elements_alone(string list, string expected) => Assert.Equal(expected, Run(Root, Acme, list));

    [Theory]
    [InlineData("""{"nodes":[{"tenant_id":"acme"},{"tenant_id":"globex"}],"secret":1}""", """{"nodes":[{"tenant_id":"acme"}]}""")]
    [InlineData("""{"kept":{"a":[1,2]},"nodes":[],"next":"x"}""", """{"kept":{"a":[1,2]},"nodes":[]}""")]
    // A count before its list is dropped, after it recomputed.
    [InlineData("""{"total":2,"nodes":[{"tenant_id":"acme"},{"tenant_id":"globex"}]}""", """{"nodes":[{"tenant_id":"acme"}]}""")]
    [InlineData("""{"nodes":[{"tenant_id":"acme"},{"tenant_id":"globex"}],"total":2}""", """{"nodes":[{"tenant_id":"acme"}],"total":1}""")]
    // The newest is the caller's own newest, in the bytes it was said in.
    [InlineData("""{"nodes":[{"tenant_id":"acme","last_seen":"2026-01-01T00:00:00.123456789Z"},{"tenant_id":"acme","last_seen":"2025-01-01T00:00:00Z"},{"tenant_id":"globex","last_seen":"2027-01-01T00:00:00Z"}],"last_updated":"2027-01-01T00:00:00Z"}""",
        """{"nodes":[{"tenant_id":"acme","last_seen":"2026-01-01T00:00:00.123456789Z"},{"tenant_id":"acme","last_seen":"2025-01-01T00:00:00Z"}],"last_updated":"2026-01-01T00:00:00.123456789Z"}""")]
    [InlineData("""{"nodes":[{"tenant_id":"globex","last_seen":"2027-01-01T00:00:00Z"}],"last_updated":"2027-01-01T00:00:00Z"}""", """{"nodes":[]}""")]
    [InlineData("""{"last_updated":"2027-01-01T00:00:00Z","nodes":[]}""", """{"nodes":[]}""")]
    [InlineData("""{"no\u0064es":[{"tenant_id":"acme"}]}""", """{"nodes":[{"tenant_id":"acme"}]}""")]
    public void An_envelope_passes_by_its_allow_list(string envelope, string expected) => Assert.Equal(expected, Run(Envelope, Acme, envelope));

    public static TheoryData<bool, string> Unfilterable
    {
        get
        {
            var rows = new TheoryData<bool, string>();
            foreach (var answer in new[]
            {
                "", " ", "null", "1", "\"a\"", "{}", """{"items":[]}""", "[", "[{", """[{"tenant_id":"acme"}""", """[{"tenant_id":"acme"},""", "[]]", "[][]", "[]{}", "[] x", "[],",
                "\ufeff[]", "[NaN]", "[{\"tenant_id\":\"acme\",\"a\":NaN}]", "[Infinity]", "[01]", "[,]", "[1,]", "// c\n[]", "[/**/]", "['a']", "[{'tenant_id':'acme'}]", "<html></html>", "[\"\u0001\"]",
            })
                rows.Add(false, answer);
            foreach (var answer in new[]
            {
                "[]", "{}", "null", """{"nodes":{}}""", """{"nodes":null}""", """{"nodes":"acme"}""", """{"Nodes":[]}""", """{"nodes":[],"nodes":[]}""", """{"nodes":[],"Nodes":[]}""", """{"NODES":[],"nodes":[]}""",
                """{"nodes":[],"no\u0064es":[]}""", """{"kept":1,"kept":2,"nodes":[]}""", """{"kept":1,"KEPT":2,"nodes":[]}""", """{"nodes":[]""", """{"nodes":[]}{"nodes":[]}""", """{"nodes":[],}""",
            })
                rows.Add(true, answer);
            return rows;
        }
    }

    [Theory, MemberData(nameof(Unfilterable))]
    public void What_is_not_the_list_it_should_be_passes_not_at_all(bool envelope, string answer) =>
        Assert.Throws<UnfilterableException>(() => Run(envelope ? Envelope : Root, Acme, answer));

    [Fact]
    public void An_element_has_a_bound()
    {
        string List(int bytes) => $$"""[{"tenant_id":"acme","a":"{{new string('a', bytes)}}"}]""";
        Assert.Equal(List(1000 * 1024), Run(Root, Acme, List(1000 * 1024)));
        Assert.Throws<UnfilterableException>(() => Run(Root, Acme, List(5 * 1024 * 1024)));
        // Also where it is somebody else's, and where it comes in small pieces.
        var foreign = Encoding.UTF8.GetBytes(List(5 * 1024 * 1024).Replace("acme", "else", StringComparison.Ordinal));
        Assert.Throws<UnfilterableException>(() => Run(Root, Acme, Pieces(foreign, Enumerable.Range(1, 300).Select(i => i * 16 * 1024))));
    }

    [Fact]
    public void Nesting_has_a_bound()
    {
        string Nested(int depth) => $$"""[{"tenant_id":"acme","a":{{new string('[', depth)}}{{new string(']', depth)}}}]""";
        Assert.Equal(Nested(50), Run(Root, Acme, Nested(50)));
        Assert.Throws<UnfilterableException>(() => Run(Root, Acme, Nested(10_000)));
    }

    [Fact]
    public void Bytes_that_are_not_utf8_do_not_pass()
    {
        var list = Encoding.UTF8.GetBytes("""[{"tenant_id":"acme","a":"?"}]""");
        list[Array.IndexOf(list, (byte)'?')] = 0xFF;
        Assert.DoesNotContain((byte)0xFF, Encoding.Latin1.GetBytes(Run(Root, Acme, [list])));
    }

    [Fact]
    public void A_platform_administrator_sees_all() =>
        Assert.Equal("""{"kept":1,"x":2,"nodes":[{"tenant_id":"acme"},{"tenant_id":null},1],"total":9}""", Run(Envelope, null, """{"kept":1,"x":2,"nodes":[{"tenant_id":"acme"},{"tenant_id":null},1],"total":9}"""));

    [Fact]
    public void The_output_is_what_reading_filtering_and_writing_would_give() =>
        Lists.Sample(list =>
        {
            var output = JsonNode.Parse(Run(Root, Acme, [Encoding.UTF8.GetBytes(list.ToJsonString())]))!.AsArray();
            var model = list.Where(item => item is JsonObject element && element["tenant_id"] is JsonValue owner && owner.GetValueKind() == JsonValueKind.String && owner.GetValue<string>() == Acme).ToArray();
            Assert.Equal(model.Select(item => item!.ToJsonString()), output.Select(item => item!.ToJsonString()));
        });

    [Fact]
    public void It_does_not_matter_where_the_bytes_are_split() =>
        Gen.Select(Lists, Gen.Int[0, 1_000_000].Array[0, 12]).Sample((list, cuts) =>
        {
            var bytes = Encoding.UTF8.GetBytes(list.ToJsonString());
            Assert.Equal(Run(Root, Acme, [bytes]), Run(Root, Acme, Pieces(bytes, cuts.Select(cut => cut % (bytes.Length + 1)))));
        });

    [Fact]
    public void It_does_not_matter_if_every_byte_comes_alone()
    {
        var bytes = Encoding.UTF8.GetBytes("""{"kept":"é\u00e9","total":1,"nodes":[{"tenant_id":"acme","last_seen":"2026-01-01T00:00:00Z"},{"tenant_id":"globex"},{"tenant\u005fid":"acme"}],"last_updated":"x","total2":[{}]} """);
        Assert.Equal(Run(Envelope, Acme, [bytes]), Run(Envelope, Acme, Pieces(bytes, Enumerable.Range(1, bytes.Length - 1))));
    }

    [Fact]
    public void Two_worlds_that_differ_in_what_is_foreign_look_the_same() =>
        Gen.Select(Lists, Lists).Sample((own, foreign) =>
        {
            var mine = own.Where(item => item is JsonObject element && element["tenant_id"]?.ToJsonString() == "\"acme\"").Select(item => item!.ToJsonString()).ToArray();
            var others = foreign.Where(item => item is JsonObject element && element["tenant_id"]?.ToJsonString() != "\"acme\"").Select(item => item!.ToJsonString()).ToArray();
            var alone = $$"""{"nodes":[{{string.Join(',', mine)}}],"total":{{mine.Length}}}""";
            var among = $$"""{"cursor":"x","nodes":[{{string.Join(',', others.Concat(mine).Concat(others))}}],"next":1,"total":{{mine.Length + others.Length}}}""";
            Assert.Equal(Run(Envelope, Acme, alone), Run(Envelope, Acme, among));
        });

    private static readonly string[] Names = [Acme, Acme, "globex", "acme-x", "ACME", "", "acm", "é"];

    private static readonly Gen<JsonNode?> Nothing = Gen.Bool.Select(_ => (JsonNode?)null);

    private static readonly Gen<JsonNode?> Owners = Gen.OneOf(Nothing, Gen.Int[0, Names.Length - 1].Select(i => (JsonNode?)JsonValue.Create(Names[i])), Gen.Int.Select(number => (JsonNode?)JsonValue.Create(number)));

    private static readonly Gen<JsonNode?> Values = Gen.OneOf(Gen.Int.Select(number => (JsonNode?)JsonValue.Create(number)), Gen.String[0, 20].Where(text => !text.Any(char.IsSurrogate)).Select(text => (JsonNode?)JsonValue.Create(text)), Nothing,
        Gen.Int.Array[0, 4].Select(numbers => (JsonNode?)new JsonArray([.. numbers.Select(number => JsonValue.Create(number))])));

    private static readonly Gen<JsonNode?> Elements = Gen.Select(Gen.Bool, Owners, Values, Values, (hasOwner, owner, before, after) =>
    {
        var element = new JsonObject { ["before"] = before?.DeepClone() };
        if (hasOwner)
            element["tenant_id"] = owner?.DeepClone();
        element["after"] = after?.DeepClone();
        return (JsonNode?)element;
    });

    private static readonly Gen<JsonArray> Lists = Gen.OneOf(Elements, Values).Array[0, 12].Select(items => new JsonArray([.. items.Select(item => item?.DeepClone())]));

    private static string Run(FilterRule rule, string? tenant, string answer) => Run(rule, tenant, [Encoding.UTF8.GetBytes(answer)]);

    private static string Run(FilterRule rule, string? tenant, IReadOnlyList<byte[]> pieces)
    {
        var filter = new ListFilter(rule, tenant);
        var output = new ArrayBufferWriter<byte>();
        var input = Array.Empty<byte>();
        for (var i = 0; i < pieces.Count; i++)
        {
            // What was not consumed and what is new are two segments, as they are in a pipe.
            var sequence = Sequence(input, pieces[i]);
            var consumed = filter.Read(sequence, final: i == pieces.Count - 1, output);
            input = sequence.Slice(consumed).ToArray();
        }
        Assert.True(filter.IsComplete);
        return Encoding.UTF8.GetString(output.WrittenSpan);
    }

    private static ReadOnlySequence<byte> Sequence(byte[] left, byte[] more)
    {
        if (left.Length == 0)
            return new ReadOnlySequence<byte>(more);
        var first = new Segment(left, 0);
        var second = first.Then(more);
        return new ReadOnlySequence<byte>(first, 0, second, more.Length);
    }

    private static byte[][] Pieces(byte[] bytes, IEnumerable<int> cuts)
    {
        int[] at = [0, .. cuts.Where(cut => cut < bytes.Length).Order(), bytes.Length];
        return [.. at.Zip(at.Skip(1)).Select(pair => bytes[pair.First..pair.Second])];
    }

    private static FilterRule Rule(string text)
    {
        var route = new Yarp.ReverseProxy.Configuration.RouteConfig
        {
            RouteId = "list",
            ClusterId = "fleet",
            Match = new() { Path = "/list", Methods = ["GET"] },
            Metadata = new Dictionary<string, string> { ["foundry.scope"] = "read", ["foundry.filter"] = text },
        };
        return PolicyGrammar.Read(route, (field, message) => throw new InvalidOperationException($"{field}: {message}"))!.Filter!;
    }

    private sealed class Segment : ReadOnlySequenceSegment<byte>
    {
        public Segment(byte[] bytes, long runningIndex) => (Memory, RunningIndex) = (bytes, runningIndex);

        public Segment Then(byte[] bytes)
        {
            var next = new Segment(bytes, RunningIndex + Memory.Length);
            Next = next;
            return next;
        }
    }
}
