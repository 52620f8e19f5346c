using System.Text.Json.Serialization;

namespace Foundry.Tokens;

/// <summary>How claims are written and read: snake_case, a member twice is an error.</summary>
[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower,
    DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
    AllowDuplicateProperties = false,
    RespectNullableAnnotations = true,
    MaxDepth = 16)]
[JsonSerializable(typeof(CapabilityToken))]
[JsonSerializable(typeof(TrustSet))]
[JsonSerializable(typeof(Assertion))]
[JsonSerializable(typeof(DpopClaims))]
internal sealed partial class TokenJson : JsonSerializerContext;
