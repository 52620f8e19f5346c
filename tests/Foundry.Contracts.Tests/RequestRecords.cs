using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization.Metadata;

namespace Foundry.Contracts.Tests;

/// <summary>Where parsers differ, a request is refused: what the gateway decided on must be what the backend reads.</summary>
public sealed class RequestRecord
{
    /// <summary>Every record that is read from a request's body, with a body of it.</summary>
    public static TheoryData<string, string> Bodies { get; } = new()
    {
        { nameof(TenantRequest), """{"tenant_id":"acme-corp","display_name":"Acme","max_vms":1,"storage_quota_gb":1,"api_rate_limit_rpm":1,"max_ram_mb":1,"require_proof":true}""" },
        { nameof(TenantPatch), """{"display_name":"Acme","max_vms":1,"storage_quota_gb":1,"api_rate_limit_rpm":1,"max_ram_mb":1,"require_proof":true,"status":"active"}""" },
        { nameof(TokenRequest), """{"subject_pubkey":"x","scope":"read","expires_in_seconds":60,"tenant_id":"t","user_id":"u","workspace_id":"w","proof":true,"alg":"EdDSA","service":"s","max_overlap_seconds":1}""" },
        { nameof(VerifyRequest), """{"token":"a.b.c"}""" },
        { nameof(JoinRequest), """{"v":1,"kind":"gateway","name":"gateway","x":"x","code":"c"}""" },
        { nameof(BeginEpoch), """{"v":1,"tenant_id":"t"}""" },
        { nameof(Seal), """{"v":1,"tenant_id":"t","seconds":30}""" },
        { nameof(AppendRequest), """{"payload_id":"p","payload":{"event_type":"NOTE"}}""" },
        { nameof(CreateVm), """{"vm_type":"v","ram_mb":1,"vcpu_count":1,"prefer_kvm":true,"preferred_node":"n","disk_gb":1,"tenant_id":"t"}""" },
        { nameof(VmRecord), """{"vm_id":"v","vm_type":"t","state":"Running","ram_alloc_mb":1,"vcpu_count":1,"started_at":"x","tenant_id":"t","host_ports":[],"disk_gb":1,"node_id":"n","reservation_id":"r"}""" },
        { nameof(Heartbeat), """{"node_id":"n","wg_ip":"i","hostname":"h","ram_total_mb":1,"ram_used_mb":1,"cpu_cores":1,"cpu_load_pct":1,"kvm_available":true,"reserved":false,"vms":[],"boot_id":"b","timestamp_utc":"t"}""" },
    };

    private static bool IsRead(string record, string body)
    {
        var type = WireJson.Default.GetTypeInfo(typeof(WireJson).Assembly.GetType($"Foundry.Contracts.{record}", throwOnError: true)!)!;
        try
        {
            return JsonSerializer.Deserialize(body, type) is not null;
        }
        catch (JsonException)
        {
            return false;
        }
    }

    private static JsonTypeInfo TypeOf(string record) => WireJson.Default.GetTypeInfo(typeof(WireJson).Assembly.GetType($"Foundry.Contracts.{record}", throwOnError: true)!)!;

    [Theory]
    [MemberData(nameof(Bodies))]
    public void Is_read_with_each_member_once(string record, string body)
    {
        Assert.True(IsRead(record, body));
        // The table is complete: each member that the record knows is in its body.
        using var document = JsonDocument.Parse(body);
        Assert.Equal(
            TypeOf(record).Properties.Where(member => !member.IsExtensionData).Select(member => member.Name).Order(StringComparer.Ordinal),
            document.RootElement.EnumerateObject().Select(member => member.Name).Order(StringComparer.Ordinal));
    }

    [Theory]
    [MemberData(nameof(Bodies))]
    public void With_any_member_twice_is_refused(string record, string body)
    {
        using var document = JsonDocument.Parse(body);
        foreach (var member in document.RootElement.EnumerateObject())
            Assert.False(IsRead(record, $"{body[..^1]},{member}}}"), member.Name);
        Assert.False(IsRead(record, $"{body[..^1]},\"unknown\":1,\"unknown\":2}}"), "one that is not known");
    }

    [Theory]
    [MemberData(nameof(Bodies))]
    public void With_any_member_in_another_case_as_well_is_refused(string record, string body)
    {
        using var document = JsonDocument.Parse(body);
        foreach (var member in document.RootElement.EnumerateObject())
            foreach (var variant in (string[])[member.Name.ToUpperInvariant(), CultureInfo.InvariantCulture.TextInfo.ToTitleCase(member.Name)])
            {
                Assert.False(IsRead(record, $"{body[..^1]},\"{variant}\":{member.Value.GetRawText()}}}"), variant);
                Assert.False(IsRead(record, $"{{\"{variant}\":{member.Value.GetRawText()},{body[1..]}"), variant);
            }
    }

    [Theory]
    [MemberData(nameof(Bodies))]
    public void With_something_behind_it_or_something_else_instead_is_refused(string record, string body)
    {
        foreach (var bad in (string[])[body + " {}", body + ",", body + "x", "[" + body + "]", "\"\"", "1", "", body[..^1] + ",}", "/**/" + body])
            Assert.False(IsRead(record, bad), bad);
    }

    [Theory]
    [MemberData(nameof(Bodies))]
    public void With_a_member_of_another_type_is_refused(string record, string body)
    {
        using var document = JsonDocument.Parse(body);
        foreach (var member in document.RootElement.EnumerateObject().Where(member => member.Name != "payload"))
        {
            var other = member.Value.ValueKind switch { JsonValueKind.String => "1", JsonValueKind.Array => "{}", _ => $"\"{member.Value}\"" };
            var bad = body.Replace($"\"{member.Name}\":{member.Value.GetRawText()}", $"\"{member.Name}\":{other}", StringComparison.Ordinal);
            Assert.NotEqual(body, bad);
            Assert.False(IsRead(record, bad), member.Name);
        }
    }

    /// <summary>Nulls that mean absent are read; where a value must be, a null is none.</summary>
    [Theory]
    [InlineData(nameof(Heartbeat), "node_id", "wg_ip", "hostname", "vms", "boot_id", "timestamp_utc")]
    [InlineData(nameof(VmRecord), "vm_id", "vm_type", "state")]
    [InlineData(nameof(BeginEpoch), "tenant_id")]
    public void With_a_null_where_none_may_be_is_refused(string record, params string[] members)
    {
        var body = JsonNode.Parse(Bodies.Single(row => row.Data.Item1 == record).Data.Item2)!.AsObject();
        foreach (var member in members)
        {
            var bad = body.DeepClone().AsObject();
            bad[member] = null;
            Assert.False(IsRead(record, bad.ToJsonString()), member);
        }
    }

    /// <summary>A misspelt limit must not become "no limit". Records of the fleet's wire format pass on what they do not know.</summary>
    [Theory]
    [MemberData(nameof(Bodies))]
    public void With_a_member_that_is_not_known_is_refused_unless_it_passes_such_on(string record, string body) =>
        Assert.Equal(record is nameof(CreateVm) or nameof(VmRecord) or nameof(Heartbeat), IsRead(record, $"{body[..^1]},\"max_ram\":1}}"));
}
