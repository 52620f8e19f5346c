namespace Foundry.Contracts;

/// <summary>The headers that are the gateway's to set (CONTRACT section 4).</summary>
public static class FoundryHeaders
{
    /// <summary>Every header that begins like this, in any spelling, belongs to the gateway.</summary>
    public const string Prefix = "X-Foundry-";
    /// <summary>The caller's tenant.</summary>
    public const string Tenant = "X-Foundry-Tenant";
    /// <summary>The ledger's name for the log it is asked about; the caller's tenant unless a platform token picks one.</summary>
    public const string ModuleId = "X-Foundry-Module-ID";
    /// <summary>The caller's scope, in lower case.</summary>
    public const string Scope = "X-Foundry-Scope";
    /// <summary>The caller's <c>sub</c>.</summary>
    public const string Subject = "X-Foundry-Subject";
    /// <summary>The ID of the token that the caller used.</summary>
    public const string TokenId = "X-Foundry-Token-ID";
    /// <summary>The request's ID: the client's if well formed, else new; also on the answer.</summary>
    public const string RequestId = "X-Foundry-Request-ID";
    /// <summary>The token of the user that a service acts for.</summary>
    public const string OnBehalfOf = "X-Foundry-On-Behalf-Of";
    /// <summary>The signed assertion that backends believe instead of their network (docs/architecture.md).</summary>
    public const string Assertion = "X-Foundry-Assertion";
    /// <summary><c>&lt;id&gt;;epoch=&lt;n&gt;;deadline=&lt;unix ms&gt;</c>: the quota reservation a create spends.</summary>
    public const string Reservation = "X-Foundry-Reservation";
}
