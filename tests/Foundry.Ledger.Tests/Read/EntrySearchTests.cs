using CsCheck;
using Foundry.Ledger.Read;
using Foundry.Ledger.Storage;

namespace Foundry.Ledger.Tests.Read;

/// <summary>The search over sorted lists, on lists in memory.</summary>
public sealed class ASearch
{
    private static readonly KeyValuePair<string, string>[] _fields = [new("a", "1"), new("b", "2"), new("c", "3")];

    /// <summary>Whatever the lists: page by page, what is in all of them (or may have any field), once and in order.</summary>
    [Fact]
    public void Finds_what_is_in_every_list()
    {
        var list = Gen.Long[1, 3000].HashSet[0, 2000];
        Gen.Select(list, list, list, Gen.Long[1, 3000].HashSet[0, 5], Gen.Long[1, 3000]).Sample((a, b, c, many, end) =>
        {
            HashSet<long>[] lists = [a, b, c];
            var index = new FakeIndex(many, lists);
            foreach (var count in new[] { 1, 2, 3 })
            {
                var expected = Enumerable.Range(1, (int)end).Select(i => (long)i).Where(i => lists.Take(count).All(one => one.Contains(i) || many.Contains(i)));
                var search = new EntrySearch(index.Cursors, _fields[..count]);
                var found = new List<long>();
                for (var at = search.Next(0, end); at is { } cursor; at = search.Next(cursor, end))
                    found.Add(cursor);
                Assert.Equal(expected, found);
                Assert.Equal(end, search.LookedTo);
            }
        }, iter: 200);
    }

    [Fact]
    public void Of_two_frequent_fields_that_never_meet_ends_within_its_limit_and_says_where()
    {
        // Runs, so that each look-up leaps over one.
        var odd = Enumerable.Range(0, 4_000_000).Select(i => (long)i).Where(i => i / 400 % 2 == 1);
        var even = Enumerable.Range(0, 4_000_000).Select(i => (long)i).Where(i => i / 400 % 2 == 0);
        var index = new FakeIndex([], [[.. odd], [.. even]]);
        var since = 0L;
        var pages = 0;
        for (; since < 3_999_999; pages++)
        {
            var before = index.RowsAsked;
            var search = new EntrySearch(index.Cursors, _fields[..2]);
            Assert.Null(search.Next(since, 3_999_999));
            Assert.InRange(index.RowsAsked - before, 1, EntrySearch.RowsMax + 4 * 1024);
            Assert.InRange(search.LookedTo, since + 1, 3_999_999);
            since = search.LookedTo;
        }
        Assert.InRange(pages, 2, 100);
    }

    [Fact]
    public void Of_a_rare_field_and_a_frequent_one_costs_what_the_rare_one_does()
    {
        var index = new FakeIndex([], [[.. Enumerable.Range(1, 1_000_000)], [500_000, 900_000]]);
        var search = new EntrySearch(index.Cursors, _fields[..2]);
        Assert.Equal(500_000, search.Next(0, 1_000_000));
        Assert.Equal(900_000, search.Next(500_000, 1_000_000));
        Assert.Null(search.Next(900_000, 1_000_000));
        Assert.InRange(index.LookUps, 1, 12);
    }

    private sealed class FakeIndex
    {
        private readonly Dictionary<long, long[]> _lists;

        public FakeIndex(HashSet<long> many, HashSet<long>[] lists)
        {
            _lists = lists.Select((list, i) => (EntryTerms.OfField(_fields[i]), list.Order().ToArray())).ToDictionary();
            _lists[EntryTerms.ManyFields] = [.. many.Order()];
        }

        public int LookUps { get; private set; }

        public int RowsAsked { get; private set; }

        public List<long> Cursors(long term, long from, int limit)
        {
            LookUps++;
            RowsAsked += limit;
            var list = _lists[term];
            var at = Array.BinarySearch(list, from);
            return [.. list.Skip(at < 0 ? ~at : at).Take(limit)];
        }
    }
}
