using System.Diagnostics.Metrics;
using System.Net;
using Foundry.Contracts;
using Foundry.Ledger.Append;
using Foundry.Ledger.Recovery;
using Foundry.Ledger.Storage;
using Foundry.ServiceDefaults;
using Microsoft.Extensions.DependencyInjection;
using As = Foundry.Ledger.Tests.LedgerHost.As;

namespace Foundry.Ledger.Tests.Recovery;

public sealed class AFileLostUnderARunningLedger : IDisposable
{
    private readonly LedgerFolder _ledger = new() { Options = { JournalBytesMax = 1, IndexRowsInMemory = 1 } };

    public void Dispose() => _ledger.Dispose();

    public static TheoryData<string> Names =>
    [
        "journal", "checkpoint", "index.0-800", "index.seen", "tile/0/000", "tile/0/003.p/32", "tile/1/000.p/3", "tile/entries/000", "tile/entries/002", "tile/entries/003.p/32",
    ];

    [Theory, MemberData(nameof(Names))]
    public Task That_was_deleted_ends_appending_to_that_log_and_is_named(string name) => AssertNoticedAsync(name, File.Delete);

    [Theory, MemberData(nameof(Names))]
    public Task That_was_cut_ends_appending_to_that_log_and_is_named(string name) => AssertNoticedAsync(name, file => Cut(file, 0.9));

    [Theory, MemberData(nameof(Names))]
    public Task That_was_emptied_ends_appending_to_that_log_and_is_named(string name) => AssertNoticedAsync(name, file => Cut(file, 0));

    [Theory, MemberData(nameof(Names))]
    public async Task Of_a_log_that_is_closed_is_named_as_well(string name)
    {
        _ledger.Options.OpenLogsMax = 1;
        await FillAsync();
        Assert.Equal(1, (await _ledger.AppendAsync("other", "a", "{}")).Cursor);
        var file = Path.Combine(_ledger.Log("acme").Path, name);
        Cut(file, 0);
        AssertNamed(file);
        await Assert.ThrowsAsync<LogUnavailableException>(() => _ledger.AppendAsync("acme", "b", "{}"));
        Assert.Equal(2, (await _ledger.AppendAsync("other", "b", "{}")).Cursor);
    }

    [Fact]
    public async Task With_the_whole_folder_is_not_taken_for_a_log_that_never_was()
    {
        _ledger.Options.OpenLogsMax = 1;
        await FillAsync();
        await _ledger.AppendAsync("other", "a", "{}");
        Directory.Delete(_ledger.Log("acme").Path, recursive: true);
        // Even before anybody has looked.
        await Assert.ThrowsAsync<LogUnavailableException>(() => _ledger.AppendAsync("acme", "b", "{}"));
        Assert.False(_ledger.Log("acme").Exists);
    }

    [Fact]
    public async Task Is_looked_for_often_enough_to_be_found_within_ten_seconds()
    {
        await FillAsync();
        var readiness = new Readiness(_ledger.Time);
        using var watch = new LogWatch(_ledger.Logs, _ledger.Shelf, _ledger.Time, readiness);
        await watch.StartAsync(TestContext.Current.CancellationToken);
        File.Delete(_ledger.Log("acme").Checkpoint);
        // A look may find the log being written and pass; the next one does not.
        Assert.InRange(LogWatch.Interval * 2, TimeSpan.Zero, TimeSpan.FromSeconds(10));
        using var patience = new CancellationTokenSource(LedgerFolder.Patience);
        while (_ledger.Shelf.FailedCount == 0)
        {
            _ledger.Time.Advance(LogWatch.Interval);
            await Task.Delay(1, patience.Token);
        }
        await watch.StopAsync(TestContext.Current.CancellationToken);
    }

    [Fact]
    public async Task Is_none_that_the_ledger_itself_replaces_opens_or_closes()
    {
        _ledger.Options.OpenLogsMax = 2;
        _ledger.Options.PublishInterval = TimeSpan.FromMilliseconds(1);
        using var ended = new CancellationTokenSource();
        var looking = Task.Run(() =>
        {
            var looks = 0;
            for (; !ended.IsCancellationRequested || looks == 0; looks++)
                Assert.Empty(_ledger.FindLosses());
            return looks;
        }, TestContext.Current.CancellationToken);
        for (var round = 0; round < 30; round++)
        {
            await Task.WhenAll(Enumerable.Range(0, 40).Select(i => _ledger.AppendAsync($"log-{i % 5}", $"{round}-{i}", """{"a":"b"}""")));
            _ledger.Time.Advance(TimeSpan.FromMilliseconds(1));
        }
        await ended.CancelAsync();
        Assert.InRange(await looking, 1, int.MaxValue);
        Assert.Equal(0, _ledger.Shelf.FailedCount);
    }

    private async Task AssertNoticedAsync(string name, Action<string> lose)
    {
        await FillAsync();
        Assert.Empty(_ledger.FindLosses());
        var file = Path.Combine(_ledger.Log("acme").Path, name);
        lose(file);
        AssertNamed(file);
        Assert.Equal(AppendStatus.Failed, (await _ledger.AppendAsync("acme", "b", "{}")).Status);
        Assert.Equal(1, (await _ledger.AppendAsync("other", "a", "{}")).Cursor);
    }

    private void AssertNamed(string file)
    {
        List<(ModuleId Module, StateCorruptException Fault)> losses;
        using var patience = new CancellationTokenSource(LedgerFolder.Patience);
        do
        {
            // A publishing that has the log's turn is not waited for.
            patience.Token.ThrowIfCancellationRequested();
            losses = [.. _ledger.FindLosses()];
        }
        while (losses.Count == 0);
        var (module, fault) = Assert.Single(losses);
        Assert.Equal(("acme", file), (module.Name, fault.File));
        new LogWatch(_ledger.Logs, _ledger.Shelf, _ledger.Time, new Readiness(_ledger.Time)).Look(TestContext.Current.CancellationToken);
    }

    private static void Cut(string file, double part)
    {
        using var opened = new FileStream(file, FileMode.Open, FileAccess.Write, FileShare.ReadWrite);
        opened.SetLength((long)(opened.Length * part));
    }

    private async Task FillAsync()
    {
        await _ledger.AppendManyAsync("acme", 800);
        await _ledger.PublishAsync("acme");
    }
}

public sealed class AnOperator : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("foundry-ledger-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public async Task Sees_that_a_log_takes_no_entries_while_the_others_are_served()
    {
        await using var ledger = await LedgerHost.StartAsync(_folder);
        await ledger.CursorAsync(As.Acme, "acme", "a", "{}");
        await ledger.CursorAsync(As.Rival, "rival", "a", "{}");
        var failed = -1;
        using var listener = new MeterListener();
        var meters = ledger.Services.GetRequiredService<IMeterFactory>();
        listener.InstrumentPublished = (instrument, enabled) =>
        {
            if (instrument.Meter.Scope == meters && instrument.Name == LedgerMetrics.LogsFailed)
                enabled.EnableMeasurementEvents(instrument);
        };
        listener.SetMeasurementEventCallback<int>((_, value, _, _) => failed = value);
        listener.Start();
        listener.RecordObservableInstruments();
        Assert.Equal(0, failed);
        File.Delete(Path.Combine(_folder, "acme", "journal"));
        ledger.Services.GetRequiredService<LogWatch>().Look(TestContext.Current.CancellationToken);

        using var append = await ledger.AppendAsync(As.Acme, "acme", "b", "{}");
        await LedgerHost.AssertRefusedAsync(append, ErrorCode.RecordUnavailable);
        Assert.Equal(2, await ledger.CursorAsync(As.Rival, "rival", "b", "{}"));
        using var ready = await ledger.GetAsync(As.Nobody, "/readyz", null);
        Assert.Equal(HttpStatusCode.OK, ready.StatusCode);
        var need = (await LedgerHost.JsonAsync(ready)).GetProperty("needs").GetProperty(LogWatch.Need);
        Assert.Equal((false, false), (need.GetProperty("met").GetBoolean(), need.GetProperty("required").GetBoolean()));
        listener.RecordObservableInstruments();
        Assert.Equal(1, failed);
        // Other ledgers of this process are in it too: it is the names that are looked at.
        using var metrics = await ledger.GetAsync(As.Nobody, "/metrics", null);
        var text = await metrics.Content.ReadAsStringAsync(TestContext.Current.CancellationToken);
        Assert.Contains("foundry_ledger_logs_failed", text, StringComparison.Ordinal);
        Assert.Contains("foundry_need_met", text, StringComparison.Ordinal);
        Assert.DoesNotContain("acme", text, StringComparison.Ordinal);
    }
}
