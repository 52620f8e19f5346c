using System.Text;
using CsCheck;
using Foundry.Ledger.Storage;

namespace Foundry.Ledger.Tests.Storage;

public sealed class TheIndex : IDisposable
{
    private readonly string _root = LedgerFolder.NewMemoryFolder();

    public void Dispose() => Directory.Delete(_root, recursive: true);

    /// <summary>What is done to an index between two looks.</summary>
    public enum Step
    {
        Add,
        Settle,
        Reopen,
        LoseAFile,
    }

    [Fact]
    public void Finds_what_a_plain_list_finds_however_it_is_written_merged_reopened_and_lost() =>
        Gen.Select(Gen.Enum<Step>(), Gen.Int[1, 40], Gen.Int[0, 1000]).List[1, 40].Sample(steps =>
        {
            var folder = NewLog();
            var entries = new List<long[]>();
            var index = EntryIndex.Open(new Disk(), folder, rowsSettled: 30);
            try
            {
                foreach (var (step, count, number) in steps)
                {
                    switch (step)
                    {
                        case Step.Add:
                            var added = Enumerable.Range(entries.Count, count).Select(i => TermsOf(i, number)).ToList();
                            entries.AddRange(added);
                            index.Add(added);
                            break;
                        case Step.Settle:
                            index.Settle();
                            Assert.True(index.IsSettled);
                            break;
                        default:
                            index.Dispose();
                            if (step == Step.LoseAFile && FilesOf(folder) is { Length: > 0 } files)
                                File.Delete(files[number % files.Length]);
                            index = EntryIndex.Open(new Disk(), folder, rowsSettled: 30);
                            Assert.InRange(index.Size, 0, entries.Count);
                            if (index.Size < entries.Count)
                                index.Add(entries[(int)index.Size..]);
                            break;
                    }
                    AssertFinds(index, entries, number);
                }
                Assert.Equal(entries.Count, EntryIndex.SizeOf(folder));
                Assert.Empty(EntryIndex.Damaged(folder, TestContext.Current.CancellationToken));
            }
            finally
            {
                index.Dispose();
            }
        }, iter: 200);

    [Fact]
    public void Has_few_files_however_often_it_is_settled()
    {
        var folder = NewLog();
        using var index = EntryIndex.Open(new Disk(), folder, rowsSettled: 1);
        for (var i = 0; i < 2000; i++)
        {
            index.Add([TermsOf(i, i)]);
            index.Settle();
        }
        Assert.InRange(FilesOf(folder).Length, 1, 24);
        Assert.Equal([1234L], index.FindId(TermsOf(1233, 0)[0]));
        Assert.Equal(Enumerable.Range(1, 2000).Select(i => (long)i), index.FindField(Everywhere, 0, 2000));
    }

    [Fact]
    public void Prefers_a_merged_file_to_those_that_a_crash_left_beside_it()
    {
        var folder = NewLog();
        var kept = Directory.CreateDirectory(Path.Combine(_root, "kept")).FullName;
        using (var index = EntryIndex.Open(new Disk(), folder, rowsSettled: 1))
        {
            for (var i = 0; i < 4; i++)
            {
                foreach (var file in FilesOf(folder))
                    File.Copy(file, Path.Combine(kept, Path.GetFileName(file)), overwrite: true);
                index.Add([TermsOf(i, i)]);
                index.Settle();
            }
        }
        var merged = Assert.Single(FilesOf(folder));
        foreach (var file in Directory.EnumerateFiles(kept))
            File.Copy(file, Path.Combine(folder.Path, Path.GetFileName(file)));
        File.WriteAllText(Path.Combine(folder.Path, "index.4-5" + Disk.TemporarySuffix), "never finished");
        using var after = EntryIndex.Open(new Disk(), folder, rowsSettled: 1);
        Assert.Equal(merged, Assert.Single(FilesOf(folder)));
        Assert.Equal(4, after.Size);
        Assert.Empty(Directory.EnumerateFiles(folder.Path, "*" + Disk.TemporarySuffix));
        Assert.Equal([1L, 2, 3, 4], after.FindField(Everywhere, 0, 10));
    }

    [Fact]
    public async Task Is_searched_while_files_are_merged_and_let_go()
    {
        var folder = NewLog();
        using var index = EntryIndex.Open(new Disk(), folder, rowsSettled: 1);
        index.Add([TermsOf(0, 0)]);
        using var ended = new CancellationTokenSource();
        var searching = Task.Run(() =>
        {
            for (var last = 0; !ended.IsCancellationRequested;)
            {
                var found = index.FindField(Everywhere, 0, int.MaxValue);
                Assert.Equal(Enumerable.Range(1, found.Count).Select(i => (long)i), found);
                Assert.InRange(found.Count, last, int.MaxValue);
                last = found.Count;
            }
        }, TestContext.Current.CancellationToken);
        for (var i = 1; i < 500; i++)
        {
            index.Add([TermsOf(i, i)]);
            index.Settle();
            Assert.Equal([i + 1L], index.FindId(TermsOf(i, 0)[0]));
        }
        await ended.CancelAsync();
        await searching;
    }

    [Fact]
    public void Is_the_owners_alone_to_read()
    {
        var folder = NewLog();
        using var index = EntryIndex.Open(new Disk(), folder, rowsSettled: 1);
        index.Add([TermsOf(0, 0)]);
        index.Settle();
        var files = Directory.GetFiles(folder.Path);
        Assert.Equal(2, files.Length);
        Assert.All(files, file => Assert.True(OperatingSystem.IsWindows() || File.GetUnixFileMode(file) == (UnixFileMode.UserRead | UnixFileMode.UserWrite), file));
    }

    private static long Everywhere { get; } = EntryTerms.OfField(new("event_type", "T"));

    private static long[] TermsOf(int entry, int number) =>
        EntryTerms.Of("gateway", $"id-{entry}", Encoding.UTF8.GetBytes($$"""{"event_type":"T","n":"{{number % 5}}","again":"{{number % 3}}","again":"{{number % 3}}","nested":{"n":"1"},"many":[1]}"""));

    private static void AssertFinds(EntryIndex index, List<long[]> entries, int number)
    {
        for (var i = 0; i < entries.Count; i++)
            Assert.Equal([i + 1L], index.FindId(entries[i][0]));
        Assert.Empty(index.FindId(TermsOf(entries.Count, 0)[0]) ?? []);
        foreach (var term in TermsOf(0, number)[1..])
        {
            var expected = Enumerable.Range(1, entries.Count).Where(cursor => entries[cursor - 1].Contains(term)).Select(cursor => (long)cursor).ToList();
            Assert.Equal(expected, index.FindField(term, 0, int.MaxValue));
            var from = entries.Count == 0 ? 0 : number % entries.Count;
            Assert.Equal(expected.Where(cursor => cursor >= from).Take(3), index.FindField(term, from, 3));
        }
    }

    private LogFolder NewLog()
    {
        var folder = new LogFolder(Directory.CreateDirectory(Path.Combine(_root, Guid.NewGuid().ToString("N"))).FullName, LedgerFolder.Module("acme"));
        Directory.CreateDirectory(folder.Path);
        return folder;
    }

    private static string[] FilesOf(LogFolder folder) => [.. Directory.EnumerateFiles(folder.Path, "index.*-*").Where(file => !file.EndsWith(Disk.TemporarySuffix, StringComparison.Ordinal))];
}

public sealed class TheTermsOfAnEntry
{
    public static TheoryData<string, string[]> Payloads => new()
    {
        { """{"a":"b"}""", ["a=b"] },
        { """{"a":"b","c":1,"d":{"e":"f"},"g":["h"],"i":null,"j":"k"}""", ["a=b", "j=k"] },
        { """{"\u0061":"\u0062"}""", ["a=b"] },
        { """{"é":"日本"}""", ["é=日本"] },
        { """{"a":"\ud800","b":"c"}""", ["b=c"] },
        { """{"a":"b","a":"c"}""", ["a=b", "a=c"] },
        { "{}", [] },
        { """["a"]""", [] },
        { "\"a\"", [] },
        { "1", [] },
    };

    [Theory, MemberData(nameof(Payloads))]
    public void Are_its_payload_ID_and_the_strings_at_its_top(string payload, string[] fields) =>
        Assert.Equal(
            [EntryTerms.OfId("gateway", "id"), .. fields.Select(field => EntryTerms.OfField(new(field.Split('=')[0], field.Split('=')[1])))],
            EntryTerms.Of("gateway", "id", Encoding.UTF8.GetBytes(payload)));

    [Fact]
    public void End_with_one_for_all_the_rest_where_there_are_too_many()
    {
        var payload = $"{{{string.Join(',', Enumerable.Range(0, EntryTerms.FieldsMax + 5).Select(i => $"\"f{i}\":\"v\""))}}}";
        var terms = EntryTerms.Of("gateway", "id", Encoding.UTF8.GetBytes(payload));
        Assert.Equal((EntryTerms.FieldsMax + 2, EntryTerms.ManyFields), (terms.Length, terms[^1]));
        Assert.Contains(EntryTerms.OfField(new($"f{EntryTerms.FieldsMax - 1}", "v")), terms);
    }

    /// <summary>PostgreSQL keeps them for good: they must never change.</summary>
    [Fact]
    public void Are_those_they_always_were()
    {
        Assert.Equal(Expected("7:gatewayid"), EntryTerms.OfId("gateway", "id"));
        Assert.Equal(Expected("1:é=ü"), EntryTerms.OfField(new("é", "ü")));
        Assert.Equal(Expected("2:😀=" + new string('x', 5000)), EntryTerms.OfField(new("😀", new string('x', 5000))));

        static long Expected(string text) =>
            System.Buffers.Binary.BinaryPrimitives.ReadInt64BigEndian(System.Security.Cryptography.SHA256.HashData(Encoding.UTF8.GetBytes(text)));
    }
}
