using System.Text;
using Foundry.Gateway.Config;
using Foundry.Gateway.Filter;

namespace Foundry.Gateway.Tests.Filter;

/// <summary>Memory is bounded by one element, whatever the list's length.</summary>
public sealed class FilterMemory
{
    [Fact]
    public async Task A_list_of_twenty_megabytes_costs_a_small_part_of_that()
    {
        var element = Encoding.UTF8.GetBytes($$""",{"vm_id":"a","tenant_id":"acme","filling":"{{new string('a', 900)}}"}""");
        const int elements = 22_000;
        using var list = new Repeated(Encoding.UTF8.GetBytes("""[{"tenant_id":"other"}"""), element, elements, "]"u8.ToArray());
        using var filtered = new FilteredStream(list, new ListFilter(new FilterRule(null, "tenant_id", new HashSet<string>(), new HashSet<string>(), null, null), "acme"));
        var buffer = new byte[16 * 1024];
        long read = 0;

        // The source answers at once, so everything runs, and is counted, on this thread.
        var before = GC.GetAllocatedBytesForCurrentThread();
        int count;
        while ((count = await filtered.ReadAsync(buffer, TestContext.Current.CancellationToken)) > 0)
            read += count;
        var allocated = GC.GetAllocatedBytesForCurrentThread() - before;

        Assert.Equal(elements, filtered.Filter.Kept);
        Assert.True(read > 20_000_000);
        // Some 200 bytes an element are garbage at once; a list held in memory would be all of it, and more.
        Assert.True(allocated < read / 3, $"{allocated} bytes were allocated for {read}");
    }

    private sealed class Repeated(byte[] head, byte[] element, int times, byte[] tail) : ReadOnlyStream
    {
        private int _at;

        public override ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
        {
            var piece = _at == 0 ? head : _at <= times ? element : _at == times + 1 ? tail : [];
            _at++;
            piece.CopyTo(buffer);
            return ValueTask.FromResult(piece.Length);
        }
    }
}
