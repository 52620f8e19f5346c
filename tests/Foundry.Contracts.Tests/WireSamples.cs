using System.Text;
using System.Text.Json;
using System.Text.Json.Serialization.Metadata;

namespace Foundry.Contracts.Tests;

/// <summary>What another implementation of the fleet and its agents send comes out of our records as it went in.</summary>
public sealed class WireSample
{
    [Fact]
    public void Of_a_list_of_VMs_survives_byte_for_byte() => AssertSurvives("vms.json", WireJson.Default.IReadOnlyListVmRecord);

    [Fact]
    public void Of_a_heartbeat_survives_byte_for_byte() => AssertSurvives("heartbeat.json", WireJson.Default.Heartbeat);

    /// <summary>A request's nulls mean absent, so these are not written; everything else comes back.</summary>
    [Fact]
    public void Of_a_create_survives_but_for_its_nulls() => Assert.Equal(
        """{"vm_type":"VmTotebox","ram_mb":4096,"vcpu_count":2,"prefer_kvm":true}""",
        RoundTrip(Sample("create-vm.json"), WireJson.Default.CreateVm));

    [Fact]
    public void Keeps_nanoseconds_and_writes_the_nulls_that_mean_something()
    {
        var vms = JsonSerializer.Deserialize(Sample("vms.json"), WireJson.Default.IReadOnlyListVmRecord)!;
        Assert.Equal("2026-06-12T09:41:07.123456789Z", vms[0].StartedAt);
        Assert.Contains("\"started_at\":null,\"tenant_id\":null", JsonSerializer.Serialize(vms[2], WireJson.Default.VmRecord), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("2026-06-12T09:41:07Z")]
    [InlineData("2026-06-12T09:41:07.1Z")]
    [InlineData("2026-06-12T09:41:07.100000000Z")]
    [InlineData("2026-06-12T09:41:07.123456789-02:00")]
    [InlineData("2026-06-12T09:41:07.123456789+02:00")]
    [InlineData("2026-06-12t09:41:60.5z")]
    public void Keeps_every_spelling_of_a_time(string time)
    {
        var read = JsonSerializer.Deserialize(Vm($"\"started_at\":\"{time}\""), WireJson.Default.VmRecord)!;
        using var written = JsonDocument.Parse(JsonSerializer.Serialize(read, WireJson.Default.VmRecord));
        Assert.Equal(time, written.RootElement.GetProperty("started_at").GetString());
    }

    /// <summary>Big and long numbers and deep values: what we do not know we do not read, so we cannot spoil it.</summary>
    [Theory]
    [InlineData("\"gpu\":{\"kind\":\"a\",\"n\":[1,2.50,1e2,123456789012345678901234567890]}")]
    [InlineData("\"note\":null")]
    [InlineData("\"x-y\":\"\"")]
    [InlineData("\"snapshot_at\":\"2026-06-12T09:41:07.000000001Z\"")]
    public void Passes_on_members_that_we_do_not_know(string member)
    {
        var read = JsonSerializer.Deserialize(Vm(member), WireJson.Default.VmRecord)!;
        Assert.EndsWith($"{member}}}", JsonSerializer.Serialize(read, WireJson.Default.VmRecord), StringComparison.Ordinal);

        var port = $$"""{"host_port":1,"guest_port":2,"protocol":"tcp",{{member}}}""";
        Assert.Equal(port, RoundTrip(port, WireJson.Default.HostPort));
        var create = $$"""{"vm_type":"v",{{member}}}""";
        Assert.Equal(create, RoundTrip(create, WireJson.Default.CreateVm));
        var beat = Sample("heartbeat.json").TrimEnd()[..^1] + $",{member}}}";
        Assert.Equal(beat, RoundTrip(beat, WireJson.Default.Heartbeat));
    }

    [Theory]
    [InlineData("\"node_id\":\"n\"")]
    [InlineData("\"host_ports\":null")]
    [InlineData("\"host_ports\":[]")]
    public void Without_ports_has_none_rather_than_no_list(string member) =>
        Assert.Empty(JsonSerializer.Deserialize(Vm(member), WireJson.Default.VmRecord)!.HostPorts);

    private static string Vm(string member) => $$"""{"vm_id":"v","vm_type":"t","state":"Running","ram_alloc_mb":1,"vcpu_count":1,{{member}}}""";

    private static void AssertSurvives<T>(string sample, JsonTypeInfo<T> type) => Assert.Equal(Sample(sample).TrimEnd(), RoundTrip(Sample(sample), type));

    private static string RoundTrip<T>(string text, JsonTypeInfo<T> type) => JsonSerializer.Serialize(JsonSerializer.Deserialize(text, type)!, type);

    private static string Sample(string name)
    {
        using var reader = new StreamReader(typeof(WireSample).Assembly.GetManifestResourceStream(name)!, Encoding.UTF8);
        return reader.ReadToEnd();
    }
}
