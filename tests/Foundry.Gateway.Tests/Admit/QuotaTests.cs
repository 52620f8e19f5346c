using CsCheck;
using Foundry.Contracts;
using Foundry.Gateway.Admit;

namespace Foundry.Gateway.Tests.Admit;

/// <summary>The held numbers' transitions (CONTRACT section 5; HAZARDS B6), on each engine.</summary>
public sealed class Quota(EngineSet engines) : IClassFixture<EngineSet>
{
    private static readonly DateTimeOffset Deadline = DateTimeOffset.UnixEpoch + TimeSpan.FromDays(30_000);

    [Theory, MemberData(nameof(Engines.All), MemberType = typeof(Engines))]
    public async Task Of_ten_admits_ten_of_two_hundred_at_once(string kind)
    {
        var engine = engines.Of(kind);
        await using var first = await RunningStore.UpAsync(engine.ConnectionString);
        await using var second = await RunningStore.UpAsync(engine.ConnectionString);
        await using var third = await RunningStore.UpAsync(engine.ConnectionString);
        RunningStore[] stores = [first, second, third];
        var tenant = Tenants.New(maxVms: 10);
        await BeginAsync(first, tenant);

        var answers = await Task.WhenAll(Enumerable.Range(0, 200).Select(i => stores[i % 3].Quotas.ReserveAsync(tenant, $"r{i}", 1024, 8, Deadline)));

        Assert.Equal(10, answers.Count(answer => answer.Epoch is 1));
        Assert.Equal(190, answers.Count(answer => answer.Shortage == new QuotaShortage("max_vms", 10, 10, 1)));
        Assert.Equal((10, 10_240, 80), await TotalsAsync(first, tenant));
    }

    [Theory, MemberData(nameof(Engines.All), MemberType = typeof(Engines))]
    public async Task Takes_all_three_or_nothing(string kind)
    {
        await using var store = await RunningStore.UpAsync(engines.Of(kind).ConnectionString);
        foreach (var (tenant, ram, disk, shortage) in ((Tenant, long, long, QuotaShortage)[])
        [
            (Tenants.New(maxVms: 1, maxRamMb: 10_000, storageGb: 100), 1, 1, new("max_vms", 1, 1, 1)),
            (Tenants.New(maxVms: 9, maxRamMb: 1500, storageGb: 100), 501, 1, new("max_ram_mb", 1500, 1000, 501)),
            (Tenants.New(maxVms: 9, maxRamMb: 1500, storageGb: 17), 500, 10, new("storage_quota_gb", 17, 8, 10)),
            (Tenants.New(maxVms: 9, maxRamMb: null, storageGb: 17), 1L << 40, 10, new("storage_quota_gb", 17, 8, 10)),
        ])
        {
            await BeginAsync(store, tenant);
            Assert.Equal(1, (await store.Quotas.ReserveAsync(tenant, "first", 1000, 8, Deadline)).Epoch);

            var answer = await store.Quotas.ReserveAsync(tenant, "second", ram, disk, Deadline);

            Assert.Equal(new ReserveAnswer(null, shortage, false), answer);
            Assert.Equal((1, 1000, 8), await TotalsAsync(store, tenant));
        }
    }

    [Theory, MemberData(nameof(Engines.All), MemberType = typeof(Engines))]
    public async Task Admits_to_the_last_unit(string kind)
    {
        await using var store = await RunningStore.UpAsync(engines.Of(kind).ConnectionString);
        var tenant = Tenants.New(maxVms: 2, maxRamMb: 2000, storageGb: 20);
        await BeginAsync(store, tenant);

        Assert.NotNull((await store.Quotas.ReserveAsync(tenant, "a", 1999, 19, Deadline)).Epoch);
        Assert.NotNull((await store.Quotas.ReserveAsync(tenant, "b", 1, 1, Deadline)).Epoch);

        Assert.NotNull((await store.Quotas.ReserveAsync(tenant, "c", 1, 1, Deadline)).Shortage);
        Assert.NotNull((await store.Quotas.ReserveAsync(tenant with { MaxVms = 0 }, "c", 0, 0, Deadline)).Shortage);
    }

    [Theory, MemberData(nameof(Engines.All), MemberType = typeof(Engines))]
    public async Task Sums_huge_numbers_exactly(string kind)
    {
        await using var store = await RunningStore.UpAsync(engines.Of(kind).ConnectionString);
        var tenant = Tenants.New(maxVms: 100_000, storageGb: int.MaxValue);
        await BeginAsync(store, tenant);
        const long huge = (1L << 40) + 1;

        for (var i = 0; i < 33; i++)
            Assert.NotNull((await store.Quotas.ReserveAsync(tenant, $"r{i}", huge, 3, Deadline)).Epoch);
        Assert.Equal((33, 33 * huge, 99), await TotalsAsync(store, tenant));
        for (var i = 0; i < 33; i++)
            await store.Quotas.CommitAsync(tenant.TenantId, $"r{i}", $"v{i}", huge - 1, 3);
        Assert.Equal((33, 33 * (huge - 1), 99), await TotalsAsync(store, tenant));
    }

    [Theory, MemberData(nameof(Engines.All), MemberType = typeof(Engines))]
    public async Task Of_one_tenant_is_not_that_of_another_with_nearly_its_name(string kind)
    {
        await using var store = await RunningStore.UpAsync(engines.Of(kind).ConnectionString);
        var name = Tenants.New().TenantId;
        Tenant[] tenants = [.. ((string[])[name, name + "x", name + "-x", name + "-quota", name[..^1], "x" + name]).Select(id => Tenants.New(maxVms: 1) with { TenantId = id })];
        foreach (var tenant in tenants)
            await BeginAsync(store, tenant);

        foreach (var tenant in tenants)
            Assert.NotNull((await store.Quotas.ReserveAsync(tenant, "r", 1, 1, Deadline)).Epoch);
        foreach (var tenant in tenants)
            Assert.Equal((1, 1, 1), await TotalsAsync(store, tenant));
    }

    [Theory, MemberData(nameof(Engines.All), MemberType = typeof(Engines))]
    public async Task That_is_missing_or_of_another_run_is_not_zero(string kind)
    {
        var engine = engines.Of(kind);
        await using var store = await RunningStore.UpAsync(engine.ConnectionString);
        var tenant = Tenants.New();

        Assert.True((await store.Quotas.ReserveAsync(tenant, "r", 1, 1, Deadline)).NeedsRebuild);
        Assert.Null(await store.Quotas.ReadAsync(tenant.TenantId));

        await BeginAsync(store, tenant);
        Assert.NotNull((await store.Quotas.ReserveAsync(tenant, "r", 1, 1, Deadline)).Epoch);
        await engine.Data.HashSetAsync(Tenants.KeyOf(tenant, "quota"), "run", "another");
        Assert.True((await store.Quotas.ReserveAsync(tenant, "s", 1, 1, Deadline)).NeedsRebuild);
        Assert.Null(await store.Quotas.ReadAsync(tenant.TenantId));
        Assert.Equal(CountersState.Missing, await store.Quotas.StateAsync(tenant.TenantId, store.Store.RunId!));
    }

    [Theory, MemberData(nameof(Engines.All), MemberType = typeof(Engines))]
    public async Task With_a_total_missing_is_not_zero(string kind)
    {
        var engine = engines.Of(kind);
        await using var store = await RunningStore.UpAsync(engine.ConnectionString);
        foreach (var total in (string[])["vms", "ram", "disk"])
        {
            var tenant = Tenants.New();
            await BeginAsync(store, tenant);
            await engine.Data.HashDeleteAsync(Tenants.KeyOf(tenant, "quota"), total);

            Assert.True((await store.Quotas.ReserveAsync(tenant, "r", 1, 1, Deadline)).NeedsRebuild);
            Assert.Null(await store.Quotas.ReadAsync(tenant.TenantId));
        }
    }

    [Theory, MemberData(nameof(Engines.All), MemberType = typeof(Engines))]
    public async Task Of_a_missing_hash_is_not_brought_back_by_any_transition(string kind)
    {
        var engine = engines.Of(kind);
        await using var store = await RunningStore.UpAsync(engine.ConnectionString);
        var tenant = Tenants.New();
        foreach (var step in Steps(tenant, new Held(1, 5, 0, 0, 0, [], new Dictionary<string, long>())))
        {
            await step.Take(store.Quotas);
            Assert.False(await engine.Data.KeyExistsAsync(Tenants.KeyOf(tenant, "quota")), step.Name);
        }
    }

    /// <summary>Every history of transitions, and then its last one again: nothing changes but the version.</summary>
    [Theory, MemberData(nameof(Engines.All), MemberType = typeof(Engines))]
    public async Task Is_not_changed_by_a_transition_that_is_repeated(string kind)
    {
        await using var store = await RunningStore.UpAsync(engines.Of(kind).ConnectionString);
        foreach (var prefix in (int[][])[[], [0], [0, 1], [0, 2], [0, 3], [0, 1, 4], [0, 3, 1], [5], [5, 6], [5, 4], [0, 5, 1], [0, 1, 4, 5]])
            for (var repeated = 0; repeated < 8; repeated++)
            {
                var tenant = Tenants.New();
                await BeginAsync(store, tenant);
                var before = (await store.Quotas.ReadAsync(tenant.TenantId))! with { Version = 1000 };
                var steps = Steps(tenant, before).Prepend(new("reserve", quotas => quotas.ReserveAsync(tenant, "r", 5, 2, Deadline))).ToArray();
                foreach (var step in prefix)
                    await steps[step].Take(store.Quotas);

                await steps[repeated].Take(store.Quotas);
                var once = await store.Quotas.ReadAsync(tenant.TenantId);
                await steps[repeated].Take(store.Quotas);
                await steps[repeated].Take(store.Quotas);

                var thrice = await store.Quotas.ReadAsync(tenant.TenantId);
                Assert.Equivalent(once! with { Version = 0 }, thrice! with { Version = 0 }, strict: true);
                Assert.Equal(once.Reservations.Count + once.HeldVms.Count, once.Vms);
            }
    }

    /// <summary>Random histories agree with a model in memory, field by field, on each engine: so the engines agree with each other.</summary>
    [Theory, MemberData(nameof(Engines.All), MemberType = typeof(Engines))]
    public async Task Is_what_the_model_says_after_any_history(string kind)
    {
        await using var store = await RunningStore.UpAsync(engines.Of(kind).ConnectionString);
        var run = store.Store.RunId!;
        var id = Gen.Int[0, 4];
        var step = Gen.Select(Gen.Int[0, 8], id, id, Gen.Frequency((1, Gen.Const(0L)), (4, Gen.Long[0, 1L << 40])), Gen.Frequency((1, Gen.Const(0L)), (4, Gen.Long[0, 500])), Gen.Int[-3, 1]);

        await step.List[1, 40].SampleAsync(async steps =>
        {
            var tenant = Tenants.New(maxVms: 4, maxRamMb: 1 << 30, storageGb: 1200);
            var model = new Model(tenant);
            await BeginAsync(store, tenant);
            foreach (var (what, r, v, ram, disk, back) in steps)
            {
                var (reservation, vm) = ($"r{r}", $"v{v}");
                var size = what == 0 ? Math.Min(ram, 1 << 29) : ram;
                var asked = new Held(model.Epoch + (back == -3 ? -1 : 0), Math.Max(0, model.Version + back * 2), 0, 0, 0, [], new Dictionary<string, long>());
                switch (what)
                {
                    case 0:
                        Assert.Equal(model.Reserve(reservation, size, disk), await store.Quotas.ReserveAsync(tenant, reservation, size, disk, Deadline));
                        break;
                    case 1:
                        model.Commit(reservation, vm, size, disk);
                        await store.Quotas.CommitAsync(tenant.TenantId, reservation, vm, size, disk);
                        break;
                    case 2:
                        model.Release(reservation);
                        await store.Quotas.ReleaseAsync(tenant.TenantId, reservation);
                        break;
                    case 3:
                        model.Unknown(reservation);
                        await store.Quotas.MarkUnknownAsync(tenant.TenantId, reservation);
                        break;
                    case 4:
                        model.Destroy(vm);
                        await store.Quotas.DestroyAsync(tenant.TenantId, vm);
                        break;
                    case 5 or 6:
                        model.Adopt(asked, what == 5 ? reservation : "", vm, size, disk);
                        await store.Quotas.AdoptAsync(tenant.TenantId, asked, Vms.Of(vm, size, disk, what == 5 ? reservation : null));
                        break;
                    case 7:
                        model.Forget(asked, vm);
                        await store.Quotas.ForgetAsync(tenant.TenantId, asked, vm);
                        break;
                    case 8:
                        var list = Enumerable.Range(0, v).Select(i => Vms.Of($"v{i}", size + i, disk)).ToArray();
                        var epoch = model.Epoch + (back == 1 ? 1 : back);
                        model.Rebuild(epoch, list);
                        Assert.True(await store.Quotas.RebuildAsync(tenant.TenantId, run, new HeldVms(1, epoch, 0, list)));
                        break;
                }
                model.Check((await store.Quotas.ReadAsync(tenant.TenantId))!);
            }
        }, iter: 80, threads: 1);
    }

    [Theory, MemberData(nameof(Engines.All), MemberType = typeof(Engines))]
    public async Task Is_rebuilt_from_ten_thousand_VMs(string kind)
    {
        await using var store = await RunningStore.UpAsync(engines.Of(kind).ConnectionString);
        var tenant = Tenants.New(maxVms: 10_001);
        var vms = Enumerable.Range(0, 10_000).Select(i => Vms.Of(Guid.NewGuid().ToString(), i, i % 7)).ToArray();

        Assert.True(await store.Quotas.RebuildAsync(tenant.TenantId, store.Store.RunId!, new HeldVms(1, 1, 0, vms)));

        var held = (await store.Quotas.ReadAsync(tenant.TenantId))!;
        Assert.Equal((10_000, vms.Sum(vm => vm.RamAllocMb), vms.Sum(vm => vm.DiskGb!.Value)), (held.Vms, held.RamMb, held.DiskGb));
        Assert.Equal(vms.Select(vm => vm.VmId).Order(), held.HeldVms.Keys.Order());
        Assert.NotNull((await store.Quotas.ReserveAsync(tenant, "r", 1, 1, Deadline)).Epoch);
        Assert.NotNull((await store.Quotas.ReserveAsync(tenant, "s", 1, 1, Deadline)).Shortage);
    }

    [Theory, MemberData(nameof(Engines.All), MemberType = typeof(Engines))]
    public async Task That_is_being_rebuilt_admits_nothing_before_its_last_part(string kind)
    {
        await using var store = await RunningStore.UpAsync(engines.Of(kind).ConnectionString);
        var tenant = Tenants.New(maxVms: 100_000);
        var vms = Enumerable.Range(0, 20_000).Select(i => Vms.Of($"v{i}", 1, 1)).ToArray();

        var rebuilt = store.Quotas.RebuildAsync(tenant.TenantId, store.Store.RunId!, new HeldVms(1, 1, 0, vms));
        var attempts = 0;
        while ((await store.Quotas.ReserveAsync(tenant, "r", 1, 1, Deadline)).NeedsRebuild)
            attempts++;

        // The first that was admitted saw all of them.
        Assert.True(await rebuilt);
        Assert.Equal((20_001, 20_001, 20_001), await TotalsAsync(store, tenant));
        Assert.True(attempts > 0, "no attempt fell into the rebuild");
    }

    /// <summary>Two gateways that rebuild at once used to be able to leave the older epoch, or a mixture.</summary>
    [Theory, MemberData(nameof(Engines.All), MemberType = typeof(Engines))]
    public async Task That_two_gateways_rebuild_at_once_is_the_newer_ones(string kind)
    {
        var engine = engines.Of(kind);
        await using var first = await RunningStore.UpAsync(engine.ConnectionString);
        await using var second = await RunningStore.UpAsync(engine.ConnectionString);
        var run = first.Store.RunId!;
        for (var round = 0; round < 10; round++)
        {
            var tenant = Tenants.New();
            HeldVms Of(long epoch) => new(1, epoch, 0, [.. Enumerable.Range(0, 2500).Select(i => Vms.Of($"e{epoch}-{i}", epoch, 1))]);
            var newer = second.Quotas.RebuildAsync(tenant.TenantId, run, Of(2));
            var older = first.Quotas.RebuildAsync(tenant.TenantId, run, Of(1));

            await older;
            Assert.True(await newer);
            var held = (await first.Quotas.ReadAsync(tenant.TenantId))!;
            Assert.Equal((2, 2500, 5000, 2500), (held.Epoch, held.Vms, held.RamMb, held.DiskGb));
            Assert.All(held.HeldVms.Keys, vm => Assert.StartsWith("e2-", vm));
            Assert.True(await first.Quotas.RebuildAsync(tenant.TenantId, run, Of(1)));
            Assert.Equal(2, (await first.Quotas.ReadAsync(tenant.TenantId))!.Epoch);
        }
    }

    /// <summary>A rebuild that was begun in an earlier life of the store and arrives late used to replace the newer one.</summary>
    [Theory, MemberData(nameof(Engines.All), MemberType = typeof(Engines))]
    public async Task Is_not_replaced_by_a_late_rebuild_for_an_earlier_run(string kind)
    {
        await using var store = await RunningStore.UpAsync(engines.Of(kind).ConnectionString);
        var tenant = Tenants.New();
        Assert.True(await store.Quotas.RebuildAsync(tenant.TenantId, store.Store.RunId!, new HeldVms(1, 6, 0, [Vms.Of("v", 1, 1)])));

        Assert.False(await store.Quotas.RebuildAsync(tenant.TenantId, "earlier", new HeldVms(1, 5, 0, [])));

        Assert.Equal((1, 1, 1), await TotalsAsync(store, tenant));
    }

    [Theory, MemberData(nameof(Engines.All), MemberType = typeof(Engines))]
    public async Task Whose_rebuild_was_broken_off_is_rebuilt_by_the_next(string kind)
    {
        var engine = engines.Of(kind);
        await using var store = await RunningStore.UpAsync(engine.ConnectionString);
        var run = store.Store.RunId!;
        var tenant = Tenants.New();
        var key = Tenants.KeyOf(tenant, "quota");
        var now = await engine.TimeAsync() / 1_000_000;
        await engine.Data.HashSetAsync(key, [new("building", 3), new("building_at", now), new("run", run), new("ver", 1), new("vms", 1), new("ram", 9), new("disk", 9), new("v:x", "9 9 1")]);

        Assert.Equal(CountersState.Building, await store.Quotas.StateAsync(tenant.TenantId, run));
        Assert.Equal(CountersState.Missing, await store.Quotas.StateAsync(tenant.TenantId, "another"));
        Assert.True((await store.Quotas.ReserveAsync(tenant, "r", 1, 1, Deadline)).NeedsRebuild);
        await engine.Data.HashSetAsync(key, "building_at", now - 60);
        Assert.Equal(CountersState.Missing, await store.Quotas.StateAsync(tenant.TenantId, run));

        Assert.True(await store.Quotas.RebuildAsync(tenant.TenantId, run, new HeldVms(1, 4, 0, [Vms.Of("v", 1, 2)])));
        Assert.Equal((1, 1, 2), await TotalsAsync(store, tenant));
        Assert.Equal(CountersState.InForce, await store.Quotas.StateAsync(tenant.TenantId, run));
    }

    [Theory, MemberData(nameof(Engines.All), MemberType = typeof(Engines))]
    public async Task Counts_a_VM_that_the_list_names_twice_once(string kind)
    {
        await using var store = await RunningStore.UpAsync(engines.Of(kind).ConnectionString);
        var tenant = Tenants.New();

        await store.Quotas.RebuildAsync(tenant.TenantId, store.Store.RunId!, new HeldVms(1, 1, 0, [Vms.Of("v", 1, 2), Vms.Of("v", 1, 2)]));

        Assert.Equal((1, 1, 2), await TotalsAsync(store, tenant));
    }

    /// <summary>Giving back nothing of a size used to end the script half-way on Redis, with the count wrong from then on.</summary>
    [Theory, MemberData(nameof(Engines.All), MemberType = typeof(Engines))]
    public async Task Gives_back_a_VM_that_has_no_disk_or_no_memory(string kind)
    {
        await using var store = await RunningStore.UpAsync(engines.Of(kind).ConnectionString);
        foreach (var (ram, disk) in ((long, long)[])[(0, 0), (0, 7), (7, 0)])
        {
            var tenant = Tenants.New();
            await BeginAsync(store, tenant);
            await store.Quotas.ReserveAsync(tenant, "released", ram, disk, Deadline);
            await store.Quotas.ReleaseAsync(tenant.TenantId, "released");
            await store.Quotas.ReserveAsync(tenant, "r", ram, disk, Deadline);
            await store.Quotas.CommitAsync(tenant.TenantId, "r", "v", ram, disk);
            await store.Quotas.DestroyAsync(tenant.TenantId, "v");

            Assert.Equal((0, 0, 0), await TotalsAsync(store, tenant));
        }
    }

    [Theory, MemberData(nameof(Engines.All), MemberType = typeof(Engines))]
    public async Task Outlives_a_store_that_forgot_its_scripts(string kind)
    {
        var engine = engines.Of(kind);
        await using var store = await RunningStore.UpAsync(engine.ConnectionString);
        var tenant = Tenants.New();
        await BeginAsync(store, tenant);
        Assert.NotNull((await store.Quotas.ReserveAsync(tenant, "r", 1, 1, Deadline)).Epoch);

        await engine.Data.ExecuteAsync("SCRIPT", "FLUSH");

        Assert.NotNull((await store.Quotas.ReserveAsync(tenant, "s", 1, 1, Deadline)).Epoch);
    }

    private static Task<bool> BeginAsync(RunningStore store, Tenant tenant) => store.Quotas.RebuildAsync(tenant.TenantId, store.Store.RunId!, new HeldVms(1, 1, 0, []));

    private static async Task<(long, long, long)> TotalsAsync(RunningStore store, Tenant tenant)
    {
        var held = (await store.Quotas.ReadAsync(tenant.TenantId))!;
        return (held.Vms, held.RamMb, held.DiskGb);
    }

    private sealed record Step(string Name, Func<Quotas, Task> Take);

    /// <summary>Every transition that settles something.</summary>
    private static Step[] Steps(Tenant tenant, Held before) =>
    [
        new("commit", quotas => quotas.CommitAsync(tenant.TenantId, "r", "v", 6, 3)),
        new("release", quotas => quotas.ReleaseAsync(tenant.TenantId, "r")),
        new("unknown", quotas => quotas.MarkUnknownAsync(tenant.TenantId, "r")),
        new("destroy", quotas => quotas.DestroyAsync(tenant.TenantId, "v")),
        new("adopt", quotas => quotas.AdoptAsync(tenant.TenantId, before, Vms.Of("v", 6, 3, "r"))),
        new("forget", quotas => quotas.ForgetAsync(tenant.TenantId, before, "v")),
        new("forget another", quotas => quotas.ForgetAsync(tenant.TenantId, before, "w")),
    ];

    /// <summary>The same rules, in memory.</summary>
    private sealed class Model(Tenant tenant)
    {
        private readonly SortedDictionary<string, (long Ram, long Disk, string State)> _reservations = new(StringComparer.Ordinal);
        private readonly SortedDictionary<string, (long Ram, long Disk, long Version)> _vms = new(StringComparer.Ordinal);
        private long _gone;

        public long Epoch { get; private set; } = 1;

        public long Version { get; private set; } = 1;

        private long Count => _reservations.Count + _vms.Count;
        private long Ram => _reservations.Values.Sum(one => one.Ram) + _vms.Values.Sum(one => one.Ram);
        private long Disk => _reservations.Values.Sum(one => one.Disk) + _vms.Values.Sum(one => one.Disk);

        public ReserveAnswer Reserve(string id, long ram, long disk)
        {
            if (_reservations.ContainsKey(id))
                return new(Epoch, null, false);
            var shortage = Count + 1 > tenant.MaxVms ? new QuotaShortage("max_vms", tenant.MaxVms, Count, 1)
                : Ram + ram > tenant.MaxRamMb ? new QuotaShortage("max_ram_mb", tenant.MaxRamMb.Value, Ram, ram)
                : Disk + disk > tenant.StorageQuotaGb ? new QuotaShortage("storage_quota_gb", tenant.StorageQuotaGb, Disk, disk) : null;
            if (shortage is not null)
                return new(null, shortage, false);
            _reservations[id] = (ram, disk, "reserved");
            Version++;
            return new(Epoch, null, false);
        }

        public void Commit(string id, string vm, long ram, long disk)
        {
            if (!_reservations.Remove(id) && _vms.ContainsKey(vm))
                return;
            Version++;
            _vms.TryAdd(vm, (ram, disk, Version));
        }

        public void Release(string id) => Version += _reservations.Remove(id) ? 1 : 0;

        public void Unknown(string id)
        {
            if (!_reservations.TryGetValue(id, out var held))
                return;
            _reservations[id] = held with { State = "unknown" };
            Version++;
        }

        public void Destroy(string vm)
        {
            _vms.Remove(vm);
            _gone = ++Version;
        }

        public void Adopt(Held before, string id, string vm, long ram, long disk)
        {
            if (before.Epoch != Epoch)
                return;
            if (!_reservations.Remove(id) && (_vms.ContainsKey(vm) || _gone > before.Version))
                return;
            Version++;
            _vms.TryAdd(vm, (ram, disk, Version));
        }

        public void Forget(Held before, string vm)
        {
            if (before.Epoch != Epoch || !_vms.TryGetValue(vm, out var held) || held.Version > before.Version)
                return;
            _vms.Remove(vm);
            Version++;
        }

        public void Rebuild(long epoch, VmRecord[] list)
        {
            if (epoch <= Epoch)
                return;
            _reservations.Clear();
            _vms.Clear();
            (Epoch, Version, _gone) = (epoch, 1, 0);
            foreach (var vm in list)
                _vms[vm.VmId] = (vm.RamAllocMb, vm.DiskGb!.Value, 1);
        }

        public void Check(Held held)
        {
            Assert.Equal((Epoch, Version, Count, Ram, Disk), (held.Epoch, held.Version, held.Vms, held.RamMb, held.DiskGb));
            Assert.Equal(_reservations.Select(one => (one.Key, one.Value.Ram, one.Value.Disk, one.Value.State)),
                held.Reservations.OrderBy(one => one.Id, StringComparer.Ordinal).Select(one => (one.Id, one.RamMb, one.DiskGb, one.State)));
            Assert.Equal(_vms.Select(one => (one.Key, one.Value.Version)), held.HeldVms.OrderBy(one => one.Key, StringComparer.Ordinal).Select(one => (one.Key, one.Value)));
        }
    }
}

/// <summary>VMs as a fleet lists them.</summary>
internal static class Vms
{
    public static VmRecord Of(string id, long ramMb, long? diskGb, string? reservation = null) =>
        new() { VmId = id, VmType = "ubuntu", State = "Running", RamAllocMb = ramMb, VcpuCount = 1, DiskGb = diskGb, ReservationId = reservation };
}
