using System.Text.Json;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;

namespace Foundry.Contracts;

/// <summary>
/// How our records are read and written: snake_case, absent rather than null, and strict where parsers differ:
/// a member twice, in another case or of another type, or a null where none may be, is an error, never a silent choice.
/// </summary>
[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower,
    DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
    AllowDuplicateProperties = false,
    RespectNullableAnnotations = true,
    MaxDepth = 32)]
[JsonSerializable(typeof(Tenant))]
[JsonSerializable(typeof(TenantRequest))]
[JsonSerializable(typeof(TenantPatch))]
[JsonSerializable(typeof(Page<Tenant>))]
[JsonSerializable(typeof(UseStatus))]
[JsonSerializable(typeof(TokenRequest))]
[JsonSerializable(typeof(IssuedToken))]
[JsonSerializable(typeof(TokenMetadata))]
[JsonSerializable(typeof(Page<TokenMetadata>))]
[JsonSerializable(typeof(VerifyRequest))]
[JsonSerializable(typeof(VerifiedToken))]
[JsonSerializable(typeof(RotateRequest))]
[JsonSerializable(typeof(SigningKeyList))]
[JsonSerializable(typeof(PartCodeRequest))]
[JsonSerializable(typeof(PartCode))]
[JsonSerializable(typeof(PartList))]
[JsonSerializable(typeof(VmRecord))]
[JsonSerializable(typeof(IReadOnlyList<VmRecord>))]
[JsonSerializable(typeof(Heartbeat))]
[JsonSerializable(typeof(HeartbeatAnswer))]
[JsonSerializable(typeof(CreateVm))]
[JsonSerializable(typeof(NodeRecord))]
[JsonSerializable(typeof(IReadOnlyList<NodeRecord>))]
[JsonSerializable(typeof(FleetStatus))]
[JsonSerializable(typeof(PlacementAdvice))]
[JsonSerializable(typeof(BeginEpoch))]
[JsonSerializable(typeof(Seal))]
[JsonSerializable(typeof(HeldVms))]
[JsonSerializable(typeof(AppendRequest))]
[JsonSerializable(typeof(Appended))]
[JsonSerializable(typeof(AppendedLines))]
[JsonSerializable(typeof(EntriesPage))]
[JsonSerializable(typeof(LedgerContract))]
[JsonSerializable(typeof(PlatformEvent))]
[JsonSerializable(typeof(FeedMessage))]
[JsonSerializable(typeof(JoinRequest))]
[JsonSerializable(typeof(TrustAnswer))]
[JsonSerializable(typeof(Problem))]
[JsonSerializable(typeof(JsonElement))]
public sealed partial class WireJson : JsonSerializerContext;

/// <summary>Guards the records that pass on members they do not know: one of ours in another case is not such a member.</summary>
internal static class MemberNames
{
    public static void RefuseVariants(Dictionary<string, JsonElement>? others, JsonTypeInfo type)
    {
        if (others is null)
            return;
        foreach (var name in others.Keys)
            foreach (var member in type.Properties)
                if (!member.IsExtensionData && string.Equals(name, member.Name, StringComparison.OrdinalIgnoreCase))
                    throw new JsonException($"'{member.Name}' is spelt in another case.");
    }
}
