using System.Buffers;
using System.Text.Json;
using Foundry.Contracts;
using Foundry.Gateway.Authenticate;
using Microsoft.Net.Http.Headers;

namespace Foundry.Gateway.Authorize;

/// <summary>
/// Which tenant does the request speak for? Another one named in query or body is refused, whether or not it exists; absent, the
/// caller's is put in; a platform token names the one it acts for (CONTRACT sections 3 and 4).
/// </summary>
internal static class TenantClaims
{
    private const string Tenant = "tenant_id";
    private const string Module = "module_id";
    private const int QueryParametersMax = 100;
    private static readonly JsonDocumentOptions Strict = new() { AllowDuplicateProperties = false, MaxDepth = 64 };

    /// <summary>Decides the tenant from the query, and rewrites the query to say it.</summary>
    /// <param name="exchange">The request.</param>
    /// <returns>Why not, or null.</returns>
    public static Refusal? ReadQuery(Exchange exchange)
    {
        var caller = exchange.Caller;
        var kept = new List<string>();
        string? tenant = null, module = null;
        if (exchange.RawQuery.Length > 0)
        {
            var parameters = exchange.RawQuery.Split('&');
            if (parameters.Length > QueryParametersMax)
                return new Refusal(ErrorCode.InvalidQuery, $"A query has at most {QueryParametersMax} parameters.");
            foreach (var parameter in parameters)
            {
                var split = parameter.IndexOf('=', StringComparison.Ordinal);
                var name = Uri.UnescapeDataString((split < 0 ? parameter : parameter[..split]).Replace('+', ' '));
                var value = split < 0 ? "" : Uri.UnescapeDataString(parameter[(split + 1)..].Replace('+', ' '));
                switch (name)
                {
                    case Tenant when tenant is null: tenant = value; break;
                    case Module when module is null: module = value; break;
                    default:
                        // tenant_id twice, Tenant_Id, tenant-id, tenant_id[]: readers differ in what they make of those.
                        if (Resembles(name, Tenant) || Resembles(name, Module))
                            return new Refusal(ErrorCode.InvalidQuery, $"'{Tenant}' and '{Module}' are given once, in this spelling.");
                        kept.Add(parameter);
                        break;
                }
            }
        }
        if (caller.TenantId is { } own && ((tenant is not null && tenant != own) || (module is not null && module != own)))
            return Mismatch;
        if (tenant is not null && !IsTenantId(tenant))
            return new Refusal(ErrorCode.InvalidQuery, $"'{Tenant}' is not a tenant ID.");
        exchange.TenantId = caller.TenantId ?? (caller.IsPlatform ? tenant : null);
        exchange.ModuleId = caller.TenantId ?? (caller.IsPlatform ? module ?? tenant ?? Logs.Platform : null);

        var pushesDown = exchange.Route!.ClusterId != Clusters.Ledger && !exchange.Route.Scope.AllowsAnonymous && exchange.IsSafe;
        if (tenant is not null || (pushesDown && exchange.TenantId is not null))
            kept.Add($"{Tenant}={Uri.EscapeDataString(exchange.TenantId ?? tenant!)}");
        if (module is not null && exchange.Route.ClusterId != Clusters.Ledger)
            kept.Add($"{Module}={Uri.EscapeDataString(module)}");
        exchange.RawQuery = string.Join('&', kept);
        return null;
    }

    /// <summary>Holds the body's own claims against the caller, and rewrites the body to name the tenant.</summary>
    /// <param name="exchange">The request, its body read.</param>
    /// <returns>Why not, or null.</returns>
    public static Refusal? ReadBody(Exchange exchange)
    {
        if (exchange.Body is not { Length: > 0 } body || exchange.Route!.OpaqueBody)
            return null;
        if (!MediaTypeHeaderValue.TryParse(exchange.Context.Request.ContentType, out var type) || type.MediaType != "application/json"
            || (type.Charset.HasValue && !type.Charset.Equals("utf-8", StringComparison.OrdinalIgnoreCase)))
            return new Refusal(ErrorCode.UnsupportedMediaType, "Send the body as application/json in UTF-8.");
        if (!System.Text.Unicode.Utf8.IsValid(body))
            return new Refusal(ErrorCode.InvalidBody, "The body is not UTF-8.");
        try
        {
            using var document = JsonDocument.Parse(body, Strict);
            var root = document.RootElement;
            if (root.ValueKind != JsonValueKind.Object)
                return new Refusal(ErrorCode.InvalidBody, "The body is a JSON object.");
            if (FindFault(root, exchange.Caller) is { } fault)
                return fault;
            if (exchange.Caller.IsPlatform && root.TryGetProperty(Tenant, out var named) && named.ValueKind == JsonValueKind.String)
            {
                if (exchange.TenantId is { } asked && asked != named.GetString())
                    return new Refusal(ErrorCode.InvalidBody, "Query and body name different tenants.");
                exchange.TenantId = named.GetString();
                return null;
            }
            if (exchange.TenantId is { } tenant && (!root.TryGetProperty(Tenant, out var own) || own.ValueKind == JsonValueKind.Null))
                exchange.Body = WithTenant(root, tenant);
            return null;
        }
        catch (JsonException fault)
        {
            return new Refusal(ErrorCode.InvalidBody, $"The body is not valid JSON, or has a member twice (line {(fault.LineNumber ?? 0) + 1}).");
        }
        catch (InvalidOperationException)
        {
            return new Refusal(ErrorCode.InvalidBody, "The body has a name or tenant that is half a surrogate pair, which is no text.");
        }
    }

    /// <summary>Whether a text is a tenant ID (CONTRACT section 3).</summary>
    /// <param name="text">The text.</param>
    public static bool IsTenantId(string text) =>
        text.Length is >= 3 and <= 63 && char.IsAsciiLetterLower(text[0]) && text[^1] != '-' && text.All(c => char.IsAsciiLetterLower(c) || char.IsAsciiDigit(c) || c == '-');

    /// <summary>Looks at every object in the body: no member in two spellings, no other tenant anywhere.</summary>
    private static Refusal? FindFault(JsonElement element, Caller caller)
    {
        if (element.ValueKind == JsonValueKind.Array)
        {
            foreach (var item in element.EnumerateArray())
                if (FindFault(item, caller) is { } fault)
                    return fault;
            return null;
        }
        if (element.ValueKind != JsonValueKind.Object)
            return null;
        HashSet<string>? names = null;
        foreach (var member in element.EnumerateObject())
        {
            if (!(names ??= new(StringComparer.OrdinalIgnoreCase)).Add(member.Name))
                return new Refusal(ErrorCode.InvalidBody, "The body has a member in two spellings.");
            if (member.Name == Tenant)
            {
                if (member.Value.ValueKind is not (JsonValueKind.String or JsonValueKind.Null))
                    return new Refusal(ErrorCode.InvalidBody, $"'{Tenant}' is a string.");
                if (caller.TenantId is { } own && member.Value.GetString() is { } named && named != own)
                    return Mismatch;
            }
            else if (Resembles(member.Name, Tenant))
                return new Refusal(ErrorCode.InvalidBody, $"'{Tenant}' is written in this spelling.");
            if (FindFault(member.Value, caller) is { } fault)
                return fault;
        }
        return null;
    }

    private static byte[] WithTenant(JsonElement root, string tenant)
    {
        var output = new ArrayBufferWriter<byte>();
        using (var writer = new Utf8JsonWriter(output))
        {
            writer.WriteStartObject();
            writer.WriteString(Tenant, tenant);
            foreach (var member in root.EnumerateObject())
            {
                if (member.Name == Tenant)
                    continue;
                writer.WritePropertyName(member.Name);
                // Raw: numbers and timestamps stay the text they came as.
                writer.WriteRawValue(member.Value.GetRawText(), skipInputValidation: true);
            }
            writer.WriteEndObject();
        }
        return output.WrittenSpan.ToArray();
    }

    private static bool Resembles(string name, string known)
    {
        Span<char> folded = stackalloc char[known.Length];
        var length = 0;
        foreach (var c in name)
        {
            if (!char.IsAsciiLetter(c))
                continue;
            if (length == folded.Length)
                return false;
            folded[length++] = char.ToLowerInvariant(c);
        }
        return folded[..length].SequenceEqual(known.Replace("_", "", StringComparison.Ordinal));
    }

    private static readonly Refusal Mismatch = new(ErrorCode.TenantMismatch, "The request names a tenant that the token is not for.");
}
